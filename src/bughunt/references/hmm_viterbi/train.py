"""A hidden Markov model that learns from sequences without labels, and decodes them.

Each iteration runs forward and backward over every sequence, so that the posterior chance of each state and
of each step is known, and counts with those chances. Everything stays in logarithms. The same model can also
be counted from labelled sequences, and finds the likeliest path through the states.  Shapes: B sequences, T
places, S states, V symbols.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

Hmm = dict[str, ndarray]  # logarithms: start [S], move [S, S] from row to column, emit [S, V]


@dataclass(frozen=True, kw_only=True)
class Config:
    states: int = 4
    symbols: int = 7
    steps: int = 30
    prior: float = 0.1  # added to every count
    noise: float = 0.7  # of the first emissions


def normalise(counts: ndarray, prior: float) -> ndarray:
    """Logarithms of shares along the last axis."""
    counts = counts + prior
    return np.log(counts / counts.sum(axis=-1, keepdims=True))


def build(cfg: Config) -> Hmm:
    blur = np.random.normal(size=(cfg.states, cfg.symbols))
    return {
        "start": np.full(cfg.states, -np.log(cfg.states)),
        "move": normalise(np.eye(cfg.states), 0.5),  # states tend to last
        "emit": normalise(np.exp(cfg.noise * blur), 0.0),
    }


def log_sum_exp(values: ndarray, axis: int) -> ndarray:
    largest = values.max(axis=axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0.0)  # a state that cannot be reached
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(values - largest).sum(axis=axis, keepdims=True))
    return np.squeeze(largest + total, axis=axis)


def forward(hmm: Hmm, symbols: ndarray) -> ndarray:  # [T] -> [T, S]
    """The joint chance of the symbols so far and of each state now."""
    table = np.empty((len(symbols), len(hmm["start"])))
    table[0] = hmm["start"] + hmm["emit"][:, symbols[0]]
    for t in range(1, len(symbols)):
        arrived = log_sum_exp(table[t - 1][:, None] + hmm["move"], axis=0)
        table[t] = arrived + hmm["emit"][:, symbols[t]]
    return table


def backward(hmm: Hmm, symbols: ndarray) -> ndarray:  # [T] -> [T, S]
    """The chance of the symbols to come, given each state now."""
    table = np.zeros((len(symbols), len(hmm["start"])))
    for t in range(len(symbols) - 2, -1, -1):
        ahead = hmm["emit"][:, symbols[t + 1]] + table[t + 1]
        table[t] = log_sum_exp(hmm["move"] + ahead[None, :], axis=1)
    return table


def log_likelihood(hmm: Hmm, symbols: ndarray) -> float:
    return float(log_sum_exp(forward(hmm, symbols)[-1], axis=0))


def expectations(hmm: Hmm, symbols: ndarray) -> tuple[ndarray, ndarray, float]:
    """The chance of each state at each place [T, S], how often each step is expected [S, S], both given all
    symbols, and the log-likelihood of those.
    """
    before, after = forward(hmm, symbols), backward(hmm, symbols)
    likelihood = log_sum_exp(before[-1], axis=0)
    chances = np.exp(before + after - likelihood)
    ahead = hmm["emit"][:, symbols[1:]].T + after[1:]  # [T - 1, S]
    joint = before[:-1, :, None] + hmm["move"] + ahead[:, None, :]  # [T - 1, S, S]
    return chances, np.exp(joint - likelihood).sum(axis=0), float(likelihood)


def viterbi(hmm: Hmm, symbols: ndarray) -> tuple[ndarray, float]:
    """The likeliest path [T], and the logarithm of its joint chance with the symbols."""
    score = hmm["start"] + hmm["emit"][:, symbols[0]]
    pointers = np.zeros((len(symbols), len(score)), dtype=np.int64)
    for t in range(1, len(symbols)):
        options = score[:, None] + hmm["move"]  # from row to column
        pointers[t] = options.argmax(axis=0)
        score = options.max(axis=0) + hmm["emit"][:, symbols[t]]
    path = np.zeros(len(symbols), dtype=np.int64)
    path[-1] = score.argmax()
    for t in range(len(symbols) - 1, 0, -1):
        path[t - 1] = pointers[t, path[t]]
    return path, float(score.max())


def supervised(sequences: list, paths: list, cfg: Config) -> Hmm:
    """The model by counting, where the states are known."""
    start = np.zeros(cfg.states)
    move = np.zeros((cfg.states, cfg.states))
    emit = np.zeros((cfg.states, cfg.symbols))
    for symbols, path in zip(sequences, paths, strict=True):
        start[path[0]] += 1
        np.add.at(move, (path[:-1], path[1:]), 1)
        np.add.at(emit, (path, symbols), 1)
    return {
        "start": normalise(start, cfg.prior),
        "move": normalise(move, cfg.prior),
        "emit": normalise(emit, cfg.prior),
    }


def reestimate(hmm: Hmm, sequences: list, cfg: Config) -> tuple[Hmm, float]:
    """The model by expected counts, and the mean log-likelihood a symbol of the one before."""
    start = np.zeros(cfg.states)
    move = np.zeros((cfg.states, cfg.states))
    emit = np.zeros((cfg.states, cfg.symbols))
    likelihood, length = 0.0, 0
    for symbols in sequences:
        chances, steps, total = expectations(hmm, symbols)
        start += chances[0]
        move += steps
        np.add.at(emit.T, symbols, chances)
        likelihood += total
        length += len(symbols)
    new = {
        "start": normalise(start, cfg.prior),
        "move": normalise(move, cfg.prior),
        "emit": normalise(emit, cfg.prior),
    }
    return new, likelihood / length


def train(model: Hmm, data: list, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one iteration over all sequences per item, yielding the nats a symbol before it."""
    sequences = [data[number] for number in rng.permutation(len(data))]
    for _ in range(cfg.steps):
        new, likelihood = reestimate(model, sequences, cfg)
        for name, values in new.items():
            model[name][:] = values
        yield -likelihood


def predict(model: Hmm, inputs: list) -> list:
    """For each sequence the likeliest path [T] and its log-likelihood."""
    return [(viterbi(model, symbols)[0], log_likelihood(model, symbols)) for symbols in inputs]
