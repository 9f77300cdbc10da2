"""The desk of the officials: the store, the state as of its newest event, one transaction for each act."""

import threading
from typing import Any

from sqlalchemy.engine import Connection

from bughunt_leaderboard.board import Competition
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.queue import Queue
from bughunt_leaderboard.refusals import UnknownError
from bughunt_leaderboard.store import Store


class Desk:
    """What all acts share; `fresh` gives the state as of the last event."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._state, self._lock = Competition(), threading.Lock()
        self.fresh()
        self.queue = Queue(store, running=self._state.rules.running)

    def fresh(self, connection: Connection | None = None) -> Competition:
        """The state with the newest events; in a transaction ask before writing its own."""
        with self._lock:
            for event in self.store.events(self._state.seq, connection=connection):
                self._state.apply(event)
        return self._state

    def act(self, who: str, kind: Kind, **payload: Any) -> None:
        with self.store.writing() as connection:
            self.store.append(connection, kind, **payload)
            self.store.audit(connection, who, str(kind), **payload)

    def known_team(self, team: int) -> None:
        if team not in self.fresh().teams:
            raise UnknownError(f"no team {team}", "bughunt board lists the teams")
