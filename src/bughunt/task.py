"""The protocol between a program and the judge: what is trained on, and how it is measured.

A reference program is a folder with `train.py` (the program) and `task.py` (the judge's side), which defines
`TASK`, a `Task`. A program exports `Config`, `build(cfg)`, `train(model, data, cfg, rng)` (a generator with
exactly one update before each item, whose value is the reported loss) and `predict(model, inputs)`.

The judge never imports a program; it holds a `Program`, which stands for one in another process.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Kind = Literal[
    "agent",
    "classifier",
    "clustering",
    "detector",
    "embedding",
    "ensemble",
    "generative",
    "language-model",
    "optimiser",
    "reduction",
    "regressor",
    "retrieval",
    "sequence",
    "system",
    "toolkit",
]
Value = Any  # None, bool, int, float, str, list, tuple, dict, torch.Tensor or numpy.ndarray, nested


class Model(Protocol):
    """A handle on what `build` returned; the object itself stays with the worker."""


class Run(Protocol):
    """A training in progress in the worker."""

    def next(self, count: int = 1) -> list[float]:
        """The reported losses of the next updates; fewer than `count` when the run has ended."""


class Program(Protocol):
    """A program in a worker process. Values cross the wire; the program's code never runs on this side.

    Every method may raise `bughunt.judge.program.ProgramError` (the program's own failure, with the place).
    `predict` and `call` leave the global random state as it was; the train/eval mode stays as the program
    left it.
    """

    def seed(self, seed: int) -> None:
        """Seed torch, numpy and random in the worker."""

    def build(self, seed: int | None = None, **config: Value) -> Model:
        """`build(Config(**config))`, after `seed(seed)` when one is given."""

    def train(self, model: Model, data: Value, seed: int, **config: Value) -> Run:
        """`train(model, data, Config(**config), rng)` with rng seeded; nothing runs before `Run.next`."""

    def predict(self, model: Model, inputs: Value) -> Value:
        """`predict(model, inputs)`."""

    def call(self, name: str, /, *args: Value, keep: bool = False, **kwargs: Value) -> Value:
        """Any function or class of the program by (dotted) name; models may be arguments.

        With `keep` the result stays in the worker and a handle comes back; a method of a kept object is
        `call_method`.
        """

    def call_method(self, target: Model, name: str, *args: Value, keep: bool = False) -> Value:
        """`target.name(*args)` for a kept object or model; `__call__` by that name."""

    def config(self, **config: Value) -> dict[str, Value]:
        """The fields of `Config(**config)`."""

    def state(self, model: Model) -> dict[str, Value]:
        """Parameters and buffers by name (for a dict of arrays: the dict)."""

    def load_state(self, model: Model, state: Mapping[str, Value]) -> None:
        """Copy values into parameters and buffers of the same names, in place."""

    def parameters(self, model: Model) -> list[str]:
        """Names of the parameters, in order of registration (for a dict of arrays: its keys)."""

    def gradients(self, model: Model) -> dict[str, Value]:
        """For each parameter the gradient as last accumulated before an update, by name."""

    def watch_gradients(self, model: Model, flag: bool) -> None:
        """Keep a copy of each gradient as it is accumulated, so that a later `zero_grad` does not matter."""

    def train_mode(self, model: Model, flag: bool) -> None:
        """`model.train(flag)`."""

    def is_training(self, model: Model) -> bool:
        """`model.training`."""


@dataclass(frozen=True)
class Data:
    """What one seed gives: `train` goes to the program, `held_out` stays with the judge."""

    train: Value
    held_out: Value


@dataclass(frozen=True)
class Measurement:
    """One look at a model: `curve` is loss-like (lower is better), `metric` is what people quote."""

    curve: float
    metric: float


@dataclass(frozen=True, kw_only=True)
class Task:
    """One topic as the judge sees it.

    `data(seed)` makes the raw data; `measure(program, model, held_out)` looks at a model through `predict`
    (and the functions that the task names) and never at anything the program reports.
    """

    slug: str
    title: str
    kind: Kind
    topics: Sequence[str]
    categories: Sequence[str]
    data: Callable[[int], Data]
    measure: Callable[[Program, Model, Value], Measurement]
    curve_name: str
    metric_name: str
    metric_higher_is_better: bool
    band: tuple[float, float]  # of the final metric over the seeds of the note beside it
    steps: int | None  # items that `train` yields; None where it ends by itself
    configurations: Mapping[str, Mapping[str, Value]] = field(default_factory=lambda: {"default": {}})
    small: Mapping[str, Value] = field(default_factory=dict)  # overrides for a short run in behaviour tests
    may_end_early: bool = False  # fewer items than `steps` are right, where the program stops by a rule
    probes: int = 25  # measurements along the curve
    scale: Literal["log", "raw"] = "log"  # how curves are compared
    floor: float | None = None  # the curve cannot honestly go below
    rng: Literal["torch", "numpy"] = "torch"
    high_variance: bool = False
    pinned_steps: int = 10  # length of the pinned differential
    exports: Sequence[str] = ()  # functions beside the contract that `measure` or the tests call
    cpu_seconds: float = 0.0  # one full run, one thread; declared, re-measured by `references check`

    @property
    def trains(self) -> bool:
        """Whether there is a training to judge; where there is none the tests are the verdict."""
        return self.steps != 0


def toolkit(
    slug: str,
    title: str,
    *,
    topics: Sequence[str],
    categories: Sequence[str],
    exports: Sequence[str],
    kind: Kind = "toolkit",
    cpu_seconds: float = 0.0,
) -> Task:
    """A task without training: the program exports functions, and its behaviour tests are the verdict."""
    return Task(
        slug=slug,
        title=title,
        kind=kind,
        topics=topics,
        categories=categories,
        data=lambda _seed: Data(train=None, held_out=None),
        measure=_nothing_to_measure,
        curve_name="",
        metric_name="",
        metric_higher_is_better=True,
        band=(0.0, 0.0),
        steps=0,
        exports=exports,
        cpu_seconds=cpu_seconds,
    )


def _nothing_to_measure(_program: Program, _model: Model, _held_out: Value) -> Measurement:
    raise TypeError("a program without training has no curve")


def probe_steps(steps: int, probes: int) -> Iterator[int]:
    """Steps after which to measure: 0, then evenly up to the last one, each once."""
    seen = -1
    for index in range(probes + 1):
        step = round(index * steps / probes)
        if step != seen:
            yield step
            seen = step
