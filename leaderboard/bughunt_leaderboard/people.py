"""People: invites, tokens, teams and their members."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Row

from bughunt_leaderboard import clock
from bughunt_leaderboard.board import Competition
from bughunt_leaderboard.desk import Desk
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.refusals import RefusedError, UnknownError, clean
from bughunt_leaderboard.rules import MINUTE
from bughunt_leaderboard.schema import JOBS, SUBMISSIONS, TOKENS, VERDICTS
from bughunt_leaderboard.scopes import narrowed
from bughunt_leaderboard.store import pack
from bughunt_leaderboard.warmup import WARM_UP

HOUR = 60 * MINUTE
VALID = sql.select(TOKENS).where(TOKENS.c.hash == sql.bindparam("hashed"), TOKENS.c.revoked.is_(None))


@dataclass(frozen=True)
class Person:
    """Who asks: a role, and for players their team."""

    token: int
    role: str
    team: int | None = None
    name: str = ""
    scopes: frozenset[str] = frozenset()

    @property
    def who(self) -> str:
        """As the audit log has it."""
        return f"{self.role} {self.name}, token {self.token}"


class People(Desk):
    """Who may come in, and who leaves."""

    def invite(self, who: str, team: str, *, uses: int = 5, hours: float = 72.0, division: str = "") -> str:
        """A token with which people join a team; the team is made when the first one does."""
        expires = clock.now() + int(hours * HOUR)
        with self.store.writing() as connection:
            token = self._token(
                connection, "invite", name=clean(team), uses=uses, expires=expires, division=division
            )
            self.store.audit(connection, who, "invited", team=clean(team), uses=uses, division=division)
        return token

    def grant(
        self, who: str, role: str, name: str, scopes: Sequence[str] = (), hours: float | None = None
    ) -> str:
        """A token for somebody who is no player: observer, judge or admin, perhaps with fewer scopes."""
        kept = " ".join(sorted(narrowed(role, scopes)))
        expires = None if hours is None else clock.now() + int(hours * HOUR)
        with self.store.writing() as connection:
            token = self._token(connection, role, name=clean(name), scopes=kept, expires=expires)
            self.store.audit(connection, who, "granted", role=role, name=name, scopes=kept)
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
            if team is not None and _has_begun(state, team):
                raise RefusedError(f"team {row.name} has begun", "nobody joins after the first submission")
            connection.execute(TOKENS.update().where(TOKENS.c.id == row.id).values(uses=row.uses - 1))
            founded = team is None
            if team is None:
                team = max([0, *state.teams]) + 1
                self.store.append(connection, Kind.TEAM, team=team, name=row.name, division=row.division)
            role = "captain" if founded else "member"
            token = self._token(connection, role, team=team, name=member)
            found = self._find(connection, token)
            assert found is not None
            self.store.append(connection, Kind.MEMBER, team=team, member=found.id)
            self.store.audit(connection, f"token {found.id}", "joined", team=team, invite=row.id)
        self.fresh()  # who looks next sees it
        return token, Person(found.id, role, team, member)

    def person(self, token: str) -> Person:
        """Whose token this is; UnknownError for one that is not valid."""
        with self.store.reading() as connection:
            row = self._find(connection, token)
        if row is None or row.role == "invite":
            raise UnknownError("this token is not valid", "bughunt join gives you one")
        return Person(row.id, row.role, row.team, row.name, frozenset(row.scopes.split()))

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

    def forget(self, who: str, token_id: int) -> None:
        """Delete one person's name and token; what the team sent stays the team's."""
        with self.store.writing() as connection:
            if connection.execute(TOKENS.delete().where(TOKENS.c.id == token_id)).rowcount != 1:
                raise UnknownError(f"no token {token_id}", "bughunt admin tokens lists them")
            self.store.audit(connection, who, "forgotten", token=token_id)

    def remove_team(self, who: str, team: int) -> None:
        """Delete a team's people and files; numbers that others depend on are folded without it."""
        self.known_team(team)
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

    def _token(self, connection: Connection, role: str, **fields: Any) -> str:
        token = secrets.token_hex(24)  # no "-" at its head: a shell would hand it on as an option
        connection.execute(TOKENS.insert().values(hash=hashed(token), role=role, **fields))
        return token

    def _find(self, connection: Connection, token: str, role: str | None = None) -> Row[Any] | None:
        row = connection.execute(VALID, {"hashed": hashed(token)}).first()
        expired = row is not None and row.expires is not None and row.expires <= clock.now()
        return None if row is None or expired or (role and row.role != role) else row


def _has_begun(state: Competition, team: int) -> bool:
    """Whether a team has sent anything but the warm-up."""
    return any(one.team == team and one.challenge != WARM_UP for one in state.submissions.values())


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
