"""Long trainings of the tests: put off until the first verdict is known, and borrowed from the curve.

A test that trains the very model, data and seed that a curve is measured on gets that training and its model
instead of one of its own. What does not fit such a loan fails, and a test that fails is run again on a
program of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

from bughunt.judge import wire
from bughunt.task import Model, Program, Run, Task, Value

LONG = 0.5  # of a whole training
CHANGING = ("load_state", "train_mode", "watch_gradients")  # what a model is afterwards
DISTURBING = ("seed", *CHANGING)  # what a training would have been


class PutOffError(BaseException):
    """A test asks for a long training, and it is too early for one; no test catches this."""


@dataclass
class Loan:
    """A finished training: the program that it was made in, its model, and the losses that it reported."""

    program: Program
    model: Model
    losses: Sequence[float]


@dataclass(frozen=True)
class Recipe:
    """How a test comes to a training."""

    seeds: tuple[int | None, int]  # of the model, of the batches
    configs: tuple[Mapping[str, Value], Mapping[str, Value]]
    data: Value


@dataclass
class Lender:
    """What the tests of one judgement may borrow: the training of one seed and configuration."""

    task: Task
    seed: int
    config: Mapping[str, Value]
    early: bool = True  # long trainings are put off
    waiting: list[str] = field(default_factory=list)  # tests that were put off
    loan: Loan | None = None

    def is_long(self, count: int) -> bool:
        """Whether so many updates are a good part of a whole training."""
        return count >= LONG * (self.config.get("steps", self.task.steps) or self.task.probes)

    def lend(self, recipe: Recipe, count: int) -> Loan | None:
        """The loan, where it is what the recipe leads to after so many updates or more."""
        loan = self.loan
        if loan is None or count < len(loan.losses) or recipe.seeds != (self.seed, self.seed):
            return None
        if any(config != self.config for config in recipe.configs):
            return None
        same = wire.encode(recipe.data) == wire.encode(self.task.data(self.seed).train)
        return loan if same else None


def borrowing(program: Program, lender: Lender) -> Program:
    """A program for tests, whose long trainings are put off or borrowed."""
    return cast(Program, _Borrower(program, lender))  # the rest goes through __getattr__


class _Borrower:
    def __init__(self, program: Program, lender: Lender) -> None:
        self._program, self._lender = program, lender
        self._built: WeakKeyDictionary[Model, tuple[int | None, Mapping[str, Value]]] = WeakKeyDictionary()
        self._lent: WeakKeyDictionary[Model, Loan] = WeakKeyDictionary()

    def build(self, seed: int | None = None, **config: Value) -> Model:
        self.disturb()
        model = self._program.build(seed, **config)
        self._built[model] = seed, config
        return model

    def train(self, model: Model, data: Value, seed: int, **config: Value) -> Run:
        first, given = self._built.get(model, (None, {}))
        recipe = Recipe((first, seed), (given, config), data)
        run = cast(Run, self._ask("train", model, data, seed, **config))
        return _Borrowed(run, self, self._lender, lambda count: self._borrow(model, recipe, count))

    def disturb(self) -> None:
        """No model that was built so far is fresh any more."""
        self._built.clear()

    def _borrow(self, model: Model, recipe: Recipe, count: int) -> list[float]:
        """The losses of the loan, and from now on its model for this one; nothing where there is none."""
        loan = self._lender.lend(recipe, count) if model in self._built else None
        if loan is None:
            return []
        del self._built[model]
        self._lent[model] = loan
        return list(loan.losses)

    def _ask(self, name: str, *args: Value, **kwargs: Value) -> Value:
        given = [*args, *kwargs.values()]
        loans = [self._lent[one] for one in given if _is_in(one, self._lent)]
        changes = name in CHANGING or bool(kwargs.get("keep"))
        if name in DISTURBING or changes:
            self.disturb()
        if not loans:
            return getattr(self._program, name)(*args, **kwargs)
        if name == "train" or changes:
            self._lender.loan = None  # the model is not as the training left it
        own = [loans[0].model if _is_in(one, self._lent) else one for one in args]
        named = {key: loans[0].model if _is_in(one, self._lent) else one for key, one in kwargs.items()}
        return getattr(loans[0].program, name)(*own, **named)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._ask(name, *args, **kwargs)


class _Borrowed:
    """A training that a test has begun and that may turn out long."""

    def __init__(
        self, run: Run, borrower: _Borrower, lender: Lender, borrow: Callable[[int], list[float]]
    ) -> None:
        self._run, self._borrower, self._lender, self._borrow = run, borrower, lender, borrow
        self._asked = 0
        self._is_lent = False

    def next(self, count: int = 1) -> list[float]:
        first, self._asked = self._asked == 0, self._asked + count
        if self._lender.early and self._lender.is_long(self._asked):
            raise PutOffError("put off")
        losses = self._borrow(count) if first else []
        self._is_lent = self._is_lent or bool(losses)
        if self._is_lent:
            return losses  # the whole of it: a run that has ended gives no more
        self._borrower.disturb()
        return self._run.next(count)


def _is_in(value: Value, models: WeakKeyDictionary[Model, Loan]) -> bool:
    return type(value) is wire.Handle and value in models
