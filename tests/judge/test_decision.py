"""The verdict as a table of evidence."""

from dataclasses import replace

import pytest

from bughunt.judge.comparison import Comparison
from bughunt.judge.decision import Evidence, decide, score
from bughunt.judge.verdict import Differential, Outcome, TestResult

EQUAL = Differential(True, True, 0.0)
OTHER = Differential(True, False, 0.1, 2, "loss")
UNMAPPED = Differential(False, False, float("inf"))


def curve(agrees=True, not_worse=True, absurd=False, moved=True, recovery=1.0, seeds=5):
    return Comparison(agrees, not_worse, absurd, moved, recovery, seeds)


def evidence(passed, *, differentials=(), comparison=None, moments=None, trains=True):
    """Two tests that must come to pass, `a` and `b`, and one that passed before, `old`."""
    tests = [TestResult(name, name in passed.split()) for name in ("a", "b", "old")]
    return Evidence(tests, ["a", "b"], ["old"], differentials, moments, comparison, trains)


CASES = {
    "equal step by step": (evidence("a b old", differentials=[EQUAL]), "SOLVED"),
    "equal on average": (
        evidence("a b old", differentials=[OTHER], comparison=curve(), moments=True),
        "SOLVED",
    ),
    "unmappable, five curves": (
        evidence("a b old", differentials=[UNMAPPED], comparison=curve()),
        "SOLVED",
    ),
    "unmappable, three curves": (
        evidence("a b old", differentials=[UNMAPPED], comparison=curve(seeds=3)),
        "WORKAROUND",
    ),
    "other moments": (
        evidence("a b old", differentials=[OTHER], comparison=curve(), moments=False),
        "WORKAROUND",
    ),
    "equal at first, far off later": (
        evidence("a b old", differentials=[EQUAL], comparison=curve(absurd=True)),
        "PARTIAL",
    ),
    "equal at first, resting later": (
        evidence("a b old", differentials=[EQUAL], comparison=replace(curve(), still=True)),
        "PARTIAL",
    ),
    "one seed of two": (evidence("a b old", differentials=[EQUAL, OTHER]), "UNSTABLE"),
    "one seed of two by luck": (
        evidence("a b old", differentials=[EQUAL, OTHER], comparison=curve(), moments=True),
        "SOLVED",
    ),
    "all tests, worse curve": (
        evidence("a b old", differentials=[OTHER], comparison=curve(False, False)),
        "PARTIAL",
    ),
    "nothing to train": (evidence("a b old", trains=False), "SOLVED"),
    "an old test fails": (evidence("a b", differentials=[EQUAL]), "REGRESSED"),
    "one new test": (evidence("a old"), "PARTIAL"),
    "curve back, tests not": (evidence("old", comparison=curve()), "WORKAROUND"),
    "curve half back": (evidence("old", comparison=curve(False, False, recovery=0.5)), "PARTIAL"),
    "curve where it was": (
        evidence("old", comparison=curve(False, False, moved=False, recovery=0.5)),
        "UNFIXED",
    ),
    "silent and untouched": (evidence("old", comparison=curve(moved=False, recovery=None)), "UNFIXED"),
    "nothing": (evidence("old", differentials=[OTHER]), "UNFIXED"),
}


@pytest.mark.parametrize(("given", "expected"), CASES.values(), ids=CASES)
def test_the_outcome_follows_from_the_evidence(given, expected):
    assert decide(given)[0] == expected


def test_without_any_test_nothing_is_solved():
    assert decide(Evidence([], [], [], [EQUAL]))[0] is Outcome.UNFIXED


def test_a_missing_test_has_not_passed():
    assert decide(Evidence([TestResult("a", True)], ["a", "b"], []))[0] is Outcome.PARTIAL


@pytest.mark.parametrize(
    ("outcome", "tests", "recovery", "expected"),
    [
        ("SOLVED", 1.0, 1.0, 100.0),
        ("SOLVED", 1.0, 0.9, 95.0),
        ("SOLVED", 1.0, None, 100.0),
        ("WORKAROUND", 1.0, 1.0, 59.0),
        ("PARTIAL", 0.5, 0.4, 45.0),
        ("PARTIAL", 0.5, None, 50.0),
        ("UNFIXED", 0.0, 0.0, 0.0),
    ],
)
def test_half_the_score_is_tests_and_half_is_recovery(outcome, tests, recovery, expected):
    assert score(Outcome(outcome), tests, recovery) == pytest.approx(expected)
