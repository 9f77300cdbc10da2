"""What goes wrong on the day: each with one clear answer, and nothing lost or counted twice."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sql
from bughunt_leaderboard import clock
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.refusals import RefusedError, UnknownError
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.worker import Worker
from databases import fresh_database
from processes import wait_until
from serving import CHALLENGE, Server, serving
from small import small_set
from teams import join

from bughunt.errors import MachineError

PROGRAM = {"train.py": "x = 1\n"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "cup") as server:
        yield server


def send(client: httpx.Client, key: str) -> httpx.Response:
    body = {"challenge": CHALLENGE, "files": PROGRAM}
    return client.post("/api/v1/submissions", json=body, headers={"idempotency-key": key})


@pytest.mark.parametrize(
    ("after", "ranked"), [(-1, True), (0, False), (1, False)], ids=["before", "at", "after"]
)
def test_one_millisecond_decides_at_the_end(
    referee: Referee, monkeypatch: pytest.MonkeyPatch, after: int, ranked: bool
) -> None:
    person, end = join(referee, "Red"), referee.fresh().rounds["Round 1"].end
    monkeypatch.setattr(clock, "now", lambda: end + after)
    number = referee.submit(person, "bh-000001", PROGRAM, "k")
    assert referee.fresh().submissions[number].ranked is ranked


def test_a_team_with_more_time_is_ranked_until_its_own_end(
    referee: Referee, monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue = join(referee, "Red"), join(referee, "Blue")
    referee.extend("host", red.team or 0, 5)
    end = referee.fresh().rounds["Round 1"].end
    monkeypatch.setattr(clock, "now", lambda: end + 299_999)
    numbers = [referee.submit(one, "bh-000001", PROGRAM, "k") for one in (red, blue)]
    monkeypatch.setattr(clock, "now", lambda: end + 300_000)
    numbers.append(referee.submit(red, "bh-000001", PROGRAM, "late"))
    assert [referee.fresh().submissions[n].ranked for n in numbers] == [True, False, False]


def test_without_practice_the_end_is_the_end(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    referee = Referee(store)
    referee.create("Cup", "s", {"bh-000001": {"title": "One", "level": 1}}, Rules(practice=False))
    now = clock.now()
    referee.set_round("host", "1", now - 1000, now + 60_000, ["bh-000001"])
    person = join(referee, "Red")
    monkeypatch.setattr(clock, "now", lambda: now + 60_000)
    with pytest.raises(RefusedError, match="the round is over"):
        referee.submit(person, "bh-000001", PROGRAM, "k")
    assert referee.queue.length() == 0


def test_an_invite_is_good_until_its_last_millisecond(
    referee: Referee, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    invites = [referee.invite("host", name, hours=1) for name in ("Red", "Blue")]
    monkeypatch.setattr(clock, "now", lambda: now + 3_600_000 - 1)
    assert referee.join(invites[0], "ada")[1].role == "captain"
    monkeypatch.setattr(clock, "now", lambda: now + 3_600_000)
    with pytest.raises(UnknownError, match="not valid"):
        referee.join(invites[1], "bob")


def test_an_invite_that_is_used_up_says_so_over_http(server: Server) -> None:
    invite = server.referee.invite("host", "Grey", uses=1)
    with server.client() as client:
        answers = [
            client.post("/api/v1/join", json={"invite": invite, "name": name}) for name in ("ada", "eve")
        ]
    assert [one.status_code for one in answers] == [201, 404]
    assert answers[1].json()["remedy"] == "ask the host for another"


def test_what_is_sent_malformed_is_refused_and_nothing_is_kept(server: Server) -> None:
    client, _ = server.join("Red")
    deep = b'{"challenge": ' + b"[" * 50_000 + b"]" * 50_000 + b', "files": {}}'
    bodies = [
        b"", b"{", b"null", b"[1]", b'{"challenge": 1, "files": 2}', deep, b"\xff\xfe",
        json.dumps({"challenge": CHALLENGE, "files": {"train.py": 5}}).encode(),
        json.dumps({"challenge": CHALLENGE, "files": {"train.py": "\0"}}).encode(),
        json.dumps({"challenge": CHALLENGE, "files": {"../train.py": ""}}).encode(),
        b'{"challenge": "\\ud800", "files": {"train.py": ""}}', b'{"challenge": ["\\ud800"], "files": {}}',
        b'{"challenge": "' + CHALLENGE.encode() + b'", "files": {"train.py": "\\ud800"}}',
        json.dumps({"challenge": CHALLENGE, "files": {f"m{n}.py": "" for n in range(20)}}).encode(),
    ]  # fmt: skip
    head = {"content-type": "application/json"}
    answers = [client.post("/api/v1/submissions", content=body, headers=head) for body in bodies]
    assert {one.status_code for one in answers} <= {400, 413, 422}
    assert all(one.json().keys() == {"code", "message", "remedy"} for one in answers)
    assert server.referee.queue.length() == 0


def test_a_giant_upload_is_refused_however_it_is_sent(server: Server) -> None:
    client, _ = server.join("Red")

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 50_000  # without saying how much will come

    with contextlib.suppress(httpx.WriteError):  # the door was shut while we were still speaking
        assert client.post("/api/v1/submissions", content=endless()).status_code == 413
    with contextlib.suppress(httpx.WriteError):
        whole = {"files": ("train.py", b"x" * 2_000_000, "text/x-python")}
        assert client.post(f"/challenge/{CHALLENGE}", files=whole).status_code == 413
    form = {"files": ("train.py", b"\xff\xfe\x00", "text/x-python")}
    assert client.post(f"/challenge/{CHALLENGE}", files=form).status_code == 422
    assert server.referee.queue.length() == 0


def test_a_full_disk_accepts_nothing_says_so_and_goes_on_when_there_is_room(server: Server) -> None:
    client, _ = server.join("Red")
    assert send(client, "before").status_code == 202
    arena = server.referee.store  # the server has an engine of its own on the same file
    with arena.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    served = server.app.state.arena.store.engine
    served.dispose()

    def limit(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    sql.event.listen(served, "connect", limit)
    answers = [send(client, f"full {n}") for n in range(40)]
    refused = [one for one in answers if one.status_code != 202]
    assert refused
    assert {one.status_code for one in refused} == {503}
    assert refused[0].json()["message"] == "the host's machine fails: its disk is full"
    sql.event.remove(served, "connect", limit)
    served.dispose()
    assert send(client, "after").status_code == 202
    kept = 1 + len(answers) - len(refused) + 1
    state = server.referee.fresh()
    assert len(state.submissions) == server.referee.queue.length() == kept


@pytest.mark.postgres
def test_a_lost_database_is_told_and_found_again(tmp_path: Path, postgres: str) -> None:
    database = fresh_database(postgres)
    name = database.rpartition("/")[2]
    with serving(tmp_path / "cup", database=database) as server:
        client, _ = server.join("Red")
        assert send(client, "before").status_code == 202
        admin = postgres.replace("+psycopg", "") + "postgres"
        with psycopg.connect(admin, autocommit=True) as desk:
            drop = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            desk.execute(drop)
            assert send(client, "connections were cut").status_code == 202
            desk.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            desk.execute(drop)
            lost = send(client, "away")
            assert lost.status_code == 503
            assert lost.json()["message"] == "the host's machine fails: its database does not answer"
            assert name not in lost.text
            assert client.get("/healthz").status_code == 503
            assert client.get("/api/v1/board").status_code in (200, 503)
            desk.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert send(client, "away").status_code == 202
        assert send(client, "before").json()["submission"] == 1
        assert len(server.referee.fresh().submissions) == 3


def test_a_worker_of_another_version_says_so_and_judges_nothing(tmp_path: Path) -> None:
    bugset = small_set(tmp_path / "small")
    plan = Plan(data=tmp_path / "cup", bugset=bugset, name="Cup", minutes=60, teams={}, rules=Rules())
    folder, _ = prepare(plan)
    settings = folder.path / "competition.json"
    told = json.loads(settings.read_text())
    settings.write_text(json.dumps({**told, "version": "0.0.9"}))
    with pytest.raises(MachineError, match=r"the competition is run by 0\.0\.9"):
        Worker(folder, lambda: pytest.fail("no bench is needed"))
    for command in (
        ["-m", "bughunt_leaderboard.worker", str(folder.path), "S0"],
        ["-m", "bughunt", "admin", "--data", str(folder.path), "work", "--tier", "S0"],
    ):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        assert done.returncode
        assert "the competition is run by 0.0.9" in done.stderr
        assert "Traceback" not in done.stderr
    prepare(plan)  # a host of this version takes it over
    folder.check_version()


def test_a_worker_whose_database_fails_waits_until_it_does_not(tmp_path: Path) -> None:
    from contextlib import nullcontext
    from threading import Thread

    bugset = small_set(tmp_path / "small")
    plan = Plan(
        data=tmp_path / "cup", bugset=bugset, name="Cup", minutes=60, teams={"Red": ""}, rules=Rules()
    )
    folder, invites = prepare(plan)
    worker = Worker(folder, lambda: nullcontext(Yes()))
    with worker.store.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE job RENAME TO gone")
    thread = Thread(target=worker.run)
    thread.start()
    time.sleep(1)
    assert thread.is_alive()
    with worker.store.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO job")
    referee = Referee(worker.store)
    number = referee.submit(referee.join(invites["Red"], "ada")[1], CHALLENGE, PROGRAM, "k")
    wait_until(lambda: referee.fresh().submissions[number].outcome)
    worker.stop()
    thread.join(30)
    assert referee.fresh().submissions[number].outcome == "UNFIXED"


class Yes:
    """A bench that answers at once."""

    def judged(self, _one: object, _tell: object) -> dict[str, Any]:
        return {"outcome": "UNFIXED", "score": 0.0}
