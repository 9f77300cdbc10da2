"""A click model that learns from more rows than fit into memory, one look at each.

Rows lie in shards on disk and are read a block at a time. A small buffer mixes them, whatever their order
was. Every value of a field, and every pair of values, is hashed to a bucket; a logistic model has a weight a
bucket and a step size that shrinks with the squares of its gradients. Each row is predicted first and learned
from after.

Shapes: N rows, B rows in a batch, C fields, F = C + C (C - 1) / 2 hashed features, M buckets.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path

import numpy as np
from numpy import ndarray

OFFSET, PRIME = 2166136261, 16777619  # of FNV-1a in 32 bits
Row = tuple[ndarray, int]  # values [C], label


@dataclass(frozen=True, kw_only=True)
class Config:
    buckets: int = 4096
    lr: float = 0.35
    penalty: float = 2e-5
    batch: int = 48
    steps: int = 320
    block: int = 700  # rows that are read at once
    buffer: int = 1000  # rows that are mixed
    folder: str = "shards"


def hashed(parts: Iterable[int], buckets: int) -> int:
    """The bucket of a few small numbers: FNV-1a over their bytes, the same in every process."""
    state = OFFSET
    for part in parts:
        for byte in int(part).to_bytes(4, "little"):
            state = ((state ^ byte) * PRIME) % 2**32
    return state % buckets


def features(values: ndarray, buckets: int) -> ndarray:  # [C] -> [F]
    """Buckets of all fields, then of all pairs of fields; equal values of two fields are two things."""
    alone = [hashed((field, value), buckets) for field, value in enumerate(values)]
    pairs = combinations(range(len(values)), 2)
    crossed = [hashed((one, values[one], other, values[other]), buckets) for one, other in pairs]
    return np.array(alone + crossed)


def write_shards(shards: list[dict[str, ndarray]], folder: str) -> list[Path]:
    """One file of values and one of labels for each shard; the paths of the first."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, shard in enumerate(shards):
        path = place / f"values-{number:03d}.npy"
        np.save(path, shard["values"])
        np.save(place / f"labels-{number:03d}.npy", shard["labels"])
        paths.append(path)
    return paths


def read(paths: list[Path], block: int, start: int = 0) -> Iterator[Row]:
    """All rows from the one with number `start` on; no more than a block of them is in memory."""
    first = 0
    for path in paths:
        values = np.load(path, mmap_mode="r")
        labels = np.load(path.with_name(path.name.replace("values", "labels")), mmap_mode="r")
        count = len(labels)
        for low in range(max(0, start - first), count, block):
            part = np.array(values[low : low + block])
            yield from zip(part, labels[low : low + block].tolist(), strict=True)
        first += count


def mixed(rows: Iterable[Row], size: int, rng: np.random.Generator) -> Iterator[Row]:
    """The same rows in another order: each takes the place of a random one in a buffer, which goes out."""
    waiting: list[Row] = []
    for row in rows:
        if len(waiting) < size:
            waiting.append(row)
            continue
        place = int(rng.integers(size))
        yield waiting[place]
        waiting[place] = row
    for place in rng.permutation(len(waiting)):
        yield waiting[place]


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Consecutive rows; the last batch may be short."""
    stream = iter(rows)
    while batch := list(islice(stream, size)):
        yield batch


def build(cfg: Config) -> dict[str, ndarray]:
    """Weights, their sums of squared gradients; the last is the bias. Nothing is known yet."""
    return {"weights": np.zeros(cfg.buckets + 1), "squares": np.full(cfg.buckets + 1, 1e-6)}


def logits(model: dict[str, ndarray], index: ndarray) -> ndarray:  # [B, F] -> [B]
    return model["weights"][index].sum(axis=1) + model["weights"][-1]


def log_loss(scores: ndarray, labels: ndarray) -> ndarray:  # [B], [B] -> [B]
    """In nats, from logits; large ones do not overflow."""
    return np.logaddexp(0, scores) - labels * scores


def sigmoid(scores: ndarray) -> ndarray:
    return np.exp(-np.logaddexp(0, -scores))


def update(model: dict[str, ndarray], index: ndarray, labels: ndarray, cfg: Config) -> float:
    """One step of AdaGrad on the mean loss of a batch; the loss is that before the step.

    A bucket that a row has twice counts twice. The penalty pulls at the buckets of the batch alone.
    """
    scores = logits(model, index)
    error = (sigmoid(scores) - labels) / len(labels)
    gradient = np.zeros_like(model["weights"])
    np.add.at(gradient, index, error[:, None])
    gradient[-1] = error.sum()
    touched = np.unique(index)
    gradient[touched] += cfg.penalty * model["weights"][touched]
    model["squares"] += gradient**2
    model["weights"] -= cfg.lr * gradient / np.sqrt(model["squares"])
    return float(log_loss(scores, labels).mean())


def train(
    model: dict[str, ndarray], data: list[dict[str, ndarray]], cfg: Config, rng: np.random.Generator
) -> Iterator[float]:
    """Learn from one batch per item, yielding what its loss was before."""
    paths = write_shards(data, cfg.folder)
    stream = batches(mixed(read(paths, cfg.block), cfg.buffer, rng), cfg.batch)
    for batch in islice(stream, cfg.steps):
        index = np.stack([features(values, cfg.buckets) for values, _ in batch])
        labels = np.array([label for _, label in batch], dtype=float)
        yield update(model, index, labels, cfg)


class Progress:
    """Progressive validation: losses of predictions made before learning, old ones fading away."""

    def __init__(self, fade: float) -> None:
        self.fade = fade
        self.total = 0.0
        self.weight = 0.0

    def add(self, loss: float) -> float:
        """Take in one more; the faded mean so far."""
        self.total = self.fade * self.total + loss
        self.weight = self.fade * self.weight + 1
        return self.total / self.weight


def auc(scores: ndarray, labels: ndarray) -> float:
    """How often a positive row scores above a negative one; equal scores count half. Half without pairs."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = labels == 1
    pairs = positive.sum() * (~positive).sum()
    if pairs == 0:
        return 0.5
    above = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(above / pairs)


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, C] -> [N]
    """Chances of a click."""
    buckets = len(model["weights"]) - 1
    index = np.stack([features(values, buckets) for values in inputs])
    return sigmoid(logits(model, index))
