"""What watchers are told and what everybody is shown: one look at the log for all of them.

A `Version` of the public state lasts until the next look that finds another. What is shown of it is made
once, when somebody first asks, and sent to all who ask as the same bytes. Looks are spaced by what the making
took, so a board that takes long to draw leaves most of a core to the submissions.
"""

import asyncio
import contextlib
import gzip
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from bughunt_leaderboard import clock, view
from bughunt_leaderboard.board import Competition
from bughunt_leaderboard.events import Event, Kind
from bughunt_leaderboard.referee import Referee

LOOK = 0.2  # seconds between two looks at the log
SHARE = 4  # a version stands at least this many times as long as it took to draw
BEAT = 15.0  # seconds after which a silent stream says that it is alive
SMALL = 500  # bytes that are not worth compressing
ADDRESSES = 1000  # that are answered without looking who asks
Mark = tuple[int, Hashable]  # a sequence number, and what else may change with the time


@dataclass(frozen=True)
class Body:
    """The bytes of an answer, plain and compressed."""

    content: bytes
    zipped: bytes
    tag: str
    media: str

    @classmethod
    def of(cls, text: str, media: str) -> "Body":
        content = text.encode()
        tag = f'W/"{hashlib.sha256(content).hexdigest()[:20]}"'
        return cls(content, gzip.compress(content, 5, mtime=0), tag, media)

    def answer(self, headers: Headers) -> Response:
        """For who has it already nothing, compressed for who can read that."""
        told = {"etag": self.tag, "cache-control": "no-cache", "vary": "accept-encoding, cookie"}
        if headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=told)
        if len(self.content) > SMALL and "gzip" in headers.get("accept-encoding", ""):
            return Response(self.zipped, headers={**told, "content-encoding": "gzip"}, media_type=self.media)
        return Response(self.content, headers=told, media_type=self.media)


@dataclass
class Version:
    """The public state as of one look, with what has been made of it."""

    mark: Mark
    bodies: dict[Hashable, "asyncio.Future[Body]"] = field(default_factory=dict)
    kept: dict[tuple[str, bytes], Body] = field(
        default_factory=dict
    )  # path and query -> what nobody was told
    seconds: float = 0.0


class Live:
    """Follows the log and wakes those who wait for it."""

    def __init__(self, referee: Referee) -> None:
        self.referee = referee
        self.state = referee.fresh()
        self.seen = self.state.seq
        self.version = Version(self.mark())
        self.watchers = 0
        self._moved = asyncio.Event()

    def mark(self, *, official: bool = False) -> Mark:
        """What tells one public state from the next; officials look behind the freeze."""
        state = self.state if official else self.state.public
        begun = tuple(view.begun(state, list(state.levels), clock.now()))
        return state.seq, (begun, len(state.teams), self.state.frozen_at, self.state.paused)

    async def follow(self) -> None:
        """Runs for as long as the server does; a database that is away for a while is waited for."""
        while True:
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self.referee.fresh)
            self.look()
            await asyncio.sleep(max(LOOK, SHARE * self.version.seconds))

    def look(self) -> None:
        """Show what there is now."""
        mark, seen = self.mark(), self.state.seq
        if mark == self.version.mark and seen == self.seen:
            return
        if mark != self.version.mark:
            self.version = Version(mark)
        self.seen = seen
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def answer(
        self, request: Request, name: Hashable, media: str, make: Callable[[Competition], str]
    ) -> Response:
        """What is made of the public state under a name, once for each version."""
        version = self.version
        if name not in version.bodies:
            making = asyncio.to_thread(self._made, version, media, make)
            version.bodies[name] = asyncio.ensure_future(making)
        try:
            body = await asyncio.shield(version.bodies[name])
        except Exception:
            version.bodies.pop(name, None)  # who asks next may be luckier
            raise
        if is_nobody(request.headers) and len(version.kept) < ADDRESSES:
            version.kept[request.url.path, request.scope["query_string"]] = body
        return body.answer(request.headers)

    def kept(self, scope: Scope) -> Response | None:
        """What somebody without a token was told at this address, as long as it is true."""
        body = self.version.kept.get((scope["path"], scope["query_string"]))
        if body is None or scope["method"] != "GET":
            return None
        headers = Headers(scope=scope)
        return body.answer(headers) if is_nobody(headers) else None

    def _made(self, version: Version, media: str, make: Callable[[Competition], str]) -> Body:
        begun = time.perf_counter()
        made = Body.of(make(self.state.public), media)
        version.seconds += time.perf_counter() - begun
        return made

    def public_events(self) -> list[Event]:
        """The log as everybody sees it."""
        return self.referee.store.events(limit=self.state.public.seq)

    async def stream(self, after: int, *, official: bool = False) -> AsyncIterator[tuple[int, str]]:
        """Sequence numbers of what is shown, each once it moves; nought and `alive` in between."""
        known = self._shown(official)
        if known[0] > after:
            yield known[0], "board"
        while True:
            moved = self._moved
            if (mark := self._shown(official)) != known:
                known = mark
                yield mark[0], "board"
                continue
            try:
                async with asyncio.timeout(BEAT):
                    await moved.wait()
            except TimeoutError:
                yield 0, "alive"

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """One more watcher while the block runs."""
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1

    def _shown(self, official: bool) -> Mark:
        return (self.seen, self.version.mark) if official else self.version.mark


def is_nobody(headers: Headers) -> bool:
    """Whether a request comes without any token."""
    return "authorization" not in headers and "cookie" not in headers


def is_public(event: Event) -> bool:
    """Whether an event may be exported to everybody: verdicts yes, what a team sent no."""
    return event.kind not in (Kind.FLAGGED, Kind.CLEARED, Kind.MEMBER)
