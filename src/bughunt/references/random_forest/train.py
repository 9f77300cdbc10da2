"""A random forest: each tree is grown on a bootstrap sample, with few features to choose from.

A tree is a full binary one, kept in arrays: node i has the children 2i + 1 (at most the threshold) and
2i + 2 (above it). A node that is not split keeps an infinite threshold, so all rows go left.

Shapes: N rows, D features, C classes, T trees, M nodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

Forest = dict[str, ndarray]
TREE = ("feature", "threshold", "chances", "gain")  # [M], [M], [M, C], [M]


@dataclass(frozen=True, kw_only=True)
class Config:
    features: int = 7
    classes: int = 3
    steps: int = 20  # trees
    depth: int = 6
    tried: int = 3  # features that a split may choose from
    smallest_leaf: int = 4  # rows


def build(cfg: Config) -> Forest:
    nodes = 2 ** (cfg.depth + 1) - 1
    return {
        "count": np.zeros(1, dtype=np.int64),  # trees grown so far
        "feature": np.zeros((cfg.steps, nodes), dtype=np.int64),
        "threshold": np.full((cfg.steps, nodes), np.inf),
        "chances": np.full((cfg.steps, nodes, cfg.classes), 1 / cfg.classes),
        "gain": np.zeros((cfg.steps, nodes)),
    }


def gini(counts: ndarray) -> ndarray:  # [..., C] -> [...]
    """The chance that two rows, drawn with replacement, are of unlike classes."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return 1 - (shares**2).sum(axis=-1)


def best_split(
    rows: ndarray, truth: ndarray, features: ndarray, smallest_leaf: int
) -> tuple[float, int, float]:
    """The fall in impurity, the feature and the threshold of the best split; zero where there is none.

    `truth` holds a one for the class of each row [N, C].
    """
    total = truth.sum(axis=0)
    best = (0.0, 0, np.inf)
    for feature in features:
        order = np.argsort(rows[:, feature], kind="stable")
        x = rows[order, feature]
        left = np.cumsum(truth[order], axis=0)[:-1]  # [N - 1, C]
        right = total - left
        left_size, right_size = left.sum(axis=1), right.sum(axis=1)
        impurity = (left_size * gini(left) + right_size * gini(right)) / len(rows)
        allowed = np.minimum(left_size, right_size) >= smallest_leaf
        fall = np.where((x[1:] > x[:-1]) & allowed, gini(total) - impurity, 0)
        if len(fall) > 0 and fall.max() > best[0]:
            at = int(fall.argmax())
            best = (float(fall[at]), int(feature), float((x[at] + x[at + 1]) / 2))
    return best


def grow(rows: ndarray, truth: ndarray, cfg: Config, rng: np.random.Generator) -> dict[str, ndarray]:
    """Split greedily from the root on; every node keeps the shares of the classes that reach it."""
    nodes = 2 ** (cfg.depth + 1) - 1
    tree = {
        "feature": np.zeros(nodes, dtype=np.int64),
        "threshold": np.full(nodes, np.inf),
        "chances": np.full((nodes, truth.shape[1]), 1 / truth.shape[1]),
        "gain": np.zeros(nodes),
    }
    place = np.zeros(len(rows), dtype=np.int64)
    for node in range(nodes):
        here = np.flatnonzero(place == node)
        if len(here) == 0:
            continue
        tree["chances"][node] = truth[here].mean(axis=0)
        if 2 * node + 2 >= nodes:
            continue
        features = rng.choice(rows.shape[1], size=cfg.tried, replace=False)
        fall, feature, threshold = best_split(rows[here], truth[here], features, cfg.smallest_leaf)
        tree["feature"][node] = feature
        tree["threshold"][node] = threshold
        tree["gain"][node] = fall * len(here) / len(rows)
        left = rows[here, feature] <= threshold
        place[here] = np.where(left, 2 * node + 1, 2 * node + 2)
    return tree


def apply_tree(tree: dict[str, ndarray], rows: ndarray) -> ndarray:  # [N, D] -> [N, C]
    place = np.zeros(len(rows), dtype=np.int64)
    levels = int(np.log2(len(tree["feature"]) + 1)) - 1
    for _ in range(levels):
        x = rows[np.arange(len(rows)), tree["feature"][place]]
        left = x <= tree["threshold"][place]
        place = np.where(left, 2 * place + 1, 2 * place + 2)
    return tree["chances"][place]


def importance(forest: Forest, features: int) -> ndarray:  # -> [D]
    """Each feature's share of the fall in impurity, over all trees."""
    gains = np.zeros(features)
    used = slice(0, int(forest["count"][0]))
    np.add.at(gains, forest["feature"][used].ravel(), forest["gain"][used].ravel())
    return gains / gains.sum()


def permutation_importance(
    forest: Forest, rows: ndarray, labels: ndarray, rng: np.random.Generator, repeats: int = 3
) -> ndarray:  # -> [D]
    """How much accuracy is lost when the values of one feature are dealt out anew."""
    whole = (predict(forest, rows).argmax(axis=1) == labels).mean()
    lost = np.zeros(rows.shape[1])
    for feature in range(rows.shape[1]):
        for _ in range(repeats):
            dealt = rows.copy()
            dealt[:, feature] = rng.permutation(rows[:, feature])
            lost[feature] += whole - (predict(forest, dealt).argmax(axis=1) == labels).mean()
    return lost / repeats


def out_of_bag_error(votes: ndarray, labels: ndarray) -> float:
    """The share of wrong answers among the rows that at least one tree had not seen; votes [N, C]."""
    heard = votes.sum(axis=1) > 0
    return float((votes[heard].argmax(axis=1) != labels[heard]).mean())


def train(model: Forest, data: dict[str, ndarray], cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Grow one tree per item, yielding the out-of-bag error so far."""
    rows, labels = data["rows"], data["labels"]
    truth = np.eye(cfg.classes)[labels]
    votes = np.zeros((len(rows), cfg.classes))
    for step in range(cfg.steps):
        drawn = rng.integers(len(rows), size=len(rows))
        tree = grow(rows[drawn], truth[drawn], cfg, rng)
        for name in TREE:
            model[name][step] = tree[name]
        model["count"][0] = step + 1
        outside = np.ones(len(rows), dtype=bool)
        outside[drawn] = False
        votes[outside] += apply_tree(tree, rows[outside])
        yield out_of_bag_error(votes, labels)


def predict(model: Forest, inputs: ndarray) -> ndarray:  # [N, D] -> [N, C]
    """The chances of the classes, averaged over the trees."""
    count = int(model["count"][0])
    if count == 0:
        return np.full((len(inputs), model["chances"].shape[2]), 1 / model["chances"].shape[2])
    total = np.zeros((len(inputs), model["chances"].shape[2]))
    for number in range(count):
        total += apply_tree({name: model[name][number] for name in TREE}, inputs)
    return total / count
