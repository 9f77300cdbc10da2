"""What any correct input pipeline and its reader do, whoever wrote them."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.packs import packs
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task

ROWS = 60
PLAIN = {"turn": 0.0, "stretch": 0.0, "shift": 0.0, "contrast": 0.0, "hole_share": 0.0}


def settings(program: Program, **config: object) -> Model:
    return program.call("Config", keep=True, **config)


def seeded(program: Program, seed: int) -> Model:
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    return rng


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, packs(ROWS, seed), seed, **config).next(100)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def images_of(pack: dict[str, Tensor]) -> list[Tensor]:
    """Bytes [H, W, 3] of each image, taken out one after the other."""
    found, start = [], 0
    for height, width in pack["shapes"].tolist():
        found.append(pack["bytes"][start : start + 3 * height * width].reshape(height, width, 3))
        start += 3 * height * width
    return found


def decoded(pack: dict[str, Tensor], side: int = 14) -> Tensor:
    sized = [
        F.interpolate(one.permute(2, 0, 1)[None].float() / 255, (side, side), mode="bilinear")
        for one in images_of(pack)
    ]
    return torch.cat(sized)


def looks(program: Program, seed: int, name: str, count: int = 300, **config: object) -> Tensor:
    """Where each of many drawings takes its pixels from, as matrices [N, 2, 3] around the middle."""
    cfg = settings(program, **{**PLAIN, **config})
    axis = (torch.arange(14) + 0.5) / 7 - 1
    ramp = torch.stack([axis.expand(14, 14), axis[:, None].expand(14, 14), torch.zeros(14, 14)])
    seen = program.call(name, ramp.expand(count, 3, 14, 14).contiguous(), cfg, seeded(program, seed))
    inner = seen[:, :2, 5:9, 5:9].flatten(2)  # [N, 2, 16]
    known = torch.cat([ramp[:2, 5:9, 5:9].flatten(1), torch.ones(1, 16)]).T
    return torch.linalg.lstsq(known.expand(count, -1, -1), inner.transpose(1, 2)).solution.transpose(1, 2)


def test_images_come_out_as_they_were_packed(program: Program, seed: int) -> None:
    pack = packs(9, seed)
    found = program.call("codec.unpack", {"bytes": pack["bytes"], "shapes": pack["shapes"]})
    assert all(torch.equal(one, other) for one, other in zip(found, images_of(pack), strict=True))
    light = program.call("codec.channels_first", found[0])
    height, width = pack["shapes"][0].tolist()
    assert light.shape == (3, height, width)
    assert torch.allclose(light[1, 2, 3], found[0][2, 3, 1] / 255)
    assert torch.allclose(light[2, height - 1, 0], found[0][height - 1, 0, 2] / 255)


@pytest.mark.parametrize("shape", [(12, 17), (14, 14), (5, 9), (30, 6)], ids=str)
def test_resizing_agrees_with_the_one_in_pytorch(program: Program, seed: int, shape: tuple[int, int]) -> None:
    image = noise(seed, 3, *shape)
    expected = F.interpolate(image[None], (14, 14), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(program.call("codec.resize", image, 14), expected, atol=1e-5, rtol=1e-4)


def test_statistics_are_those_of_each_colour(program: Program, seed: int) -> None:
    images = noise(seed, 20, 3, 4, 4) * torch.tensor([1.0, 2.0, 0.5])[:, None, None] + 0.3
    mean, std = program.call("transforms.channel_statistics", images)
    for colour in range(3):
        assert float(mean[colour]) == pytest.approx(float(images[:, colour].mean()), rel=1e-4)
        assert float(std[colour]) == pytest.approx(float(images[:, colour].std()), rel=0.01)
    scaled = program.call("transforms.normalise", images, mean, std)
    torch.testing.assert_close(scaled.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(dim=(0, 2, 3)), torch.ones(3), atol=0.01, rtol=0)


def test_the_scale_is_that_of_the_training_rows(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    program.predict(model, packs(5, seed + 1))
    seen = decoded(packs(ROWS, seed))
    state = program.state(model)
    kept = [v.flatten() for n, v in state.items() if n not in program.parameters(model) and v.numel() == 3]
    assert any(torch.allclose(v, seen.mean(dim=(0, 2, 3)), atol=1e-4, rtol=0) for v in kept)
    assert any(torch.allclose(v, seen.std(dim=(0, 2, 3)), atol=1e-3, rtol=0) for v in kept)


def test_without_any_spread_the_drawing_is_the_image(program: Program, seed: int) -> None:
    images = noise(seed, 6, 3, 14, 14)
    found = program.call("transforms.for_training", images, settings(program, **PLAIN), seeded(program, seed))
    torch.testing.assert_close(found, images, atol=1e-5, rtol=1e-4)


def test_every_drawing_is_turned_scaled_and_shifted_in_its_own_way(program: Program, seed: int) -> None:
    found = looks(program, seed, "transforms.random_warp", turn=0.2, stretch=0.1, shift=0.12)
    scale = found[:, :, :2].det().sqrt()
    angle = torch.atan2(found[:, 1, 0] - found[:, 0, 1], found[:, 0, 0] + found[:, 1, 1])
    torch.testing.assert_close(found[:, 0, 0], found[:, 1, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[:, 0, 1], -found[:, 1, 0], atol=1e-3, rtol=0)
    for most, value in ((0.2, angle), (0.1, scale - 1), (0.12, found[:, 0, 2]), (0.12, found[:, 1, 2])):
        assert float(value.abs().max()) <= most + 1e-3
        assert float(value.std()) == pytest.approx(most / math.sqrt(3), rel=0.15)
        assert abs(float(value.mean())) <= 0.15 * most
    both = torch.stack([angle, scale, found[:, 0, 2], found[:, 1, 2]])
    assert (torch.corrcoef(both) - torch.eye(4)).abs().max() <= 0.25


def test_what_comes_in_from_outside_repeats_the_edge(program: Program, seed: int) -> None:
    images = noise(seed, 3, 3, 14, 14)
    still, away = torch.zeros(3), torch.tensor([[2 / 7, 0.0], [0.0, -4 / 7], [0.0, 0.0]])
    found = program.call("transforms.warp", images, still, still + 1, away)
    right = torch.cat([images[0, :, :, 2:], images[0, :, :, -1:].expand(-1, -1, 2)], dim=2)
    down = torch.cat([images[1, :, :1].expand(-1, 4, -1), images[1, :, :-4]], dim=1)
    expected = torch.stack([right, down, images[2]])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_contrast_keeps_the_mean_and_the_range(program: Program, seed: int) -> None:
    images = 0.4 + 0.2 * noise(seed, 300, 3, 14, 14)
    cfg = settings(program, contrast=0.4)
    found = program.call("transforms.random_contrast", images, cfg, seeded(program, seed))
    mean = images.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(found.mean(dim=(2, 3), keepdim=True), mean, atol=1e-4, rtol=0)
    factors = ((found - mean) * (images - mean)).sum(dim=(2, 3)) / (images - mean).square().sum(dim=(2, 3))
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 3), atol=1e-3, rtol=0)
    assert 0.6 - 1e-3 <= float(factors.min()) <= 0.65
    assert 1.35 <= float(factors.max()) <= 1.4 + 1e-3
    wild = program.call("transforms.random_contrast", noise(seed, 50, 3, 14, 14), cfg, seeded(program, seed))
    assert float(wild.min()) >= 0
    assert float(wild.max()) <= 1


def test_holes_are_squares_within_some_of_the_images(program: Program, seed: int) -> None:
    images = noise(seed, 400, 3, 14, 14)
    cfg = settings(program, hole=5, hole_share=0.3)
    found = program.call("transforms.random_hole", images, cfg, seeded(program, seed))
    gone = (found != images).all(dim=1)  # [N, S, S]
    holed = gone.flatten(1).any(dim=1)
    assert float(holed.double().mean()) == pytest.approx(0.3, abs=0.1)
    assert torch.equal(gone[holed].sum(dim=(1, 2)), torch.full((int(holed.sum()),), 25))
    corners = set()
    for one, image, old in zip(gone[holed], found[holed], images[holed], strict=True):
        rows, columns = one.any(dim=1).nonzero().flatten(), one.any(dim=0).nonzero().flatten()
        assert len(rows) == len(columns) == 5
        corners.add((int(rows[0]), int(columns[0])))
        torch.testing.assert_close(image[:, rows[0], columns[0]], old.mean(dim=(1, 2)))
    assert {0, 9} <= {row for row, _ in corners}
    assert {0, 9} <= {column for _, column in corners}
    assert any(row != column for row, column in corners)


def test_operations_leave_their_inputs_as_they_were(program: Program, seed: int) -> None:
    images = noise(seed, 20, 3, 14, 14)
    held = program.call("torch.clone", images, keep=True)
    cfg = settings(program, hole_share=1.0)
    for name in ("random_contrast", "random_warp", "random_hole", "for_training"):
        program.call(f"transforms.{name}", held, cfg, seeded(program, seed))
        assert torch.equal(program.call_method(held, "clone"), images), name


def test_the_hole_comes_after_the_warp(program: Program, seed: int) -> None:
    images = noise(seed, 60, 3, 14, 14)
    cfg = settings(program, hole_share=1.0, turn=0.5, contrast=0.0)
    found = program.call("transforms.for_training", images, cfg, seeded(program, seed))
    flat = 0
    for image in found:
        windows = image.unfold(1, 4, 1).unfold(2, 4, 1).flatten(3)  # [3, 11, 11, 16]
        flat += bool((windows.std(dim=3) < 1e-5).all(dim=0).any())
    assert flat == 60


def test_workers_draw_differently_and_differently_in_every_pass(program: Program, seed: int) -> None:
    def draws(rng: Model) -> list[float]:
        team = program.call("loader.crew", 4, rng, keep=True)
        workers = [program.call_method(team, "__getitem__", k, keep=True) for k in range(4)]
        return [float(program.call("torch.rand", 1, generator=worker)) for worker in workers]

    rng = seeded(program, seed)
    first, second = draws(rng), draws(rng)
    assert len({*first, *second}) == 8
    assert draws(seeded(program, seed)) == first


def test_batches_of_a_pass_are_not_augmented_alike(program: Program, seed: int) -> None:
    images = noise(seed, 1, 3, 14, 14).expand(24, -1, -1, -1).contiguous()
    cfg = settings(program, batch=4, workers=2)
    stream = program.call("loader.one_pass", images, torch.arange(24), cfg, seeded(program, seed), keep=True)
    seen = torch.cat([program.call_method(stream, "__next__")[0] for _ in range(6)])
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 24


def test_batches_cover_each_row_once_with_its_own_label(program: Program, seed: int) -> None:
    labels = torch.arange(23)
    images = (labels.float() / 23).reshape(-1, 1, 1, 1).expand(-1, 3, 14, 14).contiguous()
    rng, cfg, orders = seeded(program, seed), settings(program, batch=5), []
    for _ in range(2):
        stream = program.call("loader.one_pass", images, labels, cfg, rng, keep=True)
        found = [program.call_method(stream, "__next__") for _ in range(5)]
        for seen, own in found:
            torch.testing.assert_close(seen.mean(dim=(1, 2, 3)), own / 23, atol=1e-4, rtol=0)
        orders.append(torch.cat([own for _, own in found]))
        assert torch.equal(orders[-1].sort().values, labels)
        assert not torch.equal(orders[-1], labels)
    assert not torch.equal(orders[0], orders[1])


def test_rows_to_be_read_are_looked_at_from_three_sides(program: Program) -> None:
    axis = (torch.arange(14) + 0.5) / 7 - 1
    ramp = torch.stack([axis.expand(14, 14), axis[:, None].expand(14, 14), axis.expand(14, 14)])[None]
    found = program.call("transforms.views", ramp, settings(program, tilt=0.2))
    slopes = sorted(float((one[0, 0, 9, 7] - one[0, 0, 4, 7]) / (5 / 7)) for one in found)
    assert slopes == pytest.approx([-math.sin(0.2), 0.0, math.sin(0.2)], abs=1e-3)
    assert torch.allclose(found[0], ramp)


def test_answers_are_the_mean_chance_over_all_views(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed, steps=20, peak_lr=0.02)
    pack = packs(12, seed + 1)
    program.train_mode(model, False)
    views = program.call("transforms.views", decoded(pack), settings(program))
    chances = [program.call_method(model, "__call__", view).softmax(dim=1) for view in views]
    found = program.predict(model, pack)
    torch.testing.assert_close(found.exp(), sum(chances) / 3, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(12))


def test_the_network_normalises_what_it_is_given(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    images = noise(seed, 5, 3, 14, 14)
    program.train_mode(model, False)
    base = program.call_method(model, "__call__", images)
    state = program.state(model)
    kept = {n: v for n, v in state.items() if n not in program.parameters(model) and v.numel() == 3}
    middle = decoded(packs(ROWS, seed)).mean(dim=(0, 2, 3))
    mean, std = sorted(kept, key=lambda name: float((kept[name].flatten() - middle).abs().max()))
    scaled = (images - kept[mean].view(3, 1, 1)) / kept[std].view(3, 1, 1)
    program.load_state(model, {mean: torch.zeros_like(kept[mean]), std: torch.ones_like(kept[std])})
    torch.testing.assert_close(program.call_method(model, "__call__", scaled), base, atol=1e-4, rtol=1e-3)


def test_answers_are_those_of_the_same_layers_put_together_by_hand(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    state = program.state(model)
    (name,) = [name for name, value in state.items() if value.dim() == 2]
    head = noise(seed, *state[name].shape) - 0.5
    program.load_state(model, {name: head})
    program.train_mode(model, False)
    x = noise(seed, 5, 3, 14, 14)
    found = program.call_method(model, "__call__", x)
    for shape in ((12, 3, 3, 3), (20, 12, 3, 3), (28, 20, 3, 3)):
        (kernel,) = [value for value in state.values() if value.shape == shape]
        x = F.conv2d(x if shape[1] == 3 else F.max_pool2d(x, 2), kernel, padding=1)
        x = torch.relu(x / math.sqrt(1 + 1e-5))  # what a norm does that has not seen anything
    torch.testing.assert_close(found, x.flatten(1) @ head.T, atol=1e-4, rtol=1e-3)


def test_the_reported_loss_is_that_of_the_batch(program: Program, seed: int) -> None:
    cfg = {**PLAIN, "batch": ROWS, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    pack = packs(ROWS, seed)
    width = next(v for v in program.state(model).values() if v.dim() == 2).shape
    head = next(n for n, v in program.state(model).items() if v.shape == width)
    program.load_state(model, {head: 0.2 * noise(seed, *width)})
    (reported,) = program.train(model, pack, seed, **cfg).next()
    program.train_mode(model, True)
    logits = program.call_method(model, "__call__", decoded(pack))
    assert reported == pytest.approx(float(F.cross_entropy(logits, pack["labels"])), rel=1e-3)


def test_a_fresh_model_has_no_opinion(program: Program, seed: int) -> None:
    answers = program.predict(program.build(seed=seed), packs(20, seed))
    assert (answers + math.log(10)).abs().max() <= 0.05


def test_hidden_weights_start_on_the_scale_of_their_inputs(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    state = program.state(model)
    kernels = [state[name] for name in program.parameters(model) if state[name].dim() == 4]
    assert len(kernels) == 3
    for kernel in kernels:
        expected = math.sqrt(2 / kernel[0].numel())
        assert kernel.std().item() == pytest.approx(expected, rel=3 / math.sqrt(kernel.numel()))


def test_the_rate_climbs_to_its_peak_and_falls_along_half_a_cosine(program: Program) -> None:
    cfg = settings(program, steps=25, warmup=5, peak_lr=0.4)
    found = [program.call("learning_rate", step, cfg) for step in range(25)]
    expected = [0.08, 0.16, 0.24, 0.32, 0.4] + [0.2 * (1 + math.cos(math.pi * k / 20)) for k in range(20)]
    assert found == pytest.approx(expected, rel=1e-6)


def test_updates_are_those_of_torch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "steps": 8, "peak_lr": 0.01, "weight_decay": 0.5}
    model, handle = program.build(seed=seed, **cfg), settings(program, **cfg)
    program.watch_gradients(model, True)
    state = program.state(model)
    params = {n: torch.nn.Parameter(state[n]) for n in program.parameters(model)}
    groups = [
        {"params": [p for p in params.values() if p.dim() > 1], "weight_decay": 0.5},
        {"params": [p for p in params.values() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    oracle = torch.optim.AdamW(groups, lr=0.01)
    run = program.train(model, packs(ROWS, seed), seed, **cfg)
    for step in range(4):
        run.next()
        for name, gradient in program.gradients(model).items():
            params[name].grad = gradient
        for group in oracle.param_groups:
            group["lr"] = program.call("learning_rate", step, handle)
        oracle.step()
    after = program.state(model)
    for name, parameter in params.items():
        torch.testing.assert_close(after[name], parameter.detach(), atol=1e-4, rtol=1e-3)


def test_the_gradient_is_the_slope_of_the_reported_loss(program: Program, seed: int) -> None:
    cfg = {**PLAIN, "batch": ROWS, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    found, length = slope_of_report(program, model, packs(ROWS, seed), seed, cfg, same_draws=True)
    assert found == pytest.approx(length, rel=0.05)


def test_the_running_statistics_follow_what_the_network_sees(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, **PLAIN, "batch": 20, "peak_lr": 0.0, "steps": 60}
    model, pack = program.build(seed=seed, **cfg), packs(20, seed)
    ((name, head),) = [(n, v) for n, v in program.state(model).items() if v.dim() == 2]
    program.load_state(model, {name: 0.1 * noise(seed, *head.shape)})
    program.train(model, pack, seed, **cfg).next(60)
    answers = []
    for training in (True, False):
        program.train_mode(model, training)
        answers.append(program.call_method(model, "__call__", decoded(pack)))
    torch.testing.assert_close(*answers, atol=0.03, rtol=0.03)


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    cfg = {**PLAIN, "batch": ROWS, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, packs(ROWS, seed), seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next()
    for name, gradient in program.gradients(model).items():
        torch.testing.assert_close(gradient, first[name], atol=1e-5, rtol=1e-3)


def test_every_parameter_moves(program: Program, task: Task, seed: int) -> None:
    before = program.state(program.build(seed=seed, **task.small))
    after = program.state(trained(program, task, seed, weight_decay=0.0)[0])
    assert all(not torch.equal(after[name], before[name]) for name in before)


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed, steps=12)
    pack = packs(8, seed + 1)
    sizes = [3 * h * w for h, w in pack["shapes"].tolist()]
    alone = [
        program.predict(model, {"bytes": part, "shapes": pack["shapes"][row : row + 1]})
        for row, part in enumerate(pack["bytes"].split(sizes))
    ]
    torch.testing.assert_close(program.predict(model, pack), torch.cat(alone), atol=1e-4, rtol=1e-3)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    before, pack, answers = program.state(model), packs(12, seed + 1), []
    for offset in range(2):
        program.train_mode(model, True)
        program.seed(seed + offset)
        answers.append(program.predict(model, pack))
    assert torch.equal(answers[0], answers[1])
    assert all(torch.equal(before[name], value) for name, value in program.state(model).items())


def test_measuring_between_updates_changes_nothing(program: Program, task: Task, seed: int) -> None:
    data, asked, losses = packs(ROWS, seed), packs(4, seed + 1), []
    for measure in (False, True):
        model = program.build(seed=seed, **task.small)
        run = program.train(model, data, seed, **task.small)
        losses.append([])
        for _ in range(6):
            losses[-1] += run.next()
            if measure:
                program.predict(model, asked)
    assert losses[0] == losses[1]


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    curves = []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **task.small)
        curves.append(program.train(model, packs(ROWS, seed), rng, **task.small).next(100))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == task.small["steps"]


def test_it_learns_to_read_rows_that_it_has_not_seen(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(task.steps)
    assert task.measure(program, model, data.held_out).curve <= 0.9
