"""The moment test: equal on average where single random draws differ.

From the same weights and the same batch the first steps are taken many times with other random draws.
Mean and spread of the loss, and mean and noise of gradients and updates, must be the reference's.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bughunt.judge.curves import Watched
from bughunt.judge.mapping import array
from bughunt.judge.pinning import Pin, Trace, trace, usable_pin
from bughunt.judge.program import ProgramError
from bughunt.task import Data, Task

DRAWS, STEPS = 24, 2
MEAN_LOSS = 4.0  # standard errors
LOSS_SPREAD = 0.6, 1.67  # ratio of standard deviations; 24 draws know it to a fifth
MEAN_VECTOR = 1.6  # least distance of two means allowed, in units of its own noise
VECTOR_SPREAD = 1.33  # least ratio of the noises allowed

Samples = NDArray[np.float64]  # one row a draw


def equal_moments(
    candidate: Watched, reference: Watched, task: Task, seed: int, configuration: str = "default"
) -> bool:
    """Whether the first steps from pinned weights are the reference's, on average over random draws."""
    data = task.data(seed)
    pinned, _ = usable_pin(reference, task, data, seed, configuration)
    ours = _draws(reference, task, data, seed, configuration, pinned, "reference")
    try:
        yours = _draws(candidate, task, data, seed, configuration, pinned, "candidate")
    except ProgramError as error:
        if error.kind in {"infra", "timeout"}:
            raise
        return False
    if len(yours) != len(ours) or not ours:
        return False
    losses = zip(_losses(yours).T, _losses(ours).T, strict=True)
    return all(_equal_losses(*pair) for pair in losses) and _equal_vectors(yours, ours, pinned)


def _draws(
    program: Watched,
    task: Task,
    data: Data,
    seed: int,
    configuration: str,
    pinned: Pin,
    side: str,
) -> list[Trace]:
    traces = (
        trace(program, task, data, seed, configuration, pinned, draw=(side, draw), steps=STEPS)
        for draw in range(DRAWS)
    )
    return [one for one in traces if one is not None and len(one.losses) == STEPS]


def _losses(traces: Sequence[Trace]) -> Samples:
    return np.array([one.losses for one in traces])


def _equal_vectors(yours: Sequence[Trace], ours: Sequence[Trace], pinned: Pin) -> bool:
    """Gradients at each step, and the weights after the last, all parameters in one vector."""
    names = list(pinned.weights)
    for step in range(STEPS):
        mine, theirs = (
            np.array([_flat(one.gradients[step], names, ours[0].gradients[step]) for one in side])
            for side in (yours, ours)
        )
        if not equal_means(mine, theirs):
            return False
    mine, theirs = (
        np.array([_flat(one.weights, names, ours[0].weights) for one in side]) for side in (yours, ours)
    )
    start = _flat({n: array(v) for n, v in pinned.weights.items()}, names, ours[0].weights)
    return equal_means(mine - start, theirs - start)


def _flat(values: dict[str, Samples], names: Sequence[str], shapes: dict[str, Samples]) -> Samples:
    """The named arrays end to end; what one side lacks is zero."""
    parts = [np.ravel(values.get(name, np.zeros_like(shapes[name]))) for name in names if name in shapes]
    return np.concatenate(parts) if parts else np.zeros(1)


def _equal_losses(yours: Samples, ours: Samples) -> bool:
    count = len(ours)
    error = np.sqrt((yours.var(ddof=1) + ours.var(ddof=1)) / count)
    least = 1e-5 * (1 + abs(ours.mean()))
    ratio = (yours.std(ddof=1) + least) / (ours.std(ddof=1) + least)
    near = abs(yours.mean() - ours.mean()) <= MEAN_LOSS * max(error, least)
    return bool(near and LOSS_SPREAD[0] <= ratio <= LOSS_SPREAD[1])


def equal_means(yours: Samples, ours: Samples) -> bool:
    """Whether two clouds of vectors have one mean and one size."""
    size = float(np.linalg.norm(ours.mean(0)))
    noise = float(np.sqrt((yours.var(0) + ours.var(0)).sum() / len(ours)))
    far = float(np.linalg.norm(yours.mean(0) - ours.mean(0)))
    least = 1e-4 * size + 1e-9
    ratio = (np.sqrt(yours.var(0).sum()) + least) / (np.sqrt(ours.var(0).sum()) + least)
    # Few directions with most of the noise know mean and size less well than many.
    directions = min(_directions(yours), _directions(ours))
    near = max(MEAN_VECTOR, float(np.sqrt(1 + 5 * np.sqrt(2 / directions))))
    alike = max(float(np.log(VECTOR_SPREAD)), 4 / float(np.sqrt(len(ours) * directions)))
    return far <= near * max(noise, least) and abs(float(np.log(ratio))) <= alike


def _directions(cloud: Samples) -> float:
    """How many directions share the noise: 1 where one has it all."""
    centred = cloud - cloud.mean(0)
    gram = centred @ centred.T
    return float(max(np.trace(gram) ** 2 / max(np.square(gram).sum(), 1e-300), 1.0))
