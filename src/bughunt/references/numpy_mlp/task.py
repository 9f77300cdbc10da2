"""The judge's side of `numpy-mlp`: glyphs sorted by class as arrays, log-probabilities scored on others."""

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
    slug="numpy-mlp",
    title="Hand-written backpropagation",
    kind="classifier",
    topics=("S1", "S9", "S14", "S17", "S21", "S22", "S39", "S49", "S66"),
    categories=("GRD", "SHP", "NRM", "NUM", "INI", "OPT"),
    data=_data,
    measure=_measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.75, 0.88),  # seeds 0-9, all optimisers: 0.785 to 0.853
    steps=360,
    configurations={
        "default": {},  # Adam
        "rmsprop": {"optimizer": "rmsprop", "lr": 4e-3},
        "momentum": {"optimizer": "momentum", "lr": 0.05, "weight_decay": 0.02},
        "sgd": {"optimizer": "sgd", "lr": 0.4, "weight_decay": 2e-3},
    },
    small={"steps": 8, "batch": 16, "hidden": 14, "second": 11},
    rng="numpy",
    exports=(
        "linear",
        "linear_back",
        "normalise",
        "normalise_back",
        "dropout",
        "cross_entropy",
        "gradients",
    ),
    cpu_seconds=0.3,
)
