"""What any correct contrastive pre-training does, whoever wrote it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs
from bughunt.references.gradients import follow
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task

ROWS = 90
PLAIN = {"turn": 0.0, "stretch": 0.0, "shift": 0.0, "noise": 0.0}


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, glyphs(ROWS, seed)["images"], seed, **config).next(100)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def twins_apart(one: Tensor, other: Tensor, temperature: float) -> float:
    """The loss pair by pair, with the cosines of PyTorch."""
    views = torch.cat([one, other]).double()
    cosines = F.cosine_similarity(views[:, None], views, dim=2)
    total, count = 0.0, len(one)
    for i, row in enumerate(cosines.tolist()):
        closeness = [math.exp(c / temperature) if j != i else 0.0 for j, c in enumerate(row)]
        total -= math.log(closeness[(i + count) % (2 * count)] / sum(closeness))
    return total / len(views)


def looks(program: Program, seed: int, count: int = 400, **config: float) -> Tensor:
    """Where each of many drawings takes its pixels from, as matrices [N, 2, 3] around the middle."""
    cfg = program.call("Config", keep=True, **{**PLAIN, **config})
    axis = (torch.arange(12) + 0.5) / 6 - 1  # of the pixels' middles
    ramps = [axis.expand(12, 12), axis[:, None].expand(12, 12)]
    found = []
    for ramp in ramps:
        program.seed(seed)
        found.append(program.call("augment", ramp.expand(count, 12, 12).contiguous(), cfg))
    middle = [(r, c) for r in range(4, 8) for c in range(4, 8)]
    seen = torch.stack([torch.stack([one[:, r, c] for r, c in middle], dim=1) for one in found], dim=2)
    known = torch.tensor([[float(axis[c]), float(axis[r]), 1.0] for r, c in middle])
    return torch.linalg.lstsq(known.expand(count, -1, -1), seen).solution.transpose(1, 2)


def alike(program: Program, model: Model, names: list[str], number: float) -> None:
    """The same number everywhere, so that it does not matter how layers are arranged."""
    state = program.state(model)
    program.load_state(model, {name: torch.full_like(state[name], number) for name in names})


def all_alike(images: Tensor, hidden: int, number: float, mean: Tensor, var: Tensor) -> Tensor:
    """What every feature is, where all that is learned is one number."""
    x = number * images.flatten(1).float().sum(dim=1) / 255 + number
    return number * hidden * (number * (x - mean) / (var + 1e-5).sqrt() + number).relu() + number


def beyond_the_features(program: Program, model: Model, images: Tensor) -> list[str]:
    """What is learned and makes no difference to the features."""
    state, base = program.state(model), program.predict(model, images)
    names = []
    for name in program.parameters(model):
        program.load_state(model, {**state, name: state[name] + 1})
        names += [name] if torch.equal(program.predict(model, images), base) else []
    program.load_state(model, state)
    return names


def first_loss(program: Program, model: Model, images: Tensor, seed: int, **config: float) -> float:
    cfg = {**PLAIN, "batch": len(images), "lr": 0.0, **config}
    return program.train(model, images, seed, **cfg).next()[0]


def test_the_loss_equals_one_written_row_by_row(program: Program, seed: int) -> None:
    one, other = draw(seed, 7, 4), draw(seed + 1, 7, 4)
    for temperature in (0.2, 1.0):
        found = program.call("nt_xent", one, other, temperature)
        assert float(found) == pytest.approx(twins_apart(one, other, temperature), rel=1e-4)


def test_the_loss_knows_neither_order_nor_side_nor_length(program: Program, seed: int) -> None:
    one = draw(seed, 7, 4)
    other = one + 0.1 * draw(seed + 1, 7, 4)
    base = float(program.call("nt_xent", one, other, 0.5))
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    assert float(program.call("nt_xent", other, one, 0.5)) == pytest.approx(base, rel=1e-4)
    assert float(program.call("nt_xent", one[order], other[order], 0.5)) == pytest.approx(base, rel=1e-4)
    assert float(program.call("nt_xent", 5 * one, other / 3, 0.5)) == pytest.approx(base, rel=1e-4)
    assert float(program.call("nt_xent", one, other[order], 0.5)) > base + 0.3


def test_large_scores_stay_finite(program: Program) -> None:
    one = torch.eye(3)
    assert float(program.call("nt_xent", one, one, 0.001)) == pytest.approx(0.0, abs=1e-4)
    assert float(program.call("nt_xent", one, one.roll(1, dims=0), 0.001)) == pytest.approx(1000.0, rel=1e-3)


def test_a_fresh_model_knows_nothing_yet(program: Program, seed: int) -> None:
    images = glyphs(ROWS, seed)["images"]
    cfg = {"batch": ROWS, "temperature": 5.0}
    model = program.build(seed=seed, **cfg)
    (reported,) = program.train(model, images, seed, **cfg).next()
    assert reported == pytest.approx(math.log(2 * ROWS - 1), abs=0.3)


def test_without_any_spread_the_drawing_is_the_image(program: Program, seed: int) -> None:
    cfg = program.call("Config", keep=True, **PLAIN)
    pixels = draw(seed, 5, 12, 12)
    torch.testing.assert_close(program.call("augment", pixels, cfg), pixels, atol=1e-5, rtol=1e-4)


def test_every_drawing_is_turned_scaled_and_shifted_in_its_own_way(program: Program, seed: int) -> None:
    found = looks(program, seed, turn=0.2, stretch=0.1, shift=0.12)
    scale = found[:, :, :2].det().sqrt()
    angle = torch.atan2(found[:, 1, 0] - found[:, 0, 1], found[:, 0, 0] + found[:, 1, 1])
    torch.testing.assert_close(found[:, 0, 0], found[:, 1, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[:, 0, 1], -found[:, 1, 0], atol=1e-3, rtol=0)
    spreads = {0.2: angle, 0.1: scale - 1, 0.12: found[:, 0, 2]}
    for most, value in [*spreads.items(), (0.12, found[:, 1, 2])]:
        assert float(value.abs().max()) <= most + 1e-3
        assert float(value.std()) == pytest.approx(most / math.sqrt(3), rel=0.15)
        assert abs(float(value.mean())) <= 0.12 * most
        assert value.round(decimals=5).unique().numel() >= 0.95 * len(value)
    both = torch.stack([angle, scale, found[:, 0, 2], found[:, 1, 2]])
    assert (torch.corrcoef(both) - torch.eye(4)).abs().max() <= 0.25


def test_each_spread_belongs_to_one_change(program: Program, seed: int) -> None:
    turned = looks(program, seed, turn=0.4)
    torch.testing.assert_close(turned[:, :, :2].det(), torch.ones(400), atol=2e-3, rtol=0)
    assert turned[:, :, 2].abs().max() <= 1e-3
    stretched = looks(program, seed, stretch=0.3)
    assert stretched[:, 0, 1].abs().max() <= 1e-3
    assert float(stretched[:, 0, 0].std()) > 0.1
    shifted = looks(program, seed, shift=0.2)
    torch.testing.assert_close(shifted[:, :, :2], torch.eye(2).expand(400, 2, 2), atol=1e-3, rtol=0)


def test_noise_is_added_to_every_pixel(program: Program, seed: int) -> None:
    cfg = program.call("Config", keep=True, **{**PLAIN, "noise": 0.3})
    pixels = draw(seed, 50, 12, 12)
    program.seed(seed)
    noise = program.call("augment", pixels, cfg) - pixels
    assert float(noise.std()) == pytest.approx(0.3, rel=0.05)
    assert abs(float(noise.mean())) <= 0.02
    assert noise.flatten(1).std(dim=1).min() > 0.2
    assert noise.unique().numel() > 7000


@pytest.mark.parametrize("change", [{"noise": 3.0}, {"shift": 0.8, "turn": 2.0}], ids=["noise", "place"])
def test_the_two_views_of_an_image_are_drawn_apart(
    program: Program, seed: int, change: dict[str, float]
) -> None:
    # with equal views the twin is as close as can be; the reported loss would know no change
    images = glyphs(ROWS, seed)["images"]
    model = program.build(seed=seed)
    program.seed(seed)
    plain, changed = (
        first_loss(program, model, images, seed, temperature=0.05, **some) for some in ({}, change)
    )
    assert plain <= 2.0
    assert changed >= plain + 1.0


def test_training_looks_at_the_batch_and_not_at_its_brightness(program: Program, seed: int) -> None:
    model, images = program.build(seed=seed), glyphs(ROWS, seed)["images"]
    found = [first_loss(program, model, one, seed) for one in (images // 2 * 2, images // 2)]
    assert found[0] == pytest.approx(found[1], rel=5e-3)


def test_training_divides_by_the_temperature(program: Program, seed: int) -> None:
    # far from zero the loss is short of knowing nothing in proportion to its inverse
    model, images = program.build(seed=seed), glyphs(ROWS, seed)["images"]
    short = [
        math.log(2 * ROWS - 1) - first_loss(program, model, images, seed, temperature=warm)
        for warm in (10.0, 20.0)
    ]
    assert short[0] > 0
    assert short[0] / short[1] == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("number", [0.1, -0.1])
def test_the_encoder_is_two_layers_with_batch_norm_between(
    program: Program, task: Task, seed: int, number: float
) -> None:
    model, images = program.build(seed=seed, **task.small), glyphs(20, seed)["images"]
    alike(program, model, program.parameters(model), number)
    expected = all_alike(images, task.small["hidden"], number, torch.tensor(0.0), torch.tensor(1.0))
    found = program.predict(model, images)
    torch.testing.assert_close(found, expected[:, None].expand(-1, 18), atol=1e-4, rtol=1e-3)


def test_running_statistics_follow_the_batches_slowly(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, **PLAIN, "batch": ROWS, "lr": 0.0}
    model, images = program.build(seed=seed, **cfg), glyphs(ROWS, seed)["images"]
    alike(program, model, program.parameters(model), 0.1)
    x = 0.1 * images.flatten(1).float().sum(dim=1) / 255 + 0.1
    program.train(model, images, seed, **cfg).next()
    found = program.predict(model, images)
    # a tenth for one look at all rows, more where each view is looked at alone
    gaps = [
        float(
            (found - all_alike(images, 30, 0.1, share * x.mean(), 1 - share + share * var)[:, None])
            .abs()
            .max()
        )
        for share, var in ((0.1, torch.cat([x, x]).var()), (0.19, x.var()))
    ]
    assert min(gaps) <= 1e-3


def test_features_are_read_before_the_projection(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    images = glyphs(ROWS, seed)["images"]
    assert program.predict(model, images).shape == (ROWS, 18)
    names, state = beyond_the_features(program, model, images), program.state(model)
    assert sum(state[name].numel() for name in names) == 18 * 7 + 7
    before = first_loss(program, model, images, seed)
    program.load_state(model, {name: draw(seed, *state[name].shape) for name in names})
    assert abs(first_loss(program, model, images, seed) - before) > 0.01


def test_what_is_negative_is_not_projected(program: Program, task: Task, seed: int) -> None:
    model, images = program.build(seed=seed, **task.small), glyphs(ROWS, seed)["images"]
    projection = beyond_the_features(program, model, images)
    others = [name for name in program.parameters(model) if name not in projection]
    alike(program, model, others, -0.1)
    assert program.predict(model, images).max() < 0
    nothing = first_loss(program, model, images, seed)
    assert nothing == pytest.approx(math.log(2 * ROWS - 1), abs=1e-3)
    alike(program, model, others, 0.1)
    assert first_loss(program, model, images, seed) < nothing - 1e-3


def test_the_rate_falls_along_half_a_cosine(program: Program) -> None:
    cfg = program.call("Config", keep=True, steps=16, lr=0.4)
    found = [program.call("learning_rate", step, cfg) for step in range(16)]
    assert found == pytest.approx([0.2 * (1 + math.cos(math.pi * k / 16)) for k in range(16)], rel=1e-6)


def test_updates_are_those_of_torch(program: Program, seed: int) -> None:
    cfg = {**PLAIN, "batch": ROWS, "lr": 0.01, "weight_decay": 0.5, "steps": 8}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    state = program.state(model)
    params = {n: torch.nn.Parameter(state[n]) for n in program.parameters(model)}
    oracle = torch.optim.AdamW(params.values(), lr=0.01, weight_decay=0.5)
    run = program.train(model, glyphs(ROWS, seed)["images"], seed, **cfg)
    rates = [0.005 * (1 + math.cos(math.pi * step / 8)) for step in range(4)]
    follow(program, model, run, oracle, params, rates)
    after = program.state(model)
    for name, parameter in params.items():
        torch.testing.assert_close(after[name], parameter.detach(), atol=1e-4, rtol=1e-3)


def test_the_gradient_is_the_slope_of_the_loss(program: Program, seed: int) -> None:
    cfg, images = {**PLAIN, "lr": 0.0, "batch": ROWS}, glyphs(ROWS, seed)["images"]
    model = program.build(seed=seed, **cfg)
    found, length = slope_of_report(program, model, images, seed, cfg)
    assert found == pytest.approx(length, rel=0.05)


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    cfg = {**PLAIN, "lr": 0.0, "batch": ROWS}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, glyphs(ROWS, seed)["images"], seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next()
    for name, gradient in program.gradients(model).items():
        torch.testing.assert_close(gradient, first[name], atol=1e-5, rtol=1e-3)


def test_every_parameter_moves(program: Program, task: Task, seed: int) -> None:
    still = {"weight_decay": 0.0}
    before = program.state(program.build(seed=seed, **task.small))
    model, _ = trained(program, task, seed, **still)
    after = program.state(model)
    assert all(not torch.equal(after[name], before[name]) for name in program.parameters(model))


def test_one_pass_shows_every_row_once(program: Program, seed: int) -> None:
    images = torch.arange(23)[:, None, None].expand(-1, 12, 12).clone()
    cfg = program.call("Config", keep=True, batch=5)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", images, cfg, rng, keep=True)
    orders = []
    for _ in range(2):
        found = [program.call_method(stream, "__next__") for _ in range(4)]
        assert all(len(batch) == 5 for batch in found)
        assert any(batch.max() - batch.min() > 4 for batch in found)  # not rows that stood together
        orders.append(torch.cat(found)[:, 0, 0])
        assert orders[-1].unique().numel() == 20
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[0].sort().values)


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    images = glyphs(ROWS, seed)["images"]
    alone = torch.cat([program.predict(model, images[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(program.predict(model, images)[:5], alone, atol=1e-5, rtol=1e-3)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    before, images = program.state(model), glyphs(ROWS, seed)["images"]
    program.train_mode(model, True)
    first = program.predict(model, images)
    program.train_mode(model, True)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, images))
    assert all(torch.equal(before[name], value) for name, value in program.state(model).items())


def test_measuring_between_updates_changes_nothing(program: Program, task: Task, seed: int) -> None:
    images, losses = glyphs(ROWS, seed)["images"], []
    for measure in (False, True):
        model = program.build(seed=seed, **task.small)
        run = program.train(model, images, seed, **task.small)
        losses.append([])
        for _ in range(6):
            losses[-1] += run.next()
            if measure:
                program.predict(model, images)
    assert losses[0] == losses[1]


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    first, second = (trained(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_it_learns_features_that_tell_digits_apart(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
