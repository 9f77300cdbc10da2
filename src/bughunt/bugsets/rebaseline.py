"""Bands of reference programs: measured again over seeds, and written into their tasks."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bughunt import references
from bughunt.errors import BughuntError
from bughunt.judge.judge import Judge

SEEDS = range(10)
LINE = re.compile(r"^( +)band=\([^()]*\),(?: *#.*)?$", re.MULTILINE)
NOTE = re.compile(r"seeds \d+-\d+: ([-\d.]+) to ([-\d.]+)")


@dataclass(frozen=True)
class Baseline:
    """What a program reaches over seeds, and the band that its task promises."""

    slug: str
    metrics: Sequence[float]
    band: tuple[float, float]
    noted: tuple[float, float] | None  # lowest and highest metric as the task tells them

    @property
    def reached(self) -> tuple[float, float]:
        return float(np.min(self.metrics)), float(np.max(self.metrics))  # NaN if one of them is

    @property
    def deviation(self) -> float:
        return float(np.std(self.metrics))

    @property
    def moved(self) -> bool:
        """Whether a seed leaves the band, or an end is a seeds' deviation away from where it was noted."""
        low, high = self.reached
        inside = self.band[0] <= low and high <= self.band[1]
        if not inside or self.noted is None:
            return True
        allowed = max(self.deviation, 0.001)
        return not all(abs(a - b) <= allowed for a, b in zip(self.reached, self.noted, strict=True))

    @property
    def proposed(self) -> tuple[float, float]:
        """Two deviations around what is reached, in hundredths; not beyond one where the band was not.

        Where a seed reaches no number, the band as it is.
        """
        if not math.isfinite(self.deviation):
            return self.band
        margin = max(2 * self.deviation, 0.01)
        low = math.floor(100 * (self.reached[0] - margin)) / 100
        high = math.ceil(100 * (self.reached[1] + margin)) / 100
        return low, min(high, 1.0) if max(self.band[1], self.reached[1]) <= 1 else high


def rebaseline(judge: Judge, slug: str) -> Baseline | None:
    """The metric of ten full trainings; None where nothing trains."""
    reference = references.load(slug)
    if not reference.task.trains:
        return None
    configuration = next(iter(reference.task.configurations))
    curves = [judge.measure(reference.files, reference.task, seed, configuration) for seed in SEEDS]
    text = (reference.folder / "task.py").read_text(encoding="utf-8")
    return Baseline(slug, [curve.metrics[-1] for curve in curves], reference.task.band, _noted(text))


def write(baseline: Baseline) -> Path:
    """Put the proposed band into the task's file; BughuntError where it has no band on a line of its own."""
    path = references.load(baseline.slug).folder / "task.py"
    text = path.read_text(encoding="utf-8")
    found = list(LINE.finditer(text))
    if len(found) != 1:
        raise BughuntError(f"{path} has no line `band=(low, high),`", "write the band on one line of its own")
    path.write_text(text[: found[0].start()] + line(baseline, found[0][1]) + text[found[0].end() :], "utf-8")
    return path


def line(baseline: Baseline, indent: str) -> str:
    """The band with what it rests on, as it stands in a task."""
    (low, high), (least, most) = baseline.proposed, baseline.reached
    seeds = f"seeds {SEEDS[0]}-{SEEDS[-1]}"
    note = f"{seeds}: {least:.3f} to {most:.3f}, standard deviation {baseline.deviation:.3f}"
    return f"{indent}band=({low:g}, {high:g}),  # {note}"


def _noted(text: str) -> tuple[float, float] | None:
    band = LINE.search(text)
    note = NOTE.search(band[0]) if band else None
    return (float(note[1]), float(note[2])) if note else None
