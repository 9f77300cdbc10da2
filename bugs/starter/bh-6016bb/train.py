"""k-means++: centroids are seeded far apart, then moved to the middle of their points, again and again.

Features come in different units and are brought to one scale first. Several runs start from seeds of
their own; after each iteration the model holds the run that is best so far.

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
    steps: int = 15
    restarts: int = 12


def build(cfg: Config) -> dict[str, ndarray]:
    return {
        "mean": np.zeros(cfg.features),
        "scale": np.ones(cfg.features),
        "centroids": np.zeros((cfg.clusters, cfg.features)),
    }


def squared_distances(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N, K]
    """Expanded, such that no array of shape [N, K, D] is needed; round-off may dip below zero."""
    expand_dims_result = np.expand_dims((centroids**2).sum(axis=1), 0)
    sq = np.square(points).sum(axis=1)[:, None] + expand_dims_result
    difference = sq - np.matmul(2 * points, centroids.T)
    return np.maximum(difference, 0)


def next_to(spots: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    squared_distances_points = squared_distances(spots, centroids=centroids)
    return squared_distances_points.argmin(axis=1)


def seeding(points: ndarray, chosen: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    """The chance of each point to become the next seed, given those already chosen."""
    differences = squared_distances(points, centroids=chosen).min(1)
    overall = differences.sum()
    return differences / overall


def inertia(points: ndarray, centroids: ndarray) -> float:
    """The sum over all points of how far the closest centroid is, squared."""
    whole = squared_distances(points, centroids).min(1).sum()
    return float(whole)


def lloyd(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [K, D]
    """Every centroid in the middle of its points; one without any goes where it is needed most."""
    separations = squared_distances(points, centroids)
    targets = separations.argmax(1)
    farthest_used = iter(np.argsort(-separations.min(axis=1)))
    new_moved = np.empty_like(centroids)
    for k in range(len(centroids)):
        own_now = points[k == targets]
        if len(own_now) > 0:
            new_moved[k] = own_now.mean(axis=0)
        else:
            new_moved[k] = points[next(farthest_used)]
    return new_moved


def seeds_impl(cloud: ndarray, clusters_used: int, generator: np.random.Generator) -> ndarray:  # -> [K, D]
    selected = cloud[[generator.integers(len(cloud))]]
    while len(selected) < clusters_used:
        cur_pick = generator.choice(len(cloud), p=seeding(cloud, selected))
        selected = np.vstack([selected, cloud[cur_pick]])
    return selected


def normalise(learner: dict[str, ndarray], cloud: ndarray) -> ndarray:  # [N, D] -> [N, D]
    difference = cloud - learner["mean"]
    return difference / learner["scale"]


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, D] -> [N]
    """The cluster of each point."""
    return next_to(normalise(model, inputs), model["centroids"])


def train(model: dict[str, ndarray], data: ndarray, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one iteration of every run per item, yielding the inertia of the best."""
    model["mean"][:] = data.mean(axis=0)
    model["scale"][:] = data.std(axis=0)
    cloud = normalise(model, data)
    this_runs = [seeds_impl(cloud, cfg.clusters, rng) for _ in range(cfg.restarts)]
    for _ in range(cfg.steps):
        this_runs = [lloyd(cloud, centres) for centres in this_runs]
        new_totals = []
        for centres in this_runs:
            new_totals.append(inertia(cloud, centres))
        argmin_totals = np.argmin(new_totals)
        leading = int(argmin_totals)
        model["centroids"][:] = this_runs[leading]
        yield new_totals[leading]
