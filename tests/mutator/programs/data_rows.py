"""Rows of a table and of a series on their way into small models."""

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

CLASSES = {"low": 0, "middle": 1, "high": 2}
PAD = 9


def table(rng):
    """Features, and class numbers counted from one; some rows have no answer and carry a zero."""
    features = rng.normal(3.0, 2.0, (61, 4)) + np.arange(61)[:, None] / 20
    total = features.sum(1)
    named = np.select([total < 10, total > 18], ["low", "high"], "middle")
    answers = np.array([CLASSES[name] + 1 for name in named])
    answers[::11] = 0
    return torch.from_numpy(features).float(), torch.from_numpy(answers)


def split(x, y, count):
    return (x[:count], y[:count]), (x[count:], y[count:])


def statistics(x, count):
    train, held = x[:count], x[count:]
    mean = train.mean(0)
    std = train.std(0)
    return mean, std, len(held)


def scaled(scale, x):
    mean, std, _ = scale
    return (x - mean) / std


def batches(x, y, rng):
    order = torch.randperm(len(y), generator=rng)
    for rows in order.split(8):
        yield x[rows], y[rows]


def fit(x, labels, rng):
    weights = torch.zeros(4, 3, requires_grad=True)
    for _ in range(3):
        for inputs, answers in batches(x, labels, rng):
            loss = F.cross_entropy(inputs @ weights, answers)
            (gradient,) = torch.autograd.grad(loss, weights)
            weights = (weights - 0.3 * gradient).detach().requires_grad_()
    return weights.detach()


def answered(x, labels):
    labels = labels - 1
    keep = labels >= 0
    return x[keep], labels[keep]


def windows(series, width):
    pairs = []
    for t in range(width, len(series)):
        pairs.append((series[t - width : t], series[t]))
    return np.stack([window for window, _ in pairs]), np.stack([after for _, after in pairs])


def past_and_future(series, count):
    train = series[:count]
    return train, series[count:]


def forecast_error(series):
    train, test = past_and_future(series, 70)
    inputs, targets = windows(train, 5)
    slope = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    inputs, targets = windows(test, 5)
    return float(((inputs @ slope - targets) ** 2).mean())


def padded(rows):
    x = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)
    real = x != PAD
    return (x * real).sum(1) / real.sum(1)


def first_draws(workers, seed):
    return [np.random.default_rng([seed, worker]).normal() for worker in range(workers)]


def fingerprint():
    np.random.seed(3)
    x, labels = answered(*table(np.random.default_rng(0)))
    training, held = split(x, labels, 45)
    scale = statistics(x, 45)
    rng = torch.Generator().manual_seed(1)
    weights = fit(scaled(scale, training[0]), training[1], rng)
    loss = F.cross_entropy(scaled(scale, held[0]) @ weights, held[1])
    series = np.cumsum(np.random.default_rng(2).normal(size=100))
    means = padded([[1, 2, 0], [3], [0, 4, 4, 5]])
    return [
        *weights.flatten().tolist(),
        loss.item(),
        forecast_error(series),
        *means.tolist(),
        *first_draws(3, seed=7),
    ]
