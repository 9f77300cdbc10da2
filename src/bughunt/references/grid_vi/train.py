"""A slippery grid, solved twice: by a planner who knows its laws and by a walker who only tries.

The planner backs values up from state to state until they no longer change. The walker does not know where
a step leads; it keeps a table of what each step was worth and corrects it by what it sees next.

Shapes: Y rows, X columns, S states (Y * X), A actions, E episodes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Model = dict[str, Array]

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left; neighbours are at right angles
FREE, WALL, GOAL, PIT = range(4)


@dataclass(frozen=True, kw_only=True)
class Config:
    rows: int = 6
    columns: int = 8
    slip: float = 0.2  # chance to go at a right angle instead, half of it to either side
    gamma: float = 0.93
    step_reward: float = -0.03
    goal_reward: float = 1.0
    pit_reward: float = -0.8
    steps: int = 70
    episodes: int = 25  # walked an item
    longest: int = 50  # steps of an episode
    first_epsilon: float = 0.9
    last_epsilon: float = 0.1
    slowing: float = 0.65  # of the walker's corrections, a power of the number of visits


def build(cfg: Config) -> Model:
    """Nobody knows anything yet."""
    states, actions = cfg.rows * cfg.columns, len(MOVES)
    return {
        "values": np.zeros(states),
        "table": np.zeros((states, actions)),
        "visits": np.zeros((states, actions)),
    }


def moved(state: int, action: int, cells: NDArray[np.int64]) -> int:
    """Where a step ends that goes as it should; walls and the edge keep you where you are."""
    rows, columns = cells.shape
    row, column = divmod(state, columns)
    row, column = row + MOVES[action][0], column + MOVES[action][1]
    inside = 0 <= row < rows and 0 <= column < columns
    return row * columns + column if inside and cells[row, column] != WALL else state


def transitions(cells: NDArray[np.int64], slip: float) -> Array:  # [Y, X] -> [S, A, S]
    """The chance to reach each state by each action; goals and pits are never left."""
    law = np.zeros((cells.size, len(MOVES), cells.size))
    for state, kind in enumerate(cells.flat):
        for action in range(len(MOVES)):
            if kind in (GOAL, PIT):
                law[state, action, state] = 1.0
                continue
            for turn, chance in ((0, 1 - slip), (1, slip / 2), (-1, slip / 2)):
                law[state, action, moved(state, (action + turn) % len(MOVES), cells)] += chance
    return law


def rewards(cells: NDArray[np.int64], cfg: Config) -> Array:  # [Y, X] -> [S]
    """What reaching each state gives."""
    flat = cells.ravel()
    bonus = np.select([flat == GOAL, flat == PIT], [cfg.goal_reward, cfg.pit_reward], 0.0)
    return cfg.step_reward + bonus


def is_end(cells: NDArray[np.int64]) -> NDArray[np.bool_]:  # [Y, X] -> [S]
    return np.isin(cells.ravel(), (GOAL, PIT))


def backup(values: Array, law: Array, reward: Array, ends: NDArray[np.bool_], gamma: float) -> Array:
    """What each action is worth, [S, A], given what states are; nothing comes after an end."""
    ahead = reward + gamma * np.where(ends, 0.0, values)  # [S], on arrival
    worth = law @ ahead  # [S, A]
    worth[ends] = 0.0
    return worth


def greedy(worth: Array) -> NDArray[np.int64]:  # [S, A] -> [S]
    """The best action; the first of those that are equally good."""
    return worth.argmax(axis=1)


def worth_of_policy(
    policy: NDArray[np.int64], law: Array, reward: Array, ends: NDArray[np.bool_], gamma: float
) -> Array:  # [S] -> [S]
    """What a policy earns from each state on, from the linear equations that it obeys."""
    states = np.arange(len(policy))
    chosen = law[states, policy]  # [S, S]
    going = np.where(ends, 0.0, 1.0)
    system = np.eye(len(policy)) - gamma * going[:, None] * chosen * going
    return np.linalg.solve(system, going * (chosen @ reward))


def epsilon(step: int, cfg: Config) -> float:
    """The share of steps taken at random, falling along a line."""
    gone = step / max(cfg.steps - 1, 1)
    return cfg.first_epsilon + gone * (cfg.last_epsilon - cfg.first_epsilon)


def correct(
    model: Model, state: int, action: int, reward: float, after: int, done: bool, cfg: Config
) -> float:
    """Move one entry of the table towards what was seen; the error that it had."""
    ahead = model["table"][after].max()
    error = reward + cfg.gamma * ahead * (1 - done) - model["table"][state, action]
    model["visits"][state, action] += 1
    rate = model["visits"][state, action] ** -cfg.slowing
    model["table"][state, action] += rate * error
    return float(error)


def walk(
    model: Model,
    law: Array,
    reward: Array,
    ends: NDArray[np.bool_],
    start: int,
    share: float,
    cfg: Config,
    rng: Generator,
) -> int:
    """One episode, learning at every step; how long it was."""
    reach = law.cumsum(axis=2)
    state = start
    for time in range(cfg.longest):
        at_random, luck = rng.random(2)
        best = int(model["table"][state].argmax())
        action = int(rng.integers(len(MOVES))) if at_random < share else best
        after = min(int(np.searchsorted(reach[state, action], luck, side="right")), len(ends) - 1)
        correct(model, state, action, reward[after], after, bool(ends[after]), cfg)
        if ends[after]:
            return time + 1
        state = after
    return cfg.longest


def train(
    model: Model, data: Mapping[str, NDArray[np.int64]], cfg: Config, rng: Generator
) -> Iterator[float]:
    """One sweep of the planner and a few episodes of the walker per item.

    Yields how much less the walker's policy earns than the planner's, on average over the states.
    """
    cells = data["cells"]
    law, reward, ends = transitions(cells, cfg.slip), rewards(cells, cfg), is_end(cells)
    starts = np.flatnonzero(cells.ravel() == FREE)
    for step in range(cfg.steps):
        worth = backup(model["values"], law, reward, ends, cfg.gamma)
        model["values"][:] = worth.max(axis=1)
        for start in rng.choice(starts, cfg.episodes):
            walk(model, law, reward, ends, int(start), epsilon(step, cfg), cfg, rng)
        planned = worth_of_policy(greedy(worth), law, reward, ends, cfg.gamma)
        tried = worth_of_policy(greedy(model["table"]), law, reward, ends, cfg.gamma)
        yield float((planned - tried)[starts].mean())


def predict(model: Model, inputs: NDArray[np.int64]) -> NDArray[np.int64]:  # states [N] -> actions [N]
    """What the walker does in each state."""
    return greedy(model["table"][inputs])
