"""A mixture of normal distributions, fitted by expectation and maximisation.

Every iteration says how much of each point belongs to each component, then gives each component the weight,
mean and covariance of its share. Several runs start from seeds of their own, and the model holds the best.

Shapes: N points, D features, K components.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

Mixture = dict[str, ndarray]  # weights [K], means [K, D], covariances [K, D, D]


@dataclass(frozen=True, kw_only=True)
class Config:
    features: int = 3
    components: int = 4
    restarts: int = 5
    steps: int = 40
    ridge: float = 1e-4  # added to every variance


def build(cfg: Config) -> Mixture:
    return {
        "weights": np.full(cfg.components, 1 / cfg.components),
        "means": np.zeros((cfg.components, cfg.features)),
        "covariances": np.tile(np.eye(cfg.features), (cfg.components, 1, 1)),
    }


def log_sum_exp(values: ndarray) -> ndarray:  # [N, K] -> [N]
    largest = values.max(axis=1)
    return largest + np.log(np.exp(values - largest[:, None]).sum(axis=1))


def log_normal(points: ndarray, mean: ndarray, covariance: ndarray) -> ndarray:  # [N, D] -> [N]
    """The logarithm of the normal density."""
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, (points - mean).T)  # [D, N]
    log_determinant = 2 * np.log(np.diag(factor)).sum()
    return -0.5 * (len(mean) * np.log(2 * np.pi) + log_determinant + (white**2).sum(axis=0))


def joint(mixture: Mixture, points: ndarray) -> ndarray:  # [N, D] -> [N, K]
    """For each component the logarithm of its weight times its density."""
    parts = zip(mixture["means"], mixture["covariances"], strict=True)
    densities = np.stack([log_normal(points, *part) for part in parts], axis=1)
    return densities + np.log(mixture["weights"])


def expectation(mixture: Mixture, points: ndarray) -> tuple[ndarray, float]:
    """How much of each point belongs to each component [N, K], and the mean log-likelihood."""
    scores = joint(mixture, points)
    likelihood = log_sum_exp(scores)
    return np.exp(scores - likelihood[:, None]), float(likelihood.mean())


def maximisation(points: ndarray, shares: ndarray, ridge: float) -> Mixture:
    """The mixture that suits these shares [N, K] best; no component becomes flat."""
    counts = shares.sum(axis=0)  # [K]
    means = shares.T @ points / counts[:, None]
    covariances = []
    for k in range(shares.shape[1]):
        centred = points - means[k]
        scatter = (shares[:, k, None] * centred).T @ centred
        covariances.append(scatter / counts[k] + ridge * np.eye(points.shape[1]))
    return {"weights": counts / len(points), "means": means, "covariances": np.stack(covariances)}


def seeds(points: ndarray, count: int, rng: np.random.Generator) -> ndarray:  # -> [K, D]
    """Points far from one another: each is drawn by its squared distance to those before it."""
    units = points.std(axis=0)
    chosen = points[[rng.integers(len(points))]]
    while len(chosen) < count:
        gaps = (((points[:, None] - chosen) / units) ** 2).sum(axis=2).min(axis=1)
        pick = rng.choice(len(points), p=gaps / gaps.sum())
        chosen = np.vstack([chosen, points[pick]])
    return chosen


def start(points: ndarray, cfg: Config, rng: np.random.Generator) -> Mixture:
    spread = np.cov(points.T) / cfg.components + cfg.ridge * np.eye(cfg.features)
    return {
        "weights": np.full(cfg.components, 1 / cfg.components),
        "means": seeds(points, cfg.components, rng),
        "covariances": np.tile(spread, (cfg.components, 1, 1)),
    }


def bic(mixture: Mixture, points: ndarray) -> float:
    """Twice the negative log-likelihood, and a price on every free number; lower is better."""
    components, features = mixture["means"].shape
    free = (components - 1) + components * features + components * features * (features + 1) // 2
    _, likelihood = expectation(mixture, points)
    return -2 * len(points) * likelihood + free * np.log(len(points))


def sample(mixture: Mixture, count: int) -> ndarray:  # -> [N, D]
    """Points drawn from the mixture."""
    chosen = np.random.choice(len(mixture["weights"]), size=count, p=mixture["weights"])
    factors = np.linalg.cholesky(mixture["covariances"])[chosen]  # [N, D, D]
    noise = np.random.standard_normal((count, mixture["means"].shape[1], 1))
    return mixture["means"][chosen] + (factors @ noise)[:, :, 0]


def train(model: Mixture, data: ndarray, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one iteration of every run per item, yielding the best mean negative log-likelihood before it."""
    runs = [start(data, cfg, rng) for _ in range(cfg.restarts)]
    for _ in range(cfg.steps):
        likelihoods = []
        for number, mixture in enumerate(runs):
            shares, likelihood = expectation(mixture, data)
            runs[number] = maximisation(data, shares, cfg.ridge)
            likelihoods.append(likelihood)
        best = int(np.argmax(likelihoods))
        for name, values in runs[best].items():
            model[name][:] = values
        yield -likelihoods[best]


def predict(model: Mixture, inputs: ndarray) -> ndarray:  # [N, D] -> [N, K]
    """For each component the logarithm of its weight times its density."""
    return joint(model, inputs)
