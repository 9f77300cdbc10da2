"""How long the judge waits for an answer, on a machine that may stand still meanwhile."""

import contextlib
import socket
import time
from collections.abc import Callable

SLICE = 1.0  # seconds of a wait after which the clock is looked at
LATE = 0.5  # seconds more than that, in which nothing here was let run


class Deadline:
    """The end of a wait of so many seconds.

    Where a machine is stopped for a while, or a laptop sleeps, nobody can answer: what passes between two
    looks at the clock beyond a slice of the wait puts the end off by as much.
    """

    def __init__(self, seconds: float) -> None:
        self._looked = time.monotonic()
        self._seconds, self._spent = seconds, 0.0

    def spent(self) -> float:
        """The seconds that count so far, which may be more than there were to wait."""
        now = time.monotonic()
        passed, self._looked = now - self._looked, now
        self._spent += SLICE if passed > SLICE + LATE else passed
        return self._spent

    def remaining(self) -> float:
        """The seconds left; `TimeoutError` where there are none."""
        left = self._seconds - self.spent()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def wait(self, sock: socket.socket, act: Callable[[], int]) -> int:
        """What `act` returns once the socket lets it; `TimeoutError` at the end."""
        while True:
            sock.settimeout(min(self.remaining(), SLICE))
            with contextlib.suppress(TimeoutError):
                return act()
