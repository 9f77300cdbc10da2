"""What a right `resnet-mini` does, however it is written."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task

ROWS = 70
SMALL = {"steps": 8, "batch": 16, "channels": (6, 10)}
WHOLE = {**SMALL, "batch": 1000}


def trained(program: Program, seed: int, steps: int = 8) -> tuple[Model, dict[str, Tensor]]:
    data = glyphs(ROWS, seed)
    model = program.build(seed=seed, **SMALL)
    program.train(model, data, seed, **SMALL).next(steps)
    return model, data


def same_state(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(program: Program, name: str, *sizes: int) -> Model:
    program.seed(0)
    return program.call(name, *sizes, keep=True)


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (3, 1, 0), (5, 2, 2)]
)
def test_the_convolution_agrees_with_the_one_in_pytorch(
    program: Program, seed: int, size: int, stride: int, padding: int
) -> None:
    x, weight = draw(seed, 3, 4, 9, 7), draw(seed + 1, 5, 4, size, size)
    found = program.call("convolve", x, weight, stride, padding)
    expected = F.conv2d(x, weight, stride=stride, padding=padding)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_batch_norm_agrees_with_the_one_in_pytorch(program: Program, seed: int) -> None:
    cfg = program.call("Config", keep=True, momentum=0.3, eps=1e-3)
    ours = layer(program, "BatchNorm", 4, cfg)
    oracle = torch.nn.BatchNorm2d(4, momentum=0.3, eps=1e-3)
    scale, shift = draw(seed, 4), draw(seed + 1, 4)
    fresh = program.state(ours)
    program.load_state(ours, {n: scale if fresh[n].all() else shift for n in program.parameters(ours)})
    oracle.load_state_dict({**oracle.state_dict(), "weight": scale, "bias": shift})
    size = torch.tensor([0.01, 1.0, 3.0, 10.0]).reshape(4, 1, 1)
    for step in range(3):
        x = size * (draw(seed + step, 3, 4, 2, 3) + 1)
        found = program.call_method(ours, "__call__", x)
        torch.testing.assert_close(found, oracle(x).detach(), atol=1e-4, rtol=1e-4)
    program.train_mode(ours, False)
    oracle.eval()
    x = draw(seed + 9, 3, 4, 2, 3)
    found = program.call_method(ours, "__call__", x)
    torch.testing.assert_close(found, oracle(x).detach(), atol=1e-4, rtol=1e-4)


def test_a_fresh_block_passes_on_what_it_is_given(program: Program, seed: int) -> None:
    cfg = program.call("Config", keep=True)
    block = layer(program, "Block", 6, 6, 1, cfg)
    x = draw(seed, 2, 6, 5, 5)
    found = program.call_method(block, "__call__", x)
    torch.testing.assert_close(found, x.relu())


def test_a_block_that_changes_the_shape_projects_the_way_around(program: Program, seed: int) -> None:
    cfg = program.call("Config", keep=True)
    block = layer(program, "Block", 4, 10, 2, cfg)
    x = draw(seed, 8, 4, 7, 7)
    found = program.call_method(block, "__call__", x)
    assert found.shape == (8, 10, 4, 4)
    (kernel,) = [v for v in program.state(block).values() if v.shape == (10, 4, 1, 1)]
    way = F.conv2d(x, kernel, stride=2)
    expected = F.batch_norm(way, None, None, training=True).relu()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_a_trained_block_adds_to_the_way_around(program: Program, seed: int) -> None:
    cfg = program.call("Config", keep=True)
    block = layer(program, "Block", 6, 6, 1, cfg)
    program.train_mode(block, False)
    fresh, x = program.state(block), draw(seed, 2, 6, 5, 5).abs() + 100.0
    found = []
    for name in program.parameters(block):
        if fresh[name].any():
            continue
        program.load_state(block, {**fresh, name: torch.ones_like(fresh[name])})
        added = program.call_method(block, "__call__", x) - x
        found += [added] if added.std() > 1e-3 else []  # a shift of a norm adds the same everywhere
    one, other = (v for v in fresh.values() if v.dim() == 4)
    assert len(found) == 1
    assert any(
        torch.allclose(x + found[0], (x + added_by(first, second, x)).relu(), atol=1e-2, rtol=1e-3)
        for first, second in ((one, other), (other, one))
    )


def added_by(first: Tensor, second: Tensor, x: Tensor) -> Tensor:
    """What two kernels make of maps, with norms that have not seen anything."""
    y = F.conv2d(x, first, padding=1) / math.sqrt(1 + 1e-5)
    return F.conv2d(y.relu(), second, padding=1) / math.sqrt(1 + 1e-5)


def test_the_network_has_one_set_of_weights_a_block(program: Program, seed: int) -> None:
    model = program.build(seed=seed, channels=(6, 6, 10))
    state = program.state(model)
    count = sum(state[name].numel() for name in program.parameters(model))
    stem = 6 * 9 + 12
    alike = 2 * (6 * 6 * 9 + 12)
    assert count == stem + alike + (alike + 6 * 6 + 12) + (10 * 6 * 9 + 10 * 10 * 9 + 10 * 6 + 3 * 20) + 110


def test_the_learning_rate_climbs_and_then_follows_a_cosine(program: Program) -> None:
    cfg = program.call("Config", keep=True, steps=80, rise=0.25, peak_lr=0.6)
    found = [program.call("learning_rate", step, cfg) for step in range(80)]
    climb = [0.6 * k / 21 for k in range(1, 21)]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)
    fall = []
    for _ in range(60):
        fall.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(climb + fall, rel=1e-5, abs=1e-9)


def test_the_training_follows_schedule_and_optimiser(program: Program, seed: int) -> None:
    cfg = {**SMALL, "peak_lr": 0.1, "inertia": 0.8, "weight_decay": 0.05}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    handle = program.call("Config", keep=True, **cfg)
    before = program.state(model)
    names = program.parameters(model)
    params = {n: torch.nn.Parameter(before[n]) for n in names}
    groups = [
        {"params": [p for p in params.values() if p.dim() > 1], "weight_decay": 0.05},
        {"params": [p for p in params.values() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    oracle = torch.optim.SGD(groups, lr=0.1, momentum=0.8, nesterov=True)
    run = program.train(model, glyphs(ROWS, seed), seed, **cfg)
    for step in range(4):
        run.next()
        for name, gradient in program.gradients(model).items():
            params[name].grad = gradient
        for group in oracle.param_groups:
            group["lr"] = program.call("learning_rate", step, handle)
        oracle.step()
    after = program.state(model)
    for name in names:
        expected = params[name].detach()
        torch.testing.assert_close(after[name], expected, atol=1e-5, rtol=1e-4)


def test_the_gradient_is_the_slope_of_the_reported_loss(program: Program, seed: int) -> None:
    cfg = {**WHOLE, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    lively = {n: v + 0.1 * draw(seed + k, *v.shape) for k, (n, v) in enumerate(program.state(model).items())}
    program.load_state(model, {name: lively[name] for name in program.parameters(model)})
    found, length = slope_of_report(program, model, glyphs(ROWS, seed), seed, cfg)
    assert found == pytest.approx(length, rel=0.05)


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    cfg = {**WHOLE, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, glyphs(ROWS, seed), seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next(2)
    third = program.gradients(model)
    assert set(first) == set(program.parameters(model))
    for name in first:
        torch.testing.assert_close(first[name], third[name], atol=1e-5, rtol=1e-3)


def test_a_fresh_model_has_no_opinion(program: Program, task: Task, seed: int) -> None:
    model = program.build(seed=seed)
    first = program.train(model, task.data(seed).train, seed).next()[0]
    assert abs(first - math.log(10)) <= 0.1


def test_hidden_weights_start_on_the_scale_of_their_inputs(program: Program, seed: int) -> None:
    state = program.state(program.build(seed=seed))
    kernels = [v for v in state.values() if v.dim() == 4]
    assert len(kernels) == 9
    for kernel in kernels:
        expected = math.sqrt(2 / kernel[0].numel())
        assert kernel.std().item() == pytest.approx(expected, rel=3 / math.sqrt(kernel.numel()))


def test_the_head_starts_small_and_unlike(program: Program, seed: int) -> None:
    (head,) = [value for value in program.state(program.build(seed=seed)).values() if value.dim() == 2]
    assert 0 < head.std() < 0.1
    assert head.unique().numel() > 0.9 * head.numel()


def test_every_parameter_moves(program: Program, seed: int) -> None:
    cfg = {**SMALL, "weight_decay": 0.0}
    model = program.build(seed=seed, **cfg)
    before = program.state(model)
    program.train(model, glyphs(ROWS, seed), seed, **cfg).next(8)
    after = program.state(model)
    assert all((after[n] - before[n]).abs().max() > 1e-9 for n in program.parameters(model))


def test_it_overfits_one_small_batch(program: Program, seed: int) -> None:
    data = glyphs(16, seed)
    cfg = {**WHOLE, "steps": 60}
    model = program.build(seed=seed, **cfg)
    losses = program.train(model, data, seed, **cfg).next(60)
    assert losses[-1] <= 0.1
    assert torch.equal(program.predict(model, data["images"]).argmax(dim=1), data["labels"])


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    together = program.predict(model, data["images"])
    alone = torch.cat([program.predict(model, data["images"][i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together[:5], alone, atol=1e-4, rtol=1e-3)


def test_predictions_are_log_probabilities(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    answers = program.predict(model, data["images"])
    assert answers.shape == (ROWS, 10)
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(ROWS))


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    before = program.state(model)
    program.train_mode(model, True)
    first = program.predict(model, data["images"])
    program.train_mode(model, True)
    assert torch.equal(first, program.predict(model, data["images"]))
    assert same_state(before, program.state(model))


def test_measuring_between_updates_changes_nothing(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    losses = []
    for measure in (False, True):
        model = program.build(seed=seed, **SMALL)
        run = program.train(model, data, seed, **SMALL)
        losses.append([])
        for _ in range(6):
            losses[-1] += run.next()
            if measure:
                program.predict(model, data["images"])
    assert losses[0] == losses[1]


def test_the_same_seed_gives_the_same_curve(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    curves = []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, data, rng, **SMALL).next(100))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == 8


def test_training_and_prediction_see_the_same_pixels(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    cfg = {**WHOLE, "peak_lr": 0.0, "momentum": 1.0}  # the statistics are those of the last batch
    model = program.build(seed=seed, **cfg)
    state = program.state(model)
    sharper = {n: 50 * v for n, v in state.items() if v.dim() == 2}
    program.load_state(model, sharper)
    reported = program.train(model, data, seed, **cfg).next()[0]
    answers = program.predict(model, data["images"])
    measured = F.nll_loss(answers, data["labels"]).item()
    assert reported == pytest.approx(measured, rel=0.02)


def test_batches_cover_each_row_once_with_its_own_label(program: Program, seed: int) -> None:
    labels = torch.arange(23)
    images = labels.float().reshape(-1, 1, 1).expand(-1, 12, 12).clone()
    cfg = program.call("Config", keep=True, batch=5)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    orders = []
    for _ in range(2):
        one_pass = program.call("batches", images, labels, cfg, rng, keep=True)
        iterator = program.call_method(one_pass, "__iter__", keep=True)
        found = []
        for _ in range(5):
            x, y = program.call_method(iterator, "__next__")
            assert torch.equal(x.float().mean(dim=(1, 2)), y.float())
            found.append(y)
        orders.append(torch.cat(found))
        assert torch.equal(orders[-1].sort().values, labels)
        assert not torch.equal(orders[-1], labels)
    assert not torch.equal(orders[0], orders[1])


def test_it_reads_glyphs_that_it_has_not_seen(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
