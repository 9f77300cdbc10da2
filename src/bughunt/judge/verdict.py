"""What the judge says of a program: the outcome, the score and everything they rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """The verdicts; each is used on screens, in JSON, on the board and in tests."""

    SOLVED = "SOLVED"
    WORKAROUND = "WORKAROUND"
    PARTIAL = "PARTIAL"
    UNFIXED = "UNFIXED"
    REGRESSED = "REGRESSED"
    UNSTABLE = "UNSTABLE"
    FLAGGED = "FLAGGED"
    CONTRACT = "CONTRACT"
    ERROR = "ERROR"
    TIMEOUT = "TIMEOUT"
    INFRA = "INFRA"


SENTENCES: Mapping[Outcome, str] = {
    Outcome.SOLVED: "Solved.",
    Outcome.WORKAROUND: "Not yet: the curve is back, the behaviour is not.",
    Outcome.PARTIAL: "Not yet: better, and something is still wrong.",
    Outcome.UNFIXED: "Not yet: it behaves as it did.",
    Outcome.REGRESSED: "Not yet: something that held before does not hold any more.",
    Outcome.UNSTABLE: "No verdict: runs on different seeds disagree.",
    Outcome.FLAGGED: "A person looks at this one.",
    Outcome.CONTRACT: "The program does not keep the contract.",
    Outcome.ERROR: "The program stopped.",
    Outcome.TIMEOUT: "The program ran out of its budget.",
    Outcome.INFRA: "bughunt failed, not you: the attempt is not counted.",
}
"""Each outcome in the words that people are told it in."""


@dataclass(frozen=True)
class TestResult:
    """One behaviour test: its name is a sentence, `detail` says what was expected and what came."""

    __test__ = False

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Curve:
    """One training as the judge measured it; lists of one length, one entry a probe."""

    seed: int
    steps: Sequence[int]
    values: Sequence[float]  # the task's loss-like curve, lower is better
    metrics: Sequence[float]  # the task's headline metric
    reported: Sequence[float] = ()  # what the program reported, one a step; shown, never scored
    gradient_norms: Sequence[float] = ()  # one a probe
    update_ratios: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by parameter, one a probe


@dataclass(frozen=True)
class Differential:
    """A pinned comparison with the reference: equal weights, data and random draws, step by step."""

    comparable: bool  # False where the parameters cannot be mapped
    passed: bool
    deviation: float  # the largest relative deviation seen
    first_step: int | None = None  # first step out of tolerance
    what: str = ""  # "loss", "gradient of head.weight", "prediction", ...
    repeats: bool = True  # False where the program differs from itself on the same seed
    gradients: Mapping[str, float] = field(default_factory=dict)  # each one's deviation at that step


@dataclass(frozen=True)
class Change:
    """How much was changed, in lines of the program without comments and layout."""

    lines: int
    par: int  # what the shortest known repair changes


@dataclass(frozen=True)
class Verdict:
    """The judge's answer on one program."""

    outcome: Outcome
    score: float  # 0-100
    tests: Sequence[TestResult] = ()
    curves: Sequence[Curve] = ()
    differential: Differential | None = None
    recovery: float | None = None  # 0-1; None on a silent challenge or where nothing was trained
    detail: str = ""  # for ERROR, CONTRACT, TIMEOUT: what and where in the program
    output: str = ""  # what the program printed, capped
    seconds: float = 0.0
    layer: str = ""  # which layer decided
    layers: Mapping[str, bool] = field(default_factory=dict)  # what each layer said of it that was asked
    stopped: str = ""  # why fewer curves were measured than seeds were given
    repaired: Sequence[bool] = ()  # one a bug, where a challenge has several
    change: Change | None = None

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.SOLVED

    @property
    def recall(self) -> float | None:
        """The share of the bugs that are repaired; None where there is one bug."""
        return sum(self.repaired) / len(self.repaired) if self.repaired else None
