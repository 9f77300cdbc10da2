"""What a right `qat-int8` does, however it is written."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task, Value

ROWS = 90
SMALL = {"steps": 8, "float_steps": 3, "batch": 16}
WHOLE = {**SMALL, "batch": 1000, "last_lr": 1.0}  # every update sees every row


def trained(program: Program, seed: int, **config: Value) -> tuple[Model, dict[str, Tensor]]:
    config = {**SMALL, **config}
    model, data = program.build(seed=seed, **config), glyphs(ROWS, seed)
    program.train(model, data, seed, **config).next(config["steps"])
    return model, data


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("low", "high"), [(-2.0, 3.0), (0.0, 7.0), (-5.0, 0.0), (1.5, 4.0), (-4.0, -1.0)])
@pytest.mark.parametrize("bits", [3, 8])
def test_a_grid_covers_its_range_and_holds_zero(program: Program, low: float, high: float, bits: int) -> None:
    scale, zero = program.call("grid", torch.tensor(low), torch.tensor(high), bits)
    first, last = min(low, 0.0), max(high, 0.0)
    assert scale.item() == pytest.approx((last - first) / (2**bits - 1))
    assert zero.item() == math.floor(-first / scale.item() + 0.5)
    assert 0 <= zero.item() <= 2**bits - 1
    points = (torch.arange(2**bits) - zero) * scale
    assert (points == 0).any()
    assert points[0].item() == pytest.approx(first, abs=0.51 * scale.item())
    assert points[-1].item() == pytest.approx(last, abs=0.51 * scale.item())


def test_a_range_of_nothing_has_a_grid(program: Program) -> None:
    scale, zero = program.call("grid", torch.tensor(0.0), torch.tensor(0.0), 4)
    assert scale > 0
    assert zero == 0


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_every_output_has_a_step_of_its_own(program: Program, seed: int, bits: int) -> None:
    weight = draw(seed, 5, 7) * torch.tensor([0.1, 1.0, 4.0, 0.5, 2.0])[:, None]
    weight[3, :] = 0.0
    step = program.call("weight_scale", weight, bits)
    assert step.shape == (5, 1)
    largest = torch.tensor([max(abs(value) for value in row.tolist()) for row in weight])
    torch.testing.assert_close(step[:, 0] * (2 ** (bits - 1) - 1), largest, atol=1e-6, rtol=1e-5)
    assert (step > 0).all()


def test_values_are_moved_to_the_nearest_point(program: Program, seed: int) -> None:
    x, scale, zero = 3 * draw(seed, 40), torch.tensor(0.4), torch.tensor(5.0)
    x[:3] = torch.tensor([50.0, -50.0, 0.0])
    found = program.call("quantise", x, scale, zero, 0, 15)
    points = (torch.arange(16) - 5) * 0.4
    nearest = (x[:, None] - points).abs().argmin(dim=1)
    assert torch.equal(found.long(), nearest)
    moved = program.call("on_grid", x, scale, zero, 0, 15)
    torch.testing.assert_close(moved, points[nearest])
    assert moved[2] == 0


def test_what_was_moved_moves_no_further(program: Program, seed: int) -> None:
    x, scale, zero = 3 * draw(seed, 40), torch.tensor(0.25), torch.tensor(3.0)
    once = program.call("on_grid", x, scale, zero, 0, 15)
    torch.testing.assert_close(program.call("on_grid", once, scale, zero, 0, 15), once)
    inside = (x > -0.75) & (x < 3.0)
    assert ((once - x).abs()[inside] <= 0.125 + 1e-6).all()


def test_gradients_pass_unless_a_value_lies_beyond_the_grid(program: Program, seed: int) -> None:
    x = torch.tensor([-9.0, -1.0, -0.9, -0.3, 0.0, 0.2, 1.2, 1.9, 2.0, 2.1, 2.4, 9.0])
    g = draw(seed, len(x))
    handle = program.call("torch.clone", x, keep=True)
    program.call_method(handle, "requires_grad_", keep=True)
    out = program.call("on_grid", handle, torch.tensor(1.0), torch.tensor(1.0), 0, 3, keep=True)
    (found,) = program.call("torch.autograd.grad", [out], [handle], [g])
    inside = torch.tensor([False, *[True] * 10, False])
    torch.testing.assert_close(found, g * inside)


def layer(program: Program, seed: int, **config: Value) -> tuple[Model, dict[str, Tensor]]:
    cfg = program.call("Config", keep=True, **config)
    program.seed(seed)
    made = program.call("Coarse", 6, 4, cfg, keep=True)
    drawn = {"weight": draw(seed, 4, 6) * torch.tensor([[0.2], [1.0], [3.0], [0.6]]), "bias": draw(seed, 4)}
    state = program.state(made)
    program.load_state(made, {n: drawn[role(state[n])] for n in program.parameters(made)})
    return made, drawn


def role(parameter: Tensor) -> str:
    """What a parameter of a layer is, whatever it is called."""
    return "bias" if parameter.dim() == 1 else "weight"


def by_points(x: Tensor, points: Tensor) -> Tensor:
    return points[(x[..., None] - points).abs().argmin(dim=-1)]


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(2, 4), (4, 3), (8, 8)])
def test_a_coarse_layer_multiplies_points_of_two_grids(
    program: Program, seed: int, weight_bits: int, activation_bits: int
) -> None:
    made, drawn = layer(program, seed, weight_bits=weight_bits, activation_bits=activation_bits)
    x = 2 * draw(seed + 1, 9, 6) + 0.7
    program.call_method(made, "__call__", x, False)  # a training pass shows it the range
    program.train_mode(made, False)
    scale = (x.max() - x.min()) / (2**activation_bits - 1)
    zero = torch.floor(-x.min() / scale + 0.5)
    moved = by_points(x, (torch.arange(2**activation_bits) - zero) * scale)
    largest = 2 ** (weight_bits - 1) - 1
    ends = drawn["weight"].abs().amax(dim=1)
    rows = [
        by_points(row, torch.arange(-largest, largest + 1) * end / largest)
        for row, end in zip(drawn["weight"], ends, strict=True)
    ]
    expected = moved @ torch.stack(rows).T + drawn["bias"]
    for name, extra in (("__call__", (True,)), ("whole", ())):
        found = program.call_method(program.call_method(made, name, x, *extra, keep=True), "detach")
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_fine_layer_is_linear(program: Program, seed: int) -> None:
    made, drawn = layer(program, seed)
    x = draw(seed + 1, 9, 6)
    out = program.call_method(made, "__call__", x, False, keep=True)
    expected = F.linear(x, drawn["weight"], drawn["bias"])
    torch.testing.assert_close(program.call_method(out, "detach"), expected)


def test_gradients_reach_the_weights_behind_the_grid(program: Program, seed: int) -> None:
    made, _ = layer(program, seed)
    x, g = 0.3 + draw(seed + 1, 9, 6), draw(seed + 2, 9, 4)
    out = program.call_method(made, "__call__", x, True, keep=True)
    loss = program.call("torch.tensordot", out, g, keep=True)
    program.call_method(loss, "backward", keep=True)
    found = program.gradients(made)
    scale = (x.max() - x.min()) / 15
    moved = by_points(x, (torch.arange(16) - torch.floor(-x.min() / scale + 0.5)) * scale)
    found = {role(gradient): gradient for gradient in found.values()}
    torch.testing.assert_close(found["weight"], g.T @ moved, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["bias"], g.sum(dim=0))


def test_the_range_follows_what_comes_in_while_training(program: Program, seed: int) -> None:
    made, _ = layer(program, seed, range_momentum=0.25)
    learned = program.parameters(made)
    shown = [draw(seed, 5, 6), 3 * draw(seed + 1, 5, 6) + 1, draw(seed + 2, 5, 6)]
    low, high = shown[0].min().item(), shown[0].max().item()
    for number, x in enumerate(shown):
        program.call_method(made, "__call__", x, bool(number % 2), keep=True)
        if number:
            low, high = 0.75 * low + 0.25 * x.min().item(), 0.75 * high + 0.25 * x.max().item()
    program.train_mode(made, False)
    program.call_method(made, "__call__", 100 * shown[0], True, keep=True)
    kept = [v.flatten() for n, v in program.state(made).items() if n not in learned and v.is_floating_point()]
    assert torch.cat(kept).tolist() == pytest.approx([low, high], rel=1e-4)


def test_weights_as_whole_numbers_take_a_byte(program: Program, seed: int) -> None:
    made, drawn = layer(program, seed, weight_bits=8)
    whole, step = program.call_method(made, "whole_weights")
    assert whole.dtype == torch.int8
    assert whole.abs().amax(dim=1).tolist() == [127] * 4
    assert ((whole * step - drawn["weight"]).abs() <= 0.501 * step).all()


def test_answers_in_whole_numbers_are_those_of_training(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    found = program.predict(model, data["images"])
    program.train_mode(model, False)
    out = program.call_method(model, "__call__", data["images"], keep=True)
    expected = program.call_method(out, "detach").log_softmax(dim=1)
    near = (found - expected).abs().amax(dim=1) < 1e-3
    assert near.double().mean() > 0.95  # a value halfway between two points may go either way


def test_the_network_feels_the_grid_after_a_while(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)

    def reported(start: int, float_steps: int) -> list[float]:
        config = {**WHOLE, "float_steps": float_steps, "lr": 0.0}
        model = program.build(seed=start, **config)
        drawn = {n: 20 * v for n, v in program.state(model).items() if v.dim() == 2 and len(v) == 10}
        program.load_state(model, drawn)
        return program.train(model, data, start, **config).next(4)

    # By accident the grid may cost a drawn network nothing: the first that it costs something.
    for start in range(seed, seed + 12):
        fine, coarse = reported(start, 100)[0], reported(start, 0)[0]
        if abs(fine - coarse) > 0.1 * fine:
            break
    assert abs(fine - coarse) > 0.1 * fine
    assert reported(start, 100) == pytest.approx([fine] * 4, rel=1e-5)
    assert reported(start, 2) == pytest.approx([fine, fine, coarse, coarse], rel=0.045)


def test_a_fresh_model_has_no_opinion(program: Program, task: Task, seed: int) -> None:
    model = program.build(seed=seed)
    first = program.train(model, task.data(seed).train, seed).next()[0]
    assert first == pytest.approx(math.log(10), abs=0.15)


def test_hidden_weights_start_on_the_scale_of_their_inputs(program: Program, seed: int) -> None:
    state = program.state(program.build(seed=seed))
    for shape in ((64, 144), (48, 64)):
        (weight,) = [value for value in state.values() if value.shape == shape]
        assert weight.std().item() == pytest.approx(math.sqrt(2 / shape[1]), rel=0.08)


def test_every_parameter_moves(program: Program, seed: int) -> None:
    before = program.state(program.build(seed=seed, **SMALL))
    model, _ = trained(program, seed)
    after = program.state(model)
    assert all((after[name] != before[name]).any() for name in program.parameters(model))


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    config = {**WHOLE, "float_steps": 0, "lr": 0.0}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, glyphs(ROWS, seed), seed, **config)
    run.next()
    first = program.gradients(model)
    run.next(2)
    third = program.gradients(model)
    assert set(first) == set(program.parameters(model))
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, third[name], atol=1e-4, rtol=1e-3)


def test_the_gradient_is_the_slope_of_the_loss(program: Program, seed: int) -> None:
    config, data = {**WHOLE, "float_steps": 100, "lr": 0.0}, glyphs(ROWS, seed)  # the grid has no slope
    model = program.build(seed=seed, **config)
    found, length = slope_of_report(program, model, data, seed, config)
    assert found == pytest.approx(length, rel=0.05)


def test_updates_follow_the_gradients(program: Program, seed: int) -> None:
    config = {**WHOLE, "lr": 0.01, "weight_decay": 0.1}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, glyphs(ROWS, seed), seed, **config)
    names, start = program.parameters(model), program.state(model)
    leaves = {name: torch.nn.Parameter(start[name]) for name in names}
    oracle = torch.optim.AdamW(list(leaves.values()), lr=0.01, weight_decay=0.1)
    for _ in range(5):
        run.next()
        gradients, after = program.gradients(model), program.state(model)
        for name, leaf in leaves.items():
            leaf.grad = gradients[name].clone()
        oracle.step()
        for name, leaf in leaves.items():
            torch.testing.assert_close(after[name], leaf.detach(), atol=1e-5, rtol=1e-4)


def test_the_rate_falls_along_half_a_cosine(program: Program) -> None:
    cfg = program.call("Config", keep=True, steps=100, lr=0.5, last_lr=0.2)
    rates = [program.call("learning_rate", step, cfg) for step in (0, 25, 50, 100)]
    assert rates == pytest.approx([0.5, 0.3 + 0.2 * math.sqrt(0.5), 0.3, 0.1])


def test_the_same_seed_gives_the_same_curve(program: Program, seed: int) -> None:
    data, curves = glyphs(ROWS, seed), []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, data, rng, **SMALL).next(100))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == 8


def test_one_pass_shows_every_row_once(program: Program, seed: int) -> None:
    labels = torch.arange(24).flip(0)
    images = labels.float().reshape(-1, 1, 1).expand(-1, 12, 12).clone()
    cfg = program.call("Config", keep=True, batch=5)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    iterator = program.call("batches", images, labels, cfg, rng, keep=True)
    passes = []
    for _ in range(2):
        found = [program.call_method(iterator, "__next__") for _ in range(5)]
        assert all(torch.equal(x.mean(dim=(1, 2)), y.float()) for x, y in found)
        assert any(y.max() - y.min() > 4 for _, y in found)  # not rows that stood together
        passes.append(torch.cat([y for _, y in found]))
        assert torch.equal(passes[-1].sort().values, torch.arange(24))
    assert not torch.equal(*passes)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    program.train_mode(model, True)
    before = program.state(model)
    first = program.predict(model, data["images"])
    program.train_mode(model, True)
    assert torch.equal(first, program.predict(model, data["images"]))
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())


def test_measuring_between_updates_changes_nothing(program: Program, seed: int) -> None:
    data, losses = glyphs(ROWS, seed), []
    for measure in (False, True):
        model = program.build(seed=seed, **SMALL)
        run = program.train(model, data, seed, **SMALL)
        losses.append([])
        for _ in range(8):
            losses[-1] += run.next()
            if measure:
                program.predict(model, data["images"] // 2)
    assert losses[0] == losses[1]


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    together = program.predict(model, data["images"])
    alone = torch.cat([program.predict(model, data["images"][i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together[:5], alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.exp().sum(dim=1), torch.ones(ROWS))


def test_it_reads_glyphs_that_it_has_not_seen(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
