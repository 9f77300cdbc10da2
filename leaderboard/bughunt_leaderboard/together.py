"""Group commit: acts that come at the same moment share one transaction, and so one wait for the disk.

The first to come leads: it opens the transaction, runs what has gathered meanwhile, each act in its turn,
and commits; nobody is answered before that commit. An act that is refused refuses before it writes. Where one
fails in any other way nothing of the batch is kept, and each is run again alone, so only the guilty fail.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bughunt_leaderboard.refusals import RefusedError

MOST = 64  # acts of one transaction
Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass
class Waiting(Generic[Given]):
    """An act, and what became of it."""

    act: Callable[[Given], Any]
    result: Any = None
    error: Exception | None = None
    done: bool = False


class Together(Generic[Given]):
    """Runs acts on what `transaction` gives."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[Given]]) -> None:
        self.transaction = transaction
        self._gathered: list[Waiting[Given]] = []
        self._gathering, self._leading = threading.Lock(), threading.Lock()

    def run(self, act: Callable[[Given], Result]) -> Result:
        """What the act returns, once it is on the disk; what it raises."""
        mine = Waiting(act)
        with self._gathering:
            self._gathered.append(mine)
        with self._leading:
            while not mine.done:
                with self._gathering:
                    batch, self._gathered = self._gathered[:MOST], self._gathered[MOST:]
                self._commit(batch)
        if mine.error is not None:
            raise mine.error
        result: Result = mine.result
        return result

    def _commit(self, batch: list[Waiting[Given]]) -> None:
        try:
            with self.transaction() as given:
                for one in batch:
                    _attempt(one, given)
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    one.error = None
                    self._commit([one])
                return
            batch[0].error = error
        for one in batch:
            one.done = True


def _attempt(one: Waiting[Given], given: Given) -> None:
    try:
        one.result = one.act(given)
    except RefusedError as error:
        one.error = error
