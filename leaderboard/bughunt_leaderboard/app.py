"""The server: the API under /api/v1, the pages, the stream of changes, health and metrics."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from bughunt import __version__
from bughunt_leaderboard import clock, metrics, view
from bughunt_leaderboard.arena import Anybody, Arena, Csv, Known, Shared, is_official
from bughunt_leaderboard.arrival import add_arrival
from bughunt_leaderboard.board import Competition
from bughunt_leaderboard.bundle import bundle
from bughunt_leaderboard.faults import add_faults
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.guard import Guard
from bughunt_leaderboard.limits import Limits
from bughunt_leaderboard.live import is_public
from bughunt_leaderboard.officials import add_officials
from bughunt_leaderboard.pages import add_pages
from bughunt_leaderboard.refusals import RefusedError, UnknownError

JSON = "application/json"


class JsonLines(Response):
    media_type = "application/jsonl"


class Join(BaseModel):
    invite: str = Field(max_length=200)
    name: str = Field(max_length=200)


class Joined(BaseModel):
    token: str
    team: int
    role: str
    name: str


class Sent(BaseModel):
    challenge: str = Field(max_length=64)
    files: dict[str, str] = Field(max_length=12)


class Accepted(BaseModel):
    submission: int
    before: int


class Refusal(BaseModel):
    code: str
    message: str
    remedy: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {JSON: {"schema": Refusal.model_json_schema()}},  # whatever the answer would have been
    }
    for status in (400, 401, 403, 404, 409, 413, 422, 429, 503)
}


def make_app(folder: Folder, limits: Limits | None = None) -> FastAPI:
    """The server of one competition."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(app.state.arena.live.follow())
        yield
        following.cancel()
        app.state.arena.store.close()

    app = FastAPI(
        title="bughunt competition", version=__version__, lifespan=lifespan,
        openapi_url="/openapi.json", docs_url=None, redoc_url=None, responses=REFUSALS,
    )  # fmt: skip
    app.state.arena = Arena(folder, limits)
    _add_guards(app)
    _add_api(app)
    add_arrival(app)
    add_officials(app)
    add_pages(app)
    app.mount("/static", StaticFiles(packages=[("bughunt_leaderboard", "static")]), name="static")
    return app


def _add_guards(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, error.headers())

    add_faults(app)
    app.add_middleware(Guard, arena=app.state.arena)


def _add_api(app: FastAPI) -> None:
    @app.get("/healthz")
    async def health(arena: Shared) -> dict[str, Any]:
        """Whether the database answers, and how long the queue is."""
        waiting = await run_in_threadpool(arena.referee.queue.length)
        return {"ok": True, "seq": arena.live.seen, "queue": waiting}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def figures(arena: Shared) -> PlainTextResponse:
        """Figures in the text format of Prometheus."""
        counts, refused = dict(arena.counts), arena.door.meter.refused
        made = await run_in_threadpool(metrics.text, arena.referee.queue, arena.live, counts, refused)
        return PlainTextResponse(made, media_type=metrics.TEXT)

    @app.get("/api/v1/competition")
    async def competition(arena: Shared, person: Anybody) -> dict[str, Any]:
        """Name, rules and rounds."""
        return view.competition(arena.state(person), clock.now())

    @app.get("/api/v1/board")
    async def board(
        request: Request, arena: Shared, person: Anybody, division: str | None = None
    ) -> Response:
        """The board, as of the freeze while it is frozen."""

        def made(state: Competition) -> str:
            return json.dumps(view.board(state, clock.now(), division))

        if is_official(person) or not arena.has_division(division):
            return Response(made(arena.state(person)), media_type=JSON)
        return await arena.live.answer(request, ("board", division), JSON, made)

    @app.get("/api/v1/feed")
    async def feed(request: Request, arena: Shared) -> Response:
        """Solutions as they became known."""
        return await arena.live.answer(request, "feed", JSON, lambda state: json.dumps(view.feed(state)))

    @app.get("/api/v1/ctftime")
    async def ctftime(request: Request, arena: Shared) -> Response:
        return await arena.live.answer(request, "ctftime", JSON, partial(view.ctftime, at=clock.now()))

    @app.get("/api/v1/export/board.csv", response_class=Csv)
    async def board_csv(request: Request, arena: Shared) -> Response:
        return await arena.live.answer(
            request, "csv", Csv.media_type, partial(view.board_csv, at=clock.now())
        )

    @app.get("/api/v1/export/events.jsonl", response_class=JsonLines)
    async def events_jsonl(request: Request, arena: Shared) -> Response:
        def made(_state: Competition) -> str:
            return view.events_jsonl([one for one in arena.live.public_events() if is_public(one)])

        return await arena.live.answer(request, "jsonl", JsonLines.media_type, made)

    @app.get("/api/v1/stream", response_class=EventSourceResponse)
    async def stream(
        arena: Shared,
        person: Anybody,
        after: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        last_event_id: Annotated[int | None, Header(ge=0, le=2**53)] = None,
    ) -> EventSourceResponse:
        """Server-sent events: `board` with the number of the newest change behind the one that was seen."""
        seen = last_event_id if last_event_id is not None else after
        if seen is None:
            seen = arena.state(person).seq
        if seen > arena.live.state.seq:
            raise RefusedError(f"the log has no event {seen} yet", "begin without Last-Event-ID")

        async def told() -> AsyncIterator[dict[str, Any]]:
            with arena.live.watching():
                async for seq, kind in arena.live.stream(seen, official=is_official(person)):
                    yield {"event": kind, "data": str(seq), **({"id": str(seq)} if seq else {})}

        return EventSourceResponse(told(), ping=3600)

    @app.post("/api/v1/join", status_code=201)
    def join(given: Join, request: Request, arena: Shared) -> Joined:
        """Use an invite; the token that comes back is shown this once."""
        with arena.door.attempt(request.scope):
            token, person = arena.referee.join(given.invite, given.name)
        return Joined(token=token, team=person.team or 0, role=person.role, name=person.name)

    @app.get("/api/v1/me")
    async def me(arena: Shared, person: Known) -> dict[str, Any]:
        team = arena.live.state.teams.get(person.team or 0)
        return {"name": person.name, "role": person.role, "team": person.team,
                "team_name": team.name if team else None}  # fmt: skip

    @app.get("/api/v1/bundle")
    def bundles(arena: Shared, person: Known) -> dict[str, Any]:
        """The challenges that have begun, in the team's own texts."""
        if person.team is None:
            raise UnknownError("only teams have challenges", "")
        state = arena.referee.fresh()
        shown = view.begun(state, list(state.levels), clock.now())
        made = [bundle(arena.challenges[id_], arena.folder, person.team) for id_ in shown]
        return {"competition": state.name, "set": state.set_name, "challenges": made}

    @app.post("/api/v1/submissions", status_code=202)
    def submit(
        given: Sent,
        arena: Shared,
        person: Known,
        idempotency_key: Annotated[str | None, Header(max_length=80)] = None,
    ) -> Accepted:
        """Send a program; once this answers it is kept, whatever happens to the server."""
        number = arena.referee.submit(
            person, given.challenge, given.files, idempotency_key or secrets.token_hex(8)
        )
        return Accepted(submission=number, before=arena.referee.queue.place(number)[1])

    @app.get("/api/v1/submissions/{number}")
    def submission(number: int, arena: Shared, person: Known) -> dict[str, Any]:
        """Where a submission of one's own team stands."""
        _in_range(number)
        return arena.referee.submission(person, number)

    @app.get("/api/v1/submissions/{number}/files")
    def files(number: int, arena: Shared, person: Known) -> dict[str, str]:
        _in_range(number)
        return arena.referee.files(person, number)


def _in_range(number: int) -> None:
    if not 0 < number < 2**53:
        raise UnknownError(f"no submission {number}", "")
