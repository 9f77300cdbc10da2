"""The judge's side of `numpy-cnn`: glyphs sorted by class as arrays, log-probabilities scored on others."""

import torch
from torch.nn import functional as F

from bughunt.references.data import reading
from bughunt.task import Data, Measurement, Model, Program, Task, Value


def _data(seed: int) -> Data:
    made = reading.data(seed)
    return Data(*({name: part[name].numpy() for name in part} for part in (made.train, made.held_out)))


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    answers = torch.as_tensor(program.predict(model, held_out["images"])).float()
    labels = torch.from_numpy(held_out["labels"])
    loss = F.nll_loss(answers, labels).item()
    right = (answers.argmax(dim=1) == labels).double().mean().item()
    return Measurement(curve=loss, metric=right)


TASK = Task(
    slug="numpy-cnn",
    title="Convolution in plain arrays",
    kind="classifier",
    topics=("S15", "S17", "S18", "S23", "S49", "S67"),
    categories=("SHP", "IDX", "GRD", "NUM", "PRF"),
    data=_data,
    measure=_measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.76, 0.93),  # seeds 0-9: 0.803 to 0.885, standard deviation 0.022
    steps=280,
    small={"steps": 6, "batch": 16, "first": 3, "second": 5},
    rng="numpy",
    exports=(
        "conv",
        "conv_back",
        "gradients",
        "learning_rate",
        "max_pool",
        "max_pool_back",
        "mean_pool",
        "mean_pool_back",
        "relu",
    ),
    cpu_seconds=2.0,
)
