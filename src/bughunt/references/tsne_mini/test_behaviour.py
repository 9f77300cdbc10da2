"""What any right `tsne-mini` does, whoever wrote it."""

import math

import numpy as np
import pytest

from bughunt.references.tsne_mini.task import lost, target

COUNT = 40
SMALL = {"points": COUNT, "steps": 12, "perplexity": 7.0}


def _points(seed, count=COUNT, features=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, features)) + 4 * rng.integers(3, size=(count, 1))


def _gaps(points):
    return np.array([[sum((a - b) ** 2) for b in points] for a in points])


def _trained(program, seed, points, **config):
    config = {**SMALL, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, points, seed, **config).next(10_000)
    return model, losses


def _place(program, model):
    return np.asarray(program.state(model)["map"])


def _chances(place):
    """The chances on the map, pair by pair, in a table."""
    weights = np.array(
        [[float(i != j) / (1 + gap) for j, gap in enumerate(row)] for i, row in enumerate(_gaps(place))]
    )
    return weights / weights.sum()


def _divergence(joint, place):
    chances = _chances(place)
    return sum(p * math.log(p / q) for p, q in zip(joint.ravel(), chances.ravel(), strict=True) if p > 0)


def test_distances_equal_a_loop_over_pairs(program, seed):
    points = _points(seed, 9)
    found = np.asarray(program.call("squared_distances", points))
    assert np.allclose(found, _gaps(points))
    assert (np.diag(found) == 0).all()
    twins = np.repeat(points, 20, axis=0) + 1e-7 * np.random.default_rng(seed).normal(size=(180, 3))
    assert (np.asarray(program.call("squared_distances", twins + 1e5)) >= 0).all()


def test_chances_of_a_row_fall_with_the_distance(program):
    found = np.asarray(program.call("row_chances", np.array([1.0, 2.0, 5.0]), 0.7))
    assert np.allclose(found, np.exp([-0.7, -1.4, -3.5]) / np.exp([-0.7, -1.4, -3.5]).sum())
    far = np.asarray(program.call("row_chances", np.array([1e6, 1e6 + 1]), 1.0))
    assert np.allclose(far, [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])


def test_the_entropy_is_in_nats(program):
    assert program.call("entropy", np.full(8, 0.125)) == pytest.approx(math.log(8))
    assert program.call("entropy", np.array([1.0, 0.0, 0.0])) == pytest.approx(0, abs=1e-9)
    some = np.array([0.5, 0.2, 0.3])
    assert program.call("entropy", some) == pytest.approx(-sum(p * math.log(p) for p in some))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("perplexity", [2.0, 11.0])
def test_every_row_has_as_many_neighbours_in_effect(program, seed, scale, perplexity):
    gaps = scale * _gaps(_points(seed))[0, 1:]
    precision = program.call("find_precision", gaps, perplexity)
    weights = np.exp(-precision * (gaps - gaps.min()))
    row = weights / weights.sum()
    entropy = -sum(p * math.log(p) for p in row if p > 0)
    assert entropy == pytest.approx(math.log(perplexity), abs=1e-4)


def test_joint_chances_are_those_of_the_definition(program, seed):
    points = _points(seed)
    found = np.asarray(program.call("affinities", points, 15.0))
    assert np.allclose(found, target(points), atol=1e-7)
    assert np.allclose(found, found.T)
    assert (np.diag(found) == 0).all()
    assert found.sum() == pytest.approx(1)


def test_turning_the_points_changes_nothing(program, seed):
    points = _points(seed)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    plain = np.asarray(program.call("affinities", points, 7.0))
    assert np.allclose(plain, program.call("affinities", points @ turn - 5.0, 7.0), atol=1e-7)


def test_the_divergence_equals_one_written_pair_by_pair(program, seed):
    points, place = _points(seed, 12), np.random.default_rng(seed).normal(size=(12, 2))
    joint = np.asarray(program.call("affinities", points, 4.0))
    assert program.call("divergence", joint, place) == pytest.approx(_divergence(joint, place), abs=1e-6)


def test_gradients_agree_with_finite_differences(program, seed):
    points, place = _points(seed, 7), np.random.default_rng(seed).normal(size=(7, 2))
    joint = np.asarray(program.call("affinities", points, 3.0))
    found = np.asarray(program.call("gradient", joint, place))
    for row in range(7):
        for column in range(2):
            move = np.zeros((7, 2))
            move[row, column] = 1e-5
            slope = (_divergence(joint, place + move) - _divergence(joint, place - move)) / 2e-5
            assert found[row, column] == pytest.approx(slope, abs=1e-6)


def test_rates_grow_on_the_way_and_shrink_at_a_turn(program):
    slope, speed = np.array([1.0, -1.0, 1.0, -1.0, 1.0]), np.array([-2.0, 3.0, 2.0, -3.0, 2.0])
    found = program.call("adapt", np.array([1.0, 2.0, 1.0, 2.0, 0.005]), slope, speed)
    assert np.allclose(found, [1.2, 2.2, 0.8, 1.6, 0.01])


def _by_hand(joint, place, cfg):
    """The maps of a plain run, written coordinate by coordinate, and their divergences."""
    speed, gains, losses = np.zeros_like(place), np.ones_like(place), []
    for step in range(cfg["steps"]):
        early = step < cfg["exaggerated"] * cfg["steps"]
        weights = 1 / (1 + _gaps(place))
        np.fill_diagonal(weights, 0)
        pulls = ((cfg["exaggeration"] if early else 1) * joint - _chances(place)) * weights
        slope = np.zeros_like(place)
        for row in range(len(place)):
            for other in range(len(place)):
                slope[row] += 4 * pulls[row, other] * (place[row] - place[other])
        for at in np.ndindex(place.shape):
            same = np.sign(slope[at]) == np.sign(speed[at])
            gains[at] = max(gains[at] * 0.8 if same else gains[at] + 0.2, 0.01)
        momentum = cfg["early_momentum"] if early else cfg["momentum"]
        speed = momentum * speed - cfg["lr"] * gains * slope
        place = place + speed
        place = place - place.mean(axis=0)
        losses.append(_divergence(joint, place))
    return place, losses


def test_updates_follow_the_gradients(program, seed):
    points = _points(seed, 14)
    config = {
        "points": 14,
        "perplexity": 15.0 * 14 / 40,
        "steps": 7,
        "lr": 3.0,
        "exaggerated": 0.3,
        "momentum": 0.6,
    }
    config["early_momentum"] = 0.3
    model = program.build(seed=seed, **config)
    start = _place(program, model)
    losses = program.train(model, points, seed, **config).next(7)
    joint = np.asarray(program.call("affinities", points, config["perplexity"]))
    expected, curve = _by_hand(joint, start, program.config(**config))
    assert np.allclose(_place(program, model), expected, rtol=1e-5, atol=1e-7)
    assert losses == pytest.approx(curve, abs=1e-6)


def test_a_fresh_map_is_small(program, seed):
    place = np.asarray(program.state(program.build(seed=seed, points=400, spread=0.02))["map"])
    assert place.shape == (400, 2)
    assert place.std() == pytest.approx(0.02, rel=0.1)
    assert abs(place.mean()) < 0.005
    other = np.asarray(program.state(program.build(seed=seed + 1, points=400))["map"])
    assert not np.allclose(place[:5] / 0.02, other[:5] / 0.01)
    assert other.std() < 0.1  # small beside the distances that a map ends with


def test_the_map_stays_around_the_origin(program, seed):
    model, _ = _trained(program, seed, _points(seed))
    assert np.allclose(_place(program, model).mean(axis=0), 0)


def test_the_divergence_falls_once_nothing_is_exaggerated(program, seed):
    _, losses = _trained(program, seed, _points(seed), steps=120, lr=20.0)
    assert losses[-1] < losses[29] - 0.05
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("neighbours", [1, 4])
def test_trust_is_one_less_what_the_intruders_cost(program, seed, neighbours):
    points, place = _points(seed, 20), np.random.default_rng(seed).normal(size=(20, 2))
    among, upon, cost = _gaps(points), _gaps(place), 0
    for row in range(20):
        others = [other for other in range(20) if other != row]
        rank = {other: n + 1 for n, other in enumerate(sorted(others, key=lambda o: among[row, o]))}
        near = sorted(others, key=lambda o: upon[row, o])[:neighbours]
        cost += sum(max(0, rank[other] - neighbours) for other in near)
    expected = 1 - 2 * cost / (20 * neighbours * (40 - 3 * neighbours - 1))
    assert program.call("trustworthiness", points, place, neighbours) == pytest.approx(expected)
    assert program.call("trustworthiness", points, points[:, :3], neighbours) == pytest.approx(1)


def test_every_parameter_moves(program, seed):
    model = program.build(seed=seed, **SMALL)
    before = _place(program, model)
    program.train(model, _points(seed), seed, **SMALL).next(2)
    assert (before != _place(program, model)).all()


def test_predict_is_repeatable_and_leaves_nothing_changed(program, seed):
    model, _ = _trained(program, seed, _points(seed))
    place, asked = _place(program, model), np.array([5, 0, 5, 33])
    for _ in range(2):
        assert np.array_equal(program.predict(model, asked), place[asked])
    assert np.array_equal(_place(program, model), place)


def test_training_leaves_the_data_as_it_was(program, seed):
    points = program.call("squared_distances", _points(seed), keep=True)
    before = np.asarray(program.call("squared_distances", points))
    _trained(program, seed, points)
    assert np.array_equal(program.call("squared_distances", points), before)


def test_the_same_seed_gives_the_same_curve(program, seed):
    curves = [_trained(program, start, _points(seed))[1] for start in (seed, seed, seed + 1)]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == 12


def test_neighbours_stay_neighbours(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
    place = np.asarray(program.predict(model, np.arange(180)))
    assert lost(target(data.train), place) < 0.85
