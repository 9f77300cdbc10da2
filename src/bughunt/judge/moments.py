"""The moment test: equal on average where single random draws differ.

From the same weights the first steps are taken many times with other random draws: of the same batch, and,
for a repair that comes to its batches in another way, of other batches. Mean and spread of the loss, of the
gradients and of the updates must be the reference's, by a permutation test, which needs no law of the noise
(Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005). A difference is confirmed on three
times as many fresh draws before it counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bughunt.judge.curves import Watched
from bughunt.judge.mapping import array
from bughunt.judge.pinning import Pin, Trace, subseed, trace, usable_pin
from bughunt.judge.program import ProgramError
from bughunt.task import Data, Task

STEPS, MOST_STEPS = 2, 8
ROUNDS = ((range(48), 1e-2), (range(48, 192), 1e-4))  # draws, and the level of each test on them
NEGLIGIBLE = 1e-4  # of the size of the mean
SHUFFLES = 20_000
EQUAL = 1 - 1e-9  # two sums in another order
MUCH = 2.0  # by which the noise on one batch and on another may differ
BATCHES = range(8)  # on which two programs are seen to come to the same ones
ROUNDING = 1e-3  # relative, of a first step

Samples = NDArray[np.float64]  # one row a draw


def equal_moments(
    candidate: Watched,
    reference: Watched,
    task: Task,
    seed: int,
    configuration: str = "default",
    *,
    parted: int = 1,
) -> bool:
    """Whether the first steps from pinned weights are the reference's, on average over random draws.

    `parted` is the step at which single runs part: it has to be among those that are looked at. Programs that
    part later than at the first may have come to the same batch.
    """
    if parted > MOST_STEPS:
        return False
    data = task.data(seed)
    pinned, _ = usable_pin(reference, task, data, seed, configuration)
    start = _Start(task, data, seed, configuration, pinned, max(STEPS, parted))
    try:
        same_batch = parted > 1 and _same_batches(candidate, reference, start)
        return _alike(candidate, reference, start, same_batch=same_batch)
    except ProgramError as error:
        if error.kind in {"infra", "timeout"}:
            raise
        return False


@dataclass(frozen=True)
class _Start:
    """Where all the draws begin."""

    task: Task
    data: Data
    seed: int
    configuration: str
    pinned: Pin
    steps: int
    other_batches: bool = False  # in every draw

    def pairs(
        self, candidate: Watched, reference: Watched, draws: Sequence[int]
    ) -> list[tuple[Samples, Samples]]:
        """What is compared, yours and ours; none where a side ends before."""
        ours = self.traces(reference, "reference", draws)
        yours = self.traces(candidate, "candidate", draws)
        return list(_compared(yours, ours, self.pinned, self.steps)) if len(yours) == len(ours) > 0 else []

    def traces(self, program: Watched, side: str, draws: Sequence[int]) -> list[Trace]:
        """The first steps of a program, once a draw; none where it ends before."""
        traces = (self._trace(program, (side, draw)) for draw in draws)
        return [one for one in traces if one is not None and len(one.losses) == self.steps]

    def _trace(self, program: Watched, draw: tuple[str, int]) -> Trace | None:
        seed = subseed(self.seed, "moments", *draw) if self.other_batches else self.seed
        where = (self.task, self.data, seed, self.configuration, self.pinned)
        return trace(program, *where, draw=draw, steps=self.steps)


def _alike(candidate: Watched, reference: Watched, start: _Start, *, same_batch: bool) -> bool:
    """On the batch that the reference draws, or, if as noisy on another one, on many batches.

    Not on others where it is beyond doubt that both sides have come to the same batch.
    """
    (draws, level), (more, stricter) = ROUNDS
    once = start.pairs(candidate, reference, draws)
    if not once:
        return False
    if _are_equal(once, level):
        return True
    if not same_batch and all(as_noisy(*pair) for pair in once):
        others = replace(start, other_batches=True)
        if any(_are_equal(others.pairs(candidate, reference, some), least) for some, least in ROUNDS):
            return True
    return _are_equal(start.pairs(candidate, reference, more), stricter)


def _same_batches(candidate: Watched, reference: Watched, start: _Start) -> bool:
    """Whether both come to the same batch, whichever it is, and the first step tells batches apart.

    All weights zero hide which batch it is, and two starts drawn from few points are often one by luck.
    """
    once = replace(start, steps=1, other_batches=True)
    ours, yours = (once.traces(program, "either", BATCHES) for program in (reference, candidate))
    if len(yours) != len(ours) or all(_begin_alike(one, ours[0]) for one in ours):
        return False
    return all(map(_begin_alike, yours, ours))


def _begin_alike(mine: Trace, one: Trace) -> bool:
    """Whether the first steps of two runs have, to rounding, one loss and one gradient."""
    shapes = one.gradients[0]
    yours, ours = _flat([mine.gradients[0], shapes], list(shapes), shapes)
    one_loss = abs(mine.losses[0] - one.losses[0]) <= ROUNDING * (abs(one.losses[0]) + 1e-2)
    return one_loss and bool(np.linalg.norm(yours - ours) <= ROUNDING * np.linalg.norm(ours))


def _are_equal(pairs: Sequence[tuple[Samples, Samples]], level: float) -> bool:
    return bool(pairs) and all(equal_clouds(*pair, level) for pair in pairs)


def _negligible(ours: Samples) -> float:
    """The difference that is none, beside clouds of this size."""
    return NEGLIGIBLE * float(np.linalg.norm(ours.mean(0))) + 1e-9


def as_noisy(yours: Samples, ours: Samples) -> bool:
    """Whether two clouds have about the same spread, wherever they lie."""
    mine, one = (float(np.sqrt(side.var(0).sum())) for side in (yours, ours))
    least = _negligible(ours)
    return mine <= MUCH * one + least and one <= MUCH * mine + least


def _compared(
    yours: Sequence[Trace], ours: Sequence[Trace], pinned: Pin, steps: int
) -> Iterator[tuple[Samples, Samples]]:
    """Loss and gradient of each step, and the updates of all; the parameters in one vector."""
    names, first = list(pinned.weights), ours[0]
    start = _flat([{name: array(value) for name, value in pinned.weights.items()}], names, first.weights)
    mine, theirs = (_quantities(side, names, first, start, steps) for side in (yours, ours))
    yield from zip(mine, theirs, strict=True)


def _quantities(
    side: Sequence[Trace], names: Sequence[str], shapes: Trace, start: Samples, steps: int
) -> Iterator[Samples]:
    for step in range(steps):
        yield np.array([[one.losses[step]] for one in side])
        yield _flat([one.gradients[step] for one in side], names, shapes.gradients[step])
    yield _numbers(_flat([one.weights for one in side], names, shapes.weights) - start)


def _numbers(moved: Samples) -> Samples:
    """What was added to each weight, and for how many that is no number: a tree has infinite thresholds."""
    known = np.isfinite(moved)
    return np.concatenate([np.where(known, moved, 0.0), (~known).sum(1, keepdims=True)], axis=1)


def _flat(
    values: Sequence[Mapping[str, Samples]], names: Sequence[str], shapes: Mapping[str, Samples]
) -> Samples:
    """The named arrays end to end, one row a draw; what one side lacks is zero."""
    known = [name for name in names if name in shapes]
    if not known:
        return np.zeros((len(values), 1))
    rows = [[np.ravel(one.get(name, np.zeros_like(shapes[name]))) for name in known] for one in values]
    return np.array([np.concatenate(row) for row in rows])


def equal_clouds(yours: Samples, ours: Samples, level: float) -> bool:
    """Whether two clouds of vectors, (draws, size) each and equally many, have one mean and one spread.

    Both are tested by shuffling which side each draw came from: `level` is the chance to find a difference
    where there is none.
    """
    least = _negligible(ours)
    middle = (yours.mean(0) + ours.mean(0)) / 2
    both = np.concatenate([yours, ours]) - middle
    if not np.isfinite(both).all():
        return bool(np.array_equal(yours, ours, equal_nan=True))
    far, ratio = _statistics(both @ both.T, _sides(len(ours)))
    one_mean = far[0] <= least or np.mean(far >= far[0] * EQUAL) >= level
    negligible = abs(yours.std(0).sum() - ours.std(0).sum()) <= least
    one_spread = negligible or np.mean(ratio >= ratio[0] * EQUAL) >= level
    return bool(one_mean and one_spread)


@cache
def _sides(count: int) -> Samples:
    """Which of two times `count` draws are on the first side: as they came, then shuffled, a row each."""
    sides = np.repeat([1.0, 0.0], count)
    rng = np.random.default_rng(0)
    return np.stack([sides, *(rng.permutation(sides) for _ in range(SHUFFLES))])


def _statistics(gram: Samples, sides: Samples) -> tuple[Samples, Samples]:
    """For each division into two sides: how far apart their means are, and the log ratio of their spreads."""
    count = sides.shape[1] // 2
    reached = sides @ gram
    with_all, inside = reached.sum(1), np.einsum("ij,ij->i", reached, sides)
    across, outside = with_all - inside, gram.sum() - 2 * with_all + inside
    far = np.sqrt(np.maximum(inside + outside - 2 * across, 0.0)) / count
    squares = np.diag(gram)
    spreads = [
        np.maximum(side @ squares / count - inner / count**2, 1e-300)
        for side, inner in ((sides, inside), (1 - sides, outside))
    ]
    return far, np.abs(np.log(spreads[0] / spreads[1]))
