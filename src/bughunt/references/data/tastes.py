"""What users picked, one thing after the other, from a world whose law is known.

Users and items have tastes, some items are popular whatever the taste, and nobody picks an item twice.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

USERS, ITEMS, TASTES = 360, 240, 6
PICKS, LATEST = 24, 3  # of each user, and how many of them are kept back


@dataclass(frozen=True)
class World:
    """`past` has the events, shuffled: user, item and time. `latest [U, 3]` came after them."""

    past: dict[str, Tensor]
    latest: Tensor
    chance: Tensor  # [U, I], of each item as the first pick


def world(seed: int) -> World:
    rng = np.random.default_rng(seed)
    score = 2.6 * rng.normal(size=(USERS, TASTES)) @ rng.normal(size=(TASTES, ITEMS)) / np.sqrt(TASTES)
    score += 0.9 * rng.normal(size=ITEMS)
    picks = _picks(score, rng)  # [U, PICKS]
    time = np.sort(rng.uniform(0, 100, size=picks.shape), axis=1)
    user = np.repeat(np.arange(USERS), PICKS - LATEST)
    order = rng.permutation(len(user))
    item = picks[:, :-LATEST].ravel()
    past = {"user": user[order], "item": item[order], "time": time[:, :-LATEST].ravel()[order]}
    chance = torch.from_numpy(score).softmax(dim=1)
    tensors = {name: torch.from_numpy(values) for name, values in past.items()}
    return World(tensors, torch.from_numpy(picks[:, -LATEST:].copy()), chance)


def _picks(score: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Without putting back: the largest of the scores with Gumbel noise, in that order."""
    noisy = score + rng.gumbel(size=score.shape)
    return np.argsort(-noisy, axis=1)[:, :PICKS]
