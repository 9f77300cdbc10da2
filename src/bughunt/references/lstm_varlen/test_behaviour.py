"""What any correct lstm-varlen does, whatever its parts are called."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bughunt.references.data import brackets
from bughunt.references.slope import norm, slope
from bughunt.task import Model, Program, Task

STILL = {"dropout": 0.0}
Strings = tuple[Tensor, Tensor, Tensor]
Tensors = dict[str, Tensor]
CHANNELS, HIDDEN = 7, 11  # of the cell that is compared with PyTorch's


def logits(program: Program, model: Model, given: Strings) -> Tensor:
    tokens, lengths, _ = given
    return torch.as_tensor(program.predict(model, (tokens, lengths)))


def cross_entropy(program: Program, model: Model, given: Strings) -> float:
    return float(F.cross_entropy(logits(program, model, given), given[2]))


def gradients_of_first_batch(program: Program, seed: int, given: Strings, **config: int) -> Tensors:
    """Of a model that stays where it started."""
    model = program.build(seed=seed, **STILL, **config)
    program.watch_gradients(model, True)
    program.train(model, given, seed, **STILL, lr=0.0, **config).next()
    return program.gradients(model)


def epoch_of_rows(program: Program, seed: int, lengths: Tensor, batch: int, epochs: int) -> list[list[int]]:
    """The rows of each batch: every string repeats a symbol of its own, whose embedding tells."""
    n = len(lengths)
    time = torch.arange(int(lengths.max()))
    tokens = torch.where(time < lengths[:, None], 1 + torch.arange(n)[:, None], 0)
    given = (tokens, lengths, torch.arange(n) % 5)
    sizes = {"vocab": n + 1, "hidden": 8, "batch": batch, **STILL}
    model = program.build(seed=seed, **sizes)
    state = program.state(model)
    table = next(name for name in program.parameters(model) if len(state[name]) == n + 1)
    program.watch_gradients(model, True)
    updates = epochs * math.ceil(n / batch)
    run = program.train(model, given, seed, **sizes, lr=0.0, steps=updates)
    seen = []
    while run.next():
        touched = program.gradients(model)[table][1:].abs().sum(dim=1)
        seen.append(touched.nonzero().flatten().tolist())
    return seen


def climbs_or_falls(lengths: Tensor, epoch: list[list[int]]) -> bool:
    """Whether the batches of an epoch go by length."""
    means = [float(lengths[rows].float().mean()) for rows in epoch]
    return means in (sorted(means), sorted(means, reverse=True))


def reference_cell(state: Tensors, order: tuple[int, ...]) -> nn.LSTM:
    """PyTorch's LSTM with the cell's weights, its gates taken in that order."""
    cell = nn.LSTM(CHANNELS, HIDDEN, batch_first=True)
    wide = {w.size(1): w for w in state.values() if w.dim() == 2}
    bias = torch.stack([b for b in state.values() if b.dim() == 1]).sum(dim=0)
    with torch.no_grad():
        for ours, theirs in (
            (wide[CHANNELS], cell.weight_ih_l0),
            (wide[HIDDEN], cell.weight_hh_l0),
            (bias, cell.bias_ih_l0),
        ):
            gates = ours.chunk(4)
            theirs.copy_(torch.cat([gates[place] for place in order]))
        cell.bias_hh_l0.zero_()
    return cell


def agreeing_order(program: Program, seed: int) -> tuple[tuple[int, ...] | None, Tensors]:
    """The places of PyTorch's i, f, g, o gates in the program's cell, if it is an LSTM at all."""
    program.seed(seed)
    cell = program.call("LSTM", CHANNELS, HIDDEN, keep=True)
    draws = torch.Generator().manual_seed(seed)
    fresh = program.state(cell)
    noisy = {n: w + 0.4 * torch.randn(w.shape, generator=draws) for n, w in fresh.items()}
    program.load_state(cell, noisy)
    x = torch.randn(5, 9, CHANNELS, generator=draws)
    lengths = torch.tensor([9, 1, 4, 8, 4])
    ours = torch.as_tensor(program.call_method(cell, "__call__", x, lengths))
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    for order in itertools.permutations(range(4)):
        with torch.no_grad():
            _, (last, _) = reference_cell(noisy, order)(packed)
        if ours.shape == last[0].shape and torch.allclose(ours, last[0], rtol=1e-4, atol=1e-5):
            return order, fresh
    return None, fresh


def test_a_fresh_model_knows_nothing_yet(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    answer = logits(program, model, brackets.strings(100, seed))
    uniform = torch.full((100, brackets.CLASSES), 1 / brackets.CLASSES)
    assert abs(float(F.cross_entropy(answer, uniform)) - math.log(brackets.CLASSES)) <= 0.15


def test_it_overfits_one_small_batch(program: Program, seed: int) -> None:
    given = brackets.strings(10, seed)
    model = program.build(seed=seed, **STILL)
    program.train(model, given, seed, **STILL, lr=2e-2, steps=40).next(40)
    assert cross_entropy(program, model, given) <= 0.3


def test_it_learns_more_than_frequencies(program: Program, task: Task, seed: int) -> None:
    given = task.data(seed)
    sizes = {**task.small, "steps": 40}
    model = program.build(seed=seed, **sizes)
    program.train(model, given.train, seed, **sizes).next(40)
    shares = given.train[2].bincount() / len(given.train[2])
    frequencies = float(torch.special.entr(shares).sum())
    assert task.measure(program, model, given.held_out).curve <= 0.95 * frequencies


def test_every_parameter_moves(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    before = program.state(model)
    given = brackets.strings(130, seed)
    program.train(model, given, seed, steps=3).next(3)
    after = program.state(model)
    pads = len(brackets.SYMBOLS)
    for name in program.parameters(model):
        moved = (after[name] != before[name]).flatten(1 if after[name].dim() > 1 else 0)
        used = moved[1:] if len(moved) == pads else moved  # padding need not be learnt
        assert bool(used.any(dim=-1).all()), f"part of {name} stays where it is"


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    tokens, lengths, _ = brackets.strings(7, seed)
    together = program.predict(model, (tokens, lengths))
    rows = zip(tokens, lengths, strict=True)
    alone = [program.predict(model, (row[None, :length], length[None])) for row, length in rows]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model = program.build(seed=seed, dropout=0.3)
    given = brackets.strings(7, seed)
    program.train_mode(model, True)
    before = program.state(model)
    first = logits(program, model, given)
    program.seed(seed + 1)
    assert torch.equal(first, logits(program, model, given))
    after = program.state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_training_goes_on_with_dropout_after_a_look(program: Program, seed: int) -> None:
    given = brackets.strings(40, seed)
    losses = []
    for look in (False, True):
        model = program.build(seed=seed, dropout=0.3)
        run = program.train(model, given, seed, dropout=0.3, lr=0.0, steps=4)
        run.next(2)
        if look:
            logits(program, model, given)
        program.seed(seed)
        losses.append(run.next(2))
    assert losses[0] == losses[1]


def test_dropout_makes_the_same_batch_differ(program: Program, seed: int) -> None:
    model = program.build(seed=seed, dropout=0.3)
    given = brackets.strings(40, seed)
    losses = program.train(model, given, seed, dropout=0.3, lr=0.0).next(3)
    assert max(losses) - min(losses) > 1e-4


def test_dropout_takes_a_small_share(program: Program, seed: int) -> None:
    # one hidden channel, always open: where it is dropped, all classes are alike
    config = {"hidden": 1, "batch": 1000, "lr": 0.0}
    model = program.build(seed=seed, **config)
    state = program.state(model)
    opened = {n: torch.full_like(w, 30.0 if len(w) == w.numel() == 4 else 0.0) for n, w in state.items()}
    (head,) = [name for name, w in state.items() if w.shape == (5, 1)]
    opened[head][0] = 50.0
    program.load_state(model, opened)
    tokens, lengths, labels = brackets.strings(900, seed)
    losses = program.train(model, (tokens, lengths, 0 * labels), seed, **config).next(2)
    assert sum(losses) / 2 / math.log(5) == pytest.approx(0.1, abs=0.05)


def test_the_same_seed_gives_the_same_curve(program: Program, seed: int) -> None:
    curves = []
    for _ in range(2):
        model = program.build(seed=seed)
        program.seed(seed)
        run = program.train(model, brackets.strings(150, seed), seed, steps=5)
        curves.append(run.next(5))
    assert curves[0] == curves[1]


def test_a_run_has_as_many_updates_as_it_is_told(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    run = program.train(model, brackets.strings(150, seed), seed, steps=7)
    assert len(run.next(12)) == 7


def test_batches_pair_each_string_with_its_label(program: Program, seed: int) -> None:
    # all strings in one batch, whose loss does not depend on their order
    given = brackets.strings(60, seed)
    model = program.build(seed=seed, **STILL)
    program.train(model, given, seed, **STILL, steps=15).next(15)
    expected = cross_entropy(program, model, given)
    reported = program.train(model, given, seed, **STILL, lr=0.0).next()[0]
    assert reported == pytest.approx(expected, rel=1e-4)


def test_every_epoch_goes_once_through_every_string(program: Program, seed: int) -> None:
    lengths = torch.randint(3, 12, (37,), generator=torch.Generator().manual_seed(seed))
    seen = epoch_of_rows(program, seed, lengths, batch=8, epochs=2)
    for epoch in (seen[:5], seen[5:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(37))
        assert max(map(len, epoch)) <= 8


def test_epochs_differ_in_their_batches(program: Program, seed: int) -> None:
    lengths = torch.randint(3, 12, (37,), generator=torch.Generator().manual_seed(seed))
    seen = epoch_of_rows(program, seed, lengths, batch=8, epochs=2)
    assert sorted(seen[:5]) != sorted(seen[5:])
    assert not (climbs_or_falls(lengths, seen[:5]) and climbs_or_falls(lengths, seen[5:]))


def test_a_batch_holds_strings_of_similar_length(program: Program, seed: int) -> None:
    lengths = torch.randint(1, 31, (96,), generator=torch.Generator().manual_seed(seed))
    seen = epoch_of_rows(program, seed, lengths, batch=8, epochs=1)
    padding = sum(int((lengths[rows].max() - lengths[rows]).sum()) for rows in seen)
    assert padding <= 0.25 * int(lengths.sum())


def test_the_gradient_is_the_slope_of_the_loss(program: Program, seed: int) -> None:
    given = brackets.strings(30, seed)
    gradient = gradients_of_first_batch(program, seed, given)
    model = program.build(seed=seed, **STILL)
    start = program.state(model)

    def loss_at(state):
        program.load_state(model, state)
        return cross_entropy(program, model, given)

    assert slope(loss_at, start, gradient) == pytest.approx(norm(gradient), rel=0.02)


def test_the_gradient_belongs_to_this_batch_only(program: Program, seed: int) -> None:
    given = brackets.strings(30, seed)
    model = program.build(seed=seed, **STILL)
    program.watch_gradients(model, True)
    run = program.train(model, given, seed, **STILL, lr=0.0)
    run.next()
    first = program.gradients(model)
    run.next()
    second = program.gradients(model)
    for name, expected in first.items():
        torch.testing.assert_close(second[name], expected, rtol=1e-3, atol=1e-6)


def test_gradients_are_clipped_by_their_common_norm(program: Program, seed: int) -> None:
    # so tight a limit that Adam's epsilon shows how large the clipped gradient was
    limit, rate, epsilon = 1e-6, 1e-3, 1e-8
    model = program.build(seed=seed, **STILL)
    before = program.state(model)
    program.watch_gradients(model, True)
    overrides = {**STILL, "lr": rate, "max_grad_norm": limit}
    program.train(model, brackets.strings(30, seed), seed, **overrides).next()
    after, gradient = program.state(model), program.gradients(model)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))
    clip = min(1.0, limit / norm)
    for name, g in gradient.items():
        expected = -rate * clip * g / (clip * g.abs() + epsilon)
        torch.testing.assert_close(after[name] - before[name], expected, rtol=0.05, atol=1e-6)


def test_updates_follow_the_gradients(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    program.watch_gradients(model, True)
    run, start = program.train(model, brackets.strings(150, seed), seed), program.state(model)
    leaves = {name: nn.Parameter(start[name]) for name in program.parameters(model)}
    oracle = torch.optim.Adam(leaves.values(), lr=5e-3)
    for _ in range(3):
        run.next()
        gradients, after = program.gradients(model), program.state(model)
        for name, leaf in leaves.items():
            leaf.grad = gradients[name]
        nn.utils.clip_grad_norm_(leaves.values(), 1.0)
        oracle.step()
        for name, leaf in leaves.items():
            torch.testing.assert_close(after[name], leaf.detach(), rtol=1e-3, atol=1e-4)


def test_what_stands_in_the_padding_makes_no_difference(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    tokens, lengths, _ = brackets.strings(9, seed)
    padding = torch.arange(brackets.LONGEST) >= lengths[:, None]
    junk = torch.where(padding, 1 + tokens.flip(0) % 5, tokens)
    wider = F.pad(tokens, (0, 6))
    clean = program.predict(model, (tokens, lengths))
    for other in (junk, wider):
        answer = program.predict(model, (other, lengths))
        torch.testing.assert_close(answer, clean, rtol=1e-4, atol=1e-5)


def test_training_pays_no_attention_to_the_padding(program: Program, seed: int) -> None:
    tokens, lengths, labels = brackets.strings(30, seed)
    padding = torch.arange(brackets.LONGEST) >= lengths[:, None]
    junk = torch.where(padding, 1 + tokens.flip(0) % 5, tokens)
    clean = gradients_of_first_batch(program, seed, (tokens, lengths, labels))
    noisy = gradients_of_first_batch(program, seed, (junk, lengths, labels))
    for name, expected in clean.items():
        torch.testing.assert_close(noisy[name], expected, rtol=1e-3, atol=1e-6)


def test_every_symbol_up_to_the_last_counts(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    tokens, lengths, _ = brackets.strings(6, seed)
    clean = program.predict(model, (tokens, lengths))
    for back in (1, 2, 3):
        other = tokens.clone()
        rows = torch.arange(6)
        other[rows, lengths - back] = 1 + other[rows, lengths - back] % 5
        answer = program.predict(model, (other, lengths))
        assert float((answer - clean).abs().amax(dim=1).min()) > 1e-4


def test_the_cell_agrees_with_the_one_in_pytorch(program: Program, seed: int) -> None:
    order, _ = agreeing_order(program, seed)
    assert order is not None, "no assignment of the four gates gives what nn.LSTM gives"


def test_answers_may_be_shifted_either_way(program: Program, seed: int) -> None:
    model, shifts = program.build(seed=seed), torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    state = program.state(model)
    program.load_state(model, {n: shifts if w.shape == (5,) else 0 * w for n, w in state.items()})
    answers = logits(program, model, brackets.strings(7, seed))
    torch.testing.assert_close(answers, shifts.expand(7, 5))


def test_the_forget_gate_starts_open(program: Program, seed: int) -> None:
    order, fresh = agreeing_order(program, seed)
    assert order is not None
    gates = torch.stack([b for b in fresh.values() if b.dim() == 1]).sum(dim=0).chunk(4)
    means = [float(gates[place].mean()) for place in order]  # i, f, g, o
    assert means == pytest.approx([0.0, 1.0, 0.0, 0.0], abs=0.3)


def test_recurrent_weights_start_orthogonal(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    H = program.config()["hidden"]
    state = program.state(model)
    recurrent = [w for w in state.values() if w.shape == (4 * H, H)]
    assert len(recurrent) == 1
    gram = recurrent[0].T @ recurrent[0]
    size = float(gram.diagonal().mean())
    assert 0.5 <= size <= 4.5  # one orthogonal matrix over the gates, or one a gate
    torch.testing.assert_close(gram / size, torch.eye(H), rtol=0, atol=1e-3)
