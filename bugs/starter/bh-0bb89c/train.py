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
    cur_squares = (points**2).sum(axis=1)[:, None] + (centroids**2).sum(axis=1)[None, :]
    return np.maximum(cur_squares - 2 * points @ centroids.T, 0)


def nearest_val(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    return squared_distances(points, centroids).argmin(axis=1)


def inertia(points: ndarray, centroids: ndarray) -> float:
    """The sum over all points of how far the closest centroid is, squared."""
    return float(squared_distances(points, centroids).min(axis=1).sum())


def seeding(points: ndarray, chosen: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    """The chance of each point to become the next seed, given those already chosen."""
    gaps_val = squared_distances(points, chosen).min(axis=1)
    return gaps_val**0.5 / (gaps_val**0.5).sum()


def this_seeds(points: ndarray, clusters: int, rng: np.random.Generator) -> ndarray:  # -> [K, D]
    chosen_val = points[[rng.integers(len(points))]]
    while len(chosen_val) < clusters:
        this_pick = rng.choice(len(points), p=seeding(points, chosen_val))
        chosen_val = np.vstack([chosen_val, points[this_pick]])
    return chosen_val


def lloyd(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [K, D]
    """Every centroid in the middle of its points; one without any goes where it is needed most."""
    distances_cur = squared_distances(points, centroids)
    answers = distances_cur.argmin(axis=1)
    farthest_here = iter(np.argsort(-distances_cur.min(axis=1)))
    cur_moved = np.empty_like(centroids)
    for k in range(len(centroids)):
        own_val = points[answers == k]
        cur_moved[k] = own_val.mean(axis=0) if len(own_val) > 0 else points[next(farthest_here)]
    return cur_moved


def standardise_cur(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, D]
    return (points - model["mean"]) / model["scale"]


def train(model: dict[str, ndarray], data: ndarray, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one iteration of every run per item, yielding the inertia of the best."""
    model["mean"][:] = data.mean(axis=0)
    model["scale"][:] = data.std(axis=0)
    points_here = standardise_cur(model, data)
    this_runs = [this_seeds(points_here, cfg.clusters, rng) for _ in range(cfg.restarts)]
    for _ in range(cfg.steps):
        this_runs = [lloyd(points_here, centroids_here) for centroids_here in this_runs]
        this_totals = [inertia(points_here, centroids_here) for centroids_here in this_runs]
        top = int(np.argmin(this_totals))
        model["centroids"][:] = this_runs[top]
        yield this_totals[top]


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, D] -> [N]
    """The cluster of each point."""
    return nearest_val(standardise_cur(model, inputs), model["centroids"])
