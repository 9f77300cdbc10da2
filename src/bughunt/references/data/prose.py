"""Text in a made-up language: words from stems and endings, some far more frequent than others.

It has what tokenisers stumble over: runs of spaces, line breaks, numbers, punctuation, accents, scripts whose
characters take several bytes, and a mark between documents.
"""

import random
from collections.abc import Sequence

MARK = "<|end|>"
ONSETS = ("b", "br", "d", "f", "gr", "k", "l", "m", "n", "p", "s", "st", "t", "v", "é", "ø")
NUCLEI = ("a", "e", "i", "o", "u", "ai", "ou", "à")
ENDINGS = ("", "", "n", "ras", "mente", "ing", "ö")
FOREIGN = ("日本", "naïve", "Ελλάδα", "🙂", "мир", "x_1", "don't")
STEMS = 240


def texts(count: int, seed: int, *, sentences: int = 8) -> list[str]:
    """`count` documents; every seed speaks the same language."""
    stems, weights = _stems()
    rng = random.Random(seed)
    return [_document(rng, stems, weights, sentences) for _ in range(count)]


def _stems() -> tuple[list[str], list[float]]:
    rng = random.Random(7)
    stems = [
        "".join(rng.choice(ONSETS) + rng.choice(NUCLEI) for _ in range(rng.randint(1, 3)))
        for _ in range(STEMS)
    ]
    return stems, [1 / (rank + 3) for rank in range(STEMS)]


def _stem(rng: random.Random) -> str:
    return "".join(rng.choice(ONSETS) + rng.choice(NUCLEI) for _ in range(rng.randint(1, 3)))


def _document(rng: random.Random, stems: Sequence[str], weights: Sequence[float], sentences: int) -> str:
    lines = [_sentence(rng, stems, weights) for _ in range(sentences)]
    joints = [rng.choice((" ", " ", "  ", "\n", "\n\n    ", f" {MARK}")) for _ in lines[1:]]
    return lines[0] + "".join(joint + line for joint, line in zip(joints, lines[1:], strict=True))


def _sentence(rng: random.Random, stems: Sequence[str], weights: Sequence[float]) -> str:
    length = rng.randint(4, 14)
    words = [stem + rng.choice(ENDINGS) for stem in rng.choices(stems, weights, k=length)]
    if rng.random() < 0.4:
        words.insert(rng.randrange(length), rng.choice(FOREIGN))
    if rng.random() < 0.4:
        words.insert(rng.randrange(length), str(rng.randrange(2500)))
    return " ".join(words).capitalize() + rng.choice((".", ".", "!", "?..", ","))
