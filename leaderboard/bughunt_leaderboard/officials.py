"""The desk of the officials over HTTP: the acts of `bughunt admin`, for tokens with the scope of each."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path
from pydantic import BaseModel, Field

from bughunt_leaderboard import clock, view
from bughunt_leaderboard.arena import Csv, Known, Shared
from bughunt_leaderboard.people import Person
from bughunt_leaderboard.refusals import ForbiddenError, RefusedError, UnknownError
from bughunt_leaderboard.scopes import OF_ROLE

MOMENT = Field(ge=0, le=2**53)  # milliseconds since 1970
Number = Annotated[int, Path(ge=1, le=2**53)]


class Course(BaseModel):
    """A round, made or moved."""

    name: str = Field(max_length=200)
    start: Annotated[int, MOMENT]
    end: Annotated[int, MOMENT]
    challenges: list[str] = Field(default=[], max_length=1000)  # all where none are named


class More(BaseModel):
    minutes: int = Field(ge=0, le=10_080)


class Invited(BaseModel):
    team: str = Field(max_length=200)
    uses: int = Field(default=5, ge=1, le=100)
    hours: float = Field(default=72.0, gt=0, le=8760)
    division: str = Field(default="", max_length=40)


class Granted(BaseModel):
    role: str = Field(max_length=16)
    name: str = Field(max_length=200)
    scopes: list[str] = Field(default=[], max_length=8)
    hours: float | None = Field(default=None, gt=0, le=8760)


class Again(BaseModel):
    submissions: list[Annotated[int, Field(ge=1, le=2**53)]] = Field(min_length=1, max_length=10_000)


class Why(BaseModel):
    why: str = Field(min_length=1, max_length=200)


class Secret(BaseModel):
    """Shown this once."""

    token: str


class Done(BaseModel):
    done: bool = True


def holding(scope: str) -> Callable[..., Any]:
    """Who asks, if the token has the scope; for players these paths do not exist."""

    async def official(person: Known) -> Person:
        if person.role not in OF_ROLE:
            raise UnknownError("no such path", "")
        if scope not in person.scopes:
            raise ForbiddenError(f"this token lacks the scope {scope}", "bughunt admin grant --scope")
        return person

    return official


Steward = Annotated[Person, Depends(holding("course"))]
Registrar = Annotated[Person, Depends(holding("people"))]
Judging = Annotated[Person, Depends(holding("judging"))]
Auditor = Annotated[Person, Depends(holding("audit"))]


def add_officials(app: FastAPI) -> None:
    router = APIRouter(prefix="/api/v1/admin", tags=["officials"])
    for add in (_add_course, _add_people, _add_judging, _add_reports):
        add(router)
    app.include_router(router)


def _add_course(router: APIRouter) -> None:
    @router.put("/rounds")
    def set_round(given: Course, arena: Shared, person: Steward) -> Done:
        """Make a round, or move the one of that name; what was received stays received."""
        challenges = given.challenges or list(arena.referee.fresh().levels)
        arena.referee.set_round(person.who, given.name, given.start, given.end, challenges)
        return Done()

    @router.post("/teams/{team}/extension")
    def extend(team: Number, given: More, arena: Shared, person: Steward) -> Done:
        """More time for one team at the end of each round."""
        arena.referee.extend(person.who, team, given.minutes)
        return Done()

    for name, told in {
        "pause": "Take no submissions until resumed.",
        "resume": "Go on; rounds that had not ended get the time back.",
        "freeze": "Show everybody the board as it is now.",
        "unfreeze": "Show the board as it is.",
    }.items():
        router.post(f"/{name}", name=name, description=told)(_plain(name))


def _plain(name: str) -> Callable[..., Done]:
    def act(arena: Shared, person: Steward) -> Done:
        getattr(arena.referee, name)(person.who)
        return Done()

    return act


def _add_people(router: APIRouter) -> None:
    @router.post("/invites", status_code=201)
    def invite(given: Invited, arena: Shared, person: Registrar) -> Secret:
        """An invite for a team."""
        made = arena.referee.invite(
            person.who, given.team, uses=given.uses, hours=given.hours, division=given.division
        )
        return Secret(token=made)

    @router.get("/tokens")
    def tokens(arena: Shared, person: Registrar) -> list[dict[str, Any]]:  # noqa: ARG001 - the scope
        """All tokens, without what would let one use them."""
        return arena.referee.tokens()

    @router.post("/tokens", status_code=201)
    def grant(given: Granted, arena: Shared, person: Registrar) -> Secret:
        """A token for an official, with no scope that the granting one lacks."""
        wanted = set(given.scopes) or OF_ROLE.get(given.role, frozenset())
        if beyond := sorted(wanted - person.scopes):
            raise ForbiddenError(f"this token lacks the scope {', '.join(beyond)} itself", "")
        made = arena.referee.grant(person.who, given.role, given.name, sorted(wanted), given.hours)
        return Secret(token=made)

    @router.delete("/tokens/{token}")
    def revoke(token: Number, arena: Shared, person: Registrar) -> Done:
        """Make a token or an invite invalid at once."""
        arena.referee.revoke(person.who, token)
        return Done()

    @router.delete("/people/{token}")
    def forget(token: Number, arena: Shared, person: Registrar) -> Done:
        """Delete a person's name and token."""
        arena.referee.forget(person.who, token)
        return Done()

    @router.delete("/teams/{team}")
    def remove(team: Number, confirm: str, arena: Shared, person: Registrar) -> Done:
        """Delete a team with its people and files; `confirm` is its name."""
        found = arena.referee.fresh().teams.get(team)
        if found is not None and found.name != confirm:
            raise RefusedError(f"team {team} is not called {confirm}", "the board has its name")
        arena.referee.remove_team(person.who, team)
        return Done()


def _add_judging(router: APIRouter) -> None:
    @router.post("/rejudgings", status_code=201)
    def rejudge(given: Again, arena: Shared, person: Judging) -> dict[str, int]:
        """Judge submissions anew beside their verdicts, which stand until this is applied."""
        return {"rejudging": arena.referee.rejudge(person.who, given.submissions)}

    @router.get("/rejudgings/{number}")
    def compare(number: Number, arena: Shared, person: Judging) -> dict[str, Any]:  # noqa: ARG001
        """What applying it would change."""
        return arena.referee.compare(number)

    @router.post("/rejudgings/{number}/apply")
    def apply(number: Number, arena: Shared, person: Judging) -> Done:
        arena.referee.apply(person.who, number)
        return Done()

    @router.post("/rejudgings/{number}/cancel")
    def cancel(number: Number, arena: Shared, person: Judging) -> Done:
        arena.referee.cancel(person.who, number)
        return Done()

    @router.put("/submissions/{number}/flag")
    def flag(number: Number, given: Why, arena: Shared, person: Judging) -> Done:
        """Take a submission off the board until somebody has looked."""
        arena.referee.flag(person.who, number, given.why)
        return Done()

    @router.delete("/submissions/{number}/flag")
    def clear(number: Number, arena: Shared, person: Judging) -> Done:
        """Put it back."""
        arena.referee.clear(person.who, number)
        return Done()


def _add_reports(router: APIRouter) -> None:
    @router.get("/audit")
    def audit(arena: Shared, person: Auditor) -> dict[str, Any]:  # noqa: ARG001
        """The audit log, and the first entry that does not follow from the one before."""
        return {"entries": arena.store.audit_log(), "broken": arena.store.broken_link()}

    @router.get("/results.csv", response_class=Csv)
    def results(arena: Shared, person: Auditor) -> Csv:  # noqa: ARG001
        """The board as it is, frozen or not."""
        return Csv(view.board_csv(arena.referee.fresh(), clock.now()))
