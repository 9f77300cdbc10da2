"""Strings of brackets and letters, labelled with how many brackets are open at their end.

A closing bracket with nothing to close is ignored, and depths from `CLASSES - 1` on are one class.
So the label depends on the order of the symbols and on the whole string, not on their counts.
"""

import random

import torch
from torch import Tensor

SYMBOLS = "_()abc"  # the first one pads
CLASSES = 5
SHORTEST, LONGEST = 5, 25


def depth(text: str) -> int:
    """Brackets open at the end of `text`."""
    opened = 0
    for symbol in text:
        opened = opened + 1 if symbol == "(" else max(0, opened - 1) if symbol == ")" else opened
    return opened


def strings(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Padded symbols [n, LONGEST], lengths [n] and labels [n]."""
    rng = random.Random(seed)
    texts = ["".join(rng.choices("()abc", (5, 4, 1, 1, 1), k=_length(rng))) for _ in range(n)]
    ids = [[SYMBOLS.index(symbol) for symbol in text.ljust(LONGEST, "_")] for text in texts]
    labels = [min(depth(text), CLASSES - 1) for text in texts]
    return torch.tensor(ids), torch.tensor([len(text) for text in texts]), torch.tensor(labels)


def _length(rng: random.Random) -> int:
    return rng.randint(SHORTEST, LONGEST)
