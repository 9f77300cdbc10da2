"""What a right `ddp-gloo` does, however it is written."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.errors import BughuntError
from bughunt.references.data.glyphs import glyphs
from bughunt.task import Model, Program, Task, Value

ROWS = 83
SMALL = {"steps": 8, "batch": 5, "hidden": 16, "warmup": 3, "bucket": 200}
WAYS = ["wrapper", "hooks"]
either_way = pytest.mark.parametrize("way", WAYS)


def replicas(program: Program, model: Model) -> list[list[Tensor]]:
    """The parameters of each rank: weight and bias of the first layer, then those of the last."""
    state = program.state(model)
    ranks: dict[str, list[Tensor]] = {}
    for name in program.parameters(model):
        ranks.setdefault(name.split(".")[0], []).append(state[name])
    return [sorted(rank, key=lambda p: (len(p) == 10, p.dim() == 1)) for rank in ranks.values()]


def trained(
    program: Program, data: dict[str, Tensor], seed: int, **config: Value
) -> tuple[list[float], list[list[Tensor]]]:
    """The losses of a whole small run, and what each rank ends with."""
    config = {**SMALL, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, data, seed, **config).next(config["steps"] + 1)
    return losses, replicas(program, model)


def settings(program: Program, **config: Value) -> Model:
    return program.call("Config", keep=True, **config)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_everybody_ends_with_the_sum(program: Program, seed: int, world: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    given = [torch.randn(7, generator=rng) for _ in range(world)]
    sums = program.call("sum_of_all", given, settings(program))
    assert len(sums) == world
    for found in sums:
        torch.testing.assert_close(found, sum(given))
        assert torch.equal(found, sums[0])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [11, 24])
def test_ranks_share_all_rows_and_have_equally_many(
    program: Program, seed: int, world: int, count: int
) -> None:
    for epoch in range(3):
        parts = [program.call("shard", count, rank, world, seed, epoch) for rank in range(world)]
        assert [len(part) for part in parts] == [math.ceil(count / world)] * world
        times = torch.bincount(torch.cat(parts), minlength=count)
        assert times.min() == 1
        assert times.max() <= 2
        assert len(times) == count


def test_a_pass_is_shuffled_anew_and_alike_on_all_ranks(program: Program, seed: int) -> None:
    def whole(number: int, epoch: int) -> list[list[int]]:
        return [program.call("shard", 20, rank, 2, number, epoch).tolist() for rank in range(2)]

    first = whole(seed, 0)
    assert whole(seed, 0) == first
    assert sorted(first[0] + first[1]) == list(range(20))
    assert len({str(whole(seed, epoch)) for epoch in range(4)}) == 4
    assert whole(seed + 50, 0) != first


@either_way
def test_a_second_pass_meets_other_rows_together(program: Program, seed: int, way: str) -> None:
    config = {**SMALL, "batch": 7, "lr": 0.0, "steps": 6, "averaging": way}
    model = program.build(seed=seed, **config)
    losses = program.train(model, glyphs(28, seed), seed, **config).next(6)  # two batches in a pass
    passes = [sorted(losses[:2]), sorted(losses[2:4]), sorted(losses[4:])]
    assert all(one != pytest.approx(two, rel=1e-5) for one, two in itertools.combinations(passes, 2))
    assert sum(passes[1]) == pytest.approx(sum(passes[0]), rel=1e-4)
    assert sum(passes[2]) == pytest.approx(sum(passes[0]), rel=1e-4)


@either_way
def test_ranks_stay_the_same_to_the_last_bit(program: Program, seed: int, way: str) -> None:
    config = {**SMALL, "world": 3, "averaging": way}
    model = program.build(seed=seed, **config)
    run = program.train(model, glyphs(ROWS, seed), seed, **config)
    for _ in range(8):
        run.next()
        first, *others = replicas(program, model)
        assert len(others) == 2
        for other in others:
            assert all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


@either_way
def test_they_begin_with_the_weights_of_the_first(program: Program, seed: int, way: str) -> None:
    config = {**SMALL, "lr": 0.0, "averaging": way}
    model = program.build(seed=seed, **config)
    first, second = replicas(program, model)
    assert not torch.equal(first[0], second[0])
    program.train(model, glyphs(ROWS, seed), seed, **config).next()
    for rank in replicas(program, model):
        assert all(torch.equal(one, two) for one, two in zip(first, rank, strict=True))


def test_both_ways_of_averaging_learn_the_same(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    (losses, weights), (others, same) = (trained(program, data, seed, averaging=way) for way in WAYS)
    assert losses == pytest.approx(others, rel=1e-5)
    for one, two in zip(weights[0], same[0], strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_what_travels_together_does_not_matter(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    runs = [trained(program, data, seed, averaging="hooks", bucket=size) for size in (1, 300, 10**6)]
    for losses, weights in runs[1:]:
        assert losses == runs[0][0]
        assert all(torch.equal(one, two) for one, two in zip(weights[1], runs[0][1][1], strict=True))


@either_way
@pytest.mark.parametrize("world", [2, 4])
def test_the_number_of_ranks_does_not_change_what_is_learned(
    program: Program, seed: int, way: str, world: int
) -> None:
    data = glyphs(ROWS + 1, seed)  # which the worlds divide
    config = {"steps": 14, "averaging": way}
    alone, weights = trained(program, data, seed, world=1, batch=12, **config)
    losses, many = trained(program, data, seed, world=world, batch=12 // world, **config)
    assert losses == pytest.approx(alone, rel=1e-3)
    for one, two in zip(weights[0], many[-1], strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)


def forward(leaves: Sequence[Tensor], images: Tensor) -> Tensor:
    x = (images.flatten(1).float() / 255 - 0.4) / 0.2
    return F.linear(F.gelu(F.linear(x, leaves[0], leaves[1])), leaves[2], leaves[3])


@either_way
@pytest.mark.parametrize("max_norm", [0.3, 1e6], ids=["clipped", "free"])
def test_updates_are_those_of_one_process(program: Program, seed: int, way: str, max_norm: float) -> None:
    data = glyphs(60, seed)
    config: dict[str, Value] = {
        **SMALL,
        "world": 3,
        "batch": 20,
        "steps": 9,
        "warmup": 4,
        "lr": 0.08,
        "momentum": 0.7,
    }
    config |= {"weight_decay": 0.1, "max_norm": max_norm, "averaging": way}
    model = program.build(seed=seed, **config)
    leaves = [torch.nn.Parameter(value) for value in replicas(program, model)[0]]
    oracle = torch.optim.SGD(leaves, lr=0.08, momentum=0.7, weight_decay=0.1, nesterov=True)
    run = program.train(model, data, seed, **config)
    for step in range(9):
        oracle.zero_grad()
        oracle.param_groups[0]["lr"] = 0.08 * min((step + 1) / 4, (9 - step) / 5 if step >= 4 else 1)
        loss = F.cross_entropy(forward(leaves, data["images"]), data["labels"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, max_norm)
        oracle.step()
        assert run.next()[0] == pytest.approx(loss.item(), rel=1e-3)
        for leaf, found in zip(leaves, replicas(program, model)[-1], strict=True):
            torch.testing.assert_close(found, leaf.detach(), atol=2e-4, rtol=1e-3)


@either_way
def test_the_reported_loss_is_the_mean_over_the_rows_of_all(program: Program, seed: int, way: str) -> None:
    data, config = (
        glyphs(30, seed),
        {**SMALL, "world": 3, "batch": 4, "lr": 0.0, "steps": 3, "averaging": way},
    )
    model = program.build(seed=seed, **config)
    losses = program.train(model, data, seed, **config).next(3)  # 12, 12 and 6 rows
    expected = F.nll_loss(program.predict(model, data["images"]), data["labels"]).item()
    assert (12 * losses[0] + 12 * losses[1] + 6 * losses[2]) / 30 == pytest.approx(expected, rel=1e-4)


@either_way
def test_each_rank_learns_from_its_own_rows(program: Program, seed: int, way: str) -> None:
    config = {**SMALL, "batch": 8, "lr": 0.0, "averaging": way}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    program.train(model, glyphs(ROWS, seed), seed, **config).next()
    own: dict[str, list[Tensor]] = {}
    for name, gradient in program.gradients(model).items():
        own.setdefault(name.split(".")[0], []).append(gradient)
    first, second = own.values()
    assert all(not torch.allclose(one, two, rtol=1e-3) for one, two in zip(first, second, strict=True))


@either_way
def test_a_rank_that_fails_does_not_leave_the_others_waiting(program: Program, seed: int, way: str) -> None:
    data = glyphs(40, seed)
    data["labels"][3] = 77  # no such class, and the row is only one rank's
    config = {**SMALL, "averaging": way, "patience": 1000.0}
    model = program.build(seed=seed, **config)
    with pytest.raises(BughuntError, match=r"out of bounds|assert"):
        program.train(model, data, seed, **config).next(8)


def test_a_rank_that_does_not_come_is_not_waited_for_for_ever(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    run = program.train(model, glyphs(ROWS, seed), seed, **{**SMALL, "world": 3, "patience": 0.3})
    with pytest.raises(BughuntError, match="BrokenBarrier"):
        run.next()


def test_a_fresh_model_has_no_opinion(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    first = program.train(model, glyphs(600, seed), seed).next()[0]
    assert first == pytest.approx(math.log(10), abs=0.3)


@either_way
def test_every_parameter_moves(program: Program, seed: int, way: str) -> None:
    config = {**SMALL, "averaging": way}
    model = program.build(seed=seed, **config)
    before = replicas(program, model)[0]
    program.train(model, glyphs(ROWS, seed), seed, **config).next(3)
    for rank in replicas(program, model):
        assert all((one != two).any() for one, two in zip(before, rank, strict=True))


def test_the_rate_climbs_and_falls_in_straight_lines(program: Program) -> None:
    cfg = settings(program, steps=110, warmup=10, lr=0.5)
    rates = [program.call("learning_rate", step, cfg) for step in (0, 4, 9, 10, 60, 109)]
    assert rates == pytest.approx([0.05, 0.25, 0.5, 0.5, 0.25, 0.005])


@either_way
def test_the_same_seed_gives_the_same_curve(program: Program, seed: int, way: str) -> None:
    data, curves = glyphs(ROWS, seed), []
    config = {**SMALL, "averaging": way}
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **config)
        curves.append(program.train(model, data, rng, **config).next(100))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == 8


def test_a_second_training_is_not_disturbed_by_the_first(program: Program, seed: int) -> None:
    data, config = glyphs(ROWS, seed), {**SMALL, "averaging": "hooks"}
    fresh = program.build(seed=seed, **config)
    used = program.build(seed=seed, **config)
    start = program.state(used)
    program.train(used, data, seed + 1, **config).next(100)
    program.load_state(used, start)
    curves = [program.train(model, data, seed, **config).next(100) for model in (fresh, used)]
    assert curves[0] == curves[1]


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    model = program.build(seed=seed, **SMALL)
    program.train(model, data, seed, **SMALL).next(8)
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
