"""A network of two hidden layers in plain arrays, with every backward pass written by hand.

A forward function gives its result and what its backward function will need; that one takes the gradient
of the loss by the result and gives the gradients by whatever went in.

Shapes: B batch, P pixels, H and J hidden units, K classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

Arrays = dict[str, ndarray]


@dataclass(frozen=True, kw_only=True)
class Config:
    optimizer: str = "adam"
    pixels: int = 144
    hidden: int = 56
    second: int = 40
    classes: int = 10
    dropout: float = 0.2
    norm_momentum: float = 0.1
    batch: int = 64
    steps: int = 360
    lr: float = 5e-3
    last_lr: float = 0.05  # as a share of the first
    weight_decay: float = 0.3


def linear(x: ndarray, w: ndarray, b: ndarray) -> tuple[ndarray, Any]:  # [B, I], [I, O], [O] -> [B, O]
    return x @ w + b, (x, w)


def linear_back(g: ndarray, kept: Any) -> tuple[ndarray, ndarray, ndarray]:
    x, w = kept
    return g @ w.T, x.T @ g, g.sum(axis=0)


def relu(x: ndarray) -> tuple[ndarray, Any]:
    return np.maximum(x, 0), x > 0


def relu_back(g: ndarray, kept: Any) -> ndarray:
    return g * kept


def normalise(x: ndarray, scale: ndarray, shift: ndarray, mean: ndarray, var: ndarray) -> tuple[ndarray, Any]:
    """Batch normalisation of `[B, H]` by the mean and variance given."""
    inverse = 1 / np.sqrt(var + 1e-5)
    centred = (x - mean) * inverse
    return centred * scale + shift, (centred, scale, inverse)


def normalise_back(g: ndarray, kept: Any) -> tuple[ndarray, ndarray, ndarray]:
    """By the input, the scale and the shift, where mean and variance were those of the input itself."""
    centred, scale, inverse = kept
    to_scale = (g * centred).sum(axis=0)
    to_shift = g.sum(axis=0)
    inner = g * scale
    common = inner.mean(axis=0)
    along = (inner * centred).mean(axis=0)
    return (inner - common - centred * along) * inverse, to_scale, to_shift


def update_statistics(model: Arrays, x: ndarray, momentum: float) -> None:
    """Move the running mean and variance a little towards those of a batch, taken for a sample."""
    model["mean"] += momentum * (x.mean(axis=0) - model["mean"])
    model["var"] += momentum * (x.var(axis=0, ddof=1) - model["var"])


def dropout(x: ndarray, rate: float) -> tuple[ndarray, Any]:
    """Each entry is dropped with this chance; the others grow so that the expectation stays."""
    kept = (np.random.random(x.shape) >= rate) / (1 - rate)
    return x * kept, kept


def dropout_back(g: ndarray, kept: Any) -> ndarray:
    return g * kept


def log_softmax(scores: ndarray) -> ndarray:  # [B, K] -> [B, K]
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def cross_entropy(scores: ndarray, labels: ndarray) -> tuple[float, ndarray]:  # [B, K], [B] -> [], [B, K]
    """The mean over the batch in nats, and its gradient by the scores."""
    logs = log_softmax(scores)
    rows = np.arange(len(labels))
    loss = -logs[rows, labels].mean()
    gradient = np.exp(logs)
    gradient[rows, labels] -= 1
    return float(loss), gradient / len(labels)


def build(cfg: Config) -> Arrays:
    """Weights on the scale that keeps the spread through a ReLU; the head starts almost undecided."""
    draw = np.random.standard_normal
    return {
        "w1": draw((cfg.pixels, cfg.hidden)) * np.sqrt(2 / cfg.pixels),
        "b1": np.zeros(cfg.hidden),
        "scale": np.ones(cfg.hidden),
        "shift": np.zeros(cfg.hidden),
        "mean": np.zeros(cfg.hidden),
        "var": np.ones(cfg.hidden),
        "w2": draw((cfg.hidden, cfg.second)) * np.sqrt(2 / cfg.hidden),
        "b2": np.zeros(cfg.second),
        "w3": draw((cfg.second, cfg.classes)) * 0.02,
        "b3": np.zeros(cfg.classes),
    }


def prepare(images: ndarray) -> ndarray:  # [B, height, width] -> [B, P]
    """Bytes to numbers around zero."""
    return (images.reshape(len(images), -1) / 255.0 - 0.4) / 0.2


def gradients(model: Arrays, images: ndarray, labels: ndarray, cfg: Config) -> tuple[float, Arrays]:
    """The loss of one batch as it is trained on, and its gradient by everything that is learned."""
    x, kept1 = linear(prepare(images), model["w1"], model["b1"])
    update_statistics(model, x, cfg.norm_momentum)
    x, kept2 = normalise(x, model["scale"], model["shift"], x.mean(axis=0), x.var(axis=0))
    x, kept3 = relu(x)
    x, kept4 = dropout(x, cfg.dropout)
    x, kept5 = linear(x, model["w2"], model["b2"])
    x, kept6 = relu(x)
    scores, kept7 = linear(x, model["w3"], model["b3"])
    loss, g = cross_entropy(scores, labels)
    to: Arrays = {}
    g, to["w3"], to["b3"] = linear_back(g, kept7)
    g = relu_back(g, kept6)
    g, to["w2"], to["b2"] = linear_back(g, kept5)
    g = dropout_back(g, kept4)
    g = relu_back(g, kept3)
    g, to["scale"], to["shift"] = normalise_back(g, kept2)
    _, to["w1"], to["b1"] = linear_back(g, kept1)
    return loss, to


def sgd(g: ndarray, _memory: Arrays) -> ndarray:
    return g


def momentum(g: ndarray, memory: Arrays) -> ndarray:
    memory["velocity"] = 0.9 * memory.get("velocity", 0) + g
    return memory["velocity"]


def rmsprop(g: ndarray, memory: Arrays) -> ndarray:
    memory["square"] = 0.97 * memory.get("square", 0) + 0.03 * g**2
    return g / (np.sqrt(memory["square"]) + 1e-8)


def adam(g: ndarray, memory: Arrays) -> ndarray:
    memory["step"] = memory.get("step", 0) + 1
    memory["first"] = 0.9 * memory.get("first", 0) + 0.1 * g
    memory["second"] = 0.98 * memory.get("second", 0) + 0.02 * g**2
    first = memory["first"] / (1 - 0.9 ** memory["step"])
    second = memory["second"] / (1 - 0.98 ** memory["step"])
    return first / (np.sqrt(second) + 1e-8)


OPTIMIZERS: dict[str, Callable[[ndarray, Arrays], ndarray]] = {
    "sgd": sgd,
    "momentum": momentum,
    "rmsprop": rmsprop,
    "adam": adam,
}


def learning_rate(step: int, cfg: Config) -> float:
    """From the first rate to its last share on a straight line."""
    return cfg.lr * (1 + (cfg.last_lr - 1) * step / cfg.steps)


def batches(count: int, cfg: Config, rng: np.random.Generator) -> Iterator[ndarray]:
    """Row numbers, pass after pass in a random order; a pass ends with what is left."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count, cfg.batch):
            yield order[start : start + cfg.batch]


def train(model: Arrays, data: Arrays, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one update per item, yielding the loss of its batch."""
    direction = OPTIMIZERS[cfg.optimizer]
    memories: dict[str, Arrays] = {name: {} for name in model}
    stream = batches(len(data["labels"]), cfg, rng)
    for step in range(cfg.steps):
        rows = next(stream)
        loss, to = gradients(model, data["images"][rows], data["labels"][rows], cfg)
        lr = learning_rate(step, cfg)
        for name, g in to.items():
            if name.startswith("w"):
                model[name] *= 1 - lr * cfg.weight_decay
            model[name] -= lr * direction(g, memories[name])
        yield loss


def predict(model: Arrays, inputs: ndarray) -> ndarray:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes, by the running statistics and with nothing dropped."""
    x, _ = linear(prepare(inputs), model["w1"], model["b1"])
    x, _ = normalise(x, model["scale"], model["shift"], model["mean"], model["var"])
    x, _ = relu(x)
    x, _ = linear(x, model["w2"], model["b2"])
    x, _ = relu(x)
    x, _ = linear(x, model["w3"], model["b3"])
    return log_softmax(x)
