"""What shows that a file is what it is said to be, without any layer of the verdict.

Right: from the reference's own first weights and the same seeds, the reported losses and the held-out curve
are the reference's, to the bit or to rounding. Wrong: a whole training on the same seed ends up elsewhere.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from bughunt.judge.curves import measure
from bughunt.judge.judge import Judge
from bughunt.judge.program import ProgramError
from bughunt.references import Reference
from bughunt.task import Program

Files = Mapping[str, str]
STEPS, SEED = 25, 424_243
ROUNDING, ELSEWHERE = 2e-5, 1e-3


def equal(judge: Judge, reference: Reference, files: Files) -> str:
    """How equality was shown: `bits` or `rounding`; empty where it was not."""
    try:
        with judge.open(reference.files, reference.task) as one, judge.open(files, reference.task) as other:
            model = one.build(SEED)
            start = one.state(model)
            ours = _run(reference, one, start)
            yours = _run(reference, other, start)
    except ProgramError:
        return ""
    if repr(ours) == repr(yours):
        return "bits"
    return "rounding" if apart(yours, ours) <= ROUNDING else ""


def elsewhere(judge: Judge, reference: Reference, files: Files) -> bool:
    """Whether a training on one seed is not the reference's; False where it does not get to its end."""
    try:
        ours, yours = (judge.measure(one, reference.task, SEED) for one in (reference.files, files))
    except ProgramError:
        return False
    sides = [[*curve.reported, *curve.values, *curve.metrics] for curve in (yours, ours)]
    return apart(*sides) > ELSEWHERE


def apart(yours: Sequence[float], ours: Sequence[float]) -> float:
    """The largest relative difference of two lists of numbers."""
    if len(yours) != len(ours):
        return float("inf")
    mine, one = np.asarray(yours, float), np.asarray(ours, float)
    if not np.array_equal(np.isfinite(mine), np.isfinite(one)):
        return float("inf")
    known = np.isfinite(one)
    return float(np.max(np.abs(mine - one)[known] / (np.abs(one[known]) + 1e-2), initial=0.0))


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
