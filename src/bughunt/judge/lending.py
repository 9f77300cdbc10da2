"""Trainings that tests share: the long ones put off until the first verdict is known, none made twice.

A test that trains the very model, data and seed that a curve is measured on, or that a test before it has
trained for as many updates, gets that training and its model instead of one of its own; never one that it
has seen already, so that two trainings of one test are two. What does not fit such a loan fails, and a test
that fails is run again on a program of its own.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

from bughunt.judge import wire
from bughunt.judge.program import ProgramError
from bughunt.task import Model, Program, Run, Task, Value

LONG = 0.5  # of a whole training
KEPT = 12  # trainings of tests
CALLING = ("call", "call_method")
CHANGING = ("load_state", "train_mode", "watch_gradients")  # what a model is afterwards
DISTURBING = ("seed", *CHANGING)  # what a training would have been


class PutOffError(BaseException):
    """A test asks for a long training, and it is too early for one; no test catches this."""


class LoanEndsError(BaseException):
    """A test asks for more than was lent to it; on a program of its own it gets that."""


@dataclass(frozen=True)
class Recipe:
    """How a test comes to a training."""

    seeds: tuple[int | None, int]  # of the model, of the batches
    configs: tuple[Mapping[str, Value], Mapping[str, Value]]
    data: Value


@dataclass
class Loan:
    """A training: the program that it was made in, its model, and the losses that it reported."""

    program: Program
    model: Model
    losses: Sequence[float]
    recipe: Recipe | None = None  # of a test's training; a curve's is known by its seed
    count: int = 0  # updates that the test has asked for
    left_as: str = ""  # the model's tensors, in short
    was_training: bool = False

    def is_as_it_was(self) -> bool:
        """Whether nobody has changed the model since; the mode, which every look changes, is put back."""
        if self.left_as != _tensors_of(self.program, self.model):
            return False
        if self.program.is_training(self.model) != self.was_training:
            self.program.train_mode(self.model, self.was_training)
        return True

    def leads_from(self, recipe: Recipe) -> bool:
        """Whether a recipe leads to this very training."""
        mine = self.recipe
        if mine is None or (mine.seeds, mine.configs) != (recipe.seeds, recipe.configs):
            return False
        return wire.encode(mine.data) == wire.encode(recipe.data)


@dataclass
class Lender:
    """What the tests of one judgement may borrow: the training of one seed and configuration, and others'."""

    task: Task
    seed: int
    config: Mapping[str, Value]
    early: bool = True  # long trainings are put off
    waiting: list[str] = field(default_factory=list)  # tests that were put off
    loan: Loan | None = None
    made: list[Loan] = field(default_factory=list)  # by tests

    def is_long(self, count: int) -> bool:
        """Whether so many updates are a good part of a whole training."""
        return count >= LONG * (self.config.get("steps", self.task.steps) or self.task.probes)

    def lend(self, recipe: Recipe, count: int) -> Loan | None:
        """The loan that is what the recipe leads to after so many updates."""
        if self._is_of_the_curve(recipe, count):
            return self.loan
        equal = (loan for loan in self.made if loan.count == count and loan.leads_from(recipe))
        return next((loan for loan in equal if loan.is_as_it_was()), None)

    def _is_of_the_curve(self, recipe: Recipe, count: int) -> bool:
        loan = self.loan
        if loan is None or count < len(loan.losses) or recipe.seeds != (self.seed, self.seed):
            return False
        if any(config != self.config for config in recipe.configs):
            return False
        return wire.encode(recipe.data) == wire.encode(self.task.data(self.seed).train)

    def keep(self, loan: Loan) -> None:
        """Take in what a test has trained, if it can be told whether anyone changes it."""
        if tensors := _tensors_of(loan.program, loan.model):
            loan.left_as, loan.was_training = tensors, loan.program.is_training(loan.model)
            self.made = [loan, *self.made[: KEPT - 1]]

    def drop(self, loan: Loan) -> None:
        """Nobody else gets this one."""
        if self.loan is loan:
            self.loan = None
        self.made = [one for one in self.made if one is not loan]


def _tensors_of(program: Program, model: Model) -> str:
    """A digest of a model's tensors; empty where it has none that can be told."""
    try:
        frame = wire.encode(program.state(model))
    except ProgramError:
        return ""
    return hashlib.blake2b(frame, digest_size=16).hexdigest()


def borrowing(program: Program, lender: Lender) -> Program:
    """A program for tests, whose long trainings are put off or borrowed."""
    return cast(Program, _Borrower(program, lender))  # the rest goes through __getattr__


class _Borrower:
    """One test's program."""

    def __init__(self, program: Program, lender: Lender) -> None:
        self._program, self._lender = program, lender
        self._built: WeakKeyDictionary[Model, tuple[int | None, Mapping[str, Value]]] = WeakKeyDictionary()
        self._lent: WeakKeyDictionary[Model, Loan] = WeakKeyDictionary()
        self._seen: list[Loan] = []  # by this test
        self._has_called = False  # something that may count what a training does

    def build(self, seed: int | None = None, **config: Value) -> Model:
        self.disturb()
        model = self._program.build(seed, **config)
        self._built[model] = seed, config
        return model

    def train(self, model: Model, data: Value, seed: int, **config: Value) -> Run:
        first, given = self._built.get(model, (None, {}))
        recipe = Recipe((first, seed), (given, config), data)
        run = cast(Run, self._ask("train", model, data, seed, **config))
        return _Training(run, self, self._lender, model, recipe)

    def disturb(self) -> None:
        """No model that was built so far is fresh any more."""
        self._built.clear()

    def borrow(self, model: Model, recipe: Recipe, count: int) -> Loan | None:
        """A loan, and from now on its model for this one; None where there is none."""
        if self._has_called or model not in self._built:
            return None
        loan = self._lender.lend(recipe, count)
        if loan is None or any(loan is one for one in self._seen):
            return None
        del self._built[model]
        self._lent[model] = loan
        self._seen.append(loan)
        return loan

    def make(self, run: Run, model: Model, recipe: Recipe, count: int) -> list[float]:
        """A training of this test's own, for others to borrow if nothing came between."""
        is_fresh = model in self._built and not self._has_called
        self.disturb()
        losses = run.next(count)
        if is_fresh:
            self._seen.append(Loan(self._program, model, losses, recipe, count))
            self._lender.keep(self._seen[-1])
        return losses

    def _ask(self, name: str, *args: Value, **kwargs: Value) -> Value:
        given = [*args, *kwargs.values()]
        loans = [self._lent[one] for one in given if _is_in(one, self._lent)]
        changes = name in CHANGING or bool(kwargs.get("keep"))
        self._has_called = self._has_called or name in CALLING
        if name in DISTURBING or changes:
            self.disturb()
        if not loans:
            return getattr(self._program, name)(*args, **kwargs)
        if name == "train" or changes:
            self._lender.drop(loans[0])  # the model is not as the training left it
        own = [loans[0].model if _is_in(one, self._lent) else one for one in args]
        named = {key: loans[0].model if _is_in(one, self._lent) else one for key, one in kwargs.items()}
        return getattr(loans[0].program, name)(*own, **named)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._ask(name, *args, **kwargs)


class _Training:
    """A training that a test has begun, and that may turn out long or known."""

    def __init__(self, run: Run, borrower: _Borrower, lender: Lender, model: Model, recipe: Recipe) -> None:
        self._run, self._borrower, self._lender = run, borrower, lender
        self._model, self._recipe = model, recipe
        self._asked = 0
        self._loan: Loan | None = None

    def next(self, count: int = 1) -> list[float]:
        first, self._asked = self._asked == 0, self._asked + count
        if self._lender.early and self._lender.is_long(self._asked):
            raise PutOffError("put off")
        if not first:
            return self._go_on(count)
        self._loan = self._borrower.borrow(self._model, self._recipe, count)
        if self._loan:
            return list(self._loan.losses)
        return self._borrower.make(self._run, self._model, self._recipe, count)

    def _go_on(self, count: int) -> list[float]:
        if self._loan is None:
            self._borrower.disturb()
            return self._run.next(count)
        if self._loan.recipe:
            raise LoanEndsError("a borrowed training cannot go on as one's own would")
        return []  # a whole one gives no more


def _is_in(value: Value, models: WeakKeyDictionary[Model, Loan]) -> bool:
    return type(value) is wire.Handle and value in models
