"""What watchers are told: one look at the log for all of them, and the state that each may see."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bughunt_leaderboard.board import Competition, fold
from bughunt_leaderboard.events import Event, Kind
from bughunt_leaderboard.referee import Referee

LOOK = 0.2  # seconds between two looks at the log
BEAT = 15.0  # seconds after which a silent stream says that it is alive


class Live:
    """Follows the log and wakes those who wait for it."""

    def __init__(self, referee: Referee) -> None:
        self.referee = referee
        self.state = referee.fresh()
        self._frozen: Competition | None = None
        self._moved = asyncio.Condition()

    async def follow(self) -> None:
        """Runs for as long as the server does; a database that is away for a while is waited for."""
        known = self.state.seq
        while True:
            with contextlib.suppress(Exception):
                self.state = await asyncio.to_thread(self.referee.fresh)
            if self.state.seq != known:
                known = self.state.seq
                async with self._moved:
                    self._moved.notify_all()
            await asyncio.sleep(LOOK)

    def public(self) -> Competition:
        """The state as everybody sees it: as of the freeze, while there is one."""
        frozen_at = self.state.frozen_at
        if frozen_at is None:
            self._frozen = None
            return self.state
        if self._frozen is None or self._frozen.seq != frozen_at:
            self._frozen = fold(self.referee.store.events(limit=frozen_at), until=frozen_at)
        return self._frozen

    def public_events(self) -> list[Event]:
        """The log as everybody sees it."""
        return self.referee.store.events(limit=self.public().seq)

    async def stream(self, after: int) -> AsyncIterator[tuple[int, str]]:
        """Sequence numbers of the public state, each once it moves; nought and `alive` in between."""
        seen = after
        while True:
            seq = self.public().seq
            if seq > seen:
                seen = seq
                yield seq, "board"
                continue
            try:
                async with asyncio.timeout(BEAT), self._moved:
                    await self._moved.wait()
            except TimeoutError:
                yield 0, "alive"


def is_public(event: Event) -> bool:
    """Whether an event may be exported to everybody: verdicts yes, what a team sent no."""
    return event.kind not in (Kind.FLAGGED, Kind.CLEARED, Kind.MEMBER)
