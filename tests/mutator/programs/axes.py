"""Principal axes, ridge regression, a support vector machine, neighbours, affinities, a filter."""

import numpy as np


class PCA:
    def __init__(self, x, k):
        self.mean = x.mean(axis=0)
        centred = x - self.mean
        _, axes = np.linalg.eigh(centred.T @ centred / len(x))
        self.axes = axes[:, -k:]

    def rest(self, x):
        """What is left of the rows when their share along the axes is taken away."""
        Z = x - self.mean
        return float(((Z - Z @ self.axes @ self.axes.T) ** 2).sum())


def ridge(x, y, lam):
    x = np.column_stack([np.ones(len(x)), x])
    penalty = lam * np.eye(x.shape[1])
    penalty[0, 0] = 0
    return np.linalg.solve(x.T @ x + penalty, x.T @ y)


def svm(x, y, lam, steps):
    """Minimise the hinge loss with a penalty by gradient descent."""
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        inside = y * (x @ w) < 1
        w = w - 0.1 * (lam * w - (y[inside] @ x[inside]) / len(x))
    return w


def distances(x):
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def neighbour_votes(x, y, k):
    near = distances(x).argsort(axis=1)[:, 1 : k + 1]
    return np.sign(y[near].sum(axis=1))


def affinities(x, widths):
    """How near the rows are to one another, as a table that sums to one."""
    P = np.exp(-distances(x) / widths[:, None])
    np.fill_diagonal(P, 0)
    P = P / P.sum(axis=1, keepdims=True)
    return (P + P.T) / (2 * len(P))


def kalman(observed, motion, sensor, drift, blur):
    """States of a linear system, estimated as observations come in."""
    state, P = np.zeros(len(motion)), np.eye(len(motion))
    states = []
    for z in observed:
        state, P = motion @ state, motion @ P @ motion.T + drift
        S = sensor @ P @ sensor.T + blur
        K = P @ sensor.T @ np.linalg.inv(S)
        state = state + K @ (z - sensor @ state)
        P = P - K @ sensor @ P
        states.append(state)
    return np.array(states)


def fingerprint():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3)) * [3.0, 1.0, 0.2] + [5.0, 2.0, 4.0]
    y = np.where(x[:, 0] + 4 * rng.normal(size=30) > 5, 1.0, -1.0)
    motion, sensor = np.array([[1.0, 0.3], [0.0, 0.9]]), np.array([[1.0, 0.5], [0.0, 1.0]])
    drift = np.array([[0.2, 0.05], [0.05, 0.1]])
    states = kalman(rng.normal(size=(9, 2)), motion, sensor, drift, 0.4 * np.eye(2))
    return [
        PCA(x, 2).rest(x),
        *ridge(x, x @ [1.0, 2.0, 3.0] + 7, lam=4.0),
        *svm(x - 4, y, lam=0.3, steps=40),
        float((neighbour_votes(x, y, 3) == y).mean()),
        *affinities(x[:4], np.array([1.0, 2.0, 3.0, 4.0])).ravel(),
        *states.ravel(),
    ]
