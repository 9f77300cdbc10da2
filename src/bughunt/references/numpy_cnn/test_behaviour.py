"""What any correct convolutional network in plain arrays does; torch and loops say what is right."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs

ROWS = 60
SMALL = {"steps": 6, "batch": 16, "first": 3, "second": 5}
WHOLE = {**SMALL, "batch": 1000, "warmup": 0, "last_lr": 1.0, "max_norm": 1e9}
# Images, kernels, stride, padding.
SHAPES = {
    "one": ((2, 1, 5, 5), (3, 1, 3, 3), 1, 0),
    "wide": ((3, 2, 4, 7), (5, 2, 3, 3), 1, 1),
    "even": ((2, 3, 6, 5), (4, 3, 2, 2), 1, 0),
    "stepped": ((2, 3, 7, 9), (4, 3, 3, 3), 2, 0),
    "left_over": ((2, 2, 8, 6), (3, 2, 3, 3), 2, 1),
    "far": ((1, 2, 9, 8), (3, 2, 2, 2), 3, 2),
    "point": ((4, 3, 3, 2), (2, 3, 1, 1), 1, 0),
}


def _glyphs(count, seed):
    return {name: value.numpy() for name, value in glyphs(count, seed).items()}


def _state(program, model):
    return {name: np.asarray(value) for name, value in program.state(model).items()}


def _trained(program, seed, steps=6, **config):
    data, config = _glyphs(ROWS, seed), {**SMALL, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, data, seed, **config).next(steps)
    return model, losses, data


def _draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def _by_torch(function, arrays, seed):
    """The value, random weights for its entries, and the gradients of the weighted sum."""
    leaves = [torch.tensor(x, requires_grad=True) for x in arrays]
    value = function(*leaves)
    weight = np.random.default_rng(seed + 100).normal(size=tuple(value.shape))
    (value * torch.tensor(weight)).sum().backward()
    return value.detach().numpy(), weight, [leaf.grad.numpy() for leaf in leaves]


@pytest.mark.parametrize("case", SHAPES)
def test_a_convolution_and_its_gradients_are_those_of_torch(program, seed, case):
    x_shape, w_shape, stride, padding = SHAPES[case]
    arrays = _draw(seed, x_shape, w_shape, w_shape[:1])
    value, kept = program.call("conv", *arrays, stride, padding)
    expected, g, wanted = _by_torch(lambda x, w, b: F.conv2d(x, w, b, stride, padding), arrays, seed)
    assert np.shape(value) == expected.shape
    assert np.allclose(value, expected)
    for found, right in zip(program.call("conv_back", g, kept), wanted, strict=True):
        assert np.shape(found) == right.shape
        assert np.allclose(found, right)


def test_a_convolution_moves_with_its_image(program, seed):
    x, w, b = _draw(seed, (1, 2, 9, 9), (3, 2, 3, 3), (3,))
    there, _ = program.call("conv", x, w, b, 1, 0)
    moved, _ = program.call("conv", np.roll(x, (1, 2), axis=(2, 3)), w, b, 1, 0)
    assert np.allclose(np.asarray(moved)[:, :, 1:, 2:], np.asarray(there)[:, :, :-1, :-2])


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (1, 2, 7, 5), (3, 1, 4, 3)], ids=str)
@pytest.mark.parametrize("size", [2, 3])
def test_pooling_and_its_gradient_are_those_of_torch(program, seed, shape, size):
    arrays = _draw(seed, shape)
    value, kept = program.call("max_pool", *arrays, size)
    expected, g, (wanted,) = _by_torch(lambda x: F.max_pool2d(x, size), arrays, seed)
    assert np.array_equal(value, expected)
    assert np.allclose(program.call("max_pool_back", g, kept), wanted)


def test_one_of_equal_entries_gets_the_gradient(program):
    x = np.ones((1, 2, 4, 4))
    value, kept = program.call("max_pool", x, 2)
    assert np.array_equal(value, np.ones((1, 2, 2, 2)))
    back = np.asarray(program.call("max_pool_back", np.full((1, 2, 2, 2), 3.0), kept))
    assert back.sum() == pytest.approx(24.0)


def test_the_mean_over_the_places_and_its_gradient_are_those_of_torch(program, seed):
    arrays = _draw(seed, (3, 4, 2, 5))
    value, kept = program.call("mean_pool", *arrays)
    expected, g, (wanted,) = _by_torch(lambda x: x.mean(dim=(2, 3)), arrays, seed)
    assert np.allclose(value, expected)
    assert np.allclose(program.call("mean_pool_back", g, kept), wanted)


def test_operations_leave_their_inputs_as_they_were(program, seed):
    x, w, b = _draw(seed, (2, 2, 6, 6), (3, 2, 3, 3), (3,))
    held = [program.call("np.array", value, keep=True) for value in (x, w, b)]
    program.call("conv", *held, 1, 1)
    program.call("max_pool", held[0], 2)
    program.call("relu", held[0])
    for handle, value in zip(held, (x, w, b), strict=True):
        assert np.array_equal(program.call_method(handle, "copy"), value)


def _network(state, images):
    """The network that the state belongs to, in torch; arrays are known by their place in the state."""
    w1, b1, w2, b2, w3, b3, w4, b4 = state
    x = (torch.tensor(images).double()[:, None] / 255 - 0.4) / 0.2
    x = F.max_pool2d(torch.relu(F.conv2d(x, w1, b1, padding=1)), 2)
    x = torch.relu(F.conv2d(x, w2, b2))
    x = torch.relu(F.conv2d(x, w3, b3, stride=2))
    return x.mean(dim=(2, 3)) @ w4 + b4


def test_predictions_are_those_of_the_same_layers_in_torch(program, seed):
    model, _, data = _trained(program, seed)
    state = [torch.tensor(value) for value in _state(program, model).values()]
    expected = F.log_softmax(_network(state, data["images"]), 1)
    assert np.allclose(program.predict(model, data["images"]), expected.numpy(), atol=1e-9)


def test_gradients_are_those_of_torch(program, seed):
    model, _, data = _trained(program, seed)
    leaves = [torch.tensor(value, requires_grad=True) for value in _state(program, model).values()]
    names = list(program.state(model))
    loss = F.cross_entropy(_network(leaves, data["images"]), torch.tensor(data["labels"]))
    loss.backward()
    found, to = program.call("gradients", model, data["images"], data["labels"])
    assert found == pytest.approx(loss.item())
    for name, leaf in zip(names, leaves, strict=True):
        assert np.allclose(to[name], leaf.grad.numpy(), atol=1e-9), name


def test_large_scores_stay_finite(program, seed):
    model, _, data = _trained(program, seed)
    last = list(program.state(model))[-2]
    program.load_state(model, {last: 1e5 * _state(program, model)[last]})
    answers = np.asarray(program.predict(model, data["images"]))
    assert np.isfinite(answers).all()
    loss, to = program.call("gradients", model, data["images"], data["labels"])
    assert math.isfinite(loss)
    assert all(np.isfinite(np.asarray(g)).all() for g in to.values())


@pytest.mark.parametrize("max_norm", [0.05, 1e9], ids=["clipped", "free"])
def test_updates_are_those_of_torch(program, seed, max_norm):
    data, config = _glyphs(ROWS, seed), {**WHOLE, "lr": 0.01, "max_norm": max_norm}
    model = program.build(seed=seed, **config)
    run = program.train(model, data, seed, **config)
    leaves = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in _state(program, model).items()}
    oracle = torch.optim.Adam(list(leaves.values()), lr=0.01, betas=(0.9, 0.98))
    for _ in range(4):
        _, to = program.call("gradients", model, data["images"], data["labels"])
        for name, leaf in leaves.items():
            leaf.grad = torch.tensor(np.asarray(to[name]))
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), max_norm)
        oracle.step()
        run.next()
        after = _state(program, model)
        for name, leaf in leaves.items():
            assert np.allclose(after[name], leaf.detach().numpy(), atol=1e-5), name


def test_the_first_update_is_as_large_as_the_first_rate(program, seed):
    data, model = _glyphs(48, seed), program.build(seed=seed)
    _, to = program.call("gradients", model, data["images"], data["labels"])
    before = _state(program, model)
    program.train(model, data, seed).next()
    after = _state(program, model)
    for name, value in before.items():
        moved = (after[name] - value)[np.abs(to[name]) > 1e-4]
        assert np.allclose(np.abs(moved), 0.012 / 15, rtol=0.01), name


def test_a_slight_gradient_is_left_at_its_length(program, seed):
    data = {**_glyphs(ROWS, seed), "labels": np.full(ROWS, 3)}
    config = {**WHOLE, "lr": 0.01, "max_norm": 1.0}
    model = program.build(seed=seed, **config)
    sure = list(program.state(model))[-1]
    program.load_state(model, {sure: 20.0 * (np.arange(10) == 3)})
    leaves = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in _state(program, model).items()}
    _, to = program.call("gradients", model, data["images"], data["labels"])
    for name, leaf in leaves.items():
        leaf.grad = torch.tensor(np.asarray(to[name]))
    torch.optim.Adam(list(leaves.values()), lr=0.01, betas=(0.9, 0.98)).step()
    program.train(model, data, seed, **config).next()
    after = _state(program, model)
    for name, leaf in leaves.items():  # so slight that Adam's epsilon tells the length
        assert np.allclose(after[name], leaf.detach().numpy(), atol=1e-5), name


def test_the_rate_climbs_and_falls(program):
    cfg = program.call("Config", keep=True, steps=110, warmup=10, lr=0.5, last_lr=0.2)
    rates = {step: program.call("learning_rate", step, cfg) for step in (*range(11), 35, 60, 110)}
    assert [rates[step] for step in range(10)] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert rates[10] == pytest.approx(0.5)
    assert rates[60] == pytest.approx(0.3)
    assert rates[110] == pytest.approx(0.1)
    assert rates[35] == pytest.approx(0.1 + 0.4 * (1 + math.sqrt(0.5)) / 2)


def test_a_fresh_model_has_no_opinion(program, task, seed):
    model = program.build(seed=seed)
    first = program.train(model, task.data(seed).train, seed).next()[0]
    assert first == pytest.approx(math.log(10), abs=0.15)


def test_hidden_weights_start_on_the_scale_of_their_inputs(program, seed):
    state = _state(program, program.build(seed=seed, first=20, second=30))
    kernels = [value for value in state.values() if value.ndim == 4]
    assert len(kernels) == 3
    for value in kernels:
        assert value.std() == pytest.approx(math.sqrt(2 / value[0].size), rel=0.2)
        assert abs(value.mean()) < 0.2 * value.std()


def test_the_same_seed_gives_the_same_curve(program, seed):
    first, second = (_trained(program, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == 6


def test_another_seed_gives_other_batches(program, seed):
    curves = []
    for offset in range(2):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, _glyphs(ROWS, seed), seed + offset, **SMALL).next(6))
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
    assert np.array_equal(first, program.predict(model, data["images"]))
    assert all(np.array_equal(value, before[name]) for name, value in _state(program, model).items())


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, seed):
    model, _, data = _trained(program, seed)
    together = np.asarray(program.predict(model, data["images"]))
    assert np.allclose(program.predict(model, data["images"][20:27]), together[20:27], atol=1e-10)
    assert np.allclose(program.predict(model, data["images"][5:6]), together[5:6], atol=1e-10)


def test_one_pass_shows_every_row_once(program, seed):
    # With no step taken, the losses of a pass sum to those of all rows, in whatever order.
    rows, data = 23, _glyphs(23, seed)
    config = {**SMALL, "batch": 5, "lr": 0.0, "steps": 10}
    model = program.build(seed=seed, **config)
    last = list(program.state(model))[-2]
    program.load_state(model, {last: 50 * _state(program, model)[last]})
    losses = np.array(program.train(model, data, seed, **config).next(10)).reshape(2, 5)
    answers = np.asarray(program.predict(model, data["images"]))
    expected = -answers[np.arange(rows), data["labels"]].sum()
    assert losses @ np.array([5, 5, 5, 5, 3]) == pytest.approx(expected)
    assert not np.allclose(losses[0], losses[1])


def test_it_overfits_one_small_batch(program, seed):
    config = {"steps": 40, "lr": 0.02, "last_lr": 1.0}
    model = program.build(seed=seed, **config)
    assert program.train(model, _glyphs(10, seed), seed, **config).next(40)[-1] < 0.1


def test_it_reads_glyphs_that_it_has_not_seen(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
