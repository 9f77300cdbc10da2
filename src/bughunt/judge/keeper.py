"""The reference's side of every comparison: measured once for this machine, and kept.

What another process or another machine has measured is used after a canary: the first steps, taken again
here, come out the same. Where they do not, it is measured anew.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import numpy as np

from bughunt.judge import archive
from bughunt.judge.archive import Archive
from bughunt.judge.case import Case, Files
from bughunt.judge.curves import Watched, measure, train_and_measure
from bughunt.judge.differential import Yardstick, distance, yardstick
from bughunt.judge.pinning import Pin, Trace, trace
from bughunt.judge.program import RemoteProgram
from bughunt.judge.verdict import Curve
from bughunt.task import Task, probe_steps

KEPT = 32  # yardsticks in memory
CANARY_STEPS = 2
SAME = 1e-5  # relative: two runs of one program on one machine, or on two that round alike
ALIKE = 1e-4  # of a curve after its first stretch
NAMED = 0  # the seed of the model that names are taken from

Open = Callable[[Files, Task, str], AbstractContextManager[RemoteProgram]]


class Keeper:
    """Keeps what references did, in memory and in an archive on disk."""

    def __init__(self, open_program: Open, kept: Archive) -> None:
        self._open, self._archive = open_program, kept
        self._yardsticks: dict[object, Yardstick] = {}
        self._names: dict[object, list[str]] = {}
        self._curves: dict[object, Sequence[Curve]] = {}

    def yardstick(self, files: Files, task: Task, seed: int, configuration: str, device: str) -> Yardstick:
        """All that a candidate is held against from one pin."""
        known = (*_key(files, task, configuration, device), seed)
        if known not in self._yardsticks:
            while len(self._yardsticks) >= KEPT:
                del self._yardsticks[next(iter(self._yardsticks))]
            self._yardsticks[known] = self._found(files, task, seed, configuration, device)
        return self._yardsticks[known]

    def _found(self, files: Files, task: Task, seed: int, configuration: str, device: str) -> Yardstick:
        name = archive.key("yardstick", files, task, device, seed, configuration)
        if kept := _yardstick_of(self._archive.get(name)):
            with self._open(files, task, device) as reference:
                if _sings(reference, kept, task, seed, configuration):
                    return kept
        with self._open(files, task, device) as reference:
            made = yardstick(reference, task, seed, configuration)
        self._archive.put(name, _plain(made))
        return made

    def names(self, files: Files, task: Task, configuration: str, device: str) -> list[str]:
        """The names of a model's tensors, in its order."""
        known = _key(files, task, configuration, device)
        if known not in self._names:
            with self._open(files, task, device) as reference:
                model = reference.build(NAMED, **task.configurations[configuration])
                self._names[known] = list(reference.state(model))
        return self._names[known]

    def curves(self, case: Case, device: str) -> Sequence[Curve]:
        """The reference's curves that a case brings, or the same seeds measured here where those differ."""
        if not case.task.trains or not case.reference_curves:
            return case.reference_curves
        brought = [(curve.seed, tuple(curve.values)) for curve in case.reference_curves]
        key = _key(case.reference_files, case.task, case.configuration, device)
        known = (*key, tuple(brought))
        if known not in self._curves:
            self._curves[known] = self._at_home(case, device)
        return self._curves[known]

    def _at_home(self, case: Case, device: str) -> Sequence[Curve]:
        first = case.reference_curves[0]
        with self._open(case.reference_files, case.task, device) as reference:
            if _begins_like(reference, first, case):
                return case.reference_curves
        return [self._curve(case, curve.seed, device) for curve in case.reference_curves]

    def _curve(self, case: Case, seed: int, device: str) -> Curve:
        files, task, configuration = case.reference_files, case.task, case.configuration
        name = archive.key("curve", files, task, device, seed, configuration)
        kept = self._archive.get(name)
        if kept is not None:
            return Curve(**kept)
        with self._open(files, task, device) as reference:
            curve = train_and_measure(reference, task, seed, configuration)
        short = {"steps": curve.steps, "values": curve.values, "metrics": curve.metrics}
        self._archive.put(name, {"seed": seed, **short})
        return curve


def _key(files: Files, task: Task, configuration: str, device: str) -> tuple[object, ...]:
    return task.slug, task.pinned_steps, tuple(sorted(files.items())), configuration, device


def _sings(reference: Watched, kept: Yardstick, task: Task, seed: int, configuration: str) -> bool:
    """The canary: whether the first pinned steps come out as they are kept."""
    data, ours = task.data(seed), kept.trace
    where = (task, data, seed, configuration, kept.pinned)
    again = trace(reference, *where, steps=min(CANARY_STEPS, task.pinned_steps), looks=(0,))
    if again is None or not again.losses:
        return False
    steps = len(again.losses)
    pairs = [
        (again.losses, ours.losses[:steps]),
        (again.gradients, ours.gradients[:steps]),
        (again.answers.get(0), ours.answers.get(0)),
    ]
    return all(distance(one, other) <= SAME for one, other in pairs)


def _begins_like(reference: Watched, curve: Curve, case: Case) -> bool:
    """The same for a curve: its first two probes."""
    task, config = case.task, case.task.configurations[case.configuration]
    data = task.data(curve.seed)
    model = reference.build(curve.seed, **config)
    run = reference.train(model, data.train, curve.seed, **config)
    reference.watch_gradients(model, True)
    asked = config.get("steps", task.steps)
    steps = [0, 1] if asked is None else list(islice(probe_steps(asked, task.probes), 2))
    if list(curve.steps[:2]) != steps:
        return False
    for at, step in enumerate(steps):
        if step:
            run.next(step)
        seen = measure(reference, task, model, data.held_out).curve
        reference.statistics(model)
        if not abs(seen - curve.values[at]) <= ALIKE * (abs(curve.values[at]) + 1e-2):
            return False
    return True


# --- a yardstick as plain data ----------------------------------------------------------------------------


def _plain(made: Yardstick) -> dict[str, Any]:
    pinned = {"weights": dict(made.pinned.weights), "state": dict(made.pinned.state)}
    traces = {"trace": _plain_trace(made.trace), "ulp": _plain_trace(made.ulp)}
    return {"pinned": pinned, **traces, "first": _lean(made.first)}


def _plain_trace(one: Trace) -> dict[str, Any]:
    gradients = [_lean(step) for step in one.gradients]
    return {
        "losses": one.losses,
        "gradients": gradients,
        "answers": one.answers,
        "weights": _lean(one.weights),
    }


def _lean(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """In single precision where that loses nothing: most come from single precision."""
    with np.errstate(over="ignore"):  # what is too large for it becomes infinite, and stays as it is
        halves = {name: array.astype(np.float32) for name, array in arrays.items()}
    return {
        name: half if np.array_equal(half, arrays[name], equal_nan=True) else arrays[name]
        for name, half in halves.items()
    }


def _full(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def _yardstick_of(kept: Any) -> Yardstick | None:
    if kept is None:
        return None
    pinned = Pin(kept["pinned"]["weights"], kept["pinned"]["state"])
    return Yardstick(pinned, _trace_of(kept["trace"]), _trace_of(kept["ulp"]), _full(kept["first"]))


def _trace_of(kept: Any) -> Trace:
    gradients = [_full(step) for step in kept["gradients"]]
    return Trace(kept["losses"], gradients, kept["answers"], _full(kept["weights"]))
