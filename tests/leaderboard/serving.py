"""A real server on a port of its own, in a thread, and people who talk to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from bughunt_leaderboard.app import make_app
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.limits import Limits
from bughunt_leaderboard.people import Person
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.store import Store
from fastapi import FastAPI
from processes import wait_until

from bughunt.bugsets import library

CHALLENGE = "bh-6016bb"


@dataclass
class Server:
    """A competition that is served; `referee` is its officials' desk."""

    url: str
    folder: Folder
    referee: Referee
    invites: dict[str, str]
    app: FastAPI
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, token: str = "") -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.clients.append(httpx.Client(base_url=self.url, headers=headers, timeout=30))
        return self.clients[-1]

    def join(self, team: str, name: str = "ada") -> tuple[httpx.Client, int]:
        with self.client() as client:
            given = client.post("/api/v1/join", json={"invite": self.invites[team], "name": name}).json()
        return self.client(given["token"]), given["team"]

    def judge(self, outcome: str = "SOLVED") -> int:
        """Give the oldest waiting submission a verdict."""
        lease = self.referee.queue.claim("test")
        assert lease is not None
        self.referee.queue.finish(lease, outcome, {"outcome": outcome, "score": 100.0, "changed": 1})
        return lease.submission

    def caught_up(self, client: httpx.Client) -> None:
        """Wait until the server has seen the newest event."""
        assert wait_until(lambda: client.get("/healthz").json()["seq"] >= self.referee.store.last())


@contextmanager
def serving(
    folder: Path, *, database: str | None = None, rules: Rules | None = None, limits: Limits | None = None
) -> Iterator[Server]:
    plan = Plan(
        data=folder, bugset=library.find_set("starter"), name="Cup", minutes=60, database=database,
        teams={"Red": "", "Blue": "students"}, rules=rules or Rules(quota=1000),
    )  # fmt: skip
    made, invites = prepare(plan)
    app = make_app(made, limits)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    store = Store(made.database)
    try:
        served = Server(f"http://127.0.0.1:{port}", made, Referee(store), invites, app)
        yield served
    finally:
        for client in served.clients:
            client.close()
        server.should_exit = server.force_exit = True
        thread.join(20)
        app.state.arena.store.close()  # which a forced exit leaves open
        store.close()


def official(server: Server, role: str) -> tuple[httpx.Client, Person]:
    token = server.referee.grant("host", role, role)
    return server.client(token), server.referee.person(token)


def next_events(lines: Iterator[str], count: int) -> list[dict[str, str]]:
    """The next server-sent events of a stream."""
    found: list[dict[str, str]] = []
    one: dict[str, str] = {}
    for line in lines:
        if not line and one.get("event"):
            found.append(one)
            one = {}
            if len(found) == count:
                return found
        elif ":" in line:
            key, _, value = line.partition(": ")
            one[key] = value
    return found
