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
    this_squares = (points**2).sum(axis=1)[:, None] + (centroids**2).sum(axis=1)[None, :]
    return np.maximum(this_squares - 2 * points @ centroids.T, 0)


def nearest_val(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    return squared_distances(points, centroids).argmin(axis=1)


def inertia(points: ndarray, centroids: ndarray) -> float:
    """The sum over all points of how far the closest centroid is, squared."""
    return float(squared_distances(points, centroids).min(axis=1).sum())


def seeding(points: ndarray, chosen: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    """The chance of each point to become the next seed, given those already chosen."""
    gaps_val = squared_distances(points, chosen).min(axis=1)
    return gaps_val / gaps_val.sum()


def this_seeds(points: ndarray, clusters: int, rng: np.random.Generator) -> ndarray:  # -> [K, D]
    chosen_val = points[[rng.integers(len(points))]]
    while len(chosen_val) < clusters:
        pick_cur = rng.choice(len(points), p=seeding(points, chosen_val))
        chosen_val = np.vstack([chosen_val, points[pick_cur]])
    return chosen_val


def lloyd(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [K, D]
    """Every centroid in the middle of its points; one without any goes where it is needed most."""
    this_distances = squared_distances(points, centroids)
    answers = this_distances.argmin(axis=1)
    farthest_val = iter(np.argsort(-this_distances.min(axis=1)))
    moved_val = np.empty_like(centroids)
    for k in range(len(centroids)):
        own_val = points[answers == k]
        moved_val[k] = own_val.mean(axis=0) if len(own_val) > 0 else points[next(farthest_val)]
    return moved_val


def standardise_val(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, D]
    return (points - model["mean"]) / model["scale"]


def train(model: dict[str, ndarray], data: ndarray, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one iteration of every run per item, yielding the inertia of the best."""
    model["mean"][:] = data.mean(axis=0)
    model["scale"][:] = data.std(axis=0)
    cur_points = standardise_val(model, data)
    runs_val = [this_seeds(cur_points, cfg.clusters, rng) for _ in range(cfg.restarts)]
    for _ in range(cfg.steps):
        runs_val = [lloyd(cur_points, cur_centroids) for cur_centroids in runs_val]
        totals_val = [inertia(cur_points, cur_centroids) for cur_centroids in runs_val]
        leading = int(np.argmin(totals_val))
        model["centroids"][:] = runs_val[leading]
        yield totals_val[leading]


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, D] -> [N]
    """The cluster of each point."""
    return nearest_val(inputs, model["centroids"])
