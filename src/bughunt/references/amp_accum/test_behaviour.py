"""What a right `amp-accum` does, however it is written."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.amp_accum.task import hide_some
from bughunt.references.data.glyphs import glyphs
from bughunt.task import Model, Program, Task, Value

ROWS = 90
SMALL = {"steps": 8, "batch": 23, "piece": 9}
WHOLE = {**SMALL, "batch": 1000, "piece": 1000, "warmup": 0, "last_lr": 1.0}  # every update sees every row
EXACT = {**WHOLE, "precision": "float32", "lr": 0.0}


def rows(seed: int, count: int = ROWS) -> dict[str, Tensor]:
    return hide_some(glyphs(count, seed), seed)


def trained(program: Program, seed: int, **config: Value) -> tuple[Model, dict[str, Tensor]]:
    config = {**SMALL, **config}
    model, data = program.build(seed=seed, **config), rows(seed)
    program.train(model, data, seed, **config).next(config["steps"])
    return model, data


def known_loss(program: Program, model: Model, data: dict[str, Tensor]) -> Tensor:
    """The mean over the labels that are known, of what the model predicts in full precision."""
    known = data["labels"] >= 0
    return F.nll_loss(program.predict(model, data["images"])[known], data["labels"][known])


def first_gradients(program: Program, seed: int, **config: Value) -> dict[str, Tensor]:
    """As accumulated over the first batch, at their own size."""
    config = {**EXACT, "first_scale": 1024.0, **config}
    model = program.build(seed=seed, **config)
    program.load_state(model, {n: 1.5 * v for n, v in program.state(model).items() if v.dim() == 2})
    program.watch_gradients(model, True)
    program.train(model, rows(seed), seed, **config).next()
    return {name: value / config["first_scale"] for name, value in program.gradients(model).items()}


@pytest.mark.parametrize("piece", [7, 40, 89, 90])
def test_pieces_add_up_to_the_whole(program: Program, seed: int, piece: int) -> None:
    whole, found = first_gradients(program, seed), first_gradients(program, seed, piece=piece)
    for name, gradient in whole.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-3)


def test_the_scale_does_not_change_what_is_learned(program: Program, seed: int) -> None:
    states = []
    for first_scale in (1.0, 1000.0):
        config = {"precision": "float32", "first_scale": first_scale, "max_norm": 0.1}
        states.append(program.state(trained(program, seed, **config)[0]))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=1e-4, rtol=1e-3)


def test_the_reported_loss_is_the_mean_over_known_labels(program: Program, seed: int) -> None:
    data = rows(seed)
    for piece in (1000, 31):
        config = {**EXACT, "piece": piece}
        model = program.build(seed=seed, **config)
        program.load_state(model, {n: 1.5 * v for n, v in program.state(model).items() if v.dim() == 2})
        expected = known_loss(program, model, data).item()
        reported = program.train(model, data, seed, **config).next(2)
        assert reported == pytest.approx([expected] * 2, rel=1e-4)


def matrices(state: dict[str, Tensor]) -> list[Tensor]:
    """From the pixels to the classes."""
    shapes = ((64, 144), (64, 64), (10, 64))
    return [next(value for value in state.values() if value.shape == shape) for shape in shapes]


def test_gradients_are_those_of_the_mean_over_known_labels(program: Program, seed: int) -> None:
    data, model = rows(seed), program.build(seed=seed, **EXACT)
    state = program.state(model)
    program.load_state(model, {n: v.round() for n, v in state.items() if v.dim() == 1})
    *inner, head = (value.clone().requires_grad_() for value in matrices(state))
    x = (data["images"].flatten(1).float() / 255 - 0.4) / 0.2
    for weight in inner:
        x = F.gelu(F.layer_norm(F.linear(x, weight), (64,)))
    F.cross_entropy(F.linear(x, head), data["labels"], ignore_index=-1).backward()
    program.watch_gradients(model, True)
    program.train(model, data, seed, **EXACT, first_scale=512.0).next()
    for weight in (*inner, head):
        (scaled,) = [g for g in program.gradients(model).values() if g.shape == weight.shape]
        assert (scaled / 512 - weight.grad).norm() <= 1e-3 * weight.grad.norm()


def test_unknown_labels_teach_nothing(program: Program, seed: int) -> None:
    data = rows(seed)
    known = data["labels"] >= 0
    fewer = {name: value[known] for name, value in data.items()}
    found = []
    for part in (data, fewer):
        model = program.build(seed=seed, **EXACT)
        program.watch_gradients(model, True)
        program.train(model, part, seed, **EXACT).next()
        found.append(program.gradients(model))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-3, rtol=1e-3)


def test_a_batch_without_known_labels_does_no_harm(program: Program, seed: int) -> None:
    data = rows(seed)
    data["labels"] = torch.full_like(data["labels"], -1)
    model = program.build(seed=seed, **SMALL)
    assert program.train(model, data, seed, **SMALL).next(3) == [0.0, 0.0, 0.0]
    assert all(value.isfinite().all() for value in program.state(model).values())


def test_half_precision_is_near_full_precision_but_not_the_same(program: Program, seed: int) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        config = {**EXACT, "precision": precision}
        model = program.build(seed=seed, **config)
        program.load_state(model, {n: 3 * v for n, v in program.state(model).items() if v.dim() == 2})
        losses += program.train(model, rows(seed), seed, **config).next()
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_weights_and_gradients_stay_in_full_precision(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    program.watch_gradients(model, True)
    program.train(model, rows(seed), seed, **SMALL).next(2)
    assert {value.dtype for value in program.state(model).values()} == {torch.float32}
    assert {value.dtype for value in program.gradients(model).values()} == {torch.float32}


def test_predictions_are_in_full_precision(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    state = {name: value.double() for name, value in program.state(model).items()}
    x = (data["images"].flatten(1).double() / 255 - 0.4) / 0.2
    found = program.predict(model, data["images"])
    assert found.dtype == torch.float32
    fresh = program.state(program.build(seed=seed))
    (last,) = (state[name] for name, value in fresh.items() if value.shape == (10,))
    kinds: dict[str, list[Tensor]] = {"bias": [], "scale": [], "shift": []}
    for name, value in fresh.items():
        if value.shape == (64,):  # which block it belongs to, its name need not say
            kinds["scale" if value.eq(1).all() else "bias" if value.any() else "shift"].append(state[name])
    orders = itertools.product(*(itertools.permutations(kind) for kind in kinds.values()))
    expected = [in_double(x, matrices(state), last, *order) for order in orders]
    assert any(torch.allclose(found.double(), one, atol=1e-4, rtol=1e-4) for one in expected)


def in_double(x: Tensor, weights: list[Tensor], last: Tensor, *vectors: tuple[Tensor, ...]) -> Tensor:
    """Log-probabilities; `vectors` are the biases of the blocks, their scales and their shifts."""
    *inner, head = weights
    for weight, bias, scale, shift in zip(inner, *vectors, strict=True):
        x = F.gelu(F.layer_norm(F.linear(x, weight, bias), (64,), scale, shift))
    return F.linear(x, head, last).log_softmax(dim=1)


def oracle_steps(program: Program, seed: int, max_norm: float) -> None:
    config = {**WHOLE, "precision": "float32", "lr": 0.01, "weight_decay": 0.3, "max_norm": max_norm}
    config["growth_interval"] = 2
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, rows(seed), seed, **config)
    names, start = program.parameters(model), program.state(model)
    leaves = {name: torch.nn.Parameter(start[name]) for name in names}
    groups = [
        {"params": [p for p in leaves.values() if p.dim() == 2], "weight_decay": 0.3},
        {"params": [p for p in leaves.values() if p.dim() == 1], "weight_decay": 0.0},
    ]
    oracle = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98))
    for step in range(5):
        run.next()
        gradients, after = program.gradients(model), program.state(model)
        for name, leaf in leaves.items():
            leaf.grad = gradients[name] / (4096.0 * 2 ** (step // 2))
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), max_norm)
        oracle.step()
        for name, leaf in leaves.items():
            torch.testing.assert_close(after[name], leaf.detach(), atol=2e-5, rtol=1e-3)


def test_updates_follow_the_gradients(program: Program, seed: int) -> None:
    oracle_steps(program, seed, 1e6)


def test_long_gradients_are_shortened_at_their_own_size(program: Program, seed: int) -> None:
    oracle_steps(program, seed, 1e-6)  # so short that Adam's epsilon tells the length
    oracle_steps(program, seed, 0.05)


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **EXACT)
    program.watch_gradients(model, True)
    run = program.train(model, rows(seed), seed, **EXACT)
    run.next()
    first = program.gradients(model)
    run.next(2)
    third = program.gradients(model)
    assert set(first) == set(program.parameters(model))
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, third[name], atol=1e-2, rtol=1e-3)


def test_a_step_that_overflows_is_left_out(program: Program, seed: int) -> None:
    config = {**SMALL, "steps": 14, "first_scale": 1e39}
    model = program.build(seed=seed, **config)
    start = program.state(model)
    run = program.train(model, rows(seed), seed, **config)
    run.next()
    assert all(torch.equal(value, start[name]) for name, value in program.state(model).items())
    run.next(13)
    end = program.state(model)
    assert all(value.isfinite().all() for value in end.values())
    assert all((value != start[name]).any() for name, value in end.items())


def scaler_and_weight(program: Program, **settings: Value) -> tuple[Model, Model, Model]:
    scaler = program.call("Scaler", *settings.values(), keep=True)
    weight = program.call("torch.ones", 3, keep=True)
    program.call_method(weight, "requires_grad_", keep=True)
    optimizer = program.call("torch.optim.SGD", [weight], 0.1, keep=True)
    return scaler, weight, optimizer


def one_step(program: Program, parts: tuple[Model, Model, Model], slope: Tensor) -> tuple[Tensor, float]:
    """The weight after a step down a loss of this slope, and the scale after it."""
    scaler, weight, optimizer = parts
    program.call_method(optimizer, "zero_grad", keep=True)
    loss = program.call("torch.dot", weight, slope, keep=True)
    program.call_method(program.call_method(scaler, "scale", loss, keep=True), "backward", keep=True)
    program.call_method(scaler, "unscale", [weight], keep=True)
    program.call_method(scaler, "step", optimizer, keep=True)
    program.call_method(scaler, "update", keep=True)
    return program.call_method(weight, "detach"), program.call_method(scaler, "current")


def test_the_scale_follows_that_of_torch(program: Program) -> None:
    parts = scaler_and_weight(program, first=8.0, interval=3, growth=4.0, backoff=0.25)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], 0.1)
    oracle = torch.amp.GradScaler(
        "cpu", init_scale=8.0, growth_interval=3, growth_factor=4.0, backoff_factor=0.25
    )
    good, bad = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1.0, math.inf, 0.5])
    ugly = torch.tensor([math.nan, 0.0, 1.0])
    for slope in (good, good, bad, good, good, good, good, good, ugly, bad, good, good, good, good):
        optimizer.zero_grad()
        oracle.scale(weight @ slope).backward()
        oracle.step(optimizer)
        oracle.update()
        found, scale = one_step(program, parts, slope)
        torch.testing.assert_close(found, weight.detach())
        assert scale == oracle.get_scale()


def test_parameters_without_a_gradient_are_passed_over(program: Program) -> None:
    scaler = program.call("Scaler", 8.0, 3, keep=True)
    lonely = program.call("torch.ones", 2, keep=True)
    program.call_method(lonely, "requires_grad_", keep=True)
    program.call_method(scaler, "unscale", [lonely], keep=True)
    program.call_method(scaler, "update", keep=True)
    assert program.call_method(scaler, "current") == 8.0


def test_the_rate_climbs_and_falls(program: Program) -> None:
    cfg = program.call("Config", keep=True, steps=110, warmup=10, lr=0.5, last_lr=0.2)
    rates = [program.call("learning_rate", step, cfg) for step in range(111)]
    assert rates[:10] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert rates[10] == pytest.approx(0.5)
    assert rates[60] == pytest.approx(0.3)
    assert rates[110] == pytest.approx(0.1)
    assert rates[35] == pytest.approx(0.1 + 0.4 * (1 + math.sqrt(0.5)) / 2)


def test_the_head_starts_small_and_unlike(program: Program, seed: int) -> None:
    state = program.state(program.build(seed=seed))
    (head,) = [value for value in state.values() if value.shape == (10, 64)]
    assert 0 < head.std() < 0.1
    assert head.unique().numel() > 0.9 * head.numel()


def test_a_fresh_model_has_no_opinion(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    first = program.train(model, rows(seed), seed).next()[0]
    assert first == pytest.approx(math.log(10), abs=0.15)


def test_every_parameter_moves(program: Program, seed: int) -> None:
    before = program.state(program.build(seed=seed, **SMALL))
    model, _ = trained(program, seed)
    assert all((value != before[name]).any() for name, value in program.state(model).items())


def test_the_same_seed_gives_the_same_curve(program: Program, seed: int) -> None:
    curves = []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, rows(seed), rng, **SMALL).next(100))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == 8


def test_one_pass_shows_every_row_once(program: Program, seed: int) -> None:
    labels = torch.arange(23)
    images = labels.float().reshape(-1, 1, 1).expand(-1, 12, 12).clone()
    cfg = program.call("Config", keep=True, batch=5)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    iterator = program.call("batches", images, labels, cfg, rng, keep=True)
    passes = []
    for _ in range(2):
        found = [program.call_method(iterator, "__next__") for _ in range(5)]
        assert all(torch.equal(x.mean(dim=(1, 2)), y.float()) for x, y in found)
        passes.append(torch.cat([y for _, y in found]))
        assert torch.equal(passes[-1].sort().values, labels)
    assert not torch.equal(*passes)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    before = program.state(model)
    first = program.predict(model, data["images"])
    assert torch.equal(first, program.predict(model, data["images"]))
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())
    torch.testing.assert_close(first.exp().sum(dim=1), torch.ones(ROWS))


def test_it_overfits_one_small_batch(program: Program, seed: int) -> None:
    config = {**WHOLE, "steps": 25, "lr": 0.02, "piece": 9}
    model = program.build(seed=seed, **config)
    assert program.train(model, rows(seed, 16), seed, **config).next(25)[-1] < 0.05


def test_it_reads_glyphs_that_it_has_not_seen(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
