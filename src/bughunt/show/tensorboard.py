"""Runs for TensorBoard: the reference seeds, the broken program, and one run for each attempt.

TensorBoard reads one event file a directory, so each run has its own; all are flushed and closed at once.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from bughunt.bugsets.challenge import Challenge, Curves
from bughunt.judge.verdict import Curve

MAX_POINTS = 500

Scalar = tuple[str, int, float]


def write_baseline(runs: Path, challenge: Challenge) -> None:
    """The band and the broken program, once."""
    folder = runs / challenge.id
    if (folder / "reference-0").is_dir():
        return
    curves = challenge.curves()
    for index in range(len(curves.reference)):
        scalars = _measured(challenge, curves, curves.reference[index])
        scalars += _final(challenge, curves, curves.reference_metric, index)
        _write(folder / f"reference-{index}", scalars)
    for index in range(len(curves.broken)):
        scalars = _measured(challenge, curves, curves.broken[index])
        scalars += _final(challenge, curves, curves.broken_metric, index)
        _write(folder / f"broken-{index}", scalars)


def write_attempt(runs: Path, challenge: Challenge, number: int, curves: Sequence[Curve]) -> list[Path]:
    """One run for each curve of an attempt: measured curve, metric, gradients, updates, reported loss."""
    written = []
    for index, curve in enumerate(curves):
        suffix = "" if len(curves) == 1 else f"-{index + 1}"
        folder = runs / challenge.id / f"attempt-{number:03d}{suffix}"
        _write(folder, _attempt(challenge, curve))
        written.append(folder)
    return written


def _measured(challenge: Challenge, curves: Curves, values: Sequence[float]) -> list[Scalar]:
    return [(_tag(challenge), *pair) for pair in zip(curves.steps, values, strict=False)]


def _final(challenge: Challenge, curves: Curves, metrics: Sequence[float], index: int) -> list[Scalar]:
    if index >= len(metrics) or not curves.steps:
        return []
    return [(f"measured/{challenge.metric}", curves.steps[-1], metrics[index])]


def _attempt(challenge: Challenge, curve: Curve) -> list[Scalar]:
    steps = curve.steps
    scalars: list[Scalar] = []
    series = [
        (_tag(challenge), curve.values),
        (f"measured/{challenge.metric}", curve.metrics),
        ("probe/gradient norm", curve.gradient_norms),
        *((f"update ratio/{name}", values) for name, values in curve.update_ratios.items()),
    ]
    for tag, values in series:
        scalars += [(tag, step, value) for step, value in zip(steps, values, strict=False)]
    stride = max(1, math.ceil(len(curve.reported) / MAX_POINTS))
    reported = list(enumerate(curve.reported, 1))[::stride]
    return scalars + [("reported/loss", step, value) for step, value in reported]


def _tag(challenge: Challenge) -> str:
    return f"measured/{challenge.curve}"


def _write(folder: Path, scalars: Iterable[Scalar]) -> None:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for tag, step, value in scalars:
            writer.add_scalar(tag, value, step)
        writer.flush()
