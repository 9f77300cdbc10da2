"""What any correct vision transformer does, whoever wrote it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs
from bughunt.references.gradients import silent_share
from bughunt.references.projections import projection_names, projections
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task

ROWS = 70
STILL = {"dropout": 0.0, "weight_decay": 0.0}
WHOLE = {**STILL, "batch": 1000}


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, glyphs(ROWS, seed), seed, **config).next(100)


def lively(program: Program, seed: int, **config: object) -> tuple[Model, dict[str, Tensor]]:
    """A model whose matrices are wide awake, without biases, and its state."""
    model = program.build(seed=seed, **STILL, **config)
    rng = torch.Generator().manual_seed(seed)
    state = program.state(model)
    for name in program.parameters(model):
        value = state[name]
        if value.squeeze().dim() > 1:
            state[name] = torch.randn(value.shape, generator=rng) / math.sqrt(value.size(-1))
        elif not bool((value == 1).all()):
            state[name] = torch.zeros_like(value)
    program.load_state(model, state)
    program.train_mode(model, False)
    return model, state


def of_shape(state: dict[str, Tensor], *shape: int) -> list[Tensor]:
    return [value for value in state.values() if value.squeeze().shape == shape]


def pieces(pixels: Tensor, size: int) -> Tensor:
    """Squares cut out one by one."""
    corners = [(r, c) for r in range(0, 12, size) for c in range(0, 12, size)]
    return torch.stack([pixels[:, r : r + size, c : c + size].flatten(1) for r, c in corners], dim=1)


def heads_apart(x: Tensor, wide: Tensor, out: Tensor, heads: int, layout: str) -> Tensor:
    """Attention one head after the other; `layout` says how the rows of the wide matrix are arranged."""
    C = x.size(-1)
    shape = (3, heads, -1, C) if layout == "kind first" else (heads, 3, -1, C)
    parts = wide.reshape(shape) if layout == "kind first" else wide.reshape(shape).transpose(0, 1)
    found = []
    for head in range(heads):
        q, k, v = (x @ parts[kind, head].T for kind in range(3))
        found.append(F.scaled_dot_product_attention(q, k, v))
    return torch.cat(found, dim=-1) @ out.T


def expected_logits(program: Program, state: dict[str, Tensor], images: Tensor, layout: str) -> Tensor:
    cfg = program.config()
    C, S = cfg["channels"], cfg["patch"]
    (embed,) = of_shape(state, C, S * S)
    (place,) = of_shape(state, (12 // S) ** 2 + 1, C)
    (head,) = of_shape(state, cfg["classes"], C)
    x = F.pad(pieces(images, S) @ embed.T, (0, 0, 1, 0)) + place
    ups, downs = of_shape(state, cfg["inner"], C), of_shape(state, C, cfg["inner"])
    for (wide, out), up, down in zip(projections(state, C), ups, downs, strict=True):
        x = x + heads_apart(F.layer_norm(x, (C,)), wide, out, cfg["heads"], layout)
        x = x + F.gelu(F.layer_norm(x, (C,)) @ up.T) @ down.T
    return F.layer_norm(x[:, 0], (C,)) @ head.T


def test_a_fresh_model_has_no_opinion(program: Program, seed: int) -> None:
    answers = program.predict(program.build(seed=seed), glyphs(ROWS, seed)["images"])
    assert (answers + math.log(10)).abs().max() <= 0.05


@pytest.mark.parametrize("size", [2, 3, 4])
def test_an_image_is_cut_into_squares_in_reading_order(program: Program, seed: int, size: int) -> None:
    pixels = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(program.call("patchify", pixels, size), pieces(pixels, size))


def test_attention_agrees_with_the_one_in_pytorch(program: Program, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    q, k, v = 2 * torch.randn(3, 2, 3, 7, 5, generator=draws)  # [B, H, T, D] each
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(program.call("attend", q, k, v), expected, rtol=1e-4, atol=1e-5)


def test_heads_work_apart_and_are_put_side_by_side(program: Program, seed: int) -> None:
    cfg = program.call("Config", keep=True, channels=12, heads=4)
    layer = program.call("Attention", cfg, keep=True)
    draws = torch.Generator().manual_seed(seed)
    state = {n: torch.randn(v.shape, generator=draws) / 2 for n, v in program.state(layer).items()}
    state = {n: v if v.dim() > 1 else torch.zeros_like(v) for n, v in state.items()}
    program.load_state(layer, state)
    x = torch.randn(3, 6, 12, generator=draws)
    found = program.call_method(layer, "__call__", x)
    ((wide, out),) = projections(state, 12)
    kinds = [heads_apart(x, wide, out, 4, layout) for layout in ("kind first", "head first")]
    assert any(torch.allclose(found, one, atol=1e-4) for one in kinds)


def test_answers_are_those_of_the_same_layers_put_together_by_hand(program: Program, seed: int) -> None:
    model, state = lively(program, seed)
    images = program.call("prepare", glyphs(9, seed)["images"])
    found = program.call_method(model, "__call__", images)
    kinds = [expected_logits(program, state, images, one) for one in ("kind first", "head first")]
    assert any(torch.allclose(found, one, atol=2e-3) for one in kinds)


def test_every_pixel_counts_and_so_does_its_place(program: Program, seed: int) -> None:
    model, _ = lively(program, seed)
    images = glyphs(1, seed)["images"]
    base = program.predict(model, images)
    spots = [(r, c) for r in range(1, 12, 3) for c in range(1, 12, 3)]
    changed = images.repeat(len(spots), 1, 1)
    for row, (r, c) in enumerate(spots):
        changed[row, r, c] = 255 - changed[row, r, c]
    assert (program.predict(model, changed) - base).abs().amax(dim=1).min() > 1e-4
    moved = images.roll(3, dims=2)
    assert (program.predict(model, moved) - base).abs().max() > 1e-3


def test_without_places_the_order_of_the_squares_is_lost(program: Program, seed: int) -> None:
    model, state = lively(program, seed)
    cfg = program.config()
    tokens = (cfg["side"] // cfg["patch"]) ** 2 + 1
    (place,) = [n for n, v in state.items() if v.squeeze().shape == (tokens, cfg["channels"])]
    flat = torch.zeros_like(state[place]).add_(0.7)
    program.load_state(model, {place: flat})
    images = glyphs(5, seed)["images"]
    found = program.predict(model, images.roll(cfg["patch"], dims=1))
    torch.testing.assert_close(found, program.predict(model, images), atol=1e-3, rtol=1e-3)


def test_the_places_start_at_their_scale(program: Program, seed: int) -> None:
    model = program.build(seed=seed, position_std=0.3)
    cfg, state = program.config(), program.state(model)
    (place,) = of_shape(state, (cfg["side"] // cfg["patch"]) ** 2 + 1, cfg["channels"])
    assert float(place.std()) == pytest.approx(0.3, rel=0.15)


def test_the_loss_equals_the_one_in_pytorch(program: Program, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(9, 10, generator=draws)
    labels = torch.randint(10, (9,), generator=draws)
    for smoothing in (0.0, 0.3):
        expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        torch.testing.assert_close(program.call("loss", logits, labels, smoothing), expected)


def test_the_pull_of_the_loss_is_that_of_the_one_in_pytorch(program: Program, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    logits, labels = 2 * torch.randn(9, 10, generator=draws), torch.arange(9)
    handle = program.call("torch.clone", logits, keep=True)
    program.call_method(handle, "requires_grad_", keep=True)
    value = program.call("loss", handle, labels, 0.4, keep=True)
    (found,) = program.call("torch.autograd.grad", [value], [handle])
    oracle = logits.requires_grad_()
    F.cross_entropy(oracle, labels, label_smoothing=0.4).backward()
    torch.testing.assert_close(found, oracle.grad)


def test_large_scores_stay_finite(program: Program) -> None:
    logits, labels = torch.tensor([[400.0, -400.0], [300.0, 0.0]]), torch.tensor([1, 0])
    assert float(program.call("loss", logits, labels, 0.0)) == pytest.approx(400.0)


def test_the_rate_climbs_to_its_peak_and_falls_along_half_a_cosine(program: Program) -> None:
    cfg = program.call("Config", keep=True, steps=25, warmup=5, peak_lr=0.4)
    found = [program.call("learning_rate", step, cfg) for step in range(25)]
    expected = [0.08, 0.16, 0.24, 0.32, 0.4]
    expected += [0.2 * (1 + math.cos(math.pi * k / 20)) for k in range(20)]
    assert found == pytest.approx(expected, rel=1e-6)


def test_updates_are_those_of_torch(program: Program, seed: int) -> None:
    cfg = {**WHOLE, "steps": 12, "warmup": 3, "peak_lr": 0.01, "weight_decay": 0.4, "max_grad_norm": 0.05}
    model = program.build(seed=seed, **cfg)
    handle = program.call("Config", keep=True, **cfg)
    program.watch_gradients(model, True)
    state = program.state(model)
    params = {n: torch.nn.Parameter(state[n]) for n in program.parameters(model)}
    matrices = {n for n, p in params.items() if p.squeeze().dim() > 1 and p.size(-2) != 17}
    groups = [
        {"params": [p for n, p in params.items() if n in matrices], "weight_decay": 0.4},
        {"params": [p for n, p in params.items() if n not in matrices], "weight_decay": 0.0},
    ]
    oracle = torch.optim.AdamW(groups, lr=0.01)
    run = program.train(model, glyphs(ROWS, seed), seed, **cfg)
    for step in range(4):
        run.next()
        for name, gradient in program.gradients(model).items():
            params[name].grad = gradient
        torch.nn.utils.clip_grad_norm_(params.values(), 0.05)
        for group in oracle.param_groups:
            group["lr"] = program.call("learning_rate", step, handle)
        oracle.step()
    after = program.state(model)
    for name, parameter in params.items():
        torch.testing.assert_close(after[name], parameter.detach(), atol=2e-3, rtol=1e-3)
        move, expected = (after[name] - state[name]).flatten(), (parameter.detach() - state[name]).flatten()
        assert (move - expected).norm() <= 0.05 * expected.norm() + 1e-6, name


def test_the_gradient_is_the_slope_of_the_reported_loss(program: Program, seed: int) -> None:
    cfg = {**WHOLE, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    found, length = slope_of_report(program, model, glyphs(ROWS, seed), seed, cfg, same_draws=True)
    assert found == pytest.approx(length, rel=0.05)


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    cfg = {**WHOLE, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, glyphs(ROWS, seed), seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next()
    for name, gradient in program.gradients(model).items():
        torch.testing.assert_close(gradient, first[name], atol=1e-5, rtol=1e-3)


def test_every_parameter_moves(program: Program, task: Task, seed: int) -> None:
    before = program.state(program.build(seed=seed, **task.small))
    model, _ = trained(program, task, seed, **STILL)
    after = program.state(model)
    for name in program.parameters(model):
        assert (after[name] - before[name]).abs().max() > 1e-9, name


def test_the_trained_parameters_are_the_whole_model(program: Program, seed: int) -> None:
    cfg, model = program.config(), program.build(seed=seed)
    C, J, N, P = cfg["channels"], cfg["inner"], (12 // cfg["patch"]) ** 2, cfg["patch"] ** 2
    block = 3 * C * C + 3 * C + C * C + C + 2 * C * J + J + C + 4 * C
    expected = P * C + C + C + (N + 1) * C + cfg["layers"] * block + 2 * C + 10 * C + 10
    state = program.state(model)
    assert sum(state[name].numel() for name in program.parameters(model)) == expected


def test_what_branches_add_is_dropped_as_often_as_it_should(program: Program, seed: int) -> None:
    # the head reads one token; where that is dropped, the row of the matrix that wrote it gets no gradient
    cfg = {"layers": 1, "dropout": 0.3, "peak_lr": 0.0}
    _, state = lively(program, seed, layers=1)
    model, sizes = program.build(seed=seed, **cfg), program.config()
    program.load_state(model, state)
    C, inner = sizes["channels"], sizes["inner"]
    writers = [name for name in program.parameters(model) if state[name].shape == (C, inner)]
    writers += [outer for _, outer in projection_names(state, C)]
    program.watch_gradients(model, True)
    run = program.train(model, glyphs(1, seed), seed, **cfg)
    assert silent_share(program, model, run, writers, 25) == pytest.approx(0.3, abs=0.06)


def test_it_overfits_one_small_batch(program: Program, seed: int) -> None:
    data = glyphs(16, seed)
    cfg = {**WHOLE, "steps": 60, "warmup": 5, "smoothing": 0.0}
    model = program.build(seed=seed, **cfg)
    losses = program.train(model, data, seed, **cfg).next(60)
    assert losses[-1] <= 0.1
    assert torch.equal(program.predict(model, data["images"]).argmax(dim=1), data["labels"])


def test_predictions_are_log_probabilities(program: Program, task: Task, seed: int) -> None:
    answers = program.predict(trained(program, task, seed)[0], glyphs(ROWS, seed)["images"])
    assert answers.shape == (ROWS, 10)
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(ROWS))


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model, _ = lively(program, seed)
    images = glyphs(ROWS, seed)["images"]
    together = program.predict(model, images)
    alone = torch.cat([program.predict(model, images[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together[:5], alone, atol=1e-4, rtol=1e-3)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed, dropout=0.3)
    before, images = program.state(model), glyphs(ROWS, seed)["images"]
    first = program.predict(model, images)
    program.train_mode(model, True)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, images))
    assert all(torch.equal(before[name], value) for name, value in program.state(model).items())


def test_training_goes_on_with_dropout_after_a_look(program: Program, seed: int) -> None:
    losses = []
    for look in (False, True):
        cfg = {"dropout": 0.3, "peak_lr": 0.0, "batch": 1000}
        model, state = lively(program, seed)
        model = program.build(seed=seed, **cfg)
        program.load_state(model, state)
        run = program.train(model, glyphs(ROWS, seed), seed, **cfg)
        losses.append(run.next(2))
        if look:
            program.predict(model, glyphs(5, seed)["images"])
        program.seed(seed)
        losses[-1] += run.next(2)
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 4


def test_training_and_prediction_see_the_same_pixels(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    cfg = {**WHOLE, "peak_lr": 0.0, "smoothing": 0.0}
    model, _ = lively(program, seed)
    reported = program.train(model, data, seed, **cfg).next()[0]
    measured = F.nll_loss(program.predict(model, data["images"]), data["labels"]).item()
    assert reported == pytest.approx(measured, rel=1e-3)


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    data, curves = glyphs(ROWS, seed), []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **task.small)
        curves.append(program.train(model, data, rng, **task.small).next(100))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == task.small["steps"]


def test_batches_cover_each_row_once_with_its_own_label(program: Program, seed: int) -> None:
    labels = torch.arange(23)
    images = labels.float().reshape(-1, 1, 1).expand(-1, 12, 12).clone()
    cfg = program.call("Config", keep=True, batch=5)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    orders = []
    for _ in range(2):
        one_pass = program.call("batches", images, labels, cfg, rng, keep=True)
        found = [program.call_method(one_pass, "__next__") for _ in range(5)]
        assert all(torch.equal(x.float().mean(dim=(1, 2)), y.float()) for x, y in found)
        orders.append(torch.cat([y for _, y in found]))
        assert torch.equal(orders[-1].sort().values, labels)
        assert not torch.equal(orders[-1], labels)
    assert not torch.equal(orders[0], orders[1])


def test_it_learns_in_a_short_run(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(90)
    assert task.measure(program, model, data.held_out).curve <= 2.1
