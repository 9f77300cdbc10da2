"""Servers of their own for a measurement: the competition as `bughunt host` serves it, and a bare endpoint.

`python -m crowd.server PORT FILE` serves the bytes of a file under /, with the same framework and no more.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.rules import Rules

from bughunt.bugsets import library
from bughunt.bugsets.challenge import BugSet
from bughunt.bugsets.write import toml

LIMITS = ("reads_address", "sends_address", "sends_token")  # the crowd shares an address
HERE = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


def competition(path: Path, database: str | None = None, *challenges: str) -> Folder:
    """The folder of a new one, with the starter set or some of its challenges."""
    bugset = part(path / "part", challenges) if challenges else library.find_set("starter")
    rules = Rules(quota=100_000, running=2)
    plan = Plan(data=path, bugset=bugset, name="Cup", minutes=600, teams={}, rules=rules, database=database)
    return prepare(plan)[0]


def part(folder: Path, challenges: Sequence[str]) -> BugSet:
    """A set of these challenges alone."""
    for one in challenges:
        shutil.copytree(library.find_challenge(one).folder, folder / one)
    about = {"title": "Part", "format_version": 1, "challenges": list(challenges)}
    (folder / "set.toml").write_text(toml(about), encoding="utf-8")
    return BugSet.load(folder)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def hosted(folder: Folder, *options: str, workers: int = 0) -> Iterator[tuple[int, int]]:
    """Port and process of `bughunt host` on a folder."""
    port = free_port()
    words = ["-m", "bughunt", "host", "--set", "starter", "--data", str(folder.path), "--port", str(port)]
    limits = [word for name in LIMITS for word in ("--limit", f"{name}=100000000")]
    with _running([*words, "--workers", str(workers), *limits, *options], port) as pid:
        yield port, pid


@contextlib.contextmanager
def bare(body: Path) -> Iterator[tuple[int, int]]:
    """Port and process of an endpoint that knows one answer."""
    port = free_port()
    with _running(["-m", "crowd.server", str(port), str(body)], port) as pid:
        yield port, pid


@contextlib.contextmanager
def _running(words: list[str], port: int) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, *words], cwd=HERE, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield process.pid
    finally:
        process.terminate()
        process.wait(120)


def wait_for(port: int, seconds: float = 60) -> None:
    """Until somebody listens there."""
    until = time.monotonic() + seconds
    while not listens(port):
        if time.monotonic() > until:
            raise SystemExit(f"nobody listens on port {port}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:13])) / TICKS


def load() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def main(port: int, body: bytes) -> None:
    import uvicorn
    from fastapi import FastAPI, Response

    app = FastAPI()

    @app.get("/")
    async def constant() -> Response:
        return Response(body, media_type="application/json")

    uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning")).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes())
