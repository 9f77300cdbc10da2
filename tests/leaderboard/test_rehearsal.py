"""A rehearsal plays for real and says what would break."""

from pathlib import Path

import pytest
from bughunt_leaderboard.host import Plan
from bughunt_leaderboard.rehearsal import Report, rehearse
from bughunt_leaderboard.rules import Rules
from small import small_set


def report(**changes: object) -> Report:
    usual: dict[str, object] = {
        "teams": 60, "workers": 2, "cores": 2, "wall": 120.0, "cpu": 190.0, "rush": 60.0, "accepted": 60,
        "refused": {}, "verdicts": {"SOLVED": 60}, "latency_median": 20.0, "latency_95": 60.0,
        "a_minute": 30.0, "judgement": 4.0, "board_median": 5.0, "board_95": 9.0, "surprises": [],
    }  # fmt: skip
    return Report(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.mark.slow
def test_four_teams_send_what_they_have_and_each_kind_gets_the_verdict_it_should(tmp_path: Path) -> None:
    plan = Plan(
        data=tmp_path, bugset=small_set(tmp_path / "small"), name="Cup", minutes=60, teams={}, rules=Rules()
    )
    made = rehearse(plan, 4, ["--workers", "1", "--tier", "S0"], 1, rush=1.0)
    assert (made.surprises, made.refused) == ([], {})
    assert (made.accepted, sum(made.verdicts.values())) == (4, 4)
    assert (made.verdicts["SOLVED"], made.verdicts["ERROR"]) == (2, 1)
    assert 0 < made.latency_median <= made.latency_95
    assert 3 < made.cpu < made.wall * made.cores  # two trainings and a start of torch take longer than that
    assert made.board_95 >= made.board_median > 0
    assert not list(tmp_path.glob("*.db"))


def test_a_rush_that_is_too_long_says_how_many_workers_it_takes() -> None:
    slow = report(latency_95=300.0, cpu=600.0)  # of work for 120 s: five at once
    assert "with 2 workers a rush of 60 needs 300 s; for 120 s run 5 workers" in "\n".join(slow.lines())


def test_a_rush_that_is_too_long_for_its_work_was_not_alone() -> None:
    assert "something else ran here" in report(latency_95=300.0, cpu=190.0).breaks()[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"workers": 4}, "4 workers share 2 cores"),
        ({"board_95": 900.0}, "the board takes 900 ms"),
        ({"verdicts": {"INFRA": 3}}, "3 submissions were given up"),
        ({"refused": {"the round is over": 2}}, "2 times: the round is over"),
    ],
    ids=["workers", "board", "infra", "refused"],
)
def test_what_would_break_is_named(changes: dict[str, object], said: str) -> None:
    assert any(said in one for one in report(**changes).breaks())


def test_where_all_is_well_nothing_breaks() -> None:
    assert report().lines()[-1] == "Nothing would break."
