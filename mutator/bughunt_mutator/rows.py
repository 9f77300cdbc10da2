"""The rows of the catalogue: every mistake that an operator writes, and what is known about it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

SYMPTOMS = (
    "silent-slow",
    "silent-plateau",
    "silent-wrong-metric",
    "diverge",
    "train-eval-gap",
    "crash",
    "slow-runtime",
    "leak-memory",
)


@dataclass(frozen=True)
class Row:
    """One mistake; `deepcrime` and `humbatova` are empty where those collections lack it.

    `shows` is one of `SYMPTOMS`; `slip` is why people make it, in a sentence or two. What is not
    `documented` is folklore: no issue, paper or post is known that describes a case in this form.
    """

    id: str
    category: str
    text: str
    slip: str
    shows: str
    difficulty: int
    documented: bool = True
    deepcrime: str = ""
    humbatova: str = ""


@cache
def load_rows() -> dict[str, Row]:
    """All rows by id, in the order of the catalogue."""
    told = _told()
    slips = told.pop("slips")
    return {
        id_: Row(**{**fields, "id": id_, "category": category, "slip": slips[fields["slip"]]})
        for category, rows in told.items()
        for id_, fields in rows.items()
    }


def _told() -> dict[str, dict[str, Any]]:
    text = files("bughunt_mutator").joinpath("rows.toml").read_text(encoding="utf-8")
    return {name: table for name, table in tomllib.loads(text).items() if isinstance(table, dict)}
