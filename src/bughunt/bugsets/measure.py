"""Measuring a reference program again: cost, metric and tests."""

from typing import Any

from bughunt import references
from bughunt.judge.curves import train_and_measure
from bughunt.judge.judge import Case, Judge
from bughunt.task import Program, Task


def measure(judge: Judge, slug: str, seed: int = 0) -> dict[str, Any]:
    """One training and the whole battery; `ok` where the metric is in its band and every test passes.

    `cpu_seconds` are those of the worker alone for the full training, its measurements included. Metric and
    band are None where nothing trains.
    """
    reference = references.load(slug)
    task = reference.task
    with judge.open(reference.files, task) as program:
        metric = _final_metric(program, task, seed) if task.trains else None
    case = Case(task, reference.files, reference.test_path)
    tests = judge.battery(reference.files, case, seed)
    low, high = task.band
    in_band = metric is None or low <= metric <= high
    failed = [test.name for test in tests if not test.passed]
    return {
        "slug": slug,
        "cpu_seconds": round(program.cpu_seconds or 0.0, 2),
        "declared_cpu_seconds": task.cpu_seconds,
        "metric": metric,
        "metric_name": task.metric_name,
        "band": [low, high] if task.trains else None,
        "in_band": in_band,
        "tests": {"passed": len(tests) - len(failed), "total": len(tests), "failed": failed},
        "topics": list(task.topics),
        "ok": in_band and not failed and bool(tests),
    }


def _final_metric(program: Program, task: Task, seed: int) -> float:
    return train_and_measure(program, task, seed, next(iter(task.configurations))).metrics[-1]
