"""What every request goes through: limits, headers on its answer, a count, and a line of the log.

A board that is answered from memory is counted and not logged, as it is what everybody asks for all the time.
"""

import logging
import time
from typing import Protocol

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bughunt_leaderboard.door import Door, address
from bughunt_leaderboard.refusals import TooManyError

MAX_BODY = 1_000_000
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
LOG = logging.getLogger("bughunt.server")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
]


class Keeping(Protocol):
    def kept(self, scope: Scope) -> ASGIApp | None: ...


class Counting(Protocol):
    counts: dict[tuple[str, int], tuple[int, float]]
    door: Door

    @property
    def live(self) -> Keeping: ...


class TooLargeError(Exception):
    """More bytes came than are allowed."""


def announced(scope: Scope) -> int:
    """How long the sender says that the body is."""
    given = Headers(scope=scope).get("content-length", "0")
    return int(given) if given.isascii() and given.isdigit() else 0


class Guard:
    """Pure ASGI, so that streams stay streams, and what everybody is told is told without a detour."""

    def __init__(self, app: ASGIApp, arena: Counting) -> None:
        self.app, self.arena = app, arena

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status, size = time.perf_counter(), 500, 0
        kept = self.arena.live.kept(scope)

        async def measured() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise TooLargeError
            return message

        async def headed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                if size > MAX_BODY and message["status"] != 413:
                    raise TooLargeError  # whatever the framework made of a body that broke off
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            if announced(scope) > MAX_BODY:
                raise TooLargeError
            app = self.refusal(scope) or kept or self.app
            await app(scope, measured, headed)
        except TooLargeError:
            body = {"code": "too-large", "message": f"{MAX_BODY} bytes are allowed", "remedy": ""}
            await JSONResponse(body, 413)(scope, receive, headed)
        self.count(scope, status, time.perf_counter() - begun)
        if kept is None or status == TooManyError.status:
            milliseconds = round(1000 * (time.perf_counter() - begun), 1)
            LOG.info({
                "method": scope["method"], "path": scope["path"], "status": status, "ms": milliseconds,
                "address": address(scope),
            })  # fmt: skip

    def refusal(self, scope: Scope) -> ASGIApp | None:
        """The answer to who is beyond a limit."""
        if not (wait := self.arena.door.wait(scope)):
            return None
        error = TooManyError("too many requests", f"wait {wait} s", retry=wait)
        return JSONResponse(error.body(), error.status, error.headers())

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        number, before = self.arena.counts.get((method, status), (0, 0.0))
        self.arena.counts[method, status] = number + 1, before + seconds
