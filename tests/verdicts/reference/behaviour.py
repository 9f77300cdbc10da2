"""Behaviour of a program that fits a line."""

import torch


def test_one_step_moves_the_weights_by_the_mean_gradient(program, task, seed):
    """Without dropout and on one repeated row the first step is known in closed form."""
    row, target, lr = torch.tensor([[1.0, 2.0, -1.0, 0.5]]), torch.tensor([3.0]), 0.05
    model = program.build(seed, drop=0.0, batch=1, lr=lr)
    before = float(program.predict(model, row))
    program.train(model, (row, target), seed, drop=0.0, batch=1, lr=lr).next(1)
    expected = before - 2 * lr * (before - 3.0) * (float((row**2).sum()) + 1)
    got = float(program.predict(model, row))
    assert abs(got - expected) < 1e-4, f"expected {expected:.4f}, got {got:.4f}"


def test_a_second_step_forgets_the_first_gradient(program, task, seed):
    row, target, lr = torch.tensor([[1.0, 2.0, -1.0, 0.5]]), torch.tensor([3.0]), 0.02
    model = program.build(seed, drop=0.0, batch=1, lr=lr)
    before = float(program.predict(model, row)) - 3.0
    program.train(model, (row, target), seed, drop=0.0, batch=1, lr=lr).next(2)
    factor = 1 - 2 * lr * (float((row**2).sum()) + 1)
    expected, got = before * factor**2, float(program.predict(model, row)) - 3.0
    assert abs(got - expected) < 1e-4, f"expected an error of {expected:.4f}, got {got:.4f}"


def test_predictions_are_repeatable(program, task, seed):
    model = program.build(seed)
    rows = task.data(seed).held_out[0]
    program.seed(1)
    first = program.predict(model, rows)
    program.seed(2)
    second = program.predict(model, rows)
    assert torch.equal(first, second), "expected equal answers, got different ones"


def test_a_row_is_answered_alone_as_in_company(program, task, seed):
    model = program.build(seed)
    rows = task.data(seed).held_out[0]
    together, alone = program.predict(model, rows)[:3], program.predict(model, rows[:3])
    far = float((together - alone).abs().max())
    assert far < 1e-5, f"expected equal answers, got a difference of {far:.2g}"
