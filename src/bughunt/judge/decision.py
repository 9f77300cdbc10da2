"""The verdict on the evidence: pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from bughunt.judge.curves import Comparison
from bughunt.judge.verdict import Differential, Outcome, TestResult

SEEDS_WITHOUT_PINNING = 5
RECOVERED, PARTLY_RECOVERED = 0.95, 0.3
UNSOLVED_CAP = 59.0


@dataclass(frozen=True)
class Evidence:
    """What the judge measured of a program that ran without failing."""

    tests: Sequence[TestResult]
    fail_to_pass: Sequence[str]
    pass_to_pass: Sequence[str]
    differentials: Sequence[Differential] = ()  # one a pin seed
    moments: bool | None = None  # None where not taken
    comparison: Comparison | None = None  # None where no curve was measured
    trains: bool = True  # False for a program without training: its tests are the verdict

    @property
    def share(self) -> float:
        """The share of fail-to-pass tests that pass; 0 when a pass-to-pass test fails."""
        passed = {test.name for test in self.tests if test.passed}
        names = self.fail_to_pass or [test.name for test in self.tests]
        if not names or not passed.issuperset(self.pass_to_pass):
            return 0.0
        return sum(name in passed for name in names) / len(names)

    @property
    def regressed(self) -> bool:
        passed = {test.name for test in self.tests if test.passed}
        return bool(self.tests) and not passed.issuperset(self.pass_to_pass)

    @property
    def recovery(self) -> float | None:
        return self.comparison.recovery if self.comparison else None


def decide(evidence: Evidence) -> tuple[Outcome, str]:
    """The outcome, and the layer that decided."""
    if evidence.regressed:
        return Outcome.REGRESSED, "tests"
    if evidence.share == 1.0:
        return _all_tests_pass(evidence)
    return _some_tests_fail(evidence)


def _all_tests_pass(evidence: Evidence) -> tuple[Outcome, str]:
    if not evidence.trains:
        return Outcome.SOLVED, "tests"
    pinned, comparison = evidence.differentials, evidence.comparison
    if comparison and comparison.absurd:
        return Outcome.PARTIAL, "curves"
    if len({one.passed for one in pinned}) > 1:
        return Outcome.UNSTABLE, "differential"
    if pinned and all(one.passed for one in pinned):
        return Outcome.SOLVED, "differential"
    if comparison and comparison.agrees and comparison.seeds >= SEEDS_WITHOUT_PINNING:
        if evidence.moments:
            return Outcome.SOLVED, "moments"
        if pinned and not any(one.comparable for one in pinned):
            return Outcome.SOLVED, "curves"
    if comparison and not comparison.not_worse:
        return Outcome.PARTIAL, "curves"
    return Outcome.WORKAROUND, "differential"


def _some_tests_fail(evidence: Evidence) -> tuple[Outcome, str]:
    comparison = evidence.comparison
    moved = comparison is not None and comparison.moved
    share = (evidence.recovery or 0.0) if moved else 0.0
    if comparison and comparison.not_worse and share >= RECOVERED:
        return Outcome.WORKAROUND, "tests"
    if evidence.share > 0:
        return Outcome.PARTIAL, "tests"
    if share >= PARTLY_RECOVERED:
        return Outcome.PARTIAL, "curves"
    return Outcome.UNFIXED, "tests"


def score(outcome: Outcome, tests: float, recovery: float | None) -> float:
    """0-100: half for the tests, half for the curve; only a solution passes the cap."""
    points = 100 * tests if recovery is None else 50 * tests + 50 * recovery
    return points if outcome is Outcome.SOLVED else min(points, UNSOLVED_CAP)
