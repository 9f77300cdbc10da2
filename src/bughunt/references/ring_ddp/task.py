"""The judge's side of `ring-ddp`: glyphs sorted by class, log-probabilities scored on others."""

from bughunt.references.data import reading
from bughunt.references.data.glyphs import glyphs
from bughunt.task import Data, Task

ROWS = 1478  # unlike numbers for unlike ranks


def _data(seed: int) -> Data:
    held_out = reading.data(seed).held_out
    return Data(train=glyphs(ROWS, 2 * seed, ordered=True), held_out=held_out)


TASK = Task(
    slug="ring-ddp",
    title="Data parallel around a ring",
    kind="system",
    topics=("S33", "S68"),
    categories=("DST", "IDX", "STA", "RNG", "LOS"),
    data=_data,
    measure=reading.measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.72, 0.87),  # seeds 0-9: 0.769 to 0.815, standard deviation 0.014
    steps=240,
    small={"steps": 8, "batch": 5, "hidden": 16},
    exports=("reduce_scatter", "all_gather", "all_reduce", "shard", "learning_rate"),
    cpu_seconds=0.7,
)
