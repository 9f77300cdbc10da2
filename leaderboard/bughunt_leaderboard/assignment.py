"""An assignment: all that has to be known to judge one submission, on this machine or on another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bughunt.bugsets.case import case_of
from bughunt.bugsets.challenge import Challenge
from bughunt.bugsets.change import changed_lines
from bughunt.bugsets.seeds import choose_seeds
from bughunt.judge.judge import Judge
from bughunt.judge.plain import finite
from bughunt.judge.verdict import Verdict
from bughunt_leaderboard.bundle import variant
from bughunt_leaderboard.folder import Folder, derived
from bughunt_leaderboard.queue import Lease

SEEDS = 3
MAX_OUTPUT = 4000

Said = Mapping[str, Any]  # what the team is told of a verdict
Tell = Callable[[str], None]  # is told how far a judgement has come


@dataclass(frozen=True)
class Assignment:
    """A challenge, the text of it that the team was given, its files and the hidden seeds."""

    challenge: Challenge
    handed_out: Mapping[str, str]
    files: Mapping[str, str]
    seeds: tuple[int, ...]


def assigned(folder: Folder, challenge: Challenge, lease: Lease) -> Assignment:
    """What a lease asks for; the seeds follow from the competition's key and the file."""
    key = derived(folder.key, "seeds", lease.challenge, lease.sha256)
    seeds = choose_seeds(key.to_bytes(8), challenge.sealed().seeds, SEEDS)
    return Assignment(challenge, variant(challenge, folder, lease.team), lease.files, seeds)


def judged(judge: Judge, one: Assignment, tell: Tell) -> Said:
    """The verdict, as the team is told it."""
    checks = 0

    def heard(kind: str, what: Any) -> None:
        nonlocal checks
        if kind == "probe":
            tell(f"seed {what[0] % 1000}, step {what[1]}")
        elif kind == "test":
            checks += 1
            tell(f"{checks} checks")

    case = replace(case_of(one.challenge), ranked=True, handed_out=one.handed_out)
    return _said(judge.judge(one.files, case, one.seeds, on_event=heard), one)


def _said(verdict: Verdict, one: Assignment) -> Said:
    """How many checks hold, never what they are."""
    curves = [{"steps": list(c.steps), "values": list(c.values)} for c in verdict.curves]
    return dict(finite({
        "outcome": str(verdict.outcome), "score": verdict.score, "recovery": verdict.recovery,
        "tests": {"passed": sum(t.passed for t in verdict.tests), "total": len(verdict.tests)},
        "curves": curves, "detail": verdict.detail, "output": verdict.output[:MAX_OUTPUT],
        "seconds": verdict.seconds, "layer": verdict.layer,
        "changed": sum(changed_lines(one.handed_out, one.files).values()),
    }))  # fmt: skip
