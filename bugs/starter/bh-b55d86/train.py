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
    squares_here = (points**2).sum(axis=1)[:, None] + (centroids**2).sum(axis=1)[None, :]
    return np.maximum(squares_here - 2 * points @ centroids.T, 0)


def nearest_cur(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    return squared_distances(points, centroids).argmin(axis=1)


def inertia(points: ndarray, centroids: ndarray) -> float:
    """The sum over all points of how far the closest centroid is, squared."""
    return float(squared_distances(points, centroids).min(axis=1).sum())


def seeding(points: ndarray, chosen: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    """The chance of each point to become the next seed, given those already chosen."""
    gaps_val = squared_distances(points, chosen).min(axis=1)
    return gaps_val / gaps_val.sum()


def seeds_here(points: ndarray, clusters: int, rng: np.random.Generator) -> ndarray:  # -> [K, D]
    chosen_val = points[[rng.integers(len(points))]]
    while len(chosen_val) < clusters:
        pick_val = rng.choice(len(points), p=seeding(points, chosen_val))
        chosen_val = np.vstack([chosen_val, points[pick_val]])
    return chosen_val


def lloyd(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [K, D]
    """Every centroid in the middle of its points; one without any goes where it is needed most."""
    distances_here = squared_distances(points, centroids)
    targets = distances_here.argmax(axis=1)
    farthest_cur = iter(np.argsort(-distances_here.min(axis=1)))
    moved_val = np.empty_like(centroids)
    for k in range(len(centroids)):
        own_cur = points[targets == k]
        moved_val[k] = own_cur.mean(axis=0) if len(own_cur) > 0 else points[next(farthest_cur)]
    return moved_val


def cur_standardise(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, D]
    return (points - model["mean"]) / model["scale"]


def train(model: dict[str, ndarray], data: ndarray, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one iteration of every run per item, yielding the inertia of the best."""
    model["mean"][:] = data.mean(axis=0)
    model["scale"][:] = data.std(axis=0)
    points_here = cur_standardise(model, data)
    runs_val = [seeds_here(points_here, cfg.clusters, rng) for _ in range(cfg.restarts)]
    for _ in range(cfg.steps):
        runs_val = [lloyd(points_here, centroids_val) for centroids_val in runs_val]
        totals_here = [inertia(points_here, centroids_val) for centroids_val in runs_val]
        leading = int(np.argmin(totals_here))
        model["centroids"][:] = runs_val[leading]
        yield totals_here[leading]


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, D] -> [N]
    """The cluster of each point."""
    return nearest_cur(cur_standardise(model, inputs), model["centroids"])
