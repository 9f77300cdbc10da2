"""Hints: three rungs, each priced, each opened only after new evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from bughunt.bugsets.challenge import Challenge
from bughunt.errors import BughuntError
from bughunt.play.progress import Progress

RUNGS = ("LOOK", "WHERE", "WHAT")
TITLES = ("Which instrument to read", "Which part of the program", "What happens there")
PERCENT = (5, 10, 20)  # of the value of the challenge


class NoEvidenceError(BughuntError):
    """A hint was asked for before anything new was tried."""

    code = "no-evidence"


class NoHintError(BughuntError):
    """Every hint is open, or the challenge is over."""

    code = "no-hint"


@dataclass(frozen=True)
class Hint:
    """One rung: what it is called, what it says, what it costs in points."""

    name: str
    title: str
    text: str
    price: int


def value(challenge: Challenge) -> int:
    """What a challenge is worth in points before hints."""
    return challenge.level * 100


def ladder(challenge: Challenge, texts: Sequence[str]) -> list[Hint]:
    rungs = zip(RUNGS, TITLES, texts, PERCENT, strict=False)
    return [
        Hint(name, title, text, round(value(challenge) * percent / 100))
        for name, title, text, percent in rungs
    ]


def upcoming(ladder: Sequence[Hint], progress: Progress) -> Hint:
    """The hint that would open now, or why none does."""
    opened = len(progress.hints)
    if progress.solved or progress.given_up:
        raise NoHintError(f"{progress.challenge} is {progress.state}", "bughunt explain")
    if opened >= len(ladder):
        raise NoHintError(
            "every hint is open", "bughunt hint --again repeats them; bughunt giveup ends the hunt"
        )
    if opened and not progress.evidence:
        raise NoEvidenceError(
            "no new evidence since the last hint",
            'try what it says first, or write down what you saw: bughunt note "..."',
        )
    return ladder[opened]


def points(challenge: Challenge, score: float, prices: Sequence[int]) -> int:
    """What a solved challenge brings: its value times score/100, less the hints."""
    return max(0, round(value(challenge) * score / 100) - sum(prices))
