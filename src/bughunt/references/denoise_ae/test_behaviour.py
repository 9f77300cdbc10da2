"""What any correct denoising autoencoder does, whoever wrote it."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from bughunt.references.denoise_ae.task import rows, spoil
from bughunt.references.slope import norm, slope
from bughunt.task import Model, Program, Task

ROWS = 90
PURE = {"noise": 0.0, "lost": 0.0}
BOTH = pytest.mark.parametrize("tied", [False, True], ids=["own matrices", "shared matrices"])


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, rows(ROWS, seed), seed, **config).next(config["steps"])


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def by_hand(
    state: Mapping[str, Tensor], shares: Tensor, cfg: Mapping[str, int], tied: bool
) -> tuple[Tensor, Tensor]:
    """Codes and restored images by the tensors alone, whatever the layers are called."""
    hidden, code = cfg["hidden"], cfg["code"]

    def of(*shape: int) -> list[Tensor]:
        found = [v for v in state.values() if tuple(v.shape) == shape]
        return [v for k, v in enumerate(found) if not any(torch.equal(v, w) for w in found[:k])]

    inner, outer = of(hidden, 64)[0], of(code, hidden)[0]
    back, out = (outer.T, inner.T) if tied else (of(hidden, code)[0], of(64, hidden)[0])
    first, second = of(hidden)
    (middle,), (last,) = of(code), of(64)
    codes = (shares @ inner.T + first).relu() @ outer.T + middle
    return codes, ((codes @ back.T + second).relu() @ out.T + last).sigmoid()


def test_a_fresh_model_knows_nothing_yet(program: Program, seed: int) -> None:
    restored = program.predict(program.build(seed=seed), rows(ROWS, seed))
    assert restored.shape == (ROWS, 8, 8)
    assert (restored / 255 - 0.5).abs().max() <= 0.25


def test_noise_is_added_to_every_pixel(program: Program, seed: int) -> None:
    pixels = noise(seed, 200, 64)
    program.seed(seed)
    added = program.call("corrupt", pixels, 0.4, 0.0) - pixels
    assert float(added.std()) == pytest.approx(0.4, rel=0.04)
    assert abs(float(added.mean())) <= 0.02
    assert added.flatten().unique().numel() >= 0.99 * added.numel()
    assert added.mean(dim=0).std() <= 0.06
    assert added.mean(dim=1).std() <= 0.09


def test_lost_pixels_are_empty_and_the_others_stay(program: Program, seed: int) -> None:
    pixels = noise(seed, 300, 64) + 0.5
    program.seed(seed)
    spoilt = program.call("corrupt", pixels, 0.0, 0.2)
    gone = spoilt == 0
    torch.testing.assert_close(spoilt[~gone], pixels[~gone])
    assert float(gone.double().mean()) == pytest.approx(0.2, abs=0.02)
    assert gone.double().mean(dim=0).std() <= 0.05
    assert 0.02 <= gone.double().mean(dim=1).std() <= 0.1
    program.seed(seed)
    both = program.call("corrupt", pixels, 0.5, 0.2)
    assert float((both == 0).double().mean()) == pytest.approx(0.2, abs=0.02)


def test_operations_leave_their_inputs_as_they_were(program: Program, seed: int) -> None:
    pixels = noise(seed, 20, 64)
    held = program.call("torch.clone", pixels, keep=True)
    program.call("corrupt", held, 0.4, 0.3)
    assert torch.equal(program.call_method(held, "clone"), pixels)


@BOTH
def test_the_reported_loss_is_that_of_the_batch(program: Program, seed: int, tied: bool) -> None:
    cfg = {**PURE, "batch": ROWS, "lr": 0.0, "tied": tied}
    model, clean = program.build(seed=seed, **cfg), rows(ROWS, seed)
    (reported,) = program.train(model, clean, seed, **cfg).next()
    restored = program.predict(model, clean)
    expected = 0.5 * ((restored - clean) / 255).square().sum(dim=(1, 2)).mean()
    assert reported == pytest.approx(float(expected), rel=1e-4)


def test_what_is_asked_for_is_the_clean_image(program: Program, seed: int) -> None:
    # one image over and over, under so much noise that the input says nothing
    cfg = {"noise": 30.0, "lost": 0.9, "batch": ROWS, "steps": 60, "lr": 0.02}
    one = rows(1, seed)
    model = program.build(seed=seed, **cfg)
    losses = program.train(model, one.expand(ROWS, -1, -1).contiguous(), seed, **cfg).next(60)
    assert losses[-1] <= 0.5 * losses[0]
    restored = program.predict(model, spoil(one, seed))
    assert ((restored - one) / 255).abs().mean() <= 0.2


def test_training_sees_other_noise_every_time(program: Program, seed: int) -> None:
    # one image over and over, so that no loss differs by the order of the rows
    cfg = {"batch": ROWS, "lr": 0.0}
    images = rows(1, seed).expand(ROWS, -1, -1).contiguous()
    model = program.build(seed=seed, **cfg)
    losses = program.train(model, images, seed, **cfg).next(5)
    assert len(set(losses)) == 5
    pure = program.build(seed=seed, **cfg, **PURE)
    losses = program.train(pure, images, seed, **cfg, **PURE).next(5)
    assert max(losses) - min(losses) <= 1e-4


@BOTH
def test_answers_are_those_of_the_same_layers_put_together_by_hand(
    program: Program, seed: int, tied: bool
) -> None:
    model = program.build(seed=seed, tied=tied)
    state = program.state(model)
    state = {n: v if v.dim() > 1 else noise(k, *v.shape) - 0.5 for k, (n, v) in enumerate(state.items())}
    program.load_state(model, state)
    images = rows(9, seed)
    codes, restored = by_hand(state, images.flatten(1).float() / 255, program.config(), tied)
    torch.testing.assert_close(program.call("encode", model, images), codes, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        program.predict(model, images).flatten(1), 255 * restored, atol=0.05, rtol=1e-3
    )


def test_shared_matrices_are_counted_once(program: Program, seed: int) -> None:
    sizes = {}
    for tied in (False, True):
        model = program.build(seed=seed, tied=tied, hidden=30, code=7)
        state = program.state(model)
        sizes[tied] = sum(state[name].numel() for name in program.parameters(model))
    matrices, shifts = 64 * 30 + 30 * 7, 30 + 7 + 30 + 64
    assert sizes == {False: 2 * matrices + shifts, True: matrices + shifts}


def test_restored_images_are_within_the_range_of_a_byte(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    restored = program.predict(model, 20 * spoil(rows(ROWS, seed), seed))
    assert float(restored.min()) >= 0
    assert float(restored.max()) <= 255


def test_the_rate_falls_along_half_a_cosine(program: Program) -> None:
    cfg = program.call("Config", keep=True, steps=16, lr=0.4)
    found = [program.call("learning_rate", step, cfg) for step in range(16)]
    assert found == pytest.approx([0.2 * (1 + math.cos(math.pi * k / 16)) for k in range(16)], rel=1e-6)


@BOTH
def test_updates_are_those_of_torch(program: Program, seed: int, tied: bool) -> None:
    cfg = {"batch": ROWS, "lr": 0.01, "steps": 8, "tied": tied}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    state = program.state(model)
    params = {n: torch.nn.Parameter(state[n]) for n in program.parameters(model)}
    oracle = torch.optim.Adam(params.values(), lr=0.01)
    run = program.train(model, rows(ROWS, seed), seed, **cfg)
    for step in range(4):
        run.next()
        for name, gradient in program.gradients(model).items():
            params[name].grad = gradient
        for group in oracle.param_groups:
            group["lr"] = 0.005 * (1 + math.cos(math.pi * step / 8))
        oracle.step()
    after = program.state(model)
    for name, parameter in params.items():
        torch.testing.assert_close(after[name], parameter.detach(), atol=1e-4, rtol=1e-3)


def test_the_gradient_is_the_slope_of_the_loss(program: Program, seed: int) -> None:
    cfg, clean = {**PURE, "lr": 0.0, "batch": ROWS}, rows(ROWS, seed)
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    program.train(model, clean, seed, **cfg).next()
    gradient, start = program.gradients(model), program.state(model)

    def loss_at(state):
        program.load_state(model, state)
        gap = (program.predict(model, clean) - clean).double() / 255
        return 0.5 * float(gap.square().sum(dim=(1, 2)).mean())

    assert slope(loss_at, start, gradient) == pytest.approx(norm(gradient), rel=0.05)


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    cfg = {**PURE, "lr": 0.0, "batch": ROWS}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, rows(ROWS, seed), seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next()
    for name, gradient in program.gradients(model).items():
        torch.testing.assert_close(gradient, first[name], atol=1e-5, rtol=1e-3)


@BOTH
def test_gradients_are_those_of_the_same_layers_put_together_by_hand(
    program: Program, seed: int, tied: bool
) -> None:
    cfg = {**PURE, "batch": ROWS, "lr": 0.0, "tied": tied}
    model, clean = program.build(seed=seed, **cfg), rows(ROWS, seed)
    program.watch_gradients(model, True)
    state, names = program.state(model), program.parameters(model)
    program.train(model, clean, seed, **cfg).next()
    leaves = {name: value.clone().requires_grad_() for name, value in state.items() if name in names}
    shares = clean.flatten(1).float() / 255
    _, restored = by_hand(leaves, shares, program.config(), tied)
    (0.5 * (restored - shares).square().sum(dim=1).mean()).backward()
    for name, gradient in program.gradients(model).items():
        torch.testing.assert_close(gradient, leaves[name].grad, atol=1e-5, rtol=1e-3)


@BOTH
def test_every_parameter_moves(program: Program, task: Task, seed: int, tied: bool) -> None:
    before = program.state(program.build(seed=seed, **task.small, tied=tied))
    after = program.state(trained(program, task, seed, tied=tied)[0])
    assert all(not torch.equal(after[name], before[name]) for name in before)


def test_one_pass_shows_every_row_once(program: Program, seed: int) -> None:
    images = torch.arange(23)[:, None, None].expand(-1, 8, 8).clone()
    cfg = program.call("Config", keep=True, batch=5)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", images, cfg, rng, keep=True)
    orders = []
    for _ in range(2):
        found = [program.call_method(stream, "__next__") for _ in range(5)]
        assert any(batch.max() - batch.min() > 4 for batch in found)  # not rows that stood together
        orders.append(torch.cat(found)[:, 0, 0])
        assert torch.equal(orders[-1].sort().values, torch.arange(23))
        assert not torch.equal(orders[-1], torch.arange(23))
    assert not torch.equal(orders[0], orders[1])


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    spoilt = spoil(rows(ROWS, seed), seed)
    alone = torch.cat([program.predict(model, spoilt[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(program.predict(model, spoilt)[:5], alone, atol=1e-3, rtol=1e-4)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    before, images = program.state(model), rows(ROWS, seed)
    program.train_mode(model, True)
    first, code = program.predict(model, images), program.call("encode", model, images)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, images))
    assert torch.equal(code, program.call("encode", model, images))
    assert all(torch.equal(before[name], value) for name, value in program.state(model).items())


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    first, second = (trained(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


@BOTH
def test_it_learns_in_a_short_run(program: Program, task: Task, seed: int, tied: bool) -> None:
    data = task.data(seed)
    model = program.build(seed=seed, tied=tied)
    program.train(model, data.train, seed, tied=tied).next(120)
    clean = data.held_out["clean"].double() / 255
    average = (clean - data.train.double().mean(dim=0) / 255).square().mean().item()
    assert task.measure(program, model, data.held_out).curve <= 0.8 * average
