"""Long trainings of tests: put off, then borrowed from the curve where they are the very same."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bughunt.judge.curves import trained
from bughunt.judge.judge import Case, Judge
from bughunt.judge.lending import Lender, Loan, PutOffError, borrowing
from bughunt.judge.verdict import Outcome
from bughunt.task import Data

REFERENCE = Path(__file__).parents[1] / "verdicts" / "reference"
TASK = runpy.run_path(str(REFERENCE / "task.py"))["TASK"]
FILES = {"train.py": (REFERENCE / "train.py").read_text(encoding="utf-8")}
SEED, STEPS = 11, 60
LEARNS = """
def test_it_learns(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    losses = program.train(model, data.train, seed).next(10_000)
    assert len(losses) == task.steps
    assert task.measure(program, model, data.held_out).metric < 0.6


def test_a_short_run_has_its_length(program, task, seed):
    model = program.build(seed=seed)
    assert len(program.train(model, task.data(seed).train, seed).next(5)) == 5
"""


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


@pytest.fixture(scope="module")
def finished(judge):
    """A program with a training that has ended."""
    with judge.open(FILES, TASK) as program:
        model, curve = trained(program, TASK, SEED)
        yield program, model, curve


@pytest.fixture
def lent(judge, finished):
    """A program of its own that may borrow that training."""
    lender = Lender(TASK, SEED, {}, early=False, loan=Loan(finished[0], finished[1], finished[2].reported))
    with judge.open(FILES, TASK) as program:
        yield borrowing(program, lender), lender


def data():
    return TASK.data(SEED).train


def borrows(lent, train):
    """Whether a training is borrowed: the worker that has made it shows the same model as the test sees."""
    program, lender = lent
    model = train(program)
    return torch.equal(
        program.state(model)["linear.weight"], lender.loan.program.state(lender.loan.model)["linear.weight"]
    )


def test_what_is_borrowed_is_what_the_test_would_have_trained(judge, lent, finished):
    program, _ = lent
    model = program.build(seed=SEED)
    losses = program.train(model, data(), SEED).next(10_000)
    with judge.open(FILES, TASK) as plain:
        own = plain.build(seed=SEED)
        assert plain.train(own, data(), SEED).next(10_000) == losses == list(finished[2].reported)
        rows = TASK.data(SEED).held_out[0]
        assert torch.equal(plain.predict(own, rows), program.predict(model, rows))
        assert program.state(model).keys() == plain.state(own).keys()


def shuffled():
    rows, answers = data()
    return rows.flip(0), answers.flip(0)


OTHERS = {
    "another seed of the model": lambda p: p.train(p.build(seed=SEED + 1), data(), SEED),
    "another seed of the batches": lambda p: p.train(p.build(seed=SEED), data(), SEED + 1),
    "another rate": lambda p: p.train(p.build(seed=SEED, lr=0.01), data(), SEED, lr=0.01),
    "other data": lambda p: p.train(p.build(seed=SEED), shuffled(), SEED),
}


@pytest.mark.parametrize("how", OTHERS)
def test_another_training_is_not_borrowed(lent, finished, how):
    assert OTHERS[how](lent[0]).next(10_000) != list(finished[2].reported)


def test_fewer_updates_are_made_anew(lent, finished):
    program, _ = lent
    model = program.build(seed=SEED)
    losses = program.train(model, data(), SEED).next(STEPS - 1)
    assert losses == list(finished[2].reported)[: STEPS - 1]
    assert not torch.equal(
        program.state(model)["linear.weight"], finished[0].state(finished[1])["linear.weight"]
    )


@pytest.mark.parametrize("between", ["seed", "load_state", "build"])
def test_what_happens_in_between_makes_it_another_training(lent, finished, between):
    program, _ = lent
    model = program.build(seed=SEED)
    if between == "seed":
        program.seed(5)
    elif between == "load_state":
        program.load_state(model, {"linear.bias": torch.tensor([3.0])})
    else:
        program.build(seed=3)
    losses = program.train(model, data(), SEED).next(10_000)
    assert losses != list(finished[2].reported)


def test_a_borrowed_model_that_was_changed_is_lent_to_nobody_else(judge, finished):
    lender = Lender(TASK, SEED, {}, early=False, loan=Loan(finished[0], finished[1], finished[2].reported))
    with judge.open(FILES, TASK) as plain:
        program = borrowing(plain, lender)
        model = program.build(seed=SEED)
        program.train(model, data(), SEED).next(10_000)
        assert lender.loan is not None
        program.train_mode(model, True)
        assert lender.loan is None
        assert program.is_training(model)


def test_long_trainings_are_put_off_while_it_is_early(judge):
    lender = Lender(TASK, SEED, {})
    with judge.open(FILES, TASK) as plain:
        program = borrowing(plain, lender)
        run = program.train(program.build(seed=SEED), data(), SEED)
        assert len(run.next(29)) == 29
        with pytest.raises(PutOffError):
            run.next(1)


def test_a_test_that_was_put_off_counts_all_the_same(judge, tmp_path):
    path = tmp_path / "test_behaviour.py"
    path.write_text(LEARNS)
    order = []
    case = Case(TASK, FILES, path, reference_curves=[judge.measure(FILES, TASK, seed) for seed in range(4)])
    verdict = judge.judge(FILES, case, [SEED], on_event=lambda kind, what: order.append((kind, what)))
    told = [what.name if kind == "test" else kind for kind, what in order if kind != "probe"]
    assert told == ["test_a_short_run_has_its_length", "differential", "curve", "test_it_learns"]
    assert verdict.outcome is Outcome.SOLVED
    lazy = {"train.py": FILES["train.py"].replace("lr: float = 0.05", "lr: float = 0.0005")}
    refused = judge.judge(lazy, case, [SEED])
    assert [test.name for test in refused.tests if not test.passed] == ["test_it_learns"]
    without = judge.judge(lazy, case, [SEED], curves=False)
    assert [test.passed for test in without.tests] == [True, False]


def test_data_of_another_make_is_not_borrowed(judge, finished):
    other = replace(TASK, data=lambda seed: Data(shuffled(), TASK.data(seed).held_out))
    lender = Lender(other, SEED, {}, early=False, loan=Loan(finished[0], finished[1], finished[2].reported))
    with judge.open(FILES, TASK) as plain:
        program = borrowing(plain, lender)
        run = program.train(program.build(seed=SEED), data(), SEED)
        run.next(10_000)
        assert lender.loan is not None
        assert lender.loan.program is finished[0]
