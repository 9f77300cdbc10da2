"""A roster: the teams of a CSV file with the columns team, division and members."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass

from bughunt.errors import UsageError
from bughunt_leaderboard.refusals import MalformedError, clean

COLUMNS = ("team", "division", "members")


@dataclass(frozen=True)
class Entry:
    """One line: how many members it invites."""

    team: str
    division: str
    members: int


def read_roster(lines: Iterable[str], team_size: int) -> list[Entry]:
    """All entries, or UsageError that names the line: nobody is invited from half a file."""
    reader = csv.DictReader(lines)
    if "team" not in (reader.fieldnames or ()):
        raise UsageError("the roster has no column 'team'", f"its first line is {','.join(COLUMNS)}")
    entries: dict[str, Entry] = {}
    for row in reader:
        one = _entry(row, team_size, f"line {reader.line_num}")
        if one.team in entries:
            raise UsageError(f"line {reader.line_num}: team {one.team} is there twice", "one line a team")
        entries[one.team] = one
    return list(entries.values())


def _entry(row: dict[str, str | None], team_size: int, where: str) -> Entry:
    members = (row.get("members") or "").strip() or str(team_size)
    if not (members.isascii() and members.isdigit() and 1 <= int(members) <= team_size):
        raise UsageError(f"{where}: members is {members}", f"a number from 1 to {team_size}, or nothing")
    try:
        division = (row.get("division") or "").strip()
        return Entry(clean(row.get("team") or ""), clean(division) if division else "", int(members))
    except MalformedError as error:
        raise UsageError(f"{where}: {error.message}", error.remedy) from None
