"""The judge on the cases of tests/verdicts: a program, and the verdict that it deserves."""

import resource
import runpy
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from bughunt_mutator import disguise_tree

from bughunt import references
from bughunt.judge.judge import Case, Judge
from bughunt.judge.limits import Limits
from bughunt.judge.reading import syntax_error
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


def test_one_curve_is_enough_where_every_probe_is_the_references_own(judge, case):
    seeds = [curve.seed for curve in case.reference_curves][:3]
    verdict = judge.judge(program("identical"), case, seeds)
    assert (verdict.outcome, len(verdict.curves)) == (Outcome.SOLVED, 1)
    assert verdict.stopped == "every probe is the reference's on the same seed"
    everything = judge.judge(program("identical"), case, seeds, stop_early=False)
    assert (everything.outcome, len(everything.curves), everything.stopped) == (Outcome.SOLVED, 3, "")


@pytest.mark.parametrize(
    ("seeds", "parted"), [([7005, 7001, 7002], [None, 1]), ([7006, 7008, 7001], [2, 3])], ids=str
)
def test_a_repair_with_other_draws_may_start_alike_by_luck(judge, seeds, parted):
    mixture, first = references.load("gmm-em"), "    runs = [start("
    text = mixture.files["train.py"].replace(first, f"    rng.random(7)\n{first}")
    curves = [judge.measure(mixture.files, mixture.task, seed) for seed in range(5)]
    case = Case(mixture.task, mixture.files, mixture.test_path, reference_curves=curves)
    found = [judge.differential({"train.py": text}, mixture.files, mixture.task, seed) for seed in seeds[:2]]
    assert [one.first_step for one in found] == parted
    assert judge.judge({"train.py": text}, case, seeds).outcome is Outcome.SOLVED
    flat = text.replace("scatter / counts[k]", "scatter / len(points)")
    assert not judge.equal_moments({"train.py": flat}, case, seeds[0], parted=3)


def test_before_curves_alone_refuse_a_program_it_runs_every_seed_that_the_reference_has_run(judge, case):
    right = judge.judge(program("other_draws"), case, [0, 1, 2])
    assert (right.outcome, len(right.curves)) == (Outcome.SOLVED, 5)
    assert {curve.seed for curve in right.curves} <= set(range(8))
    loop = "    for {} in range(cfg.steps):\n"
    slower = (
        loop.format("step") + "        optimizer.param_groups[0]['lr'] = cfg.lr * (0.1 if step > 14 else 1)\n"
    )
    late = program("other_draws")["train.py"].replace(loop.format("_"), slower)
    wrong = judge.judge({"train.py": late}, case, [0, 1, 2])
    assert (wrong.outcome, wrong.layers["moments"]) == (Outcome.PARTIAL, True)
    assert sorted(curve.seed for curve in wrong.curves) == list(range(8))


def test_one_curve_is_enough_where_a_test_fails(judge, case):
    verdict = judge.judge(program("broken"), case, SEEDS)
    assert (verdict.outcome, len(verdict.curves)) == (Outcome.UNFIXED, 1)
    assert verdict.stopped == "a behaviour test fails"


def test_the_verdict_says_what_each_layer_saw(judge, case):
    assert judge.judge(program("identical"), case, SEEDS).layers == {
        "tests": True,
        "differential": True,
        "curves": True,
    }
    other = judge.judge(program("other_draws"), case, SEEDS).layers
    assert other == {"tests": True, "differential": False, "moments": True, "curves": True}
    assert "differential" not in judge.judge(program("split_layer"), case, SEEDS).layers


def test_where_a_run_leaves_the_reference_is_told_with_the_gradients_of_that_step(judge, case):
    found = judge.judge(program("broken"), case, SEEDS, curves=False).differential
    assert (found.passed, found.first_step, found.what) == (False, 2, "gradient of linear.bias")
    assert set(found.gradients) == {"linear.weight", "linear.bias"}
    assert found.gradients["linear.bias"] == found.deviation > 1e-3


def test_each_of_several_bugs_has_its_own_tests(judge, case):
    (forgets,) = case.fail_to_pass
    two = replace(case, bugs=[[forgets], ["test_predictions_are_repeatable"]])
    assert judge.judge(program("identical"), two, SEEDS[:1]).repaired == [True, True]
    assert judge.judge(program("broken"), two, SEEDS[:1]).repaired == [False, True]


def test_what_the_program_never_passed_on_this_seed_has_not_been_lost(judge, case):
    (forgets,) = case.fail_to_pass
    other = next(iter(case.pass_to_pass))
    promised = replace(case, fail_to_pass=[other], pass_to_pass=[forgets])
    assert judge.judge(program("broken"), promised, SEEDS[:1]).outcome is Outcome.REGRESSED
    handed = replace(promised, handed_out=program("broken"))
    unfixed = judge.judge(program("broken"), handed, SEEDS[:1])
    assert unfixed.outcome is Outcome.PARTIAL  # one of the two that count passes
    assert judge.judge(program("identical"), handed, SEEDS[:1]).outcome is Outcome.SOLVED


def test_a_pasted_reference_is_flagged_in_a_ranked_game_only(judge, case):
    plain = program("reference")
    cover = disguise_tree(plain, 5, keep=frozenset({"Config", "build", "train", "predict"})).files
    handed = {"train.py": cover["train.py"].replace("zero_grad()", "zero_grad")}
    ranked = replace(case, handed_out=handed, repaired=cover, ranked=True)
    flagged = judge.judge(plain, ranked, SEEDS[:1])
    assert (flagged.outcome, flagged.layer, flagged.passed) == (Outcome.FLAGGED, "text", False)
    honest = judge.judge(cover, ranked, SEEDS[:1])
    assert (honest.outcome, honest.change.lines, honest.change.par) == (Outcome.SOLVED, 1, 1)
    assert judge.judge(plain, replace(ranked, ranked=False), SEEDS[:1]).outcome is Outcome.SOLVED


def test_a_text_that_burdens_its_reader_burdens_a_worker_within_its_limits(case):
    deep = "x = " + "+".join(["[1]"] * 400_000)
    with Judge(limits=Limits(memory_bytes=700 << 20, cpu_seconds=20)) as strict:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        verdict = strict.judge({"train.py": deep}, case, SEEDS[:1])
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert verdict.outcome in (Outcome.ERROR, Outcome.TIMEOUT)
    assert grown < 100 << 10  # KiB


def test_what_is_said_last_is_kept(judge, case):
    last = 'import sys\nsys.stderr.write("x" * 60_000 + "the end")\nraise SystemExit(3)\n'
    verdict = judge.judge({"train.py": last}, case, SEEDS[:1])
    assert verdict.outcome is Outcome.ERROR
    assert verdict.output.endswith("the end")
