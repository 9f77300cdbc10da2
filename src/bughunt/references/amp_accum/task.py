"""The judge's side of `amp-accum`: glyphs sorted by class, of which some have no label."""

import torch

from bughunt.references.data import reading
from bughunt.task import Data, Task, Value

UNKNOWN = -1
SHARE_UNKNOWN = 0.2


def hide_some(rows: dict[str, Value], seed: int) -> dict[str, Value]:
    """The same rows with some labels replaced by `UNKNOWN`."""
    chance = torch.rand(len(rows["labels"]), generator=torch.Generator().manual_seed(seed))
    return {**rows, "labels": rows["labels"].masked_fill(chance < SHARE_UNKNOWN, UNKNOWN)}


def _data(seed: int) -> Data:
    made = reading.data(seed)
    return Data(train=hide_some(made.train, seed), held_out=made.held_out)


TASK = Task(
    slug="amp-accum",
    title="Half precision and accumulation",
    kind="classifier",
    topics=("S19", "S28", "S35", "S70"),
    categories=("NUM", "GRD", "OPT", "LOS", "API"),
    data=_data,
    measure=reading.measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.77, 0.89),  # seeds 0-9: 0.810 to 0.855, standard deviation 0.014
    steps=240,
    small={"steps": 8, "batch": 23, "piece": 9},
    exports=("Scaler", "piece_loss", "learning_rate", "batches"),
    cpu_seconds=0.9,
)
