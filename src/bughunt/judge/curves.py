"""Training curves: how one is measured."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from bughunt.judge.program import ProgramError
from bughunt.judge.verdict import Curve
from bughunt.task import Data, Measurement, Model, Program, Run, Task, Value, probe_steps

LONGEST_OPEN_RUN = 200  # items of a run that ends by itself
OnProbe = Callable[[int, int, float], None]  # seed, step, value


@runtime_checkable
class Watched(Program, Protocol):
    """A program whose gradients and updates can be observed."""

    def watch_gradients(self, model: Model, flag: bool) -> None:
        """Begin or end keeping the gradients of every update."""

    def statistics(self, model: Model) -> Mapping[str, Value]:
        """The norm of the last gradient, and of each parameter and its change since the last call."""


def measure(program: Program, task: Task, model: Model, held_out: Value) -> Measurement:
    """What the task sees in a model; an answer that it cannot read breaks the contract."""
    try:
        seen = task.measure(program, model, held_out)
        return Measurement(float(seen.curve), float(seen.metric))
    except ProgramError:
        raise
    except Exception as error:  # the task reads correct answers without fail: a program gave this one
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        message = f"predict answered something of the wrong type or shape ({what})"
        raise ProgramError("contract", message) from error


def train_and_measure(
    program: Program,
    task: Task,
    seed: int,
    configuration: str = "default",
    *,
    steps: int | None = None,
    on_probe: OnProbe | None = None,
) -> Curve:
    """Build, train and look at the model on the way; what follows the program's loop still counts."""
    return trained(program, task, seed, configuration, steps=steps, on_probe=on_probe)[1]


def trained(
    program: Program,
    task: Task,
    seed: int,
    configuration: str = "default",
    *,
    steps: int | None = None,
    on_probe: OnProbe | None = None,
) -> tuple[Model, Curve]:
    """A model after a whole training, and its curve."""
    config = dict(task.configurations[configuration])
    if steps is not None:
        config["steps"] = steps
    asked = config.get("steps", task.steps)
    data = task.data(seed)
    model = program.build(seed, **config)
    run = program.train(model, data.train, seed, **config)
    recorder = _Recorder(program, task, model, data, seed, on_probe)
    if asked is None:
        return model, _train_to_its_end(run, recorder, task.probes)
    return model, _train_for(run, recorder, asked, task.probes)


def _train_for(run: Run, recorder: "_Recorder", asked: int, probes: int) -> Curve:
    reported: list[float] = []
    for step in probe_steps(asked, probes):
        if step > 0:
            reported += run.next(step - len(reported))
        if len(reported) < step and not recorder.may_end_early:
            message = f"train yielded {len(reported)} times, Config.steps asks for {asked}"
            raise ProgramError("contract", message)
        if step == asked == len(reported) and run.next(1):
            message = f"train yields more than the {asked} times that Config.steps asks for"
            raise ProgramError("contract", message)
        recorder.look(step)
    return recorder.curve(reported)


def _train_to_its_end(run: Run, recorder: "_Recorder", probes: int) -> Curve:
    reported: list[float] = []
    recorder.look(0)
    while loss := run.next(1):
        reported += loss
        if len(reported) > LONGEST_OPEN_RUN:
            message = f"train has not ended after {LONGEST_OPEN_RUN} items"
            raise ProgramError("contract", message)
        recorder.look(len(reported))
    recorder.look_again()
    return recorder.curve(reported, grid=range(probes + 1))


class _Recorder:
    """Measurements of one training."""

    def __init__(
        self,
        program: Program,
        task: Task,
        model: Model,
        data: Data,
        seed: int,
        on_probe: OnProbe | None,
    ) -> None:
        self._program, self._task, self._model = program, task, model
        self._held_out, self._seed, self._on_probe = data.held_out, seed, on_probe
        self._steps: list[int] = []
        self._seen: list[Measurement] = []
        self._gradients: list[float] = []
        self._ratios: dict[str, list[float]] = {}
        if isinstance(program, Watched):
            program.watch_gradients(model, True)

    @property
    def may_end_early(self) -> bool:
        return self._task.may_end_early

    def look(self, step: int) -> None:
        """Measure, and note gradients and updates."""
        seen = measure(self._program, self._task, self._model, self._held_out)
        self._steps.append(step)
        self._seen.append(seen)
        if isinstance(self._program, Watched):
            self._note(self._program.statistics(self._model))
        if self._on_probe:
            self._on_probe(self._seed, step, float(seen.curve))

    def look_again(self) -> None:
        """Replace the last measurement: the program may have changed the model as it ended."""
        self._seen[-1] = measure(self._program, self._task, self._model, self._held_out)

    def _note(self, statistics: Mapping[str, Value]) -> None:
        self._gradients.append(float(statistics["grad_norm"] or 0.0))
        for name, (norm, update) in statistics["params"].items():
            ratio = float(update) / float(norm) if norm else 0.0
            self._ratios.setdefault(name, []).append(ratio)

    def curve(self, reported: Sequence[float], grid: Sequence[int] | None = None) -> Curve:
        """The measurements as a curve; on a grid, what ended early keeps its last value."""
        last = len(self._steps) - 1
        picks = range(last + 1) if grid is None else [min(at, last) for at in grid[:-1]] + [last]
        return Curve(
            seed=self._seed,
            steps=tuple(self._steps if grid is None else grid),
            values=tuple(float(self._seen[i].curve) for i in picks),
            metrics=tuple(float(self._seen[i].metric) for i in picks),
            reported=tuple(reported),
            gradient_norms=tuple(self._gradients[i] for i in picks if self._gradients),
            update_ratios={
                name: tuple(ratios[i] for i in picks)
                for name, ratios in self._ratios.items()
                if len(ratios) == last + 1
            },
        )
