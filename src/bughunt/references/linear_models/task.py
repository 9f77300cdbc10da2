"""The judge's side of `linear-models`: five normal clouds of one shape, whose best reader is linear.

Rows come sorted by class, the classes are of unlike size, and the features are in unlike units.
"""

import numpy as np
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task, Value

Array = NDArray[np.float64]

CLASSES, FEATURES = 5, 6
TRAINED, HELD_OUT = 700, 2000
UNITS = np.array([1.0, 40.0, 0.3, 6.0, 0.02, 15.0])
ORIGIN = np.array([3.0, -2.0, 1.0, 8.0, -5.0, 0.5]) * UNITS
SHARES = np.array([0.34, 0.26, 0.19, 0.13, 0.08])
_fixed = np.random.default_rng(20)
CENTRES: Array = 0.9 * _fixed.normal(size=(CLASSES, FEATURES))
MIXING: Array = np.eye(FEATURES) + 0.35 * _fixed.normal(size=(FEATURES, FEATURES))


def rows(count: int, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Points [count, FEATURES] and their classes, sorted by class."""
    labels = np.sort(rng.choice(CLASSES, size=count, p=SHARES))
    points = CENTRES[labels] + rng.normal(size=(count, FEATURES)) @ MIXING
    return {"points": points * UNITS + ORIGIN, "labels": labels.astype(np.int64)}


def best(points: Array) -> Array:
    """The log-probabilities of the classes under the law that the points are drawn from."""
    whitened = ((points - ORIGIN) / UNITS) @ np.linalg.inv(MIXING)
    centres = CENTRES @ np.linalg.inv(MIXING)
    gaps = ((whitened[:, None] - centres) ** 2).sum(axis=2)
    scores = np.log(SHARES) - 0.5 * gaps
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def _data(seed: int) -> Data:
    rng = np.random.default_rng(seed)
    return Data(train=rows(TRAINED, rng), held_out=rows(HELD_OUT, rng))


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The mean negative log-likelihood of unseen rows in nats, and the accuracy."""
    answers = np.asarray(program.predict(model, held_out["points"]))
    labels = held_out["labels"]
    loss = -answers[np.arange(len(labels)), labels].mean()
    return Measurement(curve=float(loss), metric=float((answers.argmax(axis=1) == labels).mean()))


TASK = Task(
    slug="linear-models",
    title="Linear and softmax regression",
    kind="classifier",
    topics=("S1", "S39", "S66"),
    categories=("LOS", "GRD", "DAT", "NUM", "NRM", "SHP"),
    data=_data,
    measure=_measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.79, 0.88),  # seeds 0-9: 0.823 to 0.855
    steps=300,
    small={"steps": 9},
    floor=0.27,  # the best reader reaches 0.30 to 0.35
    rng="numpy",
    exports=(
        "ridge",
        "ridge_descent",
        "logistic",
        "log_softmax",
        "objective",
        "gradients",
    ),
    cpu_seconds=0.1,
)
