"""The pinned differential: candidate and reference from equal weights, data and random draws."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from bughunt.judge.curves import Watched
from bughunt.judge.mapping import RUNNING, array, mappings, trained
from bughunt.judge.pinning import Pin, Trace, one_ulp_off, trace, usable_pin
from bughunt.judge.program import ProgramError
from bughunt.judge.verdict import Differential
from bughunt.task import Program, Task, Value

CPU_TOLERANCE, GPU_TOLERANCE = 1e-4, 2e-3  # of the loss, relative
GRADIENT, PINNED_ANSWER, LATER_ANSWER, STATISTICS = 1e-3, 2e-4, 2e-3, 1e-3
CHAOS = 1e-3  # where the reference itself departs by this much, comparison ends
ENVELOPE = 50.0  # times the reference's own deviation under one unit in the last place
SIZE = 0.1  # by which a model may be larger or smaller in all
WAYS = 3  # of mapping names that are tried
GRADIENT_OF = "gradient of "
REPEATED = 1e-6  # relative, between two runs of one program on one seed
OWN = 10.0  # times what one unit in the last place does to a running statistic
INITIAL_SEEDS, FEWEST_VALUES = 6, 12
UNMAPPABLE = Differential(False, False, float("inf"), None, "parameters that cannot be mapped")


@dataclass(frozen=True)
class Departure:
    """One compared quantity: how far apart the sides are, and how far they may be."""

    step: int
    what: str
    deviation: float
    tolerance: float


@dataclass(frozen=True)
class Yardstick:
    """What one reference did from one pin: all that a candidate is held against."""

    pinned: Pin
    trace: Trace
    ulp: Trace  # from weights one unit in the last place away
    first: Mapping[str, np.ndarray]  # first values of each tensor over a few seeds


def yardstick(reference: Watched, task: Task, seed: int, configuration: str = "default") -> Yardstick:
    """The reference's side of the comparison; it depends on nothing else, so it can be kept."""
    data = task.data(seed)
    pinned, ours = usable_pin(reference, task, data, seed, configuration, _looks(task))
    ulp = trace(reference, task, data, seed, configuration, one_ulp_off(pinned, seed))
    first = _first_weights(reference, task, seed, configuration, pinned)
    return Yardstick(pinned, ours, ulp or ours, first or {})


def pinned_differential(
    candidate: Watched,
    reference: Yardstick,
    task: Task,
    seed: int,
    configuration: str = "default",
    *,
    device: str = "cpu",
) -> Differential:
    """Compare first weights, losses, gradients, answers and running statistics, step by step."""
    tolerance = CPU_TOLERANCE if device == "cpu" else GPU_TOLERANCE
    found = UNMAPPABLE
    for way in range(WAYS):
        try:
            one = _one_way(candidate, reference, task, seed, configuration, tolerance, way)
        except ProgramError as error:
            if error.kind in {"infra", "timeout"}:
                raise
            return Differential(True, False, float("inf"), 0, error.message)
        if one is None:
            break
        if one.passed or way == 0:
            found = one
        if one.passed:
            break
    if found is UNMAPPABLE and _other_size(candidate, reference.pinned, task, seed, configuration):
        return Differential(True, False, float("inf"), 0, "number of weights")
    return found


def _other_size(candidate: Program, pinned: Pin, task: Task, seed: int, configuration: str) -> bool:
    """Whether a model is another one, not the reference's with its layers split or fused."""
    if not all(isinstance(value, torch.Tensor) for value in pinned.weights.values()):
        return False
    model = candidate.build(seed, **task.configurations[configuration])
    state = candidate.state(model)
    yours = sum(array(state[name]).size for name in trained(candidate, model, state))
    ours = sum(value.numel() for value in pinned.weights.values())
    return abs(yours - ours) > SIZE * ours


def _one_way(
    candidate: Watched,
    reference: Yardstick,
    task: Task,
    seed: int,
    configuration: str,
    tolerance: float,
    way: int,
) -> Differential | None:
    """The comparison under one mapping of names; None where there is none. A wrong mapping never passes."""
    data, pinned = task.data(seed), reference.pinned
    where = (task, data, seed, configuration, pinned)
    yours = trace(candidate, *where, looks=_looks(task), way=way)
    if yours is None:
        return None
    mine = _first_weights(candidate, task, seed, configuration, pinned, way) or {}
    start = _initial(mine, reference.first)
    found = _summary([*start, *_departures(yours, reference.trace, reference.ulp, tolerance)])
    if found.passed:
        return found
    again = trace(candidate, *where, looks=_looks(task), way=way)
    return replace(found, repeats=again is not None and _equal(again.losses, yours.losses))


def _looks(task: Task) -> tuple[int, int, int]:
    return (0, (task.pinned_steps + 1) // 2, task.pinned_steps)


def _summary(departures: list[Departure]) -> Differential:
    """The first departure out of tolerance, or the largest of all."""
    for one in departures:
        if not one.deviation <= one.tolerance:
            far = one.deviation if np.isfinite(one.deviation) else float("inf")
            beside = {
                other.what.removeprefix(GRADIENT_OF): other.deviation
                for other in departures
                if other.step == one.step and other.what.startswith(GRADIENT_OF)
            }
            return Differential(True, False, far, one.step, one.what, gradients=beside)
    largest = max(departures, key=lambda one: one.deviation, default=Departure(0, "", 0.0, 0.0))
    return Differential(True, True, largest.deviation, None, largest.what)


def _departures(yours: Trace, ours: Trace, ulp: Trace, tolerance: float) -> Iterator[Departure]:
    yield from _answers(yours, ours, 0, PINNED_ANSWER)
    own = 0.0
    for index, loss in enumerate(ours.losses):
        step = index + 1
        if index < len(ulp.losses):
            own = max(own, _relative(ulp.losses[index], loss))
        if own > CHAOS:
            return
        allowed = max(tolerance, ENVELOPE * own)
        looser = allowed / tolerance
        if index >= len(yours.losses):
            yield Departure(step, "number of updates", float("inf"), 0.0)
            return
        yield Departure(step, "loss", _relative(yours.losses[index], loss), allowed)
        yield from _gradients(yours, ours, step, GRADIENT * looser)
        yield from _answers(yours, ours, step, LATER_ANSWER * looser)
    if len(yours.losses) != len(ours.losses):
        yield Departure(len(yours.losses), "number of updates", float("inf"), 0.0)
    for name, value in ours.weights.items():
        if name.endswith(RUNNING) or not ours.gradients[-1:] or not ours.gradients[-1]:
            moved = distance(ulp.weights.get(name), value) if name in ulp.weights else 0.0
            allowed = max(STATISTICS, 10 * tolerance, OWN * moved)
            yield Departure(len(ours.losses), name, distance(yours.weights.get(name), value), allowed)


def _gradients(yours: Trace, ours: Trace, step: int, allowed: float) -> Iterator[Departure]:
    theirs, mine = ours.gradients[step - 1], yours.gradients[step - 1]
    whole = float(np.sqrt(sum(np.square(value).sum() for value in theirs.values())))
    for name, value in theirs.items():
        other = mine.get(name, np.zeros_like(value))
        far = float(np.linalg.norm(other - value)) / max(whole, 1e-12)
        yield Departure(step, f"{GRADIENT_OF}{name}", far, allowed)


def _answers(yours: Trace, ours: Trace, step: int, allowed: float) -> Iterator[Departure]:
    if step not in ours.answers:
        return
    where = "at the pinned weights" if step == 0 else f"after {step} steps"
    far = distance(yours.answers.get(step), ours.answers[step])
    yield Departure(step, f"prediction {where}", far, allowed)


def distance(yours: Value, ours: Value) -> float:
    """The largest difference between two answers, in units of 1 + the largest value."""
    if isinstance(ours, dict):
        if not isinstance(yours, dict) or yours.keys() != ours.keys():
            return float("inf")
        return max((distance(yours[key], ours[key]) for key in ours), default=0.0)
    if isinstance(ours, list | tuple):
        if not isinstance(yours, list | tuple) or len(yours) != len(ours):
            return float("inf")
        if _are_numbers(yours) and _are_numbers(ours):
            return _apart(array(yours), array(ours), each=True)
        return max((distance(mine, one) for mine, one in zip(yours, ours, strict=True)), default=0.0)
    if isinstance(ours, str | bool | None):
        return 0.0 if yours == ours else float("inf")
    return _apart(yours, ours)


def _are_numbers(values: Sequence[Value]) -> bool:
    """Whether there is nothing but plain numbers, of which there may be many thousands."""
    return {type(value) for value in values} <= {int, float}


def _apart(yours: Value, ours: Value, *, each: bool = False) -> float:
    """As `distance` has it; `each`: of one number after the other."""
    if not isinstance(yours, int | float | np.ndarray | torch.Tensor):
        return float("inf")
    mine, one = array(yours), array(ours)
    if mine.shape != one.shape:
        return float("inf")
    if not np.array_equal(np.isfinite(mine), np.isfinite(one)):
        return float("inf")
    where = np.isfinite(one)
    if not np.array_equal(mine[~where], one[~where], equal_nan=True):
        return float("inf")
    if not where.any():
        return 0.0
    gaps, sizes = np.abs(mine[where] - one[where]), 1 + np.abs(one[where])
    return float((gaps / sizes).max() if each else gaps.max() / sizes.max())


def _equal(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two runs of one program on one seed are one run."""
    return len(one) == len(other) and all(
        _relative(*pair) <= REPEATED for pair in zip(one, other, strict=True)
    )


def _relative(yours: float, ours: float) -> float:
    if yours == ours or (np.isnan(yours) and np.isnan(ours)):
        return 0.0
    return abs(yours - ours) / (abs(ours) + 1e-2)


def _initial(mine: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray]) -> Iterator[Departure]:
    """First weights come from equal distributions: pinning would hide a wrong initialisation."""
    for name, ours in first.items():
        yours = mine.get(name)
        if yours is not None and not np.array_equal(yours, ours, equal_nan=True):
            yield from _same_distribution(name, yours, ours)


def _first_weights(
    program: Program, task: Task, seed: int, configuration: str, pinned: Pin, way: int = 0
) -> dict[str, np.ndarray] | None:
    """The values of each tensor over a few seeds, under the reference's names."""
    pooled: dict[str, list[np.ndarray]] = {}
    for offset in range(INITIAL_SEEDS):
        model = program.build(seed + offset, **task.configurations[configuration])
        state = program.state(model)
        offered = {name: state[name] for name in trained(program, model, state)}
        ways = mappings(pinned.weights, offered, pinned.state)
        if way >= len(ways):
            return None
        for mine, theirs in ways[way].items():
            pooled.setdefault(theirs, []).append(array(state[mine]).ravel())
    return {name: np.concatenate(values) for name, values in pooled.items()}


def _same_distribution(name: str, yours: np.ndarray, ours: np.ndarray) -> Iterator[Departure]:
    spread, count = float(ours.std()), ours.size
    what = f"first values of {name}"
    if spread < 1e-9:
        yield Departure(0, what, float(np.abs(yours - ours).max()), 1e-6)
        return
    if count < FEWEST_VALUES:
        return
    tolerance = max(0.25, 5.5 / np.sqrt(count))  # four standard errors and more
    yield Departure(0, what, abs(float(np.log(max(yours.std(), 1e-12) / spread))), tolerance)
    yield Departure(0, what, abs(float(yours.mean() - ours.mean())) / spread, tolerance)
