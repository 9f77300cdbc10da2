"""How fast the board is read, beside a bare endpoint, and what one more event costs.

`python benchmarks/board.py [SECONDS]`

A log of 100,000 events of 1,000 teams is served by `bughunt host`. The board (JSON, and the page) is read on
eight connections for SECONDS (3) at a time, in turns with an endpoint of the same framework that returns as
many constant bytes; the ratio is of medians. Then events are applied to boards of 1,000 teams with 3,000,
10,000 and 100,000 events before them. Exit status 1 if a board is read at less than 60 % of the bare
endpoint's rate, or if an event costs over three times more with the longest log than with the shortest.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bughunt_leaderboard.board import fold
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.store import Store
from crowd import client, log, server

TEAMS, EVENTS, CONNECTIONS, ROUNDS = 1000, 100_000, 8, 5
LEAST, MOST = 0.6, 3.0
LENGTHS = (3_000, 10_000, 100_000)
READS = {"board as JSON": "/api/v1/board", "board as a page": "/"}
SET = {f"bh-{n:06x}": {"title": f"Challenge {n}", "level": n % 5 + 1} for n in range(24)}


def read(folder: Path, seconds: float) -> bool:
    """Rates of the board and of the bare endpoint, in turns."""
    made = server.competition(folder / "cup")
    store = Store(made.database)
    about = {one.id: {"title": one.title, "level": one.level} for one in made.challenges().values()}
    log.fill(store, log.events(about, TEAMS, EVENTS))
    store.close()
    fast = [compare(name, path, made, folder, seconds) for name, path in READS.items()]
    return all(fast)


def compare(name: str, path: str, made: server.Folder, folder: Path, seconds: float) -> bool:
    board, constant = (client.request("GET", p, accept_encoding="gzip") for p in (path, "/"))
    rates: dict[str, list[float]] = {"bare": [], "board": []}
    with server.hosted(made, "--tier", "S0") as (port, pid):
        body = asyncio.run(client.once(port, board)).body
        (folder / "body").write_bytes(body)
        with server.bare(folder / "body") as (bare, bare_pid):
            spent = {"bare": server.cpu_seconds(bare_pid), "board": server.cpu_seconds(pid)}
            for _ in range(ROUNDS):
                rates["bare"].append(asyncio.run(client.rate(bare, constant, CONNECTIONS, seconds)))
                rates["board"].append(asyncio.run(client.rate(port, board, CONNECTIONS, seconds)))
            spent = {"bare": server.cpu_seconds(bare_pid) - spent["bare"],
                     "board": server.cpu_seconds(pid) - spent["board"]}  # fmt: skip
    middle = {kind: statistics.median(those) for kind, those in rates.items()}
    share = middle["board"] / middle["bare"]
    cost = {kind: 1000 * spent[kind] / (sum(rates[kind]) * seconds) for kind in spent}
    print(f"{name}, {len(body)} bytes compressed: {middle['board']:.0f}/s, bare {middle['bare']:.0f}/s, "
          f"ratio {share:.2f}; {cost['board']:.2f} and {cost['bare']:.2f} ms of CPU each")  # fmt: skip
    return share >= LEAST


def one_event(length: int) -> float:
    """CPU milliseconds from a verdict to the new standings, with so many events before it."""
    events = list(log.events(SET, TEAMS, length + 400))
    board = fold(events[:length])
    board.standings()
    verdicts = [one for one in events[length:] if one.kind is Kind.VERDICT]
    taken = []
    for one in verdicts:
        before = time.process_time()
        board.apply(replace(one, payload={**one.payload, "outcome": "SOLVED"}))
        board.standings()
        taken.append(1000 * (time.process_time() - before))
    return statistics.median(taken)


def main(seconds: float) -> int:
    print(f"{server.load()}; {TEAMS} teams, {EVENTS} events, {len(SET)} challenges")
    with tempfile.TemporaryDirectory() as folder:
        fast = read(Path(folder), seconds)
    costs = {length: one_event(length) for length in LENGTHS}
    for length, cost in costs.items():
        print(f"one verdict after {length:7,d} events: {cost:6.2f} ms of CPU to the new standings")
    print(server.load())
    steady = costs[LENGTHS[-1]] <= MOST * costs[LENGTHS[0]]
    return not (fast and steady)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 3))
