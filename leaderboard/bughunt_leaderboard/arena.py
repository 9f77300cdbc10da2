"""What all requests to the server share, and who it is that asks."""

from typing import Annotated, Any

from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from bughunt_leaderboard.door import Door
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.limits import Limits
from bughunt_leaderboard.live import Live
from bughunt_leaderboard.people import Person
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.refusals import UnauthorisedError
from bughunt_leaderboard.store import Store

COOKIE = "bughunt"


class Csv(Response):
    """Text for a spreadsheet."""

    media_type = "text/csv"


class Arena:
    """What all requests share."""

    def __init__(self, folder: Folder, limits: Limits | None = None) -> None:
        self.folder = folder
        self.store = Store(folder.database)
        self.referee = Referee(self.store)
        self.live = Live(self.referee)
        self.challenges = folder.challenges()
        self.door = Door(limits or Limits(), self.referee.person)
        self.counts: dict[tuple[str, int], tuple[int, float]] = {}

    def state(self, person: Person | None) -> Any:
        """What this person may see: officials the state as it is, everybody else as of the freeze."""
        return self.live.state if is_official(person) else self.live.state.public

    def has_division(self, division: str | None) -> bool:
        return division is None or any(
            one.division == division for one in list(self.live.state.teams.values())
        )


def token_of(request: Request) -> str | None:
    given = request.headers.get("authorization", "")
    return given.removeprefix("Bearer ") if given.startswith("Bearer ") else request.cookies.get(COOKIE)


def is_official(person: Person | None) -> bool:
    return person is not None and person.role in ("judge", "admin", "observer")


async def arena_of(request: Request) -> Arena:
    found: Arena = request.app.state.arena
    return found


async def somebody(request: Request) -> Person | None:
    """Who asks, or nobody."""
    token = token_of(request)
    if token:
        return await run_in_threadpool(request.app.state.arena.door.person, token, request.scope)
    return None


async def known(request: Request) -> Person:
    """Who asks; refused without a valid token."""
    if (person := await somebody(request)) is None:
        raise UnauthorisedError("a token is needed", "bughunt join URL TOKEN")
    return person


Anybody = Annotated[Person | None, Depends(somebody)]
Known = Annotated[Person, Depends(known)]
Shared = Annotated[Arena, Depends(arena_of)]
