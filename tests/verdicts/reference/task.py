"""The judge's side of the small regression that the verdict cases are about."""

import torch

from bughunt.task import Data, Measurement, Task

WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 3.0])
NOISE = 0.3


def data(seed):
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.randn(240, 4, generator=rng)
    targets = inputs @ WEIGHTS + 0.7 + NOISE * torch.randn(240, generator=rng)
    return Data((inputs[:200], targets[:200]), (inputs[200:], targets[200:]))


def measure(program, model, held_out):
    inputs, targets = held_out
    answers = program.predict(model, inputs)
    if answers.shape != targets.shape:
        raise ValueError(f"{tuple(answers.shape)} answers for {tuple(targets.shape)} rows")
    error = ((answers - targets) ** 2).mean().item()
    return Measurement(curve=error, metric=error**0.5)


TASK = Task(
    slug="line",
    title="A line through noise",
    kind="classifier",
    topics=("S1",),
    categories=("optimiser",),
    data=data,
    measure=measure,
    curve_name="squared error",
    metric_name="RMSE",
    metric_higher_is_better=False,
    band=(0.2, 0.6),
    steps=60,
    probes=12,
    small={"steps": 8},
)
