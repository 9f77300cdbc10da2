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
    restarts: int = 12
    features: int = 5
    steps: int = 15
    clusters: int = 8


def next_to(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    return squared_distances(points, centroids=centroids).argmin(axis=1)


def build(cfg: Config) -> dict[str, ndarray]:
    return {
        "mean": np.zeros(cfg.features),
        "scale": np.ones(cfg.features),
        "centroids": np.zeros((cfg.clusters, cfg.features)),
    }


def squared_distances(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [N, K]
    """Expanded, so that no array of shape [N, K, D] is needed; round-off may dip below zero."""
    expand_dims_result = np.expand_dims((points**2).sum(axis=1), 1)
    sq = expand_dims_result + np.expand_dims((centroids**2).sum(axis=1), 0)
    return np.maximum(sq - np.matmul(2 * points, centroids.T), 0)


def seeding(points: ndarray, chosen: ndarray) -> ndarray:  # [N, D], [K, D] -> [N]
    """The chance of each point to become the next seed, given those already chosen."""
    differences = squared_distances(points, chosen).min(1)
    return differences**0.5 / (differences**0.5).sum()


def _seeds_impl(points: ndarray, clusters_now: int, generator: np.random.Generator) -> ndarray:  # -> [K, D]
    selected = points[[generator.integers(len(points))]]
    while len(selected) < clusters_now:
        pick_used = generator.choice(len(points), p=seeding(points, chosen=selected))
        selected = np.vstack([selected, points[pick_used]])
    return selected


def inertia(points: ndarray, centroids: ndarray) -> float:
    """The sum over all points of how far the closest centroid is, squared."""
    whole = squared_distances(points, centroids).min(1).sum()
    return float(whole)


def lloyd(points: ndarray, centroids: ndarray) -> ndarray:  # [N, D], [K, D] -> [K, D]
    """Every centroid in the middle of its points; one without any goes where it is needed most."""
    separations = squared_distances(points, centroids)
    answers = separations.argmin(axis=1)
    this_farthest = iter(np.argsort(-separations.min(1)))
    moved_now = np.empty_like(centroids)
    for k in range(len(centroids)):
        new_own = points[answers == k]
        if len(new_own) > 0:
            moved_now[k] = new_own.mean(0)
        else:
            moved_now[k] = points[next(this_farthest)]
    return moved_now


def train(model: dict[str, ndarray], data: ndarray, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one iteration of each run per item, yielding the inertia of the best."""
    model["mean"][:] = data.mean(0)
    model["scale"][:] = data.std(0)
    spots = normalise(model, points=data)
    this_runs = [_seeds_impl(spots, cfg.clusters, rng) for _ in range(cfg.restarts)]
    for _ in range(cfg.steps):
        this_runs = [lloyd(spots, centroids=centres) for centres in this_runs]
        this_totals = [inertia(spots, centroids=centres) for centres in this_runs]
        argmin_totals = np.argmin(this_totals)
        top = int(argmin_totals)
        model["centroids"][:] = this_runs[top]
        yield this_totals[top]


def normalise(learner: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, D]
    difference = points - learner["mean"]
    return difference / learner["scale"]


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, D] -> [N]
    """The cluster of each point."""
    return next_to(normalise(model, points=inputs), centroids=model["centroids"])
