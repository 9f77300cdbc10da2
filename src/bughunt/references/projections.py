"""The matrices of attention in a program's state, fused or apart, for behaviour tests."""

from collections.abc import Mapping

import torch
from torch import Tensor


def projection_names(state: Mapping[str, Tensor], width: int) -> list[tuple[list[str], str]]:
    """Of each block the inner matrices, one [3W, W] or three [W, W], and the outer one, [W, W].

    Blocks come in the order of the state, and no other matrices may have these shapes.
    """
    fused = [[name] for name, value in state.items() if value.shape == (3 * width, width)]
    squares = [name for name, value in state.items() if value.shape == (width, width)]
    if fused:
        return list(zip(fused, squares, strict=True))
    return [(squares[first : first + 3], squares[first + 3]) for first in range(0, len(squares), 4)]


def projections(state: Mapping[str, Tensor], width: int) -> list[tuple[Tensor, Tensor]]:
    """Of each block the inner ones as one, [3W, W], and the outer one, [W, W]."""
    found = projection_names(state, width)
    return [(torch.cat([state[name] for name in inner]), state[outer]) for inner, outer in found]
