"""The judge's side of `random-forest`: three classes told by steps and products, in rows sorted by class."""

import numpy as np
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task, Value

Array = NDArray[np.float64]

FEATURES, CLASSES = 7, 3
TRAINED, HELD_OUT = 600, 2000
UNITS = np.array([1.0, 50.0, 0.1, 3.0, 1.0, 200.0, 1.0])
SHARPNESS = 3.0


def true_chances(columns: Array) -> Array:
    """Of the classes, by the columns at unit scale; the last two columns have no say."""
    a, b, c, d, e = columns[:, :5].T
    first, second = a + 0.8 * (b > 0.5), 1.2 * np.sign(b * c) + 0.3 * e
    scores = np.stack([first, second, 0.9 * np.abs(d) - 0.6 * e], axis=1)
    powers = np.exp(SHARPNESS * scores)
    return powers / powers.sum(axis=1, keepdims=True)


def table(count: int, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Rows [count, FEATURES] and classes; the fifth column takes few values."""
    columns = rng.normal(size=(count, FEATURES))
    columns[:, 4] = rng.integers(-1, 3, size=count)
    edges = true_chances(columns).cumsum(axis=1)
    labels = (rng.random((count, 1)) > edges[:, :-1]).sum(axis=1).astype(np.int64)
    order = np.argsort(labels, kind="stable")
    return {"rows": columns[order] * UNITS, "labels": labels[order]}


def _data(seed: int) -> Data:
    rng = np.random.default_rng(seed)
    return Data(train=table(TRAINED, rng), held_out=table(HELD_OUT, rng))


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The mean squared distance of the chances from the truth on unseen rows, and the accuracy."""
    chances = np.asarray(program.predict(model, held_out["rows"]))
    labels = held_out["labels"]
    brier = ((chances - np.eye(CLASSES)[labels]) ** 2).sum(axis=1).mean()
    return Measurement(curve=float(brier), metric=float((chances.argmax(axis=1) == labels).mean()))


TASK = Task(
    slug="random-forest",
    title="Random forest",
    kind="ensemble",
    topics=("S6", "S8", "S11", "S39", "S66"),
    categories=("ALG", "IDX", "RNG", "EVL", "DAT"),
    data=_data,
    measure=_measure,
    curve_name="held-out Brier score",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.6, 0.76),  # seeds 0-9: 0.638 to 0.713
    steps=20,
    small={"steps": 4},
    probes=20,
    floor=0.18,  # the true chances reach 0.21 to 0.24
    rng="numpy",
    exports=(
        "gini",
        "best_split",
        "grow",
        "apply_tree",
        "importance",
        "permutation_importance",
        "out_of_bag_error",
    ),
    cpu_seconds=0.4,
)
