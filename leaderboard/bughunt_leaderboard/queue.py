"""The queue of judgements: a table, leases and fences.

A worker claims a job for a while and renews its lease while it works; a job whose lease ran out is claimed
again under a higher fence, and a verdict is taken only under the fence of the newest claim. So whoever dies,
each generation of a submission gets one verdict. A job that fails by our own fault goes back without costing
the team anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from bughunt_leaderboard import clock
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.schema import JOBS, SUBMISSIONS, VERDICTS
from bughunt_leaderboard.store import Store, pack, unpack

LEASE = 30_000  # milliseconds; renewed three times as often
TRIES = 3  # claims of one job before it is given up as ours

PUT = JOBS.insert()
NEWEST = (
    JOBS.select()
    .where(JOBS.c.submission == sql.bindparam("this"))
    .order_by(JOBS.c.generation.desc())
    .limit(1)
)
BEFORE = sql.select(sql.func.count()).where(
    JOBS.c.state == "waiting", JOBS.c.submission < sql.bindparam("this")
)


@dataclass(frozen=True)
class Lease:
    """The right to give one job its verdict."""

    job: int
    fence: int
    owner: str
    submission: int
    generation: int
    team: int
    challenge: str
    sha256: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Figures:
    """The queue at a glance."""

    states: Mapping[str, int]
    oldest: float  # seconds


class Queue:
    """Claims and verdicts over one store."""

    def __init__(self, store: Store, *, running: int = 1, lease: int = LEASE) -> None:
        self.store, self.running, self.lease = store, running, lease

    def put(self, connection: Connection, submission: int, team: int, generation: int = 0) -> int:
        """A waiting job, in the transaction that accepts the submission."""
        row = {"submission": submission, "team": team, "generation": generation, "state": "waiting"}
        added = connection.execute(PUT, row)
        assert added.inserted_primary_key is not None
        return int(added.inserted_primary_key[0])

    def claim(self, owner: str) -> Lease | None:
        """The oldest job of a team that has none running, if any waits."""
        now = clock.now()
        with self.store.reading() as connection:  # an empty queue is looked at without anybody's waiting
            if connection.execute(self._claimable(now)).first() is None:
                return None
        with self.store.writing() as connection:
            row = connection.execute(self._claimable(now)).first()
            if row is None:
                return None
            claimed = {
                "state": "leased", "owner": owner, "until": now + self.lease,
                "fence": row.fence + 1, "attempts": row.attempts + 1, "progress": None,
            }  # fmt: skip
            connection.execute(JOBS.update().where(JOBS.c.id == row.id).values(**claimed))
            what = connection.execute(SUBMISSIONS.select().where(SUBMISSIONS.c.id == row.submission)).one()
        return Lease(
            row.id, row.fence + 1, owner, row.submission, row.generation,
            row.team, what.challenge, what.sha256, unpack(what.files),
        )  # fmt: skip

    def _claimable(self, now: int) -> sql.Select[Any]:
        other = JOBS.alias()
        busy = (
            sql.select(sql.func.count())
            .where(other.c.team == JOBS.c.team, other.c.state == "leased", other.c.until >= now)
            .scalar_subquery()
        )
        lapsed = sql.and_(JOBS.c.state == "leased", JOBS.c.until < now)
        return (
            sql.select(JOBS)
            .where(sql.or_(JOBS.c.state == "waiting", lapsed), busy < self.running)
            .order_by(JOBS.c.generation, JOBS.c.submission)
            .limit(1)
        )

    def renew(self, lease: Lease, progress: str = "") -> bool:
        """Keep a lease; False where it is somebody else's by now."""
        values = {"until": clock.now() + self.lease, "progress": progress}
        with self.store.writing() as connection:
            return connection.execute(_held(lease).values(**values)).rowcount == 1

    def finish(self, lease: Lease, outcome: str, said: Mapping[str, Any]) -> bool:
        """Give the verdict; False, and nothing written, where the lease is somebody else's by now."""
        at = clock.now()
        with self.store.writing() as connection:
            if connection.execute(_held(lease).values(state="done", owner=None)).rowcount != 1:
                about = {"job": lease.job, "fence": lease.fence}
                self.store.audit(connection, lease.owner, "stale verdict refused", **about)
                return False
            connection.execute(
                VERDICTS.insert().values(
                    job=lease.job, fence=lease.fence, at=at, outcome=outcome, detail=pack(said)
                )
            )
            self.store.append(
                connection, Kind.VERDICT, at, submission=lease.submission, generation=lease.generation,
                outcome=outcome, score=said.get("score", 0.0), changed=said.get("changed", 0),
            )  # fmt: skip
            return True

    def give_back(self, lease: Lease, why: str) -> None:
        """Our own failure: the job waits again, or is given up after its last try without counting."""
        with self.store.reading() as connection:
            tried = connection.execute(sql.select(JOBS.c.attempts).where(JOBS.c.id == lease.job)).scalar()
        if (tried or 0) >= TRIES:
            self.finish(lease, "INFRA", {"detail": why})
            return
        with self.store.writing() as connection:
            connection.execute(_held(lease).values(state="waiting", owner=None, until=None))
            self.store.audit(connection, lease.owner, "job given back", job=lease.job, why=why)

    def place(self, submission: int) -> tuple[str, int, str]:
        """State of the newest job, how many wait before it, and how far it has come."""
        with self.store.reading() as connection:
            row = connection.execute(NEWEST, {"this": submission}).one()
            before = connection.execute(BEFORE, {"this": submission}).scalar() or 0
        return row.state, before if row.state == "waiting" else 0, row.progress or ""

    def figures(self) -> "Figures":
        """How many jobs are in each state, and how long the oldest has waited."""
        oldest = (
            sql.select(sql.func.min(SUBMISSIONS.c.at))
            .join(JOBS, JOBS.c.submission == SUBMISSIONS.c.id)
            .where(JOBS.c.state == "waiting")
        )
        with self.store.reading() as connection:
            counted = connection.execute(sql.select(JOBS.c.state, sql.func.count()).group_by(JOBS.c.state))
            states = {row[0]: row[1] for row in counted}
            since = connection.execute(oldest).scalar()
        return Figures(states, (clock.now() - since) / 1000 if since else 0.0)

    def length(self) -> int:
        with self.store.reading() as connection:
            return connection.execute(
                sql.select(sql.func.count()).where(JOBS.c.state.in_(["waiting", "leased"]))
            ).scalar_one()


def _held(lease: Lease) -> sql.Update:
    """The job as long as this lease is its newest."""
    return JOBS.update().where(JOBS.c.id == lease.job, JOBS.c.state == "leased", JOBS.c.fence == lease.fence)
