"""A rehearsal: simulated teams play a set on this machine, and what came of it is told.

Server, workers, queue and judge are those of `bughunt host`, in a folder of their own that is thrown away.
In the last minute every team sends one file: half of them a repair, a quarter the program as it was handed
out, a quarter a file that is not even Python.
"""

import ast
import json
import math
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bughunt.bugsets.challenge import Challenge
from bughunt.errors import LimitError, MachineError
from bughunt_leaderboard.bundle import cut, variant
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.people import Person
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.store import Store

PROMISE = 120.0  # seconds in which 95 % of a rush should have a verdict
SLOW_BOARD = 200.0  # milliseconds
PATIENCE = 3600.0  # seconds for all verdicts
LOOK = 0.25
BAD = "def train(:\n"
WRONG = {"repair": ("SOLVED",), "bad": ("ERROR",)}  # the verdicts that a file of each kind should get
BROKEN_GOT = ("SOLVED", "FLAGGED", "INFRA")  # and those that the broken program should not


@dataclass(frozen=True)
class Act:
    """What one team sends, and when in the last minute."""

    person: Person
    challenge: Challenge
    kind: str  # repair, broken, bad
    after: float  # seconds
    files: Mapping[str, str]
    token: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a rehearsal came to; times in seconds unless said."""

    teams: int
    workers: int
    cores: int  # of the machine
    wall: float
    cpu: float  # of all processes
    rush: float  # in which all was sent
    accepted: int
    refused: Mapping[str, int]  # what the server said -> how often
    verdicts: Mapping[str, int]
    latency_median: float
    latency_95: float
    a_minute: float  # verdicts
    judgement: float  # one, on average
    board_median: float  # milliseconds
    board_95: float
    surprises: Sequence[str]  # files that got a verdict which they should not

    def dump(self) -> dict[str, Any]:
        return {**asdict(self), "breaks": self.breaks()}

    def breaks(self) -> list[str]:
        """What would go wrong on the day, each with what to do."""
        found = [*self.surprises, *(f"{count} times: {said}" for said, count in self.refused.items())]
        if given_up := self.verdicts.get("INFRA", 0):
            found.append(f"{given_up} submissions were given up: `bughunt admin audit` would say why")
        if self.workers > self.cores:
            found.append(f"{self.workers} workers share {self.cores} cores; as many workers as cores is best")
        if self.latency_95 > PROMISE:
            needed = math.ceil(self.cpu / PROMISE)
            found.append(
                f"with {self.workers} workers a rush of {self.teams} needs {self.latency_95:.0f} s; "
                + (
                    f"for {PROMISE:.0f} s run {needed} workers on as many cores"
                    if needed > self.workers
                    else "something else ran here: rehearse again when nothing does"
                )
            )
        if self.board_95 > SLOW_BOARD:
            found.append(
                f"the board takes {self.board_95:.0f} ms under load: keep a core free for the server"
            )
        return found

    def lines(self) -> list[str]:
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.verdicts.items()))
        breaks = self.breaks()
        return [
            f"{self.teams} teams sent {self.accepted} files in {self.rush:.0f} s: {told}",
            f"  verdicts     half within {self.latency_median:.0f} s, 95 % within {self.latency_95:.0f} s, "
            f"{self.a_minute:.1f} a minute",
            f"  machine      {self.cpu / self.wall:.1f} of {self.cores} cores, {self.cpu:.0f} CPU s, "
            f"{self.workers} workers, {self.judgement:.1f} s a judgement",
            f"  board        half of the reads within {self.board_median:.0f} ms, 95 % within "
            f"{self.board_95:.0f} ms",
            *(["What would break:", *(f"  {one}" for one in breaks)] if breaks else ["Nothing would break."]),
        ]


def rehearse(plan: Plan, teams: int, judges: Sequence[str], workers: int, rush: float = 60.0) -> Report:
    """Play it; `judges` are the options of `bughunt host` that say who judges. LimitError where it hangs."""
    with TemporaryDirectory(prefix="bughunt-rehearsal-") as data:
        names = {f"Team {number}": "" for number in range(1, teams + 1)}
        tried = replace(plan, data=Path(data) / "cup", database=None, teams=names)
        folder, invites = prepare(tried)
        store = Store(folder.database)
        try:
            referee = Referee(store)
            acts = list(_acts(referee, folder, invites, rush))
            return _played(folder, referee, acts, judges, workers, rush)
        finally:
            store.close()


def _acts(referee: Referee, folder: Folder, invites: Mapping[str, str], rush: float) -> Iterator[Act]:
    draw, challenges = random.Random(0), list(folder.challenges().values())
    for number, invite in enumerate(invites.values()):
        token, person = referee.join(invite, "somebody")
        challenge = challenges[number % len(challenges)]
        kind = ("repair", "broken", "repair", "bad")[number % 4]
        assert person.team is not None
        files = _files(kind, challenge, folder, person.team)
        yield Act(person, challenge, kind, rush * draw.random(), files, token)


def _files(kind: str, challenge: Challenge, folder: Folder, team: int) -> Mapping[str, str]:
    handed_out = variant(challenge, folder, team)
    if kind == "broken":
        return handed_out
    if kind == "bad":
        return {**handed_out, "train.py": BAD}
    repaired = cut(challenge, folder, team).repaired
    return {path: ast.unparse(ast.parse(text)) + "\n" for path, text in repaired.items()}


def _played(
    folder: Folder, referee: Referee, acts: Sequence[Act], judges: Sequence[str], workers: int, rush: float
) -> Report:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    with _served(folder, judges) as url:
        ending, reads, refused = threading.Event(), list[float](), Counter[str]()
        reader = threading.Thread(target=_read, args=(url, ending, reads), daemon=True)
        senders = [threading.Thread(target=_send, args=(url, act, refused), daemon=True) for act in acts]
        for thread in (reader, *senders):
            thread.start()
        for thread in senders:
            thread.join()
        _wait(referee)
        ending.set()
        reader.join()
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _report(referee, acts, refused, reads, workers, rush, wall, spent)


@contextmanager
def _served(folder: Folder, judges: Sequence[str]) -> Iterator[str]:
    """The address of `bughunt host` on this folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--set", folder.set_folder, "--data", str(folder.path), "--port", str(port), *judges]
    command = [sys.executable, "-m", "bughunt", "host", *words]
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        url = f"http://127.0.0.1:{port}"
        while _ask(f"{url}/healthz")[0] != 200:
            if server.poll() is not None:
                _, said = server.communicate()
                raise MachineError(f"the server did not start: {said.strip()}", "")
            time.sleep(LOOK)
        yield url
    finally:
        server.terminate()
        server.communicate()


def _ask(url: str, token: str = "", body: Any = None) -> tuple[int, Any]:
    """Status and JSON of one answer; nought where there was none."""
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None)
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError as error:
        return 0, {"message": str(error)}


def _send(url: str, act: Act, refused: Counter[str]) -> None:
    time.sleep(act.after)
    body = {"challenge": act.challenge.id, "files": act.files}
    status, said = _ask(f"{url}/api/v1/submissions", act.token, body)
    if status != 202:
        refused[str(said.get("message", status))] += 1


def _read(url: str, ending: threading.Event, reads: list[float]) -> None:
    """Look at the board now and then; milliseconds of each."""
    while not ending.wait(LOOK):
        begun = time.perf_counter()
        _ask(f"{url}/api/v1/board")
        reads.append(1000 * (time.perf_counter() - begun))


def _wait(referee: Referee) -> None:
    until = time.monotonic() + PATIENCE
    while referee.queue.length():
        if time.monotonic() > until:
            raise LimitError(f"the queue is not empty after {PATIENCE:.0f} s", "see --workers and --tier")
        time.sleep(LOOK)


def _report(
    referee: Referee, acts: Sequence[Act], refused: Mapping[str, int], reads: Sequence[float], workers: int,
    rush: float, wall: float, cpu: float,
) -> Report:  # fmt: skip
    state, events = referee.fresh(), referee.store.events()
    received = {e.payload["submission"]: e.at for e in events if e.kind is Kind.RECEIVED}
    ended = {e.payload["submission"]: e.at for e in events if e.kind is Kind.VERDICT}
    waited = sorted((ended[number] - at) / 1000 for number, at in received.items())
    by_team = {act.person.team: act for act in acts}
    surprises, busy = [], []
    for number, one in state.submissions.items():
        act = by_team[one.team]
        said = referee.submission(act.person, number)["verdict"]
        busy.append(said.get("seconds", 0.0))
        if _wrong(act.kind, one.outcome):
            surprises.append(f"{one.challenge}: {_NAMED[act.kind]} is judged {one.outcome}")
    span = (max(ended.values(), default=1) - min(received.values(), default=0)) / 60_000
    return Report(
        teams=len(acts), workers=workers, cores=os.cpu_count() or 1, wall=wall, cpu=cpu, rush=rush,
        accepted=len(received), refused=dict(refused),
        verdicts=Counter(one.outcome for one in state.submissions.values()),
        latency_median=_quantile(waited, 0.5), latency_95=_quantile(waited, 0.95),
        a_minute=len(ended) / span, judgement=statistics.fmean(busy or [0.0]),
        board_median=_quantile(reads, 0.5), board_95=_quantile(reads, 0.95), surprises=surprises,
    )  # fmt: skip


_NAMED = {"repair": "the known repair", "broken": "the broken program", "bad": "a file that is not Python"}


def _wrong(kind: str, outcome: str) -> bool:
    return outcome in BROKEN_GOT if kind == "broken" else outcome not in (*WRONG[kind], "INFRA")


def _quantile(values: Sequence[float], share: float) -> float:
    """The value that this share does not exceed; nought of none."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else 0.0
