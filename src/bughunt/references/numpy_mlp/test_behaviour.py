"""What any correct network with hand-written gradients does; torch says what the gradients are."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs

ROWS = 90
SMALL = {"steps": 8, "batch": 16, "hidden": 14, "second": 11}
WHOLE = {**SMALL, "batch": 1000, "dropout": 0.0, "last_lr": 1.0}  # every update sees every row
RULES = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.01),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.01, momentum=0.9),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=0.01, alpha=0.97),
    "adam": lambda params: torch.optim.Adam(params, lr=0.01, betas=(0.9, 0.98)),
}


def _glyphs(count, seed):
    return {name: value.numpy() for name, value in glyphs(count, seed).items()}


def _state(program, model):
    return {name: np.asarray(value) for name, value in program.state(model).items()}


def _trained(program, seed, steps=8, **config):
    data, config = _glyphs(ROWS, seed), {**SMALL, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, data, seed, **config).next(steps)
    return model, losses, data


def _gradients(program, model, data, **config):
    cfg = program.call("Config", keep=True, **{**WHOLE, **config})
    loss, to = program.call("gradients", model, data["images"], data["labels"], cfg)
    return loss, {name: np.asarray(value) for name, value in to.items()}


def _draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def _by_torch(function, arrays, weight):
    leaves = [torch.tensor(x, requires_grad=True) for x in arrays]
    value = function(*leaves)
    (value * torch.tensor(weight)).sum().backward()
    return value.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


def test_a_linear_layer_and_its_gradients_are_those_of_torch(program, seed):
    x, w, b, g = _draw(seed, (7, 5), (5, 3), (3,), (7, 3))
    value, kept = program.call("linear", x, w, b)
    expected, wanted = _by_torch(lambda x, w, b: x @ w + b, [x, w, b], g)
    assert np.allclose(value, expected)
    for found, right in zip(program.call("linear_back", g, kept), wanted, strict=True):
        assert np.shape(found) == right.shape
        assert np.allclose(found, right)


def test_normalisation_and_its_gradients_are_those_of_torch(program, seed):
    x, scale, shift, g = _draw(seed, (9, 4), (4,), (4,), (9, 4))
    x = 3 * x + 5
    value, kept = program.call("normalise", x, scale, shift, x.mean(axis=0), x.var(axis=0))

    def by_torch(x, scale, shift):
        return F.batch_norm(x, None, None, scale, shift, training=True)

    expected, wanted = _by_torch(by_torch, [x, scale, shift], g)
    assert np.allclose(value, expected, atol=1e-9)
    for found, right in zip(program.call("normalise_back", g, kept), wanted, strict=True):
        assert np.allclose(found, right, atol=1e-9)


def test_a_constant_column_does_no_harm(program):
    x = np.full((6, 2), 3.0)
    value, kept = program.call("normalise", x, np.ones(2), np.ones(2), x.mean(axis=0), x.var(axis=0))
    assert np.allclose(value, 1.0)
    assert all(np.isfinite(part).all() for part in program.call("normalise_back", x, kept))


def test_cross_entropy_and_its_gradient_are_those_of_torch(program, seed):
    (scores,) = _draw(seed, (7, 10))
    labels = np.random.default_rng(seed).integers(10, size=7)
    loss, gradient = program.call("cross_entropy", scores, labels)
    leaf = torch.tensor(scores, requires_grad=True)
    expected = F.cross_entropy(leaf, torch.tensor(labels))
    expected.backward()
    assert loss == pytest.approx(expected.item())
    assert np.allclose(gradient, leaf.grad.numpy())


def test_large_scores_stay_finite(program):
    scores = np.array([[1000.0, 0.0, -1000.0], [-900.0, -901.0, -902.0]])
    loss, gradient = program.call("cross_entropy", scores, np.array([1, 0]))
    expected = F.cross_entropy(torch.tensor(scores), torch.tensor([1, 0])).item()
    assert loss == pytest.approx(expected)
    assert np.isfinite(gradient).all()


def test_dropout_keeps_the_expectation(program, seed):
    program.seed(seed)
    value, _ = program.call("dropout", np.ones((200, 100)), 0.3)
    value = np.asarray(value)
    assert (value == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert value.mean() == pytest.approx(1.0, abs=0.02)
    assert value.max() == pytest.approx(1 / 0.7)
    untouched, _ = program.call("dropout", np.ones((20, 10)), 0.0)
    assert np.array_equal(untouched, np.ones((20, 10)))


def test_gradients_agree_with_finite_differences(program, seed):
    data = _glyphs(23, seed)
    model = program.build(seed=seed, **WHOLE)
    program.load_state(model, {"w3": 20 * _state(program, model)["w3"]})
    loss, to = _gradients(program, model, data)
    assert len(to) == 8
    rng = np.random.default_rng(seed)
    for name, gradient in to.items():
        start = _state(program, model)[name]
        way = rng.normal(size=start.shape)
        ends = []
        for step in (1e-7, -1e-7):
            program.load_state(model, {name: start + step * way})
            ends.append(_gradients(program, model, data)[0])
        program.load_state(model, {name: start})
        slope = (ends[0] - ends[1]) / 2e-7
        assert float((gradient * way).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-7), name
    assert _gradients(program, model, data)[0] == pytest.approx(loss)


def test_gradients_take_account_of_what_was_dropped(program, seed):
    data = _glyphs(23, seed)
    config = {**WHOLE, "dropout": 0.5}
    model = program.build(seed=seed, **config)
    program.load_state(model, {"w3": 20 * _state(program, model)["w3"]})
    program.seed(seed)
    _, to = _gradients(program, model, data, dropout=0.5)
    for name in ("w1", "w2"):
        start = _state(program, model)[name]
        way = np.random.default_rng(seed).normal(size=start.shape)
        ends = []
        for step in (1e-7, -1e-7):
            program.load_state(model, {name: start + step * way})
            ends.append(_gradients(program, model, data, dropout=0.5)[0])  # calls restore the random state
        program.load_state(model, {name: start})
        slope = (ends[0] - ends[1]) / 2e-7
        assert float((to[name] * way).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-7), name


@pytest.mark.parametrize("name", RULES)
def test_updates_are_those_of_torch(program, seed, name):
    data, config = _glyphs(ROWS, seed), {**WHOLE, "optimizer": name, "lr": 0.01, "weight_decay": 0.0}
    model = program.build(seed=seed, **config)
    run = program.train(model, data, seed, **config)
    start = _state(program, model)
    _, to = _gradients(program, model, data)
    leaves = {name: torch.nn.Parameter(torch.tensor(start[name])) for name in to}
    oracle = RULES[name](list(leaves.values()))
    for _ in range(5):
        _, to = _gradients(program, model, data)
        for key, leaf in leaves.items():
            leaf.grad = torch.tensor(to[key])
        oracle.step()
        run.next()
        after = _state(program, model)
        for key, leaf in leaves.items():
            if key != "b1":  # its gradient is nothing but rounding
                assert np.allclose(after[key], leaf.detach().numpy(), atol=1e-6), key


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_decay_shrinks_matrices_and_leaves_the_rest_alone(program, seed, name):
    ends = []
    for decay in (0.0, 0.5):
        config = {**WHOLE, "optimizer": name, "lr": 0.01, "weight_decay": decay}
        model = program.build(seed=seed, **config)
        start = _state(program, model)
        program.train(model, _glyphs(ROWS, seed), seed, **config).next()
        ends.append(_state(program, model))
    for key, value in start.items():
        pull = ends[1][key] - ends[0][key]
        expected = -0.005 * value if value.ndim == 2 else np.zeros_like(value)
        assert np.allclose(pull, expected, atol=1e-9), key


def test_the_rate_falls_on_a_line(program, seed):
    config = {**WHOLE, "optimizer": "sgd", "lr": 1e-6, "last_lr": 0.2, "weight_decay": 0.0}
    model = program.build(seed=seed, **config)
    run = program.train(model, _glyphs(ROWS, seed), seed, **config)
    states = [_state(program, model)]
    for _ in range(8):
        run.next()
        states.append(_state(program, model))
    first = states[1]["w3"] - states[0]["w3"]
    for number in range(8):
        move = states[number + 1]["w3"] - states[number]["w3"]
        assert np.allclose(move, (1 - 0.1 * number) * first, rtol=1e-3, atol=1e-12)


def test_running_statistics_follow_the_batches(program, seed):
    data, config = _glyphs(ROWS, seed), {**WHOLE, "lr": 0.0, "norm_momentum": 0.3}
    model = program.build(seed=seed, **config)
    state = _state(program, model)
    program.train(model, data, seed, **config).next(2)
    after = _state(program, model)
    oracle = torch.nn.BatchNorm1d(14, momentum=0.3, dtype=torch.float64)
    # The same rows are seen by a linear layer of torch; pixels are brought to one scale by fixed numbers.
    pixels = (torch.tensor(data["images"]).double().flatten(1) / 255 - 0.4) / 0.2
    for _ in range(2):
        oracle(pixels @ torch.tensor(state["w1"]) + torch.tensor(state["b1"]))
    assert np.allclose(after["mean"], oracle.running_mean.numpy(), atol=1e-6)
    assert np.allclose(after["var"], oracle.running_var.numpy(), atol=1e-6)


def test_a_fresh_model_has_no_opinion(program, task, seed):
    model = program.build(seed=seed)
    first = program.train(model, task.data(seed).train, seed).next()[0]
    assert first == pytest.approx(math.log(10), abs=0.15)


def test_hidden_weights_start_on_the_scale_of_their_inputs(program, seed):
    state = _state(program, program.build(seed=seed))
    for shape in ((144, 56), (56, 40)):
        (weight,) = [value for value in state.values() if value.shape == shape]
        assert weight.std() == pytest.approx(math.sqrt(2 / shape[0]), rel=0.08)
        assert abs(weight.mean()) < 0.05 * weight.std() + 0.01


def test_the_same_seed_gives_the_same_curve(program, seed):
    first, second = (_trained(program, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == 8


def test_another_seed_gives_other_batches(program, seed):
    curves = []
    for offset in range(2):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, _glyphs(ROWS, seed), seed + offset, **SMALL).next(8))
    assert curves[0] != curves[1]


def test_every_parameter_moves(program, seed):
    before = _state(program, program.build(seed=seed, **SMALL))
    after = _state(program, _trained(program, seed)[0])
    assert all(not np.array_equal(after[name], value) for name, value in before.items())


def test_training_leaves_the_data_as_it_was(program, seed):
    _, _, data = _trained(program, seed)
    again = _glyphs(ROWS, seed)
    assert all(np.array_equal(data[name], again[name]) for name in again)


def test_predictions_are_log_probabilities(program, seed):
    model, _, data = _trained(program, seed)
    answers = np.asarray(program.predict(model, data["images"]))
    assert answers.shape == (ROWS, 10)
    assert np.allclose(np.exp(answers).sum(axis=1), 1.0)


def test_predict_is_repeatable_and_leaves_nothing_changed(program, seed):
    model, _, data = _trained(program, seed)
    before = _state(program, model)
    first = program.predict(model, data["images"])
    program.seed(seed + 1)
    assert np.array_equal(first, program.predict(model, data["images"]))
    assert all(np.array_equal(value, before[name]) for name, value in _state(program, model).items())


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, seed):
    model, _, data = _trained(program, seed)
    together = np.asarray(program.predict(model, data["images"]))
    assert np.allclose(program.predict(model, data["images"][20:27]), together[20:27], atol=1e-10)
    assert np.allclose(program.predict(model, data["images"][5:6]), together[5:6], atol=1e-10)


def test_training_and_prediction_agree_once_the_statistics_have_settled(program, seed):
    config = {"lr": 0.0, "norm_momentum": 1.0}
    model = program.build(seed=seed, **{**WHOLE, **config})
    state = _state(program, model)
    program.load_state(model, {"w3": 20 * state["w3"]})
    data = _glyphs(ROWS, seed)
    (reported,) = program.train(model, data, seed, **{**WHOLE, **config}).next()
    answers = np.asarray(program.predict(model, data["images"]))
    measured = -answers[np.arange(ROWS), data["labels"]].mean()
    assert reported == pytest.approx(measured, rel=0.02)  # two definitions of the variance of 90 rows


def test_dropout_is_on_while_training(program, seed):
    data, losses = _glyphs(ROWS, seed), {}
    for rate in (0.0, 0.4):
        for noise in (1, 2):
            config = {**WHOLE, "dropout": rate}
            model = program.build(seed=seed, **config)
            run = program.train(model, data, seed, **config)
            run.next()
            program.seed(noise)
            losses[rate, noise] = run.next()[0]
    assert losses[0.0, 1] == losses[0.0, 2]
    assert abs(losses[0.4, 1] - losses[0.4, 2]) > 1e-7


def test_one_pass_shows_every_row_once(program, seed):
    # With no step taken, a weight that no batch touched has the gradient of no row: count rows by their mean.
    rows = 23
    data = {"images": np.zeros((rows, 12, 12), np.uint8), "labels": np.arange(rows) % 10}
    data["images"].reshape(rows, 144)[np.arange(rows), np.arange(rows)] = 255
    config = {**SMALL, "batch": 5, "lr": 0.0, "dropout": 0.0, "norm_momentum": 1.0, "steps": 10}
    model = program.build(seed=seed, **config)
    run = program.train(model, data, seed, **config)
    pixels = (data["images"].reshape(rows, 144) / 255 - 0.4) / 0.2
    inside = pixels @ _state(program, model)["w1"]
    passes = []
    for _ in range(2):
        means = []
        for _ in range(5):
            run.next()
            means.append(_state(program, model)["mean"])
        total = 5 * sum(means[:4]) + 3 * means[4]
        assert np.allclose(total, inside.sum(axis=0))
        passes.append(np.stack(means))
    assert not np.allclose(passes[0], passes[1])


def test_it_overfits_one_small_batch(program, seed):
    data, config = _glyphs(20, seed), {"steps": 80, "dropout": 0.0, "last_lr": 1.0}
    model = program.build(seed=seed, **config)
    assert program.train(model, data, seed, **config).next(80)[-1] < 0.05


@pytest.mark.parametrize("name", RULES)
def test_it_reads_glyphs_that_it_has_not_seen(program, task, seed, name):
    data = task.data(seed)
    config = task.configurations["default" if name == "adam" else name]
    model = program.build(seed=seed, **config)
    program.train(model, data.train, seed, **config).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
