"""Steps that need one another's results: an order, and what depends on what."""

import heapq
from collections.abc import Mapping, Sequence

Needs = Mapping[str, Sequence[str]]  # step -> steps whose results it takes


class CycleError(ValueError):
    """Steps that wait for one another for ever."""


class UnknownStepError(ValueError):
    """A step needs one that is not there."""


def check(needs: Needs) -> None:
    for step, sources in needs.items():
        for source in sources:
            if source not in needs:
                raise UnknownStepError(f"{step} needs {source}, which is no step")


def order(needs: Needs) -> list[str]:
    """Every step after all that it needs; of several that could come next the first by name."""
    check(needs)
    missing = {step: len(set(sources)) for step, sources in needs.items()}
    users = consumers(needs)
    ready = [step for step, count in missing.items() if count == 0]
    heapq.heapify(ready)
    found = []
    while ready:
        step = heapq.heappop(ready)
        found.append(step)
        for user in users[step]:
            missing[user] -= 1
            if missing[user] == 0:
                heapq.heappush(ready, user)
    if len(found) < len(needs):
        left = sorted(set(needs) - set(found))
        raise CycleError(f"these steps wait for one another: {', '.join(left)}")
    return found


def consumers(needs: Needs) -> dict[str, list[str]]:
    """For each step those that take its result, by name."""
    users: dict[str, list[str]] = {step: [] for step in needs}
    for step in sorted(needs):
        for source in set(needs[step]):
            users[source].append(step)
    return users


def reachable(links: Needs, starts: Sequence[str]) -> set[str]:
    """The starts and all that can be reached from them."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        step = waiting.pop()
        if step not in found:
            found.add(step)
            waiting.extend(links[step])
    return found


def needed_for(needs: Needs, wanted: Sequence[str]) -> list[str]:
    """In order, the steps without which the wanted ones cannot be made."""
    check(needs)
    return [step for step in order(needs) if step in reachable(needs, wanted)]


def stale_after(needs: Needs, changed: Sequence[str]) -> list[str]:
    """In order, the steps to be made anew when some have changed."""
    return [step for step in order(needs) if step in reachable(consumers(needs), changed)]


def levels(needs: Needs) -> list[list[str]]:
    """Steps that can run side by side, by name, level after level, each as early as it can."""
    height: dict[str, int] = {}
    for step in order(needs):
        height[step] = 1 + max((height[source] for source in needs[step]), default=-1)
    rows: list[list[str]] = [[] for _ in range(1 + max(height.values(), default=-1))]
    for step in sorted(height):
        rows[height[step]].append(step)
    return rows
