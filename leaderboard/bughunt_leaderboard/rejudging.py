"""Judging again: run beside the verdicts that stand, look at the difference, apply or cancel."""

from collections.abc import Sequence
from typing import Any

from bughunt_leaderboard.board import Competition
from bughunt_leaderboard.desk import Desk
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.refusals import RefusedError, UnknownError


class Rejudgings(Desk):
    """Sets of submissions that are judged anew, and single ones that a person looks at."""

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
        self.act(who, Kind.APPLIED, rejudging=rejudging)

    def cancel(self, who: str, rejudging: int) -> None:
        self._open_set(rejudging)
        self.act(who, Kind.CANCELLED, rejudging=rejudging)

    def flag(self, who: str, submission: int, why: str) -> None:
        """Take a submission off the board until a person has looked."""
        self._known(submission)
        self.act(who, Kind.FLAGGED, submission=submission, why=why)

    def clear(self, who: str, submission: int) -> None:
        self._known(submission)
        self.act(who, Kind.CLEARED, submission=submission)

    def _known(self, submission: int) -> None:
        if submission not in self.fresh().submissions:
            raise UnknownError(f"no submission {submission}", "")

    def _open_set(self, rejudging: int, *, any_state: bool = False) -> Any:
        one = self.fresh().rejudgings.get(rejudging)
        if one is None or not (any_state or one.state == "open"):
            raise UnknownError(f"no open rejudging {rejudging}", "")
        return one
