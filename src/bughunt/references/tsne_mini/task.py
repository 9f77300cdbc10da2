"""The judge's side of `tsne-mini`: nine rods in 12 dimensions of unlike density that overlap a little."""

import numpy as np
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task, Value

Array = NDArray[np.float64]

POINTS, FEATURES, GROUPS = 180, 12, 9
PERPLEXITY = 15.0


def _data(seed: int) -> Data:
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(GROUPS, size=POINTS))
    centres = 0.9 * rng.normal(size=(GROUPS, FEATURES))
    along = rng.normal(size=(GROUPS, FEATURES)) * 1.2
    spreads = np.linspace(0.4, 1.0, GROUPS)
    place = rng.uniform(-1, 1, size=(POINTS, 1))
    noise = spreads[labels, None] * rng.normal(size=(POINTS, FEATURES))
    points = centres[labels] + place * along[labels] + noise
    return Data(train=points, held_out={"joint": target(points), "labels": labels})


def _gaps(points: Array) -> Array:
    return np.asarray(((points[:, None] - points[None]) ** 2).sum(axis=2))


def _widths(gaps: Array) -> Array:
    """For each point the precision that gives the perplexity, all by bisection at once."""
    low, high = np.full(len(gaps), 1e-6), np.full(len(gaps), 1e4)
    for _ in range(60):
        middle = np.sqrt(low * high)
        rows = _rows(gaps, middle)
        entropy = -(rows * np.log(np.maximum(rows, 1e-300))).sum(axis=1)
        wide = entropy > np.log(PERPLEXITY)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.sqrt(low * high)


def _rows(gaps: Array, precision: Array) -> Array:
    beyond = np.maximum(gaps - np.sort(gaps, axis=1)[:, 1:2], 0)  # the diagonal, which is set to zero
    weights = np.exp(-precision[:, None] * beyond)
    np.fill_diagonal(weights, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def target(points: Array) -> Array:
    """The joint chances of pairs of points to be neighbours."""
    gaps = _gaps(points)
    rows = _rows(gaps, _widths(gaps))
    return (rows + rows.T) / (2 * len(points))


def lost(joint: Array, place: Array) -> float:
    """The divergence of the chances on a map from those among the points, in nats."""
    weights = 1 / (1 + _gaps(place))
    np.fill_diagonal(weights, 0)
    chances = np.maximum(weights / weights.sum(), 1e-300)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / chances[some])).sum())


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The divergence, and how often the nearest point on the map is of the same group."""
    place = np.asarray(program.predict(model, np.arange(POINTS)))
    gaps = _gaps(place)
    np.fill_diagonal(gaps, np.inf)
    same = held_out["labels"][gaps.argmin(axis=1)] == held_out["labels"]
    return Measurement(curve=lost(held_out["joint"], place), metric=float(same.mean()))


TASK = Task(
    slug="tsne-mini",
    title="t-SNE",
    kind="reduction",
    topics=("S10", "S39", "S56"),
    categories=("NUM", "GRD", "ALG", "IDX"),
    data=_data,
    measure=_measure,
    curve_name="divergence of the map",
    metric_name="nearest of the same group",
    metric_higher_is_better=True,
    band=(0.82, 0.99),  # seeds 0-9: 0.878 to 0.950, standard deviation 0.023
    steps=240,
    small={"steps": 8},
    probes=20,
    rng="numpy",
    exports=(
        "squared_distances",
        "row_chances",
        "entropy",
        "find_precision",
        "affinities",
        "divergence",
        "gradient",
        "adapt",
        "trustworthiness",
    ),
    cpu_seconds=0.5,
)
