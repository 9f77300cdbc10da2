"""What any correct engine for gradients does, whoever wrote it; torch says what the gradients are."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

# Name, shapes of the operands, settings, and what torch calls it.
OPERATIONS = {
    "add": ([(4, 3), (4, 3)], [], torch.add),
    "add_row": ([(4, 3), (3,)], [], torch.add),
    "add_column": ([(4, 1), (4, 3)], [], torch.add),
    "add_number": ([(), (2, 4, 3)], [], torch.add),
    "sub": ([(4, 3), (4, 3)], [], torch.sub),
    "sub_stretched": ([(5, 1, 3), (4, 1)], [], torch.sub),
    "mul": ([(4, 3), (4, 3)], [], torch.mul),
    "mul_row": ([(3,), (4, 3)], [], torch.mul),
    "mul_stretched": ([(4, 1), (1, 3)], [], torch.mul),
    "div": ([(4, 3), (4, 3)], [], torch.div),
    "div_column": ([(4, 3), (4, 1)], [], torch.div),
    "div_number": ([(), (4, 3)], [], torch.div),
    "matmul": ([(4, 3), (3, 5)], [], torch.matmul),
    "matmul_many": ([(2, 4, 3), (2, 3, 5)], [], torch.matmul),
    "matmul_shared": ([(2, 4, 3), (3, 5)], [], torch.matmul),
    "power": ([(4, 3)], [3], lambda x: x**3),
    "power_half": ([(4, 3)], [0.5], torch.sqrt),
    "exp": ([(4, 3)], [], torch.exp),
    "log": ([(4, 3)], [], torch.log),
    "tanh": ([(4, 3)], [], torch.tanh),
    "relu": ([(40, 7)], [], torch.relu),
    "sum": ([(4, 3)], [], torch.sum),
    "sum_rows": ([(4, 3)], [0], lambda x: x.sum(0)),
    "sum_last": ([(2, 4, 3)], [-1, True], lambda x: x.sum(-1, keepdim=True)),
    "mean": ([(4, 3)], [], torch.mean),
    "mean_rows": ([(4, 3)], [0], lambda x: x.mean(0)),
    "max": ([(4, 3)], [1], lambda x: x.amax(1)),
    "max_kept": ([(4, 3)], [0, True], lambda x: x.amax(0, keepdim=True)),
    "reshape": ([(4, 3)], [2, 6], lambda x: x.reshape(2, 6)),
    "transpose": ([(2, 4, 3)], [2, 0, 1], lambda x: x.permute(2, 0, 1)),
    "log_softmax": ([(4, 3)], [], lambda x: F.log_softmax(x, -1)),
}
POSITIVE = ("log", "power_half", "div", "div_column", "div_number")


def _arrays(shapes, seed, positive=False):
    rng = np.random.default_rng(seed)
    drawn = [rng.normal(size=shape) for shape in shapes]
    return [np.abs(x) + 0.3 for x in drawn] if positive else drawn


def _by_torch(function, arrays):
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]
    value = function(*leaves)
    value.sum().backward()
    return value.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


def _agree(program, steps, arrays, function):
    value, gradients = program.call("differentiate", steps, arrays)
    expected, expected_gradients = _by_torch(function, arrays)
    assert np.shape(value) == expected.shape
    assert np.allclose(value, expected, atol=1e-10)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        assert np.shape(found) == wanted.shape
        assert np.allclose(found, wanted, atol=1e-10)


def _weighted(name, shapes, settings):
    """A recipe that multiplies the result by an input of its own, so that no gradient is all ones."""
    count = len(shapes)
    operands = list(range(count))
    return [(name, operands, settings), ("mul", [count + 1, count], [])]


@pytest.mark.parametrize("case", OPERATIONS)
def test_an_operation_and_its_gradient_are_those_of_torch(program, seed, case):
    shapes, settings, function = OPERATIONS[case]
    arrays = _arrays(shapes, seed, positive=case in POSITIVE)
    result = function(*(torch.tensor(x) for x in arrays))
    arrays.append(np.random.default_rng(seed + 1).normal(size=tuple(result.shape)))
    steps = _weighted(case.split("_")[0] if case != "log_softmax" else case, shapes, settings)
    _agree(program, steps, arrays, lambda *x: function(*x[:-1]) * x[-1])


def test_a_value_used_more_than_once_hears_from_every_user(program, seed):
    (x,) = _arrays([(4, 3)], seed)
    steps = [("mul", [0, 0], []), ("add", [1, 0], []), ("tanh", [2], []), ("mul", [3, 0], [])]
    _agree(program, steps, [x], lambda x: torch.tanh(x * x + x) * x)


def test_a_shared_step_waits_for_all_of_its_users(program, seed):
    arrays = _arrays([(4, 3), (3, 5), (5,)], seed)
    # One user of the shared step lies near the end, another far from it.
    steps = [
        ("matmul", [0, 1], []),
        ("tanh", [3], []),
        ("exp", [4], []),
        ("add", [5, 2], []),
        ("mul", [6, 6], []),
        ("sub", [7, 4], []),
        ("mul", [4, 8], []),
    ]

    def by_torch(a, b, c):
        h = torch.tanh(a @ b)
        e = h.exp() + c
        return h * (e * e - h)

    _agree(program, steps, arrays, by_torch)
    turned = [*steps[:-1], ("mul", [8, 4], [])]
    _agree(program, turned, arrays, by_torch)


def test_doubling_many_times_is_a_power_of_two(program):
    steps = [("add", [number, number], []) for number in range(16)]
    value, (gradient,) = program.call("differentiate", steps, [np.ones(2)])
    assert np.array_equal(value, np.full(2, 2.0**16))
    assert np.array_equal(gradient, np.full(2, 2.0**16))


@pytest.mark.parametrize("length", [1, 300])
def test_a_long_chain_carries_the_gradient_to_its_beginning(program, length):
    steps = [("sub", [number + 1 if number else 0, 1], []) for number in range(length)]
    value, gradients = program.call("differentiate", steps, [np.full(3, 2.0), np.full(1, 0.5)])
    assert np.allclose(value, 2.0 - 0.5 * length)
    assert np.allclose(gradients[0], 1.0)
    assert np.allclose(gradients[1], -3.0 * length)


def test_a_second_walk_adds_the_same_gradient_again(program, seed):
    arrays = _arrays([(4, 3), (3, 5)], seed)
    steps = [("matmul", [0, 1], []), ("tanh", [2], []), ("mul", [3, 3], []), ("sum", [4], [])]
    _, once = program.call("differentiate", steps, arrays)
    _, thrice = program.call("differentiate", steps, arrays, 3)
    for one, three in zip(once, thrice, strict=True):
        assert np.allclose(three, 3 * np.asarray(one), atol=1e-10)


def test_places_taken_twice_get_both_gradients(program, seed):
    arrays = _arrays([(5, 3), (4,)], seed)
    rows, columns = np.array([0, 2, 2, 4]), np.array([1, 0, 0, 2])
    steps = [("take", [0], [rows, columns]), ("mul", [2, 1], [])]
    _agree(program, steps, arrays, lambda x, w: x[[0, 2, 2, 4], [1, 0, 0, 2]] * w)


def test_equal_largest_entries_share_the_gradient(program):
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [5.0, 1.0, 0.0]])
    _agree(program, [("max", [0], [1])], [x], lambda x: x.amax(1))


def test_large_scores_stay_finite(program):
    x = np.array([[1000.0, 0.0, -1000.0], [-900.0, -901.0, -902.0]])
    value, (gradient,) = program.call("differentiate", [("log_softmax", [0], [])], [x])
    assert np.allclose(value, F.log_softmax(torch.tensor(x), -1).numpy())
    assert np.allclose(gradient, _by_torch(lambda x: F.log_softmax(x, -1), [x])[1][0], atol=1e-10)


def test_gradients_agree_with_finite_differences(program, seed):
    arrays = _arrays([(5, 4), (4, 3), (3,)], seed)
    steps = [
        ("matmul", [0, 1], []),
        ("add", [3, 2], []),
        ("tanh", [4], []),
        ("log_softmax", [5], []),
        ("mean", [6], [0]),
        ("mul", [7, 7], []),
        ("sum", [8], []),
    ]
    _, gradients = program.call("differentiate", steps, arrays)
    rng = np.random.default_rng(seed)
    for number in range(3):
        way = rng.normal(size=arrays[number].shape)
        ends = []
        for step in (1e-5, -1e-5):
            moved = [x + step * way if i == number else x for i, x in enumerate(arrays)]
            ends.append(float(program.call("differentiate", steps, moved)[0]))
        slope = (ends[0] - ends[1]) / 2e-5
        assert float((np.asarray(gradients[number]) * way).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-9)


def _trained(program, task, seed, **config):
    data = task.data(seed)
    model = program.build(seed=seed, **config)
    losses = program.train(model, data.train, seed, **config).next(config.get("steps", task.steps))
    return model, losses, data


def test_a_fresh_model_has_no_opinion(program, task, seed):
    _, losses, _ = _trained(program, task, seed, steps=1)
    assert losses[0] == pytest.approx(math.log(2), abs=0.08)


def test_hidden_weights_start_on_the_scale_of_their_inputs(program, seed):
    state = program.state(program.build(seed=seed, hidden=60))
    matrices = [np.asarray(value) for value in state.values() if np.ndim(value) == 2]
    (square,) = [value for value in matrices if value.shape == (60, 60)]
    assert square.std() == pytest.approx(1 / math.sqrt(60), rel=0.1)
    assert abs(square.mean()) < 0.02
    (first,) = [value for value in matrices if value.shape == (2, 60)]
    assert first.std() == pytest.approx(1 / math.sqrt(2), rel=0.25)


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_trained(program, task, seed, **task.small)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_another_seed_gives_other_batches(program, task, seed):
    data = task.data(seed).train
    curves = []
    for offset in range(2):
        model = program.build(seed=seed, **task.small)
        curves.append(program.train(model, data, seed + offset, **task.small).next(9))
    assert curves[0] != curves[1]


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed, **task.small))
    after = program.state(_trained(program, task, seed, **task.small)[0])
    for name, value in before.items():
        assert (np.asarray(after[name]) != np.asarray(value)).all(), name


def test_training_leaves_the_data_as_it_was(program, task, seed):
    _, _, data = _trained(program, task, seed, **task.small)
    again = task.data(seed)
    assert all(np.array_equal(data.train[name], again.train[name]) for name in again.train)


def test_predictions_are_log_probabilities(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    answers = np.asarray(program.predict(model, data.held_out["points"]))
    assert answers.shape == (len(data.held_out["labels"]), 2)
    assert np.allclose(np.exp(answers).sum(axis=1), 1.0)


def test_predictions_are_those_of_the_same_layers_in_torch(program, task, seed):
    config = {**task.small, "lr": 0.0, "steps": 1}
    model, _, data = _trained(program, task, seed, **config)
    seen = data.train["points"]
    points = torch.tensor((data.held_out["points"] - seen.mean(axis=0)) / seen.std(axis=0))
    state = [torch.tensor(np.asarray(value)) for value in program.state(model).values()]
    first, second, last = (
        next(w for w in state if tuple(w.shape) == shape) for shape in ((2, 7), (7, 7), (7, 2))
    )
    expected = F.log_softmax(torch.tanh(torch.tanh(points @ first) @ second) @ last, -1)
    answers = program.predict(model, data.held_out["points"])
    assert np.allclose(answers, expected.numpy(), atol=1e-9)


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    before = program.state(model)
    points = data.held_out["points"]
    assert np.array_equal(program.predict(model, points), program.predict(model, points))
    for name, value in program.state(model).items():
        assert np.array_equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    points = data.held_out["points"][:50]
    together = np.asarray(program.predict(model, points))
    assert np.allclose(program.predict(model, points[20:27]), together[20:27], atol=1e-12)


def test_units_of_the_features_do_not_matter(program, task, seed):
    data = task.data(seed)
    answers = []
    for scale, shift in ((np.ones(2), 0.0), (np.array([50.0, 0.02]), 7.0)):
        model = program.build(seed=seed, **task.small)
        train = {**data.train, "points": data.train["points"] * scale + shift}
        program.train(model, train, seed, **task.small).next(9)
        answers.append(np.asarray(program.predict(model, data.held_out["points"] * scale + shift)))
    assert np.allclose(answers[0], answers[1], atol=1e-6)


def test_one_pass_shows_every_row_once(program, task, seed):
    rows = 23
    points = np.zeros((rows, rows))
    points[np.arange(rows), np.arange(rows)] = 1.0
    config = {**task.small, "features": rows, "batch": 5, "lr": 0.0, "steps": 10}
    model = program.build(seed=seed, **config)
    alone = []
    for label in (0, 1):
        # With no step taken, the sum of the losses of a pass is that of all rows, whatever their order.
        data = {"points": points, "labels": np.full(rows, label)}
        losses = np.array(program.train(model, data, seed, **config).next(10)).reshape(2, 5)
        answers = np.asarray(program.predict(model, points))[:, label]
        sizes = np.array([5, 5, 5, 5, 3])
        alone.append((losses @ sizes, -answers.sum()))
        assert not np.allclose(losses[0], losses[1])
    for found, expected in alone:
        assert np.allclose(found, expected)


def _steps_of(program, task, seed, count, **config):
    """The states before the first update and after each, on the whole data at once."""
    data = task.data(seed).train
    config = {**task.small, "batch": len(data["labels"]), "last_lr": 1.0, **config}
    model = program.build(seed=seed, **config)
    run = program.train(model, data, seed, **config)
    states = [program.state(model)]
    for _ in range(count):
        run.next()
        states.append(program.state(model))
    names = [name for name in states[0] if name not in ("mean", "scale")]
    return [{name: np.asarray(state[name]) for name in names} for state in states], data


def test_a_step_follows_the_gradient_of_what_is_reported(program, task, seed):
    config = {**task.small, "batch": 1000, "last_lr": 1.0, "weight_decay": 0.0, "lr": 1e-3}
    data = task.data(seed).train
    model = program.build(seed=seed, **config)
    before = program.state(model)
    run = program.train(model, data, seed, **config)
    losses = run.next()
    after = program.state(model)
    losses += run.next()
    moved = sum(((np.asarray(after[n]) - before[n]) ** 2).sum() for n in before if n not in ("mean", "scale"))
    # Downhill by the squared length of the gradient times the rate.
    assert losses[0] - losses[1] == pytest.approx(moved / 1e-3, rel=0.02)


def test_momentum_keeps_a_share_of_the_step_before(program, task, seed):
    tiny = {"lr": 1e-6, "weight_decay": 0.0, "momentum": 0.8}
    states, _ = _steps_of(program, task, seed, 3, **tiny)
    for name in states[0]:
        first, second, third = (after[name] - before[name] for before, after in itertools.pairwise(states))
        assert np.allclose(second, 1.8 * first, rtol=1e-3, atol=1e-12), name
        assert np.allclose(third, 2.44 * first, rtol=1e-3, atol=1e-12), name


def test_decay_pulls_at_matrices_and_leaves_biases_alone(program, task, seed):
    base = {"lr": 1e-3, "momentum": 0.0}
    free, _ = _steps_of(program, task, seed, 1, weight_decay=0.0, **base)
    held, _ = _steps_of(program, task, seed, 1, weight_decay=0.5, **base)
    for name, start in free[0].items():
        pull = held[1][name] - free[1][name]
        expected = -1e-3 * 0.5 * start if start.ndim == 2 else np.zeros_like(start)
        assert np.allclose(pull, expected, atol=1e-10), name


def test_the_rate_falls_on_a_line(program, task, seed):
    falls = {"lr": 1e-6, "weight_decay": 0.0, "momentum": 0.0, "last_lr": 0.2, "steps": 8}
    states, _ = _steps_of(program, task, seed, 8, **falls)
    for name in states[0]:
        moves = [after[name] - before[name] for before, after in itertools.pairwise(states)]
        for number, move in enumerate(moves):
            assert np.allclose(move, (1 - 0.1 * number) * moves[0], rtol=1e-3, atol=1e-12), name


def test_it_overfits_one_small_batch(program, task, seed):
    data = task.data(seed).train
    few = {name: value[:20] for name, value in data.items()}
    config = {"steps": 300, "last_lr": 1.0, "weight_decay": 0.0}
    model = program.build(seed=seed, **config)
    assert program.train(model, few, seed, **config).next(300)[-1] < 0.03


def test_it_tells_the_moons_apart(program, task, seed):
    model, _, data = _trained(program, task, seed)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
