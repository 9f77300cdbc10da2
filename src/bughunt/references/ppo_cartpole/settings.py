"""All numbers of the agent in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    carts: int = 14
    length: int = 110  # ticks of a rollout
    hidden: int = 48
    gamma: float = 0.985
    trace: float = 0.94  # lambda of the advantages
    passes: int = 5  # over the same rollout
    batch: int = 230
    clip: float = 0.2
    value_weight: float = 0.5
    entropy_bonus: float = 0.002
    lr: float = 3e-3
    max_grad_norm: float = 0.6
    rollouts: int = 15
