"""The judge's side of `dqn-catch`: its own boards, played greedily, and what the values promise."""

import torch
from torch import Tensor

from bughunt.task import Data, Measurement, Model, Program, Task

ROWS, COLUMNS = 8, 7
GAMMA = 0.96
BALLS = 300


def _data(seed: int) -> Data:
    rng = torch.Generator().manual_seed(seed)
    starts = torch.randint(COLUMNS, (2, BALLS), generator=rng)  # the ball and the paddle of each board
    return Data(train={"rows": ROWS, "columns": COLUMNS}, held_out=starts)


def board(height: int, ball: Tensor, paddle: Tensor) -> Tensor:  # [N], [N] -> [N, Y, X]
    """Boards as the program sees them."""
    drawn = torch.zeros(len(ball), ROWS, COLUMNS)
    drawn[:, height].scatter_(1, ball[:, None], 1.0)
    drawn[:, -1].scatter_(1, paddle[:, None], 1.0)
    return drawn


def _measure(program: Program, model: Model, held_out: Tensor) -> Measurement:
    """One ball a board; values are held against the discounted outcome that really came."""
    ball, paddle = held_out
    promised = []
    for height in range(ROWS - 1):
        boards = board(height, ball, paddle)
        promised.append(program.call("values", model, boards).amax(dim=1))
        paddle = (paddle + program.predict(model, boards) - 1).clamp(0, COLUMNS - 1)
    outcome = torch.where(paddle == ball, 1.0, -1.0)
    left = torch.arange(ROWS - 2, -1, -1)  # ticks between each action and the one that ends it
    came = GAMMA ** left[:, None] * outcome
    error = (torch.stack(promised) - came).abs().mean().item()
    reached = outcome.mean().item()
    return Measurement(curve=(1 - reached) / 2 + error, metric=reached)


TASK = Task(
    slug="dqn-catch",
    title="Double DQN",
    kind="agent",
    topics=("S25",),
    categories=("RLX", "STA", "IDX", "GRD", "LOS", "RNG"),
    data=_data,
    measure=_measure,
    curve_name="balls missed plus value error",
    metric_name="mean return",
    metric_higher_is_better=True,
    band=(0.8, 1.0),  # 1.0 on each of seeds 0-9
    steps=900,
    small={"steps": 12, "hidden": 20, "boards": 6, "first_look": 10, "batch": 30},
    probes=15,
    high_variance=True,
    exports=("Catch", "Replay", "values", "epsilon", "explore", "targets", "loss", "sync"),
    cpu_seconds=1.2,
)
