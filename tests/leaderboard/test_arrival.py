"""Who has joined learns whether the machine fits the host's, and sends a file that never counts."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.pool import Pool, tailor
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.warmup import WARM_UP, warm_up
from processes import wait_until
from serving import Server, serving
from small import CHALLENGE, small_set

import bughunt.play.arrival as arrival
from bughunt.play.remote import Remote, install


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "cup") as server:
        yield server


@pytest.fixture
def remote(server: Server) -> Remote:
    invited = Remote(server.url)
    joined = invited.ask("join", {"invite": server.invites["Red"], "name": "ada"})
    return Remote(server.url, joined["token"])


def judged_soon(server: Server, outcome: str) -> threading.Thread:
    """Give the next submission a verdict, once it is there."""

    def judge() -> None:
        wait_until(server.referee.queue.length)
        server.judge(outcome)

    thread = threading.Thread(target=judge)
    thread.start()
    return thread


def test_a_practice_file_that_is_judged_says_that_the_way_is_clear(server: Server, remote: Remote) -> None:
    judging = judged_soon(server, "UNFIXED")
    tried = arrival.practice(remote)
    judging.join()
    assert (tried.ok, tried.found.startswith("sent, judged and answered")) == (True, True)


def test_a_practice_file_never_counts_and_closes_no_team(server: Server, remote: Remote) -> None:
    number = remote.ask("submissions", remote.ask("warm-up"))["submission"]
    server.judge("SOLVED")
    state = server.referee.fresh()
    assert state.submissions[number].ranked is False
    assert [(row.points, row.penalty, row.cells) for row in state.standings()] == [(0, 0, {})]
    assert WARM_UP not in state.levels
    another = Remote(server.url).ask("join", {"invite": server.invites["Red"], "name": "bob"})
    assert another["role"] == "member"
    client, _ = server.join("Blue")
    server.caught_up(client)
    assert client.get("/api/v1/feed").json() == []
    red = server.client(remote.token)
    assert WARM_UP not in red.get("/team/1", headers={"accept": "text/html"}).text


def test_before_the_round_begins_the_warm_up_is_all_that_can_be_sent(server: Server, remote: Remote) -> None:
    from bughunt_leaderboard import clock

    later, end = clock.now() + 3_600_000, clock.now() + 7_200_000
    server.referee.set_round("host", "Round 1", later, end, list(server.referee.fresh().levels))
    assert remote.ask("bundle")["challenges"] == []
    assert remote.ask("submissions", remote.ask("warm-up"))["before"] == 0


def test_without_a_judge_one_line_says_what_to_do(server: Server, remote: Remote) -> None:
    assert server.referee.queue.length() == 0
    tried = arrival.practice(remote, patience=0.2)
    assert not tried.ok
    assert "no verdict" in tried.found
    assert tried.remedy.startswith("tell the host that no judge answers")


def test_behind_a_long_queue_nobody_is_alarmed(server: Server, remote: Remote) -> None:
    server.join("Blue")[0].post(
        "/api/v1/submissions", json={"challenge": "bh-6016bb", "files": {"train.py": "x = 1\n"}}
    )
    tried = arrival.practice(remote, patience=0.2)
    assert (tried.ok, "1 before it" in tried.found) == (True, True)


def test_a_judge_that_fails_is_the_hosts_to_know(server: Server, remote: Remote) -> None:
    judging = judged_soon(server, "INFRA")
    tried = arrival.practice(remote)
    judging.join()
    assert (tried.ok, tried.remedy) == (False, "tell the host this line")


def test_a_machine_like_the_hosts_fits_in_every_line(server: Server, remote: Remote, tmp_path: Path) -> None:
    one = server.referee.fresh().rounds["Round 1"]
    server.referee.set_round("host", one.name, one.start, one.end, ["bh-6016bb", "bh-fa78f9"])
    install(remote.ask("bundle"), tmp_path / "joined")
    found = {one.name: one for one in arrival.checks(remote, tmp_path / "joined")}
    assert list(found) == ["bughunt", "torch", "set", "sandbox", "clock"]
    assert {name: one.remedy for name, one in found.items() if not one.ok} == {}
    assert found["set"].found == "2 challenges"


def test_another_version_and_a_wrong_clock_are_told_with_what_to_do(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(arrival, "__version__", "0.0.9")
    monkeypatch.setattr(arrival.time, "time", lambda: real() + 60)
    found = {one.name: one for one in arrival.checks(remote, tmp_path)}
    assert found["bughunt"].found.startswith("0.0.9, the host has ")
    assert found["clock"].found == "60.0 s ahead of the host's"
    assert [name for name, one in found.items() if not one.ok] == ["bughunt", "clock"]


def test_the_warm_up_comes_with_bughunt_whatever_set_is_played() -> None:
    assert warm_up().program()["train.py"]


def test_the_texts_of_the_invited_are_made_before_they_ask(tmp_path: Path) -> None:
    plan = Plan(
        data=tmp_path / "cup", bugset=small_set(tmp_path / "small"), name="Cup", minutes=60,
        teams={"Red": "", "Blue": ""}, rules=Rules(),
    )  # fmt: skip
    folder, _ = prepare(plan)
    with Pool(tailor(folder.path)):
        assert wait_until(lambda: len(list(folder.path.glob("variants/*/*.json"))) >= 4)
    made = {path.relative_to(folder.path / "variants") for path in folder.path.glob("variants/*/*.json")}
    assert {str(path) for path in made} == {f"{n}/{id_}.json" for n in (1, 2) for id_ in (CHALLENGE, WARM_UP)}
