"""The board is a fold of the log: checked against a slow count that starts from nothing each time."""

from collections.abc import Sequence

import pytest
from bughunt_leaderboard.board import Competition, fold
from bughunt_leaderboard.events import Event, Kind
from bughunt_leaderboard.rules import COUNTED, MINUTE, Rules
from hypothesis import given, settings
from hypothesis import strategies as st

RULES = Rules(base=100, floor=0.5, decay=10, penalty=10)
LEVELS = {"a": 1, "b": 2}
START = 1_000 * MINUTE
OUTCOMES = ["SOLVED", "PARTIAL", "UNFIXED", "CONTRACT", "INFRA", "TIMEOUT"]


class Log:
    """Events written one after another."""

    def __init__(self, teams: int = 3) -> None:
        self.events: list[Event] = []
        about = {id_: {"title": id_.upper(), "level": level} for id_, level in LEVELS.items()}
        self.add(Kind.CREATED, 0, name="Cup", set="s", rules=RULES.dump(), challenges=about)
        self.add(Kind.ROUND, 0, round="1", start=START, end=START + 60 * MINUTE, challenges=list(LEVELS))
        for team in range(1, teams + 1):
            self.add(Kind.TEAM, 0, team=team, name=f"T{team}")
        self.sent = 0

    def add(self, kind: Kind, minute: float, **payload: object) -> Event:
        event = Event(len(self.events) + 1, int(START + minute * MINUTE), kind, payload)
        self.events.append(event)
        return event

    def send(self, team: int, challenge: str, minute: float, *, late: bool = False) -> int:
        self.sent += 1
        self.add(Kind.RECEIVED, minute, submission=self.sent, team=team, challenge=challenge, late=late)
        return self.sent

    def judge(self, submission: int, outcome: str, minute: float, *, generation: int = 0) -> None:
        self.add(
            Kind.VERDICT, minute,
            submission=submission, generation=generation, outcome=outcome, score=0, changed=1,
        )  # fmt: skip

    @property
    def board(self) -> Competition:
        return fold(self.events)


def test_points_then_penalty_then_last_gain_order_the_teams() -> None:
    log = Log()
    for team, minute in ((1, 20), (2, 10), (3, 15)):
        log.judge(log.send(team, "a", minute), "SOLVED", minute + 1)
    log.judge(log.send(3, "b", 30), "SOLVED", 31)
    names = [row.team.name for row in log.board.standings()]
    assert names == ["T3", "T2", "T1"]
    value = RULES.value(1, 3)
    assert log.board.standings()[1].points == value + RULES.bonus(1, 0)


def test_a_failure_before_the_solution_costs_minutes_and_one_after_it_costs_nothing() -> None:
    log = Log()
    log.judge(log.send(1, "a", 5), "PARTIAL", 6)
    log.judge(log.send(1, "a", 7), "CONTRACT", 8)
    log.judge(log.send(1, "a", 9), "SOLVED", 10)
    log.judge(log.send(1, "a", 11), "UNFIXED", 12)
    assert log.board.standings()[0].penalty == 9 + 10


def test_who_was_received_first_is_first_whoever_is_judged_first() -> None:
    log = Log()
    one, two = log.send(1, "a", 5), log.send(2, "a", 6)
    log.judge(two, "SOLVED", 7)
    before = {row.team.id: row.cells["a"] for row in log.board.standings() if "a" in row.cells}
    assert before[2].place == 0
    assert before[2].provisional
    log.judge(one, "SOLVED", 8)
    after = {row.team.id: row.cells["a"] for row in log.board.standings() if "a" in row.cells}
    assert (after[1].place, after[2].place) == (0, 1)
    assert not after[1].provisional
    assert after[2].points < before[2].points


def test_what_comes_late_is_never_ranked() -> None:
    log = Log()
    log.judge(log.send(1, "a", 61, late=True), "SOLVED", 62)
    assert log.board.standings()[0].points == 0


def test_the_end_is_not_in_the_round_and_the_moment_before_is() -> None:
    board = Log().board
    end = START + 60 * MINUTE
    assert board.is_open("a", end - 1)
    assert not board.is_open("a", end)
    assert not board.is_open("a", START - 1)


def test_a_team_with_an_extension_has_longer_than_the_others() -> None:
    log = Log()
    log.add(Kind.EXTENDED, 1, team=2, minutes=10)
    late = START + 65 * MINUTE
    assert log.board.is_open("a", late, 2)
    assert not log.board.is_open("a", late, 1)


def test_a_flagged_solution_does_not_count_until_it_is_cleared() -> None:
    log = Log()
    one = log.send(1, "a", 5)
    log.judge(one, "SOLVED", 6)
    log.add(Kind.FLAGGED, 7, submission=one, why="same file")
    assert log.board.standings()[0].points == 0
    log.add(Kind.CLEARED, 8, submission=one)
    assert log.board.standings()[0].points > 0


def test_verdicts_of_a_rejudging_count_once_it_is_applied_and_from_the_time_of_receipt() -> None:
    log = Log()
    one, two = log.send(1, "a", 5), log.send(2, "a", 6)
    log.judge(one, "UNFIXED", 7)
    log.judge(two, "SOLVED", 8)
    log.add(Kind.REJUDGE, 20, rejudging=1, submissions=[one], generation=1)
    log.judge(one, "SOLVED", 21, generation=1)
    assert log.board.solvers("a") == [2]
    log.add(Kind.APPLIED, 22, rejudging=1)
    assert log.board.solvers("a") == [1, 2]
    assert log.board.standings()[0].penalty == 5


def test_a_cancelled_rejudging_changes_nothing() -> None:
    log = Log()
    one = log.send(1, "a", 5)
    log.judge(one, "SOLVED", 7)
    before = log.board.standings()
    log.add(Kind.REJUDGE, 20, rejudging=1, submissions=[one], generation=1)
    log.judge(one, "UNFIXED", 21, generation=1)
    log.add(Kind.CANCELLED, 22, rejudging=1)
    assert log.board.standings() == before


def test_a_team_that_is_removed_is_nowhere() -> None:
    log = Log()
    log.judge(log.send(1, "a", 5), "SOLVED", 6)
    log.judge(log.send(2, "a", 7), "SOLVED", 8)
    log.add(Kind.REMOVED, 9, team=1)
    assert [row.team.id for row in log.board.standings()] == [2, 3]
    assert log.board.solvers("a") == [2]


STEPS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(sorted(LEVELS)), st.sampled_from([*OUTCOMES, None])),
    max_size=25,
)


@settings(max_examples=60)
@given(STEPS, st.randoms(use_true_random=False))
def test_the_fold_agrees_with_a_count_from_nothing(
    steps: list[tuple[int, str, str | None]], random: object
) -> None:
    log = Log()
    sent = []
    for minute, (team, challenge, outcome) in enumerate(steps):
        sent.append((log.send(team, challenge, minute), team, challenge, minute, outcome))
    random.shuffle(order := list(sent))  # type: ignore[attr-defined]
    for submission, _, _, _, outcome in order:
        if outcome:
            log.judge(submission, outcome, 50)
    for row in log.board.standings():
        points, penalty = counted(row.team.id, sent)
        assert (row.points, row.penalty) == (points, penalty)


@settings(max_examples=40)
@given(STEPS, st.integers(0, 40))
def test_a_board_as_of_a_moment_is_the_board_that_stood_then(
    steps: list[tuple[int, str, str | None]], cut: int
) -> None:
    log = Log()
    for minute, (team, challenge, outcome) in enumerate(steps):
        submission = log.send(team, challenge, minute)
        if outcome:
            log.judge(submission, outcome, minute)
    moment = min(cut, len(log.events))
    assert fold(log.events, until=moment).standings() == fold(log.events[:moment]).standings()


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["send", "judge", "flag", "clear", "remove", "extend", "round", "rejudge", "apply"]),
        st.integers(1, 4),
        st.sampled_from(sorted(LEVELS)),
        st.sampled_from(OUTCOMES),
    ),
    max_size=30,
)


def play(log: Log, acts: Sequence[tuple[str, int, str, str]]) -> None:
    """Whatever may happen to a competition, each act where there is something for it to act on."""
    sets: list[int] = []
    for minute, (act, number, challenge, outcome) in enumerate(acts):
        one = 1 + number % log.sent if log.sent else 0
        if act == "send":
            log.send(number, challenge, minute)
        elif act == "round":
            start, ids = START + number * MINUTE, list(LEVELS)
            log.add(Kind.ROUND, minute, round="1", start=start, end=start + 99 * MINUTE, challenges=ids)
        elif act == "remove":
            log.add(Kind.REMOVED, minute, team=4)
        elif act == "extend":
            log.add(Kind.EXTENDED, minute, team=1, minutes=number)
        elif act == "apply" and sets:
            log.add(Kind.APPLIED, minute, rejudging=sets.pop())
        elif act == "rejudge" and one:
            sets.append(len(log.events))
            generation = sets[-1]
            log.add(Kind.REJUDGE, minute, rejudging=sets[-1], submissions=[one], generation=generation)
            log.judge(one, outcome, minute, generation=generation)
        elif act == "judge" and one:
            log.judge(one, outcome, minute)
        elif act in ("flag", "clear") and one:
            kind = Kind.FLAGGED if act == "flag" else Kind.CLEARED
            log.add(kind, minute, submission=one, why="same file")


@settings(max_examples=150)
@given(ACTS)
def test_a_board_that_is_looked_at_all_the_time_is_the_board_that_is_looked_at_once(
    acts: list[tuple[str, int, str, str]],
) -> None:
    log, board = Log(teams=4), Competition()
    play(log, acts)
    for event in log.events:
        board.apply(event)
        board.standings()
    assert board.standings() == log.board.standings()
    assert board.solutions() == log.board.solutions()


@settings(max_examples=80)
@given(ACTS, ACTS)
def test_what_everybody_sees_of_a_frozen_board_is_what_stood_when_it_froze(
    before: list[tuple[str, int, str, str]], after: list[tuple[str, int, str, str]]
) -> None:
    log = Log(teams=4)
    play(log, before)
    log.add(Kind.FROZEN, 30)
    stood = log.board.standings()
    play(log, [act for act in after if act[0] != "remove"])
    board = log.board
    assert board.public.standings() == stood
    assert board.standings() == fold(one for one in log.events if one.kind is not Kind.FROZEN).standings()
    log.add(Kind.REMOVED, 61, team=1)
    assert 1 not in {row.team.id for row in log.board.public.standings()}
    log.add(Kind.UNFROZEN, 62)
    assert log.board.public.standings() == log.board.standings()


def counted(team: int, sent: Sequence[tuple[int, int, str, int, str | None]]) -> tuple[int, int]:
    """Points and penalty by going through everything, challenge by challenge."""
    points = penalty = 0
    for challenge, level in LEVELS.items():
        order = []
        for other in (1, 2, 3):
            times = [m for _, t, c, m, o in sent if (t, c, o) == (other, challenge, "SOLVED")]
            if times:
                order.append((min(times), other))
        order.sort()
        place = next((n for n, (_, other) in enumerate(order) if other == team), None)
        if place is None:
            continue
        solved_at = order[place][0]
        failures = sum(
            1 for _, t, c, m, o in sent if (t, c) == (team, challenge) and o in COUNTED and m < solved_at
        )
        points += RULES.value(level, len(order)) + RULES.bonus(level, place)
        penalty += solved_at + failures * RULES.penalty
    return points, penalty


@pytest.mark.parametrize("count", [10, 1000])
def test_one_more_event_touches_one_cell_whatever_came_before(count: int) -> None:
    log = Log()
    for minute in range(count):
        log.judge(log.send(1 + minute % 3, "b", minute % 50), "UNFIXED", 51)
    board = log.board
    before = dict(board.cells)
    board.apply(log.add(Kind.RECEIVED, 52, submission=99_999, team=1, challenge="a", late=False))
    changed = [key for key in board.cells if board.cells[key] is not before.get(key)]
    assert changed == [(1, "a")]
