"""Stumps, a forest of them, and stumps that correct one another."""

import numpy as np


def gini(y):
    share = np.bincount(y, minlength=2) / max(len(y), 1)
    return 1 - (share**2).sum()


def purest_split(x, y):
    """The column and threshold with the purest sides."""
    best = (np.inf, 0, 0.0)
    for column in range(x.shape[1]):
        for threshold in np.unique(x[:, column])[:-1]:
            right = x[:, column] > threshold
            n, n_right = len(y), right.sum()
            cost = (n - n_right) / n * gini(y[~right]) + n_right / n * gini(y[right])
            best = min(best, (cost, column, threshold))
    return best[1:]


def forest(x, y, count, rng):
    trees = []
    for _ in range(count):
        rows = rng.integers(0, len(x), len(x))
        trees.append(purest_split(x[rows], y[rows]))
    return trees


def fit_stump(x, residual):
    """The threshold on the first column, and the means of both sides, with the least squares."""
    best = (np.inf, 0.0, 0.0, 0.0)
    for threshold in np.unique(x[:, 0])[:-1]:
        right = x[:, 0] > threshold
        low, high = residual[~right].mean(), residual[right].mean()
        cost = ((residual - np.where(right, high, low)) ** 2).sum()
        best = min(best, (cost, threshold, low, high))
    return best[1:]


def answer(stump, x):
    threshold, low, high = stump
    return np.where(x[:, 0] > threshold, high, low)


def boost(x, y, rounds, rate):
    base = y.mean()
    out = np.full(len(x), base)
    stumps = []
    for _ in range(rounds):
        residual = y - out
        stumps.append(fit_stump(x, residual))
        out = out + rate * answer(stumps[-1], x)
    return {"base": base, "stumps": stumps, "rate": rate}


def predict(model, x):
    out = np.full(len(x), model["base"])
    for stump in model["stumps"]:
        out = out + model["rate"] * answer(stump, x)
    return out


def fingerprint():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(25, 2))
    y = (x[:, 0] + 0.7 * x[:, 1] + 2 * rng.normal(size=25) > 0.6).astype(int)
    splits = [value for split in forest(x, y, 4, rng) for value in split]
    model = boost(x, np.sin(2 * x[:, 0]) + 3, rounds=8, rate=0.5)
    return [*purest_split(x, y), *splits, *predict(model, x)]
