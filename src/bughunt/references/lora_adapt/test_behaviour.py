"""What a right `lora-adapt` does, however it is written."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.lora_adapt.task import base, lying
from bughunt.task import Model, Program, Task, Value

ROWS = 70
SMALL = {"steps": 8, "batch": 16}
WHOLE = {**SMALL, "batch": 1000, "dropout": 0.0, "warmup": 0, "last_lr": 1.0}  # every update sees every row


def rows(seed: int, count: int = ROWS) -> Value:
    return {**lying(count, seed), "base": base(seed)}


def trained(program: Program, seed: int, **config: Value) -> tuple[Model, Value]:
    config = {**SMALL, **config}
    model, data = program.build(seed=seed, **config), rows(seed)
    program.train(model, data, seed, **config).next(config["steps"])
    return model, data


def plain(images: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The scores of a network of these weights and biases, without any adapter."""
    x = (images.flatten(1).float() / 255 - 0.4) / 0.2
    for weight, bias in layers[:-1]:
        x = torch.relu(F.linear(x, weight, bias))
    return F.linear(x, *layers[-1])


def rest(program: Program, model: Model) -> dict[str, Tensor]:
    """The state without the adapters."""
    thin = program.call("save_adapters", model)
    return {name: value for name, value in program.state(model).items() if name not in thin}


def test_to_begin_with_it_does_what_the_base_does(program: Program, seed: int) -> None:
    data, config = rows(seed), {**SMALL, "lr": 0.0}
    model = program.build(seed=seed, **config)
    program.train(model, data, seed, **config).next()
    expected = plain(data["images"], data["base"]).log_softmax(dim=1)
    torch.testing.assert_close(program.predict(model, data["images"]), expected, atol=1e-4, rtol=1e-4)


def test_the_base_stays_as_it_was(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    kept = rest(program, model)
    assert len(kept) == 6
    for part in (part for layer in data["base"] for part in layer):
        (same,) = [value for value in kept.values() if value.shape == part.shape]
        assert torch.equal(same, part)


def test_every_parameter_that_learns_moves(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    before = program.call("save_adapters", model)
    program.train(model, rows(seed), seed, **SMALL).next(3)
    after = program.call("save_adapters", model)
    assert len(after) == 6
    assert all((before[name] != after[name]).any() for name in before)


def test_only_what_learns_gets_a_gradient(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    program.watch_gradients(model, True)
    program.train(model, rows(seed), seed, **SMALL).next(2)
    found = {name for name, gradient in program.gradients(model).items() if gradient.abs().max() > 0}
    assert found == set(program.call("save_adapters", model))


def test_thin_matrices_are_thin(program: Program, seed: int) -> None:
    thin = program.call("save_adapters", program.build(seed=seed, rank=3))
    found = sorted(tuple(value.shape) for value in thin.values())
    assert found == sorted([(3, 144), (64, 3), (3, 64), (48, 3), (3, 48), (10, 3)])


def test_the_first_thin_matrix_starts_on_the_scale_of_its_input(program: Program, seed: int) -> None:
    thin = program.call("save_adapters", program.build(seed=seed, rank=20))
    drawn = {value.size(1): value for value in thin.values() if value.abs().max() > 0}
    assert set(drawn) == {144, 64, 48}
    for inputs, value in drawn.items():
        assert value.std().item() == pytest.approx(1 / math.sqrt(inputs), rel=0.1)


def folded(thin: dict[str, Tensor], seed: int, alpha: float, rank: int) -> list[tuple[Tensor, Tensor]]:
    """The base with these adapters, folded in by hand."""
    layers = []
    for weight, bias in base(seed):
        up = next(value for value in thin.values() if value.shape == (len(weight), rank))
        down = next(value for value in thin.values() if value.shape == (rank, weight.size(1)))
        layers.append((weight + alpha / rank * up @ down, bias))
    return layers


def drawn(program: Program, model: Model, seed: int) -> dict[str, Tensor]:
    """Random adapters, after they have been put in."""
    rng = torch.Generator().manual_seed(seed)
    thin = program.call("save_adapters", model)
    found = {name: 0.1 * torch.randn(value.shape, generator=rng) for name, value in thin.items()}
    program.call("load_adapters", model, found)
    return found


def changed(
    program: Program, model: Model, seed: int, alpha: float, rank: int
) -> list[tuple[Tensor, Tensor]]:
    """The base with random adapters put in, folded in by hand."""
    return folded(drawn(program, model, seed), seed, alpha, rank)


@pytest.mark.parametrize(("alpha", "rank"), [(9.0, 6), (2.0, 5), (7.0, 7)])
def test_the_change_is_the_scaled_product_of_the_two(
    program: Program, seed: int, alpha: float, rank: int
) -> None:
    config = {**SMALL, "alpha": alpha, "rank": rank, "lr": 0.0}
    model, data = trained(program, seed, **config)
    layers = changed(program, model, seed, alpha, rank)
    expected = plain(data["images"], layers).log_softmax(dim=1)
    torch.testing.assert_close(program.predict(model, data["images"]), expected, atol=2e-4, rtol=1e-4)


def test_folding_in_changes_the_weights_and_not_the_answers(program: Program, seed: int) -> None:
    model, data = trained(program, seed, lr=0.0)
    layers = changed(program, model, seed, 9.0, 6)
    before = program.predict(model, data["images"])
    for _ in range(2):  # the second time there is nothing to do
        program.call("merge", model)
        torch.testing.assert_close(program.predict(model, data["images"]), before, atol=2e-4, rtol=1e-4)
        kept = rest(program, model)
        for weight, _ in layers:
            (same,) = [value for value in kept.values() if value.shape == weight.shape]
            torch.testing.assert_close(same, weight, atol=1e-5, rtol=1e-4)


def test_taking_out_undoes_folding_in(program: Program, seed: int) -> None:
    model, data = trained(program, seed, lr=0.0)
    changed(program, model, seed, 9.0, 6)
    state, before = program.state(model), program.predict(model, data["images"])
    program.call("merge", model)
    for _ in range(2):
        program.call("unmerge", model)
        torch.testing.assert_close(program.predict(model, data["images"]), before, atol=2e-4, rtol=1e-4)
        for name, value in program.state(model).items():
            torch.testing.assert_close(value, state[name], atol=1e-5, rtol=1e-4)
    program.call("merge", model)
    torch.testing.assert_close(program.predict(model, data["images"]), before, atol=2e-4, rtol=1e-4)


def test_without_adapters_it_does_what_the_base_does(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    adapted = program.predict(model, data["images"])
    program.call("use_adapters", model, False)
    expected = plain(data["images"], data["base"]).log_softmax(dim=1)
    torch.testing.assert_close(program.predict(model, data["images"]), expected, atol=1e-4, rtol=1e-4)
    assert (adapted - expected).abs().max() > 1e-3
    program.call("use_adapters", model, True)
    assert torch.equal(program.predict(model, data["images"]), adapted)


@pytest.mark.parametrize("folded", [False, True], ids=["beside", "folded in"])
def test_saved_adapters_bring_the_task_to_another_model(program: Program, seed: int, folded: bool) -> None:
    model, data = trained(program, seed, steps=12, lr=0.05, warmup=0)
    saved, answers = program.call("save_adapters", model), program.predict(model, data["images"])
    other = program.build(seed=seed + 1, **SMALL)
    program.train(other, {**data, "labels": data["labels"].flip(0)}, seed + 1, **SMALL).next(8)
    if folded:
        program.call("merge", other)
    program.call("load_adapters", other, saved)
    torch.testing.assert_close(program.predict(other, data["images"]), answers, atol=5e-4, rtol=1e-4)


def test_what_is_saved_does_not_change_with_further_training(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    saved = program.call("save_adapters", model, keep=True)
    names = list(program.call("save_adapters", model))
    first = {name: program.call_method(saved, "get", name) for name in names}
    program.train(model, data, seed, **SMALL).next(3)
    assert all(torch.equal(program.call_method(saved, "get", name), first[name]) for name in names)


def test_the_same_seed_gives_the_same_curve(program: Program, seed: int) -> None:
    curves = []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, rows(seed), rng, **SMALL).next(100))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == 8


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    program.train_mode(model, True)
    before = program.state(model)
    first = program.predict(model, data["images"])
    program.seed(seed + 1)
    program.train_mode(model, True)
    assert torch.equal(first, program.predict(model, data["images"]))
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())


def test_predictions_are_log_probabilities(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    answers = program.predict(model, data["images"])
    assert answers.shape == (ROWS, 10)
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(ROWS))


def test_dropout_is_on_while_training(program: Program, seed: int) -> None:
    losses = {}
    for rate in (0.0, 0.4):
        for noise in (1, 2):
            config = {**WHOLE, "dropout": rate}
            model = program.build(seed=seed, **config)
            run = program.train(model, rows(seed), seed, **config)
            run.next(2)
            program.predict(model, rows(seed)["images"])
            program.seed(noise)
            losses[rate, noise] = run.next()[0]
    assert losses[0.0, 1] == losses[0.0, 2]
    assert abs(losses[0.4, 1] - losses[0.4, 2]) > 1e-4


@pytest.mark.parametrize("max_norm", [0.05, 1e6], ids=["clipped", "free"])
def test_updates_follow_the_gradients(program: Program, seed: int, max_norm: float) -> None:
    config = {**WHOLE, "lr": 0.01, "weight_decay": 0.1, "max_norm": max_norm}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, rows(seed), seed, **config)
    start = program.call("save_adapters", model)
    leaves = {name: torch.nn.Parameter(value) for name, value in start.items()}
    oracle = torch.optim.AdamW(list(leaves.values()), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        run.next()
        gradients = program.gradients(model)
        for name, leaf in leaves.items():
            leaf.grad = gradients[name].clone()
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), max_norm)
        oracle.step()
        after = program.call("save_adapters", model)
        for name, leaf in leaves.items():
            torch.testing.assert_close(after[name], leaf.detach(), atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_the_reported_loss(program: Program, seed: int) -> None:
    model, data = program.build(seed=seed, **WHOLE), rows(seed)
    thin = {name: value.requires_grad_() for name, value in drawn(program, model, seed).items()}
    loss = F.cross_entropy(plain(data["images"], folded(thin, seed, 9.0, 6)), data["labels"])
    loss.backward()
    program.watch_gradients(model, True)
    reported = program.train(model, data, seed, **WHOLE).next()[0]
    assert reported == pytest.approx(loss.item(), rel=1e-3)
    found = program.gradients(model)
    for name, value in thin.items():
        assert (found[name] - value.grad).norm() <= 1e-3 * value.grad.norm(), name


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **WHOLE)
    program.watch_gradients(model, True)
    run = program.train(model, rows(seed), seed, **{**WHOLE, "lr": 0.0, "max_norm": 1e9})
    run.next()
    first = program.gradients(model)
    run.next(2)
    third = program.gradients(model)
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, third[name], atol=1e-5, rtol=1e-3)


def test_the_rate_climbs_and_falls(program: Program) -> None:
    cfg = program.call("Config", keep=True, steps=110, warmup=10, lr=0.5, last_lr=0.2)
    rates = {step: program.call("learning_rate", step, cfg) for step in (*range(11), 35, 60, 110)}
    assert [rates[step] for step in range(10)] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert rates[10] == pytest.approx(0.5)
    assert rates[60] == pytest.approx(0.3)
    assert rates[110] == pytest.approx(0.1)
    assert rates[35] == pytest.approx(0.1 + 0.4 * (1 + math.sqrt(0.5)) / 2)


def test_one_pass_shows_every_row_once(program: Program, seed: int) -> None:
    data, config = rows(seed, 23), {**WHOLE, "batch": 5, "lr": 0.0, "steps": 10}
    model = program.build(seed=seed, **config)
    losses = torch.tensor(program.train(model, data, seed, **config).next(10)).reshape(2, 5)
    expected = F.cross_entropy(plain(data["images"], data["base"]), data["labels"], reduction="sum")
    totals = losses @ torch.tensor([5.0, 5.0, 5.0, 5.0, 3.0])
    torch.testing.assert_close(totals, expected.expand(2), atol=1e-2, rtol=1e-4)
    assert not torch.allclose(losses[0], losses[1])


def test_it_overfits_one_small_batch(program: Program, seed: int) -> None:
    config = {**WHOLE, "steps": 40, "lr": 0.02}
    model = program.build(seed=seed, **config)
    assert program.train(model, rows(seed, 12), seed, **config).next(40)[-1] < 0.05


def test_it_reads_glyphs_that_it_has_not_seen(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
