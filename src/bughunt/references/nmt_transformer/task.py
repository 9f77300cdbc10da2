"""The judge's side of `nmt-transformer`: numbers to be written in ascending order."""

import torch
from torch.nn import functional as F

from bughunt.references.data import sorting
from bughunt.task import Data, Measurement, Model, Program, Task, Value

TRAINED, HELD_OUT = 6000, 240
MARGIN = 0.01  # added to the share of wrong tokens, so that the curve stays above zero


def _data(seed: int) -> Data:
    source, target = sorting.rows(TRAINED, 2 * seed)
    unseen = sorting.rows(HELD_OUT, 2 * seed + 1)
    return Data(train={"source": source, "target": target}, held_out=unseen)


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The share of wrong tokens, and of answers that are right throughout."""
    source, target = held_out
    wanted = target[:, 1:]
    given = torch.as_tensor(program.predict(model, source)).cpu()
    given = F.pad(given, (0, max(0, wanted.size(1) - given.size(1))))[:, : wanted.size(1)]
    asked = wanted != sorting.PAD
    right = given == wanted
    wrong = float((~right & asked).sum() / asked.sum())
    return Measurement(curve=MARGIN + wrong, metric=float(right.all(dim=1).double().mean()))


TASK = Task(
    slug="nmt-transformer",
    title="Encoder-decoder transformer",
    kind="sequence",
    topics=("S18", "S24", "S26", "S67"),
    categories=("MSK", "SHP", "IDX", "LOS", "NUM", "INI"),
    data=_data,
    measure=_measure,
    curve_name="wrong tokens",
    metric_name="exact answers",
    metric_higher_is_better=True,
    band=(0.77, 1.0),  # seeds 0-9: 0.838 to 0.938
    steps=150,
    small={"steps": 12, "batch": 20, "channels": 20},
    probes=10,
    exports=("model.positions", "attention.Attention", "search.beam", "answers", "batches"),
    cpu_seconds=3.4,
)
