"""Limits let a rush through and stop a flood, and say when to come again."""

import json
import logging
import sys
from pathlib import Path

import pytest
from bughunt_leaderboard.limits import Limits, Meter
from bughunt_leaderboard.logs import FILE, NAMES, Lines, log_to
from processes import wait_until
from serving import CHALLENGE, Server, serving

LOW = Limits(reads_address=60, reads_token=30, sends_address=20, sends_token=5, attempts_address=3)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_may_come_at_once_and_then_as_fast_as_the_bucket_fills() -> None:
    clock = Clock()
    meter = Meter(LOW, clock)
    assert [meter.take("sends_address", "a") for _ in range(20)] == [0.0] * 20
    assert meter.take("sends_address", "a") == pytest.approx(3.0)
    clock.now += 3.0
    assert meter.take("sends_address", "a") == 0.0
    assert meter.take("sends_address", "a") > 0.0
    clock.now += 3600
    assert [meter.take("sends_address", "a") for _ in range(21)].count(0.0) == 20


def test_one_who_floods_stops_nobody_else() -> None:
    meter = Meter(LOW, Clock())
    while not meter.take("reads_address", "a"):
        pass
    assert meter.take("reads_address", "b") == 0.0
    assert meter.take("sends_address", "a") == 0.0


def test_those_who_have_long_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bughunt_leaderboard.limits.MANY", 100)
    clock = Clock()
    meter = Meter(LOW, clock)
    for number in range(1000):
        meter.take("reads_address", str(number))
        clock.now += 1
    assert len(meter.levels) <= 101


@pytest.mark.parametrize(
    "given", [{"reads": 5}, {"reads_token": 0}, {"reads_token": "x"}, {"sends_token": True}]
)
def test_a_limit_that_there_is_not_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no limit|a number"):
        Limits.load(given)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> "Server":
    with serving(tmp_path_factory.mktemp("low") / "cup", limits=LOW) as server:
        yield server


def test_too_many_sends_with_one_token_wait_and_the_other_team_does_not(server: Server) -> None:
    red, blue = server.join("Red")[0], server.join("Blue")[0]
    body = {"challenge": CHALLENGE, "files": {"train.py": "x = 1\n"}}
    answers = [red.post("/api/v1/submissions", json=body) for _ in range(7)]
    assert [one.status_code for one in answers[:5]] == [202] * 5
    assert answers[-1].status_code == 429
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 12
    assert answers[-1].json()["code"] == "too-many"
    assert blue.post("/api/v1/submissions", json=body).status_code == 202
    assert "bughunt_refused_by_limit_total 0" not in blue.get("/metrics").text


def test_requests_are_logged_without_their_tokens(tmp_path: Path, server: Server) -> None:
    log_to(tmp_path)
    token = server.referee.grant("host", "observer", "Otto")
    with server.client(token) as client:
        client.get("/api/v1/competition")
    file = tmp_path / FILE
    assert wait_until(lambda: file.exists() and "competition" in file.read_text())  # the answer goes first
    lines = file.read_text().splitlines()
    told = [json.loads(line) for line in lines]
    (one,) = [line for line in told if line.get("path") == "/api/v1/competition"]
    assert (one["method"], one["status"], one["address"]) == ("GET", 200, "127.0.0.1")
    assert one["ms"] >= 0
    assert token not in "".join(lines)
    for name in NAMES:
        for handler in logging.getLogger(name).handlers[-1:]:
            handler.close()
            logging.getLogger(name).removeHandler(handler)


def test_who_guesses_tokens_is_shut_out_and_who_has_one_is_not(server: Server) -> None:
    token = server.referee.grant("host", "observer", "Olga")
    with server.client(token) as known:
        assert known.get("/api/v1/me").status_code == 200
        statuses = []
        for number in range(5):
            with server.client(f"guess {number}") as stranger:
                answer = stranger.get("/api/v1/me")
                statuses.append(answer.status_code)
        assert statuses == [401, 401, 401, 429, 429]
        assert int(answer.headers["retry-after"]) >= 1
        assert known.get("/api/v1/me").status_code == 200
    with server.client("guess 0") as again:  # the same wrong token is no further guess
        assert again.get("/api/v1/me").status_code == 401


def test_a_line_of_the_log_is_json_whatever_is_in_it() -> None:
    formatter = Lines()
    try:
        raise ValueError("line\nbreak \x1b[31m")
    except ValueError:
        error = sys.exc_info()
    for message in ({"path": "/\n\x1b[2J", "status": 404}, "plain %s"):
        record = logging.LogRecord("n", logging.ERROR, "f", 1, message, ("text",), error)
        if isinstance(message, dict):
            record.args = None
        line = formatter.format(record)
        assert "\n" not in line
        assert "\x1b" not in line
        told = json.loads(line)
        assert told["level"] == "error"
        assert "ValueError" in told["error"]
