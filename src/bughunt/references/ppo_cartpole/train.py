"""Proximal policy optimisation: an agent learns to balance poles, many small steps from each rollout.

All carts play a stretch with the policy as it is; every action is compared with what the critic expected;
then several passes over the stretch change the policy, but never far from the one that played it.
`carts` is the world, `agent` the networks, `rollout` the playing and `update` the learning.
"""

from collections.abc import Iterator, Mapping

import torch
from agent import Agent, log_policy
from carts import Carts
from rollout import advantages, play
from settings import Config
from torch import Generator, Tensor, nn
from update import loss, shuffled

__all__ = ["Agent", "Config", "build", "learning_rate", "predict", "train"]


def build(cfg: Config) -> Agent:
    return Agent(cfg)


def learning_rate(done: int, cfg: Config) -> float:
    """Along a line towards zero, with the rollouts that are done."""
    return cfg.lr * (1 - done / cfg.rollouts)


def train(model: Agent, data: Mapping[str, int], cfg: Config, rng: Generator) -> Iterator[float]:
    """Play and learn; one item for each update, its loss. `data` says how long an episode may be."""
    device = next(model.parameters()).device
    carts = Carts(cfg.carts, data["limit"], rng, device)
    optim = torch.optim.Adam(model.parameters(), lr=cfg.lr, eps=1e-5)
    for done in range(cfg.rollouts):
        for group in optim.param_groups:
            group["lr"] = learning_rate(done, cfg)
        played = play(model, carts, cfg.length)
        merits = advantages(
            played.rewards,
            played.values,
            played.next_values,
            played.terminated,
            played.over,
            cfg.gamma,
            cfg.trace,
        )
        goals = merits + played.values  # what the critic should have said
        columns = (played.seen, played.actions, played.chances, merits, goals)
        for batch in shuffled(columns, cfg, rng):
            value = loss(model, *batch, cfg)
            optim.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
            optim.step()
            yield value.item()


@torch.no_grad()
def predict(model: Agent, inputs: Tensor) -> Tensor:  # observations [N, 4] -> actions [N]
    """The push that the policy prefers in each state."""
    return log_policy(model, inputs).argmax(dim=-1)
