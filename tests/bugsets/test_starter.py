"""The shipped set keeps its promises; the verdicts themselves are re-proved on a sample."""

import json
import re
import subprocess
import sys

import pytest
from bughunt_mutator.registry import load_operators

from bughunt import references
from bughunt.bugsets import library, verify

STARTER = library.find_set("starter")
CHALLENGES = STARTER.challenges()
PROGRAMS = {
    "kmeans-pp",
    "lstm-varlen",
    "optim-zoo",
    "reinforce-cartpole",
    "resnet-mini",
    "tiny-gpt",
    "trainer-loop",
    "vae-digits",
}


@pytest.fixture(params=CHALLENGES, ids=lambda challenge: challenge.id)
def challenge(request):
    return request.param


def test_there_are_24_challenges_over_eight_references():
    assert len(CHALLENGES) == 24
    assert {challenge.reference for challenge in CHALLENGES} == PROGRAMS


def test_they_are_ordered_by_difficulty():
    levels = [challenge.level for challenge in CHALLENGES]
    assert levels == sorted(levels)


def test_there_are_visible_and_silent_bugs_of_many_kinds():
    sealed = [challenge.sealed() for challenge in CHALLENGES]
    assert {one.label for one in sealed} >= {"visible", "silent"}
    assert len({one.category for one in sealed}) >= 8


def test_titles_are_different():
    titles = [challenge.title for challenge in CHALLENGES]
    assert len(set(titles)) == len(titles)


def test_no_readable_file_names_an_operator_or_a_category(challenge):
    """Nothing that `grep -ri` finds: rows, operators and the words for mutation."""
    sealed = challenge.sealed()
    words = {*sealed.rows, *sealed.operators, "mutant", "mutation", "operator ="}
    for path in challenge.folder.iterdir():
        text = path.read_bytes().decode(errors="replace").lower()
        assert not [word for word in words if word in text], path


def test_ruff_finds_nothing_that_it_does_not_find_in_the_repaired_program(challenge, tmp_path):
    broken, repaired = tmp_path / "broken.py", tmp_path / "repaired.py"
    broken.write_text(challenge.program()["train.py"], encoding="utf-8")
    repaired.write_text(challenge.sealed().repaired["train.py"], encoding="utf-8")
    assert _findings(broken) == _findings(repaired)


def test_the_hints_are_three_and_name_no_line(challenge):
    hints = challenge.sealed().hints
    assert len(hints) == 3
    assert not [hint for hint in hints if re.search(r"\bline \d", hint) or "{" in hint]


def test_the_program_is_disguised(challenge):
    """At least a tenth of the lines differ from the installed reference, in more than the bug."""
    reference = references.load(challenge.reference).files["train.py"].splitlines()
    own = challenge.program()["train.py"].splitlines()
    assert len(set(own) - set(reference)) >= len(own) // 10


def test_the_evidence_is_in_the_operator(challenge):
    operators = load_operators()
    for id_ in challenge.sealed().operators:
        assert set(challenge.sealed().evidence) == set(operators[id_].evidence)


@pytest.mark.slow
def test_a_sample_is_proved_again():
    reports = verify.verify(STARTER, sample=6, quick=True)
    assert [report.reasons for report in reports] == [[]] * 6


def _findings(path):
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,B,E7,PL,RUF"]
    command += ["--output-format", "json", "--exit-zero", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return sorted(item["code"] for item in found)
