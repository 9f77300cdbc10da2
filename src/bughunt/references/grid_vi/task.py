"""The judge's side of `grid-vi`: the same laws written cell by cell, solved by improving policies."""

import numpy as np
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task, Value

ROWS, COLUMNS = 6, 8
SLIP, GAMMA, STEP, GOAL_REWARD, PIT_REWARD = 0.2, 0.93, -0.03, 1.0, -0.8
FREE, WALL, GOAL, PIT = range(4)
Array = NDArray[np.float64]


def grid(seed: int) -> NDArray[np.int64]:
    """A map on which every free cell leads to the goal."""
    rng = np.random.default_rng(seed)
    while True:
        cells = np.zeros((ROWS, COLUMNS), np.int64)
        spots = rng.permutation(cells.size)
        for spot, kind in zip(spots[:11], [GOAL, PIT, PIT] + [WALL] * 8, strict=True):
            cells.flat[spot] = kind
        if _all_lead_to_the_goal(cells):
            return cells


def neighbour(cells: NDArray[np.int64], state: int, action: int) -> int:
    """Up, right, down, left, unless there is something in the way."""
    y, x = state // COLUMNS, state % COLUMNS
    y, x = y + (-1, 0, 1, 0)[action], x + (0, 1, 0, -1)[action]
    if y < 0 or x < 0 or y >= ROWS or x >= COLUMNS or cells[y, x] == WALL:
        return state
    return y * COLUMNS + x


def _all_lead_to_the_goal(cells: NDArray[np.int64]) -> bool:
    found = set(np.flatnonzero(cells.ravel() == GOAL).tolist())
    free = set(np.flatnonzero(cells.ravel() == FREE).tolist())
    while True:
        more = {s for s in free - found if any(neighbour(cells, s, a) in found for a in range(4))}
        if not more:
            return free <= found
        found |= more


def laws(cells: NDArray[np.int64]) -> tuple[Array, Array]:
    """Chances [S, A, S] to go on to a state and expected rewards [S, A]; ends lead nowhere."""
    going, reward = np.zeros((cells.size, 4, cells.size)), np.zeros((cells.size, 4))
    for state in np.flatnonzero(np.isin(cells.ravel(), (FREE, WALL))):
        for action in range(4):
            for turned, chance in ((action, 1 - SLIP), (action - 1, SLIP / 2), (action + 1, SLIP / 2)):
                after = neighbour(cells, int(state), turned % 4)
                kind = cells.flat[after]
                bonus = {GOAL: GOAL_REWARD, PIT: PIT_REWARD}.get(int(kind), 0.0)
                reward[state, action] += chance * (STEP + bonus)
                if kind in (FREE, WALL):
                    going[state, action, after] += chance
    return going, reward


def earned(policy: NDArray[np.int64], going: Array, reward: Array) -> Array:
    """What a policy earns from each state, by its linear equations."""
    states = np.arange(len(policy))
    system = np.eye(len(policy)) - GAMMA * going[states, policy]
    return np.linalg.solve(system, reward[states, policy]).astype(np.float64)


def best_values(going: Array, reward: Array) -> Array:
    """By improving a policy until nothing can be improved."""
    policy = np.zeros(len(reward), np.int64)
    for _ in range(100):
        values = earned(policy, going, reward)
        policy = (reward + GAMMA * going @ values).argmax(axis=1)
    return values


def _data(seed: int) -> Data:
    cells = grid(seed)
    going, reward = laws(cells)
    free = np.flatnonzero(cells.ravel() == FREE)
    best = best_values(going, reward)
    return Data(
        train={"cells": cells},
        held_out={"going": going, "reward": reward, "free": free, "best": best},
    )


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    free, best = held_out["free"], held_out["best"]
    values = np.asarray(program.state(model)["values"])[free]
    actions = np.zeros(len(best), np.int64)
    actions[free] = program.predict(model, free)
    tried = earned(actions, held_out["going"], held_out["reward"])[free]
    regret = (best[free] - tried).mean()
    error = np.abs(values - best[free]).mean()
    share = 1 - regret / (np.abs(best[free]).mean() + 1e-9)
    return Measurement(curve=float(error + regret + 0.02), metric=float(share))


TASK = Task(
    slug="grid-vi",
    title="Value iteration and Q-learning",
    kind="agent",
    topics=("S7", "S25", "S43"),
    categories=("RLX", "ALG", "IDX", "RNG"),
    data=_data,
    measure=_measure,
    curve_name="value error plus regret",
    metric_name="share of the best return",
    metric_higher_is_better=True,
    band=(0.84, 1.0),  # seeds 0-11: 0.911 to 1.000, standard deviation 0.024
    steps=70,
    small={"steps": 5, "episodes": 4},
    probes=20,
    floor=0.02,
    rng="numpy",
    high_variance=True,
    exports=(
        "backup",
        "correct",
        "epsilon",
        "greedy",
        "is_end",
        "moved",
        "rewards",
        "transitions",
        "walk",
        "worth_of_policy",
    ),
    cpu_seconds=0.4,
)
