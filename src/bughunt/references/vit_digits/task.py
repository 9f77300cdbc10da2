"""The judge's side of `vit-digits`: glyphs sorted by class, log-probabilities scored on others."""

from bughunt.references.data.reading import data, measure
from bughunt.task import Task

TASK = Task(
    slug="vit-digits",
    title="Vision transformer",
    kind="classifier",
    topics=("S13", "S24", "S26", "S40"),
    categories=("SHP", "IDX", "LOS", "NRM", "INI", "DAT"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.65, 0.93),  # seeds 0-11: 0.725 to 0.860, standard deviation 0.048
    steps=280,
    small={"steps": 8, "batch": 16, "warmup": 2},
    probes=14,
    exports=("Attention", "attend", "batches", "learning_rate", "loss", "patchify", "prepare"),
    cpu_seconds=3.7,
)
