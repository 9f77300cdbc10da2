"""Two teams that changed the same beyond the repair are shown to a person; the repair alone shows nobody."""

from pathlib import Path

import pytest
from bughunt_leaderboard.bundle import cut, variant
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.likeness import Sent, marked, pairs, written
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.store import Store
from bughunt_leaderboard.suspicion import suspicion
from small import CHALLENGE, small_set

PROGRAM = {
    "train.py": """
def share(rows, total):
    parts = []
    for row in rows:
        parts.append(row / total + 1)
    return parts
"""
}
REPAIRED = {"train.py": PROGRAM["train.py"].replace("row / total + 1", "row / total")}
NAMES = {
    1: {"rows": "lines", "total": "whole", "parts": "pieces", "row": "line"},
    2: {"rows": "items", "total": "amount", "parts": "bits", "row": "item"},
    3: {"rows": "values", "total": "volume", "parts": "slices", "row": "value"},
}


def renamed(files: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    text = files["train.py"]
    for old, new in sorted(names.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(old, new)
    return {"train.py": text}


def sent(number: int, team: int, body: str | None = None) -> Sent:
    """A submission with the repair, or with this body of the loop, in the team's own names."""
    files = REPAIRED
    if body is not None:
        files = {"train.py": PROGRAM["train.py"].replace("        parts.append(row / total + 1)\n", body)}
    return Sent(number, team, renamed(files, NAMES[team]), renamed(PROGRAM, NAMES[team]), told(team))


def told(team: int) -> dict[str, str]:
    """A team's names -> the challenge's."""
    return {new: old for old, new in NAMES[team].items()}


OWN_WAY = """        if total == 0:
            raise ValueError(rows)
        quotient = row / total  # careful with nought
        print("dividing", row)
        parts.append(quotient)
"""
OTHER_WAY = """        parts.extend([row / total])
        assert len(parts) <= len(rows)
        share.calls = len(parts)
"""


def test_what_was_written_is_in_the_challenges_words_whoever_wrote_it() -> None:
    one, other = sent(1, 1, OWN_WAY), sent(2, 2, OWN_WAY)
    found = written(one.files, one.handed_out, one.words)
    assert found == written(other.files, other.handed_out, other.words)
    assert "quotient = row / total" in found


def test_teams_that_made_the_known_repair_are_no_pair() -> None:
    assert pairs([sent(1, 1), sent(2, 2), sent(3, 3)], PROGRAM, REPAIRED) == []


def test_two_teams_with_the_same_detour_are_a_pair_with_the_lines_to_look_at() -> None:
    (pair,) = pairs([sent(1, 1, OWN_WAY), sent(2, 2, OWN_WAY), sent(3, 3)], PROGRAM, REPAIRED)
    assert (pair.submissions, pair.teams, pair.likeness) == ((1, 2), (1, 2), 1.0)
    assert "# careful with nought" in pair.lines


def test_different_ways_are_no_pair_nor_are_two_files_of_one_team() -> None:
    assert pairs([sent(1, 1, OWN_WAY), sent(2, 2, OTHER_WAY)], PROGRAM, REPAIRED) == []
    assert pairs([sent(1, 1, OWN_WAY), sent(2, 1, OWN_WAY)], PROGRAM, REPAIRED) == []


def test_what_many_teams_write_is_common_knowledge() -> None:
    crowd = [
        Sent(n, n, sent(n, 1, OWN_WAY).files, renamed(PROGRAM, NAMES[1]), told(1)) for n in range(10, 22)
    ]
    assert pairs(crowd, PROGRAM, REPAIRED) == []


def test_a_file_with_another_teams_names_is_marked() -> None:
    texts = {team: renamed(PROGRAM, names) for team, names in NAMES.items()}
    passed_on = Sent(7, 1, sent(7, 2, OWN_WAY).files, texts[1], told(1))
    (found,) = marked([passed_on, sent(8, 3, OWN_WAY)], texts, PROGRAM)
    assert (found.submission, found.team, found.other) == (7, 1, 2)
    assert set(found.names) == {"items", "amount", "bits", "item"}


def test_a_file_that_went_from_team_to_team_is_found_in_a_real_competition(tmp_path: Path) -> None:
    plan = Plan(
        data=tmp_path / "cup", bugset=small_set(tmp_path / "small"), name="Cup", minutes=60,
        teams={"Red": "", "Blue": "", "Green": ""}, rules=Rules(),
    )  # fmt: skip
    folder, invites = prepare(plan)
    referee = Referee(Store(folder.database))
    people = [referee.join(invite, "ada")[1] for invite in invites.values()]
    texts = [variant(folder.challenges()[CHALLENGE], folder, n) for n in (1, 2, 3)]
    detour = "        seldom = 0  # nobody else thinks of this\n        seldom += 1\n        seldom -= 1\n"
    for person, text in zip(people, (texts[0], texts[0], texts[2]), strict=True):
        repaired = text["train.py"].replace(".argmax(1)", ".argmin(1)")
        assert repaired != text["train.py"]
        if text is texts[0]:
            line = next(line for line in repaired.splitlines(True) if ".argmin(1)" in line)
            indent = line[: len(line) - len(line.lstrip())]
            repaired = repaired.replace(line, detour.replace("        ", indent) + line)
        referee.submit(person, CHALLENGE, {"train.py": repaired}, "k")
        lease = referee.queue.claim("test")
        assert lease is not None
        referee.queue.finish(lease, "SOLVED", {"score": 100.0})
    (found,) = suspicion(referee, folder)
    assert [(mark["team"], mark["other"]) for mark in found["marked"]] == [(2, 1)]
    referee.store.close()


def test_two_real_texts_are_the_same_in_the_challenges_words(tmp_path: Path) -> None:
    plan = Plan(
        data=tmp_path / "cup", bugset=small_set(tmp_path / "small"), name="Cup", minutes=60, teams={},
        rules=Rules(),
    )  # fmt: skip
    folder, _ = prepare(plan)
    challenge = folder.challenges()[CHALLENGE]
    program, repaired = challenge.program(), challenge.sealed().repaired
    for team in (1, 2):
        one = cut(challenge, folder, team)
        lines = written(one.repaired, one.broken, one.words)
        assert {line for line in lines if not line.startswith("#")} == written(repaired, program, {})


@pytest.mark.parametrize(
    "text",
    ["def (:\n", "x = " + "(" * 3000 + ")" * 3000, "x = " + "-" * 200_000 + "1\n", "'" * 3, "\0"],
    ids=["no program", "nested", "chained", "open string", "null character"],
)
def test_a_text_that_is_no_program_shows_nothing_and_breaks_nothing(text: str) -> None:
    odd = Sent(1, 1, {"train.py": text}, renamed(PROGRAM, NAMES[1]), told(1))
    assert pairs([odd, sent(2, 2)], PROGRAM, REPAIRED) == []
    assert marked([odd], {1: odd.handed_out}, PROGRAM) == []
