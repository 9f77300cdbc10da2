"""The board: a fold of the log.

`Competition.apply` takes one event in time that does not depend on how many came before, and `standings`
counts anew only the challenges and the teams that moved. The board as of any moment is the fold of the events
up to then, so a frozen board, an export and the preview of a re-judging are all the same function.

Order: points, then penalty time (minutes from the start of the round to each solution, and the rule's penalty
for every judged failure before it), then the time of the last solution that brought points, then changed
lines, then the team's number.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from bughunt_leaderboard.events import Event
from bughunt_leaderboard.rules import COUNTED, MINUTE, Rules


@dataclass(frozen=True)
class Round:
    """From `start` up to but without `end`, both in milliseconds."""

    name: str
    start: int
    end: int
    challenges: tuple[str, ...]


@dataclass(frozen=True)
class Team:
    id: int
    name: str
    division: str = ""
    extension: int = 0  # milliseconds after the end


@dataclass(frozen=True)
class Judged:
    """A submission as the board sees it; `outcome` is empty while it waits."""

    id: int
    team: int
    challenge: str
    at: int
    ranked: bool
    outcome: str = ""
    changed: int = 0


@dataclass(frozen=True)
class Cell:
    """One team on one challenge."""

    tries: int = 0  # judged failures before the solution
    waiting: int = 0
    solved_at: int | None = None
    changed: int = 0
    points: int = 0
    place: int | None = None  # among the solvers, by the time of receipt, counted from nought
    provisional: bool = False  # an earlier submission of somebody's is not judged yet


@dataclass(frozen=True)
class Solution:
    """When it became known that a team has solved a challenge."""

    seq: int
    at: int
    team: int
    challenge: str


@dataclass(frozen=True)
class Row:
    """One line of the board."""

    rank: int
    team: Team
    points: int
    penalty: int  # minutes
    last_gain: int  # milliseconds; nought where there is no gain
    changed: int
    cells: Mapping[str, Cell]


@dataclass
class Rejudging:
    submissions: tuple[int, ...]
    generation: int
    verdicts: dict[int, Event] = field(default_factory=dict)
    state: str = "open"


@dataclass
class Competition:
    """The state that the events so far have led to."""

    name: str = ""
    set_name: str = ""
    rules: Rules = field(default_factory=Rules)
    titles: dict[str, str] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    rounds: dict[str, Round] = field(default_factory=dict)
    teams: dict[int, Team] = field(default_factory=dict)
    members: dict[int, int] = field(default_factory=dict)  # team -> how many
    submissions: dict[int, Judged] = field(default_factory=dict)
    tried: dict[tuple[int, str], list[int]] = field(default_factory=dict)
    cells: dict[tuple[int, str], Cell] = field(default_factory=dict)  # without points, which others move
    waiting: dict[str, dict[int, int]] = field(default_factory=dict)  # challenge -> submission -> receipt
    rejudgings: dict[int, Rejudging] = field(default_factory=dict)
    flags: dict[int, str] = field(default_factory=dict)
    known: dict[tuple[int, str], Solution] = field(default_factory=dict)
    paused: bool = False
    frozen_at: int | None = None  # sequence number of the event that froze the board
    frozen: "Competition | None" = None  # as it was then
    seq: int = 0
    at: int = 0
    _scores: dict[str, dict[int, Cell]] = field(default_factory=dict)  # challenge -> team, first come first
    _moved: set[str] = field(default_factory=set)  # challenges whose scores are to be counted anew
    _rows: dict[int, Row] = field(default_factory=dict)  # of the teams that stand still
    _order: list[Row] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  # one applies, many look

    def apply(self, event: Event) -> None:
        with self._lock:
            self.seq, self.at, self._order = event.seq, event.at, None
            getattr(self, f"_{event.kind}")(event)

    def copy(self) -> "Competition":
        """The state as it is now, whatever happens to this one later."""
        return replace(
            self,
            titles=dict(self.titles), levels=dict(self.levels), rounds=dict(self.rounds),
            teams=dict(self.teams), members=dict(self.members), submissions=dict(self.submissions),
            tried={key: list(ids) for key, ids in self.tried.items()}, cells=dict(self.cells),
            waiting={id_: dict(those) for id_, those in self.waiting.items()},
            rejudgings={n: replace(one, verdicts=dict(one.verdicts)) for n, one in self.rejudgings.items()},
            flags=dict(self.flags), known=dict(self.known), _scores=dict(self._scores),
            _moved=set(self._moved), _rows=dict(self._rows),
            _lock=threading.Lock(),
        )  # fmt: skip

    def _created(self, event: Event) -> None:
        given = event.payload
        self.name, self.set_name, self.rules = given["name"], given["set"], Rules.load(given["rules"])
        for id_, about in given["challenges"].items():
            self.titles[id_], self.levels[id_] = about["title"], about["level"]
            self._moved.add(id_)

    def _round(self, event: Event) -> None:
        given = event.payload
        made = Round(given["round"], given["start"], given["end"], tuple(given["challenges"]))
        self.rounds[made.name] = made
        self._rows.clear()  # penalties count from its start

    def _paused(self, _event: Event) -> None:
        self.paused = True

    def _resumed(self, _event: Event) -> None:
        self.paused = False

    def _frozen(self, event: Event) -> None:
        self.frozen_at, self.frozen = event.seq, None
        self.frozen = self.copy()

    def _unfrozen(self, _event: Event) -> None:
        self.frozen_at = self.frozen = None

    def _team(self, event: Event) -> None:
        given = event.payload
        self.teams[given["team"]] = Team(given["team"], given["name"], given.get("division", ""))

    def _extended(self, event: Event) -> None:
        team = self.teams[event.payload["team"]]
        self.teams[team.id] = replace(team, extension=event.payload["minutes"] * MINUTE)
        self._rows.pop(team.id, None)

    def _removed(self, event: Event) -> None:
        team = event.payload["team"]
        for kept in (self.teams, self.members, self._rows):
            kept.pop(team, None)
        for key in [key for key in self.tried if key[0] == team]:
            self.cells.pop(key, None)
            for submission in self.tried.pop(key):
                del self.submissions[submission]
                self.waiting.get(key[1], {}).pop(submission, None)
            self._moved.add(key[1])
        if self.frozen:
            self.frozen.apply(replace(event, seq=self.frozen.seq))

    def _member(self, event: Event) -> None:
        team = event.payload["team"]
        self.members[team] = self.members.get(team, 0) + 1

    def _received(self, event: Event) -> None:
        given = event.payload
        one = Judged(given["submission"], given["team"], given["challenge"], event.at, not given["late"])
        self.submissions[one.id] = one
        self.tried.setdefault((one.team, one.challenge), []).append(one.id)
        if one.ranked:
            self.waiting.setdefault(one.challenge, {})[one.id] = one.at
        self._touch(one.id)

    def _verdict(self, event: Event) -> None:
        given = event.payload
        for one in self.rejudgings.values():
            if one.state == "open" and given["generation"] == one.generation:
                one.verdicts[given["submission"]] = event
                return
        self._settle(event)

    def _settle(self, event: Event) -> None:
        given = event.payload
        if one := self.submissions.get(given["submission"]):
            outcome, changed = given["outcome"], given.get("changed", 0)
            self.submissions[one.id] = replace(one, outcome=outcome, changed=changed)
            self.waiting.get(one.challenge, {}).pop(one.id, None)
            if outcome == "SOLVED" and one.ranked:
                solution = Solution(event.seq, event.at, one.team, one.challenge)
                self.known.setdefault((one.team, one.challenge), solution)
            self._touch(one.id)

    def _touch(self, submission: int) -> None:
        if one := self.submissions.get(submission):
            key = one.team, one.challenge
            self.cells[key] = self._cell(self.tried[key])
            self._moved.add(one.challenge)
            self._rows.pop(one.team, None)

    def _rejudge(self, event: Event) -> None:
        given = event.payload
        self.rejudgings[given["rejudging"]] = Rejudging(tuple(given["submissions"]), given["generation"])

    def _applied(self, event: Event) -> None:
        rejudging = self.rejudgings[event.payload["rejudging"]]
        rejudging.state = "applied"
        for verdict in rejudging.verdicts.values():
            self._settle(verdict)

    def _cancelled(self, event: Event) -> None:
        self.rejudgings[event.payload["rejudging"]].state = "cancelled"

    def _flagged(self, event: Event) -> None:
        self.flags[event.payload["submission"]] = event.payload["why"]
        self._touch(event.payload["submission"])

    def _cleared(self, event: Event) -> None:
        self.flags.pop(event.payload["submission"], None)
        self._touch(event.payload["submission"])

    # --- what is asked of it ------------------------------------------------------------------------------

    def round_of(self, challenge: str) -> Round | None:
        return next((one for one in self.rounds.values() if challenge in one.challenges), None)

    def is_open(self, challenge: str, at: int, team: int | None = None) -> bool:
        """Whether a submission received at this moment is ranked."""
        one = self.round_of(challenge)
        extra = self.teams[team].extension if team in self.teams else 0
        return one is not None and not self.paused and one.start <= at < one.end + extra

    def has_begun(self, challenge: str, at: int) -> bool:
        one = self.round_of(challenge)
        return one is not None and at >= one.start

    @property
    def public(self) -> "Competition":
        """The state as everybody may see it: as of the freeze, while there is one."""
        return self.frozen or self

    def standings(self, division: str | None = None) -> list[Row]:
        """All teams in their order."""
        with self._lock:
            rows = self._standings()
        if division is None:
            return rows
        own = [row for row in rows if row.team.division == division]
        return [replace(row, rank=number) for number, row in enumerate(own, 1)]

    def solvers(self, challenge: str) -> list[int]:
        """The teams that have solved it, by the time of receipt."""
        with self._lock:
            self._standings()
            return list(self._scores.get(challenge, ()))

    def solutions(self) -> list[tuple[Solution, Cell]]:
        """What has been solved, in the order in which it became known."""
        with self._lock:
            self._standings()
            found = [
                (one, cell)
                for one in self.known.values()
                if (cell := self._scores[one.challenge].get(one.team)) is not None
            ]
        return sorted(found, key=lambda pair: pair[0].seq)

    def _cell(self, ids: Iterable[int]) -> Cell:
        tries, waiting = 0, 0
        for id_ in ids:
            one = self.submissions[id_]
            if not one.ranked:
                continue
            if one.outcome == "SOLVED" and id_ not in self.flags:
                return Cell(tries, waiting, one.at, one.changed)
            waiting += not one.outcome
            tries += one.outcome in COUNTED
        return Cell(tries, waiting)

    def _standings(self) -> list[Row]:
        if self._order is None:
            for challenge in self._moved:
                self._count(challenge)
            self._moved.clear()
            for team in self.teams.keys() - self._rows.keys():
                self._rows[team] = self._row(self.teams[team])
            for number, row in enumerate(sorted(self._rows.values(), key=_order), 1):
                if row.rank != number:
                    self._rows[row.team.id] = replace(row, rank=number)
            self._order = sorted(self._rows.values(), key=lambda row: row.rank)
        return self._order

    def _count(self, challenge: str) -> None:
        """Score a challenge anew; rows whose other cells stand still keep what was counted of them."""
        before, after = self._scores.get(challenge, {}), dict(self._score(challenge))
        self._scores[challenge] = after
        for team in before.keys() | after.keys():
            old, new, row = before.get(team), after.get(team), self._rows.get(team)
            if row is None or old == new:
                continue
            if old is None or new is None or bool(old.points) != bool(new.points):
                del self._rows[team]
                continue
            cells = {**row.cells, challenge: new}
            self._rows[team] = replace(row, points=row.points - old.points + new.points, cells=cells)

    def _score(self, challenge: str) -> Iterator[tuple[int, Cell]]:
        cells = {team: cell for team in self.teams if (cell := self.cells.get((team, challenge)))}
        solved = sorted((cell.solved_at, team) for team, cell in cells.items() if cell.solved_at is not None)
        level = self.levels.get(challenge, 0)
        each = self.rules.value(level, len(solved))
        oldest = min(self.waiting.get(challenge, {}).values(), default=math.inf)
        for place, (at, team) in enumerate(solved):
            points = each + self.rules.bonus(level, place)
            yield team, replace(cells[team], points=points, place=place, provisional=oldest < at)

    def _row(self, team: Team) -> Row:
        own = {name: cell for name in self.levels if (cell := self._cell_of(team.id, name))}
        gains = [(name, cell) for name, cell in own.items() if cell.solved_at is not None]
        return Row(
            rank=0,
            team=team,
            points=sum(cell.points for _, cell in gains),
            penalty=sum(self._minutes(name, cell) for name, cell in gains),
            last_gain=max((cell.solved_at or 0 for _, cell in gains if cell.points), default=0),
            changed=sum(cell.changed for _, cell in gains),
            cells=own,
        )

    def _cell_of(self, team: int, challenge: str) -> Cell | None:
        return self._scores[challenge].get(team) or self.cells.get((team, challenge))

    def _minutes(self, challenge: str, cell: Cell) -> int:
        one = self.round_of(challenge)
        start = one.start if one else 0
        return ((cell.solved_at or start) - start) // MINUTE + cell.tries * self.rules.penalty


def fold(events: Iterable[Event], *, until: int | None = None) -> Competition:
    """The competition after all events, or after those up to a sequence number."""
    competition = Competition()
    for event in events:
        if until is not None and event.seq > until:
            break
        competition.apply(event)
    return competition


def _order(row: Row) -> tuple[int, ...]:
    return -row.points, row.penalty, row.last_gain, row.changed, row.team.id
