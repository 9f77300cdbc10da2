"""How soon a thousand people who look at the board hear of a change, and have it.

`python benchmarks/watchers.py [WATCHERS] [CHANGES]`

WATCHERS (1000) streams of server-sent events are open. Submissions are received, CHANGES (20) of them one
after another; for each it is measured from its receipt until each watcher has been told, and until each has
fetched the board that it was told of, as a page's script does. Exit status 1 if 99 % were not told within a
second, if anybody was never told, or told of nothing new.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from bughunt_leaderboard.people import Person
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.store import Store
from crowd import client, people, server

TEAMS, WITHIN, PATIENCE = 20, 1.0, 30.0


class Watcher:
    """One open stream, and the connection on which the board is fetched."""

    def __init__(self, port: int) -> None:
        self.port, self.seen, self.told_at, self.had_at = port, 0, 0.0, 0.0

    async def watch(self, ready: "asyncio.Event") -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(client.request("GET", "/api/v1/stream"))
        await reader.readuntil(b"\r\n\r\n")
        ready.set()
        fetching = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        while line := await reader.readline():
            if line.startswith(b"id: "):
                self.told_at, self.seen = time.time(), int(line[4:])
                await client.ask(fetching, client.request("GET", "/", accept_encoding="gzip"))
                self.had_at = time.time()


async def measure(port: int, referee: Referee, count: int, changes: int) -> tuple[list[float], list[float]]:
    watchers = [Watcher(port) for _ in range(count)]
    running = []
    for one in watchers:
        ready = asyncio.Event()
        running.append(asyncio.create_task(one.watch(ready)))
        await asyncio.wait_for(ready.wait(), PATIENCE)
    challenges, told, had = sorted(referee.fresh().levels), [], []
    for change in range(changes):
        team, challenge = change % TEAMS + 1, challenges[change % len(challenges)]
        person, program = Person(0, "captain", team), {"train.py": f"x = {change}\n"}
        await asyncio.to_thread(referee.submit, person, challenge, program, str(change))
        state = referee.fresh()
        received, until = state.at / 1000, time.monotonic() + PATIENCE
        while any(one.seen < state.seq or one.had_at < one.told_at for one in watchers):
            if time.monotonic() > until:
                raise SystemExit(f"{sum(one.seen < state.seq for one in watchers)} watchers were never told")
            await asyncio.sleep(0.02)
        told += [one.told_at - received for one in watchers]
        had += [one.had_at - received for one in watchers]
    for task in running:
        task.cancel()
    return sorted(told), sorted(had)


def main(count: int, changes: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = server.competition(Path(folder) / "cup")
        store = Store(made.database)
        people.tokens(store, TEAMS)
        with server.hosted(made, "--tier", "S0") as (port, pid):
            before = server.cpu_seconds(pid)
            told, had = asyncio.run(measure(port, Referee(store), count, changes))
            cost = 1000 * (server.cpu_seconds(pid) - before) / len(told)
        store.close()
    for name, taken in (("told", told), ("have the board", had)):
        half, most = (1000 * taken[int(len(taken) * share)] for share in (0.5, 0.99))
        print(f"{count} watchers, {changes} changes: {name} after {half:.0f} ms (half), {most:.0f} ms (99 %)")
    print(f"{cost:.2f} ms of the server's CPU for each watcher and change; {server.load()}")
    return told[int(len(told) * 0.99)] > WITHIN


if __name__ == "__main__":
    words = list(map(int, sys.argv[1:]))
    sys.exit(main(words[0] if words else 1000, words[1] if len(words) > 1 else 20))
