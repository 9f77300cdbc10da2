"""Requests and when they come. Times are in milliseconds since the start."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Request:
    number: int
    arrival: float
    key: int  # what is asked for; equal keys have equal answers
    length: int = 1  # of the input, in tokens
    urgent: bool = False
    patience: float = float("inf")  # how long the client waits for the batch to begin


def poisson(rate: float, duration: float, rng: np.random.Generator) -> list[float]:
    """Arrivals at `rate` a second for `duration` milliseconds, in rising order."""
    times, now = [], 0.0
    while True:
        now += rng.exponential(1000.0 / rate)
        if now >= duration:
            return times
        times.append(now)


def requests_at(times: list[float], keys: int, longest: int, rng: np.random.Generator) -> list[Request]:
    """Requests for `keys` things of which few are asked for often, of 1 to `longest` tokens."""
    ranks = np.minimum(rng.zipf(1.3, len(times)), keys) - 1
    lengths = rng.integers(1, longest + 1, len(times))
    return [
        Request(number, time, int(key), int(length))
        for number, (time, key, length) in enumerate(zip(times, ranks, lengths, strict=True))
    ]


def merged(streams: list[list[Request]]) -> Iterator[Request]:
    """Several streams as one in order of arrival; of equal ones the earlier stream goes first."""
    return heapq.merge(*streams, key=lambda request: request.arrival)
