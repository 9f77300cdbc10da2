"""Linear models: softmax regression by mini-batch gradient descent, ridge and logistic regression beside it.

Every objective is a mean over rows plus half the penalty times the squared weights; the intercept is free.

Shapes: N points, B batch, D features, K classes.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray


@dataclass(frozen=True, kw_only=True)
class Config:
    features: int = 6
    classes: int = 5
    batch: int = 48
    steps: int = 300
    lr: float = 0.5
    momentum: float = 0.9
    penalty: float = 1e-3


def build(cfg: Config) -> dict[str, ndarray]:
    return {
        "mean": np.zeros(cfg.features),
        "scale": np.ones(cfg.features),
        "weights": np.zeros((cfg.features, cfg.classes)),
        "bias": np.zeros(cfg.classes),
    }


def with_ones(points: ndarray) -> ndarray:  # [N, D] -> [N, 1 + D]
    return np.column_stack([np.ones(len(points)), points])


def shrinkage(features: int, penalty: float) -> ndarray:  # -> [1 + D, 1 + D]
    """What the penalty adds to the curvature; the intercept stands first."""
    matrix = penalty * np.eye(1 + features)
    matrix[0, 0] = 0.0
    return matrix


def ridge(points: ndarray, targets: ndarray, penalty: float) -> ndarray:  # [N, D], [N] -> [1 + D]
    """Intercept and weights of least squares in closed form; squares are halved in the objective."""
    x = with_ones(points)
    curvature = x.T @ x / len(x) + shrinkage(points.shape[1], penalty)
    return np.linalg.solve(curvature, x.T @ targets / len(x))


def ridge_descent(points: ndarray, targets: ndarray, penalty: float, lr: float, steps: int) -> ndarray:
    """The same by gradient descent from zero."""
    x = with_ones(points)
    shrink = shrinkage(points.shape[1], penalty)
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        residual = x @ weights - targets
        weights -= lr * (x.T @ residual / len(x) + shrink @ weights)
    return weights


def sigmoid(z: ndarray) -> ndarray:
    """Written with tanh, which does not overflow."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def logistic(points: ndarray, labels: ndarray, penalty: float, iterations: int = 15) -> ndarray:
    """Intercept and weights for labels 0 and 1, by Newton's method."""
    x = with_ones(points)
    shrink = shrinkage(points.shape[1], penalty)
    weights = np.zeros(x.shape[1])
    for _ in range(iterations):
        chance = sigmoid(x @ weights)
        gradient = x.T @ (chance - labels) / len(x) + shrink @ weights
        spread = chance * (1 - chance)
        curvature = (x * spread[:, None]).T @ x / len(x) + shrink
        weights -= np.linalg.solve(curvature, gradient)
    return weights


def log_softmax(logits: ndarray) -> ndarray:  # [N, K] -> [N, K]
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def objective(weights: ndarray, bias: ndarray, points: ndarray, labels: ndarray, penalty: float) -> float:
    """Mean negative log-likelihood in nats, and the penalty."""
    scores = log_softmax(points @ weights + bias)
    likelihood = scores[np.arange(len(labels)), labels].mean()
    return float(-likelihood + 0.5 * penalty * (weights**2).sum())


def gradients(
    weights: ndarray, bias: ndarray, points: ndarray, labels: ndarray, penalty: float
) -> tuple[ndarray, ndarray]:  # -> [D, K], [K]
    """Of the objective, by the weights and by the bias."""
    chances = np.exp(log_softmax(points @ weights + bias))
    truth = np.eye(len(bias))[labels]
    errors = (chances - truth) / len(labels)  # [B, K]
    return points.T @ errors + penalty * weights, errors.sum(axis=0)


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[ndarray]:
    """Row numbers of one batch after another, every pass in a new order; the last batch may be short."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count, size):
            yield order[start : start + size]


def standardise(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, D]
    return (points - model["mean"]) / model["scale"]


def train(
    model: dict[str, ndarray], data: dict[str, ndarray], cfg: Config, rng: np.random.Generator
) -> Iterator[float]:
    """Make one update per item, yielding the objective on its batch; the rate falls linearly to zero."""
    model["mean"][:] = data["points"].mean(axis=0)
    model["scale"][:] = data["points"].std(axis=0)
    points, labels = standardise(model, data["points"]), data["labels"]
    weights, bias = model["weights"], model["bias"]
    weights_speed, bias_speed = np.zeros_like(weights), np.zeros_like(bias)
    stream = itertools.islice(batches(len(points), cfg.batch, rng), cfg.steps)
    for step, rows in enumerate(stream):
        x, y = points[rows], labels[rows]
        loss = objective(weights, bias, x, y, cfg.penalty)
        by_weights, by_bias = gradients(weights, bias, x, y, cfg.penalty)
        weights_speed = cfg.momentum * weights_speed + by_weights
        bias_speed = cfg.momentum * bias_speed + by_bias
        lr = cfg.lr * (1 - step / cfg.steps)
        weights -= lr * weights_speed
        bias -= lr * bias_speed
        yield loss


def predict(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N, K]
    """Log-probabilities of the classes."""
    return log_softmax(standardise(model, points) @ model["weights"] + model["bias"])
