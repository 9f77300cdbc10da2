"""The verdict on the evidence: pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bughunt.judge.comparison import Comparison
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

    def passes(self, names: Iterable[str]) -> bool:
        return {test.name for test in self.tests if test.passed}.issuperset(names)

    @property
    def share(self) -> float:
        """The share of fail-to-pass tests that pass; 0 when a pass-to-pass test fails."""
        passed = {test.name for test in self.tests if test.passed}
        names = self.fail_to_pass or [test.name for test in self.tests]
        if not names or not self.passes(self.pass_to_pass):
            return 0.0
        return sum(name in passed for name in names) / len(names)

    @property
    def regressed(self) -> bool:
        return bool(self.tests) and not self.passes(self.pass_to_pass)

    @property
    def recovery(self) -> float | None:
        return self.comparison.recovery if self.comparison else None

    @property
    def pinned(self) -> bool:
        """Whether every pinned comparison was taken and passed."""
        return bool(self.differentials) and all(one.passed for one in self.differentials)

    @property
    def unmappable(self) -> bool:
        return bool(self.differentials) and not any(one.comparable for one in self.differentials)

    @property
    def wants_more_curves(self) -> bool:
        """Whether curves stand in for the pinned comparison, and are few or the only ones to say no."""
        comparison = self.comparison
        if self.share < 1 or self.pinned or comparison is None:
            return False
        if comparison.seeds < SEEDS_WITHOUT_PINNING:
            return True
        return (self.unmappable or bool(self.moments)) and not comparison.agrees

    @property
    def layers(self) -> dict[str, bool]:
        """What each layer says of the program, where it was asked and can tell."""
        said: dict[str, bool | None] = {
            "tests": self.share == 1 if self.tests else None,
            "differential": self.pinned if self.differentials and not self.unmappable else None,
            "moments": self.moments,
            "curves": self.comparison.agrees and not self.comparison.still if self.comparison else None,
        }
        return {name: answer for name, answer in said.items() if answer is not None}


def settled(evidence: Evidence) -> str:
    """Why no further curve can change the outcome; empty where one can."""
    comparison = evidence.comparison
    if not evidence.tests or comparison is None:
        return ""
    if evidence.share < 1:
        return "a behaviour test fails"
    if evidence.pinned:
        return "every probe is the reference's on the same seed" if comparison.same else ""
    if comparison.absurd:
        return "the curve is where no right program goes"
    if comparison.still:
        return "the program stops to learn where the reference goes on"
    if evidence.unmappable or evidence.moments:
        return ""
    return "its first steps are not the reference's"


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
    if comparison and (comparison.absurd or comparison.still):
        return Outcome.PARTIAL, "curves"
    if not all(one.repeats for one in pinned):
        return Outcome.UNSTABLE, "differential"
    if evidence.pinned:
        return Outcome.SOLVED, "differential"
    if comparison and comparison.agrees and comparison.seeds >= SEEDS_WITHOUT_PINNING:
        if evidence.moments:
            return Outcome.SOLVED, "moments"
        if evidence.unmappable:
            return Outcome.SOLVED, "curves"
    if len({one.passed for one in pinned}) > 1:
        return Outcome.UNSTABLE, "differential"
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
    return points if outcome in (Outcome.SOLVED, Outcome.FLAGGED) else min(points, UNSOLVED_CAP)
