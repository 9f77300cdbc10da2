"""The judge's side of `reinforce-cartpole`: its own carts, on which the policy plays greedily."""

import math

import torch
from torch import Tensor

from bughunt.task import Data, Measurement, Model, Program, Task

SPREAD = 0.05
LIMIT = 200
EPISODES = 24


def _data(seed: int) -> Data:
    rng = torch.Generator().manual_seed(seed)
    starts = SPREAD * (2 * torch.rand(EPISODES, 4, generator=rng, dtype=torch.float64) - 1)
    return Data(train={"spread": SPREAD}, held_out=starts)


def tick(state: Tensor, actions: Tensor) -> Tensor:  # [N, 4], [N] -> [N, 4]
    """Barto, Sutton and Anderson's cart (1983) with Florian's corrections, one Euler step of 20 ms."""
    x, v, theta, omega = state.T
    force = actions.double() * 20 - 10
    pull = (force + 0.05 * omega**2 * theta.sin()) / 1.1
    alpha = (9.8 * theta.sin() - theta.cos() * pull) / (2 / 3 - 0.05 * theta.cos() ** 2 / 1.1)
    acceleration = pull - 0.05 * alpha * theta.cos() / 1.1
    return torch.stack(
        [x + 0.02 * v, v + 0.02 * acceleration, theta + 0.02 * omega, omega + 0.02 * alpha], dim=1
    )


def upright(state: Tensor) -> Tensor:  # [N, 4] -> [N]
    return (state[:, 0].abs() <= 2.4) & (state[:, 2].abs() <= math.radians(12))


def greedy_return(program: Program, model: Model, starts: Tensor) -> float:
    """Mean number of steps before the fall, at most `LIMIT`."""
    state, alive = starts, torch.ones(len(starts), dtype=torch.bool)
    total = 0
    for _ in range(LIMIT):
        total += int(alive.sum())
        state = tick(state, program.predict(model, state.float()))
        alive = alive & upright(state)
        if not alive.any():
            break
    return total / len(starts)


def _measure(program: Program, model: Model, held_out: Tensor) -> Measurement:
    reached = greedy_return(program, model, held_out)
    return Measurement(curve=1 - reached / LIMIT + 0.01, metric=reached)


TASK = Task(
    slug="reinforce-cartpole",
    title="REINFORCE with baseline",
    kind="agent",
    topics=("S25",),
    categories=("RLX", "MSK", "LOS", "RNG", "IDX"),
    data=_data,
    measure=_measure,
    curve_name="regret",
    metric_name="greedy return",
    metric_higher_is_better=True,
    band=(150.0, 200.0),  # 167.9 to 200.0 over seeds 0-11, ten of twelve at 200
    steps=36,
    small={"steps": 12, "episodes": 16},
    probes=12,
    floor=0.01,
    high_variance=True,
    exports=("physics", "fallen", "CartPole", "choose", "rollout", "returns", "advantages", "loss"),
    cpu_seconds=1.4,
)
