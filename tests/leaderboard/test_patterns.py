"""Texts of teams are cut from patterns that answer as the challenge does, broken and repaired."""

from pathlib import Path

import pytest
from bughunt_leaderboard.backup import backup, restore
from bughunt_leaderboard.bundle import cut, text_of
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.patterns import differences, patterns
from bughunt_leaderboard.rules import Rules
from bughunt_mutator import differing, mutated
from small import CHALLENGE, small_set

from bughunt.bugsets import library
from bughunt.bugsets.case import case_of
from bughunt.judge.judge import Judge


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("patterns")
    plan = Plan(
        data=path / "cup", bugset=small_set(path / "small"), name="Cup", minutes=60, teams={}, rules=Rules(),
        patterns=2,
    )  # fmt: skip
    said: list[str] = []
    folder, _ = prepare(plan, said.append)
    assert said == [f"{CHALLENGE}: 2 of 2 patterns hold (1 of 1)"]
    return folder


def text(files: object) -> str:
    return files["train.py"]  # type: ignore[index, no-any-return]


def test_the_edits_between_two_states_of_a_program_make_one_of_the_other() -> None:
    for challenge in library.find_set("starter").challenges()[:8]:
        repaired, program = dict(challenge.sealed().repaired), challenge.program()
        assert mutated(repaired, *differences(repaired, program)) == program


@pytest.mark.slow
def test_patterns_are_other_texts_and_teams_get_them(folder: Folder) -> None:
    challenge = folder.challenges()[CHALLENGE]
    one, other = patterns(folder, challenge)
    program = text(challenge.program())
    assert differing(text(one.broken), program) > 0.3
    assert differing(text(one.broken), text(other.broken)) > 0.3
    given = {team: text_of(challenge, folder, team) for team in range(1, 13)}
    assert len({text(each.files) for each in given.values()}) == 12
    shapes = {len(text(each.files).splitlines()) for each in given.values()}
    assert shapes == {len(text(each.broken).splitlines()) for each in (one, other)}


@pytest.mark.slow
def test_a_repair_in_a_teams_own_text_is_solved_and_what_was_given_is_not(folder: Folder) -> None:
    challenge = folder.challenges()[CHALLENGE]
    case, seeds = case_of(challenge), tuple(challenge.sealed().seeds[:1])
    with Judge() as judge:
        for team in (1, 2, 3):
            one = cut(challenge, folder, team)
            assert judge.judge(one.repaired, case, seeds).outcome == "SOLVED"
            assert judge.judge(one.broken, case, seeds).outcome not in ("SOLVED", "ERROR")


@pytest.mark.slow
def test_a_backup_keeps_what_the_teams_hold(folder: Folder, tmp_path: Path) -> None:
    challenge = folder.challenges()[CHALLENGE]
    held = text_of(challenge, folder, 1)
    backup(folder, tmp_path / "cup.tar.gz")
    again = restore(tmp_path / "cup.tar.gz", tmp_path / "again")
    assert text_of(challenge, again, 1) == held
    assert text_of(challenge, again, 2) == text_of(challenge, folder, 2)
