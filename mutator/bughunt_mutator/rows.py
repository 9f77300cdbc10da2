"""The rows of the catalogue: every mistake that an operator writes, and what is known about it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

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

    `shows` is one of `SYMPTOMS`. What is not `documented` is folklore: everybody knows it, and no
    issue, paper or post is known that describes a case in this form.
    """

    id: str
    category: str
    text: str
    shows: str
    difficulty: int
    documented: bool = True
    deepcrime: str = ""
    humbatova: str = ""

    @property
    def silent(self) -> bool:
        """Whether a program that has it runs to its end with numbers that look like numbers."""
        return self.shows.startswith("silent") or self.shows == "train-eval-gap"


@cache
def load_rows() -> dict[str, Row]:
    """All rows by id, in the order of the catalogue."""
    told = tomllib.loads(files("bughunt_mutator").joinpath("rows.toml").read_text(encoding="utf-8"))
    return {
        id_: Row(id=id_, category=category, **fields)
        for category, rows in told.items()
        if isinstance(rows, dict)
        for id_, fields in rows.items()
    }
