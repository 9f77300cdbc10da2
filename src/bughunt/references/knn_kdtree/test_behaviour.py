"""What any right nearest-neighbour search does, whoever wrote it."""

import math

import numpy as np
import pytest


def _points(seed, count=200, features=3):
    return np.random.default_rng(seed).normal(size=(count, features))


def _lattice(seed, count=200):
    """Points on few places, so that distances are often equal and many points coincide."""
    return np.random.default_rng(seed).integers(0, 4, size=(count, 2)).astype(float)


def _by_hand(points, query, count):
    """Squared distances and rows of the nearest, equal distances by the smaller row."""
    gaps = ((points - query) ** 2).sum(axis=1)
    return [(gaps[row], row) for row in np.argsort(gaps, kind="stable")[:count]]


def _ask(program, points, queries, count, **config):
    tree = program.call("build_tree", points, keep=True, **config)
    return program.call("query", tree, points, queries, count)


@pytest.mark.parametrize("make", [_points, _lattice], ids=["scattered", "on a lattice"])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_neighbours_equal_those_of_a_search_by_hand(program, seed, make, count):
    points, queries = make(seed), make(seed + 1, 40)
    rows, distances, _ = _ask(program, points, queries, count)
    for query, near, gaps in zip(queries, rows, distances, strict=True):
        expected = _by_hand(points, query, count)
        assert list(near) == [row for _, row in expected]
        assert np.allclose(gaps, [math.sqrt(gap) for gap, _ in expected])


@pytest.mark.parametrize("leaf", [1, 8])
def test_equal_distances_are_settled_by_the_smaller_row(program, seed, leaf):
    points = np.random.default_rng(seed).integers(10, size=(120, 1)).astype(float)
    queries = np.arange(0.5, 9.0)[:, None]
    rows, _, _ = _ask(program, points, queries, 1, leaf=leaf)
    assert [list(near) for near in rows] == [[_by_hand(points, query, 1)[0][1]] for query in queries]


@pytest.mark.parametrize("leaf", [1, 3, 50])
def test_the_size_of_a_leaf_changes_no_answer(program, seed, leaf):
    points, queries = _points(seed, 90), _points(seed + 1, 15)
    rows, _, _ = _ask(program, points, queries, 4, leaf=leaf)
    for query, near in zip(queries, rows, strict=True):
        assert list(near) == [row for _, row in _by_hand(points, query, 4)]


def test_points_far_from_all_others_find_them(program, seed):
    points = _points(seed)
    queries = np.array([[30.0, 0.0, 0.0], [0.0, -40.0, 5.0], [-20.0, 20.0, -20.0]])
    rows, _, _ = _ask(program, points, queries, 6)
    for query, near in zip(queries, rows, strict=True):
        assert list(near) == [row for _, row in _by_hand(points, query, 6)]


def test_the_nearest_comes_first(program, seed):
    _, distances, _ = _ask(program, _points(seed), _points(seed + 1, 20), 7)
    assert (np.diff(np.array(distances), axis=1) >= 0).all()


def test_asking_for_more_than_there_are_gives_all(program, seed):
    points = _points(seed, 11)
    rows, distances, _ = _ask(program, points, _points(seed + 1, 3), 20)
    assert [sorted(near) for near in rows] == [list(range(11))] * 3
    assert all(math.isfinite(gap) for gaps in distances for gap in gaps)


def test_no_point_finds_nothing(program):
    rows, distances, visited = _ask(program, np.zeros((0, 3)), np.zeros((2, 3)), 4)
    assert [list(near) for near in rows] == [[], []]
    assert [list(gaps) for gaps in distances] == [[], []]
    assert visited == 0


def test_points_in_one_place_are_all_found(program):
    points = np.ones((60, 2))
    rows, distances, _ = _ask(program, points, np.ones((1, 2)), 5)
    assert list(rows[0]) == [0, 1, 2, 3, 4]
    assert list(distances[0]) == [0] * 5


def test_most_distances_are_never_worked_out(program, seed):
    points, queries = _points(seed, 2000), _points(seed + 1, 60)
    _, _, visited = _ask(program, points, queries, 5)
    assert 60 * 5 <= visited <= 60 * 2000 * 0.06


def test_a_search_may_end_early_only_once_it_has_enough(program, seed):
    points, queries = _points(seed, 250), _points(seed + 1, 20)
    visits = [_ask(program, points, queries, count)[2] for count in (1, 5, 25, 250)]
    assert visits == sorted(visits)
    assert visits[-1] == 20 * 250


@pytest.mark.parametrize("make", [_points, _lattice], ids=["scattered", "on a lattice"])
def test_the_tree_is_balanced(program, seed, make):
    tree = program.call("build_tree", make(seed, 1000), keep=True)
    assert program.call("depth", tree) <= math.ceil(math.log2(1000 / 8))


@pytest.mark.parametrize("deeper", ["low", "high"])
def test_the_depth_is_that_of_the_deeper_side(program, deeper):
    leaf, other = {"rows": np.arange(3)}, {"low": "high", "high": "low"}[deeper]
    tree, expected = leaf, 0
    assert program.call("depth", tree) == expected
    for expected in (1, 2, 3):
        tree = {"axis": 0, "cut": 0.5, deeper: tree, other: leaf}
        assert program.call("depth", tree) == expected


def test_every_point_is_in_one_leaf(program, seed):
    points, found = _points(seed, 100), []
    places = [program.call("build_tree", points)]
    while places:
        place = places.pop()
        if "rows" in place:
            found += [int(row) for row in place["rows"]]
            assert len(place["rows"]) <= 8
        else:
            places += [place["low"], place["high"]]
    assert sorted(found) == list(range(100))


def test_the_widest_axis_is_cut_in_the_middle(program, seed):
    points = _points(seed, 101) * np.array([1.0, 9.0, 2.0])
    tree = program.call("build_tree", points)
    assert tree["axis"] == 1
    assert (points[:, 1] <= tree["cut"]).sum() in (50, 51)


@pytest.mark.parametrize("make", [_points, _lattice], ids=["scattered", "on a lattice"])
def test_a_ball_holds_all_points_up_to_its_radius(program, seed, make):
    points = make(seed)
    tree = program.call("build_tree", points, keep=True)
    for centre in make(seed + 1, 12):
        for radius in (0.0, 0.5, 1.0, 2.0):
            expected = [row for gap, row in _by_hand(points, centre, 200) if gap <= radius**2]
            assert list(program.call("within", tree, points, centre, radius)) == sorted(expected)


def test_the_scale_is_that_of_the_known_points(program, seed):
    points, others = 5 * _points(seed) + 3, _points(seed + 1, 30)
    points[:, 2] = 7.0
    known, asked = (np.asarray(part) for part in program.call("standardise", points, others))
    assert np.allclose(known[:, :2].mean(axis=0), 0)
    assert np.allclose(known[:, :2].std(axis=0), 1, rtol=0.005)  # either definition
    assert np.allclose(known[:, 2], 0)
    for column in range(2):  # one straight line takes both sets to the new scale
        slope, start = np.polyfit(points[:, column], known[:, column], 1)
        assert np.allclose(asked[:, column], slope * others[:, column] + start)


@pytest.mark.parametrize(
    ("labels", "distances", "weighted", "expected"),
    [
        ([4, 2, 2], [1.0, 2.0, 3.0], False, 2),
        ([7, 3, 3, 7], [1.0, 2.0, 3.0, 4.0], False, 7),
        ([3, 7, 7, 3], [1.0, 2.0, 3.0, 4.0], False, 3),
        ([9, 1, 1, 9, 5], [1.0, 2.0, 3.0, 4.0, 5.0], False, 9),
        ([4, 2, 2], [1.0, 4.0, 4.0], True, 4),
        ([4, 2, 2], [1.0, 1.5, 1.6], True, 2),
        ([4, 2, 2], [0.0, 0.1, 0.1], True, 4),
        ([5, 2, 5, 2, 2], [0.0, 0.0, 0.0, 0.1, 0.1], True, 5),
    ],
    ids=["most", "tie to one", "tie to the other", "three labels", "near", "many", "in place", "some"],
)
def test_votes_are_counted(program, labels, distances, weighted, expected):
    assert program.call("vote", labels, distances, weighted) == expected


def _groups(seed, count=90):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    return np.array([[0.0, 0], [3, 0], [0, 3]])[labels] + rng.normal(size=(count, 2)), labels


def _majority(points, labels, query, count):
    """By hand, for features on one scale."""
    near = [labels[row] for _, row in _by_hand(points, query, count)]
    most = max(near.count(label) for label in near)
    return next(label for label in near if near.count(label) == most)


def test_a_label_is_that_of_most_neighbours(program, seed):
    points, labels = _groups(seed)
    queries = _groups(seed + 1, 40)[0]
    mean, scale = points.mean(axis=0), points.std(axis=0)
    known = (points - mean) / scale
    for count in (1, 6, 25):
        found = program.call("classify", points, labels, queries, count)
        expected = [_majority(known, list(labels), query, count) for query in (queries - mean) / scale]
        assert list(found) == expected


def test_units_of_the_features_do_not_matter(program, seed):
    points, labels = _groups(seed)
    queries, units = _groups(seed + 1, 40)[0], np.array([1024.0, 0.0625])
    plain = program.call("classify", points, labels, queries)
    assert list(program.call("classify", points * units, labels, queries * units)) == list(plain)


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, seed):
    points, labels = _groups(seed)
    queries = _groups(seed + 1, 40)[0]
    together = list(program.call("classify", points, labels, queries))
    assert list(program.call("classify", points, labels, queries[7:12])) == together[7:12]


def test_a_point_at_no_distance_decides_a_weighted_vote(program, seed):
    points, labels = _groups(seed)
    found = program.call("classify", points, labels, points, 7, True)
    assert list(found) == list(labels)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_point_has_no_say_on_itself(program, seed, count):
    points, labels = _groups(seed)
    scaled = (points - points.mean(axis=0)) / points.std(axis=0)
    right = 0
    for row in range(len(points)):
        others = np.delete(scaled, row, axis=0), list(np.delete(labels, row))
        right += _majority(*others, scaled[row], count) == labels[row]
    assert program.call("leave_one_out", points, labels, count) == pytest.approx(right / len(points))


def test_labels_without_rhyme_or_reason_give_chance(program, seed):
    points = _points(seed, 300)
    labels = np.random.default_rng(seed + 5).integers(2, size=300)
    assert program.call("leave_one_out", points, labels, 1) == pytest.approx(0.5, abs=0.13)
