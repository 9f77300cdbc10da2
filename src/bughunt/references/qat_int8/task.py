"""The judge's side of `qat-int8`: glyphs sorted by class, log-probabilities scored on others."""

from bughunt.references.data.reading import data, measure
from bughunt.task import Task

TASK = Task(
    slug="qat-int8",
    title="Quantisation-aware training",
    kind="classifier",
    topics=("S35", "S59", "S70", "S73"),
    categories=("GRD", "NUM", "SHP", "STA", "API"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.73, 0.9),  # seeds 0-9: 0.784 to 0.852, standard deviation 0.017
    steps=360,
    small={"steps": 8, "float_steps": 3, "batch": 16},
    exports=("grid", "weight_scale", "quantise", "on_grid", "Coarse", "learning_rate", "batches"),
    cpu_seconds=0.6,
)
