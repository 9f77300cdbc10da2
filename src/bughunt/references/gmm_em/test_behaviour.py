"""What any right mixture of normals does, whoever wrote it."""

import math

import numpy as np
import pytest

from bughunt.references.gmm_em.task import COMPONENTS, FEATURES


def _trained(program, task, seed, **config):
    data = task.data(seed)
    model = program.build(seed=seed, **config)
    losses = program.train(model, data.train, seed, **config).next(config.get("steps", task.steps))
    return model, losses, data


def _cloud(seed, count=60, features=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, features)) @ rng.normal(size=(features, features)) + 2.0


def _law(seed, components=3, features=3):
    rng = np.random.default_rng(seed + 50)
    factors = np.eye(features) + 0.3 * rng.normal(size=(components, features, features))
    return {
        "weights": np.array([0.6, 0.3, 0.1])[:components] / np.sum([0.6, 0.3, 0.1][:components]),
        "means": 2 * rng.normal(size=(components, features)),
        "covariances": factors @ factors.transpose(0, 2, 1),
    }


def _density(point, mean, covariance):
    """With inverse and determinant written out."""
    away = point - mean
    volume = math.sqrt((2 * math.pi) ** len(mean) * np.linalg.det(covariance))
    return math.exp(-0.5 * away @ np.linalg.inv(covariance) @ away) / volume


def _chances(law, points):
    """Weight times density of each component, point by point."""
    parts = list(zip(law["weights"], law["means"], law["covariances"], strict=True))
    return np.array([[w * _density(point, m, c) for w, m, c in parts] for point in points])


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
        assert (np.asarray(after[name]) != np.asarray(value)).all(), name


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
    assert np.allclose(program.predict(model, points[40:47]), together[40:47], atol=1e-9)


def test_training_leaves_the_data_as_it_was(program, task, seed):
    data = task.data(seed).train
    copy = data.copy()
    model = program.build(seed=seed, **task.small)
    program.train(model, data, seed, **task.small).next(6)
    assert np.array_equal(data, copy)


def test_a_logarithm_of_a_sum_survives_large_numbers(program):
    found = program.call("log_sum_exp", np.array([[0.0, math.log(3)], [900.0, 900.0], [-2000.0, -2000.0]]))
    assert np.allclose(found, [math.log(4), 900 + math.log(2), -2000 + math.log(2)])


def test_the_density_equals_one_with_the_inverse_written_out(program, seed):
    points, law = _cloud(seed, 20), _law(seed)
    found = np.asarray(program.call("log_normal", points, law["means"][0], law["covariances"][0]))
    expected = [_density(point, law["means"][0], law["covariances"][0]) for point in points]
    assert np.allclose(np.exp(found), expected, rtol=1e-8)


def test_the_density_adds_up_to_one(program):
    grid = np.stack(np.meshgrid(*[np.linspace(-9, 9, 121)] * 2), axis=-1).reshape(-1, 2)
    covariance = np.array([[2.0, 0.9], [0.9, 1.0]])
    found = np.exp(program.call("log_normal", grid, np.array([0.5, -0.5]), covariance))
    assert found.sum() * (18 / 120) ** 2 == pytest.approx(1, abs=1e-3)


def test_shares_equal_bayes_rule_point_by_point(program, seed):
    points, law = _cloud(seed, 25), _law(seed)
    shares, likelihood = program.call("expectation", law, points)
    chances = _chances(law, points)
    assert np.allclose(shares, chances / chances.sum(axis=1, keepdims=True), atol=1e-9)
    assert likelihood == pytest.approx(np.log(chances.sum(axis=1)).mean(), rel=1e-8)


def test_points_far_from_everything_still_belong_somewhere(program, seed):
    far = _cloud(seed, 10) + 500.0
    shares, likelihood = program.call("expectation", _law(seed), far)
    assert np.allclose(np.asarray(shares).sum(axis=1), 1)
    assert np.isfinite(likelihood)


def test_moments_equal_weighted_ones_written_out(program, seed):
    points = _cloud(seed, 30)
    shares = np.random.default_rng(seed).dirichlet([0.5, 1.0, 2.0], size=30)
    found = program.call("maximisation", points, shares, 0.0)
    for k in range(3):
        weights = shares[:, k] / shares[:, k].sum()
        mean = sum(w * p for w, p in zip(weights, points, strict=True))
        spread = sum(w * np.outer(p - mean, p - mean) for w, p in zip(weights, points, strict=True))
        assert np.allclose(found["weights"][k], shares[:, k].mean())
        assert np.allclose(found["means"][k], mean)
        assert np.allclose(found["covariances"][k], spread)


def test_one_component_has_the_moments_of_the_points(program, seed):
    points = _cloud(seed)
    found = program.call("maximisation", points, np.ones((60, 1)), 0.0)
    assert np.allclose(found["means"][0], points.mean(axis=0))
    assert np.allclose(found["covariances"][0], np.cov(points.T, bias=True))


def test_the_ridge_is_added_to_every_variance(program, seed):
    points, shares = _cloud(seed), np.random.default_rng(seed).dirichlet([1, 1], size=60)
    plain, wide = (program.call("maximisation", points, shares, ridge)["covariances"] for ridge in (0.0, 0.7))
    assert np.allclose(np.asarray(wide) - plain, 0.7 * np.eye(3))


def test_points_on_a_line_keep_their_components_solid(program, seed):
    line = np.random.default_rng(seed).normal(size=(80, 1)) * np.array([[1.0, 2.0, -1.0]])
    model = program.build(seed=seed, steps=15)
    losses = program.train(model, line, seed, steps=15).next(15)
    state = program.state(model)
    assert np.isfinite(losses).all()
    assert (np.linalg.eigvalsh(state["covariances"]) > 0).all()


def test_an_iteration_never_lowers_the_likelihood(program, seed):
    points = _cloud(seed, 120)
    wide = np.tile(np.cov(points.T), (3, 1, 1))
    law = {"weights": np.array([0.5, 0.3, 0.2]), "means": points[:3], "covariances": wide}
    levels = []
    for _ in range(12):
        shares, likelihood = program.call("expectation", law, points)
        levels.append(likelihood)
        law = program.call("maximisation", points, shares, 0.0)
    assert (np.diff(levels) > -1e-9).all()
    assert levels[-1] > levels[0]


def test_seeds_land_as_often_as_the_squared_distances_say(program, seed):
    points = np.append(np.linspace(0, 1, 60), 4.5)  # without the far one: plain distances 0.82, cubes 0.09
    squares = (points[:, None] - points) ** 2
    expected = (squares[:-1, :-1].sum(axis=1) / squares[:-1].sum(axis=1)).sum() / 61
    rng = program.call("np.random.default_rng", seed, keep=True)
    draws, near = 100, 0
    for _ in range(draws):
        found = np.asarray(program.call("seeds", points[:, None], 2, rng))
        assert len(np.unique(found)) == 2
        near += bool(found.max() < 2)
    assert near / draws == pytest.approx(expected, abs=0.2)  # four standard deviations


def test_seeds_reach_every_group(program, seed):
    points = np.array([[0.0], [0.1], [0.2], [10.0], [10.1], [10.2], [25.0], [25.1], [25.2]])
    rng = program.call("np.random.default_rng", seed, keep=True)
    found = [np.asarray(program.call("seeds", points, 3, rng)) for _ in range(20)]
    assert sum(len(np.unique(np.round(three / 10))) == 3 for three in found) >= 19


def test_units_of_the_features_do_not_matter_to_seeds(program, seed):
    points, units = _cloud(seed, 120), np.array([100.0, 0.01, 1.0])
    found = []
    for scale in (1.0, units):
        rng = program.call("np.random.default_rng", seed, keep=True)
        found.append(np.asarray(program.call("seeds", points * scale, 8, rng)) / scale)
    assert np.allclose(found[0], found[1])


def test_the_price_counts_every_free_number(program, seed):
    points, law = _cloud(seed), _law(seed)
    # Two free weights, three means of three, three symmetric matrices of six.
    expected = -2 * np.log(_chances(law, points).sum(axis=1)).sum() + (2 + 9 + 18) * math.log(60)
    assert program.call("bic", law, points) == pytest.approx(expected, rel=1e-9)


def test_the_lowest_price_is_that_of_the_true_number(program, task, seed):
    prices = {}
    for components in (COMPONENTS, 2, 6):
        config = {} if components == COMPONENTS else {"components": components, "restarts": 2}
        model, _, data = _trained(program, task, seed, **config)
        prices[components] = program.call("bic", model, data.train)
    assert min(prices, key=prices.get) == COMPONENTS


def test_samples_have_the_moments_of_the_mixture(program, seed):
    law = _law(seed)
    program.seed(seed)
    found = np.asarray(program.call("sample", law, 20_000))
    assert found.shape == (20_000, 3)
    mean = law["weights"] @ law["means"]
    spread = sum(
        w * (c + np.outer(m - mean, m - mean))
        for w, m, c in zip(law["weights"], law["means"], law["covariances"], strict=True)
    )
    scale = np.sqrt(np.diag(spread))
    assert np.allclose((found.mean(axis=0) - mean) / scale, 0, atol=0.05)
    assert np.allclose((np.cov(found.T) - spread) / np.outer(scale, scale), 0, atol=0.08)


def test_a_sampled_component_has_its_own_covariance(program, seed):
    law = _law(seed, components=1)
    program.seed(seed)
    found = np.asarray(program.call("sample", law, 20_000))
    scale = np.sqrt(np.diag(law["covariances"][0]))
    gap = (np.cov(found.T) - law["covariances"][0]) / np.outer(scale, scale)
    assert np.abs(gap).max() < 0.06


def test_the_reported_likelihood_never_falls(program, task, seed):
    _, losses, _ = _trained(program, task, seed, ridge=1e-9, restarts=2)
    assert (np.diff(losses) <= 1e-7).all()


def test_the_best_of_several_runs_is_no_worse_than_one(program, task, seed):
    final = {1: [], 4: []}
    for other in range(seed, seed + 5):
        points = task.data(other).train[:150]
        for restarts, losses in final.items():
            model = program.build(seed=seed, restarts=restarts, steps=8)
            run = program.train(model, points, other, restarts=restarts, steps=8)
            losses.append(run.next(8)[-1])
    assert np.mean(final[4]) < np.mean(final[1]) - 1e-4


def test_the_reported_likelihood_is_that_of_the_model(program, task, seed):
    model, losses, data = _trained(program, task, seed)
    scores = np.asarray(program.predict(model, data.train))
    assert losses[-1] == pytest.approx(-np.logaddexp.reduce(scores, axis=1).mean(), abs=2e-3)


def test_the_parameters_are_those_of_a_law(program, task, seed):
    state = program.state(_trained(program, task, seed)[0])
    assert np.sum(state["weights"]) == pytest.approx(1)
    covariances = np.asarray(state["covariances"])
    assert np.allclose(covariances, covariances.transpose(0, 2, 1))
    assert (np.linalg.eigvalsh(covariances) > 0).all()
    assert np.asarray(state["means"]).shape == (COMPONENTS, FEATURES)


def test_it_comes_close_to_the_true_law(program, task, seed):
    close = []
    for other in (seed, seed + 1, seed + 2):
        model, _, data = _trained(program, task, other)
        close.append(task.measure(program, model, data.held_out).curve < 0.12)
        if close.count(close[-1]) == 2:
            break
    assert close[-1], "two of three trainings stay away from the true law"
