"""What happens while the agent plays, and how good its actions turned out to be.

Shapes: T ticks, N carts.
"""

from dataclasses import dataclass

import torch
from agent import Agent, choose, log_chance, log_policy, value
from carts import Carts
from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """One entry for each tick of each cart, [T, N, ..]."""

    seen: Tensor  # observations before the action, [T, N, 4]
    actions: Tensor
    chances: Tensor  # logarithms, of the actions taken, when they were taken
    rewards: Tensor
    values: Tensor  # of what was seen
    next_values: Tensor  # of what the action led to, before any fresh start
    terminated: Tensor  # nothing comes after a fall
    over: Tensor  # fallen or out of time: what follows belongs to another episode


@torch.no_grad()
def play(model: Agent, carts: Carts, length: int) -> Rollout:
    """So many ticks of every cart, from wherever it is."""
    ticks = []
    for _ in range(length):
        seen = carts.state
        chances = log_policy(model, seen)
        actions = choose(chances)
        reached, rewards, terminated, truncated = carts.step(actions)
        over = terminated | truncated
        ticks.append((seen, actions, log_chance(chances, actions), reached, rewards, terminated, over))
    seen, actions, chances, reached, rewards, terminated, over = map(torch.stack, zip(*ticks, strict=True))
    return Rollout(
        seen=seen,
        actions=actions,
        chances=chances,
        rewards=rewards,
        values=value(model, seen),
        next_values=value(model, reached),
        terminated=terminated,
        over=over,
    )


def advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    over: Tensor,
    gamma: float,
    trace: float,
) -> Tensor:  # [T, N] each -> [T, N]
    """How much better each action was than expected, by its own and, fading, by later surprises.

    A fall is worth nothing afterwards; an episode out of time would have gone on, so what it led to counts.
    Surprises of another episode never count.
    """
    surprises = rewards + gamma * next_values * ~terminated - values
    found = torch.zeros_like(rewards)
    ahead = torch.zeros_like(rewards[0])
    for time in reversed(range(len(rewards))):
        ahead = surprises[time] + gamma * trace * ahead * ~over[time]
        found[time] = ahead
    return found
