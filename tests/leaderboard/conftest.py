"""Databases to compete in: SQLite always, PostgreSQL where its programs are installed."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bughunt_leaderboard import clock
from bughunt_leaderboard.migrate import migrate
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.store import Store
from databases import fresh_database
from processes import wait_until

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
ROOT = os.geteuid() == 0
CHALLENGES = {
    "bh-000001": {"title": "One", "level": 1},
    "bh-000002": {"title": "Two", "level": 2},
}
HOUR = 3_600_000


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of its own, started for these tests."""
    if not BINARIES:
        pytest.skip("PostgreSQL is not installed")
    place = Path("/tmp") if ROOT else tmp_path_factory.getbasetemp()
    folder = Path(subprocess.check_output(["mktemp", "-d", "-p", str(place)], text=True).strip())
    as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if ROOT else []
    if ROOT:
        os.chown(folder, 65534, 65534)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, programs = folder / "data", BINARIES[-1]
    initialise = [str(programs / "initdb"), "-D", str(data), "-U", "bughunt", "-A", "trust", "-N"]
    subprocess.run([*as_user, *initialise], check=True, capture_output=True, cwd=folder)
    options = [
        "-D",
        str(data),
        "-p",
        str(port),
        "-k",
        str(folder),
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "fsync=off",
    ]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [*as_user, str(programs / "postgres"), *options], stdout=log, stderr=log, cwd=folder
        )
    try:
        ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        assert wait_until(lambda: subprocess.run(ready, check=False).returncode == 0)
        yield f"postgresql+psycopg://bughunt@127.0.0.1:{port}/"
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'board.db'}"
    return fresh_database(request.getfixturevalue("postgres"))


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    migrate(store)
    yield store
    store.close()


@pytest.fixture
def referee(store: Store) -> Referee:
    """A competition with a round that has begun."""
    referee = Referee(store)
    referee.create("Cup", "starter", CHALLENGES, Rules(quota=1000))
    now = clock.now()
    referee.set_round("host", "Round 1", now - HOUR, now + HOUR, list(CHALLENGES))
    return referee


@pytest.fixture
def put_forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Puts the clock that the referee looks at forward by so many milliseconds."""
    ahead, real = [0], clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + sum(ahead))
    return ahead.append
