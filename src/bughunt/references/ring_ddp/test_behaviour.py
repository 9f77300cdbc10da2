"""What a right `ring-ddp` does, however it is written."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data import glyphs as drawn
from bughunt.task import Model, Program, Task

ROWS = 83
SMALL = {"steps": 6, "batch": 5, "hidden": 16}
WORLDS = [1, 2, 3, 4, 5]
glyphs = cache(drawn.glyphs)  # nobody here changes them


def replicas(program: Program, model: Model) -> list[list[Tensor]]:
    """The parameters of each rank: weight and bias of the first layer, then those of the last."""
    state, ranks = program.state(model), {}
    for name in program.parameters(model):
        ranks.setdefault(name.split(".")[0], []).append(state[name])
    return [sorted(rank, key=lambda p: (len(p) == 10, p.dim() == 1)) for rank in ranks.values()]


def buffers(seed: int, world: int, count: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(count, generator=rng, dtype=torch.float64) for _ in range(world)]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("count", [1, 12, 13, 23])
def test_everybody_ends_with_the_sum(program: Program, seed: int, world: int, count: int) -> None:
    given = buffers(seed, world, count)
    sums, _ = program.call("all_reduce", given)
    assert len(sums) == world
    for found in sums:
        torch.testing.assert_close(found, sum(given))
        assert torch.equal(found, sums[0])


@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_ends_with_its_own_part_of_the_sum(program: Program, seed: int, world: int) -> None:
    given = buffers(seed, world, 13)
    parts, _ = program.call("reduce_scatter", given)
    sizes = [13 // world + (rank < 13 % world) for rank in range(world)]
    assert [len(part) for part in parts] == sizes
    torch.testing.assert_close(torch.cat(parts), sum(given))


@pytest.mark.parametrize("world", WORLDS)
def test_everybody_ends_with_all_parts_in_order(program: Program, seed: int, world: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    parts = [torch.randn(rank + 1, generator=rng) for rank in range(world)]
    whole, _ = program.call("all_gather", parts)
    assert len(whole) == world
    assert all(torch.equal(found, torch.cat(parts)) for found in whole)


@pytest.mark.parametrize("world", WORLDS)
def test_no_rank_sends_more_than_it_has_to(program: Program, seed: int, world: int) -> None:
    count = 60  # a multiple of all worlds
    given = buffers(seed, world, count)
    part = 8 * count // world
    for name, times in (("reduce_scatter", 1), ("all_reduce", 2)):
        _, sent = program.call(name, given)
        assert sent == [times * (world - 1) * part] * world, name
    _, sent = program.call("all_gather", [given[0][: count // world]] * world)
    assert sent == [(world - 1) * part] * world
    _, halved = program.call("all_reduce", [buffer.float() for buffer in given])
    assert halved == [(world - 1) * part] * world


def test_messages_leave_the_buffers_as_they_were(program: Program, seed: int) -> None:
    given = buffers(seed, 3, 10)
    for name in ("reduce_scatter", "all_gather", "all_reduce"):
        held = [program.call("torch.clone", buffer, keep=True) for buffer in given]
        program.call(name, held)
        for handle, buffer in zip(held, given, strict=True):
            assert torch.equal(program.call("torch.clone", handle), buffer), name


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("count", [11, 24])
def test_every_row_belongs_to_one_rank(program: Program, seed: int, world: int, count: int) -> None:
    passes = []
    for epoch in range(3):
        parts = [program.call("shard", count, rank, world, seed, epoch) for rank in range(world)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert torch.equal(torch.cat(parts).sort().values, torch.arange(count))
        passes.append([part.tolist() for part in parts])
    assert passes[0] != passes[1] != passes[2]
    again = [program.call("shard", count, rank, world, seed, 1).tolist() for rank in range(world)]
    assert again == passes[1]
    assert program.call("shard", count, 0, world, seed + 77, 0).tolist() != passes[0][0]


def test_ranks_stay_the_same_to_the_last_bit(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    run = program.train(model, glyphs(ROWS, seed), seed, **SMALL)
    for _ in range(3):
        run.next(2)
        first, *others = replicas(program, model)
        assert len(others) == 3
        for other in others:
            assert all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_they_begin_with_the_weights_of_the_first(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    first, second, *_ = replicas(program, model)
    assert not torch.equal(first[0], second[0])
    program.train(model, glyphs(ROWS, seed), seed, **SMALL, lr=0.0).next()
    for rank in replicas(program, model):
        assert all(torch.equal(one, two) for one, two in zip(first, rank, strict=True))


@pytest.mark.parametrize("world", [2, 3, 6])
def test_the_number_of_ranks_does_not_change_what_is_learned(program: Program, seed: int, world: int) -> None:
    losses, weights = [], []
    for ranks in (1, world):
        config = {**SMALL, "world": ranks, "batch": 12 // ranks}
        model = program.build(seed=seed, **config)
        losses.append(program.train(model, glyphs(41, seed), seed, **config).next(6))
        weights.append(replicas(program, model)[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for one, two in zip(*weights, strict=True):
        torch.testing.assert_close(one, two, atol=1e-3, rtol=1e-2)


def test_ranks_may_run_out_of_rows(program: Program, seed: int) -> None:
    config = {**SMALL, "world": 4, "batch": 5, "steps": 4}
    model = program.build(seed=seed, **config)
    losses = program.train(model, glyphs(21, seed), seed, **config).next(4)  # five rows each, one left over
    assert len(losses) == 4
    assert all(math.isfinite(loss) for loss in losses)
    assert all(value.isfinite().all() for value in program.state(model).values())


@pytest.mark.parametrize("max_norm", [0.02, 1e6], ids=["clipped", "free"])
@pytest.mark.parametrize("world", [1, 4])
def test_updates_are_those_of_one_process(program: Program, seed: int, world: int, max_norm: float) -> None:
    data = glyphs(ROWS, seed)
    config = {**SMALL, "world": world, "batch": 1000, "lr": 0.01, "last_lr": 1.0, "weight_decay": 0.2}
    config["max_norm"] = max_norm
    model = program.build(seed=seed, **config)
    leaves = [torch.nn.Parameter(value) for value in replicas(program, model)[0]]
    oracle = torch.optim.AdamW(leaves, lr=0.01, betas=(0.9, 0.98), weight_decay=0.2)
    run = program.train(model, data, seed, **config)
    x = (data["images"].flatten(1).float() / 255 - 0.4) / 0.2
    for _ in range(4):
        oracle.zero_grad()
        scores = F.linear(torch.tanh(F.linear(x, leaves[0], leaves[1])), leaves[2], leaves[3])
        loss = F.cross_entropy(scores, data["labels"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, max_norm)
        oracle.step()
        assert run.next()[0] == pytest.approx(loss.item(), rel=1e-3)
        for leaf, found in zip(leaves, replicas(program, model)[-1], strict=True):
            torch.testing.assert_close(found, leaf.detach(), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("sure", "max_norm"), [(17.0, 1.0), (0.0, 1e-6)], ids=["slight", "clipped"])
def test_gradients_are_as_long_as_those_of_one_process(
    program: Program, seed: int, sure: float, max_norm: float
) -> None:
    data = {**glyphs(ROWS, seed), "labels": torch.full((ROWS,), 3)}
    config = {**SMALL, "batch": 1000, "lr": 0.01, "weight_decay": 0.0, "max_norm": max_norm}
    model = program.build(seed=seed, **config)
    certain = sure * (torch.arange(10) == 3).float()
    state = program.state(model)
    program.load_state(model, {name: certain for name, value in state.items() if value.shape == (10,)})
    leaves = [torch.nn.Parameter(value) for value in replicas(program, model)[0]]
    oracle = torch.optim.AdamW(leaves, lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
    x = (data["images"].flatten(1).float() / 255 - 0.4) / 0.2
    scores = F.linear(torch.tanh(F.linear(x, leaves[0], leaves[1])), leaves[2], leaves[3])
    F.cross_entropy(scores, data["labels"]).backward()
    torch.nn.utils.clip_grad_norm_(leaves, max_norm)
    oracle.step()  # gradients are so short that Adam's epsilon tells their length
    program.train(model, data, seed, **config).next()
    for leaf, found in zip(leaves, replicas(program, model)[-1], strict=True):
        torch.testing.assert_close(found, leaf.detach(), atol=1e-4, rtol=1e-3)


def test_the_reported_loss_is_the_mean_over_all_rows(program: Program, seed: int) -> None:
    data, config = glyphs(ROWS, seed), {**SMALL, "world": 3, "batch": 9, "lr": 0.0, "steps": 4}
    model = program.build(seed=seed, **config)
    run = program.train(model, data, seed, **config)
    losses = torch.tensor(run.next(4), dtype=torch.float64)
    expected = F.nll_loss(program.predict(model, data["images"]), data["labels"]).item()
    sizes = torch.tensor([27.0, 27.0, 27.0, 2.0], dtype=torch.float64)
    assert (losses @ sizes).item() / ROWS == pytest.approx(expected, rel=1e-4)


def test_a_fresh_model_has_no_opinion(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    first = program.train(model, glyphs(ROWS, seed), seed).next()[0]
    assert first == pytest.approx(math.log(10), abs=0.3)


def test_every_parameter_moves(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    before = replicas(program, model)[0]
    program.train(model, glyphs(ROWS, seed), seed, **SMALL).next(100)
    for rank in replicas(program, model):
        assert all((one != two).any() for one, two in zip(before, rank, strict=True))


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
    assert len(curves[0]) == SMALL["steps"]


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model, data = program.build(seed=seed, **SMALL), glyphs(ROWS, seed)
    program.train(model, data, seed, **SMALL).next(100)
    before = program.state(model)
    first = program.predict(model, data["images"])
    assert torch.equal(first, program.predict(model, data["images"]))
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())
    torch.testing.assert_close(first.exp().sum(dim=1), torch.ones(ROWS))


def test_it_reads_glyphs_that_it_has_not_seen(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
