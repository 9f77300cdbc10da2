"""Submissions: what is taken from a team, and what it may know of it afterwards."""

import hashlib
from collections.abc import Mapping
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
from bughunt_leaderboard.store import pack, unpack
from bughunt_leaderboard.warmup import WARM_UP

MAX_BYTES = 200_000
MAX_FILES = 12


class Submissions(Desk):
    """Files and their verdicts."""

    def submit(self, person: Person, challenge: str, files: Mapping[str, str], key: str) -> int:
        """Accept a submission: stored, logged and queued when this returns. The same key is the same one."""
        if person.team is None:
            raise UnknownError("only teams submit", "bughunt join URL TOKEN")
        _check_files(files)
        content = pack(dict(files))
        digest = hashlib.sha256(content).hexdigest()
        with self.store.writing() as connection:
            state, at = self.fresh(connection), clock.now()
            if (known := self._sent_before(connection, person.team, key)) is not None:
                return known
            late = self._late(state, person.team, challenge, at)
            self._within_quota(connection, state, person.team, challenge, at)
            added = connection.execute(
                SUBMISSIONS.insert().values(
                    team=person.team, challenge=challenge, at=at, late=int(late),
                    sha256=digest, files=content, key=key,
                )
            )  # fmt: skip
            assert added.inserted_primary_key is not None
            number = int(added.inserted_primary_key[0])
            self.queue.put(connection, number, person.team)
            self.store.append(
                connection, Kind.RECEIVED, at,
                submission=number, team=person.team, challenge=challenge, late=late,
            )  # fmt: skip
            self._flag_if_known(connection, number, person.team, challenge, digest)
        self.fresh()
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

    def _sent_before(self, connection: Connection, team: int, key: str) -> int | None:
        query = sql.select(SUBMISSIONS.c.id).where(SUBMISSIONS.c.team == team, SUBMISSIONS.c.key == key)
        return connection.execute(query).scalar()

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
        ours = sql.select(sql.func.count()).where(
            SUBMISSIONS.c.team == team, SUBMISSIONS.c.challenge == challenge, SUBMISSIONS.c.at > at - HOUR
        )
        free = sum(
            state.submissions[id_].outcome == "INFRA" for id_ in state.tried.get((team, challenge), ())
        )
        if (connection.execute(ours).scalar_one() - free) >= state.rules.quota:
            raise TooManyError(
                f"{state.rules.quota} submissions to one challenge in an hour are allowed",
                "try it with run.py",
            )

    def _flag_if_known(
        self, connection: Connection, number: int, team: int, challenge: str, digest: str
    ) -> None:
        """The same bytes from two teams: judged like any other, and shown to a person."""
        query = sql.select(SUBMISSIONS.c.team).where(
            SUBMISSIONS.c.challenge == challenge, SUBMISSIONS.c.sha256 == digest, SUBMISSIONS.c.team != team
        )
        if (other := connection.execute(query).scalar()) is not None:
            self.store.audit(connection, "referee", "same file", submission=number, team=team, other=other)


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
