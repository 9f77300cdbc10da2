"""Which rows a rank sees, and in which order."""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor


class ShardSampler:
    """One shuffle for all ranks, another for every pass; each rank takes every W-th row of it.

    All ranks have equally many rows: where the world does not divide them, the first ones come once more.
    """

    def __init__(self, count: int, rank: int, world: int, seed: int) -> None:
        self.count, self.rank, self.world, self.seed = count, rank, world, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def rows(self) -> Tensor:
        rng = Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.count, generator=rng)
        each = math.ceil(self.count / self.world)
        order = torch.cat([order, order[: each * self.world - self.count]])
        return order[self.rank :: self.world]


def batches(sampler: ShardSampler, size: int) -> Iterator[Tensor]:
    """Pass after pass; the last batch of a pass may be short, on every rank alike."""
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        yield from sampler.rows().split(size)
        epoch += 1


def shard(count: int, rank: int, world: int, seed: int, epoch: int) -> Tensor:
    """The rows of one rank in one pass."""
    sampler = ShardSampler(count, rank, world, seed)
    sampler.set_epoch(epoch)
    return sampler.rows()
