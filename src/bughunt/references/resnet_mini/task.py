"""The judge's side of `resnet-mini`: glyphs sorted by class, log-probabilities scored on others."""

from bughunt.references.data.reading import data, measure
from bughunt.task import Task

TASK = Task(
    slug="resnet-mini",
    title="Residual CNN",
    kind="classifier",
    topics=("S3", "S18", "S23", "S26", "S40", "S67"),
    categories=("SHP", "NRM", "INI", "GRD", "API", "LOS"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.93, 0.98),  # seeds 0-9: 0.947 to 0.962, standard deviation 0.004
    steps=200,
    small={"steps": 6, "batch": 16, "channels": (6, 10)},
    exports=("batches", "convolve", "learning_rate", "Conv", "BatchNorm", "Block"),
    cpu_seconds=3.4,
)
