"""What any right cross-validation does, whoever wrote it."""

import math
from collections import Counter

import numpy as np
import pytest


def _rng(program, seed):
    return program.call("np.random.default_rng", seed, keep=True)


def _data(seed, count=90, features=6, signal=1.0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(np.int64)
    points = rng.normal(size=(count, features)) * np.arange(1, features + 1) + 10
    points[:, 1] += 2 * signal * labels * 2
    return points, labels


def _partition(folds, count):
    for known, held in folds:
        assert not set(known.tolist()) & set(held.tolist())
        assert sorted([*known.tolist(), *held.tolist()]) == list(range(count))
    assert sorted(row for _, held in folds for row in held.tolist()) == list(range(count))


@pytest.mark.parametrize(("count", "folds"), [(23, 5), (20, 4), (7, 7)])
def test_every_row_is_held_out_once(program, seed, count, folds):
    found = program.call("k_fold", count, folds, _rng(program, seed))
    _partition(found, count)
    sizes = [len(held) for _, held in found]
    assert len(sizes) == folds
    assert max(sizes) - min(sizes) <= 1


def test_another_seed_gives_other_folds(program, seed):
    labels = np.arange(40) % 2
    for name, first in (("k_fold", 40), ("stratified", labels), ("grouped", np.arange(40) // 2)):
        drawn = [
            program.call(name, first, 4, _rng(program, s))[0][1].tolist() for s in (seed, seed, seed + 1)
        ]
        assert drawn[0] == drawn[1] != drawn[2], name
        assert sorted(drawn[0]) != list(range(10)), name


def test_every_class_is_in_every_fold(program, seed):
    labels = np.random.default_rng(seed).permutation([0] * 31 + [1] * 17 + [2] * 6)
    found = program.call("stratified", labels, 5, _rng(program, seed))
    _partition(found, 54)
    for _, held in found:
        counts = Counter(labels[held].tolist())
        for label, total in ((0, 31), (1, 17), (2, 6)):
            assert total // 5 <= counts[label] <= math.ceil(total / 5)
        assert len(held) in (10, 11)


def test_no_group_is_on_both_sides(program, seed):
    rng = np.random.default_rng(seed)
    groups = rng.choice(
        [3, 8, 11, 40, 41, 50, 77, 90], size=120, p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]
    )
    found = program.call("grouped", groups, 3, _rng(program, seed))
    _partition(found, 120)
    for known, held in found:
        assert not set(groups[known].tolist()) & set(groups[held].tolist())
    sizes = [len(held) for _, held in found]
    assert max(sizes) <= max(45, Counter(groups.tolist()).most_common(1)[0][1])


def test_large_groups_are_placed_first(program, seed):
    groups = np.repeat([5, 2, 9, 7, 1], [4, 3, 3, 2, 6])
    found = program.call("grouped", groups, 3, _rng(program, seed))
    assert sorted(len(held) for _, held in found) == [6, 6, 6]


@pytest.mark.parametrize("gap", [0.0, 2.0])
def test_what_is_predicted_lies_ahead(program, seed, gap):
    times = np.random.default_rng(seed).permutation(np.repeat(np.arange(20.0), 2))
    found = program.call("by_time", times, 4, gap)
    assert len(found) == 4
    held_all = []
    for number, (known, held) in enumerate(found):
        start = 4.0 * (number + 1)
        assert sorted(times[held].tolist()) == sorted(2 * [start, start + 1, start + 2, start + 3])
        assert sorted(known.tolist()) == np.flatnonzero(times < start - gap).tolist()
        held_all += held.tolist()
    assert len(held_all) == len(set(held_all)) == 32


def test_the_scale_is_that_of_the_rows_given(program, seed):
    points, _ = _data(seed)
    points[:, 2] = 4.0
    mean, scale = program.call("scaler", points)
    assert np.allclose(mean, [math.fsum(column) / 90 for column in points.T])
    assert np.allclose((points / scale).std(axis=0), [1, 1, 0, 1, 1, 1], rtol=0.01)
    assert scale[2] == 1


def test_features_are_chosen_by_their_correlation(program, seed):
    points, labels = _data(seed, features=9)
    points[:, 7] -= 30 * labels
    points[:, 4] = 3.0
    points[:, ::2] += 25.0  # where a feature's zero lies says nothing
    strength = [0.0 if c == 4 else abs(np.corrcoef(points[:, c], labels)[0, 1]) for c in range(9)]
    for keep in range(1, 9):
        expected = sorted(sorted(range(9), key=lambda c: -strength[c])[:keep])
        assert sorted(program.call("screen", points, labels, keep).tolist()) == expected


def test_scores_are_those_of_ridge_regression(program, seed):
    points, labels = _data(seed)
    model = program.call("fit", points, labels, 0.3, 6)
    x = (points - points.mean(axis=0)) / points.std(axis=0)
    rows = np.vstack([x, math.sqrt(0.3 * 90) * np.eye(6)])
    y = 2.0 * labels - 1
    weights, *_ = np.linalg.lstsq(rows, np.concatenate([y - y.mean(), np.zeros(6)]), rcond=None)
    others, _ = _data(seed + 1)
    expected = (others - points.mean(axis=0)) / points.std(axis=0) @ weights + y.mean()
    assert np.allclose(program.call("score", model, others), expected)
    right = np.mean((expected > 0) == (labels == 1))
    assert program.call("accuracy", model, others, labels) == pytest.approx(right)


def _folds(count, number):
    rows = np.arange(count)
    return [(rows[rows % number != fold], rows[rows % number == fold]) for fold in range(number)]


def test_rows_held_out_have_no_say_in_the_model(program, seed):
    points, labels = _data(seed)
    folds = _folds(90, 4)
    accuracies, scores = program.call("cross_validate", points, labels, folds, 0.1, 3)
    for number, (known, held) in enumerate(folds):
        model = program.call("fit", points[known], labels[known], 0.1, 3)
        assert accuracies[number] == program.call("accuracy", model, points[held], labels[held])
        assert np.allclose(scores[held], program.call("score", model, points[held]))
    changed = points.copy()
    changed[folds[0][1]] *= 100
    _, again = program.call("cross_validate", changed, labels, folds[:1], 0.1, 3)
    assert np.isnan(again[folds[0][0]]).all()
    assert not np.isnan(again[folds[0][1]]).any()


def test_labels_without_rhyme_or_reason_give_chance(program, seed):
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(16):
        points, labels = rng.normal(size=(60, 400)), rng.permutation(np.arange(60) % 2)
        accuracies, _ = program.call("cross_validate", points, labels, _folds(60, 5), 0.1, 5)
        means.append(np.mean(accuracies))
    assert np.mean(means) == pytest.approx(0.5, abs=0.13)


def test_the_mean_is_over_rows_and_its_error_over_folds(program):
    accuracies, sizes = np.array([0.5, 0.7, 0.9, 0.4]), np.array([10, 10, 10, 2])
    mean, error = program.call("summary", accuracies, sizes)
    assert mean == pytest.approx((5 + 7 + 9 + 0.8) / 32)
    spread = math.sqrt(sum((a - 0.625) ** 2 for a in accuracies) / 3)
    assert error == pytest.approx(spread / 2)


def _means(program, points, labels, folds, settings):
    sizes = [len(held) for _, held in folds]
    found = []
    for one in settings:
        accuracies, _ = program.call("cross_validate", points, labels, folds, *one)
        mean = np.average(accuracies, weights=sizes)
        found.append((mean, np.std(accuracies, ddof=1) / math.sqrt(len(folds))))
    return found


SETTINGS = [(0.01, 6), (0.1, 1), (1.0, 3), (30.0, 6), (30.0, 2), (1.0, 1)]


def test_the_best_settings_are_chosen(program, seed):
    for offset in range(3):
        points, labels = _data(seed + offset, signal=0.6)
        folds = _folds(90, 4)
        means = [mean for mean, _ in _means(program, points, labels, folds, SETTINGS)]
        expected = SETTINGS[means.index(max(means))]
        assert tuple(program.call("choose", points, labels, folds, SETTINGS)) == expected
    constant = [(0.5, 6), (0.5, 6), (0.2, 6)]
    assert tuple(program.call("choose", *_data(seed, signal=9), _folds(90, 4), constant)) == (0.5, 6)


def test_the_simplest_within_one_error_is_chosen(program, seed):
    for offset in range(4):
        points, labels = _data(seed + offset, signal=0.5)
        folds = _folds(90, 5)
        results = _means(program, points, labels, folds, SETTINGS)
        mean, error = max(results, key=lambda pair: pair[0])
        able = [one for one, (m, _) in zip(SETTINGS, results, strict=True) if m >= mean - error]
        expected = sorted(able, key=lambda one: (-one[0], one[1]))[0]
        assert tuple(program.call("choose", points, labels, folds, SETTINGS, True)) == expected


def test_settings_are_chosen_without_the_rows_they_are_scored_on(program, seed):
    points, labels = _data(seed)
    folds = _folds(90, 4)
    accuracies, chosen = program.call("nested", points, labels, folds, SETTINGS, 4, _rng(program, seed))
    for accuracy, one, (known, held) in zip(accuracies, chosen, folds, strict=True):
        model = program.call("fit", points[known], labels[known], *one)
        assert accuracy == program.call("accuracy", model, points[held], labels[held])
    changed = labels.copy()
    changed[folds[0][1]] = 1 - changed[folds[0][1]]
    _, again = program.call("nested", points, changed, folds[:1], SETTINGS, 4, _rng(program, seed))
    assert tuple(again[0]) == tuple(chosen[0])


def test_a_choice_among_many_is_not_counted_as_skill(program, seed):
    rng = np.random.default_rng(seed)
    settings = [(penalty, keep) for penalty in (0.01, 1.0, 30.0) for keep in (1, 2, 3, 5, 8, 13)]
    gains, means = [], []
    for _ in range(4):
        points, labels = rng.normal(size=(48, 60)), rng.permutation(np.arange(48) % 2)
        folds = _folds(48, 4)
        best = max(mean for mean, _ in _means(program, points, labels, folds, settings))
        accuracies, _ = program.call("nested", points, labels, folds, settings, 4, _rng(program, seed))
        means.append(np.mean(accuracies))
        gains.append(best - np.mean(accuracies))
    assert np.mean(gains) > 0.02
    assert np.mean(means) == pytest.approx(0.5, abs=0.15)


def test_chance_is_told_from_skill(program, seed):
    points, labels = _data(seed, signal=2.0)
    folds = _folds(90, 4)
    found, share = program.call("permutation_test", points, labels, folds, 19, _rng(program, seed))
    assert found > 0.8
    assert share == pytest.approx(1 / 20)
    noise = np.random.default_rng(seed).normal(size=(90, 4))
    shares = [
        program.call("permutation_test", noise * (1 + o), np.roll(labels, o), folds, 19, _rng(program, o))[1]
        for o in range(4)
    ]
    assert all(1 / 20 <= share <= 1 for share in shares)
    assert np.mean(shares) > 0.15


def test_nothing_given_is_changed(program, seed):
    points, labels = _data(seed)
    kept = program.call("np.array", points, keep=True)
    before = np.asarray(program.call("np.array", kept))
    program.call("cross_validate", kept, labels, _folds(90, 4), 0.1, 3)
    assert np.array_equal(program.call("np.array", kept), before)
