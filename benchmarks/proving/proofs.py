"""What shows that a file is what it is said to be, without any layer of the verdict.

Right: from the reference's own first weights and the same seeds, the reported losses and the held-out curve
are the reference's, to the bit or to rounding. Wrong: a whole training on the same seed ends up elsewhere.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from bughunt import references
from bughunt.judge.curves import measure
from bughunt.judge.judge import Judge
from bughunt.judge.program import ProgramError
from bughunt.judge.verdict import Curve
from bughunt.references import Reference
from bughunt.task import Program

Files = Mapping[str, str]
STEPS, SEED = 25, 424_243
ROUNDING, ELSEWHERE = 2e-5, 1e-3


def equal(judge: Judge, reference: Reference, files: Files) -> str:
    """How equality was shown: `bits` or `rounding`; empty where it was not."""
    try:
        start, ours = _known(judge, reference.slug)
        with judge.open(files, reference.task) as program:
            yours = _run(reference, program, start)
    except ProgramError:
        return ""
    if repr(ours) == repr(yours):
        return "bits"
    return "rounding" if apart(yours, ours) <= ROUNDING else ""


def elsewhere(judge: Judge, reference: Reference, files: Files) -> bool:
    """Whether a training on one seed is not the reference's; False where it does not get to its end."""
    ours = _whole(judge, reference.slug)
    try:
        yours = _numbers(judge.measure(files, reference.task, SEED))
    except ProgramError:
        return False
    return apart(yours, ours) > ELSEWHERE


def apart(yours: Sequence[float], ours: Sequence[float]) -> float:
    """The largest relative difference of two lists of numbers."""
    if len(yours) != len(ours):
        return float("inf")
    mine, one = np.asarray(yours, float), np.asarray(ours, float)
    if not np.array_equal(np.isfinite(mine), np.isfinite(one)):
        return float("inf")
    known = np.isfinite(one)
    return float(np.max(np.abs(mine - one)[known] / (np.abs(one[known]) + 1e-2), initial=0.0))


@lru_cache(maxsize=1)
def _known(judge: Judge, slug: str) -> tuple[Mapping[str, object], list[float]]:
    """The reference's first weights, and what comes of them."""
    reference = references.load(slug)
    with judge.open(reference.files, reference.task) as program:
        start = program.state(program.build(SEED))
        return start, _run(reference, program, start)


@lru_cache(maxsize=1)
def _whole(judge: Judge, slug: str) -> list[float]:
    """A whole training of the reference."""
    reference = references.load(slug)
    return _numbers(judge.measure(reference.files, reference.task, SEED))


def _numbers(curve: Curve) -> list[float]:
    return [*curve.reported, *curve.values, *curve.metrics]


def _run(reference: Reference, program: Program, start: Mapping[str, object]) -> list[float]:
    task = reference.task
    data = task.data(SEED)
    model = program.build(SEED)
    own = {re.sub(r"_(?=\.|$)", "", name): name for name in program.state(model)}
    program.load_state(model, {own[name]: value for name, value in start.items()})
    run = program.train(model, data.train, SEED)
    program.seed(SEED)
    losses = run.next(STEPS)
    seen = measure(program, task, model, data.held_out)
    return [*losses, seen.curve, seen.metric]
