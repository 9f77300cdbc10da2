"""What any correct diffusion model does, whoever wrote it."""

import math

import pytest
import torch
from torch.nn import functional as F

from bughunt.references.slope import slope_of_report

QUICK = {"levels": 5, "hidden": 24, "batch": 90}


def _after(program, task, seed, **config):
    """A model after a short run, and the losses."""
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, task.data(seed).train, seed, **config).next(config["steps"])
    return model, losses


def _noise(seed, levels, count=30):
    return torch.randn(levels + 1, count, 2, generator=torch.Generator().manual_seed(seed))


def _points(seed, count=30):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed + 77))


def _betas(program, **config):
    return program.call("betas", program.call("Config", keep=True, **config)).double()


def _kept(betas):
    """What is left of a point's variance after each level, level by level."""
    left, found = 1.0, []
    for beta in betas.tolist():
        left = left * (1 - beta)
        found.append(left)
    return found


def _batches(program, points, batch, count, seed):
    cfg = program.call("Config", keep=True, batch=batch)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", points, cfg, rng, keep=True)
    return [program.call_method(stream, "__next__") for _ in range(count)]


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_after(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed, **task.small))
    model, _ = _after(program, task, seed, steps=3)
    after = program.state(model)
    for name in program.parameters(model):
        assert not torch.equal(before[name], after[name]), name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _ = _after(program, task, seed)
    before, noise = program.state(model), _noise(seed, task.small["levels"])
    first = program.predict(model, noise)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, noise))
    for name, value in program.state(model).items():
        assert torch.equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _ = _after(program, task, seed)
    noise = _noise(seed, task.small["levels"])
    together, few = program.predict(model, noise), program.predict(model, noise[:, 3:6])
    torch.testing.assert_close(few, together[3:6], atol=1e-3, rtol=1e-4)


def test_a_fresh_model_knows_nothing_yet(program, task, seed):
    model = program.build(seed=seed)
    first = program.train(model, task.data(seed).train, seed).next()[0]
    assert first == pytest.approx(1.0, abs=0.35)  # the variance of the noise


def test_a_gradient_belongs_to_this_batch_only(program, task, seed):
    # The weights are put back before every update, so gradients keep their size unless they pile up.
    config = {**task.small, "batch": 800}
    model = program.build(seed=seed, **config)
    start = program.state(model)
    program.watch_gradients(model, True)
    run = program.train(model, task.data(seed).train, seed, **config)
    sizes = []
    for _ in range(6):
        program.load_state(model, start)
        run.next()
        sizes.append(torch.cat([g.flatten() for g in program.gradients(model).values()]).norm())
    assert sizes[-1] < 3 * sizes[0]


def test_the_gradient_is_the_slope_of_the_reported_loss(program, task, seed):
    config = {**task.small, "lr": 0.0}
    model, data = program.build(seed=seed, **config), task.data(seed).train
    found, length = slope_of_report(program, model, data, seed, config, same_draws=True)
    assert found == pytest.approx(length, rel=0.05)


def test_the_first_update_is_as_large_as_the_learning_rate(program, task, seed):
    config = {**task.small, "lr": 0.01}
    model = program.build(seed=seed, **config)
    before = program.state(model)
    program.watch_gradients(model, True)
    program.train(model, task.data(seed).train, seed, **config).next()
    after = program.state(model)
    for name, gradient in program.gradients(model).items():
        moved = (after[name] - before[name])[gradient.abs() > 1e-4]
        torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.01), rtol=0.02, atol=0)


def test_the_learning_rate_falls_to_nothing(program):
    cfg = program.call("Config", keep=True, lr=0.5, steps=40)
    rates = [program.call("learning_rate", step, cfg) for step in range(40)]
    assert rates[0] == pytest.approx(0.5)
    assert rates[20] == pytest.approx(0.25)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.01


def test_batches_cover_each_row_once_with_nothing_left_out(program, seed):
    points = torch.arange(23.0)[:, None].expand(23, 2).contiguous()
    passes = [_batches(program, points, 5, 10, seed)[i : i + 5] for i in (0, 5)]
    for found in passes:
        assert [len(rows) for rows in found] == [5, 5, 5, 5, 3]
        assert torch.equal(torch.cat(found).sort(dim=0).values, points)
    assert not torch.equal(torch.cat(passes[0]), torch.cat(passes[1]))


def test_every_update_sees_another_batch(program, task, seed):
    config = {**task.small, "lr": 0.0}
    model = program.build(seed=seed, **config)
    run, losses = program.train(model, task.data(seed).train, seed, **config), []
    for _ in range(8):
        program.seed(seed)  # the same levels and noise each time
        losses += run.next()
    assert len(set(losses)) == 8


def test_the_schedule_rises_evenly(program):
    betas = _betas(program, levels=7, first_beta=0.01, last_beta=0.31)
    expected = torch.tensor([0.01, 0.06, 0.11, 0.16, 0.21, 0.26, 0.31]).double()
    torch.testing.assert_close(betas, expected, atol=1e-6, rtol=0)


def test_levels_are_told_apart(program):
    codes = program.call("code", torch.arange(40), 24)
    assert codes.shape == (40, 24)
    torch.testing.assert_close(codes.square().sum(dim=1), torch.full((40,), 12.0))
    apart = torch.cdist(codes, codes) + 9 * torch.eye(40)
    assert apart.min() > 0.5
    assert apart[0, 39] > apart[0, 5]


def test_a_code_is_made_of_waves_from_fast_to_slow(program):
    codes = torch.as_tensor(program.call("code", torch.arange(40), 24)).double()
    angles = torch.arange(40)[:, None] * 1000.0 ** (-torch.arange(12).double() / 12)
    for wave in torch.cat([angles.sin(), angles.cos()], dim=1).T:
        assert (codes - wave[:, None]).abs().amax(dim=0).min() < 1e-4


def test_blurring_at_once_equals_blurring_level_by_level(program, seed):
    model = program.build(seed=seed)
    betas, clean, noise = _betas(program), _points(seed, 40).double(), _points(seed + 1, 40).double()
    t = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    found = program.call("diffuse", model, clean.float(), t, noise.float())
    for row, level in enumerate(t.tolist()):
        share, variance = 1.0, 0.0
        for beta in betas[: level + 1].tolist():
            share, variance = share * math.sqrt(1 - beta), variance * (1 - beta) + beta
        expected = share * clean[row] + math.sqrt(variance) * noise[row]
        torch.testing.assert_close(found[row].double(), expected, atol=1e-4, rtol=1e-4)


def test_hardly_anything_is_left_at_the_last_level(program, seed):
    model = program.build(seed=seed)
    kept = program.call("diffuse", model, torch.ones(2, 2), torch.tensor([0, 39]), torch.zeros(2, 2))
    assert kept[0].min() > 0.99
    assert kept[1].max() < 0.15


def test_the_loss_compares_the_guess_with_the_noise(program, seed):
    model, t = program.build(seed=seed, **QUICK), torch.arange(30) % 5
    clean, noise = _points(seed), _points(seed + 1)
    blurred = program.call("diffuse", model, clean, t, noise)
    guess = program.call("guess_noise", model, blurred, t)
    expected = (guess - noise).square().mean().item()
    assert float(program.call("loss", model, clean, t, noise)) == pytest.approx(expected, rel=1e-4)


def test_the_guess_depends_on_point_and_level(program, seed):
    model, points = program.build(seed=seed), _points(seed)
    first, last = (program.call("guess_noise", model, points, torch.full((30,), t)) for t in (0, 39))
    assert (first - last).abs().mean() > 1e-3
    assert first.std(dim=0).min() > 1e-3


def test_the_guess_is_that_of_the_same_layers_put_together_by_hand(program, seed):
    model, points, t = program.build(seed=seed), _points(seed), torch.arange(30)
    state = program.state(model)
    program.load_state(model, {n: torch.zeros_like(v) for n, v in state.items() if n.endswith("bias")})

    def of(*shape):
        return [value for value in state.values() if tuple(value.shape) == shape]

    expected = points @ of(64, 2)[0].T + program.call("code", t, 24) @ of(64, 24)[0].T
    for weight in of(64, 64)[:2]:
        expected = F.silu(expected) @ weight.T
    expected = F.silu(expected) @ of(2, 64)[0].T
    torch.testing.assert_close(program.call("guess_noise", model, points, t), expected, atol=1e-5, rtol=1e-3)


def test_a_guess_may_be_shifted_as_a_whole(program, seed):
    model = program.build(seed=seed)
    shifts = {n: torch.full_like(v, n.endswith("bias")) for n, v in program.state(model).items()}
    program.load_state(model, {n: v for n, v in shifts.items() if n.endswith(("bias", "weight"))})
    found = program.call("guess_noise", model, _points(seed), torch.arange(30))
    assert torch.equal(found, torch.ones(30, 2))


def test_every_row_meets_levels_of_its_own(program, task, seed):
    # Of two levels one takes hardly anything away, and leaves more to guess.
    config = {**QUICK, "levels": 2, "last_beta": 0.6, "steps": 50, "lr": 0.03}
    model, _ = _after(program, task, seed, **config)
    state, points = program.state(model), task.data(seed).train
    points = ((points - points.mean(dim=0)) / points.std(dim=0)).repeat(6000 // len(points), 1)
    noise, full = _noise(seed, 1, len(points)), torch.ones(len(points), dtype=torch.int64)
    by_level = [program.call("loss", model, points, level * full, noise[level]) for level in range(2)]
    first, last = map(float, by_level)
    assert first > 1.5 * last
    program.load_state(model, state)
    still = {**config, "lr": 0.0, "batch": 400, "steps": 12}
    reported = torch.tensor(program.train(model, task.data(seed).train, seed, **still).next(12))
    assert reported.mean().item() == pytest.approx((first + last) / 2, rel=0.1)
    assert reported.std() < 0.25 * (first - last)


@pytest.mark.parametrize("level", [1, 4, 20, 39])
def test_a_step_back_has_the_moments_of_the_posterior(program, seed, level):
    model, points, noise = program.build(seed=seed), _points(seed), _points(seed + 1).double()
    betas = _betas(program)
    kept, before, beta = _kept(betas)[level], _kept(betas)[level - 1], betas[level].item()
    guess = program.call("guess_noise", model, points, torch.full((30,), level)).double()
    origin = (points - math.sqrt(1 - kept) * guess) / math.sqrt(kept)
    precision = (1 - beta) / beta + 1 / (1 - before)  # of what was there before, given both ends
    pull = math.sqrt(1 - beta) / beta * points + math.sqrt(before) / (1 - before) * origin
    expected = pull / precision + math.sqrt(1 / precision) * noise
    found = program.call("step_back", model, points, level, noise.float())
    torch.testing.assert_close(found.double(), expected, atol=2e-4, rtol=1e-3)


def test_the_last_step_adds_no_noise(program, seed):
    model, points = program.build(seed=seed), _points(seed)
    with_noise = program.call("step_back", model, points, 0, _points(seed + 1))
    assert torch.equal(with_noise, program.call("step_back", model, points, 0, torch.zeros(30, 2)))
    guess = program.call("guess_noise", model, points, torch.zeros(30, dtype=torch.long))
    beta = _betas(program)[0].item()
    expected = (points - math.sqrt(beta) * guess) / math.sqrt(1 - beta)
    torch.testing.assert_close(with_noise, expected, atol=1e-5, rtol=1e-4)


def test_drawing_takes_every_step_back_in_turn(program, seed):
    model, noise = program.build(seed=seed, **QUICK), _noise(seed, 5)
    noise[:-1] = 0
    points = noise[-1]
    for level in (4, 3, 2, 1, 0):
        points = program.call("step_back", model, points, level, torch.zeros_like(points))
    torch.testing.assert_close(program.predict(model, noise), points, atol=1e-5, rtol=1e-4)


def test_every_row_of_the_noise_is_used(program, seed):
    model, noise = program.build(seed=seed, **QUICK), _noise(seed, 5)
    plain = program.predict(model, noise)
    for row in range(1, 6):
        changed = noise.clone()
        changed[row] += 1
        assert (program.predict(model, changed) - plain).abs().min() > 1e-4, row


def test_the_unit_of_the_points_does_not_matter(program, task, seed):
    data, noise = task.data(seed).train, _noise(seed, 9)
    scale, shift = torch.tensor([0.01, 50.0]), torch.tensor([3.0, -200.0])
    losses, drawn = [], []
    for points in (data, data * scale + shift):
        model = program.build(seed=seed, **task.small)
        losses.append(program.train(model, points, seed, **task.small).next(8))
        drawn.append(program.predict(model, noise))
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    unit = (data * scale).std(dim=0)
    apart = (drawn[1] - (drawn[0] * scale + shift)) / unit
    assert apart.abs().max() < 0.05


def test_the_moving_average_moves_slowly(program, task, seed):
    slow, (fast, _) = program.build(seed=seed, **task.small), _after(program, task, seed + 1)
    before, target = program.state(slow), program.state(fast)
    for _ in range(2):
        program.call("update_average", slow, fast, 0.9)
    after = program.state(slow)
    for name in program.parameters(slow):
        expected = 0.81 * before[name] + 0.19 * target[name]
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-4)


def test_points_are_drawn_with_the_averaged_weights(program, task, seed):
    t, points, noise = torch.arange(30) % 9, _points(seed), _points(seed + 1)
    fresh = program.call("guess_noise", program.build(seed=seed, **task.small), points, t)
    model, _ = _after(program, task, seed, decay=1.0)
    assert torch.equal(program.call("guess_noise", model, points, t), fresh)
    model, _ = _after(program, task, seed, decay=0.0)
    guess = program.call("guess_noise", model, program.call("diffuse", model, points, t, noise), t)
    expected = (guess - noise).square().mean().item()
    assert float(program.call("loss", model, points, t, noise)) == pytest.approx(expected, rel=1e-4)


def test_drawn_points_have_the_place_and_spread_of_the_data(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(task.steps)
    drawn = program.predict(model, data.held_out["noise"])
    spread = data.train.std(dim=0)
    assert ((drawn.mean(dim=0) - data.train.mean(dim=0)) / spread).abs().max() < 0.2
    torch.testing.assert_close(drawn.std(dim=0) / spread, torch.ones(2), atol=0.15, rtol=0)
    assert task.measure(program, model, data.held_out).metric < 0.02
