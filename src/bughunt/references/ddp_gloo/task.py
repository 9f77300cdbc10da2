"""The judge's side of `ddp-gloo`: glyphs sorted by class, log-probabilities scored on others."""

from bughunt.references.data import reading
from bughunt.references.data.glyphs import glyphs
from bughunt.task import Data, Task

ROWS = 1471  # odd, so that two ranks do not share them evenly


def _data(seed: int) -> Data:
    held_out = reading.data(seed).held_out
    return Data(train=glyphs(ROWS, 2 * seed, ordered=True), held_out=held_out)


TASK = Task(
    slug="ddp-gloo",
    title="Data parallel with torch.distributed",
    kind="system",
    topics=("S33",),
    categories=("DST", "RNG", "STA", "API", "SYS"),
    data=_data,
    measure=reading.measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.71, 0.86),  # seeds 0-9: 0.756 to 0.806, standard deviation 0.014
    steps=220,
    configurations={"default": {}, "hooks": {"averaging": "hooks"}},
    small={"steps": 8, "batch": 5, "hidden": 16, "warmup": 3, "bucket": 200},
    exports=("sum_of_all", "shard", "learning_rate"),
    cpu_seconds=1.1,
)
