"""The behaviour tests run nested in this very pytest session."""

import os
import runpy
from contextlib import contextmanager
from pathlib import Path

import pytest

from bughunt.judge.battery import run_battery
from bughunt.judge.limits import Limits
from bughunt.judge.program import ProgramError, open_program
from bughunt.judge.zygote import Zygote

REFERENCE = Path(__file__).parents[1] / "verdicts" / "reference"
TASK = runpy.run_path(str(REFERENCE / "task.py"))["TASK"]
TEXT = (REFERENCE / "train.py").read_text()

ODD = """
import pytest
def test_that_passes(program): assert True
def test_that_fails(program): assert 1 + 1 == 3, "expected 3, got 2"
@pytest.mark.skip(reason="why not")
def test_that_is_skipped(program): pass
@pytest.mark.xfail
def test_that_may_fail(program): assert False
@pytest.mark.parametrize("number", [1, 2])
def test_of_a_number(number): assert number == 1
def test_that_asks_for_what_is_not_there(program): program.call("nothing_of_the_kind")
def test_with_a_mistake(program): [][3]
"""


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


def battery(zygote, text, path, limits=None, **options):
    return run_battery(
        lambda: open_program(zygote, {"train.py": text}, limits=limits), TASK, path, 5, **options
    )


@pytest.fixture
def odd(tmp_path):
    path = tmp_path / "test_behaviour.py"
    path.write_text(ODD)
    return path


def test_a_right_program_passes_and_a_broken_one_fails_one_test(zygote):
    assert all(result.passed for result in battery(zygote, TEXT, REFERENCE / "behaviour.py"))
    broken = TEXT.replace("        optimizer.zero_grad()\n", "")
    failed = [one for one in battery(zygote, broken, REFERENCE / "behaviour.py") if not one.passed]
    assert [one.name for one in failed] == ["test_a_second_step_forgets_the_first_gradient"]
    assert failed[0].detail.startswith("expected an error of")


def test_only_what_runs_and_holds_has_passed(zygote, odd):
    results = {one.name: one for one in battery(zygote, TEXT, odd)}
    passed = {name for name, one in results.items() if one.passed}
    assert passed == {"test_that_passes", "test_of_a_number[1]"}
    assert results["test_that_fails"].detail == "expected 3, got 2"
    assert results["test_that_is_skipped"].detail == "skipped: why not"
    assert "nothing_of_the_kind" in results["test_that_asks_for_what_is_not_there"].detail
    assert results["test_with_a_mistake"].detail.startswith("IndexError")
    assert len(results) == 8


def test_results_come_in_the_order_asked_for_and_as_they_happen(zygote, odd):
    asked = ["test_that_fails", "test_of_a_number[2]", "test_of_old", "test_that_passes"]
    seen = []
    results = battery(zygote, TEXT, odd, only=asked, on_test=seen.append)
    assert [one.name for one in results] == asked
    assert results[2].detail == "not run"
    assert {one.name for one in seen} == set(asked) - {"test_of_old"}


def test_a_program_that_does_not_load_fails_each_test_with_the_reason(zygote):
    results = battery(zygote, "import nowhere_at_all\n", REFERENCE / "behaviour.py")
    assert not any(one.passed for one in results)
    assert all("nowhere_at_all" in one.detail for one in results)


def test_after_a_timeout_the_other_tests_are_not_run(zygote):
    hanging = TEXT.replace("    model.eval()\n", "    while True:\n        pass\n")
    results = battery(zygote, hanging, REFERENCE / "behaviour.py", limits=Limits(reply_seconds=0.5))
    assert len(results) == 4
    assert results[-1].detail == "not run: an earlier test ran out of time"


def test_the_fault_of_the_machine_is_not_the_fault_of_the_program():
    @contextmanager
    def broken_machine():
        raise ProgramError("infra", "no worker to be had")
        yield

    with pytest.raises(ProgramError, match="no worker") as caught:
        run_battery(broken_machine, TASK, REFERENCE / "behaviour.py", 5)
    assert caught.value.kind == "infra"


def test_a_file_without_tests_is_the_fault_of_the_machine(zygote, tmp_path):
    (tmp_path / "test_behaviour.py").write_text("pass\n")
    with pytest.raises(ProgramError, match="no behaviour test"):
        battery(zygote, TEXT, tmp_path / "test_behaviour.py")


def test_the_surroundings_do_not_reach_the_tests(zygote, odd, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")
    (odd.parent / "conftest.py").write_text("raise RuntimeError\n")
    (odd.parent / "pytest.ini").write_text("[pytest]\naddopts = --nonsense\n")
    monkeypatch.chdir(odd.parent)
    before = dict(os.environ)
    assert battery(zygote, TEXT, odd, only=["test_that_passes"])[0].passed
    assert dict(os.environ) == before


def test_two_files_of_one_name_stay_two_files(zygote, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "test_behaviour.py"
        path.write_text(f"def test_{folder}(): pass\n")
        assert [one.name for one in battery(zygote, TEXT, path)] == [f"test_{folder}"]


COUNTS = """
def test_one(program): assert program.call("one") == 2
def test_two(program): assert program.call("one") == 1
def test_three(program): assert program.call("one") == 1
def test_four(program): assert program.call("one") == 1
def test_five(program): assert program.call("one") == 9
"""


def test_what_fails_on_a_program_of_its_own_is_not_run_again(zygote, tmp_path):
    opened = []
    path = tmp_path / "test_behaviour.py"
    path.write_text(COUNTS)
    text = TEXT + "\n\nasked = []\n\n\ndef one():\n    asked.append(1)\n    return len(asked)\n"

    def fresh():
        opened.append(1)
        return open_program(zygote, {"train.py": text})

    results = run_battery(fresh, TASK, path, 5)
    # The first fails alone and for good; the third fails after the second and passes on its own.
    assert [one.passed for one in results] == [False, True, True, True, False]
    assert len(opened) == 5  # for the first; for two and three; for four and five; for three and for five
