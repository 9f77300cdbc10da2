"""One worker that serves requests in batches, as a simulation by events; times are in milliseconds.

A batch begins when the worker is free and either enough requests wait or the oldest has waited long enough.
While the worker is busy requests gather, so that batches grow with the load by themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cache import Cache
from traffic import Request


@dataclass(frozen=True)
class Policy:
    largest: int = 16  # requests of a batch
    wait: float = 5.0  # that the oldest request may wait for company
    tokens: int = 512  # of a batch, padding counted
    fixed_cost: float = 4.0  # of a batch
    row_cost: float = 0.6  # of each request
    token_cost: float = 0.01  # of each token, padding counted
    queue: int = 400  # requests that may wait; more are turned away


class Answer(NamedTuple):
    number: int
    outcome: str  # "served", "cached", "expired" or "refused"
    finished: float
    batch: int = 0  # how many were served together
    value: float | None = None


def cost(batch: list[Request], policy: Policy) -> float:
    """How long a batch takes: every row is padded to the longest."""
    tokens = len(batch) * max(request.length for request in batch)
    return policy.fixed_cost + policy.row_cost * len(batch) + policy.token_cost * tokens


def take(waiting: list[Request], policy: Policy) -> list[Request]:
    """The next batch: urgent requests first, else in order of arrival, as many as the policy allows.

    A request that alone is beyond the budget of tokens is a batch of its own.
    """
    order = sorted(waiting, key=lambda request: (not request.urgent, request.arrival, request.number))
    batch: list[Request] = []
    longest = 0
    for request in order:
        longest = max(longest, request.length)
        full = len(batch) == policy.largest or (len(batch) + 1) * longest > policy.tokens
        if batch and full:
            break
        batch.append(request)
    return batch


class Worker:
    """The queue before the worker, and the clock until which it is busy."""

    def __init__(self, policy: Policy, cache: Cache, model: Callable[[list[int]], list[float]]) -> None:
        self.policy, self.cache, self.model = policy, cache, model
        self.waiting: list[Request] = []
        self.free = 0.0
        self.answers: list[Answer] = []
        self.coming: list[tuple[float, int, float]] = []  # when an answer will be there, of what, which

    def start_of_next(self) -> float:
        """When the next batch begins if nobody else comes; infinity where nobody waits."""
        if not self.waiting:
            return float("inf")
        oldest = min(request.arrival for request in self.waiting)
        if len(self.waiting) >= self.policy.largest:
            return max(self.free, self.latest_needed())
        return max(self.free, oldest + self.policy.wait)

    def latest_needed(self) -> float:
        """When the batch became full."""
        arrivals = sorted(request.arrival for request in self.waiting)
        return arrivals[self.policy.largest - 1]

    def serve(self, now: float) -> None:
        """Drop who has given up, answer the next batch, and be busy for as long as it takes."""
        for request in [one for one in self.waiting if now - one.arrival > one.patience]:
            self.waiting.remove(request)
            self.answers.append(Answer(request.number, "expired", request.arrival + request.patience))
        batch = take(self.waiting, self.policy)
        if not batch:
            return
        for request in batch:
            self.waiting.remove(request)
        self.free = now + cost(batch, self.policy)
        values = self.model([request.key for request in batch])
        for request, value in zip(batch, values, strict=True):
            self.answers.append(Answer(request.number, "served", self.free, len(batch), value))
            self.coming.append((self.free, request.key, value))

    def settle(self, now: float) -> None:
        """Put into the cache what has been worked out by now."""
        for finished, key, value in self.coming:
            if finished <= now:
                self.cache.put(key, value, finished)
        self.coming = [one for one in self.coming if one[0] > now]

    def arrive(self, request: Request) -> None:
        """Answer from the cache, else join the queue, else be turned away."""
        self.settle(request.arrival)
        known = self.cache.get(request.key, request.arrival)
        if known is not None:
            self.answers.append(Answer(request.number, "cached", request.arrival, 0, known))
        elif len(self.waiting) >= self.policy.queue:
            self.answers.append(Answer(request.number, "refused", request.arrival))
        else:
            self.waiting.append(request)

    def run(self, requests: list[Request]) -> list[Answer]:
        """Answers to requests in order of arrival, sorted by the requests' numbers."""
        for request in requests:
            while (start := self.start_of_next()) <= request.arrival:
                self.serve(start)
            self.arrive(request)
        while self.waiting:
            self.serve(self.start_of_next())
        return sorted(self.answers, key=lambda answer: answer.number)
