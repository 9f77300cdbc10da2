"""A competition as people hold it: one command hosts, others join and send, workers die."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.store import Store
from processes import wait_until

from bughunt import references
from bughunt.bugsets import library

pytestmark = pytest.mark.slow
CHALLENGE = "bh-6016bb"


@dataclass
class Hosted:
    process: subprocess.Popen[str]
    folder: Path
    url: str
    invites: dict[str, str]
    home: Path

    def bughunt(self, team: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bughunt", "--workspace", str(self.home / team), *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=self.home, check=False
        )

    def admin(self, *words: str) -> str:
        done = self.bughunt("Red", "admin", "--data", str(self.folder), *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def workers(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in found if b"bughunt_leaderboard.worker" in _command(pid)]


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[Hosted]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "cup"
    words = ["host", "--set", "starter", "--data", str(folder), "--port", str(port), "--workers", "1",
             "--team", "Red", "--team", "Blue", "--tier", "S0"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bughunt", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, cwd=tmp_path,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        invites = dict(re.findall(r"^  (\w+) +bughunt join \S+ (\S+)$", "".join(lines), re.MULTILINE))
        yield Hosted(process, folder, url, invites, tmp_path)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _wait_for(url: str, process: subprocess.Popen[str]) -> None:
    def answers() -> bool:
        assert process.poll() is None, process.communicate()[1]
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return True
        except OSError:
            return False

    assert wait_until(answers), url


def test_a_team_joins_sends_a_wrong_and_a_right_file_and_is_on_the_board(hosted: Hosted) -> None:
    joined = hosted.bughunt("Red", "join", hosted.url, hosted.invites["Red"], "--name", "ada")
    assert joined.returncode == 0, joined.stderr
    assert "You are ada of team Red" in joined.stdout
    assert "✓ practice   sent, judged and answered" in joined.stdout
    assert hosted.bughunt("Red", "goto", CHALLENGE).returncode == 0
    alone = hosted.bughunt("Red", "check")
    assert (alone.returncode, "the host has that" in alone.stderr) == (2, True)
    wrong = hosted.bughunt("Red", "submit")
    assert (wrong.returncode, "Not yet" in wrong.stdout) == (1, True), wrong.stderr
    program = hosted.home / "Red" / CHALLENGE / "train.py"
    text, challenge = program.read_text(), library.find_challenge(CHALLENGE)
    program.write_text(references.load(challenge.reference).files["train.py"])
    copied = hosted.bughunt("Red", "submit")
    assert "A person looks at this one" in copied.stdout, copied.stderr
    assert text.count(".argmax(1)") == 1
    program.write_text(text.replace(".argmax(1)", ".argmin(1)"))
    right = hosted.bughunt("Red", "submit")
    assert (right.returncode, "Solved." in right.stdout) == (0, True), right.stderr
    board = hosted.bughunt("Red", "board").stdout
    assert re.search(r"^ +1 +105 +1\d +1 +Red$", board, re.MULTILINE)
    assert "solved" in hosted.bughunt("Red", "list").stdout


def test_a_worker_that_is_killed_while_it_judges_costs_nothing(hosted: Hosted) -> None:
    hosted.bughunt("Red", "join", hosted.url, hosted.invites["Red"], "--no-practice")
    referee = Referee(Store(Folder.load(hosted.folder).database))
    person = referee.person(_token(hosted.home / "Red"))
    program = library.find_challenge(CHALLENGE).program()
    number = referee.submit(person, CHALLENGE, program, "k")
    assert wait_until(lambda: referee.queue.place(number)[0] == "leased")
    (first,) = hosted.workers()
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: referee.fresh().submissions[number].outcome, 200)
    verdicts = [event for event in referee.store.events() if event.kind is Kind.VERDICT]
    assert len(verdicts) == 1  # by the hidden seed one of its tests passes now and then
    assert verdicts[0].payload["outcome"] in ("UNFIXED", "PARTIAL")
    assert hosted.workers() != [first]
    referee.store.close()


def test_officials_rule_by_commands_and_each_is_in_the_audit_log(hosted: Hosted) -> None:
    invite = hosted.admin("invite", "Green", "--division", "students").strip()
    assert hosted.bughunt("Green", "join", hosted.url, invite, "--no-practice").returncode == 0
    hosted.admin("extend", "1", "5")
    for word in ("pause", "resume", "freeze", "unfreeze"):
        hosted.admin(word)
    hosted.admin("round", "Round 1", "--minutes", "90")
    archive = hosted.home / "cup.tar.gz"
    hosted.admin("backup", str(archive))
    assert archive.stat().st_mode & 0o77 == 0
    log = hosted.admin("audit")
    assert "the chain is whole" in log
    for word in ("invited", "extended", "paused", "resumed", "frozen", "unfrozen", "round"):
        assert word in log


def _token(workspace: Path) -> str:
    import json

    found: str = json.loads((workspace / ".bughunt" / "competition.json").read_text())["token"]
    return found
