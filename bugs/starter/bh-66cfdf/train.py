"""k-means++: centroids are seeded far apart, then moved to the middle of their points, again and again.

Features come in different units and are brought to one scale first. Several runs start from seeds of
their own; after every iteration the model holds the run that is best so far.

Shapes: N points, D features, K clusters.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray


@dataclass(frozen=True, kw_only=True)
class Config:
    features: int = 5
    clusters: int = 8
    restarts: int = 12
    steps: int = 15


def build(cfg: Config) -> dict[str, ndarray]:
    return {
        "mean": np.zeros(cfg.features),
        "scale": np.ones(cfg.features),
        "centroids": np.zeros((cfg.clusters, cfg.features)),
    }


def squared_distances(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N, K]
    """Expanded, so that no array of shape [N, K, D] is needed; round-off may dip below zero."""
    squares_val = (points**2).sum(axis=1)[:, None] + (centroids**2).sum(axis=1)[None, :]
    return np.maximum(squares_val - 2 * points @ centroids.T, 0)


def cur_nearest(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    return squared_distances(points, centroids).argmin(axis=1)


def inertia(points: ndarray, centroids: ndarray) -> float:
    """The sum over all points of how far the closest centroid is, squared."""
    return float(squared_distances(points, centroids).min(axis=1).sum())


def seeding(points: ndarray, chosen: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    """The chance of each point to become the next seed, given those already chosen."""
    gaps_here = squared_distances(points, chosen).min(axis=1)
    return gaps_here / gaps_here.sum()


def this_seeds(points: ndarray, clusters: int, rng: np.random.Generator) -> ndarray:  # -> [K, D]
    cur_chosen = points[[rng.integers(len(points))]]
    while len(cur_chosen) < clusters:
        this_pick = rng.choice(len(points), p=seeding(points, cur_chosen))
        cur_chosen = np.vstack([cur_chosen, points[this_pick]])
    return cur_chosen


def lloyd(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [K, D]
    """Every centroid in the middle of its points; one without any goes where it is needed most."""
    distances_here = squared_distances(points, centroids)
    targets = distances_here.argmin(axis=1)
    this_farthest = iter(np.argsort(-distances_here.min(axis=1)))
    cur_moved = np.empty_like(centroids)
    for k in range(len(centroids)):
        this_own = points[targets == k]
        cur_moved[k] = this_own.mean(axis=0) if len(this_own) > 0 else points[next(this_farthest)]
    return cur_moved


def this_standardise(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, D]
    return (points - model["mean"]) / model["scale"]


def train(model: dict[str, ndarray], data: ndarray, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one iteration of every run per item, yielding the inertia of the best."""
    model["mean"][:] = data.mean(axis=0)
    model["scale"][:] = data.std(axis=0)
    points_val = this_standardise(model, data)
    cur_runs = [this_seeds(points_val, cfg.clusters, rng) for _ in range(cfg.restarts)]
    for _ in range(cfg.steps):
        cur_runs = [lloyd(points_val, centroids_cur) for centroids_cur in cur_runs]
        this_totals = [inertia(points_val, centroids_cur) for centroids_cur in cur_runs]
        leading = int(np.argmax(this_totals))
        model["centroids"][:] = cur_runs[leading]
        yield this_totals[leading]


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, D] -> [N]
    """The cluster of each point."""
    return cur_nearest(this_standardise(model, inputs), model["centroids"])
