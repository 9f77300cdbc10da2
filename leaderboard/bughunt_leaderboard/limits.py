"""How much may be asked for: by one token, and by one address whoever it says it is.

Each limit is a bucket that holds a minute's worth and fills steadily, so that a rush is let through and a
flood is not. Reads are cheap and their limit is high: a whole meeting may share an address. Attempts are
tokens and invites that turn out to be none; those that are good cost nothing.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

MANY = 50_000  # buckets, from which on the full ones are forgotten


@dataclass(frozen=True, kw_only=True)
class Limits:
    """All a minute."""

    reads_address: int = 6000
    reads_token: int = 1200
    sends_address: int = 600
    sends_token: int = 60
    attempts_address: int = 20

    def dump(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def load(cls, given: Mapping[str, Any]) -> Self:
        """ValueError for a limit that there is not, or that lets nobody in."""
        known = sorted(field.name for field in fields(cls))
        if unknown := sorted(given.keys() - set(known)):
            raise ValueError(f"no limit is called {', '.join(unknown)}; there are {', '.join(known)}")
        for name, value in given.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is a number of requests a minute, from one on")
        return cls(**given)


class Meter:
    """The buckets: how full each was when it was last looked at."""

    def __init__(self, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self.rates, self.now = limits.dump(), now
        self.levels: dict[tuple[str, str], tuple[float, float]] = {}
        self.refused = 0

    def take(self, limit: str, who: str) -> float:
        """Nought where it is allowed; otherwise the seconds after which it will be."""
        level, rate = self._level(limit, who), self.rates[limit] / 60
        if level < 1:
            self.refused += 1
            return (1 - level) / rate
        self.levels[limit, who] = level - 1, self.now()
        if len(self.levels) > MANY:
            self._forget()
        return 0.0

    def wait(self, limit: str, who: str) -> float:
        """Seconds after which one would be allowed, without taking it."""
        return max(0.0, 1 - self._level(limit, who)) * 60 / self.rates[limit]

    def _level(self, limit: str, who: str) -> float:
        most = float(self.rates[limit])
        level, at = self.levels.get((limit, who), (most, 0.0))
        return min(most, level + (self.now() - at) * most / 60)

    def _forget(self) -> None:
        full = [key for key in self.levels if self._level(*key) >= self.rates[key[0]]]
        for key in full:
            del self.levels[key]
