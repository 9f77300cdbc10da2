"""Numbers in any order, and the same numbers in ascending order, as tokens with padding.

Padding, start and end come first in the vocabulary; numbers may repeat.
"""

import torch
from torch import Tensor

PAD, START, END = 0, 1, 2
NUMBERS = 12
VOCABULARY = 3 + NUMBERS
SHORTEST, LONGEST = 2, 6


def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sources [N, LONGEST], and targets [N, LONGEST + 2] between a start and an end."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=rng)
    values = torch.randint(3, VOCABULARY, (count, LONGEST), generator=rng)
    real = torch.arange(LONGEST) < lengths[:, None]
    ordered = values.masked_fill(~real, VOCABULARY).sort(dim=1).values
    target = torch.full((count, LONGEST + 2), PAD)
    target[:, 0] = START
    target[:, 1:-1] = ordered.masked_fill(~real, PAD)
    target[torch.arange(count), lengths + 1] = END
    return values.masked_fill(~real, PAD), target
