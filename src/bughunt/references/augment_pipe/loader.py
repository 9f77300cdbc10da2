"""Batches of rows, prepared by several workers that take turns.

Workers are simulated: each has a generator of its own, as processes would have, and prepares every W-th
batch of a pass. All of them are seeded anew for each pass.

Shapes: N rows, B batch, S side, W workers.
"""

from collections.abc import Iterator

import torch
from settings import Config
from torch import Generator, Tensor
from transforms import for_training


def order_of(count: int, rng: Generator) -> Tensor:  # -> [N]
    """Every row once, in random order."""
    return torch.randperm(count, generator=rng, device=rng.device)


def crew(workers: int, rng: Generator) -> list[Generator]:
    """Generators that draw differently from one another, and differently in every pass."""
    base = int(torch.randint(2**31, (), generator=rng, device=rng.device))
    return [Generator().manual_seed(base + worker) for worker in range(workers)]


def one_pass(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented images [B, 3, S, S] and their labels [B]; the last batch takes what is left."""
    order = order_of(len(labels), rng).to(labels.device)
    team = crew(cfg.workers, rng)
    for turn, rows in enumerate(order.split(cfg.batch)):
        worker = team[turn % len(team)]
        yield for_training(images[rows], cfg, worker), labels[rows]


def endless(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass after pass."""
    while True:
        yield from one_pass(images, labels, cfg, rng)
