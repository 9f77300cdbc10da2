"""A byte-pair tokeniser: it learns which neighbours to join, writes text as tokens, and reads it back.

Text is cut into words first, and no token reaches over their edges. A word begins as its bytes; the pair of
neighbours that is most frequent over all words becomes one new token, again and again. To tokenise, the same
joins are made in the order in which they were learnt. Tokens are numbered: bytes, then marks, then joins.

Shapes: M joins, B texts, T tokens of the longest.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

Pair = tuple[int, int]
Tokenizer = dict[str, ndarray]  # merges [M, 2]: the two tokens that each join puts together

BYTES = 256
MARKS = ("<|end|>", "<|pad|>")
END, PAD = BYTES, BYTES + 1  # the numbers of the marks
FIRST = BYTES + len(MARKS)  # number of the first join
MARK = re.compile("(" + "|".join(re.escape(mark) for mark in MARKS) + ")")
# Letters, digits or signs with the space before them; any other white space by itself.
WORD = re.compile(r" ?[^\W\d]+| ?\d+| ?[^\s\w]+|\s")


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int = 300  # joins
    fewest: int = 2  # a pair that comes less often is not worth a token


def words_of(text: str) -> list[bytes]:
    """The words of a text without marks; put together again they are the text."""
    return [word.encode() for word in WORD.findall(text)]


def word_counts(texts: Sequence[str]) -> Counter:
    """How often each word comes, marks left out."""
    counts = Counter()
    for text in texts:
        for part in MARK.split(text):
            if part not in MARKS:
                counts.update(words_of(part))
    return counts


def joined(tokens: list[int], pair: Pair, new: int) -> list[int]:
    """The tokens with every occurrence of the pair replaced, from the left."""
    result, place = [], 0
    while place < len(tokens):
        if tuple(tokens[place : place + 2]) == pair:
            result.append(new)
            place += 2
        else:
            result.append(tokens[place])
            place += 1
    return result


class Corpus:
    """The words as tokens, and how often each pair of neighbours comes, kept up to date join by join."""

    def __init__(self, counts: Counter) -> None:
        self.words = [list(word) for word in counts]
        self.counts = list(counts.values())
        self.pairs = Counter()
        self.places = defaultdict(set)  # pair -> numbers of the words that have it or had it
        for number in range(len(self.words)):
            self.enter(number)

    def enter(self, number: int) -> None:
        tokens = self.words[number]
        for pair in pairwise(tokens):
            self.pairs[pair] += self.counts[number]
            self.places[pair].add(number)

    def withdraw(self, number: int) -> None:
        tokens = self.words[number]
        for pair in pairwise(tokens):
            self.pairs[pair] -= self.counts[number]

    def most_frequent(self) -> tuple[Pair, int]:
        """The pair and its count; of equally frequent ones the smallest."""
        best = min(self.pairs, key=lambda pair: (-self.pairs[pair], pair), default=(0, 0))
        return best, self.pairs[best]

    def join(self, pair: Pair, new: int) -> None:
        for number in self.places.pop(pair):
            self.withdraw(number)
            self.words[number] = joined(self.words[number], pair, new)
            self.enter(number)
        del self.pairs[pair]

    def tokens_per_byte(self, sizes: Sequence[int]) -> float:
        tokens = sum(len(word) * count for word, count in zip(self.words, self.counts, strict=True))
        return tokens / sum(size * count for size, count in zip(sizes, self.counts, strict=True))


def build(_cfg: Config) -> Tokenizer:
    return {"merges": np.zeros((0, 2), dtype=np.int64)}


def train(model: Tokenizer, data: list[str], cfg: Config, _rng: np.random.Generator) -> Iterator[float]:
    """Learn one join per item, yielding how many tokens the words now take per byte."""
    corpus = Corpus(word_counts(data))
    sizes = [len(word) for word in corpus.words]
    for step in range(cfg.steps):
        pair, count = corpus.most_frequent()
        if count < cfg.fewest:
            return
        corpus.join(pair, FIRST + step)
        model["merges"] = np.vstack([model["merges"], pair])
        yield corpus.tokens_per_byte(sizes)


def vocabulary(model: Tokenizer) -> list[bytes]:
    """What each token stands for, by number."""
    pieces = [bytes([value]) for value in range(BYTES)]
    pieces += [mark.encode() for mark in MARKS]
    for left, right in model["merges"].tolist():
        pieces.append(pieces[left] + pieces[right])
    return pieces


def ranks(model: Tokenizer) -> dict[Pair, int]:
    """When each pair was learnt to be joined."""
    return {(left, right): rank for rank, (left, right) in enumerate(model["merges"].tolist())}


def encode_word(word: bytes, order: dict[Pair, int]) -> list[int]:
    """Make the joins that apply, earliest learnt first."""
    tokens = list(word)
    while len(tokens) > 1:
        pair = min(pairwise(tokens), key=lambda pair: order.get(pair, len(order)))
        if pair not in order:
            break
        tokens = joined(tokens, pair, FIRST + order[pair])
    return tokens


def encode(model: Tokenizer, text: str) -> list[int]:
    order, known, tokens = ranks(model), {}, []
    for part in MARK.split(text):
        if part in MARKS:
            tokens.append(BYTES + MARKS.index(part))
            continue
        for word in words_of(part):
            if word not in known:
                known[word] = encode_word(word, order)
            tokens += known[word]
    return tokens


def decode(model: Tokenizer, tokens: Sequence[int]) -> str:
    """The text of tokens; a character of which bytes are missing shows as the replacement sign."""
    pieces = vocabulary(model)
    return b"".join(pieces[token] for token in tokens).decode(errors="replace")


def collate(model: Tokenizer, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:  # three [B, T]
    """A batch for a language model: what is read, what comes next, and which answers count.

    Each text ends with the mark for it; shorter rows are filled up with another one.
    """
    rows = [[*encode(model, text), END] for text in texts]
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [PAD] * (longest + 1 - len(row)) for row in rows])  # [B, T + 1]
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    mask = targets != PAD
    return inputs, targets, mask


def predict(model: Tokenizer, inputs: list[str]) -> list[list[int]]:
    """The tokens of each text."""
    return [encode(model, text) for text in inputs]
