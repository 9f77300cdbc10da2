"""Curves compared: made-up ones whose answer is known."""

import math
import runpy
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bughunt.judge.comparison import agrees, beats_floor, compare, recovery, stands_still
from bughunt.judge.verdict import Curve

TASK = runpy.run_path(str(Path(__file__).parents[1] / "verdicts" / "reference" / "task.py"))["TASK"]


def around(level, spread=0.02):
    """Natural logarithms, evenly spread around that of a level."""
    return [math.log(level) + offset for offset in np.linspace(-spread, spread, 4)]


def lines(level, spread=0.02):
    """Flat lines around a level."""
    return [[math.exp(value)] * 13 for value in around(level, spread)]


def flat(values, seeds=range(100), metric=0.5):
    """Flat curves at these natural logarithms."""
    return [
        Curve(seed, range(13), [math.exp(value)] * 13, (metric,))
        for seed, value in zip(seeds, values, strict=False)
    ]


def curves(level, metric=0.5):
    return flat(around(level), metric=metric)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(1.0, 1.0), (math.e, 0.0), (math.exp(-1), 0.0), (math.exp(0.5), 0.5), (math.exp(-0.5), 0.5)],
    ids=["reference", "broken", "as far below", "half way", "half way below"],
)
def test_recovery_is_the_way_come_back_on_either_side(level, expected):
    came = recovery(lines(level), lines(1.0), lines(math.e), "log")
    slack = 2 * np.std(np.linspace(-0.02, 0.02, 4), ddof=1) * math.sqrt(1 / 4 + 1 / 4)
    assert came == pytest.approx(min(1.0, expected + slack) if expected else slack, abs=1e-9)


def test_a_curve_that_hardly_moves_says_nothing():
    assert recovery(lines(1.0), lines(1.0), lines(1.02), "log") is None


def test_what_is_not_finite_counts_as_the_worst():
    assert recovery([[1.0] * 2 + [math.nan] * 11], lines(1.0), lines(2.0), "log") == 0.0


def test_raw_curves_may_be_negative():
    reference, broken = [[0.0, -8.0, -10.0, -10.0]] * 3, [[0.0, 0.0, 0.0, 0.0]] * 3
    assert recovery(reference, reference, broken, "raw") == 1.0
    half = recovery([[0.0, -4.0, -5.0, -5.0]], reference, broken, "raw")
    assert half == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("level", [0.9, 1.1], ids=["better", "worse"])
def test_a_different_curve_does_not_agree_in_either_direction(level):
    assert agrees(lines(1.0), lines(1.0), "log")
    assert not agrees(lines(level), lines(1.0), "log")


def test_only_the_area_counts_where_the_end_is_left_to_chance():
    ends_higher = [[*line[:-3], line[-1] * 1.2, line[-1], line[-1]] for line in lines(1.0)]
    assert not agrees(ends_higher, lines(1.0, spread=0.0), "log")
    assert agrees(ends_higher, lines(1.0), "log", high_variance=True)


def test_a_curve_below_the_floor_is_dishonest():
    assert beats_floor([[1.0, 0.4]], 0.5)
    assert not beats_floor([[1.0, 0.5]], 0.5)
    floored = replace(TASK, floor=0.99)
    below = compare(curves(0.9), curves(1.0), curves(3.0), floored)
    assert (below.agrees, below.not_worse, below.absurd, below.recovery) == (False, False, True, 0)


def test_the_broken_program_has_not_moved():
    stuck = compare(curves(3.0), curves(1.0), curves(3.0), TASK)
    mended = compare(curves(1.0), curves(1.0), curves(3.0), TASK)
    assert not stuck.moved
    assert mended.moved
    assert mended.agrees


def test_a_worse_metric_does_not_agree():
    other = compare(curves(1.0, metric=0.9), curves(1.0), (), TASK)
    assert not other.agrees
    assert not other.not_worse


def in_standard_errors(yours, usual):
    """How far means lie apart by the spread of the usual values, and how far pairs do."""
    gaps = [one - other for one, other in zip(yours, usual, strict=True)]
    by_spread = statistics.fmean(gaps) / statistics.stdev(usual) / math.sqrt(2 / 8)
    return by_spread, statistics.fmean(gaps) / statistics.stdev(gaps) * math.sqrt(8)


def test_where_every_seed_is_run_by_both_an_unlucky_spread_refuses_nobody():
    usual = [0.01, -0.01] * 4  # most seeds lie further apart
    off = [0.11, -0.06, 0.1, -0.04, 0.11, -0.02, 0.09, 0.04]
    by_spread, by_pairs = in_standard_errors(off, usual)
    assert (by_spread > 3.3, by_pairs < 4) == (True, True)
    assert compare(flat(off), flat(usual), (), TASK).agrees
    backwards = flat(off)[::-1]
    assert compare(backwards, flat(usual), (), TASK).agrees
    assert not compare(flat(off[:7]), flat(usual), (), TASK).agrees
    assert not compare(flat(off, range(50, 58)), flat(usual), (), TASK).agrees
    shifted = [value + 0.05 for value in usual]
    assert not compare(flat(shifted), flat(usual), (), TASK).agrees


def test_what_differs_on_each_seed_is_seen_however_much_seeds_differ():
    usual = [0.0, 0.3, -0.2, 0.5, -0.4, 0.1, 0.4, -0.3]
    noise = [0.0, 0.02, -0.02, 0.01, -0.01, 0.02, -0.02, 0.0]
    for shift, agree in ((0.0, True), (0.02, True), (0.1, False)):
        moved = [value + shift + more for value, more in zip(usual, noise, strict=True)]
        assert in_standard_errors(moved, usual)[0] < 1
        assert compare(flat(moved), flat(usual), (), TASK).agrees == agree
        assert compare(flat(moved[:5]), flat(usual), (), TASK).agrees == agree  # it asks for all of them
        assert compare(flat(moved[:4]), flat(usual), (), TASK).agrees


def resting(after, moves=0.0):
    """A curve that falls, until from one probe on it stays where it is."""
    values = [1 / (1 + min(step, after)) for step in range(9)]
    return Curve(1, range(9), values, values, update_ratios={"w": [0.0] * 2 + [0.1] * 2 + [moves] * 5})


@pytest.mark.parametrize(
    ("yours", "still"),
    [
        (resting(9), False),
        (resting(6), False),  # two probes may be an accident
        (resting(5), True),
        (resting(5, moves=1e-7), False),  # it moves where the curve does not show it
    ],
)
def test_a_program_that_rests_is_told_from_one_that_learns_on(yours, still):
    assert stands_still([yours], [resting(9), resting(9)]) == still


def test_where_the_reference_rests_on_some_seed_nothing_is_wrong():
    assert not stands_still([resting(5)], [resting(9), resting(5)])
    assert not stands_still([resting(5)], [])
