"""One pinned training: weights copied in, and the global random state set before every step."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from bughunt.judge.curves import Watched, measure
from bughunt.judge.mapping import RUNNING, array, like, mappings, trained
from bughunt.judge.program import ProgramError
from bughunt.task import Data, Model, Program, Task, Value

NOISE = 0.1  # added to the weights, so that nothing hides behind a zero or a one
AGENT_CALLS = 20  # answers compared of an agent, whose measurement calls it at every step


@dataclass(frozen=True)
class Pin:
    """The weights that every side starts from, under the reference's names."""

    weights: Mapping[str, Value]
    state: Mapping[str, Value]  # all of the reference's state, for names that are tied there


@dataclass
class Trace:
    """What one pinned training showed."""

    losses: list[float] = field(default_factory=list)
    gradients: list[dict[str, np.ndarray]] = field(default_factory=list)  # one a step
    answers: dict[int, list[Value]] = field(default_factory=dict)  # by the steps taken before
    weights: dict[str, np.ndarray] = field(default_factory=dict)  # at the end


def subseed(seed: int, *words: object) -> int:
    """A seed that depends on a seed and on what it is for."""
    text = ":".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def pin(program: Program, task: Task, seed: int, configuration: str, noise: float = NOISE) -> Pin:
    """The reference's first weights with noise on them."""
    model = program.build(seed, **task.configurations[configuration])
    state = program.state(model)
    rng = np.random.default_rng(subseed(seed, "pin"))
    names = trained(program, model, state)
    return Pin({name: _noisy(name, state[name], rng, noise) for name in names}, state)


def one_ulp_off(pinned: Pin, seed: int) -> Pin:
    """The same weights, each moved by at most one unit in its last place."""
    rng = np.random.default_rng(subseed(seed, "ulp"))
    return Pin({name: _nudged(value, rng) for name, value in pinned.weights.items()}, pinned.state)


def load(program: Program, model: Model, pinned: Pin, way: int = 0) -> dict[str, str] | None:
    """Copy pinned weights into a model; its names -> the reference's, or None where they do not map."""
    state = program.state(model)
    offered = {name: state[name] for name in trained(program, model, state)}
    ways = mappings(pinned.weights, offered, pinned.state)
    if way >= len(ways):
        return None
    source = {**pinned.state, **pinned.weights}
    program.load_state(model, {mine: source[theirs] for mine, theirs in ways[way].items()})
    return ways[way]


def trace(
    program: Watched,
    task: Task,
    data: Data,
    seed: int,
    configuration: str,
    pinned: Pin,
    *,
    draw: object = 0,
    steps: int | None = None,
    looks: Sequence[int] = (),
    way: int = 0,
) -> Trace | None:
    """Train from pinned weights and note everything, under the reference's names; None if they do not map.

    `way` is which of the possible mappings to take.
    """
    config = task.configurations[configuration]
    model = program.build(seed, **config)
    names = load(program, model, pinned, way)
    if names is None:
        return None
    seen = Trace()
    program.watch_gradients(model, True)
    run = program.train(model, data.train, subseed(seed, "batches"), **config)
    for step in range((task.pinned_steps if steps is None else steps) + 1):
        if step > 0:
            program.seed(subseed(seed, draw, step))
            loss = run.next(1)
            if not loss:
                break
            seen.losses.append(float(loss[0]))
            seen.gradients.append(_arrays(program.gradients(model), names))
        if step in looks:
            program.seed(subseed(seed, "look", step))
            seen.answers[step] = answers(program, task, model, data.held_out)
    seen.weights = _arrays(program.state(model), names)
    return seen


def usable_pin(
    reference: Watched,
    task: Task,
    data: Data,
    seed: int,
    configuration: str,
    looks: Sequence[int] = (),
) -> tuple[Pin, Trace]:
    """Noisy weights, or plain ones where the reference cannot work with noise (a mixture's weights)."""
    for noise in (NOISE, 0.0):
        pinned = pin(reference, task, seed, configuration, noise)
        try:
            ours = trace(reference, task, data, seed, configuration, pinned, looks=looks)
        except ProgramError as error:
            if error.kind in {"infra", "timeout"} or noise == 0.0:
                raise ProgramError("infra", f"the reference fails: {error}") from error
            continue
        if ours is not None and (noise == 0.0 or np.isfinite(ours.losses).all()):
            return pinned, ours
    raise ProgramError("infra", f"the reference of {task.slug} cannot be pinned")


def answers(program: Program, task: Task, model: Model, held_out: Value) -> list[Value]:
    """Every answer that the task's measurement takes from the program."""
    recorder = _Recorder(program)
    measure(cast(Program, recorder), task, model, held_out)  # the rest goes through __getattr__
    return recorder.answers[:AGENT_CALLS] if task.kind == "agent" else recorder.answers


class _Recorder:
    """A program whose answers are kept as they pass."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.answers: list[Value] = []

    def predict(self, model: Model, inputs: Value) -> Value:
        return self._kept(self._program.predict(model, inputs))

    def call(self, name: str, *args: Value, keep: bool = False, **kwargs: Value) -> Value:
        answer = self._program.call(name, *args, keep=keep, **kwargs)
        return answer if keep else self._kept(answer)

    def call_method(self, target: Model, name: str, *args: Value, keep: bool = False) -> Value:
        answer = self._program.call_method(target, name, *args, keep=keep)
        return answer if keep else self._kept(answer)

    def _kept(self, answer: Value) -> Value:
        self.answers.append(answer)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


def _noisy(name: str, value: Value, rng: np.random.Generator, noise: float) -> Value:
    if noise == 0:
        return value
    exact = array(value)
    moved = exact + rng.normal(0.0, noise, exact.shape)
    if _is_symmetric(exact):  # a covariance: programs may read either half of it
        moved = (moved + np.swapaxes(moved, -1, -2)) / 2
    if name.endswith(RUNNING[1]):
        moved = np.abs(moved) + 0.1
    return like(moved, value)


def _is_symmetric(value: np.ndarray) -> bool:
    """Whether it is a matrix, or a stack of them, that is its own transpose and not merely zero."""
    square = value.ndim >= 2 and value.shape[-1] == value.shape[-2] > 1
    return square and bool(value.any()) and np.array_equal(value, np.swapaxes(value, -1, -2))


def _nudged(value: Value, rng: np.random.Generator) -> Value:
    exact = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    towards = np.where(rng.random(exact.shape) < 0.5, -np.inf, np.inf).astype(exact.dtype)
    return like(np.nextafter(exact, towards).astype(np.float64), value)


def _arrays(values: Mapping[str, Value], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    return {
        names[name]: array(value) for name, value in values.items() if name in names and value is not None
    }
