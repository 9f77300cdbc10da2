"""t-SNE: a map of points on which neighbours stay neighbours.

Chances of being neighbours are worked out once among the points, with a width of its own for each so that all
have the same number of neighbours in effect. The map is moved until heavy-tailed chances on it agree.

Shapes: N points, D features, 2 coordinates of the map.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Config:
    points: int = 180
    perplexity: float = 15.0
    steps: int = 240
    lr: float = 60.0
    exaggeration: float = 8.0
    exaggerated: float = 0.25  # share of the steps
    early_momentum: float = 0.5
    momentum: float = 0.8
    spread: float = 1e-2  # of the first map


def build(cfg: Config) -> dict[str, ndarray]:
    return {"map": cfg.spread * np.random.normal(size=(cfg.points, 2))}


def squared_distances(points: ndarray) -> ndarray:  # [N, D] -> [N, N]
    squares = (points**2).sum(axis=1)
    gaps = squares[:, None] + squares[None, :] - 2 * points @ points.T
    np.fill_diagonal(gaps, 0.0)
    return np.maximum(gaps, 0.0)


def row_chances(gaps: ndarray, precision: float) -> ndarray:  # [N - 1] -> [N - 1]
    """Of the other points to be the neighbour of one, by their squared distances."""
    weights = np.exp(-precision * (gaps - gaps.min()))
    return weights / weights.sum()


def entropy(chances: ndarray) -> float:
    """In nats."""
    return float(-(chances * np.log(chances + TINY)).sum())


def find_precision(gaps: ndarray, perplexity: float, rounds: int = 60) -> float:
    """The precision at which the chances have this perplexity; entropy falls as it grows."""
    low, high, precision = 0.0, np.inf, 1.0 / max(gaps.mean(), TINY)
    for _ in range(rounds):
        if entropy(row_chances(gaps, precision)) > np.log(perplexity):
            low = precision
            precision = (low + high) / 2 if np.isfinite(high) else 2 * low
        else:
            high = precision
            precision = (low + high) / 2
    return precision


def affinities(points: ndarray, perplexity: float) -> ndarray:  # [N, D] -> [N, N]
    """Joint chances of pairs: the same both ways, one in all, nothing on the diagonal."""
    gaps = squared_distances(points)
    count = len(points)
    chances = np.zeros((count, count))
    for row in range(count):
        others = np.arange(count) != row
        precision = find_precision(gaps[row, others], perplexity)
        chances[row, others] = row_chances(gaps[row, others], precision)
    return (chances + chances.T) / (2 * count)


def map_chances(place: ndarray) -> tuple[ndarray, ndarray]:  # [N, 2] -> [N, N], [N, N]
    """Joint chances on the map, by a heavy-tailed law, and its weights before they add up to one."""
    weights = 1 / (1 + squared_distances(place))
    np.fill_diagonal(weights, 0.0)
    return weights / weights.sum(), weights


def divergence(target: ndarray, place: ndarray) -> float:
    """How far the chances on the map are from the target, in nats."""
    chances, _ = map_chances(place)
    return float((target * np.log((target + TINY) / (chances + TINY))).sum())


def gradient(target: ndarray, place: ndarray) -> ndarray:  # [N, N], [N, 2] -> [N, 2]
    """Of the divergence by each coordinate of the map."""
    chances, weights = map_chances(place)
    pull = (target - chances) * weights  # [N, N]
    return 4 * (pull.sum(axis=1)[:, None] * place - pull @ place)


def adapt(gains: ndarray, slope: ndarray, speed: ndarray) -> ndarray:
    """Each coordinate has a rate of its own: faster while it keeps going down, slower once it overshoots."""
    onwards = np.sign(slope) != np.sign(speed)
    return np.maximum(np.where(onwards, gains + 0.2, gains * 0.8), 0.01)


def train(
    model: dict[str, ndarray], data: ndarray, cfg: Config, _rng: np.random.Generator
) -> Iterator[float]:
    """Move the map once per item, yielding the divergence from the true chances."""
    target = affinities(data, cfg.perplexity)
    place = model["map"]
    speed = np.zeros_like(place)
    gains = np.ones_like(place)
    for step in range(cfg.steps):
        early = step < cfg.exaggerated * cfg.steps
        factor = cfg.exaggeration if early else 1.0
        momentum = cfg.early_momentum if early else cfg.momentum
        slope = gradient(factor * target, place)
        gains = adapt(gains, slope, speed)
        speed = momentum * speed - cfg.lr * gains * slope
        place += speed
        place -= place.mean(axis=0)
        yield divergence(target, place)


def trustworthiness(points: ndarray, place: ndarray, neighbours: int) -> float:
    """One where the nearest on the map are near among the points, less by how far down they are."""
    count = len(points)
    order = np.argsort(squared_distances(points) + np.diag(np.full(count, np.inf)), axis=1, kind="stable")
    rank = np.empty((count, count), dtype=np.int64)
    rank[np.arange(count)[:, None], order] = np.arange(1, count + 1)
    near = np.argsort(squared_distances(place) + np.diag(np.full(count, np.inf)), axis=1, kind="stable")
    ranks = np.take_along_axis(rank, near[:, :neighbours], axis=1)
    worst = count * neighbours * (2 * count - 3 * neighbours - 1) / 2
    return float(1 - np.maximum(ranks - neighbours, 0).sum() / worst)


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [M] -> [M, 2]
    """Where the points of these numbers are on the map."""
    return model["map"][inputs]
