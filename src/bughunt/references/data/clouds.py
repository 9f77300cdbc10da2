"""How far apart two clouds of points are, for tasks in which points are drawn."""

import torch
from torch import Tensor


def energy_distance(one: Tensor, other: Tensor) -> float:
    """Zero for equal distributions: twice the distance between the clouds less that within each."""
    across = torch.cdist(one, other).mean()
    within = [torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (one, other)]
    return float(2 * across - within[0] - within[1])
