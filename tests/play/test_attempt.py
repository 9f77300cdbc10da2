"""Which seeds a file gets, what counts as changed, and what hints cost."""

import math
from collections import Counter
from pathlib import Path

import pytest

from bughunt.bugsets.challenge import Challenge
from bughunt.bugsets.change import changed_lines
from bughunt.bugsets.seeds import choose_seeds, digest
from bughunt.judge.plain import finite
from bughunt.play.hints import NoEvidenceError, NoHintError, ladder, points, upcoming
from bughunt.play.progress import Progress
from bughunt.play.syntax import first_fault
from bughunt.play.workspace import locate

SEEDS = range(10, 18)


def test_the_same_file_always_gets_the_same_seeds():
    key = digest("bh-1", {"train.py": "x = 1\n"})
    assert choose_seeds(key, SEEDS, 3) == choose_seeds(key, reversed(SEEDS), 3)


def test_every_byte_and_the_challenge_have_a_say():
    keys = {
        digest("bh-1", {"train.py": "x = 1\n"}),
        digest("bh-1", {"train.py": "x = 1\r\n"}),
        digest("bh-2", {"train.py": "x = 1\n"}),
        digest("bh-1", {"train.py": "", "x = 1\n": ""}),
    }
    assert len(keys) == 4


def test_a_check_runs_on_one_of_the_seeds_of_a_submission():
    key = digest("bh-1", {"train.py": "x = 1\n"})
    assert set(choose_seeds(key, SEEDS, 1)) <= set(choose_seeds(key, SEEDS, 3)) <= set(SEEDS)


def test_no_seed_is_preferred():
    keys = (digest("bh-1", {"train.py": f"x = {n}\n"}) for n in range(4000))
    counts = Counter(choose_seeds(key, SEEDS, 1)[0] for key in keys)
    expected, deviation = 500, math.sqrt(4000 * (1 / 8) * (7 / 8))
    assert set(counts) == set(SEEDS)
    assert all(abs(count - expected) < 5 * deviation for count in counts.values())


def test_fewer_seeds_than_asked_for_are_all_used():
    assert sorted(choose_seeds(b"key", [1, 2], 3)) == [1, 2]


@pytest.mark.parametrize(
    ("after", "lines"),
    [("a\nb\nc\n", 0), ("a\nX\nc\n", 1), ("a\nc\n", 1), ("a\nb\nx\ny\nc\n", 2), ("", 3)],
    ids=["same", "replaced", "deleted", "inserted", "emptied"],
)
def test_changed_lines_are_counted(after, lines):
    changed = changed_lines({"train.py": "a\nb\nc\n"}, {"train.py": after})
    assert changed == ({"train.py": lines} if lines else {})


def test_json_has_null_where_a_number_is_not_finite():
    assert finite({"a": [math.nan, 1.5], "b": (math.inf,)}) == {"a": [None, 1.5], "b": [None]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n", "line 1"),
        ("x = 1\nreturn 3\n", "line 2"),
        ("x = 1\0\n", "null"),
        ("x = '\udcff'\n", "UTF-8"),
        ("(" * 5000, "train.py"),
    ],
    ids=["open bracket", "return outside", "null byte", "not UTF-8", "too deep"],
)
def test_a_file_that_cannot_be_compiled_is_told_with_its_place(text, said):
    assert said in (first_fault({"train.py": text}) or "")


def test_a_file_that_would_fail_when_run_is_not_a_syntax_fault():
    assert first_fault({"train.py": "raise SystemExit(undefined)\n"}) is None


@pytest.fixture
def challenge(tmp_path: Path, make_challenge) -> Challenge:
    make_challenge(tmp_path / "set" / "bh-1", level=3)
    return Challenge.load(tmp_path / "set" / "bh-1")


def test_hints_cost_a_twentieth_a_tenth_and_a_fifth(challenge):
    rungs = ladder(challenge, ["a", "b", "c"])
    assert [hint.price for hint in rungs] == [15, 30, 60]


def test_points_are_value_times_score_less_hints_and_never_negative(challenge):
    assert points(challenge, 100.0, []) == 300
    assert points(challenge, 90.0, [15, 30]) == 225
    assert points(challenge, 10.0, [15, 30, 60]) == 0


def test_a_hint_opens_first_freely_then_only_with_evidence(challenge):
    rungs = ladder(challenge, ["a", "b", "c"])
    assert upcoming(rungs, Progress("bh-1")).name == "LOOK"
    with pytest.raises(NoEvidenceError):
        upcoming(rungs, Progress("bh-1", hints=[15]))
    assert upcoming(rungs, Progress("bh-1", hints=[15], evidence=1)).name == "WHERE"
    with pytest.raises(NoHintError):
        upcoming(rungs, Progress("bh-1", hints=[15, 30, 60], evidence=1))


def test_the_workspace_is_asked_then_home_then_nearest_then_hunt(tmp_path):
    inner = tmp_path / "hunt" / "bh-1"
    inner.mkdir(parents=True)
    assert locate(Path("x"), "y", tmp_path) == Path("x")
    assert locate(None, "y", tmp_path) == Path("y")
    assert locate(None, None, inner) == inner / "hunt"
    (tmp_path / "hunt" / ".bughunt").mkdir()
    assert locate(None, None, inner) == tmp_path / "hunt"
    assert locate(None, None, tmp_path) == tmp_path / "hunt"
