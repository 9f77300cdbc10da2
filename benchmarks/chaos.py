"""Whether anything is lost or done twice while every kind of process is killed at random.

`python benchmarks/chaos.py [sqlite|postgresql] [SECONDS] [SUBMISSIONS] [SEED]`

Twenty teams send SUBMISSIONS (1000) files over HTTP to a competition whose judgements are cheap and whose
server, queue and workers are the real ones. For SECONDS (60) `kill -9` strikes the server, a worker, the
process of a judgement, the tailor and, of PostgreSQL, the first process or one of a connection. The server
and PostgreSQL are started again, as systemd would, and a team whose connection breaks sends again under the
same key. Then the killing stops and the queue drains. Exit status 1 unless each submission that was answered
is stored once and has one verdict, the right one, and the served board is a fold of a log without gaps.
"""

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy as sql
from bughunt_leaderboard import clock, view
from bughunt_leaderboard.board import fold
from bughunt_leaderboard.bundle import variant
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.queue import Queue
from bughunt_leaderboard.schema import JOBS
from bughunt_leaderboard.store import Store
from crowd import people, server
from crowd.postgres import Postgres

CHALLENGE = "bh-6016bb"
TEAMS, WORKERS, DRAIN = 20, 3, 600.0
SETTLED = 1.8  # CPU seconds after which a worker has begun to work
OUTCOMES = ("SOLVED", "UNFIXED", "PARTIAL", "ERROR")
WEIGHTS = {"judgement": 20, "worker": 2, "server": 1, "tailor": 1, "connection": 2, "postgres": 1}


class Arena:
    """The server with its workers, and the database, started again whenever they are gone."""

    def __init__(self, folder: Folder, postgres: Postgres | None) -> None:
        self.folder, self.postgres, self.port = folder, postgres, server.free_port()
        self.ending = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        self.host = self.start()
        keeper = threading.Thread(target=self.keep)
        keeper.start()
        try:
            yield
        finally:
            self.ending.set()
            keeper.join()
            self.host.terminate()
            self.host.wait(120)

    def start(self) -> "subprocess.Popen[bytes]":
        words = ["-m", "crowd.cheap", "host", str(self.folder.path), str(self.port), str(WORKERS)]
        with open(self.folder.path / "log", "ab") as log:
            return subprocess.Popen([sys.executable, *words], cwd=server.HERE, stdout=log, stderr=log)

    def keep(self) -> None:
        while not self.ending.wait(0.2):
            if self.postgres and self.postgres.process.poll() is not None:
                self.postgres.start()
            if self.host.poll() is not None:
                self.host = self.start()

    def victims(self) -> dict[str, list[int]]:
        """The processes of each kind that live now; what all stand on is spared until they are back."""
        below = {pid: _command(pid) for pid in _children(self.host.pid)}
        judges = [pid for pid, command in below.items() if "crowd.cheap" in command]
        workers = [pid for pid in judges if _spent(pid) > SETTLED]
        standing = bool(workers) and server.listens(self.port)
        found = {
            "server": [self.host.pid] if standing else [],
            "worker": workers,
            "judgement": [child for pid in workers for child in _children(pid)],
            "tailor": [pid for pid, command in below.items() if "tailor" in command],
        }
        if self.postgres:
            first = self.postgres.process.pid
            connections = [pid for pid in _children(first) if "bughunt" in _command(pid)]
            found |= {"postgres": [first] if standing else [], "connection": connections}
        return {kind: pids for kind, pids in found.items() if pids}


def _children(pid: int) -> list[int]:
    """Those that any of its threads has started."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _spent(pid: int) -> float:
    """CPU seconds that a process has used: starting takes a worker some."""
    try:
        return server.cpu_seconds(pid)
    except OSError:
        return 0.0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def kill_at_random(arena: Arena, draw: random.Random, seconds: float) -> Counter[str]:
    """Whom it struck, how often."""
    struck: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(draw.uniform(0.2, 1.0))
        if not (found := arena.victims()):
            continue
        kind = draw.choices(list(found), [WEIGHTS[kind] for kind in found])[0]
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(found[kind]), signal.SIGKILL)
            struck[kind] += 1
    return struck


def send(arena: Arena, token: str, number: int) -> tuple[int, str]:
    """The number that a submission was given, however often it took; and the verdict that it should get."""
    outcome = OUTCOMES[number % len(OUTCOMES)]
    program = {"train.py": f"# {outcome}\nx = {number}\n"}
    body = json.dumps({"challenge": CHALLENGE, "files": program})
    headers = {"authorization": f"Bearer {token}", "idempotency-key": f"key {number}",
               "content-type": "application/json"}  # fmt: skip
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", arena.port, timeout=20)
        try:
            connection.request("POST", "/api/v1/submissions", body, headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
            if answer.status == 202:
                return said["submission"], outcome
            if answer.status < 500:
                raise SystemExit(f"{answer.status}: {said}")
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            connection.close()
        time.sleep(0.3)


def crowd(arena: Arena, tokens: list[str], count: int, seconds: float) -> dict[int, str]:
    """All submissions, spread over the time of the killing: number -> the verdict that is due."""
    begun = time.monotonic()

    def one(number: int) -> tuple[int, str]:
        time.sleep(max(0.0, begun + seconds * number / count - time.monotonic()))
        return send(arena, tokens[number % TEAMS], number)

    with ThreadPoolExecutor(TEAMS) as pool:
        answered = list(pool.map(one, range(count)))
    if len(dict(answered)) != count:
        print(f"{count - len(dict(answered))} submissions got a number that another has")
    return dict(answered)


def drained(store: Store) -> float:
    """Seconds until nothing waits."""
    begun, queue = time.monotonic(), Queue(store)
    while queue.length() and time.monotonic() < begun + DRAIN:
        time.sleep(0.5)
    return time.monotonic() - begun


def complaints(store: Store, port: int, due: dict[int, str]) -> Iterator[str]:
    """What is wrong, if anything is."""
    events = store.events()
    received = Counter(one.payload["submission"] for one in events if one.kind is Kind.RECEIVED)
    given = [one.payload for one in events if one.kind is Kind.VERDICT]
    verdicts = Counter(one["submission"] for one in given)
    outcomes = {one["submission"]: one["outcome"] for one in given}
    for word, wrong in {
        "lost": due.keys() - received.keys(),
        "received that nobody was answered": received.keys() - due.keys(),
        "received twice": {number for number, times in received.items() if times > 1},
        "without a verdict": due.keys() - verdicts.keys(),
        "with more than one verdict": {number for number, times in verdicts.items() if times > 1},
        "with a verdict that is not due": {n for n, word in due.items() if outcomes.get(n, word) != word},
    }.items():
        if wrong:
            some = {number: outcomes.get(number) for number in sorted(wrong)[:5]}
            yield f"{len(wrong)} submissions {word}, such as {some}"
    if [one.seq for one in events] != list(range(1, len(events) + 1)):
        yield "the log has gaps"
    if (broken := store.broken_link()) is not None:
        yield f"the audit log's chain breaks at {broken}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/api/v1/board")
    served = json.loads(connection.getresponse().read())
    if served != json.loads(json.dumps(view.board(fold(events), clock.now()))):
        yield "the board that is served is not the fold of the log"


def main(kind: str, seconds: float, count: int, seed: int) -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        postgres = stack.enter_context(Postgres()) if kind == "postgresql" else None
        database = postgres.address().replace("://", "+psycopg://") if postgres else None
        made = server.competition(folder / "cup", database, CHALLENGE)
        store = Store(made.database)
        tokens = people.tokens(store, TEAMS)
        for team in range(1, TEAMS + 1):  # so that the workers have nothing to do but judge
            variant(made.challenges()[CHALLENGE], made, team)
        arena = Arena(made, postgres)
        print(f"{kind}, {count} submissions, seed {seed}; {server.load()}", flush=True)
        with arena.running(), ThreadPoolExecutor(1) as pool:
            server.wait_for(arena.port)
            send(arena, tokens[0], 0)
            drained(store)  # the workers are there
            sending = pool.submit(crowd, arena, tokens, count, seconds)
            struck = kill_at_random(arena, random.Random(seed), seconds)
            print("killed:", ", ".join(f"{n} x {kind}" for kind, n in struck.most_common()), flush=True)
            due = sending.result()
            took = drained(store)
            time.sleep(2)  # the server looks at the log five times a second
            wrong = list(complaints(store, arena.port, due))
        told = Counter(json.loads(entry["what"])["what"] for entry in store.audit_log())
        claims = _attempts(store)
        store.close()
    print(f"drained {took:.0f} s after the last was accepted; {claims - count} judgements begun anew")
    print(f"{told['job given back']} given back, {told['stale verdict refused']} stale verdicts refused")
    print(*wrong or [f"{len(due)} answered, {len(due)} verdicts: 0 lost, 0 doubled"], sep="\n")
    print(server.load())
    return bool(wrong)


def _attempts(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.execute(sql.select(sql.func.sum(JOBS.c.attempts))).scalar_one())


if __name__ == "__main__":
    kind, seconds, count, seed = [*sys.argv[1:], *["sqlite", "60", "1000", "1"][len(sys.argv) - 1 :]]
    sys.exit(main(kind, float(seconds), int(count), int(seed)))
