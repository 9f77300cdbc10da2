"""Curves as they are measured, on a real program."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from bughunt.judge.curves import train_and_measure
from bughunt.judge.program import ProgramError, open_program
from bughunt.judge.zygote import Zygote

VERDICTS = Path(__file__).parents[1] / "verdicts"
TASK = runpy.run_path(str(VERDICTS / "reference" / "task.py"))["TASK"]
TEXT = (VERDICTS / "reference" / "train.py").read_text()


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


def test_a_training_is_measured_at_the_probes(zygote):
    seen = []
    with open_program(zygote, {"train.py": TEXT}) as program:
        curve = train_and_measure(program, TASK, 3, on_probe=lambda *probe: seen.append(probe))
    assert curve.steps == tuple(range(0, 61, 5))
    assert [(seed, step) for seed, step, _ in seen] == [(3, step) for step in curve.steps]
    assert len(curve.reported) == 60
    assert len(curve.gradient_norms) == len(curve.update_ratios["linear.weight"]) == 13
    assert curve.values[0] > 1 > curve.values[-1] > 0.05  # the noise has a variance of 0.09


def test_what_follows_the_loop_counts(zygote):
    text = TEXT.replace(
        "        yield loss.item()\n",
        "        yield loss.item()\n    model.linear.weight.data.zero_()\n",
    )
    with open_program(zygote, {"train.py": text}) as program:
        curve = train_and_measure(program, TASK, 3)
    assert curve.values[-1] > 5 > curve.values[-2]


def test_a_run_that_ends_by_itself_keeps_its_last_value(zygote):
    text = TEXT.replace("steps: int = 60", "steps: int = 9")
    with open_program(zygote, {"train.py": text}) as program:
        curve = train_and_measure(program, replace(TASK, steps=None), 3)
    assert curve.steps == tuple(range(13))
    assert len(set(curve.values[:10])) == 10
    assert set(curve.values[9:]) == {curve.values[9]}


def test_steps_can_be_asked_for(zygote):
    with open_program(zygote, {"train.py": TEXT}) as program:
        assert len(train_and_measure(program, TASK, 3, steps=20).reported) == 20


@pytest.mark.parametrize(("steps", "message"), [(7, "yielded 7 times"), (99, "more than the 60")])
def test_another_number_of_items_breaks_the_contract(zygote, steps, message):
    text = TEXT.replace("range(cfg.steps)", f"range({steps})")
    with (
        open_program(zygote, {"train.py": text}) as program,
        pytest.raises(ProgramError, match=message) as caught,
    ):
        train_and_measure(program, TASK, 3)
    assert caught.value.kind == "contract"
