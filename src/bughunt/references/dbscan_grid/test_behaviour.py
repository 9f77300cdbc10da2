"""What any right DBSCAN does, whoever wrote it."""

import math
from collections import deque

import numpy as np
import pytest


def _moons(seed, count=240, noise=0.06):
    """Two half circles that reach into each other, and a few points far away."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, math.pi, count)
    side = np.arange(count) % 2
    x = np.where(side, 1 - np.cos(angle), np.cos(angle))
    y = np.where(side, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, y], axis=1) + noise * rng.normal(size=(count, 2))
    return np.vstack([points, [[5.0, 5.0], [-4.0, 3.0]]]), np.append(side, [2, 3])


def _cloud(seed, count=120, features=2):
    return np.random.default_rng(seed).normal(size=(count, features)) * 2


def _lattice(seed, count=60):
    return np.random.default_rng(seed).integers(-6, 6, size=(count, 2)).astype(float)


def _near(points, radius):
    """By a loop over pairs."""
    return [
        [j for j, q in enumerate(points) if sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) <= radius**2]
        for p in points
    ]


def _groups(points, radius, minimum):
    """By breadth-first search from one core point after the other."""
    near = _near(points, radius)
    core = [len(rows) >= minimum for rows in near]
    labels, number = [-1] * len(points), 0
    for start in range(len(points)):
        if not core[start] or labels[start] != -1:
            continue
        labels[start], waiting = number, deque([start])
        while waiting:
            for other in near[waiting.popleft()]:
                if core[other] and labels[other] == -1:
                    labels[other] = number
                    waiting.append(other)
        number += 1
    for row, rows in enumerate(near):
        reached = [(sum((points[row] - points[o]) ** 2), o) for o in rows if core[o]]
        if not core[row] and reached:
            labels[row] = labels[min(reached)[1]]
    return labels


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("make", [_cloud, _lattice], ids=["scattered", "on a lattice"])
def test_neighbours_equal_those_of_a_loop_over_pairs(program, seed, make, radius):
    points = make(seed)
    found, _ = program.call("neighbourhoods", points, radius)
    assert [list(rows) for rows in found] == _near(points, radius)


@pytest.mark.parametrize("features", [1, 3])
def test_neighbours_are_found_in_any_number_of_dimensions(program, seed, features):
    points = _cloud(seed, 80, features)
    found, _ = program.call("neighbourhoods", points, 0.9)
    assert [list(rows) for rows in found] == _near(points, 0.9)


def test_most_distances_are_never_worked_out(program, seed):
    points = np.random.default_rng(seed).uniform(-5, 5, size=(900, 2))
    _, evaluations = program.call("neighbourhoods", points, 0.25)
    # Nine cells of a quarter on a square of ten: 0.56 % of all pairs.
    assert 900 <= evaluations <= 0.008 * 900**2


def test_the_place_of_the_origin_costs_nothing(program, seed):
    points = np.random.default_rng(seed).integers(-64, 64, size=(300, 2)) / 64
    counts = [program.call("neighbourhoods", points + shift, 0.25)[1] for shift in (0.0, 16.0, -16.0)]
    assert len(set(counts)) == 1


def test_a_core_point_counts_itself(program):
    near = [[0, 1, 2], [0, 1], [2], [0, 1, 2, 3]]
    assert list(program.call("core_points", near, 3)) == [True, False, False, True]


def test_what_is_connected_is_one_component(program, seed):
    rng = np.random.default_rng(seed)
    edges = [(int(a), int(b)) for a, b in rng.integers(60, size=(45, 2))]
    expected, changed = list(range(60)), True
    while changed:
        changed = False
        for a, b in edges:
            low = min(expected[a], expected[b])
            changed |= expected[a] != low or expected[b] != low
            expected[a] = expected[b] = low
    assert list(program.call("components", 60, edges)) == expected


def test_long_chains_are_one_component(program):
    chain = [(row, row + 1) for row in range(1999)]
    assert set(program.call("components", 2000, chain)) == {0}
    assert set(program.call("components", 2000, chain[::-1])) == {0}


@pytest.mark.parametrize(("radius", "minimum"), [(0.4, 3), (0.7, 4), (0.7, 9), (1.2, 1)])
def test_groups_equal_those_of_a_search_in_breadth(program, seed, radius, minimum):
    points = _cloud(seed)
    assert list(program.call("dbscan", points, radius, minimum)) == _groups(points, radius, minimum)


@pytest.mark.parametrize("minimum", [2, 3, 4])
def test_groups_on_a_lattice_equal_those_of_a_search_in_breadth(program, seed, minimum):
    points = _lattice(seed)
    assert list(program.call("dbscan", points, 1.0, minimum)) == _groups(points, 1.0, minimum)


def test_two_moons_are_two_groups(program, seed):
    points, truth = _moons(seed)
    labels = np.asarray(program.call("dbscan", points, 0.25, 5))
    assert list(labels[-2:]) == [-1, -1]
    kept = labels >= 0
    assert kept.mean() > 0.95
    for group in (0, 1):
        assert len(np.unique(labels[kept & (truth == group)])) == 1
    assert labels.max() == 1


def test_a_border_point_leads_no_further(program):
    # Two dense places; the point between them reaches one core point of each and is none itself.
    left, right = np.array([-1.0, -1.1, -1.2, -1.3]), np.array([0.9, 1.1, 1.2, 1.3])
    points = np.concatenate([left, right, [-0.03]])[:, None]
    assert list(program.call("dbscan", points, 1.0, 4)) == [0] * 4 + [1] * 4 + [1]


def test_a_border_point_goes_to_its_nearest_core_point(program):
    points = np.array([0.0, 0.1, 0.2, 0.3, 2.1, 2.3, 2.4, 2.5, 1.25])[:, None]
    assert list(program.call("dbscan", points, 1.0, 4)) == [0] * 4 + [1] * 4 + [1]
    assert list(program.call("dbscan", -points, 1.0, 4)) == [0] * 4 + [1] * 4 + [1]


def test_the_order_of_the_points_does_not_matter(program, seed):
    points, _ = _moons(seed)
    order = np.random.default_rng(seed).permutation(len(points))
    plain = np.asarray(program.call("dbscan", points, 0.2, 6))[order]
    moved = np.asarray(program.call("dbscan", points[order], 0.2, 6))
    assert ((plain[:, None] == plain) == (moved[:, None] == moved)).all()
    assert ((plain == -1) == (moved == -1)).all()


def test_moving_all_points_changes_nothing(program, seed):
    points, _ = _moons(seed)
    plain = list(program.call("dbscan", points, 0.2, 6))
    for shift in (np.array([-7.03, 0.02]), np.array([100.5, -33.3])):
        assert list(program.call("dbscan", points + shift, 0.2, 6)) == plain


def test_labels_are_numbered_by_their_first_core_point(program, seed):
    labels = np.asarray(program.call("dbscan", _cloud(seed), 0.4, 2))
    groups = labels[labels >= 0]
    assert list(dict.fromkeys(groups.tolist())) == list(range(groups.max() + 1))


def test_extremes_are_one_group_or_none(program, seed):
    points = _cloud(seed, 40)
    assert set(program.call("dbscan", points, 100.0, 5)) == {0}
    assert set(program.call("dbscan", points, 1e-6, 2)) == {-1}
    assert list(program.call("dbscan", points, 1e-6, 1)) == list(range(40))


def test_the_points_stay_as_they_were(program, seed):
    points = _cloud(seed)
    copy = points.copy()
    program.call("dbscan", points, 0.5, 4)
    assert np.array_equal(points, copy)


def test_the_radius_to_begin_with_is_where_distances_bend(program, seed):
    rng = np.random.default_rng(seed)
    points = np.vstack([rng.uniform(0, 1, size=(150, 2)), rng.uniform(-30, 30, size=(20, 2))])
    needed = sorted(sorted(np.linalg.norm(points - p, axis=1))[4] for p in points)
    heights = [(n - needed[0]) / (needed[-1] - needed[0]) for n in needed]
    below = [i / (len(needed) - 1) - h for i, h in enumerate(heights)]
    expected = needed[int(np.argmax(below))]
    assert program.call("knee", points, 5) == pytest.approx(expected)
    assert program.call("knee", points + 1e7, 5) == pytest.approx(expected, rel=1e-5)  # wherever they lie


def test_agreement_equals_one_counted_pair_by_pair(program, seed):
    rng = np.random.default_rng(seed)
    one, other = rng.integers(-1, 3, size=40), rng.integers(-1, 4, size=40)
    pairs = [(one[i] == one[j], other[i] == other[j]) for i in range(40) for j in range(i)]
    both, first, second = sum(a & b for a, b in pairs), sum(a for a, _ in pairs), sum(b for _, b in pairs)
    chance = first * second / len(pairs)
    expected = (both - chance) / ((first + second) / 2 - chance)
    assert program.call("adjusted_rand", one, other) == pytest.approx(expected)


def test_the_same_partition_agrees_in_full(program, seed):
    one = np.random.default_rng(seed).integers(-1, 4, size=50)
    renamed = np.array([2, 0, 3, 1, -1])[one]
    assert program.call("adjusted_rand", one, renamed) == pytest.approx(1.0)
    assert program.call("adjusted_rand", np.zeros(9, int), np.zeros(9, int)) == 1.0
