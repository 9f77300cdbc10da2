"""What the log says about each challenge: derived anew on every read, stored nowhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bughunt.play.log import Event

ATTEMPTS = ("check", "submit")


@dataclass
class Progress:
    """One challenge in the player's hands."""

    challenge: str
    taken: bool = False
    skipped: bool = False
    solved: bool = False
    given_up: bool = False
    replay: bool = False
    attempts: list[Event] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)  # the price in points of each opened hint
    evidence: int = 0  # checks and notes since the last hint
    score: float = 0.0  # of the best submission
    points: int = 0

    @property
    def state(self) -> str:
        if self.solved:
            return "solved"
        if self.given_up:
            return "given up"
        if self.skipped:
            return "skipped"
        return "started" if self.taken else "new"

    @property
    def open(self) -> bool:
        return self.state in ("new", "started")

    @property
    def checks(self) -> int:
        return sum(1 for attempt in self.attempts if attempt["event"] == "check")

    @property
    def best_recovery(self) -> float | None:
        found = [a["recovery"] for a in self.attempts if a.get("recovery") is not None]
        return max(found, default=None)

    @property
    def last_attempt(self) -> Event | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def best_attempt(self) -> Event | None:
        """The attempt with the highest score; of equals the later one."""
        return max(
            self.attempts,
            key=lambda a: (a.get("score") or 0.0, a.get("recovery") or 0.0, a["attempt"]),
            default=None,
        )


@dataclass(frozen=True)
class State:
    """All progress, and the challenge that commands without an id mean."""

    current: str | None
    challenges: Mapping[str, Progress]

    def of(self, challenge: str) -> Progress:
        return self.challenges.get(challenge) or Progress(challenge)

    def ids(self, state: str) -> Sequence[str]:
        return [id_ for id_, progress in self.challenges.items() if progress.state == state]


def derive(events: Iterable[Event]) -> State:
    """Read the log from its beginning."""
    current: str | None = None
    challenges: dict[str, Progress] = {}
    for event in events:
        id_ = event["challenge"]
        progress = challenges.setdefault(id_, Progress(id_))
        _apply(progress, event)
        if event["event"] in ("take", "goto"):
            current = id_
    return State(current, challenges)


def _apply(progress: Progress, event: Event) -> None:
    name = event["event"]
    if name in ("take", "goto"):
        progress.taken = True
        progress.skipped = False
        progress.replay = progress.solved or progress.given_up
    elif name == "skip":
        progress.skipped = True
    elif name in ATTEMPTS:
        progress.attempts.append(event)
        progress.evidence += 1
        if name == "submit":
            _submitted(progress, event)
    elif name == "sent":  # to a competition, whose board has the points
        progress.solved = progress.solved or event.get("verdict") == "SOLVED"
    elif name == "note":
        progress.notes.append(event.get("text", ""))
        progress.evidence += 1
    elif name == "hint":
        progress.hints.append(event.get("price", 0))
        progress.evidence = 0
    elif name == "giveup":
        progress.given_up = not progress.solved


def _submitted(progress: Progress, event: Event) -> None:
    progress.score = max(progress.score, event.get("score") or 0.0)
    if event.get("verdict") == "SOLVED":
        progress.replay = False
        if not progress.given_up:
            progress.solved = True
            progress.points = max(progress.points, event.get("points") or 0)
