"""A log as long as a public event leaves: teams that try, fail, solve, drawn from a seed."""

import json
import random
from collections.abc import Iterator, Mapping

from bughunt_leaderboard import clock
from bughunt_leaderboard.events import Event, Kind
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.schema import EVENTS
from bughunt_leaderboard.store import Store

HOUR = 3_600_000
OUTCOMES = ("SOLVED", "UNFIXED", "PARTIAL", "REGRESSED")


def events(challenges: Mapping[str, Mapping[str, object]], teams: int, count: int) -> Iterator[Event]:
    """`count` events of an hour that ends now: the set, the teams, then submissions with their verdicts."""
    draw, ids = random.Random(0), sorted(challenges)
    begun = clock.now() - HOUR
    head = [
        (Kind.CREATED, {"name": "Cup", "set": "starter", "rules": Rules().dump(), "challenges": challenges}),
        (Kind.ROUND, {"round": "Round 1", "start": begun, "end": begun + 3 * HOUR, "challenges": ids}),
        *((Kind.TEAM, {"team": n, "name": f"Team {n}", "division": ""}) for n in range(1, teams + 1)),
    ]
    for seq, (kind, payload) in enumerate(head, 1):
        yield Event(seq, begun, kind, payload)
    for seq in range(len(head) + 1, count + 1):
        number, verdict = divmod(seq - len(head) + 1, 2)
        at = begun + HOUR * seq // count
        if verdict:
            outcome = draw.choice(OUTCOMES)
            payload = {"submission": number, "generation": 0, "outcome": outcome, "changed": 1}
            yield Event(seq, at, Kind.VERDICT, payload)
        else:
            team, challenge = draw.randint(1, teams), draw.choice(ids)
            payload = {"submission": number, "team": team, "challenge": challenge, "late": False}
            yield Event(seq, at, Kind.RECEIVED, payload)


def fill(store: Store, made: Iterator[Event]) -> int:
    """Write them to an empty log; the number of the last."""
    rows = [
        {"seq": one.seq, "at": one.at, "kind": str(one.kind), "payload": json.dumps(one.payload)}
        for one in made
    ]
    with store.writing() as connection:
        connection.execute(EVENTS.delete())
        connection.execute(EVENTS.insert(), rows)
    return len(rows)
