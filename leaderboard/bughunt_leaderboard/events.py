"""What happens in a competition; the log of these is the only truth, everything shown is a fold of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Each kind with what its payload holds."""

    CREATED = "created"  # name, set, rules, challenges {id: {title, level}}
    ROUND = "round"  # round, start, end, challenges: made, moved or extended
    PAUSED = "paused"
    RESUMED = "resumed"
    FROZEN = "frozen"
    UNFROZEN = "unfrozen"
    TEAM = "team"  # team, name, division
    EXTENDED = "extended"  # team, minutes
    REMOVED = "removed"  # team: a person's data are deleted
    MEMBER = "member"  # team, member: the number of a token, so that nobody's name stays
    RECEIVED = "received"  # submission, team, challenge, late
    VERDICT = "verdict"  # submission, generation, outcome, score, changed
    REJUDGE = "rejudge"  # rejudging, submissions, generation
    APPLIED = "applied"  # rejudging
    CANCELLED = "cancelled"  # rejudging
    FLAGGED = "flagged"  # submission, why, other
    CLEARED = "cleared"  # submission


@dataclass(frozen=True)
class Event:
    """`seq` counts from one without gaps; `at` is the server's clock in milliseconds since 1970, UTC."""

    seq: int
    at: int
    kind: Kind
    payload: Mapping[str, Any]
