"""The screens say what was seen, name no cause, and end with the verdict."""

from pathlib import Path

import pytest

from bughunt.bugsets.challenge import Challenge
from bughunt.judge.verdict import SENTENCES, Curve, Outcome, TestResult, Verdict
from bughunt.show import screens

TESTS = [
    TestResult("test_a_row_keeps_its_label", True),
    TestResult("test_eight_rows_can_be_memorised[8]", False, "expected < 0.05, got 0.745"),
]


@pytest.fixture
def load(tmp_path: Path, make_challenge):
    def made(**changes) -> Challenge:
        folder = tmp_path / "set" / f"bh-{len(list(tmp_path.glob('set/*')))}"
        make_challenge(folder, **changes)
        return Challenge.load(folder)

    return made


def verdict(outcome=Outcome.PARTIAL, **fields):
    curve = Curve(11, [0, 50, 100], [2.0, 1.8, 1.5], [0.1, 0.2, 0.3])
    return Verdict(outcome, 40.0, **{"tests": TESTS, "curves": [curve], "recovery": 0.6, **fields})


def test_a_failed_behaviour_shows_what_was_expected_and_what_came(load):
    text = screens.checked(load(), verdict(), {"train.py": 1}, 80, plot=False)
    assert "✓ a row keeps its label" in text
    assert "✗ eight rows can be memorised [8]" in text
    assert "expected < 0.05, got 0.745" in text
    assert "1 line" in text


def test_hard_challenges_show_counts_only(load):
    text = screens.checked(load(level=4), verdict(), {}, 80, plot=False)
    assert "1 of 2 hold" in text
    assert "memorised" not in text
    assert "memorised" not in screens.verdict_line(load(level=5), verdict())


def test_recovery_and_final_values_stand_side_by_side(load):
    text = screens.checked(load(), verdict(), {}, 80, plot=True, best=0.7)
    assert "yours 1.50   reference 0.50–0.60   broken 3.00" in text
    assert "60 %  (best so far 70 %)" in text
    assert "●" in text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_sentence(load, outcome):
    assert screens.verdict_line(load(), verdict(outcome)).startswith(SENTENCES[outcome])


def test_what_the_program_printed_is_shown_without_control_characters(load):
    broken = verdict(
        Outcome.ERROR, tests=(), curves=(), detail="train.py line 3: \x1b[2JValueError", output="hi\x07"
    )
    text = screens.checked(load(), broken, {}, 80, plot=False)
    assert "line 3: ValueError" in text
    assert "\n    hi" in text


def test_the_brief_leaves_no_line_wider_than_the_screen(load):
    long = load(title="The loss climbs and climbs and climbs and nobody has any idea why it does")
    text = screens.brief(long, "hunt/bh-1", 72, plot=True)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.splitlines()[-1].strip() == "Then   bughunt check"


def test_the_number_of_bugs_is_told_up_to_level_three(load):
    assert "1 bug" in screens.meta(load(level=3))
    assert "1 bug" not in screens.meta(load(level=4))


def test_how_many_of_several_bugs_are_repaired_is_told_where_their_number_is(load):
    some = verdict(repaired=[True, False, True])
    assert "bugs       2 of 3 repaired" in screens.checked(load(), some, {}, 80, plot=False)
    assert "repaired" not in screens.checked(load(level=4), some, {}, 80, plot=False)
    assert "repaired" not in screens.checked(load(), verdict(), {}, 80, plot=False)
