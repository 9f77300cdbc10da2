"""Sentences from a small grammar whose entropy is known exactly.

A text is a start token and one sentence, such as

    the big cat sees the old pig and the pig is old .

The closing clause names the subject or the object again, and after it that one's own adjective, which
stood up to ten tokens earlier.
"""

import math
import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

NOUNS = ("cat", "dog", "bird", "fox", "cow", "ant", "owl", "pig")
ADJECTIVES = ("big", "small", "red", "old")
VERBS = ("sees", "likes", "bites", "finds")
WORDS = ("<s>", "the", "and", "is", ".", *NOUNS, *ADJECTIVES, *VERBS)
IDS: Mapping[str, int] = {word: index for index, word in enumerate(WORDS)}

CHOICES = (1, 4, 8, 4, 1, 3, 7, 1, 1, 2, 1, 1, 1)  # equally likely words at each place
LENGTH = 1 + len(CHOICES)
ENTROPY = sum(map(math.log, CHOICES)) / len(CHOICES)  # nats a token


def sentence(rng: random.Random) -> list[str]:
    """Start token, subject, verb, object, and a clause about one of the two."""
    first, second = rng.sample(ADJECTIVES, 2)
    subject, thing = rng.sample(NOUNS, 2)
    verb = rng.choice(VERBS)
    noun, adjective = rng.choice(((subject, first), (thing, second)))
    opening = ["<s>", "the", first, subject, verb, "the", second, thing]
    return [*opening, "and", "the", noun, "is", adjective, "."]


def corpus(n: int, seed: int) -> Tensor:
    """Token ids of `n` texts, [n, LENGTH]."""
    rng = random.Random(seed)
    return torch.tensor([[IDS[word] for word in sentence(rng)] for _ in range(n)])


def candidates(prefix: Sequence[str]) -> tuple[str, ...]:
    """The words that may follow; each is equally likely."""
    fixed = {1: "the", 5: "the", 8: "and", 9: "the", 11: "is", 13: "."}
    match len(prefix):
        case 2:
            return ADJECTIVES
        case 3:
            return NOUNS
        case 4:
            return VERBS
        case 6:
            return tuple(word for word in ADJECTIVES if word != prefix[2])
        case 7:
            return tuple(word for word in NOUNS if word != prefix[3])
        case 10:
            return (prefix[3], prefix[7])
        case 12:
            return (prefix[2] if prefix[10] == prefix[3] else prefix[6],)
        case length:
            return (fixed[length],)


def following(prefixes: Tensor) -> Tensor:
    """The true distribution of the next token after each prefix, [B, T] -> [B, V]."""
    table = torch.zeros(len(prefixes), len(WORDS), dtype=torch.float64)
    for row, prefix in enumerate(prefixes.tolist()):
        options = candidates([WORDS[token] for token in prefix])
        table[row, [IDS[word] for word in options]] = 1 / len(options)
    return table
