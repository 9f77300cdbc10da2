"""The judge's side of `ppo-cartpole`: its own carts, on which the policy plays greedily."""

import torch
from torch import Tensor

from bughunt.references.reinforce_cartpole.task import SPREAD, tick, upright
from bughunt.task import Data, Measurement, Model, Program, Task

LIMIT = 300
EPISODES = 20


def _data(seed: int) -> Data:
    rng = torch.Generator().manual_seed(seed)
    starts = SPREAD * (2 * torch.rand(EPISODES, 4, generator=rng, dtype=torch.float64) - 1)
    return Data(train={"limit": LIMIT}, held_out=starts)


def _measure(program: Program, model: Model, held_out: Tensor) -> Measurement:
    """Mean ticks before the fall."""
    state, alive = held_out, torch.ones(len(held_out), dtype=torch.bool)
    lasted = torch.zeros(len(held_out))
    for _ in range(LIMIT):
        lasted += alive
        state = tick(state, program.predict(model, state.float()))
        alive = alive & upright(state)
        if not alive.any():
            break
    reached = lasted.mean().item()
    return Measurement(curve=1 - reached / LIMIT + 0.02, metric=reached)


TASK = Task(
    slug="ppo-cartpole",
    title="Proximal policy optimisation",
    kind="agent",
    topics=("S13", "S25", "S60"),
    categories=("RLX", "SHP", "LOS", "OPT", "GRD", "STA"),
    data=_data,
    measure=_measure,
    curve_name="regret",
    metric_name="greedy return",
    metric_higher_is_better=True,
    band=(100.0, 300.0),  # 162.8 to 300.0 over seeds 0-9, seven of ten above 295
    steps=525,
    small={"carts": 6, "length": 20, "batch": 50, "passes": 2, "rollouts": 2, "hidden": 16},
    probes=10,
    floor=0.02,
    high_variance=True,
    exports=(
        "Agent",
        "Carts",
        "advantages",
        "choose",
        "entropy",
        "fallen",
        "learning_rate",
        "log_chance",
        "log_policy",
        "loss",
        "physics",
        "play",
        "policy_loss",
        "shuffled",
        "standardise",
        "value",
    ),
    cpu_seconds=3.6,
)
