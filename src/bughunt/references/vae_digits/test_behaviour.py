"""What any correct variational autoencoder does, whoever wrote it."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from bughunt.references.copies import copy_of
from bughunt.references.slope import slope_of_report
from bughunt.references.vae_digits.task import LATENT, negative_elbo


def _run(program, task, seed, model=None, **config):
    """A model after a short run, the losses, and the data."""
    config = {**task.small, **config}
    data = task.data(seed)
    model = program.build(seed=seed, **config) if model is None else model
    losses = program.train(model, data.train, seed, **config).next(config["steps"])
    return model, losses, data


def _copy(program, task, seed):
    """A model of its own with the weights that a short run has left, and the data."""
    learnt, _, data = _run(program, task, seed)
    return copy_of(program, learnt, seed, **task.small), data


def _noise(seed, count=40):
    return torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed))


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_run(program, task, seed, steps=20)[1] for _ in range(2))
    assert first == second


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed))
    after = program.state(_run(program, task, seed, steps=3)[0])
    for name in before:
        assert not torch.equal(before[name], after[name]), name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _, data = _run(program, task, seed, steps=5)
    before, images = program.state(model), data.held_out["images"]
    assert torch.equal(program.predict(model, _noise(seed)), program.predict(model, _noise(seed)))
    for one, other in zip(*(program.call("encode", model, images) for _ in range(2)), strict=True):
        assert torch.equal(one, other)
    for name, value in program.state(model).items():
        assert torch.equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _, data = _run(program, task, seed, steps=5)
    noise, images = _noise(seed), data.held_out["images"]
    few, all_ = program.predict(model, noise[3:6]), program.predict(model, noise)
    assert torch.allclose(few, all_[3:6], atol=1e-3)
    for part, whole in zip(
        program.call("encode", model, images[3:6]),
        program.call("encode", model, images),
        strict=True,
    ):
        assert torch.allclose(part, whole[3:6], atol=1e-5)


def test_a_fresh_model_knows_nothing_yet(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    mu, logvar = program.call("encode", model, data.held_out["images"])
    assert mu.abs().max() < 1.5
    assert logvar.abs().max() < 1.5
    bound = negative_elbo(program, model, **data.held_out)
    assert bound == pytest.approx(64 * math.log(2), abs=2.5)  # every pixel a coin, no information


def test_a_gradient_belongs_to_this_batch_only(program, task, seed):
    # The weights are put back before every update, so gradients keep their size unless they pile up.
    config = {**task.small, "warmup": 1, "batch": 500}
    model = program.build(seed=seed, **config)
    start = program.state(model)
    program.watch_gradients(model, True)
    run = program.train(model, task.data(seed).train, seed, **config)
    sizes = []
    for _ in range(6):
        program.load_state(model, start)
        run.next()
        sizes.append(torch.cat([g.flatten() for g in program.gradients(model).values()]).norm())
    assert max(sizes) < 1.5 * min(sizes)


def test_the_gradient_is_the_slope_of_the_reported_loss(program, task, seed):
    data, config = task.data(seed).train[:200], {**task.small, "warmup": 1, "batch": 200}
    model = program.build(seed=seed, **config)
    found, length = slope_of_report(program, model, data, seed, config, same_draws=True)
    assert found == pytest.approx(length, rel=0.05)


def test_every_image_is_shown_once_before_any_comes_again(program, task, seed):
    # Nothing is learned; of ten images one is all ink, which a model of digits finds unlikely.
    model, data = _copy(program, task, seed)
    images = data.train[:10].clone()
    images[3] = 255
    losses = program.train(model, images, seed, batch=1, peak_lr=0.0, steps=60).next(60)
    ranked = sorted(range(60), key=lambda step: -losses[step])[:6]
    assert sorted(step // 10 for step in ranked) == list(range(6))
    assert len({step % 10 for step in ranked}) > 1


def test_both_networks_bend_but_are_straight_in_between(program, seed):
    # Along a line eight rectified units bend at most eight times, and a bend shows at two points.
    model = program.build(seed=seed, hidden=8)
    places = torch.linspace(-3, 3, 61)
    line = places[:, None, None] * 255 * torch.rand(8, 8, generator=torch.Generator().manual_seed(seed))
    ends = [program.call("encode", model, line)[0], program.call("encode", model, line)[1]]
    ends.append(program.call("decode", model, places[:, None] * _noise(seed, 1)))
    for found in ends:
        flat = found.flatten(1).double()
        bends = (flat[2:] - 2 * flat[1:-1] + flat[:-2]).abs().amax(dim=1)
        assert (bends > 1e-3).any()
        assert (bends > 1e-5).sum() <= 16


def test_the_weights_are_those_of_five_layers(program):
    model = program.build(seed=0, hidden=20, latent=3)
    state, layers = program.state(model), ((64, 20), (20, 3), (20, 3), (3, 20), (20, 64))
    count = sum(state[name].numel() for name in program.parameters(model))
    assert count == sum(inputs * outputs + outputs for inputs, outputs in layers)


def test_the_divergence_agrees_with_the_one_in_pytorch(program, seed):
    mu, logvar = _noise(seed), _noise(seed + 1)
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(dim=-1)
    found = program.call("kl", mu, logvar)
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.equal(program.call("kl", mu * 0, logvar * 0), torch.zeros(len(mu)))


def test_codes_have_the_mean_and_spread_of_their_cloud(program, seed):
    mu = torch.tensor([-1.0, 0.0, 2.0])
    logvar = torch.tensor([-2.0, 0.0, 1.5])
    program.seed(seed)
    codes = program.call("reparameterise", mu.expand(20000, 3), logvar.expand(20000, 3))
    deviation = (logvar / 2).exp()
    assert torch.allclose(codes.mean(0), mu, atol=0.08)
    assert torch.allclose(codes.std(0) / deviation, torch.ones(3), atol=0.04)
    correlation = torch.corrcoef(codes.T) - torch.eye(3)
    assert correlation.abs().max() < 0.05


def test_every_code_gets_noise_of_its_own(program, seed):
    program.seed(seed)
    codes = program.call("reparameterise", torch.zeros(50, LATENT), torch.zeros(50, LATENT))
    assert codes.unique().numel() > 0.97 * codes.numel()  # two may be equal by chance


def test_the_loss_is_the_bound_summed_over_pixels_and_codes(program, task, seed):
    # A trained model, all images in one batch: the first loss is the bound of the weights given.
    model, data = _copy(program, task, seed)
    noise = _noise(seed, count=len(data.train))
    expected = negative_elbo(program, model, data.train, noise)
    program.seed(seed)
    reported = _run(program, task, seed, model, batch=len(data.train), warmup=1, steps=1)[1][0]
    assert reported == pytest.approx(expected, rel=0.02)


def test_the_divergence_is_weighed_in_gradually(program, task, seed):
    model, data = _copy(program, task, seed)
    state, losses = program.state(model), {}
    for warmup in (1, 1000):
        program.load_state(model, state)
        program.seed(seed)
        config = {"batch": len(data.train), "warmup": warmup, "steps": 1}
        losses[warmup] = _run(program, task, seed, model, **config)[1][0]
    program.load_state(model, state)
    mu, logvar = program.call("encode", model, data.train)
    whole = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(dim=-1).mean()
    assert losses[1] - losses[1000] == pytest.approx(whole.item(), rel=0.1)


def test_codes_of_unlike_images_lie_apart(program, task, seed):
    model, _, data = _run(program, task, seed)
    mu, _ = program.call("encode", model, data.held_out["images"])
    assert (mu.std(dim=0) > 0.5).sum() >= 2


def test_clouds_narrow_where_they_carry_something(program, task, seed):
    model, _, data = _run(program, task, seed)
    mu, logvar = program.call("encode", model, data.held_out["images"])
    spread = logvar.exp().mean(dim=0)
    assert (spread[mu.std(dim=0) > 0.6] < 0.8).all()
    assert spread.min() < 0.4
    # over all images the codes fill the prior: variance of the means plus mean of the variances
    assert (mu.var(dim=0) + spread).mean().item() == pytest.approx(1.0, abs=0.3)


def test_drawn_images_are_as_grey_as_the_decoder_says(program, task, seed):
    model, _, _ = _run(program, task, seed, steps=20)
    noise = _noise(seed)
    chances = program.call("decode", model, noise).sigmoid()
    images = program.predict(model, noise)
    assert images.shape == (len(noise), 8, 8)
    assert torch.allclose(images, 255 * chances, atol=0.05)


def test_drawn_images_resemble_the_digits_on_average(program, task, seed):
    model, _, data = _run(program, task, seed)
    drawn = program.predict(model, _noise(seed, count=500)).mean(dim=0)
    pair = torch.stack([drawn.flatten(), data.train.float().mean(dim=0).flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.9
    assert drawn.mean() == pytest.approx(pair[1].mean().item(), rel=0.25)


def test_drawn_images_differ_from_one_another(program, task, seed):
    model, _, data = _run(program, task, seed)
    drawn = program.predict(model, _noise(seed, count=500)).std(dim=0).mean()
    assert drawn > 0.3 * data.train.float().std(dim=0).mean()


def test_it_learns_more_than_the_average_image(program, task, seed):
    model, _, data = _run(program, task, seed)
    images = data.held_out["images"].float() / 255
    average = (data.train.float() / 255).mean(dim=0).clamp(1e-3, 1 - 1e-3)
    each = images * average.log() + (1 - images) * (1 - average).log()
    baseline = -each.flatten(1).sum(dim=1).mean().item()
    assert negative_elbo(program, model, **data.held_out) < baseline - 1
