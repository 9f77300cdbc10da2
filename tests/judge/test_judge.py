"""The judge on the cases of tests/verdicts: a program, and the verdict that it deserves."""

import runpy
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from bughunt.judge.judge import Case, Judge, syntax_error
from bughunt.judge.limits import Limits
from bughunt.judge.verdict import Differential, Outcome, TestResult

VERDICTS = Path(__file__).parents[1] / "verdicts"
REFERENCE = VERDICTS / "reference"
TASK = runpy.run_path(str(REFERENCE / "task.py"))["TASK"]
CASES = sorted(path.parent.name for path in VERDICTS.glob("*/expect.toml"))
SEEDS = [11, 12, 13]


def program(name):
    return {"train.py": (VERDICTS / name / "train.py").read_text(encoding="utf-8")}


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


@pytest.fixture(scope="module")
def case(judge):
    bare = Case(TASK, program("reference"), REFERENCE / "behaviour.py")
    broken = judge.battery(program("broken"), bare, 1)
    return replace(
        bare,
        fail_to_pass=[test.name for test in broken if not test.passed],
        pass_to_pass=[test.name for test in broken if test.passed],
        reference_curves=[judge.measure(program("reference"), TASK, seed) for seed in range(8)],
        broken_curves=[judge.measure(program("broken"), TASK, seed) for seed in range(3)],
    )


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_the_one_that_the_case_deserves(judge, case, name):
    expected = tomllib.loads((VERDICTS / name / "expect.toml").read_text(encoding="utf-8"))
    if "limits" not in expected:
        verdict = judge.judge(program(name), case, SEEDS)
    else:
        with Judge(limits=Limits(**expected["limits"])) as strict:
            verdict = strict.judge(program(name), case, SEEDS)
    assert verdict.outcome in expected["outcomes"], verdict
    assert expected.get("detail", "") in verdict.detail
    assert (verdict.score > 59) == verdict.passed
    assert len(verdict.output) <= Limits().output_bytes


def test_every_step_is_told_as_it_happens(judge, case):
    events = []
    verdict = judge.judge(program("identical"), case, SEEDS[:1], on_event=lambda *event: events.append(event))
    kinds = [kind for kind, _ in events]
    assert kinds == ["test"] * 4 + ["differential"] + ["probe"] * 13 + ["curve"]
    assert isinstance(events[0][1], TestResult)
    assert isinstance(events[4][1], Differential)
    told = [(step, value) for seed, step, value in (one for kind, one in events if kind == "probe")]
    assert told == list(zip(verdict.curves[0].steps, verdict.curves[0].values, strict=True))


def test_the_same_file_gets_the_same_verdict(judge, case):
    first, second = (judge.judge(program("other_draws"), case, SEEDS) for _ in range(2))
    assert replace(first, seconds=0.0) == replace(second, seconds=0.0)


def test_a_run_may_end_early_where_its_task_says_so(judge, case):
    patient = replace(case, task=replace(TASK, may_end_early=True))
    verdict = judge.judge(program("stops_early"), patient, SEEDS[:1])
    assert verdict.outcome not in (Outcome.CONTRACT, Outcome.ERROR)
    (curve,) = verdict.curves
    assert curve.steps == case.reference_curves[0].steps
    assert curve.values[-1] == curve.values[-2]
    assert len(curve.reported) < curve.steps[-1]


def test_a_quick_look_measures_no_curve(judge, case):
    verdict = judge.judge(program("identical"), case, SEEDS, curves=False)
    assert (verdict.outcome, verdict.score, verdict.curves) == (Outcome.SOLVED, 100.0, [])


def test_curves_alone_solve_nothing(judge, case):
    verdict = judge.judge(program("identical"), case, SEEDS, tests=False)
    assert not verdict.passed
    assert verdict.recovery == 1.0


def test_a_silent_challenge_is_scored_by_its_tests(judge, case):
    silent = replace(case, label="silent")
    assert judge.judge(program("identical"), silent, SEEDS[:1]).recovery is None
    assert judge.judge(program("broken"), silent, SEEDS[:1]).score == 0


def test_a_bad_reference_is_not_the_players_fault(judge, case):
    verdict = judge.judge(program("identical"), replace(case, reference_files=program("raises")), SEEDS)
    assert verdict.outcome is Outcome.INFRA


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\n", ""),
        ("x = 1\n  y = 2\n", "train.py line 2: IndentationError: unexpected indent"),
        ("x = \0", "train.py"),
        ("(" * 5000, "train.py"),
        ('"\\d"\n', ""),
    ],
    ids=["right", "indent", "null byte", "nested", "only a warning"],
)
def test_a_file_that_is_not_python_is_told_by_line(text, expected):
    assert syntax_error({"train.py": text}).startswith(expected)
    assert bool(syntax_error({"train.py": text})) == bool(expected)
