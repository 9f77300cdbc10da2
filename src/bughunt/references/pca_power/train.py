"""Principal components by power iteration with deflation, and in closed form in two other ways.

A vector that is multiplied by the covariance again and again turns towards the direction of most variance.
What that direction explains is then taken out of the covariance, and the next one is looked for.

Shapes: N points, D features, K components.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

Pca = tuple[ndarray, ndarray, ndarray]  # mean [D], components [K, D], variances [K]


@dataclass(frozen=True, kw_only=True)
class Config:
    features: int = 12
    components: int = 4
    steps: int = 120  # shared out evenly among the components


def build(cfg: Config) -> dict[str, ndarray]:
    return {
        "mean": np.zeros(cfg.features),
        "components": np.zeros((cfg.components, cfg.features)),
        "variances": np.zeros(cfg.components),
    }


def fix_sign(component: ndarray) -> ndarray:  # [D] -> [D]
    """A direction and its opposite are the same; the entry that is farthest from zero becomes positive."""
    return component * np.sign(component[np.abs(component).argmax()])


def covariance(points: ndarray) -> ndarray:  # [N, D] -> [D, D]
    centred = points - points.mean(axis=0)
    return centred.T @ centred / (len(points) - 1)


def power_step(matrix: ndarray, vector: ndarray) -> ndarray:  # [D, D], [D] -> [D]
    turned = matrix @ vector
    return turned / np.linalg.norm(turned)


def deflate(matrix: ndarray, component: ndarray) -> ndarray:  # [D, D], [D] -> [D, D]
    """The covariance without what the component explains of it."""
    variance = component @ matrix @ component
    return matrix - variance * np.outer(component, component)


def by_svd(points: ndarray, count: int) -> Pca:
    """All at once; rows of the last factor are directions, in falling order."""
    mean = points.mean(axis=0)
    _, singular, directions = np.linalg.svd(points - mean, full_matrices=False)
    components = np.stack([fix_sign(direction) for direction in directions[:count]])
    return mean, components, singular[:count] ** 2 / (len(points) - 1)


def by_gram(points: ndarray, count: int) -> Pca:
    """From the products of all pairs of points: cheaper where points are fewer than features."""
    mean = points.mean(axis=0)
    centred = points - mean
    values, vectors = np.linalg.eigh(centred @ centred.T)  # [N], [N, N], in rising order
    largest = np.argsort(-values)[:count]
    directions = centred.T @ vectors[:, largest] / np.sqrt(values[largest])  # [D, K]
    components = np.stack([fix_sign(direction) for direction in directions.T])
    return mean, components, values[largest] / (len(points) - 1)


def enough(variances: ndarray, share: float) -> int:
    """How many of all the variances, largest first, it takes to explain this share of their sum."""
    explained = np.cumsum(variances) / variances.sum()
    return int(np.searchsorted(explained, share)) + 1


def transform(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, K]
    return (points - model["mean"]) @ model["components"].T


def inverse(model: dict[str, ndarray], scores: ndarray) -> ndarray:  # [N, K] -> [N, D]
    return scores @ model["components"] + model["mean"]


def whiten(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, K]
    """Scores without correlation, each of variance one."""
    return transform(model, points) / np.sqrt(model["variances"])


def train(model: dict[str, ndarray], data: ndarray, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Multiply once per item, yielding the share of the variance that is not explained so far."""
    model["mean"][:] = data.mean(axis=0)
    rest = covariance(data)
    total = np.trace(rest)
    ends = [cfg.steps * k // cfg.components for k in range(cfg.components + 1)]
    for k in range(cfg.components):
        vector = rng.normal(size=cfg.features)
        vector /= np.linalg.norm(vector)
        for _ in range(ends[k], ends[k + 1]):
            vector = power_step(rest, vector)
            model["components"][k] = fix_sign(vector)
            model["variances"][k] = vector @ rest @ vector
            yield 1 - model["variances"].sum() / total
        rest = deflate(rest, vector)


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, D] -> [N, D]
    """The points as they look through the components alone."""
    return inverse(model, transform(model, inputs))
