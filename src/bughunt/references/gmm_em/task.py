"""The judge's side of `gmm-em`: four stretched, overlapping clouds whose true law is known."""

import numpy as np
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task, Value

Array = NDArray[np.float64]

FEATURES, COMPONENTS = 3, 4
TRAINED, HELD_OUT = 700, 2000
WEIGHTS = np.array([0.4, 0.28, 0.2, 0.12])
MARGIN = 0.05  # nats added to the excess, so that the curve stays above zero
UNITS = np.array([1.0, 5.0, 0.4])


def _law(rng: np.random.Generator) -> tuple[Array, Array]:
    """Means at the corners of a tilted tetrahedron, and factors of covariances."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.95
    tilt, _ = np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))
    factors = 0.7 * (np.eye(FEATURES) + 0.3 * rng.normal(size=(COMPONENTS, FEATURES, FEATURES)))
    return (corners @ tilt + 2.0) * UNITS, UNITS[:, None] * factors


def true_scores(means: Array, factors: Array, points: Array) -> Array:
    """The logarithm of weight times density under the law that the points are drawn from."""
    scores = np.empty((len(points), COMPONENTS))
    for k in range(COMPONENTS):
        white = (points - means[k]) @ np.linalg.inv(factors[k]).T
        volume = np.log(abs(np.linalg.det(factors[k]))) + FEATURES / 2 * np.log(2 * np.pi)
        scores[:, k] = np.log(WEIGHTS[k]) - volume - (white**2).sum(axis=1) / 2
    return scores


def _data(seed: int) -> Data:
    rng = np.random.default_rng(seed)
    means, factors = _law(rng)
    labels = rng.choice(COMPONENTS, size=TRAINED + HELD_OUT, p=WEIGHTS)
    noise = rng.normal(size=(len(labels), FEATURES))
    points = means[labels] + np.einsum("nij,nj->ni", factors[labels], noise)
    scores = true_scores(means, factors, points[TRAINED:])
    held_out = {
        "points": points[TRAINED:],
        "labels": labels[TRAINED:],
        "likelihood": np.logaddexp.reduce(scores, axis=1).mean(),
    }
    return Data(train=points[:TRAINED], held_out=held_out)


def agreement(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """The share of points in the larger part of their group, groups of `one` named by `other`."""
    kept = sum(np.bincount(other[one == group]).max() for group in np.unique(one))
    return float(kept / len(one))


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """Nats a point that the true law is better by, and how well the likeliest component tells the group."""
    scores = np.asarray(program.predict(model, held_out["points"]))
    with np.errstate(invalid="ignore"):
        excess = held_out["likelihood"] - np.logaddexp.reduce(scores, axis=1).mean()
    purity = agreement(scores.argmax(axis=1), held_out["labels"])
    return Measurement(curve=float(MARGIN + excess), metric=purity)


TASK = Task(
    slug="gmm-em",
    title="Mixture of normals",
    kind="clustering",
    topics=("S2", "S39", "S62"),
    categories=("NUM", "ALG", "SHP", "GEN"),
    data=_data,
    measure=_measure,
    curve_name="excess of held-out negative log-likelihood",
    metric_name="purity",
    metric_higher_is_better=True,
    band=(0.85, 0.99),  # seeds 0-9: 0.884 to 0.973
    steps=40,
    small={"steps": 6},
    probes=40,
    floor=MARGIN - 0.02,  # what luck may gain over the true law
    rng="numpy",
    exports=(
        "log_sum_exp",
        "log_normal",
        "expectation",
        "maximisation",
        "seeds",
        "bic",
        "sample",
    ),
    cpu_seconds=0.2,
)
