"""What any right set of linear models does, whoever wrote it."""

import math

import numpy as np
import pytest

from bughunt.references.linear_models.task import CLASSES, best

WHOLE = {"batch": 700, "steps": 9}  # every update sees every row


def _trained(program, task, seed, **config):
    data = task.data(seed)
    model = program.build(seed=seed, **config)
    losses = program.train(model, data.train, seed, **config).next(config.get("steps", task.steps))
    return model, losses, data


def _clouds(seed, count=70, classes=4, features=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    return rng.normal(size=(count, features)) + np.eye(classes)[labels][:, :features] * 2, labels


def _line(seed, count=50, features=4):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, features)) + 2.0
    return points, points @ rng.normal(size=features) + 5.0 + 0.3 * rng.normal(size=count)


def _weights(seed, classes=4, features=3):
    rng = np.random.default_rng(seed + 100)
    return rng.normal(size=(features, classes)), rng.normal(size=classes)


def _objective(weights, bias, points, labels, penalty):
    """Row by row, with exponents written out."""
    total = 0.0
    for point, label in zip(points, labels, strict=True):
        scores = [sum(point * weights[:, k]) + bias[k] for k in range(len(bias))]
        total += math.log(sum(math.exp(s - scores[label]) for s in scores))
    return total / len(labels) + penalty / 2 * float(np.square(weights).sum())


def _slope(function, place, step=1e-6):
    """Of a scalar function, by central differences."""
    found = np.zeros_like(place)
    for index in np.ndindex(*place.shape):
        ends = []
        for sign in (1, -1):
            moved = place.copy()
            moved[index] += sign * step
            ends.append(function(moved))
        found[index] = (ends[0] - ends[1]) / (2 * step)
    return found


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_trained(program, task, seed, **task.small)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_a_fresh_model_has_no_opinion(program, task, seed):
    first = _trained(program, task, seed, **task.small)[1][0]
    assert first == pytest.approx(math.log(CLASSES), abs=1e-6)


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


def test_predictions_are_log_probabilities(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    answers = np.asarray(program.predict(model, data.held_out["points"]))
    assert answers.shape == (len(data.held_out["points"]), CLASSES)
    assert np.allclose(np.exp(answers).sum(axis=1), 1)


def test_training_leaves_the_data_as_it_was(program, task, seed):
    data = task.data(seed).train
    copy = {name: value.copy() for name, value in data.items()}
    model = program.build(seed=seed, **task.small)
    program.train(model, data, seed, **task.small).next(task.small["steps"])
    assert all(np.array_equal(data[name], copy[name]) for name in data)


def test_units_of_the_features_do_not_matter(program, task, seed):
    data = task.data(seed)
    units, offset = np.array([100.0, 0.01, 1.0, 7.0, 0.3, 0.5]), 5.0
    answers = []
    for change in (lambda x: x, lambda x: x * units + offset):
        model = program.build(seed=seed, **task.small)
        train = {**data.train, "points": change(data.train["points"])}
        program.train(model, train, seed, **task.small).next(task.small["steps"])
        answers.append(program.predict(model, change(data.held_out["points"])))
    assert np.allclose(answers[0], answers[1], atol=1e-6)


def test_the_scale_is_that_of_the_training_points(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed, **WHOLE)
    program.train(model, data.train, seed, **WHOLE).next()
    state = program.state(model)
    points = data.train["points"]
    answers = np.exp(program.predict(model, points))
    assert np.allclose(state["mean"], points.mean(axis=0))
    assert np.allclose(state["scale"], points.std(axis=0), rtol=2e-3)  # either definition
    assert np.allclose(answers.sum(axis=1), 1)


def test_logarithms_of_chances_equal_a_sum_over_classes(program, seed):
    logits = 3 * np.random.default_rng(seed).normal(size=(9, 4))
    expected = [[-math.log(sum(math.exp(o - z) for o in row)) for z in row] for row in logits]
    assert np.allclose(program.call("log_softmax", logits), expected, atol=1e-12)


def test_large_scores_stay_finite(program):
    found = np.asarray(program.call("log_softmax", np.array([[0.0, 2000.0, -500.0], [800.0, 800.0, 800.0]])))
    assert np.allclose(found, [[-2000, 0, -2500], [-math.log(3)] * 3])


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_the_loss_equals_one_written_row_by_row(program, seed, penalty):
    points, labels = _clouds(seed)
    weights, bias = _weights(seed)
    found = program.call("objective", weights, bias, points, labels, penalty)
    assert found == pytest.approx(_objective(weights, bias, points, labels, penalty), rel=1e-9)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_gradients_equal_finite_differences(program, seed, penalty):
    points, labels = _clouds(seed, count=11)
    weights, bias = _weights(seed)
    by_weights, by_bias = program.call("gradients", weights, bias, points, labels, penalty)
    slope = _slope(lambda w: _objective(w, bias, points, labels, penalty), weights)
    assert np.allclose(by_weights, slope, atol=1e-6)
    slope = _slope(lambda b: _objective(weights, b, points, labels, penalty), bias)
    assert np.allclose(by_bias, slope, atol=1e-6)


def test_updates_follow_the_gradients(program, task, seed):
    config = {**WHOLE, "lr": 0.2, "momentum": 0.7, "penalty": 0.02}
    order = np.random.default_rng(seed).permutation(WHOLE["batch"])  # they come sorted by class
    data = {name: rows[order] for name, rows in task.data(seed).train.items()}
    model = program.build(seed=seed, **config)
    run = program.train(model, data, seed, **config)
    points = (data["points"] - data["points"].mean(axis=0)) / data["points"].std(axis=0)
    labels = data["labels"]
    weights, bias = np.zeros((6, CLASSES)), np.zeros(CLASSES)
    speeds = [np.zeros_like(weights), np.zeros_like(bias)]
    for step in range(9):
        run.next()
        chances = np.exp(points @ weights + bias)
        chances /= chances.sum(axis=1, keepdims=True)
        chances[np.arange(len(labels)), labels] -= 1
        slopes = [points.T @ chances / len(labels) + 0.02 * weights, chances.mean(axis=0)]
        speeds = [0.7 * speed + slope for speed, slope in zip(speeds, slopes, strict=True)]
        rate = 0.2 * (9 - step) / 9
        weights, bias = weights - rate * speeds[0], bias - rate * speeds[1]
        state = program.state(model)
        assert np.allclose(state["weights"], weights, atol=1e-4), step
        assert np.allclose(state["bias"], bias, atol=1e-4), step


def test_a_pass_sees_every_row_once_and_in_a_new_order(program, task, seed):
    # No weight moves, so the losses tell which rows were in a batch.
    data = task.data(seed).train
    count = len(data["labels"])
    config = {"batch": 48, "steps": 30, "lr": 0.0, "penalty": 0.0}
    model = program.build(seed=seed, **config)
    weights, bias = _weights(seed, classes=CLASSES, features=6)
    program.load_state(model, {"weights": weights, "bias": bias})
    losses = np.array(program.train(model, data, seed, **config).next(30)).reshape(2, 15)
    points = (data["points"] - data["points"].mean(axis=0)) / data["points"].std(axis=0)
    expected = _objective(weights, bias, points, data["labels"], 0.0)
    sizes = [48] * 14 + [count - 14 * 48]
    for one_pass in losses:
        assert np.average(one_pass, weights=sizes) == pytest.approx(expected, rel=2e-3)
    assert np.abs(losses[0] - losses[1]).min() > 0


def test_batches_are_mixed(program, task, seed):
    data = task.data(seed).train
    config = {"batch": 48, "steps": 15, "lr": 0.0, "penalty": 0.0}
    model = program.build(seed=seed, **config)
    program.load_state(model, {"weights": np.zeros((6, CLASSES)), "bias": np.array([2.0, 1, 0, -1, -2])})
    losses = program.train(model, data, seed, **config).next(14)
    assert np.std(losses) < 0.5  # sorted rows: 1.4


def test_the_intercept_is_free(program, task, seed):
    config = {"batch": 700, "steps": 400, "lr": 0.01, "penalty": 50.0, "momentum": 0.9}
    model, _, data = _trained(program, task, seed, **config)
    shares = np.bincount(data.train["labels"]) / len(data.train["labels"])
    answers = np.exp(program.predict(model, data.held_out["points"])).mean(axis=0)
    assert np.allclose(answers, shares, atol=0.03)


@pytest.mark.parametrize("penalty", [0.0, 0.4])
def test_ridge_minimises_its_objective(program, seed, penalty):
    points, targets = _line(seed)

    def cost(line):
        misses = [line[0] + sum(line[1:] * p) - t for p, t in zip(points, targets, strict=True)]
        return np.square(misses).mean() / 2 + penalty / 2 * np.square(line[1:]).sum()

    found = np.asarray(program.call("ridge", points, targets, penalty))
    assert found.shape == (5,)
    assert np.abs(_slope(cost, found)).max() < 1e-6


def test_shifted_targets_move_the_intercept_alone(program, seed):
    points, targets = _line(seed)
    plain = np.asarray(program.call("ridge", points, targets, 0.4))
    moved = np.asarray(program.call("ridge", points, targets + 30, 0.4))
    assert np.allclose(moved - plain, [30, 0, 0, 0, 0])


@pytest.mark.parametrize("penalty", [0.0, 0.4])
def test_descent_reaches_the_closed_form(program, seed, penalty):
    points, targets = _line(seed)
    points = points - 2.0
    centred, middle = points - points.mean(axis=0), points.mean(axis=0)
    curvature = centred.T @ centred / len(points) + penalty * np.eye(4)
    weights = np.linalg.inv(curvature) @ (centred.T @ targets) / len(points)
    expected = np.concatenate([[targets.mean() - middle @ weights], weights])
    assert np.allclose(program.call("ridge", points, targets, penalty), expected, atol=1e-9)
    found = program.call("ridge_descent", points, targets, penalty, 0.2, 900)
    assert np.allclose(found, expected, atol=1e-6)


def test_descent_makes_the_steps_it_is_told(program, seed):
    points, targets = _line(seed)
    found = program.call("ridge_descent", points, targets, 0.4, 0.01, 1)
    slope = np.concatenate([[targets.mean()], points.T @ targets / len(points)])
    assert np.allclose(found, 0.01 * slope)


@pytest.mark.parametrize("penalty", [0.01, 0.5])
def test_logistic_minimises_its_objective(program, seed, penalty):
    points, labels = _clouds(seed, classes=3)
    labels = (labels > 0).astype(float)

    def cost(line):
        scores = line[0] + points @ line[1:]
        return np.mean(np.logaddexp(0, scores) - labels * scores) + penalty / 2 * np.square(line[1:]).sum()

    found = np.asarray(program.call("logistic", points, labels, penalty))
    assert np.abs(_slope(cost, found, step=1e-5)).max() < 1e-6


def test_logistic_gets_there_in_few_iterations(program, seed):
    points, labels = _clouds(seed, classes=3)
    labels = (labels > 0).astype(float)
    found = program.call("logistic", points, labels, 0.05, 6)
    assert np.allclose(found, program.call("logistic", points, labels, 0.05, 40), atol=1e-6)


def test_separable_classes_stay_finite(program):
    points = np.concatenate([np.linspace(-90, -50, 30), np.linspace(40, 80, 25)])[:, None]
    labels = (points[:, 0] > 0).astype(float)
    found = np.asarray(program.call("logistic", points, labels, 0.1))
    assert np.isfinite(found).all()
    assert ((found[0] + points[:, 0] * found[1] > 0) == (labels > 0)).all()


def test_it_comes_close_to_the_best_reader(program, task, seed):
    model, _, data = _trained(program, task, seed, steps=task.steps)
    labels = data.held_out["labels"]
    rows = np.arange(len(labels))
    ideal = -best(data.held_out["points"])[rows, labels].mean()
    reached = task.measure(program, model, data.held_out).curve
    assert ideal < reached < ideal + 0.1
