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


def sharing(plain):
    """A lender, and the program as one test after the other gets it."""
    lender = Lender(TASK, SEED, {}, early=False)
    return lender, (borrowing(plain, lender) for _ in range(9))


def run(program, count=20, **config):
    model = program.build(seed=SEED, **config)
    return model, program.train(model, data(), SEED, **config).next(count)


def weights(plain, model):
    return plain.state(model)["linear.weight"]


def test_what_one_test_has_trained_the_next_one_borrows(judge):
    with judge.open(FILES, TASK) as plain:
        lender, (one, other, *_) = sharing(plain)
        model, losses = run(one)
        assert lender.made[0].model is model
        borrowed, again = run(other)
        assert len(lender.made) == 1
        assert losses == again == run(plain)[1]
        assert torch.equal(other.state(borrowed)["linear.weight"], weights(plain, model))
        assert not torch.equal(weights(plain, borrowed), weights(plain, model))  # it was only built


def test_two_trainings_of_one_test_are_two(judge):
    with judge.open(FILES, TASK) as plain:
        lender, (one, other, *_) = sharing(plain)
        run(one)
        run(one)
        assert len(lender.made) == 2
        run(other)
        assert len(lender.made) == 2
        run(other)
        assert len(lender.made) == 3


BETWEEN = {
    "fewer updates": lambda p: run(p, 19),
    "more updates": lambda p: run(p, 21),
    "another rate": lambda p: run(p, lr=0.01),
    "a call before": lambda p: (p.call("torch.is_tensor", 1), run(p)),
}


@pytest.mark.parametrize("how", BETWEEN)
def test_what_differs_or_may_be_counted_is_not_borrowed(judge, how):
    with judge.open(FILES, TASK) as plain:
        _, (one, other, *_) = sharing(plain)
        run(one)
        BETWEEN[how](other)
        assert not [loan for loan in other._seen if loan in one._seen]


def test_a_look_at_the_model_changes_nothing(judge):
    with judge.open(FILES, TASK) as plain:
        lender, (one, other, *_) = sharing(plain)
        model, _ = run(one)
        one.predict(model, TASK.data(SEED).held_out[0])
        assert not one.is_training(model)
        borrowed, _ = run(other)
        assert len(lender.made) == 1
        assert other.is_training(borrowed)


@pytest.mark.parametrize("change", ["load_state", "next"])
def test_a_training_that_a_test_has_changed_is_made_anew(judge, change):
    with judge.open(FILES, TASK) as plain:
        lender, (one, other, *_) = sharing(plain)
        model = one.build(seed=SEED)
        training = one.train(model, data(), SEED)
        losses = training.next(20)
        if change == "load_state":
            one.load_state(model, {"linear.bias": torch.tensor([3.0])})
        else:
            training.next(1)
        assert run(other)[1] == losses
        assert len(lender.made) == 2


GOES_ON = """
def start(program, task, seed):
    model = program.build(seed=seed)
    return model, program.train(model, task.data(seed).train, seed)


def test_one(program, task, seed):
    assert len(start(program, task, seed)[1].next(20)) == 20


def test_other(program, task, seed):
    _, run = start(program, task, seed)
    model, whole = start(program, task, seed)
    assert run.next(20) + run.next(10) != whole.next(30)
    model, run = start(program, task, seed)
    losses = run.next(20) + run.next(10)
    model, whole = start(program, task, seed)
    assert losses == whole.next(30)
"""


def test_a_training_that_goes_on_is_the_test_s_own(judge, tmp_path):
    path = tmp_path / "test_behaviour.py"
    path.write_text(GOES_ON)
    results = judge.battery(FILES, Case(TASK, FILES, path), SEED)
    assert [(test.name, test.passed, test.detail) for test in results] == [
        ("test_one", True, ""),
        ("test_other", True, ""),
    ]
