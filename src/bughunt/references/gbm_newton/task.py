"""The judge's side of `gbm-newton`: a table whose odds follow steps, products and waves, sorted by label."""

import numpy as np
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task, Value

Array = NDArray[np.float64]

FEATURES = 6
TRAINED, HELD_OUT = 1300, 2000
UNITS = np.array([1.0, 50.0, 0.1, 3.0, 1.0, 200.0])


def log_odds(columns: Array) -> Array:
    """Of label 1, by the columns at unit scale; the last column has no say."""
    step = 2.2 * (columns[:, 0] > 0.3)
    product = np.where(columns[:, 1] * columns[:, 2] > 0, -2.4, 0.9)
    wave = 1.6 * np.sin(2 * columns[:, 3])
    return -2.3 + step + product + wave + 0.6 * columns[:, 4]


def table(count: int, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Rows [count, FEATURES], labels of 0 and 1, and the odds; one column takes few values."""
    columns = rng.normal(size=(count, FEATURES))
    columns[:, 4] = rng.integers(-1, 3, size=count)
    odds = log_odds(columns)
    labels = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    order = np.argsort(labels, kind="stable")
    return {"rows": columns[order] * UNITS, "labels": labels[order], "odds": odds[order]}


def _data(seed: int) -> Data:
    rng = np.random.default_rng(seed)
    train = table(TRAINED, rng)
    del train["odds"]
    return Data(train=train, held_out=table(HELD_OUT, rng))


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The mean negative log-likelihood of unseen rows in nats, and the accuracy."""
    chance = np.asarray(program.predict(model, held_out["rows"]))
    labels = held_out["labels"]
    granted = np.where(labels == 1, chance, 1 - chance)
    loss = -np.log(np.maximum(granted, 1e-12)).mean()
    return Measurement(curve=float(loss), metric=float(((chance > 0.5) == labels).mean()))


TASK = Task(
    slug="gbm-newton",
    title="Gradient boosting",
    kind="ensemble",
    topics=("S8", "S11", "S39", "S58"),
    categories=("LOS", "ALG", "NUM", "OPT", "EVL"),
    data=_data,
    measure=_measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.78, 0.84),  # seeds 0-9: 0.800 to 0.821
    steps=60,
    small={"steps": 5},
    probes=20,
    floor=0.3,  # the true odds reach 0.33 to 0.38
    rng="numpy",
    exports=(
        "sigmoid",
        "log_loss",
        "slopes",
        "leaf_value",
        "best_split",
        "grow",
        "apply_tree",
        "scores",
        "importance",
    ),
    cpu_seconds=0.3,
)
