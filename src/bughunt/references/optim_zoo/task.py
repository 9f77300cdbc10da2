"""The judge's side of `optim-zoo`: glyphs sorted by class, log-probabilities scored on others."""

from bughunt.references.data.reading import data, measure
from bughunt.task import Task

TASK = Task(
    slug="optim-zoo",
    title="Optimiser zoo",
    kind="optimiser",
    topics=("S1", "S9", "S66", "S75"),
    categories=("OPT", "STA", "NUM", "GRD", "API"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.75, 0.85),  # seeds 0-9, all optimisers: 0.772 to 0.826
    steps=300,
    configurations={
        "default": {},  # AdamW
        "adam": {"optimizer": "adam", "weight_decay": 0.0, "peak_lr": 0.01},
        "rmsprop": {"optimizer": "rmsprop", "weight_decay": 0.0, "peak_lr": 0.005},
        "nesterov": {"optimizer": "nesterov", "weight_decay": 0.0, "peak_lr": 0.1},
        "momentum": {"optimizer": "momentum", "weight_decay": 0.0, "peak_lr": 0.1},
        "sgd": {"optimizer": "sgd", "weight_decay": 0.0, "peak_lr": 0.7},
    },
    small={"steps": 12, "batch": 16, "features": 16},
    exports=("replay", "learning_rate", "clip_gradients", "batches"),
    cpu_seconds=0.2,
)
