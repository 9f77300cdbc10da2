"""What any correct k-means++ does, whoever wrote it."""

import numpy as np
import pytest

from bughunt.references.kmeans_pp.task import scatter


def _trained(program, task, seed, **config):
    data = task.data(seed)
    model = program.build(seed=seed, **config)
    losses = program.train(model, data.train, seed, **config).next(config.get("steps", task.steps))
    return model, losses, data


def _points(seed, count=60, features=5):
    return np.random.default_rng(seed).normal(size=(count, features))


def _gaps(points, centroids):
    """Squared distances by a loop over pairs."""
    return np.array([[sum((p - c) ** 2) for c in centroids] for p in points])


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_trained(program, task, seed, **task.small)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_another_seed_starts_from_other_points(program, task, seed):
    data = task.data(seed).train
    firsts = set()
    for offset in range(6):
        model = program.build(seed=seed, steps=1, restarts=1)
        firsts.add(program.train(model, data, seed + offset, steps=1, restarts=1).next()[0])
    assert len(firsts) > 1


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed))
    after = program.state(_trained(program, task, seed, **task.small)[0])
    for name, value in before.items():
        changed = np.asarray(after[name]) != np.asarray(value)
        assert changed.reshape(len(changed), -1).any(axis=1).all(), name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    before = program.state(model)
    points = data.held_out["points"]
    assert np.array_equal(program.predict(model, points), program.predict(model, points))
    for name, value in program.state(model).items():
        assert np.array_equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    points = data.held_out["points"]
    together = program.predict(model, points)
    assert np.array_equal(program.predict(model, points[40:47]), together[40:47])


def test_labels_move_with_their_points(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    points = data.held_out["points"]
    order = np.random.default_rng(seed).permutation(len(points))
    labels = program.predict(model, points)
    assert np.array_equal(program.predict(model, points[order]), labels[order])


def test_units_of_the_features_do_not_matter(program, task, seed):
    data = task.data(seed)
    units, offset = np.array([100.0, 0.01, 1.0, 7.0, 0.3]), 5.0
    answers = []
    for change in (lambda x: x, lambda x: x * units + offset):
        model = program.build(seed=seed, **task.small)
        program.train(model, change(data.train), seed, **task.small).next(task.small["steps"])
        answers.append(program.predict(model, change(data.held_out["points"])))
    assert np.mean(answers[0] == answers[1]) > 0.99


def test_training_leaves_the_data_as_it_was(program, task, seed):
    data = task.data(seed)
    copy = data.train.copy()
    _trained(program, task, seed, **task.small)
    assert np.array_equal(data.train, copy)


def test_distances_equal_a_loop_over_pairs(program, seed):
    points, centroids = _points(seed), _points(seed + 1, count=7)
    found = program.call("squared_distances", points, centroids)
    assert np.allclose(found, _gaps(points, centroids), rtol=1e-9, atol=1e-9)


def test_distances_are_never_negative(program, seed):
    points = _points(seed) + 1e4
    found = np.asarray(program.call("squared_distances", points, points))
    assert (found >= 0).all()
    assert np.diag(found).max() < 1e-3


def test_inertia_sums_the_squared_distances_to_the_closest_centroid(program, seed):
    points, centroids = _points(seed), _points(seed + 1, count=7)
    expected = _gaps(points, centroids).min(axis=1).sum()
    assert program.call("inertia", points, centroids) == pytest.approx(expected, rel=1e-9)


def test_a_seed_is_drawn_in_proportion_to_the_squared_distance(program, seed):
    points = _points(seed)
    chosen = points[[3, 11, 50]]
    gaps = _gaps(points, chosen).min(axis=1)
    found = np.asarray(program.call("seeding", points, chosen))
    assert np.allclose(found, gaps / gaps.sum(), atol=1e-12)


def test_seeds_land_as_often_as_the_squared_distances_say(program, seed):
    # Two clusters. Only the seeds {0, 1} end in the groups {0} and {1, 2.9}, with the chance
    # (1 / (1 + 2.9**2) + 1 / (1 + 1.9**2)) / 3; plain distances give 0.20, uniform draws 0.33.
    points = np.array([[0.0], [1.0], [2.9]])
    config = {"features": 1, "clusters": 2, "restarts": 1, "steps": 1}
    draws, odd = 600, 0
    for offset in range(draws):
        model = program.build(**config)
        program.train(model, points, 1000 * seed + offset, **config).next()
        labels = program.predict(model, points)
        odd += bool(labels[0] != labels[1])
    assert odd / draws == pytest.approx(0.1077, abs=0.05)  # four standard deviations


def test_a_centroid_moves_to_the_middle_of_its_points(program, seed):
    points = _points(seed)
    centroids = points[:4] + 0.01  # each has at least the point beside it
    labels = _gaps(points, centroids).argmin(axis=1)
    expected = np.stack([points[labels == k].mean(axis=0) for k in range(4)])
    assert np.allclose(program.call("lloyd", points, centroids), expected)


def test_a_cluster_without_points_keeps_the_rest_going(program, seed):
    points = _points(seed)
    centroids = np.vstack([points[:3], np.full((2, 5), 1e3)])
    labels = _gaps(points, centroids[:3]).argmin(axis=1)
    moved = np.asarray(program.call("lloyd", points, centroids))
    assert np.isfinite(moved).all()
    for k in range(3):
        assert np.allclose(moved[k], points[labels == k].mean(axis=0))


def test_an_iteration_never_raises_the_inertia(program, seed):
    points = _points(seed, count=200)
    centroids = points[:8].copy()
    levels = [_gaps(points, centroids).min(axis=1).sum()]
    for _ in range(8):
        centroids = np.asarray(program.call("lloyd", points, centroids))
        levels.append(_gaps(points, centroids).min(axis=1).sum())
    assert (np.diff(levels) <= 1e-9).all()


def test_the_reported_inertia_never_rises(program, task, seed):
    _, losses, _ = _trained(program, task, seed, restarts=3)
    assert (np.diff(losses) <= 1e-9 * losses[0]).all()


def test_the_best_of_several_runs_is_better_than_one(program, task, seed):
    final = {}
    for restarts in (1, 12):
        model = program.build(seed=seed, restarts=restarts)
        final[restarts] = [
            program.train(model, task.data(other).train, other, restarts=restarts).next(task.steps)[-1]
            for other in range(seed, seed + 8)
        ]
    assert np.mean(final[12]) < 0.9 * np.mean(final[1])


def test_the_reported_inertia_is_that_of_the_model(program, task, seed):
    model, losses, data = _trained(program, task, seed)
    own = scatter(data.train, program.predict(model, data.train))
    assert losses[-1] == pytest.approx(own, rel=0.01)  # either definition of the deviation


def test_it_finds_the_groups(program, task, seed):
    reached = []
    for offset in range(3):
        model, _, data = _trained(program, task, seed + offset, steps=task.steps)
        reached.append(task.measure(program, model, data.held_out).metric)
    assert sorted(reached)[1] > 0.95
