"""What a right `optim-zoo` does, however it is written."""

import math
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from bughunt.references.data.glyphs import glyphs
from bughunt.references.slope import norm, slope
from bughunt.task import Model, Program, Task

ROWS = 70
SMALL = {"steps": 12, "batch": 16, "features": 16, "warmup": 3}
WHOLE = {**SMALL, "batch": 1000}
NAMES = ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"]

Groups = Iterable[dict[str, object]]
ORACLES: dict[str, Callable[[Groups, float], torch.optim.Optimizer]] = {
    "sgd": lambda groups, lr: torch.optim.SGD(groups, lr),
    "momentum": lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9),
    "nesterov": lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True),
    "rmsprop": lambda groups, lr: torch.optim.RMSprop(groups, lr, alpha=0.95, eps=1e-8),
    "adam": lambda groups, lr: torch.optim.Adam(groups, lr, betas=(0.9, 0.99)),
    "adamw": lambda groups, lr: torch.optim.AdamW(groups, lr, betas=(0.9, 0.99)),
}


def scene(seed: int, steps: int) -> tuple[list[Tensor], list[list[Tensor | None]]]:
    """Matrices and vectors, and gradients of very different sizes for them."""
    rng = torch.Generator().manual_seed(seed)
    start = [torch.randn(shape, generator=rng) for shape in ((3, 2), (4,), (2, 2), (1,))]
    sizes = ([[1e-4, 1.0]], [1e-9, 1e-2, 1.0, 10.0], [[1.0, 3.0]], [0.1])
    scale = [torch.tensor(size) for size in sizes]
    grads: list[list[Tensor | None]] = [
        [s * (0.3 + torch.randn(p.shape, generator=rng)) for p, s in zip(start, scale, strict=True)]
        for _ in range(steps)
    ]
    return start, grads


def oracle_path(
    name: str, start: list[Tensor], grads: list[list[Tensor | None]], lr: float, decay: float
) -> list[list[Tensor]]:
    params = [torch.nn.Parameter(p.clone()) for p in start]
    groups = [
        {"params": params[::2], "weight_decay": decay},
        {"params": params[1::2], "weight_decay": 0.0},
    ]
    optimizer = ORACLES[name](groups, lr)
    path = []
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = None if g is None else g.clone()
        optimizer.step()
        path.append([p.detach().clone() for p in params])
    return path


def assert_same_path(found: list[list[Tensor]], expected: list[list[Tensor]]) -> None:
    assert len(found) == len(expected)
    for here, there in zip(found, expected, strict=True):
        for one, other in zip(here, there, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def trained(program: Program, seed: int, steps: int = 12) -> tuple[Model, dict[str, Tensor]]:
    data = glyphs(ROWS, seed)
    model = program.build(seed=seed, **SMALL)
    program.train(model, data, seed, **SMALL).next(steps)
    return model, data


@pytest.mark.parametrize("decay", [0.0, 0.3], ids=["no decay", "decay"])
@pytest.mark.parametrize("name", NAMES)
def test_it_takes_the_path_of_the_optimiser_in_pytorch(
    program: Program, seed: int, name: str, decay: float
) -> None:
    start, grads = scene(seed, 100)
    found = program.call("replay", name, start, grads, 0.02, decay)
    assert_same_path(found, oracle_path(name, start, grads, 0.02, decay))


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_optimiser_carries_on_where_it_was(program: Program, seed: int, name: str) -> None:
    start, grads = scene(seed, 20)
    found = program.call("replay", name, start, grads, 0.02, 0.1, 7)
    assert_same_path(found, oracle_path(name, start, grads, 0.02, 0.1))


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_without_gradient_is_left_alone(program: Program, seed: int, name: str) -> None:
    start, grads = scene(seed, 12)
    for step in (0, 1, 5):
        grads[step][:2] = [None, None]
    found = program.call("replay", name, start, grads, 0.02, 0.1)
    assert_same_path(found, oracle_path(name, start, grads, 0.02, 0.1))


@pytest.mark.parametrize("max_norm", [0.05, 50.0], ids=["too long", "short enough"])
def test_clipping_shortens_all_gradients_together(program: Program, seed: int, max_norm: float) -> None:
    model = program.build(seed=seed, **WHOLE, optimizer="sgd", weight_decay=0.0)
    program.watch_gradients(model, True)
    cfg = {**WHOLE, "optimizer": "sgd", "weight_decay": 0.0, "peak_lr": 0.3, "warmup": 1}
    before = program.state(model)
    data = glyphs(ROWS, seed)
    program.train(model, data, seed, **cfg, max_norm=max_norm).next()
    after = program.state(model)
    grads = program.gradients(model)
    length = torch.cat([g.flatten() for g in grads.values()]).norm().item()
    share = min(1.0, max_norm / length)
    assert (share < 1) == (max_norm < 1)
    for name, grad in grads.items():
        expected = before[name] - 0.3 * share * grad
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-4)


def test_the_learning_rate_climbs_and_then_follows_a_cosine(program: Program) -> None:
    settings = {"steps": 50, "warmup": 8, "peak_lr": 0.4, "last_lr": 0.1}
    cfg = program.call("Config", keep=True, **settings)
    found = [program.call("learning_rate", step, cfg) for step in range(50)]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=42, eta_min=0.04)
    expected = [0.4 * k / 8 for k in range(1, 9)]
    for _ in range(42):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_training_follows_schedule_and_optimiser(program: Program, seed: int, name: str) -> None:
    cfg = {**SMALL, "optimizer": name, "peak_lr": 0.01, "weight_decay": 0.2, "max_norm": 1e9}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    handle = program.call("Config", keep=True, **cfg)
    before = program.state(model)
    names = program.parameters(model)
    params = {n: torch.nn.Parameter(before[n]) for n in names}
    groups = [
        {"params": [p for p in params.values() if p.dim() >= 2], "weight_decay": 0.2},
        {"params": [p for p in params.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    oracle = ORACLES[name](groups, 0.01)
    run = program.train(model, glyphs(ROWS, seed), seed, **cfg)
    for step in range(6):
        run.next()
        for parameter, gradient in program.gradients(model).items():
            params[parameter].grad = gradient
        for group in oracle.param_groups:
            group["lr"] = program.call("learning_rate", step, handle)
        oracle.step()
    after = program.state(model)
    for parameter in names:
        expected = params[parameter].detach()
        torch.testing.assert_close(after[parameter], expected, atol=1e-5, rtol=1e-4)


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    cfg = {**WHOLE, "peak_lr": 0.0, "max_norm": 1e9}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, glyphs(ROWS, seed), seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next(2)
    third = program.gradients(model)
    assert set(first) == set(program.parameters(model))
    for name in first:
        torch.testing.assert_close(first[name], third[name], atol=1e-6, rtol=1e-3)


def test_the_gradient_is_the_slope_of_the_loss(program: Program, seed: int) -> None:
    cfg, data = {**WHOLE, "peak_lr": 0.0}, glyphs(ROWS, seed)
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    program.train(model, data, seed, **cfg).next()
    gradient, start = program.gradients(model), program.state(model)

    def loss_at(state):
        program.load_state(model, state)
        answers = program.predict(model, data["images"])
        return torch.nn.functional.nll_loss(answers, data["labels"]).item()

    assert slope(loss_at, start, gradient) == pytest.approx(norm(gradient), rel=0.05)


def test_a_fresh_model_has_no_opinion(program: Program, task: Task, seed: int) -> None:
    model = program.build(seed=seed)
    first = program.train(model, task.data(seed).train, seed).next()[0]
    assert abs(first - math.log(10)) <= 0.1


def test_hidden_weights_start_on_the_scale_of_their_inputs(program: Program, seed: int) -> None:
    model = program.build(seed=seed, features=48)
    weights = [w for w in program.state(model).values() if w.shape == (48, 144)]
    assert len(weights) == 1
    assert weights[0].std().item() == pytest.approx(math.sqrt(2 / (48 + 144)), rel=0.1)


def test_every_parameter_moves(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    before = program.state(model)
    program.train(model, glyphs(ROWS, seed), seed, **SMALL, weight_decay=0.0).next(3)
    after = program.state(model)
    assert all((after[n] - before[n]).abs().max() > 1e-5 for n in program.parameters(model))


def test_it_overfits_one_small_batch(program: Program, seed: int) -> None:
    data = glyphs(16, seed)
    cfg = {**WHOLE, "steps": 60}
    model = program.build(seed=seed, **cfg)
    losses = program.train(model, data, seed, **cfg).next(60)
    assert losses[-1] <= 0.5
    assert torch.equal(program.predict(model, data["images"]).argmax(dim=1), data["labels"])


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    together = program.predict(model, data["images"])
    alone = torch.cat([program.predict(model, data["images"][i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together[:5], alone, atol=1e-5, rtol=1e-4)


def test_predictions_are_log_probabilities(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    answers = program.predict(model, data["images"])
    assert answers.shape == (ROWS, 10)
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(ROWS))


def test_the_network_is_not_linear(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    left, right = data["images"][:20].float(), data["images"][20:40].float()
    ends = program.predict(model, torch.cat([left, right, (left + right) / 2]))
    scores = ends - ends.mean(dim=1, keepdim=True)  # an affine network would keep the middle
    one, other, middle = scores.split(20)
    assert ((one + other) / 2 - middle).abs().max() > 1e-2


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    before = program.state(model)
    first = program.predict(model, data["images"])
    assert torch.equal(first, program.predict(model, data["images"]))
    after = program.state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_training_and_prediction_see_the_same_pixels(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    cfg = {**WHOLE, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    program.load_state(model, {n: 5 * v for n, v in program.state(model).items()})
    reported = program.train(model, data, seed, **cfg).next()[0]
    answers = program.predict(model, data["images"])
    measured = torch.nn.functional.nll_loss(answers, data["labels"]).item()
    assert reported == pytest.approx(measured, rel=1e-4)


def test_the_same_seed_gives_the_same_curve(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    curves = []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, data, rng, **SMALL).next(100))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == 12


def test_a_pass_shows_every_row_once(program: Program, seed: int) -> None:
    rows = 23
    images = torch.zeros(rows, 144)
    images[torch.arange(rows), torch.arange(rows)] = 255.0  # row r lights pixel r, none lights the last
    data = {"images": images.reshape(rows, 12, 12), "labels": torch.arange(rows) % 10}
    cfg = {**SMALL, "batch": 5, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, data, seed, **cfg)
    seen = torch.zeros(2, rows)
    order = []
    for step in range(10):
        run.next()
        (first,) = [g for g in program.gradients(model).values() if g.dim() == 2 and g.size(1) == 144]
        apart = (first - first[:, -1:]).abs().sum(dim=0)[:rows]
        here = apart > 1e-3 * apart.max()
        seen[step // 5] += here.float()
        order.append(here)
    assert torch.equal(seen, torch.ones(2, rows))
    assert not torch.equal(torch.stack(order[:5]), torch.stack(order[5:]))


def test_batches_cover_each_row_once_with_its_own_label(program: Program, seed: int) -> None:
    labels = torch.arange(23)
    images = labels.float().reshape(-1, 1, 1).expand(-1, 12, 12).clone()
    cfg = program.call("Config", keep=True, batch=5)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    one_pass = program.call("batches", images, labels, cfg, rng, keep=True)
    iterator = program.call_method(one_pass, "__iter__", keep=True)
    found = []
    for _ in range(5):
        x, y = program.call_method(iterator, "__next__")
        assert torch.equal(x.float().mean(dim=(1, 2)), y.float())
        found.append(y)
    assert any(y.max() - y.min() > 4 for y in found)  # not rows that stood together
    assert torch.equal(torch.cat(found).sort().values, labels)
    assert not torch.equal(torch.cat(found), labels)


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_glyphs_that_it_has_not_seen(program: Program, task: Task, seed: int, name: str) -> None:
    data = task.data(seed)
    config = task.configurations["default" if name == "adamw" else name]
    model = program.build(seed=seed, **config)
    program.train(model, data.train, seed, **config).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
