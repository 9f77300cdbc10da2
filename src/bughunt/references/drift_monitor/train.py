"""A model in service is watched: have its inputs changed, does it still do as well, when is it fitted anew?

Windows of a stream are compared with the rows that the model was fitted on. An alarm needs several bad
windows in a row; after it labelled rows are gathered, a new model is fitted on these alone, and it goes into
service only if it does better on rows that neither has seen.

Shapes: N rows, D features, K bins.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray


@dataclass(frozen=True, kw_only=True)
class Config:
    bins: int = 8
    index_limit: float = 0.2  # of the stability index
    distance_factor: float = 1.95  # of the distance of distributions; 1.36 would be 5 % a feature
    drop: float = 0.08  # of accuracy
    patience: int = 2  # bad windows in a row
    gather: int = 3  # windows after an alarm
    check: float = 0.3  # share of the gathered rows that the new model is tried on
    penalty: float = 0.5


def edges(reference: ndarray, bins: int) -> ndarray:  # [N] -> at most [K - 1]
    """Inner limits of bins with equally many rows of the reference; none twice."""
    return np.unique(np.quantile(reference, np.arange(1, bins) / bins))


def shares(values: ndarray, limits: ndarray) -> ndarray:  # [N] -> [K]
    """How much of the values is in each bin, none of them zero: half a row is added to each."""
    counts = np.bincount(np.searchsorted(limits, values, side="right"), minlength=len(limits) + 1)
    return (counts + 0.5) / (len(values) + 0.5 * len(counts))


def stability_index(reference: ndarray, window: ndarray, bins: int) -> float:
    """How unlike two samples are, in nats; the bins are those of the reference."""
    limits = edges(reference, bins)
    expected, found = shares(reference, limits), shares(window, limits)
    return float(((found - expected) * np.log(found / expected)).sum())


def distance(reference: ndarray, window: ndarray) -> float:
    """The largest gap between the two distribution functions (Kolmogorov and Smirnov)."""
    places = np.concatenate([reference, window])
    below = np.searchsorted(np.sort(reference), places, side="right") / len(reference)
    found = np.searchsorted(np.sort(window), places, side="right") / len(window)
    return float(np.abs(below - found).max())


def drifted(reference: ndarray, window: ndarray, cfg: Config) -> list[int]:  # [N, D], [M, D]
    """The features whose distribution has changed by both measures."""
    limit = cfg.distance_factor * np.sqrt(1 / len(reference) + 1 / len(window))
    return [
        column
        for column in range(reference.shape[1])
        if stability_index(reference[:, column], window[:, column], cfg.bins) > cfg.index_limit
        and distance(reference[:, column], window[:, column]) > limit
    ]


def fit(points: ndarray, labels: ndarray, penalty: float, rounds: int = 25) -> ndarray:  # -> [D + 1]
    """Logistic regression by Newton's method; the last weight is the offset, which is not penalised."""
    x = np.column_stack([points, np.ones(len(points))])
    weights = np.zeros(x.shape[1])
    pull = penalty * np.append(np.ones(points.shape[1]), 0.0)
    for _ in range(rounds):
        chance = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (chance - labels) + pull * weights
        bend = (x.T * (chance * (1 - chance))) @ x + np.diag(pull) + 1e-9 * np.eye(len(weights))
        weights = weights - np.linalg.solve(bend, slope)
    return weights


def answers(weights: ndarray, points: ndarray) -> ndarray:  # [D + 1], [N, D] -> [N]
    return (points @ weights[:-1] + weights[-1] > 0).astype(np.int64)


def accuracy(weights: ndarray, points: ndarray, labels: ndarray) -> float:
    return float((answers(weights, points) == labels).mean())


def fit_and_check(points: ndarray, labels: ndarray, cfg: Config) -> tuple[ndarray, ndarray, ndarray]:
    """A model of the older rows; the newer ones, which it has not seen, and their labels."""
    cut = len(points) - round(cfg.check * len(points))
    return fit(points[:cut], labels[:cut], cfg.penalty), points[cut:], labels[cut:]


@dataclass
class Monitor:
    """A model in service with all that is needed to watch it and to replace it."""

    weights: ndarray
    reference: ndarray
    usual: float  # accuracy when it went into service
    cfg: Config
    bad: int = 0  # windows in a row
    gathering: bool = False
    points: list[ndarray] = field(default_factory=list)
    labels: list[ndarray] = field(default_factory=list)
    previous: tuple[ndarray, ndarray, float] | None = None  # weights, reference, usual

    def look(self, points: ndarray, labels: ndarray) -> dict:
        """One window: `accuracy` of the model that served it, `drifted` features, and what happens next.

        `event` is "quiet", "alarm", "gathering", "replaced" or "kept". The window is scored before it is
        learned from.
        """
        found = accuracy(self.weights, points, labels)
        features = drifted(self.reference, points, self.cfg)
        return {"accuracy": found, "drifted": features, "event": self.react(found, features, points, labels)}

    def react(self, found: float, features: list[int], points: ndarray, labels: ndarray) -> str:
        if self.gathering:
            return self.gather(points, labels)
        worse = self.usual - found > self.cfg.drop
        self.bad = self.bad + 1 if features or worse else 0
        if self.bad < self.cfg.patience:
            return "quiet"
        self.gathering, self.bad = True, 0
        self.points, self.labels = [], []
        return "alarm"

    def gather(self, points: ndarray, labels: ndarray) -> str:
        """Keep a window of after the alarm; with enough of them fit anew, and replace what does worse."""
        self.points.append(points)
        self.labels.append(labels)
        if len(self.points) < self.cfg.gather:
            return "gathering"
        self.gathering = False
        rows, known = np.concatenate(self.points), np.concatenate(self.labels)
        new, unseen, truth = fit_and_check(rows, known, self.cfg)
        reached = accuracy(new, unseen, truth)
        if reached <= accuracy(self.weights, unseen, truth):
            self.reference = rows  # the inputs have changed, the answers have not
            return "kept"
        self.previous = (self.weights, self.reference, self.usual)
        self.weights, self.reference, self.usual = new, rows, reached
        return "replaced"

    def roll_back(self) -> bool:
        """Put the model before the last replacement back into service, once; False where there is none."""
        if self.previous is None:
            return False
        self.weights, self.reference, self.usual = self.previous
        self.previous, self.gathering, self.bad = None, False, 0
        return True


def put_into_service(points: ndarray, labels: ndarray, cfg: Config) -> Monitor:
    """A monitor of a model fitted on these rows; the usual accuracy is that on rows it has not seen."""
    weights, unseen, truth = fit_and_check(points, labels, cfg)
    return Monitor(weights, points, accuracy(weights, unseen, truth), cfg)


def watch(
    points: ndarray, labels: ndarray, windows: list[tuple[ndarray, ndarray]], cfg: Config
) -> list[dict]:
    """What a monitor says of each window of a stream."""
    monitor = put_into_service(points, labels, cfg)
    return [monitor.look(*window) for window in windows]
