"""Submissions: what is taken from a team, and what it may know of it afterwards."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from bughunt_leaderboard import clock
from bughunt_leaderboard.board import Competition
from bughunt_leaderboard.desk import Desk
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.people import HOUR, Person
from bughunt_leaderboard.refusals import MalformedError, RefusedError, TooManyError, UnknownError
from bughunt_leaderboard.schema import JOBS, SUBMISSIONS, VERDICTS
from bughunt_leaderboard.store import Store, pack, unpack
from bughunt_leaderboard.together import Together
from bughunt_leaderboard.warmup import WARM_UP

MAX_BYTES = 200_000
MAX_FILES = 12

TAKE = SUBMISSIONS.insert()
OF_TEAM = SUBMISSIONS.c.team == sql.bindparam("team")
OF_CHALLENGE = SUBMISSIONS.c.challenge == sql.bindparam("challenge")
SENT_BEFORE = sql.select(SUBMISSIONS.c.id).where(OF_TEAM, SUBMISSIONS.c.key == sql.bindparam("key"))
RECENT = sql.select(sql.func.count()).where(OF_TEAM, OF_CHALLENGE, SUBMISSIONS.c.at > sql.bindparam("since"))
SAME_FILES = (
    sql.select(SUBMISSIONS.c.team)
    .where(~OF_TEAM, OF_CHALLENGE, SUBMISSIONS.c.sha256 == sql.bindparam("sha256"))
    .limit(1)
)


class Submissions(Desk):
    """Files and their verdicts."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._together = Together(self._sitting)

    @contextmanager
    def _sitting(self) -> Iterator[tuple[Connection, Competition]]:
        """A transaction, and the state as of its beginning."""
        with self.store.writing() as connection:
            yield connection, self.fresh(connection)

    def submit(self, person: Person, challenge: str, files: Mapping[str, str], key: str) -> int:
        """Accept a submission: stored, logged and queued when this returns. The same key is the same one."""
        if person.team is None:
            raise UnknownError("only teams submit", "bughunt join URL TOKEN")
        _check_files(files)
        content = pack(dict(files))
        sent = {
            "team": person.team, "challenge": challenge, "key": key,
            "sha256": hashlib.sha256(content).hexdigest(), "files": content,
        }  # fmt: skip
        number = self._together.run(lambda sitting: self._accept(*sitting, sent))
        self.fresh()
        return number

    def _accept(self, connection: Connection, state: Competition, sent: dict[str, Any]) -> int:
        at, team, challenge = clock.now(), sent["team"], sent["challenge"]
        if (known := connection.execute(SENT_BEFORE, _only(sent, "team", "key")).scalar()) is not None:
            return int(known)
        late = self._late(state, team, challenge, at)
        self._within_quota(connection, state, team, challenge, at)
        other = connection.execute(SAME_FILES, _only(sent, "team", "challenge", "sha256")).scalar()
        added = connection.execute(TAKE, {**sent, "at": at, "late": int(late)})
        assert added.inserted_primary_key is not None
        number = int(added.inserted_primary_key[0])
        self.queue.put(connection, number, team)
        self.store.append(
            connection, Kind.RECEIVED, at, submission=number, team=team, challenge=challenge, late=late
        )
        if other is not None:  # judged like any other, and shown to a person
            self.store.audit(connection, "referee", "same file", submission=number, team=team, other=other)
        return number

    def submission(self, person: Person, number: int) -> dict[str, Any]:
        """What the team may know of its own submission, and a judge of any."""
        with self.store.reading() as connection:
            row = connection.execute(SUBMISSIONS.select().where(SUBMISSIONS.c.id == number)).first()
            if row is None or not (person.team == row.team or person.role in ("judge", "admin")):
                raise UnknownError(f"no submission {number}", "bughunt board shows your own")
            said = connection.execute(
                sql.select(VERDICTS.c.detail, VERDICTS.c.outcome, JOBS.c.generation)
                .join(JOBS, JOBS.c.id == VERDICTS.c.job)
                .where(JOBS.c.submission == number)
                .order_by(JOBS.c.generation)
            ).all()
        state, before, progress = self.queue.place(number)
        one = self.fresh().submissions.get(number)
        final = next((v for v in reversed(said) if one and v.outcome == one.outcome), None)
        return {
            "submission": number, "team": row.team, "challenge": row.challenge, "at": row.at,
            "late": bool(row.late), "state": "done" if final else state, "before": before,
            "progress": progress, "outcome": final.outcome if final else None,
            "verdict": unpack(final.detail) if final else None,
        }  # fmt: skip

    def files(self, person: Person, number: int) -> dict[str, str]:
        """The files of a submission, for its team and for judges."""
        self.submission(person, number)
        with self.store.reading() as connection:
            query = sql.select(SUBMISSIONS.c.files).where(SUBMISSIONS.c.id == number)
            content: dict[str, str] = unpack(connection.execute(query).scalar_one())
        return content

    def _late(self, state: Competition, team: int, challenge: str, at: int) -> bool:
        """Whether it never counts: after the end, and the warm-up at any time."""
        if challenge == WARM_UP:
            return True
        if challenge not in state.levels or not state.has_begun(challenge, at):
            raise UnknownError(f"no challenge {challenge}", "bughunt list shows those that are open")
        if state.is_open(challenge, at, team):
            return False
        if state.paused:
            raise RefusedError("the competition is paused", "your file is still yours; send it afterwards")
        if not state.rules.practice:
            raise RefusedError("the round is over", "")
        return True

    def _within_quota(
        self, connection: Connection, state: Competition, team: int, challenge: str, at: int
    ) -> None:
        ours = {"team": team, "challenge": challenge, "since": at - HOUR}
        free = sum(
            state.submissions[id_].outcome == "INFRA" for id_ in state.tried.get((team, challenge), ())
        )
        if (connection.execute(RECENT, ours).scalar_one() - free) >= state.rules.quota:
            raise TooManyError(
                f"{state.rules.quota} submissions to one challenge in an hour are allowed",
                "try it with run.py",
            )


def _only(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names}


def _check_files(files: Mapping[str, str]) -> None:
    if "train.py" not in files or len(files) > MAX_FILES:
        raise MalformedError("a program is train.py and at most eleven files beside it", "")
    for name, text in files.items():
        if not name.endswith(".py") or not name.removesuffix(".py").isidentifier() or not name.isascii():
            raise MalformedError("a file's name is a Python name and .py", "")
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise MalformedError(f"{name} has characters in it that are no text", "save it as UTF-8 text")
    size = sum(len(text.encode()) for text in files.values())
    if size > MAX_BYTES:
        raise MalformedError(f"{size} bytes, {MAX_BYTES} are allowed", "keep data and weights out of it")
