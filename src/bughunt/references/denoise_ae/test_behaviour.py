"""What any correct denoising autoencoder does, whoever wrote it."""

import math

import pytest
import torch
from torch import Tensor

from bughunt.references.denoise_ae.task import rows, spoil
from bughunt.references.gradients import follow
from bughunt.references.slope import norm, slope, slopes_across
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


def all_alike(shares: Tensor, number: float) -> tuple[Tensor, Tensor]:
    """Codes and restored pixels of layers in which every number is the same, however they are arranged."""
    inner = (number * shares.sum(dim=1) + number).relu()
    code = 100 * number * inner + number
    back = (18 * number * code + number).relu()
    return code[:, None].expand(-1, 18), (100 * number * back + number).sigmoid()[:, None].expand(-1, 64)


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


def test_training_spoils_as_much_as_it_is_told(program: Program, seed: int) -> None:
    # one image over and over, and a model that looks at it closely
    cfg = {"batch": 3000, "lr": 0.0, "noise": 0.6, "lost": 0.4}
    one = rows(1, seed).expand(3000, -1, -1).contiguous()
    model = program.build(seed=seed, **cfg)
    program.load_state(model, {name: 3 * value for name, value in program.state(model).items()})
    (reported,) = program.train(model, one, seed, **cfg).next()
    rng = torch.Generator().manual_seed(seed)
    noisy = one + 255 * 0.6 * torch.randn(one.shape, generator=rng)
    spoilt = torch.where(torch.rand(one.shape, generator=rng) < 0.4, 0.0, noisy)
    gap = (program.predict(model, spoilt) - one) / 255
    each = 0.5 * gap.square().sum(dim=(1, 2))
    assert reported == pytest.approx(float(each.mean()), abs=7 * float(each.std()) / math.sqrt(len(each)))


@BOTH
@pytest.mark.parametrize("number", [0.02, -0.02, -0.1])
def test_two_layers_lead_to_the_code_and_two_back(
    program: Program, seed: int, tied: bool, number: float
) -> None:
    model, images = program.build(seed=seed, tied=tied), rows(9, seed)
    program.load_state(model, {n: torch.full_like(v, number) for n, v in program.state(model).items()})
    codes, restored = all_alike(images.flatten(1).float() / 255, number)
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
    rates = [0.005 * (1 + math.cos(math.pi * step / 8)) for step in range(4)]
    follow(program, model, run, oracle, params, rates)
    after = program.state(model)
    for name, parameter in params.items():
        torch.testing.assert_close(after[name], parameter.detach(), atol=1e-4, rtol=1e-3)


@BOTH
def test_the_gradient_is_the_slope_of_the_loss(program: Program, seed: int, tied: bool) -> None:
    cfg, clean = {**PURE, "lr": 0.0, "batch": ROWS, "tied": tied}, rows(ROWS, seed)
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    program.train(model, clean, seed, **cfg).next()
    state, gradient = program.state(model), program.gradients(model)
    start = {name: state[name] for name in program.parameters(model)}

    def loss_at(state):
        program.load_state(model, state)
        gap = (program.predict(model, clean) - clean).double() / 255
        return 0.5 * float(gap.square().sum(dim=(1, 2)).mean())

    assert slope(loss_at, start, gradient) == pytest.approx(norm(gradient), rel=0.05)
    for name, found, said in slopes_across(loss_at, start, gradient, seed, reach=0.003):
        assert abs(found - said) <= 0.05 * norm(gradient), name


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
