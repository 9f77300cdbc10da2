"""Who comes in: limits for addresses and tokens, and who a token says that somebody is."""

import contextlib
import math
from collections.abc import Callable, Iterator

from starlette.datastructures import Headers
from starlette.types import Scope

from bughunt_leaderboard.limits import Limits, Meter
from bughunt_leaderboard.people import Person
from bughunt_leaderboard.refusals import TooManyError, UnknownError

READING = ("GET", "HEAD", "OPTIONS")
REMEMBERED = 10_000  # tokens


class Door:
    """Counts what addresses and tokens ask for, and the attempts of who has none that is valid."""

    def __init__(self, limits: Limits, person: Callable[[str], Person]) -> None:
        self.meter, self._person = Meter(limits), person
        self._good, self._bad = set[int](), set[int]()

    def wait(self, scope: Scope) -> int:
        """Nought where a request may come in, else the seconds until one may."""
        kind = "reads" if scope["method"] in READING else "sends"
        headers = Headers(scope=scope)
        token = headers.get("authorization") or headers.get("cookie")
        wait = self.meter.take(f"{kind}_address", address(scope))
        if not wait and token:
            wait = self.meter.take(f"{kind}_token", str(hash(token)))
        return math.ceil(wait)

    def person(self, token: str, scope: Scope) -> Person | None:
        """Whose token this is, if anybody's; the same wrong one again is no further attempt."""
        known = hash(token)
        if known in self._bad:
            return None
        try:
            if known in self._good:
                return self._person(token)
            with self.attempt(scope):
                person = self._person(token)
        except UnknownError:
            self._good.discard(known)
            _remember(self._bad, known)
            return None
        _remember(self._good, known)
        return person

    @contextlib.contextmanager
    def attempt(self, scope: Scope) -> Iterator[None]:
        """Something that only who has been given a secret can do."""
        if wait := self.meter.wait("attempts_address", address(scope)):
            raise TooManyError("too many attempts from this address", "wait a minute", retry=math.ceil(wait))
        try:
            yield
        except UnknownError:
            self.meter.take("attempts_address", address(scope))
            raise


def address(scope: Scope) -> str:
    """Where a request comes from; behind a proxy uvicorn puts in what the proxy says."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _remember(tokens: set[int], one: int) -> None:
    if len(tokens) >= REMEMBERED:
        tokens.clear()
    tokens.add(one)
