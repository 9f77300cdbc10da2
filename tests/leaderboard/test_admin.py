"""Officials rule by commands on the competition's folder; each is a line of the audit log."""

import csv
import io
import json
from pathlib import Path

import pytest
from bughunt_leaderboard.bundle import variant
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.store import Store
from click.testing import CliRunner, Result
from small import CHALLENGE, small_set

from bughunt.cli.root import root


class Desk:
    """A competition's folder, and `bughunt admin` on it."""

    def __init__(self, path: Path) -> None:
        plan = Plan(
            data=path / "cup", bugset=small_set(path / "small"), name="Cup", minutes=60,
            teams={"Red": "students", "Blue": ""}, rules=Rules(),
        )  # fmt: skip
        self.folder, invites = prepare(plan)
        self.referee = Referee(Store(self.folder.database))
        self.people = {name: self.referee.join(invite, name.lower())[1] for name, invite in invites.items()}

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(root, ["admin", "--data", str(self.folder.path), *words])

    def send(self, team: str, files: dict[str, str]) -> int:
        return self.referee.submit(self.people[team], CHALLENGE, files, team)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_roster_becomes_invites_and_results_come_back_as_csv(desk: Desk, tmp_path: Path) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text("team,division,members\nGreen,students,2\nGrey,,\n")
    rows = list(csv.DictReader(io.StringIO(desk.run("roster", str(roster)).stdout)))
    assert [(row["team"], row["division"]) for row in rows] == [("Green", "students"), ("Grey", "")]
    assert desk.referee.join(rows[0]["invite"], "ada")[1].role == "captain"
    results = list(csv.DictReader(io.StringIO(desk.run("results").stdout)))
    assert [(row["team"], row["division"]) for row in results] == [
        ("Red", "students"), ("Blue", ""), ("Green", "students"),
    ]  # fmt: skip
    assert CHALLENGE in results[0]


def test_a_roster_with_a_fault_invites_nobody(desk: Desk, tmp_path: Path) -> None:
    before = len(desk.referee.tokens())
    roster = tmp_path / "roster.csv"
    roster.write_bytes(b"team\nGreen\nGreen\n")
    refused = desk.run("roster", str(roster))
    assert "line 3: team Green is there twice" in str(refused.exception)
    roster.write_bytes(b"team\n\xff\xfe\n")
    assert "is no CSV in UTF-8" in str(desk.run("roster", str(roster)).exception)
    assert len(desk.referee.tokens()) == before


def test_a_person_is_forgotten_by_number_and_name(desk: Desk) -> None:
    token = desk.people["Red"].token
    assert "is not eve's" in str(desk.run("forget", str(token), "--confirm", "eve").exception)
    assert desk.run("forget", str(token), "--confirm", "red").stdout == "red is forgotten\n"
    assert token not in {one["id"] for one in desk.referee.tokens()}


def test_the_same_file_from_two_teams_is_judged_and_told_to_a_person(desk: Desk) -> None:
    shared = variant(desk.folder.challenges()[CHALLENGE], desk.folder, desk.people["Red"].team or 0)
    numbers = [desk.send(team, shared) for team in ("Red", "Blue")]
    assert desk.referee.queue.length() == 2
    (entry,) = [e for e in desk.referee.store.audit_log() if "same file" in e["what"]]
    assert json.loads(entry["what"]) == {"what": "same file", "submission": numbers[1], "team": 2, "other": 1}
    for _ in numbers:
        lease = desk.referee.queue.claim("test")
        assert lease is not None
        desk.referee.queue.finish(lease, "SOLVED", {"score": 100.0})
    found = json.loads(desk.run("similar", "--json").stdout)["challenges"]
    assert [(one["team"], one["other"]) for one in found[0]["marked"]] == [(2, 1)]
    assert "Blue: submission 2 has words of Red" in desk.run("similar").stdout
    assert all(row.points for row in desk.referee.fresh().standings())  # nobody is banned


def test_where_nobody_is_alike_there_is_nothing_to_look_at(desk: Desk) -> None:
    assert desk.run("similar").stdout == "Nothing to look at.\n"


def test_a_token_with_fewer_scopes_is_granted_by_command(desk: Desk) -> None:
    token = desk.run("grant", "admin", "timekeeper", "--scope", "course", "--hours", "8").stdout.strip()
    assert desk.referee.person(token).scopes == {"course"}
    assert "cannot have the scope people" in str(
        desk.run("grant", "judge", "x", "--scope", "people").exception
    )
