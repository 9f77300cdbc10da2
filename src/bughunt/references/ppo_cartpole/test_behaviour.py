"""What any correct proximal policy optimisation on carts does, whoever wrote it."""

import math

import pytest
import torch
from torch import Tensor

from bughunt.references.gradients import follow
from bughunt.references.reinforce_cartpole.task import tick, upright
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task

LIMIT = 30


def settings(program: Program, **config: object) -> Model:
    return program.call("Config", keep=True, **config)


def seeded(program: Program, seed: int) -> Model:
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    return rng


def carts(program: Program, seed: int, count: int = 9, limit: int = LIMIT) -> Model:
    device = program.call("torch.device", "cpu", keep=True)
    return program.call("carts.Carts", count, limit, seeded(program, seed), device, keep=True)


def attribute(program: Program, thing: Model, name: str) -> Tensor:
    return program.call_method(thing, "__getattribute__", name)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, {"limit": LIMIT}, seed, **config).next(1000)


def lively(program: Program, seed: int, **config: object) -> Model:
    """An agent with opinions of its own."""
    model = program.build(seed=seed, **config)
    state = program.state(model)
    program.load_state(model, {n: draw(k, *v.shape) / 3 for k, (n, v) in enumerate(state.items())})
    return model


def stretch(program: Program, model: Model, world: Model, length: int) -> dict[str, Tensor]:
    played = program.call("rollout.play", model, world, length, keep=True)
    names = ("seen", "actions", "chances", "rewards", "values", "next_values", "terminated", "over")
    return {name: attribute(program, played, name) for name in names}


def surprises(seed: int, ticks: int = 12, count: int = 5) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    rewards, values, after = torch.randn(3, ticks, count, generator=rng)
    terminated = torch.rand(ticks, count, generator=rng) < 0.15
    truncated = ~terminated & (torch.rand(ticks, count, generator=rng) < 0.15)
    return rewards, values, after, terminated, terminated | truncated


def by_hand(rewards, values, after, terminated, over, gamma: float, trace: float) -> Tensor:
    """Every advantage as a sum over the surprises up to the end of its own episode."""
    found = torch.zeros_like(rewards)
    for t in range(len(rewards)):
        for n in range(rewards.size(1)):
            weight = 1.0
            for k in range(t, len(rewards)):
                ahead = 0.0 if terminated[k, n] else float(after[k, n])
                found[t, n] += weight * float(rewards[k, n] + gamma * ahead - values[k, n])
                weight *= gamma * trace
                if over[k, n]:
                    break
    return found


def test_carts_move_by_the_laws_of_physics(program: Program, seed: int) -> None:
    state = 0.5 * draw(seed, 50, 4).double()
    actions = torch.arange(50) % 2
    found = program.call("carts.physics", state, actions)
    torch.testing.assert_close(found, tick(state, actions), atol=1e-9, rtol=1e-7)
    edge = torch.tensor(
        [[2.39, 9, 0.2, 9], [-2.41, 0, 0, 0], [0, 0, -0.21, 0], [2.41, 0, 0, 0], [0, 9, 0.208, 9]]
    )
    assert program.call("carts.fallen", edge.double()).tolist() == (~upright(edge.double())).tolist()


def test_episodes_follow_one_another(program: Program, seed: int) -> None:
    world = carts(program, seed, count=40)
    expected, age = attribute(program, world, "state").clone(), torch.zeros(40)
    assert 0.03 < float(expected.abs().max()) <= 0.05
    rng, ends = torch.Generator().manual_seed(seed), torch.zeros(2)
    for _ in range(70):
        actions = torch.randint(2, (40,), generator=rng)
        actions[:10] = (expected[:10, 2] + expected[:10, 3] > 0).long()  # balances for a while
        reached, reward, terminated, truncated = program.call_method(world, "step", actions)
        torch.testing.assert_close(reached, tick(expected, actions).float(), atol=1e-5, rtol=1e-4)
        age += 1
        fell = ~upright(reached)
        assert torch.equal(terminated, fell)
        assert torch.equal(truncated, ~fell & (age >= LIMIT))
        assert torch.equal(reward, torch.ones(40))
        over = terminated | truncated
        ends += torch.tensor([float(terminated.sum()), float(truncated.sum())])
        now = attribute(program, world, "state")
        torch.testing.assert_close(now[~over], reached[~over])
        assert (now[over].abs() <= 0.05).all()
        age[over] = 0
        expected = now.clone()
    assert ends.min() >= 3


def test_fresh_starts_differ_from_one_another(program: Program, seed: int) -> None:
    state = attribute(program, carts(program, seed, count=200), "state")
    assert state.unique().numel() > 790  # two may be equal by chance
    assert state.abs().max() <= 0.05
    assert float(state.std()) == pytest.approx(0.05 / math.sqrt(3), rel=0.1)
    assert state.mean().abs() <= 0.006


@pytest.mark.parametrize(("gamma", "trace"), [(0.9, 0.8), (0.97, 1.0), (1.0, 0.5), (0.9, 0.0)])
def test_advantages_equal_sums_over_later_surprises(
    program: Program, seed: int, gamma: float, trace: float
) -> None:
    given = surprises(seed)
    found = program.call("advantages", *given, gamma, trace)
    torch.testing.assert_close(found, by_hand(*given, gamma, trace), atol=1e-4, rtol=1e-4)


def test_with_full_traces_advantages_are_returns_beyond_what_was_expected(
    program: Program, seed: int
) -> None:
    rewards, values, _, _, _ = surprises(seed, ticks=6, count=1)
    after = torch.cat([values[1:], torch.zeros(1, 1)])
    last = torch.arange(6)[:, None] == 5
    found = program.call("advantages", rewards, values, after, last, last, 0.9, 1.0)
    gains = [sum(0.9**k * float(r) for k, r in enumerate(rewards[t:, 0])) for t in range(6)]
    torch.testing.assert_close(found[:, 0], torch.tensor(gains) - values[:, 0], atol=1e-5, rtol=1e-4)


def test_a_stretch_tells_what_happened(program: Program, seed: int) -> None:
    model, world = lively(program, seed, hidden=16), carts(program, seed)
    found = stretch(program, model, world, 50)
    assert found["seen"].shape == (50, 9, 4)
    log_policy = program.call("agent.log_policy", model, found["seen"])
    taken = torch.where(found["actions"] == 1, log_policy[..., 1], log_policy[..., 0])
    torch.testing.assert_close(found["chances"], taken, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["values"], program.call("agent.value", model, found["seen"]))
    led_to = tick(found["seen"].flatten(0, 1), found["actions"].flatten()).float().reshape(50, 9, 4)
    expected = program.call("agent.value", model, led_to)
    torch.testing.assert_close(found["next_values"], expected, atol=1e-4, rtol=1e-3)
    assert torch.equal(found["terminated"], ~upright(led_to.flatten(0, 1)).reshape(50, 9))
    going = ~found["over"][:-1]
    torch.testing.assert_close(found["seen"][1:][going], led_to[:-1][going], atol=1e-5, rtol=1e-4)
    assert (found["seen"][1:][~going].abs() <= 0.05).all()
    assert found["terminated"].any()
    assert found["rewards"].eq(1).all()


def test_the_next_stretch_goes_on_where_the_last_one_ended(program: Program, seed: int) -> None:
    model, world = lively(program, seed, hidden=16), carts(program, seed)
    stretch(program, model, world, 7)
    now = attribute(program, world, "state")
    assert torch.equal(stretch(program, model, world, 3)["seen"][0], now)


def test_actions_are_drawn_as_often_as_the_policy_says(program: Program, seed: int) -> None:
    chances = torch.tensor([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]]).log().repeat_interleave(3000, dim=0)
    program.seed(seed)
    found = program.call("agent.choose", chances).reshape(3, 3000).double().mean(dim=1)
    torch.testing.assert_close(found, torch.tensor([0.8, 0.1, 0.5]).double(), atol=0.03, rtol=0)


def test_gains_are_cut_off_and_losses_are_not(program: Program) -> None:
    ratio = torch.tensor([0.5, 0.9, 1.1, 1.5, 0.5, 0.9, 1.1, 1.5])
    merits = torch.tensor([2.0, 2.0, 2.0, 2.0, -2.0, -2.0, -2.0, -2.0])
    each = torch.tensor([1.0, 1.8, 2.2, 2.6, -1.4, -1.8, -2.2, -3.0])
    then = torch.linspace(-2, -0.1, 8)
    for k in range(8):
        now = then[k : k + 1] + ratio[k].log()
        found = program.call("update.policy_loss", now, then[k : k + 1], merits[k : k + 1], 0.3)
        assert float(found) == pytest.approx(-float(each[k]), rel=1e-4)
    whole = program.call("update.policy_loss", then + ratio.log(), then, merits, 0.3)
    assert float(whole) == pytest.approx(-float(each.mean()), rel=1e-4)


def test_merits_are_put_on_one_scale(program: Program, seed: int) -> None:
    merits = 50 * draw(seed, 40) + 300
    found = program.call("update.standardise", merits)
    torch.testing.assert_close(found, (merits - merits.mean()) / merits.std(), atol=1e-3, rtol=1e-3)


def test_entropy_is_that_of_the_policy(program: Program) -> None:
    chances = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    expected = torch.distributions.Categorical(chances).entropy().mean()
    assert float(program.call("update.entropy", chances.log())) == pytest.approx(float(expected), rel=1e-5)


def test_the_loss_is_put_together_from_its_parts(program: Program, seed: int) -> None:
    model = lively(program, seed, hidden=16)
    seen, merits, goals = draw(seed, 30, 4), 3 * draw(seed + 1, 30), 5 * draw(seed + 2, 30)
    actions = torch.arange(30) % 2
    log_policy = program.call("agent.log_policy", model, seen)
    now = log_policy.gather(1, actions[:, None])[:, 0]
    then = now + 0.4 * draw(seed + 3, 30)
    ratio, merit = (now - then).exp(), (merits - merits.mean()) / merits.std()
    gain = torch.minimum(ratio * merit, ratio.clamp(0.75, 1.25) * merit).mean()
    miss = (program.call("agent.value", model, seen) - goals).square().mean()
    doubt = -(log_policy.exp() * log_policy).sum(dim=1).mean()
    cfg = settings(program, clip=0.25, value_weight=0.3, entropy_bonus=0.7)
    found = program.call("update.loss", model, seen, actions, then, merits, goals, cfg)
    assert float(found) == pytest.approx(float(0.3 * miss - gain - 0.7 * doubt), rel=1e-3, abs=1e-4)


def test_one_pass_shows_every_row_once(program: Program, seed: int) -> None:
    columns = tuple(torch.arange(21).reshape(7, 3) + 100 * k for k in range(3))
    cfg = settings(program, passes=2, batch=4)
    stream = program.call("update.shuffled", columns, cfg, seeded(program, seed), keep=True)
    iterator = program.call_method(stream, "__iter__", keep=True)
    orders = []
    for _ in range(2):
        found = [program.call_method(iterator, "__next__") for _ in range(6)]
        for one, other, third in found:
            assert torch.equal(one + 100, other)
            assert torch.equal(one + 200, third)
        orders.append(torch.cat([one for one, _, _ in found]))
        assert torch.equal(orders[-1].sort().values, torch.arange(21))
    assert not torch.equal(orders[0], orders[1])
    with pytest.raises(Exception, match="StopIteration"):
        program.call_method(iterator, "__next__")


def test_the_first_loss_has_a_gain_of_nothing(program: Program, task: Task, seed: int) -> None:
    # all ticks in one batch, the policy still the one that played: merits around zero, ratios of one
    cfg = {**task.small, "batch": 1000, "value_weight": 0.0, "entropy_bonus": 0.0, "passes": 1}
    model = program.build(seed=seed, **cfg)
    (first,) = program.train(model, {"limit": LIMIT}, seed, **cfg).next()
    assert abs(first) <= 1e-5


def test_a_fresh_agent_has_no_preference(program: Program, seed: int) -> None:
    chances = program.call("agent.log_policy", program.build(seed=seed), draw(seed, 50, 4))
    assert (chances.exp() - 0.5).abs().max() <= 0.05


def test_both_networks_have_two_hidden_layers(program: Program, seed: int) -> None:
    # the hidden layers of both alike, and no shifts
    model = program.build(seed=seed, hidden=16)
    given = {shape: draw(seed, *shape) / 2 for shape in ((16, 4), (16, 16), (2, 16), (1, 16))}
    state = program.state(model)
    program.load_state(model, {n: given.get(tuple(v.shape), 0 * v) for n, v in state.items()})
    seen = draw(seed + 1, 20, 4)
    hidden = (seen @ given[16, 4].T).tanh() @ given[16, 16].T
    expected = (hidden.tanh() @ given[2, 16].T).log_softmax(dim=1)
    torch.testing.assert_close(program.call("agent.log_policy", model, seen), expected, atol=1e-4, rtol=1e-3)
    values = (hidden.tanh() @ given[1, 16].T)[:, 0]
    torch.testing.assert_close(program.call("agent.value", model, seen), values, atol=1e-4, rtol=1e-3)


def test_weights_start_orthogonal(program: Program, seed: int) -> None:
    state = program.state(program.build(seed=seed, hidden=20))
    expected = {(20, 4): math.sqrt(2), (20, 20): math.sqrt(2), (2, 20): 0.01, (1, 20): 1.0}
    for value in state.values():
        if value.dim() == 1:
            assert not value.any()
            continue
        size = expected[tuple(value.shape)]
        gram = value @ value.T if value.size(0) <= value.size(1) else value.T @ value
        torch.testing.assert_close(gram, size**2 * torch.eye(len(gram)), atol=1e-4, rtol=1e-3)


def test_the_rate_falls_on_a_line(program: Program) -> None:
    cfg = settings(program, rollouts=5, lr=0.5)
    found = [program.call("learning_rate", done, cfg) for done in range(5)]
    assert found == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])


def test_updates_are_those_of_torch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "max_grad_norm": 0.05, "lr": 0.01, "rollouts": 3}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    state = program.state(model)
    params = {n: torch.nn.Parameter(state[n]) for n in program.parameters(model)}
    oracle = torch.optim.Adam(params.values(), lr=0.01, eps=1e-5)
    run = program.train(model, {"limit": LIMIT}, seed, **cfg)
    rates = [0.01 * (1 - (update // 6) / 3) for update in range(9)]  # six belong to one rollout
    follow(program, model, run, oracle, params, rates, max_norm=0.05)
    after = program.state(model)
    for name, parameter in params.items():
        torch.testing.assert_close(after[name], parameter.detach(), atol=5e-4, rtol=1e-2)


def test_the_gradient_is_the_slope_of_the_reported_loss(program: Program, task: Task, seed: int) -> None:
    # a single tick without a future: what is seen and rewarded is the same whatever the policy,
    # and a critic who expects nothing finds all actions equally good
    cfg = {**task.small, "carts": 40, "length": 1, "batch": 1000, "lr": 0.0, "gamma": 0.0}
    cfg |= {"passes": 1, "entropy_bonus": 0.7}
    model = lively(program, seed, **cfg)
    last = {n: v for n, v in program.state(model).items() if v.shape in ((1, 16), (1,))}
    program.load_state(model, {name: torch.zeros_like(value) for name, value in last.items()})
    found, length = slope_of_report(program, model, {"limit": LIMIT}, seed, cfg)
    assert found == pytest.approx(length, rel=0.05)


def test_a_gradient_belongs_to_this_batch_only(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "lr": 0.0, "batch": 1000, "passes": 4, "rollouts": 1}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, {"limit": LIMIT}, seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next(2)
    for name, gradient in program.gradients(model).items():
        torch.testing.assert_close(gradient, first[name], atol=1e-4, rtol=1e-2)


def test_critic_goals_are_advantages_on_top_of_what_was_expected(
    program: Program, task: Task, seed: int
) -> None:
    # with full traces and no discount a goal is the number of ticks that an episode still lasts
    cfg = {**task.small, "carts": 1, "length": 9, "batch": 9, "lr": 0.0, "gamma": 1.0, "trace": 1.0}
    cfg |= {"value_weight": 1.0, "entropy_bonus": 0.0, "passes": 1, "rollouts": 1}
    model = program.build(seed=seed, **cfg)
    zero = {n: torch.zeros_like(v) for n, v in program.state(model).items()}
    program.load_state(model, zero)
    (first,) = program.train(model, {"limit": 3}, seed, **cfg).next()
    assert first == pytest.approx((9 + 4 + 1) / 3, abs=1e-4)


def test_episodes_go_on_from_one_rollout_to_the_next(program: Program, task: Task, seed: int) -> None:
    # as above; an episode of three ticks begins in one stretch of two and ends in the next
    cfg = {**task.small, "carts": 1, "length": 2, "batch": 2, "lr": 0.0, "gamma": 1.0, "trace": 1.0}
    cfg |= {"value_weight": 1.0, "entropy_bonus": 0.0, "passes": 1, "rollouts": 2}
    model = program.build(seed=seed, **cfg)
    zero = {n: torch.zeros_like(v) for n, v in program.state(model).items()}
    program.load_state(model, zero)
    found = program.train(model, {"limit": 3}, seed, **cfg).next(2)
    assert found == pytest.approx([(4 + 1) / 2, 1.0], abs=1e-4)


def test_every_parameter_moves(program: Program, task: Task, seed: int) -> None:
    before = program.state(program.build(seed=seed, **task.small))
    model, _ = trained(program, task, seed)
    after = program.state(model)
    assert all(not torch.equal(after[name], before[name]) for name in program.parameters(model))


def test_predictions_are_the_preferred_actions(program: Program, seed: int) -> None:
    model, seen = lively(program, seed), draw(seed, 60, 4)
    expected = program.call("agent.log_policy", model, seen).argmax(dim=1)
    found = program.predict(model, seen)
    assert torch.equal(found, expected)
    assert torch.equal(program.predict(model, seen[5:9]), found[5:9])
    assert 0 < int(found.sum()) < 60


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    before, seen = program.state(model), draw(seed, 60, 4)
    first = program.predict(model, seen)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, seen))
    assert all(torch.equal(before[name], value) for name, value in program.state(model).items())


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    first, second = (trained(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == 2 * 2 * 3  # rollouts, passes, batches of 50 from 120


def test_it_learns_in_a_short_run(program: Program, task: Task, seed: int) -> None:
    reached = []
    for offset in range(2):
        data = task.data(seed + offset)
        model = program.build(seed=seed + offset, rollouts=8)
        program.train(model, data.train, seed + offset, rollouts=8).next(1000)
        reached.append(task.measure(program, model, data.held_out).metric)
    assert max(reached) >= 100
