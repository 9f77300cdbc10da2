"""How many submissions a second are accepted over HTTP, each on the disk before it is answered.

`python benchmarks/accepts.py [SECONDS] [DATABASE]`

Twenty teams send programs of 4 kB on twenty connections for SECONDS (10), to SQLite unless a database's
address is given. Exit status 1 below 80 a second, or if what was answered is not what is stored.
"""

import asyncio
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sql
from bughunt_leaderboard.schema import SUBMISSIONS
from bughunt_leaderboard.store import Store
from crowd import client, people, server

TEAMS, LEAST = 20, 80.0
FILLING = "# " + "x" * 4000 + "\n"


async def send(port: int, token: str, challenge: str, seconds: float, taken: list[float]) -> None:
    """One program after another, each other than the one before."""
    streams = await asyncio.open_connection("127.0.0.1", port)
    begun = time.perf_counter()
    for number in itertools.count():
        if time.perf_counter() > begun + seconds:
            break
        program = {"train.py": f"{FILLING}x = {number}  # {token[:8]}\n"}
        body = json.dumps({"challenge": challenge, "files": program}).encode()
        asked = time.perf_counter()
        answer = await client.ask(streams, client.request(
            "POST", "/api/v1/submissions", body, content_type="application/json",
            authorization=f"Bearer {token}", idempotency_key=str(number),
        ))  # fmt: skip
        if answer.status != 202:
            raise SystemExit(f"{answer.status}: {answer.body!r}")
        taken.append(time.perf_counter() - asked)
    streams[1].close()


async def crowd(port: int, tokens: list[str], challenges: list[str], seconds: float) -> list[float]:
    taken: list[float] = []
    those = zip(tokens, itertools.cycle(challenges))
    await asyncio.gather(*(send(port, token, one, seconds, taken) for token, one in those))
    return sorted(taken)


def main(seconds: float, database: str | None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = server.competition(Path(folder) / "cup", database)
        store = Store(made.database)
        tokens = people.tokens(store, TEAMS)
        with server.hosted(made, "--tier", "S0") as (port, pid):
            before, begun = server.cpu_seconds(pid), time.perf_counter()
            taken = asyncio.run(crowd(port, tokens, sorted(made.challenges()), seconds))
            rate = len(taken) / (time.perf_counter() - begun)
            cost = 1000 * (server.cpu_seconds(pid) - before) / len(taken)
        with store.reading() as connection:
            stored = connection.execute(sql.select(sql.func.count()).select_from(SUBMISSIONS)).scalar_one()
        kind = store.engine.dialect.name
        store.close()
    median, late = (1000 * taken[int(len(taken) * share)] for share in (0.5, 0.99))
    print(f"{kind}: {rate:.0f} accepted a second, median {median:.0f} ms, 99 % within {late:.0f} ms")
    print(f"{cost:.1f} ms of CPU each; {stored} stored of {len(taken)} answered; {server.load()}")
    return rate < LEAST or stored != len(taken)


if __name__ == "__main__":
    sys.exit(
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 10, sys.argv[2] if len(sys.argv) > 2 else None)
    )
