"""The referee: everything that changes a competition, each act one transaction.

The API, the pages and the admin commands all come through here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bughunt_leaderboard import clock
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.people import People
from bughunt_leaderboard.refusals import MalformedError, RefusedError, UnknownError, clean
from bughunt_leaderboard.rejudging import Rejudgings
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.scopes import SCOPES
from bughunt_leaderboard.submissions import Submissions


class Referee(People, Submissions, Rejudgings):
    """Acts on one competition; its course is here, the rest in the modules of its bases."""

    def create(
        self, name: str, set_name: str, challenges: Mapping[str, Mapping[str, Any]], rules: Rules
    ) -> str:
        """Begin the log; the token of the host's is returned and kept nowhere."""
        with self.store.writing() as connection:
            if self.store.events(limit=1, connection=connection):
                raise RefusedError("there is a competition in this database", "use another --data folder")
            self.store.append(
                connection, Kind.CREATED, name=clean(name), set=set_name, rules=rules.dump(),
                challenges={id_: dict(about) for id_, about in challenges.items()},
            )  # fmt: skip
            token = self._token(connection, "admin", name="host", scopes=" ".join(sorted(SCOPES)))
            self.store.audit(connection, "host", "created", name=name)
        self.queue.running = rules.running
        return token

    def set_round(self, who: str, name: str, start: int, end: int, challenges: Sequence[str]) -> None:
        """Make a round, or move one: what was received stays received."""
        if end <= start:
            raise MalformedError(f"round {name} ends before it starts", "give an end after the start")
        unknown = sorted(set(challenges) - self.fresh().levels.keys())
        if unknown:
            raise UnknownError(f"no challenge {', '.join(unknown)}", "the set says which there are")
        self.act(who, Kind.ROUND, round=clean(name), start=start, end=end, challenges=list(challenges))

    def pause(self, who: str) -> None:
        self.act(who, Kind.PAUSED)

    def resume(self, who: str) -> None:
        """Go on; the time that passed is given back to every round that had not ended."""
        state = self.fresh()
        if not state.paused:
            raise RefusedError("the competition is not paused", "")
        begun = max(event.at for event in self.store.events() if event.kind is Kind.PAUSED)
        lost = clock.now() - begun
        with self.store.writing() as connection:
            for one in state.rounds.values():
                if one.end > begun:
                    self.store.append(
                        connection, Kind.ROUND, round=one.name, end=one.end + lost,
                        start=one.start + lost * (one.start > begun), challenges=list(one.challenges),
                    )  # fmt: skip
            self.store.append(connection, Kind.RESUMED)
            self.store.audit(connection, who, "resumed", lost=lost)

    def freeze(self, who: str) -> None:
        if self.fresh().frozen_at is None:
            self.act(who, Kind.FROZEN)

    def unfreeze(self, who: str) -> None:
        if self.fresh().frozen_at is not None:
            self.act(who, Kind.UNFROZEN)

    def extend(self, who: str, team: int, minutes: int) -> None:
        """More time for one team."""
        self.known_team(team)
        self.act(who, Kind.EXTENDED, team=team, minutes=minutes)
