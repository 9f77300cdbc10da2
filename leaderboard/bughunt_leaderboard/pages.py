"""The pages: board, big screen, challenge, team, rules, joining and sending a file."""

import secrets
from typing import Annotated, Any

from fastapi import FastAPI, Form, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.concurrency import run_in_threadpool

from bughunt.judge.verdict import SENTENCES, Outcome
from bughunt_leaderboard import clock, view
from bughunt_leaderboard.arena import COOKIE, Anybody, Known, Shared
from bughunt_leaderboard.board import Competition
from bughunt_leaderboard.drawing import picture
from bughunt_leaderboard.refusals import MalformedError, RefusedError, UnknownError
from bughunt_leaderboard.warmup import WARM_UP

ENVIRONMENT = Environment(
    loader=PackageLoader("bughunt_leaderboard"),
    autoescape=select_autoescape(),
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters["moment"] = lambda at: clock.shown(at).replace("T", " ").replace("Z", " UTC")
ENVIRONMENT.filters["hour"] = lambda at: clock.shown(at)[11:19] + " UTC"
HTML = "text/html; charset=utf-8"
LINES = 200  # of the feed


def add_pages(app: FastAPI) -> None:
    """Every page, and the two forms."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def board_page(
        request: Request, arena: Shared, person: Anybody, division: str | None = None,
        page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    ) -> Response:  # fmt: skip
        if not arena.has_division(division):
            raise UnknownError(f"no division {division}", "the board lists them")

        def made(state: Competition) -> str:
            return written(arena, None, "board.html", **board_of(state, division, page))

        if person is None:
            return await arena.live.answer(request, ("/", division, page), HTML, made)
        about = await run_in_threadpool(board_of, arena.state(person), division, page, person.team)
        return show(arena, person, "board.html", **about)

    @app.get("/big", response_class=HTMLResponse, include_in_schema=False)
    async def big_page(request: Request, arena: Shared) -> Response:
        def made(state: Competition) -> str:
            lines = view.feed(state, last=6)[::-1]
            return written(arena, None, "big.html", feed=lines, **board_of(state, None, 1))

        return await arena.live.answer(request, "/big", HTML, made)

    @app.get("/feed", response_class=HTMLResponse, include_in_schema=False)
    async def feed_page(request: Request, arena: Shared, person: Anybody) -> Response:
        def made(state: Competition) -> str:
            return written(arena, person, "feed.html", feed=view.feed(state, last=LINES)[::-1])

        if person is None:
            return await arena.live.answer(request, "/feed", HTML, made)
        return HTMLResponse(await run_in_threadpool(made, arena.live.state.public))

    @app.get("/rules", response_class=HTMLResponse, include_in_schema=False)
    async def rules_page(arena: Shared, person: Anybody) -> Response:
        return show(arena, person, "rules.html", rules=arena.live.state.rules)

    @app.get("/challenge/{id_}", response_class=HTMLResponse, include_in_schema=False)
    def challenge_page(id_: str, arena: Shared, person: Anybody) -> Response:
        state = arena.state(person)
        if not state.has_begun(id_, clock.now()) or id_ not in arena.challenges:
            raise UnknownError(f"no challenge {id_}", "the board lists them")
        challenge, curves = arena.challenges[id_], arena.challenges[id_].curves()
        mine = sent_by(arena, person, id_)
        runs = [c["values"] for one in mine[:1] if one["verdict"] for c in one["verdict"].get("curves", [])]
        middle = sorted(curves.broken, key=lambda run: run[-1])[len(curves.broken) // 2 :][:1]
        solvers = [state.teams[team].name for team in state.solvers(id_)]
        return show(
            arena, person, "challenge.html",
            challenge=challenge, brief=paragraphs(challenge.brief()), solvers=solvers, sent=mine,
            picture=picture(curves.steps, curves.reference, middle[0] if middle else None, runs),
        )  # fmt: skip

    @app.get("/team/{number}", response_class=HTMLResponse, include_in_schema=False)
    async def team_page(number: int, arena: Shared, person: Anybody) -> Response:
        state = arena.state(person)
        rows = [row for row in state.standings() if row.team.id == number]
        if not rows:
            raise UnknownError(f"no team {number}", "the board lists them")
        own = person is not None and person.team == number
        mine = await run_in_threadpool(sent_by, arena, person, None) if own else []
        made = view.row(rows[0], view.begun(state, list(state.levels), clock.now()))
        return show(arena, person, "team.html", row=made, titles=state.titles, sent=mine, own=own)

    @app.get("/join", response_class=HTMLResponse, include_in_schema=False)
    async def join_page(request: Request, arena: Shared, person: Anybody, invite: str = "") -> Response:
        base = str(request.base_url)
        return show(arena, person, "join.html", invite=invite, base_url=base)

    @app.post("/join", include_in_schema=False)
    def join_form(
        request: Request, arena: Shared, invite: Annotated[str, Form()], name: Annotated[str, Form()]
    ) -> Response:
        with arena.door.attempt(request.scope):
            token, person = arena.referee.join(invite, name)
        answer = RedirectResponse(f"/team/{person.team}", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, max_age=30 * 86400)
        return answer

    @app.post("/challenge/{id_}", include_in_schema=False)
    def upload_form(id_: str, arena: Shared, person: Known, files: list[UploadFile]) -> Response:
        arena.referee.submit(person, id_, dict(map(read, files)), secrets.token_hex(8))
        return RedirectResponse(f"/challenge/{id_}", 303)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
            return JSONResponse(error.body(), error.status, error.headers())
        page = show(request.app.state.arena, None, "refused.html", error=error.body(), status=error.status)
        page.headers.update(error.headers())
        return page


def board_of(state: Competition, division: str | None, page: int, team: int | None = None) -> dict[str, Any]:
    """What the template of a board asks for; `own` is where the looker's team stands."""
    rows = state.standings(division)
    own = next((one for one in rows if one.team.id == team), None)
    return {
        "board": view.board(state, clock.now(), division, page),
        "divisions": sorted({one.division for one in list(state.teams.values()) if one.division}),
        "division": division,
        "own": own and {"rank": own.rank, "team": own.team.id, "page": (own.rank - 1) // view.ROWS + 1},
    }


def show(arena: Any, person: Any, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(written(arena, person, name, **values), status)


def written(arena: Any, person: Any, name: str, **values: Any) -> str:
    """A page with what every page shows: the competition and who looks."""
    common = {"competition": view.competition(arena.live.state, clock.now()), "person": person,
              "seq": arena.state(person).seq}  # fmt: skip
    return ENVIRONMENT.get_template(name).render({**common, **values})


def sent_by(arena: Any, person: Any, challenge: str | None) -> list[dict[str, Any]]:
    """A team's own submissions, newest first, with what is said of each."""
    if person is None or person.team is None:
        return []
    state = arena.referee.fresh()
    numbers = sorted(
        (one for (team, id_), ids in list(state.tried.items()) for one in ids
         if team == person.team and challenge in (None, id_) and id_ != WARM_UP),
        reverse=True,
    )  # fmt: skip
    sent = [arena.referee.submission(person, number) for number in numbers[:50]]
    return [{**one, "said": said(one)} for one in sent]


def said(one: dict[str, Any]) -> str:
    if one["outcome"]:
        return SENTENCES[Outcome(one["outcome"])]
    if one["state"] == "waiting":
        return f"waiting, {one['before']} before it"
    return f"being judged: {one['progress']}" if one["progress"] else "being judged"


def read(file: UploadFile) -> tuple[str, str]:
    """Name and text of an uploaded file; MalformedError where it is no text."""
    try:
        return file.filename or "train.py", file.file.read().decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError(f"{file.filename} is not UTF-8 text", "send the Python file itself") from None


def paragraphs(markdown: str) -> list[tuple[str, str]]:
    """Each with the bold words that it begins with."""
    found = []
    for part in markdown.strip().split("\n\n"):
        _, bold, rest = part.partition("**") if part.startswith("**") else ("", "", part)
        word, _, text = rest.partition("**") if bold else ("", "", rest)
        found.append((word, " ".join(text.replace("**", "").split())))
    return found
