"""Groups of points around centres, one of which loses all of its points.

Shapes: N points, K centres, D features.
"""

import numpy as np
from numpy import ndarray


def seeds(points: ndarray, count: int, rng: np.random.Generator) -> ndarray:  # -> [K, D]
    """Each seed is drawn by its squared distance to those before it."""
    chosen = points[:1]
    while len(chosen) < count:
        gaps = ((points[:, None] - chosen) ** 2).sum(axis=2).min(axis=1)
        chosen = np.vstack([chosen, points[rng.choice(len(points), p=gaps / gaps.sum())]])
    return chosen


def nearest(points: ndarray, centres: ndarray) -> ndarray:  # -> [N]
    distances = ((points[:, None] - centres) ** 2).sum(axis=2)
    return distances.argmin(axis=1)


def moved(points: ndarray, labels: ndarray, centres: ndarray) -> ndarray:  # -> [K, D]
    """The mean of each group; one without points goes to the point that is farthest from its centre."""
    far = points[((points - centres[labels]) ** 2).sum(axis=1).argmax()]
    kept = []
    for group in range(len(centres)):
        own = points[labels == group]
        kept.append(own.mean(axis=0) if len(own) > 0 else far)
    return np.stack(kept)


def fingerprint() -> list[float]:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(20, 2)) + rng.choice([-4, 4], size=(20, 1))
    path = [seeds(points, 3, rng) for _ in range(4)]
    centres = np.vstack([path[-1], [[90.0, 90.0]]])
    for _ in range(3):
        centres = moved(points, nearest(points, centres), centres)
        path.append(centres)
    return np.vstack(path).ravel().tolist()
