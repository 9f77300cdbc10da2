"""What any correct preference tuning on digit strings does, whoever wrote it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.dpo_sort.task import in_order, strings
from bughunt.references.gradients import follow
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task

ROWS = 60


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, strings(ROWS, seed), seed, **config).next(config["steps"] + 1)


def part(program: Program, model: Model, name: str) -> Model:
    return program.call_method(model, "get_submodule", name, keep=True)


def lively(program: Program, seed: int, **config: object) -> Model:
    """A policy and a reference that disagree."""
    model = program.build(seed=seed, **config)
    state = program.state(model)
    rng = torch.Generator().manual_seed(seed)
    program.load_state(model, {n: v + 0.2 * torch.randn(v.shape, generator=rng) for n, v in state.items()})
    return model


def tokens_of(seed: int, count: int = 12) -> Tensor:
    return F.pad(strings(count, seed), (1, 0), value=10)


def chances(program: Program, writer: Model, tokens: Tensor) -> Tensor:
    """The log-chance of each string, digit by digit, each from its own prefix."""
    total = torch.zeros(len(tokens))
    for t in range(1, tokens.size(1)):
        answer = program.call_method(writer, "__call__", tokens[:, :t])[:, -1].log_softmax(dim=1)
        total += answer.gather(1, tokens[:, t : t + 1])[:, 0]
    return total


def halves(program: Program, model: Model) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters that a gradient reaches, and the others."""
    state = program.state(model)
    own = [n for n in state if n.startswith("policy")]
    return {n: state[n] for n in own}, {n: state[n] for n in state if n not in own}


def test_a_string_is_as_likely_as_its_digits_one_after_the_other(program: Program, seed: int) -> None:
    writer, tokens = part(program, lively(program, seed), "policy"), tokens_of(seed)
    found = program.call("log_chance", writer, tokens)
    torch.testing.assert_close(found, chances(program, writer, tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("number", [0.1, -0.2])
def test_scores_are_those_of_a_gated_memory_in_pytorch(program: Program, seed: int, number: float) -> None:
    # every number is the same in both, so that it does not matter how they are arranged
    writer, tokens = part(program, program.build(seed=seed, hidden=16), "policy"), tokens_of(seed)
    program.load_state(writer, {n: torch.full_like(v, number) for n, v in program.state(writer).items()})
    memory = torch.nn.GRU(16, 16, batch_first=True)
    for parameter in memory.parameters():
        torch.nn.init.constant_(parameter, number)
    with torch.no_grad():
        states, _ = memory(torch.full((*tokens.shape, 16), number))
    scores = (number * states.sum(dim=-1, keepdim=True) + number).expand(-1, -1, 11)
    found = program.call_method(writer, "__call__", tokens)
    torch.testing.assert_close(found, scores, atol=1e-5, rtol=1e-4)


def test_the_start_is_put_in_front(program: Program, seed: int) -> None:
    assert torch.equal(program.call("with_start", strings(9, seed)), tokens_of(seed, 9))


def test_a_position_never_sees_what_comes_after_it(program: Program, seed: int) -> None:
    writer, tokens = part(program, lively(program, seed), "policy"), tokens_of(seed)
    base = program.call_method(writer, "__call__", tokens)
    for changed in range(tokens.size(1)):
        other = tokens.clone()
        other[:, changed] = (other[:, changed] + 3) % 10
        moved = (program.call_method(writer, "__call__", other) - base).abs().amax(dim=(0, 2))
        assert float(moved[:changed].sum()) <= 1e-4
        assert float(moved[changed]) > 1e-4


def test_strings_are_drawn_as_often_as_the_model_says(program: Program, seed: int) -> None:
    model = lively(program, seed)
    writer = part(program, model, "policy")
    luck = torch.rand(4000, 2, generator=torch.Generator().manual_seed(seed))
    found = program.call("write", writer, luck)
    assert torch.equal(found[:, 0], torch.full((4000,), 10))
    first = program.call_method(writer, "__call__", torch.tensor([[10]]))[0, -1].softmax(dim=0)
    share = torch.bincount(found[:, 1], minlength=11) / 4000
    torch.testing.assert_close(share, first, atol=0.03, rtol=0)
    common = int(share.argmax())
    second = program.call_method(writer, "__call__", torch.tensor([[10, common]]))[0, -1].softmax(dim=0)
    after = found[found[:, 1] == common][:, 2]
    share = torch.bincount(after, minlength=11) / len(after)
    torch.testing.assert_close(share, second, atol=0.1, rtol=0)


def test_order_is_counted_between_neighbours(program: Program, seed: int) -> None:
    cases = torch.tensor(
        [[10, 1, 2, 2, 9, 0], [10, 5, 4, 3, 2, 1], [10, 0, 0, 0, 0, 0], [10, 3, 10, 4, 5, 10]]
    )
    found = program.call("sortedness", cases)
    assert found.tolist() == pytest.approx([0.75, 0.0, 1.0, 0.25])
    found = program.call("sortedness", tokens_of(seed, 50))
    torch.testing.assert_close(found.double(), in_order(strings(50, seed)))


def test_pairs_are_ranked_and_ties_left_out(program: Program, seed: int) -> None:
    one, other = tokens_of(seed, 40), tokens_of(seed + 1, 40)
    better, worse = program.call("ranked", one, other)
    scores, rivals = in_order(one[:, 1:]), in_order(other[:, 1:])
    told = (scores - rivals).abs() > 1e-9
    first = (scores > rivals)[:, None]
    assert torch.equal(better, torch.where(first, one, other)[told])
    assert torch.equal(worse, torch.where(first, other, one)[told])
    assert 0 < len(better) < 40


def test_the_loss_equals_one_written_row_by_row(program: Program, seed: int) -> None:
    better, worse = torch.randn(2, 9, generator=torch.Generator().manual_seed(seed)) * 3
    each = [
        math.log1p(math.exp(-0.4 * (b - w))) for b, w in zip(better.tolist(), worse.tolist(), strict=True)
    ]
    found = program.call("preference_loss", better, worse, 0.4)
    assert float(found) == pytest.approx(sum(each) / 9, rel=1e-4)
    far = torch.tensor([3000.0])
    assert float(program.call("preference_loss", far, -far, 0.5)) == pytest.approx(0.0, abs=1e-6)
    assert float(program.call("preference_loss", -far, far, 0.5)) == pytest.approx(3000.0)


def test_a_shift_is_how_much_likelier_a_string_has_become(program: Program, seed: int) -> None:
    model, tokens = lively(program, seed), tokens_of(seed)
    sides = [chances(program, part(program, model, name), tokens) for name in ("policy", "reference")]
    torch.testing.assert_close(
        program.call("shift", model, tokens), sides[0] - sides[1], atol=1e-3, rtol=1e-3
    )


def test_imitation_is_paid_by_the_digit(program: Program, seed: int) -> None:
    writer, tokens = part(program, lively(program, seed), "policy"), tokens_of(seed)
    expected = -chances(program, writer, tokens).mean() / 7
    assert float(program.call("imitation_loss", writer, tokens)) == pytest.approx(float(expected), rel=1e-4)


def test_a_fresh_model_knows_nothing_yet(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    loss = program.call("imitation_loss", part(program, model, "policy"), tokens_of(seed, 60))
    assert float(loss) == pytest.approx(math.log(11), abs=0.15)


def test_preference_starts_from_no_shift_at_all(program: Program, task: Task, seed: int) -> None:
    _, losses = trained(program, task, seed)
    assert losses[task.small["imitation"]] == pytest.approx(math.log(2), abs=1e-5)


def test_the_copy_is_taken_after_the_imitation_and_never_changes(
    program: Program, task: Task, seed: int
) -> None:
    model = program.build(seed=seed, **task.small)
    run = program.train(model, strings(ROWS, seed), seed, **task.small)
    run.next(5)
    own, _ = halves(program, model)
    run.next()
    own_later, copied = halves(program, model)
    for (name, value), now in zip(own.items(), copied.values(), strict=True):
        assert torch.equal(value, now), name
    run.next(4)
    assert all(torch.equal(now, copied[n]) for n, now in halves(program, model)[1].items())
    assert any(not torch.equal(now, own_later[n]) for n, now in halves(program, model)[0].items())


def test_gradients_reach_the_policy_alone(program: Program, task: Task, seed: int) -> None:
    model = program.build(seed=seed, **task.small)
    program.watch_gradients(model, True)
    program.train(model, strings(ROWS, seed), seed, **task.small).next(8)
    assert set(program.gradients(model)) == set(halves(program, model)[0])


def test_every_parameter_moves(program: Program, task: Task, seed: int) -> None:
    before, _ = halves(program, program.build(seed=seed, **task.small))
    after, _ = halves(program, trained(program, task, seed)[0])
    assert all(not torch.equal(after[name], value) for name, value in before.items())


def test_the_gradient_is_the_slope_of_the_loss(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "imitation_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    same = strings(1, seed).expand(ROWS, -1).contiguous()
    found, length = slope_of_report(program, model, same, seed, cfg)
    assert found == pytest.approx(length, rel=0.05)


def test_gradients_belong_to_one_batch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "imitation_lr": 0.0, "imitation": 4}
    model = program.build(seed=seed, **cfg)
    same = strings(1, seed).expand(ROWS, -1).contiguous()
    program.watch_gradients(model, True)
    run = program.train(model, same, seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next(2)
    for name, gradient in program.gradients(model).items():
        torch.testing.assert_close(gradient, first[name], atol=1e-5, rtol=1e-3)


def test_updates_are_those_of_torch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "imitation_lr": 0.01, "lr": 0.002, "max_grad_norm": 0.05}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    params = {n: torch.nn.Parameter(v) for n, v in halves(program, model)[0].items()}
    run = program.train(model, strings(ROWS, seed), seed, **cfg)
    for rate, count in ((0.01, 5), (0.002, 4)):
        oracle = torch.optim.Adam(params.values(), lr=rate)
        follow(program, model, run, oracle, params, [rate] * count, max_norm=0.05)
    after = program.state(model)
    for name, parameter in params.items():
        torch.testing.assert_close(after[name], parameter.detach(), atol=1e-3, rtol=1e-2)


def test_imitation_draws_on_the_whole_corpus_evenly(program: Program, task: Task, seed: int) -> None:
    # one row is unlike the others, and the loss tells how often it was drawn
    config = {**task.small, "batch": 1200, "imitation_lr": 0.0}
    model = lively(program, seed, **config)
    writer = part(program, model, "policy")
    usual, other = torch.zeros(7, dtype=torch.long), strings(1, seed)[0]
    costs = [
        float(program.call("imitation_loss", writer, F.pad(row[None], (1, 0), value=10)))
        for row in (usual, other)
    ]
    for place in range(6):
        corpus = usual.repeat(6, 1)
        corpus[place] = other
        (reported,) = program.train(model, corpus, seed, **config).next()
        assert (reported - costs[0]) / (costs[1] - costs[0]) == pytest.approx(1 / 6, abs=0.055), place


def test_predictions_are_log_probabilities(program: Program, seed: int) -> None:
    model, digits = lively(program, seed), strings(9, seed)
    for length in (0, 3, 6):
        found = program.predict(model, digits[:, :length])
        assert found.shape == (9, 11)
        torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(9))
        prefix = F.pad(digits[:, :length], (1, 0), value=10)
        scores = program.call_method(part(program, model, "policy"), "__call__", prefix)[:, -1]
        torch.testing.assert_close(found, scores.log_softmax(dim=1), atol=1e-5, rtol=1e-4)


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model, digits = lively(program, seed), strings(9, seed)[:, :4]
    alone = torch.cat([program.predict(model, row[None]) for row in digits])
    torch.testing.assert_close(program.predict(model, digits), alone, atol=1e-5, rtol=1e-4)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    before, digits = program.state(model), strings(9, seed)[:, :4]
    first = program.predict(model, digits)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, digits))
    assert all(torch.equal(before[name], value) for name, value in program.state(model).items())


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    first, second = (trained(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_it_learns_to_write_sorted_strings(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
