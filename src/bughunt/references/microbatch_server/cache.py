"""Answers kept for a while: the least recently used goes first, and no answer outlives its time."""

from collections import OrderedDict


class Cache:
    def __init__(self, capacity: int, lifetime: float) -> None:
        self.capacity, self.lifetime = capacity, lifetime
        self.entries: OrderedDict[int, tuple[float, float]] = OrderedDict()  # key -> answer, time stored
        self.hits = 0
        self.misses = 0

    def get(self, key: int, now: float) -> float | None:
        """The answer stored for a key, if it is younger than its lifetime; a hit is a use."""
        entry = self.entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        if now - entry[1] >= self.lifetime:
            del self.entries[key]
            self.misses += 1
            return None
        self.entries.move_to_end(key)
        self.hits += 1
        return entry[0]

    def put(self, key: int, answer: float, now: float) -> None:
        """Store an answer as the most recently used; one too many pushes out the least recently used."""
        if self.capacity <= 0:
            return
        self.entries[key] = (answer, now)
        self.entries.move_to_end(key)
        if len(self.entries) > self.capacity:
            self.entries.popitem(last=False)

    def keys(self) -> list[int]:
        """From the least to the most recently used."""
        return list(self.entries)

    def hit_rate(self) -> float:
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0
