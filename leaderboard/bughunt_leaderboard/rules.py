"""The rules of a competition as numbers: what a solution is worth, what a failure costs, what breaks a tie.

They are published on the rules page from this very object.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

MINUTE = 60_000  # milliseconds


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`value` falls from `base` towards `base * floor` as teams solve; all times are minutes."""

    base: int = 100  # points of a challenge of level 1; level n is worth n times that
    floor: float = 0.5  # share of the base that is left however many teams solve it
    decay: float = 10.0  # solving teams after which the falling part is down to 1/e
    first: tuple[float, ...] = (0.05, 0.03, 0.01)  # bonus of the first solvers, as shares of the base
    penalty: int = 10  # minutes for each judged failure before the solution
    quota: int = 30  # submissions of a team to one challenge in an hour
    running: int = 1  # judgements of one team at a time
    team_size: int = 5
    practice: bool = True  # submissions after the end are judged and never ranked

    def value(self, level: int, solvers: int) -> int:
        """What each solver gets while `solvers` teams have solved: S (r + (1 - r) e^((1 - x) / d))."""
        base = self.base * level
        falling = math.exp((1 - max(solvers, 1)) / self.decay)
        return round(base * (self.floor + (1 - self.floor) * falling))

    def bonus(self, level: int, place: int) -> int:
        """What the solver in this place, counted from nought, gets on top."""
        return round(self.base * level * self.first[place]) if place < len(self.first) else 0

    def dump(self) -> dict[str, Any]:
        return {**asdict(self), "first": list(self.first)}

    @classmethod
    def load(cls, given: Mapping[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}
        if unknown := sorted(given.keys() - known):
            raise ValueError(f"no rule is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return cls(**{**given, "first": tuple(given.get("first", cls.first))})


COUNTED = frozenset({"WORKAROUND", "PARTIAL", "UNFIXED", "REGRESSED", "ERROR", "TIMEOUT"})
"""Verdicts that cost the penalty; the others are nobody's failure, or a slip of the pen."""
