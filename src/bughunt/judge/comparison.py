"""Training curves held against those of the reference and of the broken program.

A comparison is made on *comparable* values: logarithms of the clipped curve where the task's scale is "log",
else the curve in units of the reference's own range. What is not finite counts as the worst value there is.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from bughunt.judge.verdict import Curve
from bughunt.task import Task

LOWEST, HIGHEST = 1e-4, 1e3  # where logarithmic curves are clipped
AREA_FLOOR, FINAL_FLOOR, METRIC_FLOOR = 0.005, 0.01, 0.02  # least standard deviation believed
CURVE_LIMIT, METRIC_LIMIT, ABSURD = 3.3, 3.0, 8.0  # in standard errors
PAIRED_DOUBT, PAIRED_LIMIT, PAIRED_ALONE = 4.6, 4.0, 6.0  # likewise, of differences on the same seeds
FEW, ENOUGH = 5, 8  # seeds run by both, for their differences to raise a doubt and to settle it
SAME = 1e-5  # relative difference of two probes that count as equal
STILL = 3  # probes without a change that are no accident
SILENT = 3.0  # standard deviations between broken and reference below which a curve says nothing

Lines = Sequence[Sequence[float]]  # one line a seed


@dataclass(frozen=True)
class Comparison:
    """A candidate's curves beside those of the reference and of the broken program."""

    agrees: bool  # not to be told from the reference, in either direction
    not_worse: bool  # one-sided: at least as good, and not better than possible
    absurd: bool  # so far away that an equal program cannot explain it
    moved: bool  # to be told from the broken program
    recovery: float | None
    seeds: int
    same: bool = False  # every curve is the reference's own of the same seed
    still: bool = False  # one of them stands still where the reference learns on, on every seed


def compare(
    yours: Sequence[Curve], reference: Sequence[Curve], broken: Sequence[Curve], task: Task
) -> Comparison:
    """Every curve rule at once, with the task's scale, floor and metric.

    Eight seeds tell poorly how much the reference varies: the mean of five right curves lies beyond 3.3
    standard errors once in a hundred times. On seeds that the reference has run too, curves are therefore
    also compared one by one: some that differ raise a doubt, and what all of them say together settles it.
    """
    pairs = _pairs(yours, reference)
    lines, ours, bad = ([curve.values for curve in group] for group in (yours, reference, broken))
    metrics = np.array([curve.metrics[-1] for curve in yours], dtype=np.float64)
    usual = np.array([curve.metrics[-1] for curve in reference], dtype=np.float64)
    least = max(METRIC_FLOOR * abs(float(usual.mean())), 1e-6)
    honest = not beats_floor(lines, task.floor)
    area = _deviation(_areas(lines, ours, task.scale), _areas(ours, ours, task.scale), AREA_FLOOR)
    metric = _deviation(metrics, usual, least)
    worse = -metric if task.metric_higher_is_better else metric
    share = recovery(lines, ours, bad, task.scale) if broken else None
    return Comparison(
        agrees=honest
        and agrees(lines, ours, task.scale, high_variance=task.high_variance, pairs=pairs)
        and (task.high_variance or not _differ(metrics, usual, least, METRIC_LIMIT, pairs)),
        not_worse=honest and area <= CURVE_LIMIT and worse <= CURVE_LIMIT,
        absurd=not honest or (len(reference) > 3 and not abs(area) <= ABSURD),
        moved=bool(broken) and _moved(lines, ours, bad, task.scale),
        recovery=share if honest or share is None else 0.0,
        seeds=len(yours),
    )


def same_training(yours: Sequence[Curve], reference: Sequence[Curve]) -> bool:
    """Whether every curve is that of the reference on the same seed, as far as six digits are kept."""
    known = {curve.seed: curve for curve in reference}
    pairs = [(curve, known.get(curve.seed)) for curve in yours]
    return bool(pairs) and all(theirs is not None and _same(mine, theirs) for mine, theirs in pairs)


def _same(mine: Curve, theirs: Curve) -> bool:
    one, other = ([*curve.values, curve.metrics[-1]] for curve in (mine, theirs))
    return len(one) == len(other) and np.allclose(one, other, rtol=SAME, atol=SAME**2, equal_nan=True)


def stands_still(yours: Sequence[Curve], reference: Sequence[Curve]) -> bool:
    """Whether no weight changes for a while in which the reference learns on, whatever its seed."""
    changes = [_changes(curve) for curve in reference]
    learns = [all(of) for of in zip(*changes, strict=False)]
    return any(_longest(_resting(curve, learns)) >= STILL for curve in yours)


def _changes(curve: Curve) -> list[bool]:
    """For each probe but the first whether it is another than the one before."""
    return [one != other for one, other in pairwise(curve.values)]


def _resting(curve: Curve, learns: Sequence[bool]) -> list[bool]:
    """The probes but the first at which the reference has learnt and this program not moved a weight."""
    moved = [any(ratios) for ratios in zip(*curve.update_ratios.values(), strict=True)]
    probes = enumerate(zip(_changes(curve), learns, strict=False), 1)
    return [due and not own and not any(moved[at : at + 1]) for at, (own, due) in probes]


def _longest(flags: Iterable[bool]) -> int:
    """The length of the longest run of true ones."""
    return max((sum(1 for _ in run) for flag, run in groupby(flags) if flag), default=0)


def recovery(yours: Lines, reference: Lines, broken: Lines, scale: str) -> float | None:
    """How much of the way from broken to reference the area has come, whichever side it ends on.

    None where broken and reference are too close for the curve to say anything.
    """
    you, ours, bad = (_areas(lines, reference, scale) for lines in (yours, reference, broken))
    spread = _spread(ours, AREA_FLOOR)
    gap = abs(bad.mean() - ours.mean())
    if gap < SILENT * spread:
        return None
    error = spread * math.sqrt(1 / len(you) + 1 / len(ours))
    missing = max(0.0, abs(you.mean() - ours.mean()) - 2 * error)
    return float(np.clip(1 - missing / gap, 0.0, 1.0))


def agrees(
    yours: Lines,
    reference: Lines,
    scale: str,
    *,
    high_variance: bool = False,
    pairs: Sequence[int] = (),
) -> bool:
    """Whether area and final value are the reference's within 3.3 standard errors, both ways.

    `pairs`: for each line of yours the place of the reference's line on the same seed.
    """
    you, ours = _comparable(yours, reference, scale), _comparable(reference, reference, scale)
    looks = [(slice(1, None), AREA_FLOOR)] + [(slice(-3, None), FINAL_FLOOR)] * (not high_variance)
    return not any(
        _differ(you[:, part].mean(1), ours[:, part].mean(1), least, CURVE_LIMIT, pairs)
        for part, least in looks
    )


def beats_floor(lines: Lines, floor: float | None) -> bool:
    """Whether a curve goes where no honest program can."""
    if floor is None:
        return False
    margin = 1e-6 + 0.005 * abs(floor)
    return any(value < floor - margin for line in lines for value in line)


def _moved(yours: Lines, reference: Lines, broken: Lines, scale: str) -> bool:
    you, ours, bad = (_areas(lines, reference, scale) for lines in (yours, reference, broken))
    spread = max(_spread(ours, AREA_FLOOR), _spread(bad, AREA_FLOOR))
    error = spread * math.sqrt(1 / len(you) + 1 / len(bad))
    nearer = abs(you.mean() - ours.mean()) < abs(bad.mean() - ours.mean())
    return bool(nearer and abs(you.mean() - bad.mean()) > SILENT * error)


def _areas(lines: Lines, reference: Lines, scale: str) -> NDArray[np.float64]:
    """The mean of each line after its first point, which training has not touched."""
    return _comparable(lines, reference, scale)[:, 1:].mean(1)


def _comparable(lines: Lines, reference: Lines, scale: str) -> NDArray[np.float64]:
    values = np.asarray(lines, dtype=np.float64)
    if scale == "log":
        finite = np.where(np.isfinite(values), values, HIGHEST)
        return np.log(np.clip(finite, LOWEST, HIGHEST))
    usual = np.asarray(reference, dtype=np.float64)
    low, high = np.nanmin(usual), np.nanmax(usual)
    extent = max(high - low, 1e-9)
    in_range = (np.where(np.isfinite(values), values, np.inf) - low) / extent
    return np.clip(in_range, -10.0, 11.0)


def _spread(sample: NDArray[np.float64], least: float) -> float:
    return max(float(sample.std(ddof=1)) if len(sample) > 1 else 0.0, least)


def _deviation(yours: NDArray[np.float64], ours: NDArray[np.float64], least: float) -> float:
    """The difference of two means in standard errors, with the reference's spread for both."""
    error = _spread(ours, least) * math.sqrt(1 / len(yours) + 1 / len(ours))
    return float((yours.mean() - ours.mean()) / error)


def _differ(
    yours: NDArray[np.float64],
    ours: NDArray[np.float64],
    least: float,
    limit: float,
    pairs: Sequence[int],
) -> bool:
    """Whether two means differ, by the reference's spread and, where values come in pairs, by theirs."""
    apart = not abs(_deviation(yours, ours, least)) <= limit
    if not pairs:
        return apart
    gaps = yours - ours[list(pairs)]
    far = abs(float(gaps.mean())) / (_spread(gaps, least) / math.sqrt(len(gaps)))
    if len(pairs) == len(ours) >= ENOUGH:
        return not far <= (PAIRED_LIMIT if apart else PAIRED_ALONE)
    return apart or not far <= PAIRED_DOUBT


def _pairs(yours: Sequence[Curve], reference: Sequence[Curve]) -> list[int]:
    """The place of each one's seed among the reference's, where all are there and enough to compare."""
    places = {curve.seed: place for place, curve in enumerate(reference)}
    known = len(yours) >= FEW and len(reference) >= ENOUGH and all(curve.seed in places for curve in yours)
    return [places[curve.seed] for curve in yours] if known else []
