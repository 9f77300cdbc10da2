"""A search for settings that gives up early on what does badly, and a register of all that was tried.

Many settings are trained a little, the better third of them three times as long, and so on: most of the
budget goes to what promises most. Every epoch is written down, so that an interrupted search goes on and pays
for nothing twice.

Shapes: N rows, D features, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray


@dataclass(frozen=True, kw_only=True)
class Config:
    settings: int = 27
    factor: int = 3  # of those tried one goes on
    least: int = 1  # epochs of the first rung
    most: int = 27  # epochs of the last
    batch: int = 20
    seed: int = 11


@dataclass(frozen=True)
class Setting:
    lr: float
    penalty: float
    momentum: float


def draw(count: int, seed: int) -> list[Setting]:
    """Settings at random, rates and penalties evenly over orders of magnitude; the same for the same seed."""
    rng = np.random.default_rng(seed)
    lr = 10 ** rng.uniform(-4, 1, count)
    penalty = 10 ** rng.uniform(-5, -1, count)
    momentum = rng.choice([0.0, 0.5, 0.9], count)
    return [Setting(*map(float, row)) for row in zip(lr, penalty, momentum, strict=True)]


def rungs(least: int, most: int, factor: int) -> list[int]:
    """Epochs at which settings are compared: from the least up by the factor, ending with the most."""
    found = []
    epochs = least
    while epochs < most:
        found.append(epochs)
        epochs *= factor
    return [*found, most]


def promoted(scores: dict[int, float], factor: int, *, largest: bool = False) -> list[int]:
    """The better one in `factor` by their scores, best first, never none; equal ones by the smaller number.

    A score that is not a number is worse than any.
    """
    sign = -1.0 if largest else 1.0

    def key(number: int) -> tuple[float, int]:
        score = scores[number]
        return (math.inf if math.isnan(score) else sign * score), number

    order = sorted(scores, key=key)
    return order[: max(1, len(order) // factor)] if order else []


@dataclass
class Trial:
    """A setting with the weights that it has come to."""

    setting: Setting
    weights: ndarray  # [D + 1, K]
    speed: ndarray
    epochs: int = 0


def new_trial(setting: Setting, features: int, classes: int) -> Trial:
    shape = features + 1, classes
    return Trial(setting, np.zeros(shape), np.zeros(shape))


def log_chances(weights: ndarray, points: ndarray) -> ndarray:  # [D + 1, K], [N, D] -> [N, K]
    scores = points @ weights[:-1] + weights[-1]
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def loss(weights: ndarray, points: ndarray, labels: ndarray) -> float:
    """The mean negative log-likelihood, in nats; not a number for weights that are none."""
    return float(-log_chances(weights, points)[np.arange(len(labels)), labels].mean())


def epoch(trial: Trial, points: ndarray, labels: ndarray, batch: int, rng: np.random.Generator) -> None:
    """One pass of gradient descent with momentum; the penalty is on the weights, not on the offsets."""
    order = rng.permutation(len(labels))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        error = np.exp(log_chances(trial.weights, points[rows]))
        error[np.arange(len(rows)), labels[rows]] -= 1
        slope = np.concatenate([points[rows].T @ error, error.sum(axis=0, keepdims=True)]) / len(rows)
        slope[:-1] += trial.setting.penalty * trial.weights[:-1]
        trial.speed = trial.setting.momentum * trial.speed + slope
        trial.weights = trial.weights - trial.setting.lr * trial.speed
    trial.epochs += 1


@dataclass
class Register:
    """What has been paid for: for each number and count of epochs the validation loss."""

    entries: list[tuple[int, int, float]] = field(default_factory=list)  # number, epochs, loss

    def add(self, number: int, epochs: int, score: float) -> None:
        self.entries.append((number, epochs, score))

    def score(self, number: int, epochs: int) -> float | None:
        """The loss of a setting after so many epochs; None where it has not been trained as long."""
        return next((found for one, at, found in self.entries if (one, at) == (number, epochs)), None)

    def spent(self) -> int:
        """Epochs in all: of each setting as many as the longest of its entries."""
        longest: dict[int, int] = {}
        for number, epochs, _ in self.entries:
            longest[number] = max(longest.get(number, 0), epochs)
        return sum(longest.values())

    def best(self) -> tuple[int, int, float]:
        """The entry with the lowest loss that is a number; of equal ones the cheaper."""
        able = [entry for entry in self.entries if not math.isnan(entry[2])]
        return min(able, key=lambda entry: (entry[2], entry[1], entry[0]))


def search(
    data: dict[str, ndarray],
    cfg: Config,
    known: list[tuple[int, int, float]] | None = None,
    limit: int = 10**9,
) -> dict:
    """Successive halving: the register, the best entry, who reached which rung, epochs trained now.

    `data` has `points`, `labels` to learn from and `points_held`, `labels_held` to compare on. Entries that
    are `known` are not compared again; a search that reaches the `limit` of epochs stops; it can go on later.
    """
    register, trained = Register([tuple(entry) for entry in known or []]), 0
    classes = int(data["labels"].max()) + 1
    settings = draw(cfg.settings, cfg.seed)
    trials: dict[int, Trial] = {}
    alive = list(range(cfg.settings))
    reached: dict[int, list[int]] = {}
    for height, epochs in enumerate(rungs(cfg.least, cfg.most, cfg.factor)):
        scores = {}
        for number in alive:
            score = register.score(number, epochs)
            if score is None:
                trial = trials.setdefault(
                    number, new_trial(settings[number], data["points"].shape[1], classes)
                )
                for _ in steps(trial, epochs, number, data, cfg):
                    trained += 1
                score = loss(trial.weights, data["points_held"], data["labels_held"])
                register.add(number, epochs, score)
            scores[number] = score
            if trained >= limit:
                return report(register, reached, trained)
        reached[height] = alive
        alive = promoted(scores, cfg.factor)
    return report(register, reached, trained)


def steps(trial: Trial, epochs: int, number: int, data: dict[str, ndarray], cfg: Config) -> Iterator[None]:
    """Train up to so many epochs; each epoch of each setting has an order of its own, whenever it comes."""
    while trial.epochs < epochs:
        rng = np.random.default_rng([cfg.seed, number, trial.epochs])
        epoch(trial, data["points"], data["labels"], cfg.batch, rng)
        yield


def report(register: Register, reached: dict[int, list[int]], trained: int) -> dict:
    return {
        "entries": register.entries,
        "best": register.best(),
        "reached": reached,
        "spent": register.spent(),
        "trained": trained,
    }
