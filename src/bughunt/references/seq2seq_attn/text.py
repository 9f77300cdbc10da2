"""Characters as numbers, for what is read and for what is written.

Shapes: B texts, S characters of the longest source, T of the longest target with start and end.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

PAD = 0
UNKNOWN = 1  # of the source
START, END = 1, 2  # of the target
SOURCE = "abcdefghijklmnopqrstuvwxyz0123456789 ,./'"
TARGET = "0123456789-"
READ = {character: 2 + place for place, character in enumerate(SOURCE)}
WRITTEN = {character: 3 + place for place, character in enumerate(TARGET)}
SOURCE_SIZE, TARGET_SIZE = 2 + len(SOURCE), 3 + len(TARGET)


def encode_source(text: str) -> list[int]:
    """One number a character; case makes no difference, and a text of none reads as one unknown."""
    return [READ.get(character, UNKNOWN) for character in text.lower()] or [UNKNOWN]


def encode_target(text: str) -> list[int]:
    """The characters between a start and an end."""
    return [START, *(WRITTEN[character] for character in text), END]


def decode_target(tokens: Sequence[int]) -> str:
    """The characters up to the end, without marks."""
    characters = []
    for token in tokens:
        if token == END:
            break
        if token not in (PAD, START):
            characters.append(TARGET[token - 3])
    return "".join(characters)


def side_by_side(rows: Sequence[Sequence[int]]) -> Tensor:  # -> [B, S] or [B, T]
    """Rows of unlike lengths, filled up on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])


def collate_sources(texts: Sequence[str]) -> tuple[Tensor, Tensor]:  # -> [B, S], [B]
    """Texts to read, with their lengths."""
    rows = [encode_source(text) for text in texts]
    return side_by_side(rows), torch.tensor([len(row) for row in rows])


def collate(texts: Sequence[str], answers: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Sources [B, S], their lengths [B] and targets [B, T]."""
    sources, lengths = collate_sources(texts)
    return sources, lengths, side_by_side([encode_target(answer) for answer in answers])
