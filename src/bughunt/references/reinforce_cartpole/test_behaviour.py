"""What any correct REINFORCE on the cart and pole does, whoever wrote it."""

import math

import pytest
import torch

from bughunt.references.gradients import follow
from bughunt.references.slope import slope_of_report


def _after(program, task, seed, **config):
    """A model after a short run, and the losses."""
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, task.data(seed).train, seed, **config).next(config["steps"])
    return model, losses


def _played(seed):
    """Made-up episodes of unlike lengths: observations, actions, rewards, alive."""
    T, N = 9, 5
    rng = torch.Generator().manual_seed(seed)
    observations = torch.randn(T, N, 4, generator=rng)
    actions = torch.randint(2, (T, N), generator=rng)
    rewards = torch.rand(T, N, generator=rng) + 0.5
    lengths = torch.tensor([9, 4, 1, 7, 5])
    return observations, actions, rewards, torch.arange(T)[:, None] < lengths


def _states(seed, count=64):
    rng = torch.Generator().manual_seed(seed)
    return (torch.rand(count, 4, generator=rng) - 0.5) * torch.tensor([4.0, 4.0, 0.6, 4.0])


def _gymnasium_step(state, action):
    """CartPole-v1, Euler, in double precision, one state at a time."""
    x, x_dot, theta, theta_dot = state
    force = 10.0 if action == 1 else -10.0
    cos, sin = math.cos(theta), math.sin(theta)
    masspole, total_mass, length, gravity, tau = 0.1, 1.1, 0.5, 9.8, 0.02
    temp = (force + masspole * length * theta_dot**2 * sin) / total_mass
    theta_acc = (gravity * sin - cos * temp) / (length * (4.0 / 3.0 - masspole * cos**2 / total_mass))
    x_acc = temp - masspole * length * theta_acc * cos / total_mass
    return [x + tau * x_dot, x_dot + tau * x_acc, theta + tau * theta_dot, theta_dot + tau * theta_acc]


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_after(program, task, seed, steps=4)[1] for _ in range(2))
    assert first == second
    assert len(first) == 4


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed))
    model, _ = _after(program, task, seed, steps=2)
    after = program.state(model)
    for name in program.parameters(model):
        assert not torch.equal(before[name], after[name]), name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _ = _after(program, task, seed, steps=2)
    before, states = program.state(model), _states(seed)
    assert torch.equal(program.predict(model, states), program.predict(model, states))
    for name, value in program.state(model).items():
        assert torch.equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _ = _after(program, task, seed, steps=2)
    states = _states(seed)
    assert torch.equal(program.predict(model, states[3:8]), program.predict(model, states)[3:8])


def test_a_fresh_policy_is_undecided(program, seed):
    model = program.build(seed=seed)
    chances = program.call_method(model, "__call__", _states(seed)).softmax(dim=-1)
    assert chances.min() > 0.15


@pytest.mark.parametrize("number", [0.3, -0.2])
def test_the_policy_is_two_layers_with_a_bounded_one_between(program, seed, number):
    # every number of the model is the same, so that it does not matter how they are arranged
    model, states = program.build(seed=seed, hidden=7), _states(seed)
    program.load_state(model, {n: torch.full_like(v, number) for n, v in program.state(model).items()})
    inner = (number * states.sum(dim=1) + number).tanh()
    expected = (7 * number * inner + number)[:, None].expand(-1, 2)
    torch.testing.assert_close(program.call_method(model, "__call__", states), expected, atol=1e-5, rtol=1e-4)


def test_a_gradient_belongs_to_this_batch_only(program, task, seed):
    # The weights are put back before every update, so gradients keep their size unless they pile up.
    model = program.build(seed=seed, **task.small)
    start = program.state(model)
    program.watch_gradients(model, True)
    run = program.train(model, task.data(seed).train, seed, **task.small)
    sizes = []
    for _ in range(10):
        program.load_state(model, start)
        run.next()
        sizes.append(torch.cat([g.flatten() for g in program.gradients(model).values()]).norm())
    assert sum(sizes[5:]) < 2 * sum(sizes[:5])


def test_the_gradient_is_the_slope_of_the_loss(program, task, seed):
    # after one step all fare equally well, so that the entropy alone is left
    config, data = {**task.small, "limit": 1, "lr": 0.0, "entropy_bonus": 1.0}, task.data(seed).train
    model = program.build(seed=seed, **config)
    program.load_state(model, {n: 4 * v for n, v in program.state(model).items()})
    found, length = slope_of_report(program, model, data, seed, config)
    assert found == pytest.approx(length, rel=0.05)


def test_where_all_fare_equally_well_the_entropy_alone_is_left(program, task, seed):
    # all begin at the same place and play one step
    config = {**task.small, "limit": 1, "entropy_bonus": 0.7}
    model = program.build(seed=seed, **config)
    program.load_state(model, {n: 4 * v for n, v in program.state(model).items()})
    chances = program.call_method(model, "__call__", torch.zeros(1, 4)).softmax(dim=-1)
    (reported,) = program.train(model, {"spread": 0.0}, seed, **config).next()
    assert reported == pytest.approx(0.7 * float((chances * chances.log()).sum()), abs=1e-5)


def test_without_a_future_no_action_is_better_than_another(program, task, seed):
    config = {**task.small, "gamma": 0.0, "entropy_bonus": 0.0}
    model = program.build(seed=seed, **config)
    reported = program.train(model, {"spread": 0.2}, seed, **config).next(2)
    assert reported == pytest.approx([0.0, 0.0], abs=1e-5)


def test_updates_are_those_of_torch(program, task, seed):
    config = {**task.small, "limit": 20, "lr": 0.03}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    leaves = {name: torch.nn.Parameter(value) for name, value in program.state(model).items()}
    oracle = torch.optim.Adam(leaves.values(), lr=0.03)
    run = program.train(model, task.data(seed).train, seed, **config)
    follow(program, model, run, oracle, leaves, [0.03] * 4)
    for name, value in program.state(model).items():
        torch.testing.assert_close(value, leaves[name].detach(), atol=1e-4, rtol=1e-3)


def test_a_step_obeys_the_equations_of_the_cart_and_pole(program, seed):
    states = _states(seed)
    actions = torch.arange(len(states)) % 2
    expected = [_gymnasium_step(s, a) for s, a in zip(states.tolist(), actions.tolist(), strict=True)]
    found = program.call("physics", states, actions)
    assert torch.allclose(found, torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("state", "over"),
    [
        ([2.39, 0.0, 0.0, 0.0], False),
        ([2.41, 0.0, 0.0, 0.0], True),
        ([-2.41, 0.0, 0.0, 0.0], True),
        ([0.0, 0.0, 0.209, 0.0], False),
        ([0.0, 0.0, 0.210, 0.0], True),
        ([0.0, 0.0, -0.210, 0.0], True),
        ([0.0, 9.0, 0.0, 9.0], False),
    ],
)
def test_an_episode_is_over_beyond_the_track_or_twelve_degrees(program, state, over):
    assert program.call("fallen", torch.tensor([state])).tolist() == [over]


def test_the_environment_carries_its_state_and_counts_its_time(program):
    state = torch.zeros(2, 4) + torch.tensor([[0.0], [0.01]])
    env = program.call("CartPole", state, 5, keep=True)
    rows = state.tolist()
    for time in range(1, 6):
        actions = torch.tensor([time % 2, 1 - time % 2])
        rows = [_gymnasium_step(s, a) for s, a in zip(rows, actions.tolist(), strict=True)]
        seen, reward, terminated, truncated = program.call_method(env, "step", actions)
        assert torch.allclose(seen, torch.tensor(rows), atol=1e-5)
        assert reward.tolist() == [1.0, 1.0]
        assert terminated.tolist() == [False, False]
        assert truncated.tolist() == [time == 5, time == 5]


def test_exploration_draws_actions_with_the_chances_of_the_policy(program, seed):
    chances = torch.tensor([0.8, 0.2])
    program.seed(seed)
    actions = program.call("choose", chances.log().expand(4000, 2).contiguous())
    assert actions.shape == (4000,)
    assert program.call("choose", chances.log()[None]).shape == (1,)
    assert actions.float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_the_record_of_an_episode_follows_the_cart_until_it_falls(program, seed):
    start, limit = _states(seed, count=6) * 0.1, 30
    model = program.build(seed=seed)
    seen, actions, rewards, alive = program.call("rollout", model, start, limit)
    for n in range(len(start)):
        state, length = start[n].tolist(), int(alive[:, n].sum())
        assert alive[:length, n].all()
        assert rewards[:length, n].tolist() == [1.0] * length
        for t in range(length):
            assert seen[t, n].tolist() == pytest.approx(state, abs=1e-3)
            state = _gymnasium_step(state, int(actions[t, n]))
            fell = abs(state[0]) > 2.4 or abs(state[2]) > math.radians(12)
            assert (fell or t + 1 == limit) == (t + 1 == length)


def test_returns_equal_a_loop_over_every_later_reward(program, seed):
    _, _, rewards, alive = _played(seed)
    expected = torch.zeros_like(rewards)
    for n in range(rewards.size(1)):
        length = int(alive[:, n].sum())
        for t in range(length):
            later = range(t, length)
            expected[t, n] = sum(0.9 ** (k - t) * rewards[k, n].item() for k in later)
    assert torch.allclose(program.call("returns", rewards, alive, 0.9), expected, atol=1e-5)


def test_advantages_compare_each_step_with_the_others_of_its_time(program, seed):
    _, _, gains, alive = _played(seed)
    found = program.call("advantages", gains + torch.arange(9)[:, None], alive)
    for t in range(7):
        assert found[t][alive[t]].sum().item() == pytest.approx(0.0, abs=1e-4)
    assert torch.equal(found[~alive], torch.zeros_like(found[~alive]))
    assert torch.equal(found[0].argsort(), gains[0].argsort())


def test_advantages_do_not_depend_on_the_unit_of_the_reward(program, seed):
    _, _, gains, alive = _played(seed)
    one, thousand = (program.call("advantages", unit * gains, alive) for unit in (1.0, 1000.0))
    assert torch.allclose(one, thousand, atol=1e-4)
    assert one[alive].std().item() == pytest.approx(1.0, abs=0.1)


def _loss(program, model, played, merits, bonus=0.0):
    observations, actions, _, alive = played
    value = program.call("loss", model, observations, actions, merits, alive, bonus)
    return float(value)


def test_steps_after_the_end_of_an_episode_have_no_say(program, seed):
    model, played = program.build(seed=seed), _played(seed)
    observations, actions, rewards, alive = played
    merits = rewards * alive
    changed = torch.where(alive[..., None], observations, observations + 3)
    flipped = torch.where(alive, actions, 1 - actions)
    for bonus in (0.0, 0.5):
        one = _loss(program, model, played, merits, bonus)
        other = _loss(program, model, (changed, flipped, rewards, alive), merits, bonus)
        assert one == pytest.approx(other, abs=1e-6)


def test_the_loss_is_the_policy_gradient_of_the_steps_played(program, seed):
    model, played = program.build(seed=seed), _played(seed)
    observations, actions, rewards, alive = played
    merits = (rewards - 1) * alive
    logits = program.call_method(model, "__call__", observations)
    policy = torch.distributions.Categorical(logits=logits)
    for bonus in (0.0, 0.7):
        each = policy.log_prob(actions) * merits + bonus * policy.entropy()
        expected = -each[alive].mean().item()
        assert _loss(program, model, played, merits, bonus) == pytest.approx(expected, abs=1e-5)


def test_a_bandit_prefers_the_arm_that_pays(program, seed):
    observations = torch.zeros(1, 40, 4)
    actions = torch.arange(40)[None] % 2
    merits = torch.where(actions == 1, 1.0, -1.0)
    alive = torch.ones(1, 40, dtype=torch.bool)
    by_preference = []
    for offset in range(6):
        model = program.build(seed=seed + offset)
        chance = program.call_method(model, "__call__", observations[0, :1]).softmax(-1)[0, 1]
        value = program.call("loss", model, observations, actions, merits, alive, 0.0)
        by_preference.append((float(chance), float(value)))
    losses = [value for _, value in sorted(by_preference)]
    assert losses == sorted(losses, reverse=True)


def test_it_learns_to_push_under_a_falling_pole(program, task, seed):
    model, _ = _after(program, task, seed, episodes=24, steps=12)
    lean = torch.tensor([[0.0, 0.0, 0.15, 0.8], [0.0, 0.0, -0.15, -0.8]])
    assert program.predict(model, lean).tolist() == [1, 0]


def test_training_prolongs_the_balance(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    before = task.measure(program, model, data.held_out).metric
    after_model, _ = _after(program, task, seed, episodes=24, steps=18)
    after = task.measure(program, after_model, data.held_out).metric
    assert after > before + 15
