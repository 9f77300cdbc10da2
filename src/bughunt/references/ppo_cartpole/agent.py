"""Two networks on the same observations: what to do, and what to expect.

Shapes: N observations, H hidden. There are four numbers in an observation and two actions.
"""

import math

import torch
from settings import Config
from torch import Tensor, nn


def layers(outputs: int, scale: float, cfg: Config) -> nn.Sequential:
    """Two hidden layers; all weights start orthogonal, the last ones at their own scale."""
    found = nn.Sequential(
        nn.Linear(4, cfg.hidden),
        nn.Tanh(),
        nn.Linear(cfg.hidden, cfg.hidden),
        nn.Tanh(),
        nn.Linear(cfg.hidden, outputs),
    )
    scales = (math.sqrt(2), math.sqrt(2), scale)
    for linear, size in zip(found[::2], scales, strict=True):
        nn.init.orthogonal_(linear.weight, gain=size)
        nn.init.zeros_(linear.bias)
    return found


class Agent(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.policy = layers(2, 0.01, cfg)
        self.critic = layers(1, 1.0, cfg)


def log_policy(model: Agent, seen: Tensor) -> Tensor:  # [.., 4] -> [.., 2]
    """The logarithm of how likely each action is."""
    return model.policy(seen).log_softmax(dim=-1)


def value(model: Agent, seen: Tensor) -> Tensor:  # [.., 4] -> [..]
    """The rewards expected from here on, later ones counting for less."""
    return model.critic(seen).squeeze(-1)


def choose(chances: Tensor) -> Tensor:  # log-probabilities [N, 2] -> [N]
    """An action for each row, drawn from the policy."""
    return torch.multinomial(chances.exp(), 1).squeeze(-1)


def log_chance(chances: Tensor, actions: Tensor) -> Tensor:  # [.., 2], [..] -> [..]
    """How likely the actions taken were."""
    return chances.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
