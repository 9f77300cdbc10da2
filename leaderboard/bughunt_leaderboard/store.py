"""The database: one class over SQLite and PostgreSQL.

Every change is one transaction that also writes its event, so the log and the tables never disagree. SQLite
takes writers one at a time (`BEGIN IMMEDIATE`); PostgreSQL orders the writers of the log by an advisory lock,
so that sequence numbers have no gaps and appear in their order.
"""

import hashlib
import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError

from bughunt.errors import MachineError
from bughunt_leaderboard import clock
from bughunt_leaderboard.events import Event, Kind
from bughunt_leaderboard.schema import AUDIT, EVENTS

LOG_LOCK = 0x62756768  # PostgreSQL's advisory lock for the writers of the log
BUSY_SECONDS = 30.0
POOL: Mapping[str, Any] = {"pool_size": 8, "max_overflow": 32}  # a thread holds one at a time

LAST = sql.select(sql.func.max(EVENTS.c.seq))
APPEND = EVENTS.insert()
FOLLOWING = sql.select(EVENTS).where(EVENTS.c.seq > sql.bindparam("after")).order_by(EVENTS.c.seq)


class Store:
    """A database by its address, such as `sqlite:////var/lib/bughunt/board.db`."""

    def __init__(self, url: str) -> None:
        self.engine = connect(url)
        self.sqlite = self.engine.dialect.name == "sqlite"
        self._turn = threading.Lock()

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write events; it waits for its turn, within a process without polling."""
        with self._turn, self.engine.connect() as connection, connection.begin():
            if self.sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sql.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOG_LOCK})
            yield connection

    def append(self, connection: Connection, kind: Kind, at: int | None = None, **payload: Any) -> Event:
        """One more event, in the transaction that makes it true."""
        last = connection.execute(LAST).scalar() or 0
        event = Event(last + 1, clock.now() if at is None else at, kind, payload)
        row = {"seq": event.seq, "at": event.at, "kind": str(kind), "payload": json.dumps(payload)}
        connection.execute(APPEND, row)
        return event

    def events(
        self, after: int = 0, limit: int | None = None, connection: Connection | None = None
    ) -> list[Event]:
        """The log from behind a sequence number on; in a transaction give its connection."""
        query = FOLLOWING if limit is None else FOLLOWING.limit(limit)
        with nullcontext(connection) if connection is not None else self.reading() as reading:
            rows = reading.execute(query, {"after": after}).all()
        return [Event(row.seq, row.at, Kind(row.kind), json.loads(row.payload)) for row in rows]

    def last(self) -> int:
        with self.reading() as connection:
            return connection.execute(LAST).scalar() or 0

    def audit(self, connection: Connection, who: str, what: str, **about: Any) -> None:
        """One more entry of the audit log, chained to the one before."""
        newest = sql.select(AUDIT.c.seq, AUDIT.c.hash).order_by(AUDIT.c.seq.desc()).limit(1)
        before = connection.execute(newest).first()
        seq, previous = (before.seq, before.hash) if before else (0, "")
        at, text = clock.now(), json.dumps({"what": what, **about}, sort_keys=True)
        connection.execute(
            AUDIT.insert().values(
                seq=seq + 1, at=at, who=who, what=text, previous=previous,
                hash=_chained(previous, seq + 1, at, who, text),
            )
        )  # fmt: skip

    def audit_log(self) -> list[Mapping[str, Any]]:
        with self.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(sql.select(AUDIT).order_by(AUDIT.c.seq))]

    def broken_link(self) -> int | None:
        """The first entry of the audit log that does not follow from the one before."""
        previous = ""
        for expected, entry in enumerate(self.audit_log(), 1):
            made = _chained(previous, entry["seq"], entry["at"], entry["who"], entry["what"])
            if (entry["seq"], entry["previous"], entry["hash"]) != (expected, previous, made):
                return expected
            previous = entry["hash"]
        return None


def connect(url: str) -> Engine:
    """An engine whose transactions begin when they are told to."""
    if not url.startswith("sqlite"):
        return sql.create_engine(url, pool_pre_ping=True, **POOL)
    engine = sql.create_engine(url, connect_args={"timeout": BUSY_SECONDS}, **POOL)

    @sql.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions where it likes
        _keep_a_log(connection)
        connection.execute("PRAGMA synchronous=FULL")  # what was accepted outlives a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def _keep_a_log(connection: Any) -> None:
    """SQLite's write-ahead log; waits for who else turns it on just now, which SQLite does not."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def reachable(store: Store) -> None:
    """MachineError where the database does not answer."""
    try:
        with store.reading() as connection:
            connection.execute(sql.text("SELECT 1"))
    except OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        raise MachineError(
            f"the database does not answer: {reason}", "start it, or mend --database"
        ) from None


def pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape"), 6)


def unpack(content: bytes) -> Any:
    return json.loads(zlib.decompress(content).decode("utf-8", "surrogateescape"))


def _chained(previous: str, seq: int, at: int, who: str, what: str) -> str:
    return hashlib.sha256(json.dumps([previous, seq, at, who, what]).encode()).hexdigest()
