"""What any correct generative adversarial network does, whoever wrote it."""

import math

import pytest
import torch
from torch.nn import functional as F

from bughunt.references.gan_ring.task import LATENT, ring, spots_hit
from bughunt.references.slope import norm, slope

STILL = {"generator_lr": 0.0, "discriminator_lr": 0.0, "decay": 1.0}


def _after(program, task, seed, **config):
    """A model after a short run, and the losses."""
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, task.data(seed).train, seed, **config).next(config["steps"])
    return model, losses


def _noise(seed, count=40):
    return torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed))


def _real(seed, count=40):
    return ring(count, torch.Generator().manual_seed(seed + 77))


def _changes(program, task, seed, **config):
    """How far each parameter has moved in one update."""
    before = program.state(program.build(seed=seed, **task.small, **config))
    after = program.state(_after(program, task, seed, steps=1, **config)[0])
    return {name: (after[name] - before[name]).abs() for name in before}


def _movers(program, task, seed, still):
    """The names of what one update changes while the player with this learning rate stands still."""
    changes = _changes(program, task, seed, **{still: 0.0}, decay=0.0)
    return {name for name, change in changes.items() if change.max() > 0}


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
    before, noise = program.state(model), _noise(seed)
    assert torch.equal(program.predict(model, noise), program.predict(model, noise))
    for name, value in program.state(model).items():
        assert torch.equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _ = _after(program, task, seed)
    few, together = program.predict(model, _noise(seed)[3:6]), program.predict(model, _noise(seed))
    torch.testing.assert_close(few, together[3:6], atol=1e-5, rtol=1e-4)


def test_a_fresh_model_knows_nothing_yet(program, task, seed):
    _, losses = _after(program, task, seed, steps=1)
    assert losses[0] == pytest.approx(2 * math.log(2), abs=0.25)


def test_a_gradient_belongs_to_this_batch_only(program, task, seed):
    # Nothing moves, so gradients keep their size unless they pile up.
    config = {**task.small, "batch": 2500, "generator_lr": 0.0, "discriminator_lr": 0.0, "steps": 10}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, task.data(seed).train, seed, **config)
    sizes = []
    for _ in range(10):
        run.next()
        sizes.append({name: g.norm().item() for name, g in program.gradients(model).items()})
    for name, first in sizes[0].items():
        assert sizes[-1][name] < 3 * first + 1e-3, name


def test_gradients_are_the_slopes_of_what_each_player_pays(program, task, seed):
    data, noise = task.data(seed).train, _noise(seed, count=4000)
    config = {**task.small, **STILL, "batch": 2500, "penalty": 0.0}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    program.train(model, data, seed, **config).next()
    found, start = program.gradients(model), program.state(model)

    def paid(state, *losses):
        program.load_state(model, state)
        return sum(float(program.call(f"{name}_loss", model, *given)) for name, *given in losses)

    generator, discriminator = ("generator", noise), ("discriminator", data, noise)
    # what the generator's loss says of the discriminator's weights may be left in their gradients
    for still, causes in (
        ("discriminator_lr", [[generator]]),
        ("generator_lr", [[discriminator], [discriminator, generator]]),
    ):
        own = {name: found[name] for name in _movers(program, task, seed, still) & found.keys()}
        rises = [slope(lambda state, c=cause: paid({**start, **state}, *c), start, own) for cause in causes]
        assert any(rise == pytest.approx(norm(own), rel=0.15) for rise in rises)


def test_every_update_sees_other_points(program, task, seed):
    points = 30 * _real(seed)
    config = {**task.small, **STILL, "batch": 1, "steps": 40, "penalty": 0.0}
    model = program.build(seed=seed, **config)
    of_real = F.softplus(-program.call("scores", model, points))
    losses = torch.tensor(program.train(model, points, seed, **config).next(40))
    assert losses.std() > 0.5 * of_real.std()


def test_nothing_is_divided_by_a_gradient_of_zero(program, task, seed):
    model = program.build(seed=seed, **task.small)
    program.load_state(model, {n: torch.zeros_like(v) for n, v in program.state(model).items()})
    program.train(model, task.data(seed).train, seed, **task.small).next(2)
    assert all(value.isfinite().all() for value in program.state(model).values())


def test_batches_cover_each_row_once_with_nothing_left_out(program, seed):
    points = torch.arange(23.0)[:, None].expand(23, 2).contiguous()
    cfg = program.call("Config", keep=True, batch=5)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", points, cfg, rng, keep=True)
    found = [program.call_method(stream, "__next__") for _ in range(10)]
    for one_pass in (found[:5], found[5:]):
        assert [len(rows) for rows in one_pass] == [5, 5, 5, 5, 3]
        assert torch.equal(torch.cat(one_pass).sort(dim=0).values, points)
    assert not torch.equal(torch.cat(found[:5]), torch.cat(found[5:]))


def test_noise_is_normal_and_fresh_every_time(program, seed):
    program.seed(seed)
    noise = program.call("latent", 4000, LATENT, "cpu")
    assert noise.shape == (4000, LATENT)
    torch.testing.assert_close(noise.mean(dim=0), torch.zeros(LATENT), atol=0.08, rtol=0)
    torch.testing.assert_close(noise.T.cov(), torch.eye(LATENT), atol=0.12, rtol=0)
    assert noise.unique().numel() > 0.99 * noise.numel()


def test_every_point_gets_a_score_of_its_own(program, seed):
    model, points = program.build(seed=seed), _real(seed)
    together = program.call("scores", model, points)
    assert together.shape == (40,)
    torch.testing.assert_close(program.call("scores", model, points[7:9]), together[7:9])
    assert together.std() > 1e-3


@pytest.mark.parametrize("number", [0.1, -0.15])
def test_both_players_are_three_layers_with_leaks_between(program, task, seed, number):
    # every number of the model is the same, so that it does not matter how they are arranged
    model, noise, points = program.build(seed=seed, **task.small), _noise(seed), _real(seed)
    program.load_state(model, {n: torch.full_like(v, number) for n, v in program.state(model).items()})

    def expected(inputs):
        inner = F.leaky_relu(number * inputs.sum(dim=1) + number, 0.2)
        return 20 * number * F.leaky_relu(20 * number * inner + number, 0.2) + number

    drawn, scores = program.predict(model, noise), program.call("scores", model, points)
    torch.testing.assert_close(drawn, expected(noise)[:, None].expand(-1, 2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores, expected(points), atol=1e-5, rtol=1e-4)


def test_the_discriminator_pays_for_either_mistake(program, task, seed):
    model, _ = _after(program, task, seed, decay=0.0)
    real, noise = _real(seed), _noise(seed)
    of_real = program.call("scores", model, real)
    of_drawn = program.call("scores", model, program.predict(model, noise))
    expected = -(of_real.sigmoid().log().mean() + (1 - of_drawn.sigmoid()).log().mean()).item()
    found = float(program.call("discriminator_loss", model, real, noise))
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_generator_pays_for_being_found_out(program, task, seed):
    model, _ = _after(program, task, seed, decay=0.0)
    noise = _noise(seed)
    expected = -program.call("scores", model, program.predict(model, noise)).sigmoid().log().mean()
    found = float(program.call("generator_loss", model, noise))
    assert found == pytest.approx(expected.item(), rel=1e-4)


def test_the_penalty_is_the_squared_slope_of_the_scores(program, seed):
    model, real, width = program.build(seed=seed), _real(seed), 2e-3
    squared = torch.zeros(40)
    for axis in torch.eye(2):
        rise = program.call("scores", model, real + width * axis)
        fall = program.call("scores", model, real - width * axis)
        squared += ((rise - fall) / (2 * width)).square()
    found = float(program.call("slope_penalty", model, real))
    assert found == pytest.approx(0.5 * squared.mean().item(), rel=0.05)


def test_the_penalty_flattens_the_scores(program, task, seed):
    slopes = {}
    for penalty in (0.0, 2.0):
        model, _ = _after(program, task, seed, steps=60, penalty=penalty, generator_lr=0.0)
        slopes[penalty] = float(program.call("slope_penalty", model, _real(seed)))
    assert slopes[2.0] < 0.3 * slopes[0.0]


def test_a_rare_penalty_weighs_as_much_as_a_frequent_one(program, task, seed):
    rare, frequent, missing = (
        program.state(_after(program, task, seed, steps=1, penalty=penalty, penalty_every=every)[0])
        for penalty, every in ((1.0, 5), (5.0, 1), (0.0, 5))
    )
    assert all(torch.allclose(rare[name], frequent[name], atol=1e-6) for name in rare)
    assert any(not torch.allclose(rare[name], missing[name], atol=1e-4) for name in rare)


def test_each_player_changes_only_itself(program, task, seed):
    movers, others = (_movers(program, task, seed, f"{still}_lr") for still in ("generator", "discriminator"))
    assert movers
    assert others
    assert not movers & others
    assert movers | others == set(program.state(program.build(seed=seed, **task.small)))


def test_the_first_update_is_as_large_as_the_learning_rate(program, task, seed):
    rates = {"generator_lr": 2e-3, "discriminator_lr": 2.5e-3}
    for still, moves in (("generator_lr", "discriminator_lr"), ("discriminator_lr", "generator_lr")):
        for config, expected in (({}, rates[moves]), ({moves: 0.01}, 0.01)):
            changes = _changes(program, task, seed, **{still: 0.0, "decay": 0.0}, **config)
            moved = torch.cat([change.flatten() for change in changes.values()])
            assert moved[moved > 0].median().item() == pytest.approx(expected, rel=0.03)


def test_the_generator_learns_to_pass_as_real(program, task, seed):
    config = {"discriminator_lr": 0.0, "generator_lr": 0.01, "decay": 0.0}
    model = program.build(seed=seed, **task.small)
    noise = _noise(seed, count=300)
    before = program.call("scores", model, program.predict(model, noise)).mean()
    model, _ = _after(program, task, seed, steps=30, **config)
    assert program.call("scores", model, program.predict(model, noise)).mean() > before + 0.01


def test_the_discriminator_learns_to_tell_them_apart(program, task, seed):
    config = {"generator_lr": 0.0, "steps": 60}
    model, losses = _after(program, task, seed, **config)
    of_real = program.call("scores", model, _real(seed, count=300))
    of_drawn = program.call("scores", model, program.predict(model, _noise(seed, count=300)))
    assert of_real.mean() > of_drawn.mean() + 1
    assert losses[-1] < 0.7 * losses[0]


def test_the_reported_loss_is_that_of_the_discriminator(program, task, seed):
    data, config = task.data(seed).train, {**task.small, "batch": 2500, "penalty": 30.0}
    model = program.build(seed=seed, **config)
    of_real = program.call("scores", model, data)
    of_drawn = program.call("scores", model, program.predict(model, _noise(seed, count=4000)))
    expected = F.softplus(-of_real).mean() + F.softplus(of_drawn).mean()
    reported = program.train(model, data, seed, **config).next()[0]
    assert reported == pytest.approx(expected.item(), rel=0.01)


def test_noise_differs_from_update_to_update(program, task, seed):
    still = {"generator_lr": 0.0, "discriminator_lr": 0.0, "batch": 2500}
    _, losses = _after(program, task, seed, **still)
    assert len({round(loss, 7) for loss in losses}) > len(losses) / 2


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
    noise = _noise(seed)
    fresh = program.predict(program.build(seed=seed, **task.small), noise)
    still, _ = _after(program, task, seed, decay=1.0)
    slow, _ = _after(program, task, seed, decay=0.9)
    newest, _ = _after(program, task, seed, decay=0.0)
    assert torch.equal(program.predict(still, noise), fresh)
    drift = (program.predict(newest, noise) - fresh).norm()
    assert 0.1 * drift < (program.predict(slow, noise) - fresh).norm() < 0.8 * drift


def test_drawn_points_reach_the_spots_of_the_ring(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    before = task.measure(program, model, data.held_out).metric
    program.train(model, data.train, seed).next(task.steps)
    drawn = program.predict(model, data.held_out["noise"])
    assert drawn.norm(dim=1).median().item() == pytest.approx(2.0, abs=0.2)
    assert spots_hit(drawn) >= 7
    assert task.measure(program, model, data.held_out).metric < 0.1 * before
