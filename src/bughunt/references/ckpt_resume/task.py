"""The judge's side of `ckpt-resume`: glyphs sorted by class, log-probabilities scored on others."""

from bughunt.references.data import reading
from bughunt.task import Task

TASK = Task(
    slug="ckpt-resume",
    title="Checkpoint and resume",
    kind="classifier",
    topics=("S33", "S59"),
    categories=("STA", "RNG", "OPT", "API", "DAT"),
    data=reading.data,
    measure=reading.measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.73, 0.83),  # seeds 0-9: 0.760 to 0.794, standard deviation 0.009
    steps=300,
    small={"steps": 12, "batch": 20, "hidden": 12, "evaluate_every": 2, "save_every": 4},
    exports=(
        "fingerprint",
        "split",
        "store.Store",
        "store.save",
        "store.load",
        "snapshot.capture",
        "progress.Plateau",
        "progress.Sampler",
    ),
    cpu_seconds=0.7,
)
