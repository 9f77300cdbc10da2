"""The judge's side of lstm-varlen: how many brackets are open at the end of a string."""

import torch
from torch.nn import functional as F

from bughunt.references.data import brackets
from bughunt.task import Data, Measurement, Model, Program, Task, Value

STRINGS = 3000
HELD_OUT = 400


def data(seed: int) -> Data:
    """Strings with their labels, and others whose labels stay here."""
    return Data(
        train=brackets.strings(STRINGS, 2 * seed),
        held_out=brackets.strings(HELD_OUT, 2 * seed + 1),
    )


def measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """Held-out cross-entropy and accuracy."""
    tokens, lengths, labels = held_out
    logits = torch.as_tensor(program.predict(model, (tokens, lengths))).cpu().double()
    if logits.shape != (len(labels), brackets.CLASSES):
        raise ValueError(f"expected a row of {brackets.CLASSES}, got {tuple(logits.shape)}")
    accuracy = (logits.argmax(dim=1) == labels).double().mean()
    return Measurement(curve=float(F.cross_entropy(logits, labels)), metric=float(accuracy))


TASK = Task(
    slug="lstm-varlen",
    title="LSTM on sequences of different length",
    kind="classifier",
    topics=("S15", "S27", "S40", "S74"),
    categories=("MSK", "IDX", "INI", "STA", "SHP", "LOS"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="accuracy",
    metric_higher_is_better=True,
    band=(0.96, 1.0),  # seeds 0-9: 0.985 to 1.000
    steps=220,
    small={"steps": 40, "hidden": 24, "lr": 1e-2},
    probes=20,
    exports=("LSTM",),
    cpu_seconds=1.9,
)
