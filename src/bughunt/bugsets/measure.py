"""Measuring a reference program again: cost, metric and tests."""

import resource
import time
from typing import Any

from bughunt import references
from bughunt.judge.judge import Judge


def measure(judge: Judge, slug: str, seed: int = 0) -> dict[str, Any]:
    """One training and the whole battery; `ok` where the metric is in its band and every test passes.

    `cpu_seconds` are those of the worker alone for the full training, its measurements included.
    """
    reference = references.load(slug)
    task = reference.task
    wall, before = time.perf_counter(), _children()
    curve = judge.measure(reference.files, task, seed, next(iter(task.configurations)))
    seconds = _children() - before or time.perf_counter() - wall
    tests = judge.battery(reference.files, task, reference.test_path, seed)
    metric = curve.metrics[-1]
    low, high = task.band
    failed = [test.name for test in tests if not test.passed]
    return {
        "slug": slug,
        "cpu_seconds": round(seconds, 2),
        "declared_cpu_seconds": task.cpu_seconds,
        "metric": metric,
        "metric_name": task.metric_name,
        "band": [low, high],
        "in_band": low <= metric <= high,
        "tests": {"passed": len(tests) - len(failed), "total": len(tests), "failed": failed},
        "topics": list(task.topics),
        "ok": low <= metric <= high and not failed and bool(tests),
    }


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
