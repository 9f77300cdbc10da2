"""What is shown: values for the API, the pages and the exports, all from one state."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from bughunt_leaderboard import clock
from bughunt_leaderboard.board import Cell, Competition, Row
from bughunt_leaderboard.events import Event

ROWS = 100  # of a page of the board


def competition(state: Competition, at: int) -> dict[str, Any]:
    return {
        "name": state.name,
        "set": state.set_name,
        "rules": state.rules.dump(),
        "paused": state.paused,
        "frozen": state.frozen_at is not None,
        "now": at,
        "rounds": [
            {"name": r.name, "start": r.start, "end": r.end, "challenges": begun(state, r.challenges, at)}
            for r in list(state.rounds.values())
        ],
    }


def begun(state: Competition, challenges: Sequence[str], at: int) -> list[str]:
    """Those whose round has begun; the others are not even named."""
    return [id_ for id_ in challenges if state.has_begun(id_, at)]


def board(
    state: Competition, at: int, division: str | None = None, page: int | None = None
) -> dict[str, Any]:
    """Rows in their order, with a cell for each challenge that has begun; all of them, or those of a page."""
    shown = begun(state, list(state.levels), at)
    rows = state.standings(division)
    solved = {id_: len(state.solvers(id_)) for id_ in shown}
    return {
        "seq": state.seq,
        "frozen": state.frozen_at is not None,
        "challenges": [
            {"id": id_, "title": state.titles[id_], "level": state.levels[id_], "solved": solved[id_],
             "value": state.rules.value(state.levels[id_], solved[id_])}
            for id_ in shown
        ],
        "pages": -(-len(rows) // ROWS) or 1,
        "page": page or 1,
        "teams": [row(one, shown) for one in (rows[(page - 1) * ROWS : page * ROWS] if page else rows)],
    }  # fmt: skip


def row(one: Row, challenges: Sequence[str]) -> dict[str, Any]:
    return {
        "rank": one.rank,
        "team": one.team.id,
        "name": one.team.name,
        "division": one.team.division,
        "points": one.points,
        "penalty": one.penalty,
        "last_gain": one.last_gain,
        "cells": {id_: cell(one.cells[id_]) for id_ in challenges if id_ in one.cells},
    }


def cell(one: Cell) -> dict[str, Any]:
    return {
        "solved_at": one.solved_at, "points": one.points, "tries": one.tries, "waiting": one.waiting,
        "first": one.place == 0, "provisional": one.provisional,
    }  # fmt: skip


def feed(state: Competition, last: int | None = None) -> list[dict[str, Any]]:
    """Solutions as they became known, newest last."""
    solutions = state.solutions()[-last if last else None :]
    return [
        {
            "seq": one.seq, "at": one.at, "team": state.teams[one.team].name, "challenge": one.challenge,
            "title": state.titles[one.challenge], "first": cell.place == 0,
        }
        for one, cell in solutions
    ]  # fmt: skip


def ctftime(state: Competition, at: int) -> str:
    """The feed that ctftime.org polls (ctftime.org/json-scoreboard-feed); names in ASCII escapes."""
    shown = begun(state, list(state.levels), at)
    standings = [
        {
            "pos": one.rank, "team": one.team.name, "score": one.points,
            "taskStats": {
                state.titles[id_]: {"points": c.points, "time": (c.solved_at or 0) // 1000}
                for id_, c in one.cells.items() if c.solved_at is not None
            },
            "lastAccept": one.last_gain // 1000,
        }
        for one in state.standings()
    ]  # fmt: skip
    return json.dumps({"tasks": [state.titles[id_] for id_ in shown], "standings": standings})


def board_csv(state: Competition, at: int) -> str:
    """One line a team; a name that a spreadsheet would take for a formula is quoted."""
    shown = begun(state, list(state.levels), at)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["rank", "team", "division", "points", "penalty_minutes", "last_gain", *shown])
    for one in state.standings():
        cells = [one.cells.get(id_, Cell()).points for id_ in shown]
        last = clock.shown(one.last_gain) if one.last_gain else ""
        name, division = _inert(one.team.name), _inert(one.team.division)
        writer.writerow([one.rank, name, division, one.points, one.penalty, last, *cells])
    return out.getvalue()


def events_jsonl(events: Sequence[Event]) -> str:
    rows = ({"seq": e.seq, "at": e.at, "kind": str(e.kind), **e.payload} for e in events)
    return "".join(json.dumps(one) + "\n" for one in rows)


def _inert(text: str) -> str:
    return "'" + text if text[:1] in "=+-@\t" and text else text
