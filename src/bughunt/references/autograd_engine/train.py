"""Reverse-mode differentiation of arrays, and a small network that it teaches to tell two moons apart.

Every operation remembers the variables that it came from and how to hand a gradient back to them. Walking
from a result to where it began, each variable has heard from all its users before it speaks itself.

Shapes: N points, B batch, F features, H hidden units, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

Model = dict[str, ndarray]
Parts = tuple[ndarray, ...]  # the gradients of the operands of one result
Pull = Callable[[ndarray], Parts]  # from the gradient of that result to them


@dataclass(frozen=True, kw_only=True)
class Config:
    features: int = 2
    hidden: int = 24
    classes: int = 2
    batch: int = 48
    steps: int = 320
    lr: float = 0.15
    last_lr: float = 0.1  # as a share of the first
    momentum: float = 0.8
    weight_decay: float = 3e-4


def fit_shape(gradient: ndarray, shape: tuple[int, ...]) -> ndarray:
    """The gradient of an array of this shape from that of its broadcast copy."""
    extra = gradient.ndim - len(shape)
    gradient = gradient.sum(axis=tuple(range(extra)))
    stretched = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return gradient.sum(axis=stretched, keepdims=True).reshape(shape)


class Variable:
    """An array, the variables that it was made of, and its gradient once `backward` has run."""

    def __init__(self, value: Any, parents: "Sequence[Variable]" = (), pull: Pull = lambda _: ()) -> None:
        self.value = np.asarray(value, dtype=np.float64)
        self.grad = np.zeros_like(self.value)
        self.parents = parents
        self.pull = pull

    def add(self, other: "Variable") -> "Variable":
        def pull(g: ndarray) -> Parts:
            return fit_shape(g, self.value.shape), fit_shape(g, other.value.shape)

        return Variable(self.value + other.value, (self, other), pull)

    def sub(self, other: "Variable") -> "Variable":
        return self.add(other.mul(Variable(-1.0)))

    def mul(self, other: "Variable") -> "Variable":
        def pull(g: ndarray) -> Parts:
            return fit_shape(g * other.value, self.value.shape), fit_shape(g * self.value, other.value.shape)

        return Variable(self.value * other.value, (self, other), pull)

    def div(self, other: "Variable") -> "Variable":
        def pull(g: ndarray) -> Parts:
            to_self = fit_shape(g / other.value, self.value.shape)
            to_other = fit_shape(-g * self.value / other.value**2, other.value.shape)
            return to_self, to_other

        return Variable(self.value / other.value, (self, other), pull)

    def matmul(self, other: "Variable") -> "Variable":  # [.., N, M], [.., M, K] -> [.., N, K]
        def pull(g: ndarray) -> Parts:
            to_self = g @ other.value.swapaxes(-1, -2)
            to_other = self.value.swapaxes(-1, -2) @ g
            return fit_shape(to_self, self.value.shape), fit_shape(to_other, other.value.shape)

        return Variable(self.value @ other.value, (self, other), pull)

    def power(self, exponent: float) -> "Variable":
        def pull(g: ndarray) -> Parts:
            return (g * exponent * self.value ** (exponent - 1),)

        return Variable(self.value**exponent, (self,), pull)

    def exp(self) -> "Variable":
        value = np.exp(self.value)
        return Variable(value, (self,), lambda g: (g * value,))

    def log(self) -> "Variable":
        return Variable(np.log(self.value), (self,), lambda g: (g / self.value,))

    def tanh(self) -> "Variable":
        value = np.tanh(self.value)
        return Variable(value, (self,), lambda g: (g * (1 - value**2),))

    def relu(self) -> "Variable":
        positive = self.value > 0
        return Variable(self.value * positive, (self,), lambda g: (g * positive,))

    def sum(self, axis: int | None = None, keepdims: bool = False) -> "Variable":
        value = self.value.sum(axis=axis, keepdims=keepdims)

        def pull(g: ndarray) -> Parts:
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return (np.broadcast_to(g, self.value.shape),)

        return Variable(value, (self,), pull)

    def mean(self, axis: int | None = None, keepdims: bool = False) -> "Variable":
        total = self.sum(axis, keepdims)
        count = self.value.size / total.value.size
        return total.div(Variable(count))

    def max(self, axis: int, keepdims: bool = False) -> "Variable":
        """Where several are largest, they share the gradient."""
        top = self.value.max(axis=axis, keepdims=True)
        winners = self.value == top

        def pull(g: ndarray) -> Parts:
            if not keepdims:
                g = np.expand_dims(g, axis)
            return (g * winners / winners.sum(axis=axis, keepdims=True),)

        return Variable(top if keepdims else top.squeeze(axis), (self,), pull)

    def reshape(self, *shape: int) -> "Variable":
        return Variable(self.value.reshape(shape), (self,), lambda g: (g.reshape(self.value.shape),))

    def transpose(self, *axes: int) -> "Variable":
        back = np.argsort(axes)
        return Variable(self.value.transpose(axes), (self,), lambda g: (g.transpose(back),))

    def take(self, *index: Any) -> "Variable":
        """`self[index]`, by arrays of positions in which a place may come up more than once."""

        def pull(g: ndarray) -> Parts:
            to_self = np.zeros_like(self.value)
            np.add.at(to_self, index, g)
            return (to_self,)

        return Variable(self.value[index], (self,), pull)

    def log_softmax(self) -> "Variable":
        """Over the last axis; the largest entry is a constant that keeps the exponentials in range."""
        shifted = self.sub(Variable(self.value.max(axis=-1, keepdims=True)))
        return shifted.sub(shifted.exp().sum(axis=-1, keepdims=True).log())

    def backward(self) -> None:
        """Add the gradient of this (of its sum, if it is an array) to all variables that it depends on."""
        gradients = {id(self): np.ones_like(self.value)}
        for node in reversed(ancestors(self)):
            gradient = gradients.pop(id(node))
            node.grad = node.grad + gradient
            for parent, part in zip(node.parents, node.pull(gradient), strict=True):
                gradients[id(parent)] = gradients.get(id(parent), 0.0) + part


def ancestors(root: Variable) -> list[Variable]:
    """Everything that `root` was made of, and `root` last; each once, and after all its own parents."""
    order: list[Variable] = []
    seen: set[int] = set()
    stack = [(root, False)]
    while stack:
        node, parents_done = stack.pop()
        if parents_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    return order


def differentiate(
    steps: list[tuple[str, list[int], list[Any]]], inputs: list[ndarray], passes: int = 1
) -> tuple[ndarray, list[ndarray]]:
    """The last value of a recipe, and for each input the gradient of the sum of that value.

    A step is a method of `Variable`, the numbers of the results that it is applied to (the inputs count as
    the first ones) and its settings. `backward` runs `passes` times.
    """
    results = [Variable(value) for value in inputs]
    for name, operands, settings in steps:
        first, *others = (results[number] for number in operands)
        results.append(getattr(first, name)(*others, *settings))
    for _ in range(passes):
        results[-1].backward()
    return results[-1].value, [leaf.grad for leaf in results[: len(inputs)]]


def build(cfg: Config) -> Model:
    F, H, K = cfg.features, cfg.hidden, cfg.classes
    model = {"mean": np.zeros(F), "scale": np.ones(F)}
    for layer, fan_in, fan_out in ((1, F, H), (2, H, H), (3, H, K)):
        model[f"w{layer}"] = np.random.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in)
        model[f"b{layer}"] = np.zeros(fan_out)
    model["w3"] *= 0.1  # no opinion to begin with
    return model


def forward(weights: dict[str, Variable], points: ndarray) -> Variable:  # [B, F] -> [B, K]
    x = Variable((points - weights["mean"].value) / weights["scale"].value)
    x = x.matmul(weights["w1"]).add(weights["b1"]).tanh()  # [B, H]
    x = x.matmul(weights["w2"]).add(weights["b2"]).tanh()  # [B, H]
    return x.matmul(weights["w3"]).add(weights["b3"]).log_softmax()


def cross_entropy(answers: Variable, labels: ndarray) -> Variable:  # [B, K], [B] -> []
    rows = np.arange(len(labels))
    return answers.take(rows, labels).mean().mul(Variable(-1.0))


def penalty(weights: dict[str, Variable], cfg: Config) -> Variable:
    """Half the squared length of the matrices, times the decay."""
    total = Variable(0.0)
    for name in ("w1", "w2", "w3"):
        total = total.add(weights[name].power(2).sum())
    return total.mul(Variable(cfg.weight_decay / 2))


def batches(count: int, cfg: Config, rng: np.random.Generator) -> Iterator[ndarray]:
    """Row numbers, pass after pass in a random order; a pass ends with what is left."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count, cfg.batch):
            yield order[start : start + cfg.batch]


def train(model: Model, data: dict[str, ndarray], cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one update per item, yielding the cross-entropy of its batch in nats."""
    model["mean"][:] = data["points"].mean(axis=0)
    model["scale"][:] = data["points"].std(axis=0)
    learned = [name for name in model if name not in ("mean", "scale")]
    velocity = {name: np.zeros_like(model[name]) for name in learned}
    rows_of_batch = batches(len(data["labels"]), cfg, rng)
    for step in range(cfg.steps):
        lr = cfg.lr * (1 - (1 - cfg.last_lr) * step / cfg.steps)
        rows = next(rows_of_batch)
        weights = {name: Variable(value) for name, value in model.items()}
        loss = cross_entropy(forward(weights, data["points"][rows]), data["labels"][rows])
        loss.add(penalty(weights, cfg)).backward()
        for name in learned:
            velocity[name] = cfg.momentum * velocity[name] + weights[name].grad
            model[name] -= lr * velocity[name]
        yield loss.value.item()


def predict(model: Model, inputs: ndarray) -> ndarray:  # [N, F] -> [N, K]
    """Log-probabilities of the classes."""
    weights = {name: Variable(value) for name, value in model.items()}
    return forward(weights, inputs).value
