"""The judge's side of `trainer-loop`: glyphs sorted by class, log-probabilities scored on others."""

from bughunt.references.data.reading import data, measure
from bughunt.task import Task

TASK = Task(
    slug="trainer-loop",
    title="Training loop",
    kind="classifier",
    topics=("S3", "S27", "S57", "S59", "S67", "S79"),
    categories=("DAT", "NRM", "GRD", "OPT", "EVL", "RNG", "STA"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.78, 0.88),  # seeds 0-9: 0.808 to 0.850, standard deviation 0.014
    steps=400,
    may_end_early=True,
    small={"steps": 8, "batch": 16, "features": 24},
    exports=("split", "batches", "evaluate", "update_average", "EarlyStopping"),
    cpu_seconds=0.5,
)
