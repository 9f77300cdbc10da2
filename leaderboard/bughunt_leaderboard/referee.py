"""The referee: everything that changes a competition, each act one transaction.

The API, the pages and the admin commands all come through here.
"""

import hashlib
import hmac
import secrets
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Row

from bughunt.errors import BughuntError
from bughunt_leaderboard import clock
from bughunt_leaderboard.board import Competition
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.queue import Queue
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.schema import JOBS, SUBMISSIONS, TOKENS, VERDICTS
from bughunt_leaderboard.store import Store, pack, unpack

MAX_BYTES = 200_000
MAX_FILES = 12
MAX_NAME = 40
HOUR = 3_600_000
ROLES = ("captain", "member", "observer", "judge", "admin")


class RefusedError(BughuntError):
    """An act that the rules do not allow now; `status` is what HTTP says of it."""

    code = "refused"
    status = 409


class UnknownError(RefusedError):
    """A token, team or submission that does not exist, or is not the asker's to see."""

    code = "unknown"
    status = 404


class TooManyError(RefusedError):
    """More than the rules allow in this time."""

    code = "too-many"
    status = 429


class MalformedError(RefusedError):
    """Something that cannot be accepted however often it is sent."""

    code = "malformed"
    status = 422


@dataclass(frozen=True)
class Person:
    """Who asks: a role, and for players their team."""

    token: int
    role: str
    team: int | None = None
    name: str = ""


class Referee:
    """Acts on one competition; `fresh` gives its state as of the last event."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._state, self._lock = Competition(), threading.Lock()
        self.fresh()
        self.queue = Queue(store, running=self._state.rules.running)

    def fresh(self, connection: Connection | None = None) -> Competition:
        """The state with the newest events; in a transaction ask before writing its own."""
        with self._lock:
            for event in self.store.events(self._state.seq, connection=connection):
                self._state.apply(event)
        return self._state

    # --- making a competition -----------------------------------------------------------------------------

    def create(
        self, name: str, set_name: str, challenges: Mapping[str, Mapping[str, Any]], rules: Rules
    ) -> str:
        """Begin the log; the token of the host's is returned and kept nowhere."""
        with self.store.writing() as connection:
            if self.store.events(limit=1, connection=connection):
                raise RefusedError("there is a competition in this database", "use another --data folder")
            self.store.append(
                connection, Kind.CREATED, name=clean(name), set=set_name, rules=rules.dump(),
                challenges={id_: dict(about) for id_, about in challenges.items()},
            )  # fmt: skip
            token = self._token(connection, "admin", name="host")
            self.store.audit(connection, "host", "created", name=name)
        self.queue.running = rules.running
        return token

    def set_round(self, who: str, name: str, start: int, end: int, challenges: Sequence[str]) -> None:
        """Make a round, or move one: what was received stays received."""
        if end <= start:
            raise MalformedError(f"round {name} ends before it starts", "give an end after the start")
        unknown = sorted(set(challenges) - self.fresh().levels.keys())
        if unknown:
            raise UnknownError(f"no challenge {', '.join(unknown)}", "the set says which there are")
        self._act(who, Kind.ROUND, round=clean(name), start=start, end=end, challenges=list(challenges))

    def pause(self, who: str) -> None:
        self._act(who, Kind.PAUSED)

    def resume(self, who: str) -> None:
        """Go on; the time that passed is given back to every round that had not ended."""
        state = self.fresh()
        if not state.paused:
            raise RefusedError("the competition is not paused", "")
        begun = max(event.at for event in self.store.events() if event.kind is Kind.PAUSED)
        lost = clock.now() - begun
        with self.store.writing() as connection:
            for one in state.rounds.values():
                if one.end > begun:
                    self.store.append(
                        connection, Kind.ROUND, round=one.name, end=one.end + lost,
                        start=one.start + lost * (one.start > begun), challenges=list(one.challenges),
                    )  # fmt: skip
            self.store.append(connection, Kind.RESUMED)
            self.store.audit(connection, who, "resumed", lost=lost)

    def freeze(self, who: str) -> None:
        if self.fresh().frozen_at is None:
            self._act(who, Kind.FROZEN)

    def unfreeze(self, who: str) -> None:
        if self.fresh().frozen_at is not None:
            self._act(who, Kind.UNFROZEN)

    def extend(self, who: str, team: int, minutes: int) -> None:
        """More time for one team."""
        self._known_team(team)
        self._act(who, Kind.EXTENDED, team=team, minutes=minutes)

    # --- people -------------------------------------------------------------------------------------------

    def invite(self, who: str, team: str, *, uses: int = 5, hours: float = 72.0, division: str = "") -> str:
        """A token with which people join a team; the team is made when the first one does."""
        expires = clock.now() + int(hours * HOUR)
        with self.store.writing() as connection:
            token = self._token(
                connection, "invite", name=clean(team), uses=uses, expires=expires, division=division
            )
            self.store.audit(connection, who, "invited", team=clean(team), uses=uses, division=division)
        return token

    def grant(self, who: str, role: str, name: str) -> str:
        """A token for somebody who is no player: observer, judge or admin."""
        if role not in ROLES[2:]:
            raise MalformedError(f"no role {role}", f"one of {', '.join(ROLES[2:])}")
        with self.store.writing() as connection:
            token = self._token(connection, role, name=clean(name))
            self.store.audit(connection, who, "granted", role=role, name=name)
        return token

    def join(self, invite: str, member: str) -> tuple[str, Person]:
        """Use an invite: the first to come founds the team and is its captain."""
        member = clean(member)
        with self.store.writing() as connection:
            row = self._find(connection, invite, "invite")
            if row is None or row.uses < 1:
                raise UnknownError("this invite is not valid (any more)", "ask the host for another")
            state = self.fresh(connection)
            team = next((t.id for t in state.teams.values() if t.name == row.name), None)
            if team is not None and state.members.get(team, 0) >= state.rules.team_size:
                raise RefusedError(f"team {row.name} is full", "ask the host for another invite")
            if team is not None and any(one.team == team for one in state.submissions.values()):
                raise RefusedError(f"team {row.name} has begun", "nobody joins after the first submission")
            connection.execute(TOKENS.update().where(TOKENS.c.id == row.id).values(uses=row.uses - 1))
            founded = team is None
            if team is None:
                team = max([0, *state.teams]) + 1
                self.store.append(connection, Kind.TEAM, team=team, name=row.name, division=row.division)
            self.store.append(connection, Kind.MEMBER, team=team, member=member)
            role = "captain" if founded else "member"
            token = self._token(connection, role, team=team, name=member)
            found = self._find(connection, token)
        assert found is not None
        self.fresh()  # who looks next sees it
        return token, Person(found.id, role, team, member)

    def person(self, token: str) -> Person:
        """Whose token this is; UnknownError for one that is not valid."""
        with self.store.reading() as connection:
            row = self._find(connection, token)
        if row is None or row.role == "invite":
            raise UnknownError("this token is not valid", "bughunt join gives you one")
        return Person(row.id, row.role, row.team, row.name)

    def revoke(self, who: str, token_id: int) -> None:
        with self.store.writing() as connection:
            changed = connection.execute(
                TOKENS.update().where(TOKENS.c.id == token_id).values(revoked=clock.now())
            )
            if changed.rowcount != 1:
                raise UnknownError(f"no token {token_id}", "bughunt admin tokens lists them")
            self.store.audit(connection, who, "revoked", token=token_id)

    def tokens(self) -> list[dict[str, Any]]:
        """All tokens without what would let one use them."""
        hidden = {"hash"}
        with self.store.reading() as connection:
            rows = connection.execute(sql.select(TOKENS).order_by(TOKENS.c.id)).all()
        return [{k: v for k, v in row._mapping.items() if k not in hidden} for row in rows]

    def remove_team(self, who: str, team: int) -> None:
        """Delete a team's people and files; numbers that others depend on are folded without it."""
        self._known_team(team)
        with self.store.writing() as connection:
            connection.execute(TOKENS.delete().where(TOKENS.c.team == team))
            own = sql.select(SUBMISSIONS.c.id).where(SUBMISSIONS.c.team == team)
            jobs = sql.select(JOBS.c.id).where(JOBS.c.submission.in_(own))
            connection.execute(VERDICTS.update().where(VERDICTS.c.job.in_(jobs)).values(detail=pack({})))
            connection.execute(
                JOBS.update().where(JOBS.c.submission.in_(own), JOBS.c.state != "done").values(state="failed")
            )
            connection.execute(SUBMISSIONS.update().where(SUBMISSIONS.c.team == team).values(files=pack({})))
            self.store.append(connection, Kind.REMOVED, team=team)
            self.store.audit(connection, who, "removed", team=team)

    # --- submissions --------------------------------------------------------------------------------------

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

    # --- judging again ------------------------------------------------------------------------------------

    def rejudge(self, who: str, submissions: Sequence[int]) -> int:
        """Judge submissions anew beside their verdicts, which stand until the set is applied."""
        state = self.fresh()
        unknown = sorted(set(submissions) - state.submissions.keys())
        if unknown or not submissions:
            raise UnknownError(f"no submission {', '.join(map(str, unknown)) or 'named'}", "")
        number = max([0, *state.rejudgings]) + 1
        with self.store.writing() as connection:
            self.store.append(
                connection, Kind.REJUDGE,
                rejudging=number, submissions=list(submissions), generation=number,
            )  # fmt: skip
            for one in submissions:
                self.queue.put(connection, one, state.submissions[one].team, number)
            self.store.audit(connection, who, "rejudging", rejudging=number, submissions=list(submissions))
        return number

    def compare(self, rejudging: int) -> dict[str, Any]:
        """What applying a set would change: verdicts, and the board before and after."""
        one = self._open_set(rejudging, any_state=True)
        state, after = self.fresh(), Competition()
        for event in self.store.events():
            after.apply(event)
        for verdict in one.verdicts.values():
            after._settle(verdict)
        changed = [
            {"submission": id_, "before": state.submissions[id_].outcome, "after": v.payload["outcome"]}
            for id_, v in sorted(one.verdicts.items())
            if id_ in state.submissions and state.submissions[id_].outcome != v.payload["outcome"]
        ]
        before_rows = {row.team.id: row for row in state.standings()}
        moved = [
            {"team": row.team.name, "rank": [before_rows[row.team.id].rank, row.rank],
             "points": [before_rows[row.team.id].points, row.points]}
            for row in after.standings()
            if (before_rows[row.team.id].rank, before_rows[row.team.id].points) != (row.rank, row.points)
        ]  # fmt: skip
        missing = sorted(set(one.submissions) - one.verdicts.keys())
        return {"state": one.state, "missing": missing, "changed": changed, "moved": moved}

    def apply(self, who: str, rejudging: int) -> None:
        one = self._open_set(rejudging)
        if missing := set(one.submissions) - one.verdicts.keys():
            raise RefusedError(f"{len(missing)} of its submissions are not judged yet", "wait, or cancel it")
        self._act(who, Kind.APPLIED, rejudging=rejudging)

    def cancel(self, who: str, rejudging: int) -> None:
        self._open_set(rejudging)
        self._act(who, Kind.CANCELLED, rejudging=rejudging)

    def flag(self, who: str, submission: int, why: str) -> None:
        """Take a submission off the board until a person has looked."""
        self._act(who, Kind.FLAGGED, submission=submission, why=why)

    def clear(self, who: str, submission: int) -> None:
        self._act(who, Kind.CLEARED, submission=submission)

    # --- helpers ------------------------------------------------------------------------------------------

    def _act(self, who: str, kind: Kind, **payload: Any) -> None:
        with self.store.writing() as connection:
            self.store.append(connection, kind, **payload)
            self.store.audit(connection, who, str(kind), **payload)

    def _token(self, connection: Connection, role: str, **fields: Any) -> str:
        token = secrets.token_urlsafe(24)
        connection.execute(TOKENS.insert().values(hash=hashed(token), role=role, **fields))
        return token

    def _find(self, connection: Connection, token: str, role: str | None = None) -> Row[Any] | None:
        query = sql.select(TOKENS).where(TOKENS.c.hash == hashed(token), TOKENS.c.revoked.is_(None))
        row = connection.execute(query).first()
        expired = row is not None and row.expires is not None and row.expires <= clock.now()
        return None if row is None or expired or (role and row.role != role) else row

    def _known_team(self, team: int) -> None:
        if team not in self.fresh().teams:
            raise UnknownError(f"no team {team}", "bughunt board lists the teams")

    def _open_set(self, rejudging: int, *, any_state: bool = False) -> Any:
        one = self.fresh().rejudgings.get(rejudging)
        if one is None or not (any_state or one.state == "open"):
            raise UnknownError(f"no open rejudging {rejudging}", "")
        return one

    def _sent_before(self, connection: Connection, team: int, key: str) -> int | None:
        query = sql.select(SUBMISSIONS.c.id).where(SUBMISSIONS.c.team == team, SUBMISSIONS.c.key == key)
        return connection.execute(query).scalar()

    def _late(self, state: Competition, team: int, challenge: str, at: int) -> bool:
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


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def derived(key: bytes, *words: object) -> int:
    """A number that only who has the competition's key can foretell."""
    return int.from_bytes(hmac.digest(key, "\0".join(map(str, words)).encode(), "sha256")[:7])


def clean(name: str) -> str:
    """A name as it is shown: composed, without control or direction characters, of a fair length."""
    text = unicodedata.normalize("NFC", name)
    text = "".join(c for c in text if unicodedata.category(c)[0] != "C")
    text = " ".join(text.split())
    if not 1 <= len(text) <= MAX_NAME:
        raise MalformedError(f"a name has 1 to {MAX_NAME} visible characters", "choose another")
    return text


def _check_files(files: Mapping[str, str]) -> None:
    if "train.py" not in files or len(files) > MAX_FILES:
        raise MalformedError("a program is train.py and at most eleven files beside it", "")
    for name, text in files.items():
        if not name.endswith(".py") or not name.removesuffix(".py").isidentifier() or not name.isascii():
            raise MalformedError("a file's name is a Python name and .py", "")
        if "\0" in text:
            raise MalformedError(f"{name} has a null character in it", "save it as UTF-8 text")
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in files.values())
    if size > MAX_BYTES:
        raise MalformedError(f"{size} bytes, {MAX_BYTES} are allowed", "keep data and weights out of it")
