"""What an operator looks at: latencies, throughput, shares; times are in milliseconds."""

import math

from batcher import Answer
from traffic import Request


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed; NaN for none."""
    if not values:
        return float("nan")
    rank = max(1, math.ceil(share * len(values)))
    return sorted(values)[rank - 1]


def latencies(requests: list[Request], answers: list[Answer]) -> list[float]:
    """From arrival to answer, of those that got one."""
    arrival = {request.number: request.arrival for request in requests}
    return [
        answer.finished - arrival[answer.number]
        for answer in answers
        if answer.outcome in ("served", "cached")
    ]


def summary(requests: list[Request], answers: list[Answer]) -> dict[str, float]:
    """Median and tail latency, answers a second, the mean batch, and shares of the outcomes."""
    times = latencies(requests, answers)
    begun = min((request.arrival for request in requests), default=0.0)
    ended = max((answer.finished for answer in answers), default=0.0)
    sizes = [answer.batch for answer in answers if answer.outcome == "served"]
    batches = sum(1 / size for size in sizes)
    count = len(answers)

    def share(outcome: str) -> float:
        return sum(answer.outcome == outcome for answer in answers) / count if count else 0.0

    return {
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
        "per_second": 1000 * len(times) / (ended - begun) if ended > begun else 0.0,
        "batch": len(sizes) / batches if batches else 0.0,
        "cached": share("cached"),
        "expired": share("expired"),
        "refused": share("refused"),
    }


def burnt(times: list[float], target: float, allowed: float) -> float:
    """How much of the error budget is spent: the share of slow answers over the share that is allowed."""
    slow = sum(time > target for time in times)
    return slow / len(times) / allowed if times else 0.0
