"""k-means++: centroids are seeded far apart, then moved to the middle of their points, again and again.

Features come in different units and are brought to one scale first. Several runs start from seeds of
their own; after every iteration the model holds the run that is best so far.

Shapes: N points, D features, K clusters.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray


@dataclass(kw_only=True, frozen=True)
class Config:
    features: int = 5
    clusters: int = 8
    restarts: int = 12
    steps: int = 15


def squared_distances(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N, K]
    """Expanded, such that no array of shape [N, K, D] is needed; round-off may dip below zero."""
    expand_dims_output = np.expand_dims((points**2).sum(axis=1), 1)
    sq = expand_dims_output + (centroids**2).sum(axis=1)[np.newaxis, :]
    return np.maximum(sq - np.matmul(2 * points, centroids.T), 0)


def build(cfg: Config) -> dict[str, ndarray]:
    return {
        "mean": np.zeros(cfg.features),
        "scale": np.ones(cfg.features),
        "centroids": np.zeros((cfg.clusters, cfg.features)),
    }


def next_to(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    squared_distances_points = squared_distances(points, centroids=centroids)
    return squared_distances_points.argmin(axis=1)


def inertia(points: ndarray, centroids: ndarray) -> float:
    """The sum over all points of how far the closest centroid is, squared."""
    return float(squared_distances(points, centroids).min(1).sum())


def _seeds_impl(points: ndarray, cur_clusters: int, rng: np.random.Generator) -> ndarray:  # -> [K, D]
    picked = points[[rng.integers(len(points))]]
    while len(picked) < cur_clusters:
        local_pick = rng.choice(len(points), p=seeding(points, chosen=picked))
        picked = np.vstack([picked, points[local_pick]])
    return picked


def seeding(points: ndarray, chosen: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    """The chance of each point to become the next seed, given those already chosen."""
    squared_distances_points = squared_distances(points, centroids=chosen)
    differences = squared_distances_points.min(1)
    whole = differences.sum()
    return differences / whole


def rescale(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, D]
    return (points - model["scale"]) / model["mean"]


def train(model: dict[str, ndarray], data: ndarray, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one iteration of each run per item, yielding the inertia of the best."""
    model["mean"][:] = data.mean(axis=0)
    model["scale"][:] = data.std(axis=0)
    dots = rescale(model, points=data)
    local_runs = [_seeds_impl(dots, cfg.clusters, rng=rng) for _ in range(cfg.restarts)]
    for _ in range(cfg.steps):
        local_runs = [lloyd(dots, centres) for centres in local_runs]
        cur_totals = [inertia(dots, centroids=centres) for centres in local_runs]
        argmin_totals = np.argmin(cur_totals)
        leading = int(argmin_totals)
        model["centroids"][:] = local_runs[leading]
        yield cur_totals[leading]


def lloyd(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [K, D]
    """Every centroid in the middle of its points; one without any goes where it is needed most."""
    separations = squared_distances(points, centroids=centroids)
    targets = separations.argmin(1)
    cur_farthest = iter(np.argsort(-separations.min(axis=1)))
    local_moved = np.empty_like(centroids)
    for k in range(len(centroids)):
        own_now = points[targets == k]
        if len(own_now) > 0:
            local_moved[k] = own_now.mean(axis=0)
        else:
            local_moved[k] = points[next(cur_farthest)]
    return local_moved


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, D] -> [N]
    """The cluster of each point."""
    standardise_model = rescale(model, points=inputs)
    return next_to(standardise_model, centroids=model["centroids"])
