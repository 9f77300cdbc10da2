"""Gradient boosting with Newton leaves: every tree is fitted to the slope and curvature of the loss so far.

A tree is a full binary one, kept in arrays: node i has the children 2i + 1 (at most the threshold) and
2i + 2 (above it). A node that is not worth splitting keeps an infinite threshold, so all rows go left.

Shapes: N rows, D features, T trees, M nodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

Tree = dict[str, ndarray]
TREE = ("feature", "threshold", "value", "gain")  # each [M]


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int = 60  # trees
    depth: int = 3
    lr: float = 0.3
    ridge: float = 1.5  # added to the curvature of a leaf
    smallest_leaf: float = 1.0  # curvature on either side of a split
    smallest_gain: float = 0.05
    subsample: float = 0.7  # share of the rows that a tree sees
    validation: float = 0.2  # share of the rows held back


def build(cfg: Config) -> dict[str, ndarray]:
    nodes = 2 ** (cfg.depth + 1) - 1
    return {
        "base": np.zeros(1),
        "count": np.zeros(1, dtype=np.int64),  # trees in use
        "feature": np.zeros((cfg.steps, nodes), dtype=np.int64),
        "threshold": np.full((cfg.steps, nodes), np.inf),
        "value": np.zeros((cfg.steps, nodes)),
        "gain": np.zeros((cfg.steps, nodes)),
    }


def sigmoid(z: ndarray) -> ndarray:
    return 0.5 * (1 + np.tanh(0.5 * z))


def log_loss(scores: ndarray, labels: ndarray) -> float:
    """Mean negative log-likelihood of labels 0 and 1, in nats."""
    return float(np.mean(np.logaddexp(0, scores) - labels * scores))


def slopes(scores: ndarray, labels: ndarray) -> tuple[ndarray, ndarray]:  # -> [N], [N]
    """First and second derivative of each row's loss by its score."""
    chance = sigmoid(scores)
    return chance - labels, chance * (1 - chance)


def leaf_value(slope: float, curvature: float, ridge: float) -> float:
    """Where the parabola through the loss is lowest."""
    return -slope / (curvature + ridge)


def score(slope: ndarray, curvature: ndarray, ridge: float) -> ndarray:
    """How much a leaf with these sums lowers the loss, twice."""
    return slope**2 / (curvature + ridge)


def best_split(rows: ndarray, slope: ndarray, curvature: ndarray, cfg: Config) -> tuple[float, int, float]:
    """Gain, feature and threshold of the best of all splits; a gain of zero where there is none."""
    total_slope, total_curvature = slope.sum(), curvature.sum()
    best = (0.0, 0, np.inf)
    for feature in range(rows.shape[1]):
        order = np.argsort(rows[:, feature], kind="stable")
        x = rows[order, feature]
        left_slope = np.cumsum(slope[order])[:-1]
        left_curvature = np.cumsum(curvature[order])[:-1]
        right_slope = total_slope - left_slope
        right_curvature = total_curvature - left_curvature
        gain = 0.5 * (
            score(left_slope, left_curvature, cfg.ridge)
            + score(right_slope, right_curvature, cfg.ridge)
            - score(total_slope, total_curvature, cfg.ridge)
        )
        heavy = np.minimum(left_curvature, right_curvature) >= cfg.smallest_leaf
        possible = (x[1:] > x[:-1]) & heavy
        gain = np.where(possible, gain, -np.inf)
        if len(gain) > 0 and gain.max() > best[0]:
            at = int(gain.argmax())
            best = (float(gain[at]), feature, float((x[at] + x[at + 1]) / 2))
    return best


def grow(rows: ndarray, slope: ndarray, curvature: ndarray, cfg: Config) -> Tree:
    """Split greedily from the root on, and put a value into every node that rows end in."""
    nodes = 2 ** (cfg.depth + 1) - 1
    tree = {
        "feature": np.zeros(nodes, dtype=np.int64),
        "threshold": np.full(nodes, np.inf),
        "value": np.zeros(nodes),
        "gain": np.zeros(nodes),
    }
    place = np.zeros(len(rows), dtype=np.int64)
    for node in range(nodes):
        here = place == node
        if not here.any():
            continue
        tree["value"][node] = leaf_value(slope[here].sum(), curvature[here].sum(), cfg.ridge)
        if 2 * node + 2 >= nodes:
            continue
        gain, feature, threshold = best_split(rows[here], slope[here], curvature[here], cfg)
        if gain > cfg.smallest_gain:
            tree["feature"][node] = feature
            tree["threshold"][node] = threshold
            tree["gain"][node] = gain
        left = rows[:, tree["feature"][node]] <= tree["threshold"][node]
        place = np.where(here, np.where(left, 2 * node + 1, 2 * node + 2), place)
    return tree


def apply_tree(tree: Tree, rows: ndarray) -> ndarray:  # [N, D] -> [N]
    place = np.zeros(len(rows), dtype=np.int64)
    levels = int(np.log2(len(tree["value"]) + 1)) - 1
    for _ in range(levels):
        x = rows[np.arange(len(rows)), tree["feature"][place]]
        left = x <= tree["threshold"][place]
        place = np.where(left, 2 * place + 1, 2 * place + 2)
    return tree["value"][place]


def scores(model: dict[str, ndarray], rows: ndarray) -> ndarray:  # [N, D] -> [N]
    """Log-odds by the base and the trees in use."""
    total = np.full(len(rows), model["base"][0])
    for number in range(int(model["count"][0])):
        total += apply_tree({name: model[name][number] for name in TREE}, rows)
    return total


def importance(model: dict[str, ndarray], features: int) -> ndarray:  # -> [D]
    """Each feature's share of the gain of all splits in use."""
    used = slice(0, int(model["count"][0]))
    gains = np.zeros(features)
    np.add.at(gains, model["feature"][used].ravel(), model["gain"][used].ravel())
    return gains / gains.sum()


def train(
    model: dict[str, ndarray], data: dict[str, ndarray], cfg: Config, rng: np.random.Generator
) -> Iterator[float]:
    """Add one tree per item, yielding the loss on the training rows; in the end the best number is kept."""
    order = rng.permutation(len(data["labels"]))
    held = round(cfg.validation * len(order))
    rows, labels = data["rows"][order[held:]], data["labels"][order[held:]]
    unseen, truth = data["rows"][order[:held]], data["labels"][order[:held]]
    share = labels.mean()
    model["base"][0] = np.log(share / (1 - share))
    current, unseen_scores = scores(model, rows), scores(model, unseen)
    best_loss, best_count = log_loss(unseen_scores, truth), 0
    for step in range(cfg.steps):
        slope, curvature = slopes(current, labels)
        drawn = rng.permutation(len(rows))[: round(cfg.subsample * len(rows))]
        tree = grow(rows[drawn], slope[drawn], curvature[drawn], cfg)
        tree["value"] = cfg.lr * tree["value"]
        for name in TREE:
            model[name][step] = tree[name]
        model["count"][0] = step + 1
        current += apply_tree(tree, rows)
        unseen_scores += apply_tree(tree, unseen)
        loss = log_loss(unseen_scores, truth)
        if loss < best_loss:
            best_loss, best_count = loss, step + 1
        yield log_loss(current, labels)
    model["count"][0] = best_count


def predict(model: dict[str, ndarray], inputs: ndarray) -> ndarray:  # [N, D] -> [N]
    """The chance of label 1."""
    return sigmoid(scores(model, inputs))
