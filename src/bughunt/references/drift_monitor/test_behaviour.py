"""What any right watch over a model in service does, whoever wrote it."""

import math
from itertools import pairwise

import numpy as np
import pytest

LAW = np.array([1.5, -2.0, 0.5])


def _rows(rng, count, law=LAW, shift=0.0, scale=1.0):
    points = rng.normal(size=(count, 3))
    points[:, 1] = points[:, 1] * scale + shift
    labels = (rng.random(count) < 1 / (1 + np.exp(-2 * points @ law))).astype(np.int64)
    return points, labels


def _cfg(program, **config):
    return program.call("Config", keep=True, **config)


def _gap(one, other):
    """The largest gap of two distribution functions, place by place."""
    return max(abs(np.mean(one <= place) - np.mean(other <= place)) for place in [*one, *other])


def test_bins_hold_equally_many_rows_of_the_reference(program, seed):
    reference = np.random.default_rng(seed).normal(size=400)
    limits = np.asarray(program.call("edges", reference, 8))
    assert len(limits) == 7
    for number, limit in enumerate(limits):
        assert np.mean(reference <= limit) == pytest.approx((number + 1) / 8, abs=0.005)
    few = program.call("edges", np.array([1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 1.0]), 8)
    assert len(few) == len(set(np.asarray(few).tolist()))


def test_every_value_is_in_one_bin(program):
    limits, values = np.array([0.0, 2.0, 5.0]), np.array([-1.0, 0.0, 1.9, 2.0, 7.0, 9.0])
    found = np.asarray(program.call("shares", values, limits))
    assert np.allclose(found, (np.array([1, 2, 1, 2]) + 0.5) / 8)
    empty = np.asarray(program.call("shares", np.full(5, 9.0), limits))
    assert (empty > 0).all()
    assert empty.sum() == pytest.approx(1)


def test_the_index_equals_one_written_bin_by_bin(program, seed):
    rng = np.random.default_rng(seed)
    reference, window = rng.normal(size=301), rng.normal(0.5, 1.3, size=90)
    limits = np.quantile(reference, [0.2, 0.4, 0.6, 0.8])
    places = [-np.inf, *limits, np.inf]
    total = 0.0
    for low, high in pairwise(places):
        p = (np.sum((reference >= low) & (reference < high)) + 0.5) / (301 + 2.5)
        q = (np.sum((window >= low) & (window < high)) + 0.5) / (90 + 2.5)
        total += (q - p) * math.log(q / p)
    assert program.call("stability_index", reference, window, 5) == pytest.approx(total)


def test_nothing_differs_from_itself(program, seed):
    reference = np.random.default_rng(seed).normal(size=200)
    assert program.call("stability_index", reference, reference, 8) == pytest.approx(0)
    assert program.call("distance", reference, reference) == 0


@pytest.mark.parametrize("make", ["scattered", "with ties"])
def test_the_distance_is_the_largest_gap(program, seed, make):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=70), rng.normal(0.4, 1.5, size=33)
    if make == "with ties":
        one, other = np.round(2 * one), np.round(2 * other)
    assert program.call("distance", one, other) == pytest.approx(_gap(one, other))
    assert program.call("distance", other, one) == pytest.approx(_gap(one, other))
    assert program.call("distance", one, one + 100) == 1


def test_both_measures_have_to_agree(program, seed):
    rng = np.random.default_rng(seed)
    reference, window = rng.normal(size=(500, 4)), rng.normal(size=(120, 4))
    window[:, 1] += 1.2
    window[:, 3] *= 4
    assert list(program.call("drifted", reference, window, _cfg(program))) == [1, 3]
    assert list(program.call("drifted", reference, window, _cfg(program, index_limit=99.0))) == []
    assert list(program.call("drifted", reference, window, _cfg(program, distance_factor=99.0))) == []


@pytest.mark.parametrize("count", [60, 240])
def test_the_limit_of_the_distance_follows_the_sizes(program, seed, count):
    rng = np.random.default_rng(seed)
    reference, window = rng.normal(size=(500, 1)), rng.normal(0.5, 1, size=(count, 1))
    found = _gap(reference[:, 0], window[:, 0]) / math.sqrt(1 / 500 + 1 / count)
    for factor, expected in ((found * 0.99, [0]), (found * 1.01, [])):
        cfg = _cfg(program, distance_factor=factor, index_limit=-1.0)
        assert list(program.call("drifted", reference, window, cfg)) == expected


def test_quiet_streams_give_no_alarm(program, seed):
    rng, cfg = np.random.default_rng(seed), _cfg(program)
    bad = 0
    for _ in range(12):
        windows = [_rows(rng, 150) for _ in range(10)]
        found = program.call("watch", *_rows(rng, 1200), windows, cfg)
        bad += sum(one["event"] != "quiet" for one in found)
    assert bad <= 7  # two false alarms with what follows them


def test_the_fit_is_the_likeliest(program, seed):
    points, labels = _rows(np.random.default_rng(seed), 150)
    points = points + 0.7
    weights = np.asarray(program.call("fit", points, labels, 0.8))
    x = np.column_stack([points, np.ones(150)])
    slope = x.T @ (1 / (1 + np.exp(-x @ weights)) - labels) + 0.8 * np.append(weights[:3], 0)
    assert np.abs(slope).max() < 1e-6


def test_the_fit_takes_as_many_rounds_as_it_is_given(program, seed):
    points, labels = _rows(np.random.default_rng(seed), 150)
    x, pull = np.column_stack([points, np.ones(150)]), 0.8 * np.diag([1.0, 1.0, 1.0, 0.0])
    expected = np.linalg.solve(x.T @ x / 4 + pull, x.T @ (labels - 0.5))  # Newton's first step from zero
    assert np.allclose(program.call("fit", points, labels, 0.8, 1), expected, atol=1e-6)


def test_answers_are_those_of_the_sign(program):
    weights, points = np.array([1.0, -2.0, 0.5]), np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 1.0], [-0.4, 0.0]])
    assert np.asarray(program.call("answers", weights, points)).tolist() == [1, 0, 1, 1]
    assert program.call("accuracy", weights, points, np.array([1, 1, 1, 0])) == 0.5
    assert np.asarray(program.call("answers", np.array([0.5, -2.0, 1.0]), points)).tolist() == [1, 0, 0, 1]
    assert np.asarray(program.call("answers", np.array([1.0, 0.0, -1.0]), points)).tolist() == [0, 0, 1, 0]


def test_the_newest_rows_are_kept_for_the_check(program, seed):
    points, labels = _rows(np.random.default_rng(seed), 80)
    weights, unseen, truth = program.call("fit_and_check", points, labels, _cfg(program, check=0.25))
    assert np.array_equal(unseen, points[60:])
    assert np.array_equal(truth, labels[60:])
    assert np.allclose(weights, program.call("fit", points[:60], labels[:60], 0.5))


def _stream(seed, after, quiet=5, more=12):
    rng = np.random.default_rng(seed)
    known = _rows(rng, 1200)
    windows = [_rows(rng, 200) for _ in range(quiet)]
    return known, windows + [_rows(rng, 200, **after) for _ in range(more)]


def test_a_new_law_is_noticed_and_learned(program, seed):
    after, noticed, calm = {"law": np.array([-1.5, -2.0, 0.5])}, 0, 0
    for offset in range(5):  # in each of which a false alarm is possible
        known, windows = _stream(seed + offset, after)
        found = program.call("watch", *known, windows, _cfg(program))
        events = [one["event"] for one in found]
        noticed += events[:10] == ["quiet"] * 6 + ["alarm", "gathering", "gathering", "replaced"]
        calm += set(events[10:]) == {"quiet"}
        scores = [one["accuracy"] for one in found]
        assert np.mean(scores[5:10]) < np.mean(scores[:5]) - 0.1
        assert np.mean(scores[10:]) > np.mean(scores[:5]) - 0.08
    assert noticed >= 3
    assert calm >= 3


def test_new_inputs_alone_need_no_new_model(program, seed):
    known, windows = _stream(seed, {"shift": 1.0, "law": LAW})
    found = program.call("watch", *known, windows, _cfg(program, drop=1.0))
    assert [one["drifted"] for one in found[:5]] == [[]] * 5
    assert found[5]["drifted"] == [1]
    events = [one["event"] for one in found]
    assert events[:9] == ["quiet"] * 6 + ["alarm", "gathering", "gathering"]
    assert events[9] in ("kept", "replaced")
    assert all(one["drifted"] == [] and one["event"] == "quiet" for one in found[10:])


def _monitor(program, rng, **config):
    monitor = program.call("put_into_service", *_rows(rng, 900), _cfg(program, **config), keep=True)
    return lambda name, *args: program.call_method(monitor, name, *args)


def test_one_bad_window_is_no_alarm(program, seed):
    rng = np.random.default_rng(seed)
    call = _monitor(program, rng, patience=3)
    bad, good = {"shift": 3.0}, {}
    order = [bad, bad, good, bad, bad, bad, good]
    events = [call("look", *_rows(rng, 200, **kind))["event"] for kind in order]
    assert events == ["quiet"] * 5 + ["alarm", "gathering"]


def test_every_alarm_gathers_windows_of_its_own(program, seed):
    rng = np.random.default_rng(seed)
    call = _monitor(program, rng)
    for law in (-LAW, LAW, -LAW):
        windows = [_rows(rng, 200, law=law) for _ in range(6)]
        events = [call("look", *window)["event"] for window in windows]
        assert events == ["quiet", "alarm", "gathering", "gathering", "replaced", "quiet"]
        rows = [np.concatenate(part) for part in zip(*windows[2:5], strict=True)]
        new, _, _ = program.call("fit_and_check", *rows, _cfg(program))
        assert np.allclose(call("__getattribute__", "weights"), new)
        assert np.array_equal(call("__getattribute__", "reference"), rows[0])


def test_a_window_is_compared_with_what_came_before_it(program, seed):
    rng = np.random.default_rng(seed)
    known, window = _rows(rng, 300), _rows(rng, 200, shift=0.5)
    found = program.call("stability_index", known[0][:, 1], window[0][:, 1], 8)
    gap = _gap(known[0][:, 1], window[0][:, 1]) / math.sqrt(1 / 300 + 1 / 200)
    for factor, expected in ((0.99, True), (1.01, False)):
        for limits in (
            {"index_limit": factor * found, "distance_factor": 0.0},
            {"index_limit": -1.0, "distance_factor": factor * gap},
        ):
            seen = program.call("watch", *known, [window], _cfg(program, bins=8, **limits))[0]["drifted"]
            assert (1 in seen) == expected


def test_windows_are_scored_by_the_model_that_served_them(program, seed):
    known, windows = _stream(seed, {"law": -LAW}, quiet=0)
    weights, unseen, truth = program.call("fit_and_check", *known, _cfg(program))
    found = program.call("watch", *known, windows, _cfg(program))
    for one, window in zip(found[:5], windows, strict=False):
        assert one["accuracy"] == program.call("accuracy", weights, *window)
    events = [one["event"] for one in found[:5]]
    assert events == ["quiet", "alarm", "gathering", "gathering", "replaced"]
    rows = [np.concatenate(part) for part in zip(*windows[2:5], strict=True)]
    new, _, _ = program.call("fit_and_check", *rows, _cfg(program))
    for one, window in zip(found[5:], windows[5:], strict=True):
        assert one["accuracy"] == program.call("accuracy", new, *window)
    assert len(unseen) == len(truth) == 360


def test_a_model_that_does_no_better_stays_out(program, seed):
    rng, events = np.random.default_rng(seed), []
    for _ in range(6):
        known = _rows(rng, 900)
        bad, few, probe = _rows(rng, 200, shift=3.0), _rows(rng, 12), _rows(rng, 400)
        cfg = _cfg(program, gather=1, patience=1)
        found = program.call("watch", *known, [bad, few, probe], cfg)
        old, _, _ = program.call("fit_and_check", *known, cfg)
        new, unseen, truth = program.call("fit_and_check", *few, cfg)
        better = program.call("accuracy", new, unseen, truth) > program.call("accuracy", old, unseen, truth)
        assert found[1]["event"] == ("replaced" if better else "kept")
        assert found[2]["accuracy"] == program.call("accuracy", new if better else old, *probe)
        events.append(found[1]["event"])
    assert "kept" in events


def test_a_replacement_can_be_undone_once(program, seed):
    rng = np.random.default_rng(seed)
    call = _monitor(program, rng, patience=1, gather=1)
    probe = _rows(rng, 300)
    before = call("look", *probe)["accuracy"]
    assert call("roll_back") is False
    assert call("look", *_rows(rng, 400, law=-LAW))["event"] == "alarm"
    assert call("look", *_rows(rng, 400, law=-LAW))["event"] == "replaced"
    assert call("look", *_rows(rng, 200, law=-LAW))["event"] == "quiet"
    assert call("roll_back") is True
    assert call("look", *probe) == {"accuracy": before, "drifted": [], "event": "quiet"}
    assert call("roll_back") is False


def test_the_usual_accuracy_is_that_on_unseen_rows(program, seed):
    rng = np.random.default_rng(seed)
    known = _rows(rng, 600)
    weights, unseen, truth = program.call("fit_and_check", *known, _cfg(program))
    usual = program.call("accuracy", weights, unseen, truth)
    probe = _rows(rng, 250)
    found = program.call("accuracy", weights, *probe)
    for drop, event in ((usual - found - 0.001, "alarm"), (usual - found + 0.001, "quiet")):
        cfg = _cfg(program, drop=drop, patience=1, index_limit=99.0)
        assert program.call("watch", *known, [probe], cfg)[0]["event"] == event
