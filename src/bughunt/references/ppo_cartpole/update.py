"""What makes good actions likelier, a little at a time, and expectations better.

Shapes: B batch.
"""

from collections.abc import Iterator

import torch
from agent import Agent, log_chance, log_policy, value
from settings import Config
from torch import Generator, Tensor


def standardise(merits: Tensor) -> Tensor:  # [B] -> [B]
    """Around zero, in units of their spread."""
    return (merits - merits.mean()) / (merits.std() + 1e-8)


def policy_loss(now: Tensor, then: Tensor, merits: Tensor, clip: float) -> Tensor:  # [B] each -> []
    """The clipped surrogate: no gain from going further than a share of `clip` away from the old policy.

    `now` and `then` are log-chances of the actions taken. The smaller gain counts, so that losses are not
    cut off.
    """
    ratio = (now - then).exp()
    within = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * merits, within * merits).mean()


def entropy(chances: Tensor) -> Tensor:  # log-probabilities [B, 2] -> []
    return -(chances.exp() * chances).sum(dim=-1).mean()


def loss(
    model: Agent, seen: Tensor, actions: Tensor, then: Tensor, merits: Tensor, goals: Tensor, cfg: Config
) -> Tensor:  # [B, 4], then [B] each -> []
    chances = log_policy(model, seen)
    now = log_chance(chances, actions)
    gain = policy_loss(now, then, standardise(merits), cfg.clip)
    miss = (value(model, seen) - goals).square().mean()
    return gain + cfg.value_weight * miss - cfg.entropy_bonus * entropy(chances)


def shuffled(columns: tuple[Tensor, ...], cfg: Config, rng: Generator) -> Iterator[list[Tensor]]:
    """Several passes over all ticks of all carts, each in a new order; the last batch takes what is left."""
    flat = [column.flatten(0, 1) for column in columns]
    count, device = len(flat[0]), flat[0].device
    for _ in range(cfg.passes):
        order = torch.randperm(count, generator=rng, device=rng.device).to(device)
        for rows in order.split(cfg.batch):
            yield [column[rows] for column in flat]
