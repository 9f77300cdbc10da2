"""What the rules allow, and what they refuse in one line."""

import threading
from collections.abc import Callable

import pytest
from bughunt_leaderboard import clock
from bughunt_leaderboard.board import fold
from bughunt_leaderboard.migrate import differences
from bughunt_leaderboard.queue import Queue
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.refusals import MalformedError, RefusedError, TooManyError, UnknownError, clean
from bughunt_leaderboard.rules import Rules
from teams import HOUR, join

PROGRAM = {"train.py": "x = 1\n"}


def test_the_tables_are_those_of_the_migrations(referee: Referee) -> None:
    assert differences(referee.store) == []


def test_an_invite_founds_a_team_and_then_lets_others_in_as_often_as_it_says(referee: Referee) -> None:
    invite = referee.invite("host", "Red", uses=2)
    first, second = referee.join(invite, "ada")[1], referee.join(invite, "bob")[1]
    assert (first.role, second.role) == ("captain", "member")
    assert first.team == second.team
    with pytest.raises(UnknownError):
        referee.join(invite, "eve")


def test_a_token_is_one_plain_word_for_a_shell_and_for_a_spreadsheet(referee: Referee) -> None:
    assert all(referee.invite("host", f"team {number}").isalnum() for number in range(30))


def test_an_invite_that_has_expired_or_was_revoked_lets_nobody_in(
    referee: Referee, put_forward: Callable[[int], None]
) -> None:
    late = referee.invite("host", "Late", hours=1)
    put_forward(HOUR)
    with pytest.raises(UnknownError):
        referee.join(late, "ada")
    revoked = referee.invite("host", "Gone")
    referee.revoke("host", referee.tokens()[-1]["id"])
    with pytest.raises(UnknownError):
        referee.join(revoked, "ada")


def test_a_team_takes_nobody_in_after_its_first_submission_or_beyond_its_size(referee: Referee) -> None:
    invite = referee.invite("host", "Red", uses=9)
    _, captain = referee.join(invite, "ada")
    referee.submit(captain, "bh-000001", PROGRAM, "k")
    with pytest.raises(RefusedError, match="has begun"):
        referee.join(invite, "late")
    full = referee.invite("host", "Full", uses=9)
    for name in "abcde":
        referee.join(full, name)
    with pytest.raises(RefusedError, match="full"):
        referee.join(full, "f")


def test_tokens_are_stored_hashed_and_an_invite_is_no_token(referee: Referee) -> None:
    invite = referee.invite("host", "Red")
    token, person = referee.join(invite, "ada")
    assert referee.person(token) == person
    with pytest.raises(UnknownError):
        referee.person(invite)
    with referee.store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM token").all()
    assert token not in str(rows)
    assert invite not in str(rows)


def test_a_hundred_posts_of_one_key_are_one_submission(referee: Referee) -> None:
    person = join(referee, "Red")
    numbers: list[int] = []

    def post() -> None:
        numbers.append(referee.submit(person, "bh-000001", PROGRAM, "same"))

    threads = [threading.Thread(target=post) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 100
    assert len(set(numbers)) == 1
    assert referee.queue.length() == 1


def test_the_servers_clock_decides_what_is_late(referee: Referee, put_forward: Callable[[int], None]) -> None:
    person = join(referee, "Red")
    now = clock.now()
    referee.set_round("host", "Round 1", now - HOUR, now + HOUR, ["bh-000001"])
    in_time = referee.submit(person, "bh-000001", PROGRAM, "in time")
    put_forward(HOUR)
    late = referee.submit(person, "bh-000001", PROGRAM, "late")
    state = referee.fresh()
    assert state.submissions[in_time].ranked
    assert not state.submissions[late].ranked
    queue = Queue(referee.store)
    lease = queue.claim("w")
    assert lease is not None
    queue.finish(lease, "SOLVED", {"score": 100})
    assert referee.fresh().solvers("bh-000001") == [person.team]


def test_extending_a_round_loses_nothing(referee: Referee) -> None:
    person = join(referee, "Red")
    referee.submit(person, "bh-000001", PROGRAM, "k")
    before = referee.fresh().submissions.copy()
    old = referee.fresh().rounds["Round 1"]
    referee.set_round("host", "Round 1", old.start, old.end + HOUR, list(old.challenges))
    assert referee.fresh().submissions == before


def test_a_pause_takes_nothing_and_gives_the_time_back(
    referee: Referee, put_forward: Callable[[int], None]
) -> None:
    person = join(referee, "Red")
    end = referee.fresh().rounds["Round 1"].end
    referee.pause("host")
    with pytest.raises(RefusedError, match="paused"):
        referee.submit(person, "bh-000001", PROGRAM, "k")
    put_forward(HOUR)
    referee.resume("host")
    assert HOUR <= referee.fresh().rounds["Round 1"].end - end < 1.1 * HOUR
    referee.submit(person, "bh-000001", PROGRAM, "k")


def test_a_challenge_whose_round_has_not_begun_does_not_exist_yet(referee: Referee) -> None:
    person = join(referee, "Red")
    now = clock.now()
    referee.set_round("host", "Round 1", now + HOUR, now + 2 * HOUR, ["bh-000001"])
    with pytest.raises(UnknownError):
        referee.submit(person, "bh-000001", PROGRAM, "k")


def test_a_quota_is_not_spent_by_our_own_failures(store: object) -> None:
    referee = Referee(store)  # type: ignore[arg-type]
    referee.create("Cup", "s", {"bh-000001": {"title": "One", "level": 1}}, Rules(quota=1))
    now = clock.now()
    referee.set_round("host", "1", now, now + HOUR, ["bh-000001"])
    person = join(referee, "Red")
    referee.submit(person, "bh-000001", PROGRAM, "a")
    with pytest.raises(TooManyError):
        referee.submit(person, "bh-000001", PROGRAM, "b")
    lease = referee.queue.claim("w")
    assert lease is not None
    referee.queue.finish(lease, "INFRA", {})
    referee.submit(person, "bh-000001", PROGRAM, "b")


def test_nobody_sees_another_teams_submission(referee: Referee) -> None:
    red, blue = join(referee, "Red"), join(referee, "Blue")
    number = referee.submit(red, "bh-000001", PROGRAM, "k")
    assert referee.files(red, number) == PROGRAM
    with pytest.raises(UnknownError):
        referee.submission(blue, number)
    with pytest.raises(UnknownError):
        referee.files(blue, number)
    judge = referee.person(referee.grant("host", "judge", "j"))
    assert referee.files(judge, number) == PROGRAM


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"train.py": "x\0y"},
        {"train.py": "x = 1\n" * 100_000},
        {"train.py": "", "../evil.py": ""},
        {"train.py": "", "a/b.py": ""},
        {"train.py": "", "data.pkl": ""},
        {"train.py": "", **{f"m{n}.py": "" for n in range(12)}},
    ],
    ids=["nothing", "null character", "too long", "parent folder", "folder", "no program", "too many"],
)
def test_files_that_are_no_program_are_refused(referee: Referee, files: dict[str, str]) -> None:
    person = join(referee, "Red")
    with pytest.raises(MalformedError):
        referee.submit(person, "bh-000001", files, "k")


@pytest.mark.parametrize(
    ("given", "shown"),
    [("  Red\u202e Team ", "Red Team"), ("e\u0301", "é"), ("a\x00b\nc", "abc")],
    ids=["direction", "composed", "control"],
)
def test_a_name_is_shown_without_tricks(given: str, shown: str) -> None:
    assert clean(given) == shown


@pytest.mark.parametrize("name", ["", " \u200b ", "x" * 41])
def test_a_name_that_cannot_be_seen_or_is_too_long_is_refused(name: str) -> None:
    with pytest.raises(MalformedError):
        clean(name)


def test_a_rejudging_is_compared_and_then_applied_as_if_it_had_always_been_so(
    referee: Referee,
) -> None:
    person = join(referee, "Red")
    number = referee.submit(person, "bh-000001", PROGRAM, "k")
    queue = referee.queue
    lease = queue.claim("w")
    assert lease is not None
    queue.finish(lease, "UNFIXED", {"score": 0})
    rejudging = referee.rejudge("judge", [number])
    with pytest.raises(RefusedError, match="not judged yet"):
        referee.apply("judge", rejudging)
    again = queue.claim("w")
    assert again is not None
    assert again.generation == 1
    queue.finish(again, "SOLVED", {"score": 100})
    seen = referee.compare(rejudging)
    assert seen["changed"] == [{"submission": number, "before": "UNFIXED", "after": "SOLVED"}]
    assert referee.fresh().standings()[0].points == 0
    referee.apply("judge", rejudging)
    assert referee.fresh().standings()[0].points == Rules().value(1, 1) + Rules().bonus(1, 0)
    assert referee.submission(person, number)["outcome"] == "SOLVED"
    assert fold(referee.store.events()).standings() == referee.fresh().standings()


def test_a_person_can_be_forgotten(referee: Referee) -> None:
    person = join(referee, "Red", "somebody@example.org")
    token, _ = referee.join(referee.invite("host", "Blue"), "other")
    referee.submit(person, "bh-000001", {"train.py": "# my secret\n"}, "k")
    assert person.team is not None
    referee.remove_team("host", person.team)
    assert [team.name for team in referee.fresh().teams.values()] == ["Blue"]
    assert referee.person(token)
    with referee.store.reading() as connection:
        left = str(connection.exec_driver_sql("SELECT * FROM token").all())
        files = str(connection.exec_driver_sql("SELECT files FROM submission").all())
    assert "somebody@example.org" not in left
    assert "secret" not in files
    assert referee.queue.claim("w") is None


def test_an_entry_that_was_changed_or_left_out_breaks_the_chain(referee: Referee) -> None:
    join(referee, "Red")
    assert referee.store.broken_link() is None
    with referee.store.writing() as connection:
        connection.exec_driver_sql("UPDATE audit SET who = 'nobody' WHERE seq = 2")
    assert referee.store.broken_link() == 2
