"""A server that answers in batches: little waiting at low load, high throughput at high load.

The other files: `traffic` (who asks when), `cache` (answers that are known), `batcher` (the queue and the
worker) and `report` (what an operator looks at). Nothing is trained: the model behind the server is a
function of the key. The same answers can be worked out ahead, by night, and looked up by day. Times are
in milliseconds.
"""

from dataclasses import dataclass, field

import numpy as np
from batcher import Answer, Policy, Worker, cost, take
from cache import Cache
from report import burnt, latencies, percentile, summary
from traffic import Request, merged, poisson, requests_at

__all__ = [
    "Cache",
    "Config",
    "Policy",
    "Request",
    "burnt",
    "cost",
    "latencies",
    "look_up",
    "merged",
    "nightly",
    "percentile",
    "poisson",
    "requests_at",
    "respond",
    "serve",
    "simulate",
    "smallest_wait",
    "summary",
    "take",
]


@dataclass(frozen=True, kw_only=True)
class Config:
    rate: float = 400.0  # requests a second
    duration: float = 6000.0
    keys: int = 5000
    longest: int = 24
    capacity: int = 300
    lifetime: float = 900.0
    policy: Policy = field(default_factory=Policy)


def respond(keys: list[int]) -> list[float]:
    """The model: a number for each key, whatever else is in the batch."""
    return [round(np.sin(0.37 * key + 1).item(), 6) for key in keys]


def serve(requests: list[Request], policy: Policy, capacity: int, lifetime: float) -> list[Answer]:
    """An answer to every request, in order of their numbers."""
    return Worker(policy, Cache(capacity, lifetime), respond).run(requests)


def simulate(cfg: Config, rng: np.random.Generator) -> dict[str, float]:
    """The summary of one drawn run."""
    times = poisson(cfg.rate, cfg.duration, rng)
    requests = requests_at(times, cfg.keys, cfg.longest, rng)
    return summary(requests, serve(requests, cfg.policy, cfg.capacity, cfg.lifetime))


def nightly(keys: list[int], size: int) -> dict[int, float]:
    """Answers to all keys worked out ahead, each once, a full batch at a time."""
    order = list(dict.fromkeys(keys))
    table = {}
    for start in range(0, len(order), size):
        part = order[start : start + size]
        table.update(zip(part, respond(part), strict=True))
    return table


def look_up(table: dict[int, float], requests: list[Request], policy: Policy) -> list[Answer]:
    """Answers from a table made ahead; what it lacks is asked of the worker, nothing is kept."""
    known = [
        Answer(request.number, "cached", request.arrival, 0, table[request.key])
        for request in requests
        if request.key in table
    ]
    others = serve([request for request in requests if request.key not in table], policy, 0, 0.0)
    return sorted([*known, *others], key=lambda answer: answer.number)


def smallest_wait(requests: list[Request], waits: list[float], largest: int, target: float) -> float | None:
    """The shortest wait for company under which the tail latency is at most the target; None if none does."""
    for wait in sorted(waits):
        answers = serve(requests, Policy(largest=largest, wait=wait), 0, 0.0)
        if percentile(latencies(requests, answers), 0.99) <= target:
            return wait
    return None
