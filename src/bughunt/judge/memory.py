"""A task's data, made once a seed."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from bughunt.task import Data, Task

Make = Callable[[int], Data]
KEPT = 32  # sets of data


@dataclass(frozen=True)
class _Remembered:
    """Makes data once a seed; everyone gets a copy, to do with as they like."""

    make: Make

    def __call__(self, seed: int) -> Data:
        return copy.deepcopy(_made(self.make, seed))


def remembering(task: Task) -> Task:
    """The same task; what `data` makes for a seed is kept, for whoever asks next."""
    return task if isinstance(task.data, _Remembered) else replace(task, data=_Remembered(task.data))


def maker(task: Task) -> Make:
    """The task's own function that makes data, remembered or not."""
    return task.data.make if isinstance(task.data, _Remembered) else task.data


@lru_cache(maxsize=KEPT)
def _made(make: Make, seed: int) -> Data:
    return make(seed)
