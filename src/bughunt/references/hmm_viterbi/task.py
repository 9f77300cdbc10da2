"""The judge's side of `hmm-viterbi`: symbols from a hidden chain whose law is known."""

import itertools

import numpy as np
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task, Value

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

STATES, SYMBOLS = 4, 7
TRAINED, HELD_OUT = 24, 40
SHORTEST, LONGEST = 15, 33
MARGIN = 0.02  # nats added to the excess, so that the curve stays above zero
START = np.array([0.55, 0.25, 0.15, 0.05])
MOVE = np.array(
    [
        [0.85, 0.12, 0.02, 0.01],
        [0.02, 0.80, 0.15, 0.03],
        [0.10, 0.02, 0.83, 0.05],
        [0.25, 0.05, 0.05, 0.65],
    ]
)
EMIT = np.array(
    [
        [0.62, 0.20, 0.10, 0.02, 0.02, 0.02, 0.02],
        [0.03, 0.10, 0.62, 0.18, 0.03, 0.02, 0.02],
        [0.02, 0.03, 0.02, 0.13, 0.60, 0.17, 0.03],
        [0.13, 0.02, 0.02, 0.03, 0.02, 0.13, 0.65],
    ]
)


def draw(rng: np.random.Generator) -> tuple[Ints, Ints]:
    """The symbols of one sequence, and the states that they came from."""
    state, path, symbols = int(rng.choice(STATES, p=START)), [], []
    for _ in range(int(rng.integers(SHORTEST, LONGEST + 1))):
        path.append(state)
        symbols.append(int(rng.choice(SYMBOLS, p=EMIT[state])))
        state = int(rng.choice(STATES, p=MOVE[state]))
    return np.array(symbols), np.array(path)


def true_log_likelihood(symbols: Ints) -> float:
    """Under the law that the symbols are drawn from, with scaled chances."""
    chance, total = START * EMIT[:, symbols[0]], 0.0
    for symbol in symbols[1:]:
        total += float(np.log(chance.sum()))
        chance = (chance / chance.sum()) @ MOVE * EMIT[:, symbol]
    return total + float(np.log(chance.sum()))


def _data(seed: int) -> Data:
    rng = np.random.default_rng(seed)
    drawn = [draw(rng) for _ in range(TRAINED + HELD_OUT)]
    unseen = drawn[TRAINED:]
    held_out = {"symbols": [symbols for symbols, _ in unseen], "paths": [path for _, path in unseen]}
    return Data(train=[symbols for symbols, _ in drawn[:TRAINED]], held_out=held_out)


def agreement(found: Ints, truth: Ints) -> float:
    """The share of places named right, under the best renaming of the states."""
    table = np.zeros((STATES, STATES))
    np.add.at(table, (found, truth), 1)
    best = max(table[np.arange(STATES), list(names)].sum() for names in itertools.permutations(range(STATES)))
    return float(best / len(found))


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """Nats a symbol that the true law is better by on unseen sequences, and the places decoded right."""
    answers = program.predict(model, held_out["symbols"])
    paths = np.concatenate([np.asarray(path) for path, _ in answers])
    length = len(paths)
    likelihood = sum(float(value) for _, value in answers) / length
    true = sum(true_log_likelihood(symbols) for symbols in held_out["symbols"]) / length
    right = agreement(paths, np.concatenate(held_out["paths"]))
    return Measurement(curve=MARGIN + true - likelihood, metric=right)


TASK = Task(
    slug="hmm-viterbi",
    title="Hidden Markov model",
    kind="sequence",
    topics=("S1", "S7", "S38", "S43", "S56"),
    categories=("ALG", "NUM", "IDX"),
    data=_data,
    measure=_measure,
    curve_name="excess of held-out negative log-likelihood",
    metric_name="places decoded right",
    metric_higher_is_better=True,
    band=(0.68, 0.91),  # seeds 0-9: 0.737 to 0.874
    steps=30,
    small={"steps": 3},
    probes=15,
    floor=MARGIN - 0.015,  # what luck may gain over the true law
    rng="numpy",
    exports=(
        "forward",
        "backward",
        "log_likelihood",
        "expectations",
        "viterbi",
        "supervised",
        "reestimate",
    ),
    cpu_seconds=0.8,
)
