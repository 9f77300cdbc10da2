"""Features as they were known at the time: nothing that happened later may be in them.

Events are rows of (entity, time, value). Times are whole days.
"""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict

Event = tuple[str, int, float]


def clean(events: list[Event]) -> list[Event]:
    """Sorted by time and entity; of several rows of one entity and time the last, and no empty value."""
    latest = {(time, entity): value for entity, time, value in events if value is not None}
    return [(entity, time, value) for (time, entity), value in sorted(latest.items())]


def as_of(
    questions: list[tuple[str, int]], events: list[Event], delay: int, oldest: int
) -> list[float | None]:
    """For each (entity, time) the newest value known by then; None where there is none.

    An event is known `delay` days after it happened, and is of no use when it is more than `oldest` days old.
    """
    times: dict[str, list[int]] = defaultdict(list)
    values: dict[str, list[float]] = defaultdict(list)
    for entity, time, value in clean(events):
        times[entity].append(time)
        values[entity].append(value)
    found: list[float | None] = []
    for entity, now in questions:
        place = bisect_right(times[entity], now - delay) - 1
        fresh = place >= 0 and now - times[entity][place] <= oldest
        found.append(values[entity][place] if fresh else None)
    return found


def rolling_mean(questions: list[tuple[str, int]], events: list[Event], days: int) -> list[float | None]:
    """For each (entity, time) the mean of the values of the `days` days before, that day left out."""
    rows: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for entity, time, value in clean(events):
        insort(rows[entity], (time, value))
    found: list[float | None] = []
    for entity, now in questions:
        start = bisect_left(rows[entity], (now - days, float("-inf")))
        end = bisect_left(rows[entity], (now, float("-inf")))
        some = [value for _, value in rows[entity][start:end]]
        found.append(sum(some) / len(some) if some else None)
    return found


def fill(values: list[float | None], known: list[float | None]) -> list[float]:
    """Missing values replaced by the median of those that are known; zero where none is."""
    present = sorted(value for value in known if value is not None)
    middle = len(present) // 2
    if not present:
        median = 0.0
    elif len(present) % 2:
        median = present[middle]
    else:
        median = (present[middle - 1] + present[middle]) / 2
    return [median if value is None else value for value in values]


def missing_days(have: list[int], first: int, last: int) -> list[tuple[int, int]]:
    """The stretches of days from first to last that have not been made, each as (first, last)."""
    done = set(have)
    stretches: list[tuple[int, int]] = []
    for day in range(first, last + 1):
        if day in done:
            continue
        if stretches and stretches[-1][1] == day - 1:
            stretches[-1] = (stretches[-1][0], day)
        else:
            stretches.append((day, day))
    return stretches
