"""What any right principal component analysis does, whoever wrote it."""

import numpy as np
import pytest

from bughunt.references.pca_power.task import COMPONENTS, FEATURES, left_over


def _trained(program, task, seed, **config):
    data = task.data(seed)
    model = program.build(seed=seed, **config)
    losses = program.train(model, data.train, seed, **config).next(10_000)
    return model, losses, data


def _cloud(seed, count=40, features=6):
    """Points far from the origin whose variances differ."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, features)) * 1.6 ** np.arange(features) + 10 * rng.normal(size=features)


def _covariance(points):
    """Entry by entry."""
    count, features = points.shape
    middle = [sum(column) / count for column in points.T]
    found = np.empty((features, features))
    for i, j in np.ndindex(features, features):
        found[i, j] = sum((p[i] - middle[i]) * (p[j] - middle[j]) for p in points) / (count - 1)
    return found


def _largest(matrix, count):
    values, vectors = np.linalg.eig(matrix)
    order = np.argsort(-values.real)[:count]
    return values.real[order], vectors.real[:, order].T


def _parallel(found, expected):
    """How far two sets of directions are from being the same but for signs."""
    return np.abs(np.abs((np.asarray(found) * expected).sum(axis=1)) - 1).max()


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_trained(program, task, seed, **task.small)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed))
    after = program.state(_trained(program, task, seed, **task.small)[0])
    for name, value in before.items():
        assert (np.asarray(after[name]) != np.asarray(value)).all(), name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    before = program.state(model)
    assert np.array_equal(program.predict(model, data.held_out), program.predict(model, data.held_out))
    for name, value in program.state(model).items():
        assert np.array_equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    together = program.predict(model, data.held_out)
    assert np.allclose(program.predict(model, data.held_out[40:47]), together[40:47], atol=1e-9)


def test_training_leaves_the_data_as_it_was(program, task, seed):
    data = task.data(seed).train
    copy = data.copy()
    model = program.build(seed=seed, **task.small)
    program.train(model, data, seed, **task.small).next(100)
    assert np.array_equal(data, copy)


def test_the_covariance_equals_one_written_entry_by_entry(program, seed):
    points = _cloud(seed)
    assert np.allclose(program.call("covariance", points), _covariance(points), rtol=1e-9, atol=1e-9)


def test_the_covariance_of_points_far_away_is_that_of_points_nearby(program, seed):
    points = _cloud(seed)
    near, far = program.call("covariance", points), program.call("covariance", points + 1e6)
    assert np.allclose(near, far, rtol=1e-5, atol=1e-5)


def test_a_step_turns_towards_the_direction_of_most_variance(program, seed):
    matrix = _covariance(_cloud(seed))
    _, (leader, *_) = _largest(matrix, 1)
    vector = np.ones(6) / np.sqrt(6)
    gaps = []
    for _ in range(6):
        gaps.append(1 - abs(vector @ leader))
        vector = np.asarray(program.call("power_step", matrix, vector))
        assert np.linalg.norm(vector) == pytest.approx(1)
    assert (np.diff(gaps) < 1e-12).all()


def test_a_step_is_a_product_on_the_unit_sphere(program):
    found = program.call("power_step", np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([1.0, 1.0]))
    assert np.allclose(found, np.array([3.0, 3.0]) / np.sqrt(18))


def test_what_is_explained_is_taken_out_and_nothing_else(program, seed):
    matrix = _covariance(_cloud(seed))
    values, vectors = _largest(matrix, 6)
    rest = np.asarray(program.call("deflate", matrix, vectors[0]))
    assert np.allclose(rest @ vectors[0], 0, atol=1e-8)
    for value, vector in zip(values[1:], vectors[1:], strict=True):
        assert np.allclose(rest @ vector, value * vector, atol=1e-8)


def test_signs_are_settled(program):
    for entries in ([0.6, -0.8], [-0.6, 0.8], [0.1, 0.7, -0.2], [-0.9, 0.1, 0.3]):
        vector = np.array(entries)
        found = np.asarray(program.call("fix_sign", vector))
        assert found[np.abs(vector).argmax()] > 0
        assert np.allclose(np.abs(found), np.abs(vector))
        assert np.allclose(found, program.call("fix_sign", -vector))


@pytest.mark.parametrize("name", ["by_svd", "by_gram"])
@pytest.mark.parametrize("shape", [(40, 6), (7, 11)], ids=["tall", "wide"])
def test_closed_forms_equal_the_eigenvectors_of_the_covariance(program, seed, name, shape):
    points = _cloud(seed, *shape)
    values, vectors = _largest(_covariance(points), 3)
    mean, components, variances = (np.asarray(part) for part in program.call(name, points, 3))
    assert components.shape == (3, shape[1])
    assert np.allclose(mean, points.mean(axis=0))
    assert np.allclose(variances, values, rtol=1e-8)
    assert _parallel(components, vectors) < 1e-8
    largest = components[np.arange(3), np.abs(components).argmax(axis=1)]
    assert (largest > 0).all()


def test_the_number_of_components_is_the_smallest_that_will_do(program):
    variances = np.array([5.0, 3.0, 1.5, 0.5])
    found = [program.call("enough", variances, share) for share in (0.3, 0.6, 0.79, 0.9, 0.99)]
    assert found == [1, 2, 2, 3, 4]


def test_components_are_orthonormal(program, task, seed):
    components = np.asarray(program.state(_trained(program, task, seed)[0])["components"])
    assert np.allclose(components @ components.T, np.eye(COMPONENTS), atol=0.02)


def test_enough_steps_lead_to_the_eigenvectors(program, task, seed):
    model, losses, data = _trained(program, task, seed, steps=1600)
    values, vectors = _largest(np.cov(data.train.T), COMPONENTS)
    state = program.state(model)
    assert np.allclose(state["variances"], values, rtol=1e-4)
    assert _parallel(state["components"], vectors) < 1e-4
    assert np.allclose(state["mean"], data.train.mean(axis=0))
    assert losses[-1] == pytest.approx(1 - values.sum() / np.trace(np.cov(data.train.T)), abs=1e-4)


def test_one_component_is_looked_for_after_the_other(program, task, seed):
    data = task.data(seed).train
    model = program.build(seed=seed, steps=240)
    run = program.train(model, data, seed, steps=240)
    _, vectors = _largest(np.cov(data.T), COMPONENTS)
    for k in range(COMPONENTS):
        run.next(60)
        state = program.state(model)
        assert (np.abs(state["variances"]) > 0).sum() == k + 1
        assert _parallel(state["components"][:1], vectors[:1]) < 0.02


def test_stored_components_have_their_signs_settled(program, task, seed):
    components = np.asarray(program.state(_trained(program, task, seed)[0])["components"])
    largest = components[np.arange(COMPONENTS), np.abs(components).argmax(axis=1)]
    assert (largest > 0).all()


def test_the_unexplained_share_never_rises(program, task, seed):
    _, losses, _ = _trained(program, task, seed)
    assert (np.diff(losses) <= 1e-9).all()
    assert 0 < losses[-1] < losses[0] < 1


def test_scores_have_no_mean_and_the_variances_of_the_model(program, task, seed):
    model, _, data = _trained(program, task, seed, steps=800)
    scores = np.asarray(program.call("transform", model, data.train))
    assert np.allclose(scores.mean(axis=0), 0, atol=1e-8)
    assert np.allclose(np.cov(scores.T), np.diag(program.state(model)["variances"]), atol=0.05)


def test_whitened_scores_have_unit_covariance(program, task, seed):
    model, _, data = _trained(program, task, seed, steps=800)
    white = np.asarray(program.call("whiten", model, data.train))
    assert np.allclose(np.cov(white.T), np.eye(COMPONENTS), atol=0.02)


def test_scores_lead_back_to_the_flat_through_the_mean(program, task, seed):
    model, _, data = _trained(program, task, seed, steps=800)
    points = data.held_out[:50]
    scores = np.asarray(program.call("transform", model, points))
    back = np.asarray(program.call("inverse", model, scores))
    assert back.shape == (50, FEATURES)
    assert np.allclose(program.call("transform", model, back), scores, atol=0.05)
    lost = points - back
    assert np.abs(lost @ np.asarray(program.state(model)["components"]).T).max() < 0.05
    assert np.allclose(program.predict(model, points), back)


def test_moving_the_cloud_moves_the_predictions_along(program, task, seed):
    data = task.data(seed)
    answers = []
    for shift in (0.0, 50.0):
        model = program.build(seed=seed, steps=80)
        program.train(model, data.train + shift, seed, steps=80).next(80)
        answers.append(np.asarray(program.predict(model, data.held_out + shift)) - shift)
    assert np.allclose(answers[0], answers[1], atol=1e-6)


def test_it_comes_close_to_the_best_flat(program, task, seed):
    model, _, data = _trained(program, task, seed)
    own = float(((np.asarray(program.predict(model, data.train)) - data.train) ** 2).sum())
    assert 1 - 1e-9 <= own / left_over(data.train) <= 1.05
    assert task.measure(program, model, data.held_out).curve <= 1.12
