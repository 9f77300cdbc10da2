"""The judge's side of `kmeans-pp`: clusters of unlike sizes and spreads, in unlike units."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

CLUSTERS, FEATURES = 8, 5
TRAINED, HELD_OUT = 900, 600
UNITS = np.array([1.0, 30.0, 0.2, 5.0, 0.01])
SHARES = 0.75 ** np.arange(CLUSTERS)
APART = 6.5


def _centres(rng: np.random.Generator) -> Array:
    """Normal draws of which no two are closer than `APART`."""
    chosen: list[Array] = []
    while len(chosen) < CLUSTERS:
        drawn = rng.normal(0.0, 4.0, FEATURES)
        if all(np.linalg.norm(drawn - other) > APART for other in chosen):
            chosen.append(drawn)
    return np.stack(chosen)


def _data(seed: int) -> Data:
    rng = np.random.default_rng(seed)
    centres, spreads = _centres(rng), np.linspace(0.7, 0.5, CLUSTERS)
    labels = rng.choice(CLUSTERS, size=TRAINED + HELD_OUT, p=SHARES / SHARES.sum())
    noise = rng.normal(size=(TRAINED + HELD_OUT, FEATURES))
    points = (centres[labels] + spreads[labels, None] * noise) * UNITS + 10 * UNITS
    held_out = {"points": points[TRAINED:], "labels": labels[TRAINED:]}
    return Data(train=points[:TRAINED], held_out=held_out)


def scatter(points: Array, labels: Labels) -> float:
    """The sum of squared distances to the middle of each group, every feature at unit scale."""
    scaled = points / points.std(axis=0)
    groups = [scaled[labels == label] for label in np.unique(labels)]
    return float(sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups))


def adjusted_rand(one: Labels, other: Labels) -> float:
    """Pairs on which two partitions agree, 0 for chance and 1 for the same partition."""
    rows, columns = (np.unique(labels, return_inverse=True)[1] for labels in (one, other))
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    together, first, second = (
        float((counts * (counts - 1) / 2).sum()) for counts in (table, table.sum(axis=1), table.sum(axis=0))
    )
    chance = first * second / (len(one) * (len(one) - 1) / 2)
    best = (first + second) / 2
    return 1.0 if best == chance else (together - chance) / (best - chance)


def _measure(program: Program, model: Model, held_out: dict[str, NDArray[Any]]) -> Measurement:
    points, truth = held_out["points"], held_out["labels"]
    labels = np.asarray(program.predict(model, points))
    ratio = scatter(points, labels) / scatter(points, truth)
    return Measurement(curve=ratio, metric=adjusted_rand(labels, truth))


TASK = Task(
    slug="kmeans-pp",
    title="k-means++",
    kind="clustering",
    topics=("S10", "S16", "S39", "S66", "S71"),
    categories=("ALG", "SHP", "NUM", "RNG", "IDX"),
    data=_data,
    measure=_measure,
    curve_name="held-out scatter",
    metric_name="adjusted Rand index",
    metric_higher_is_better=True,
    band=(0.97, 1.0),  # 1.000 on each of seeds 0-9
    steps=15,
    small={"steps": 6},
    probes=15,
    floor=0.9,
    rng="numpy",
    exports=("squared_distances", "inertia", "seeding", "lloyd"),
    cpu_seconds=0.1,
)
