"""What any correct double DQN on falling balls does, whoever wrote it."""

import itertools

import pytest
import torch

from bughunt.references.dqn_catch.task import COLUMNS, ROWS, board
from bughunt.references.gradients import follow
from bughunt.references.slope import slope_of_report

FOREVER = 10**6


def _after(program, task, seed, **config):
    """A model after a short run, and the losses."""
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, task.data(seed).train, seed, **config).next(config["steps"])
    return model, losses


def _boards(seed, count=40):
    rng = torch.Generator().manual_seed(seed)
    ball, paddle = torch.randint(COLUMNS, (2, count), generator=rng)
    heights = torch.randint(ROWS - 1, (count,), generator=rng)
    drawn = [board(int(h), ball[i : i + 1], paddle[i : i + 1]) for i, h in enumerate(heights)]
    return torch.cat(drawn)


def _rng(program, seed):
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    return rng


def _changed(program, task, seed, **config):
    before = program.state(program.build(seed=seed, **task.small))
    after = program.state(_after(program, task, seed, **config)[0])
    return {name for name in before if not torch.equal(before[name], after[name])}


def _places(seen):
    """The row and column of the ball and the column of the paddle, of boards where they lie apart."""
    upper = seen[:, :-1].flatten(1)
    assert torch.equal(upper.sum(dim=1), torch.ones(len(seen)))
    assert torch.equal(seen[:, -1].sum(dim=1), torch.ones(len(seen)))
    spot = upper.argmax(dim=1)
    return spot // seen.size(2), spot % seen.size(2), seen[:, -1].argmax(dim=1)


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_after(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_every_parameter_moves(program, task, seed):
    state = program.state(program.build(seed=seed, **task.small))
    assert _changed(program, task, seed, sync_every=2) == set(state)


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _ = _after(program, task, seed)
    before, boards = program.state(model), _boards(seed)
    assert torch.equal(program.predict(model, boards), program.predict(model, boards))
    for name, value in program.state(model).items():
        assert torch.equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _ = _after(program, task, seed)
    boards = _boards(seed)
    few, together = program.call("values", model, boards[3:6]), program.call("values", model, boards)
    torch.testing.assert_close(few, together[3:6], atol=1e-6, rtol=1e-5)
    assert torch.equal(program.predict(model, boards[3:6]), program.predict(model, boards)[3:6])


def test_a_fresh_agent_promises_little(program, seed):
    assert program.call("values", program.build(seed=seed), _boards(seed)).abs().max() < 0.8


@pytest.mark.parametrize("number", [0.1, -0.1, -0.5])
def test_values_are_two_layers_with_what_is_positive_between(program, task, seed, number):
    # every number of the model is the same, so that it does not matter how they are arranged
    model = program.build(seed=seed, **task.small)
    program.load_state(model, {n: torch.full_like(v, number) for n, v in program.state(model).items()})
    boards = _boards(seed) * torch.linspace(0, 3, 40)[:, None, None]
    inner = (number * boards.sum(dim=(1, 2)) + number).clamp(min=0)
    expected = (task.small["hidden"] * number * inner + number)[:, None].expand(-1, 3)
    torch.testing.assert_close(program.call("values", model, boards), expected, atol=1e-5, rtol=1e-4)


def test_a_gradient_belongs_to_this_batch_only(program, task, seed):
    config = {**task.small, "batch": 400, "lr": 0.0, "steps": 20}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, task.data(seed).train, seed, **config)
    sizes = []
    for _ in range(20):
        run.next()
        sizes.append(torch.cat([g.flatten() for g in program.gradients(model).values()]).norm())
    assert sum(sizes[15:]) < 2 * sum(sizes[:5])


def test_the_gradient_is_the_slope_of_the_loss(program, task, seed):
    # nothing ahead counts, so no target moves; all actions are random, so the boards are the same each time
    config, size = {**task.small, "gamma": 0.0, "lr": 0.0}, task.data(seed).train
    model = program.build(seed=seed, **config)
    found, length = slope_of_report(program, model, size, seed, config, same_draws=True)
    assert found == pytest.approx(length, rel=0.05)


def test_updates_are_those_of_torch(program, task, seed):
    config = {**task.small, "lr": 0.01, "sync_every": FOREVER}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    leaves = {name: torch.nn.Parameter(value) for name, value in program.state(model).items()}
    oracle = torch.optim.Adam(leaves.values(), lr=0.01)
    run = program.train(model, task.data(seed).train, seed, **config)
    follow(program, model, run, oracle, leaves, [0.01] * 4)
    for name, value in program.state(model).items():
        torch.testing.assert_close(value, leaves[name].detach(), atol=1e-4, rtol=1e-3)


def test_the_network_that_judges_gets_no_gradient(program, task, seed):
    config = {**task.small, "sync_every": FOREVER}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    program.train(model, task.data(seed).train, seed, **config).next(4)
    movers = _changed(program, task, seed, sync_every=FOREVER)
    assert set(program.gradients(model)) == movers
    assert movers < set(program.state(model))


def test_both_networks_agree_after_a_sync_and_only_then(program, task, seed):
    model, _ = _after(program, task, seed, sync_every=FOREVER, lr=0.05)
    boards, nothing = _boards(seed), torch.zeros(40)
    before = program.call("targets", model, nothing, boards, nothing.bool(), 1.0)
    best = program.call("values", model, boards).amax(dim=1)
    assert not torch.allclose(before, best, atol=1e-3)
    program.call("sync", model)
    after = program.call("targets", model, nothing, boards, nothing.bool(), 1.0)
    torch.testing.assert_close(after, best, atol=1e-6, rtol=1e-5)


def test_the_judging_network_is_renewed_at_a_fixed_pace(program, task, seed):
    config = {**task.small, "sync_every": 4}
    model = program.build(seed=seed, **config)
    run = program.train(model, task.data(seed).train, seed, **config)
    movers = _changed(program, task, seed, sync_every=FOREVER)
    states = []
    for _ in range(10):
        run.next()
        state = program.state(model)
        states.append(torch.cat([state[n].flatten() for n in sorted(state) if n not in movers]))
    renewed = [not torch.equal(*pair) for pair in itertools.pairwise(states)]
    assert sum(renewed) == 2
    first = renewed.index(True)
    assert renewed[first + 4]


def test_a_target_adds_what_is_ahead_unless_the_ball_is_down(program, task, seed):
    fresh = program.build(seed=seed, **task.small)  # what the judging network still is, without a sync
    model, _ = _after(program, task, seed, sync_every=FOREVER, lr=0.05)
    boards, rng = _boards(seed), torch.Generator().manual_seed(seed)
    reward, down = torch.randn(40, generator=rng), torch.rand(40, generator=rng) < 0.4
    picked = program.call("values", model, boards).argmax(dim=1)
    rated = program.call("values", fresh, boards)
    found = program.call("targets", model, reward, boards, down, 0.7)
    assert found.shape == (40,)
    for row in range(40):
        ahead = 0.0 if down[row] else 0.7 * rated[row, picked[row]].item()
        assert found[row].item() == pytest.approx(reward[row].item() + ahead, abs=1e-5)


def test_the_loss_looks_at_the_actions_taken(program, seed):
    model, boards = program.build(seed=seed), _boards(seed)
    rng = torch.Generator().manual_seed(seed)
    actions, goal = torch.randint(3, (40,), generator=rng), 2 * torch.randn(40, generator=rng)
    of_all = program.call("values", model, boards)
    total = 0.0
    for row in range(40):
        gap = abs((of_all[row, actions[row]] - goal[row]).item())
        total += 0.5 * gap**2 if gap < 1 else gap - 0.5
    found = float(program.call("loss", model, boards, actions, goal))
    assert found == pytest.approx(total / 40, rel=1e-4)


def test_exploration_falls_evenly_to_its_floor(program):
    cfg = program.call("Config", keep=True, exploring=50, least_epsilon=0.2)
    shares = [program.call("epsilon", step, cfg) for step in (0, 10, 25, 50, 500)]
    assert shares == pytest.approx([1.0, 0.84, 0.6, 0.2, 0.2])


def test_exploration_takes_random_actions_as_often_as_told(program, seed):
    model, boards = program.build(seed=seed), _boards(seed, count=20).repeat(150, 1, 1)
    best = program.predict(model, boards)
    for share in (0.0, 0.3, 1.0):
        program.seed(seed)
        actions = program.call("explore", model, boards, share)
        kept = (actions == best).double().mean().item()
        assert kept == pytest.approx(1 - share * 2 / 3, abs=0.04 * (share > 0))
        if share == 1.0:
            counts = torch.bincount(actions, minlength=3) / 3000
            assert counts.tolist() == pytest.approx([1 / 3] * 3, abs=0.04)


def test_balls_fall_and_paddles_move_and_new_balls_come(program, seed):
    program.seed(seed)
    env = program.call("Catch", 400, 6, 5, "cpu", keep=True)
    row, column, paddle = _places(program.call_method(env, "observe"))
    assert row.unique().numel() == 5
    rng = torch.Generator().manual_seed(seed)
    for tick in range(12):
        program.seed(seed + 1 + tick)
        actions = torch.randint(3, (400,), generator=rng)
        reached, reward, down = program.call_method(env, "step", actions)
        moved = (paddle + actions - 1).clamp(0, 4)
        assert torch.equal(down, row == 4)
        expected = torch.zeros(400, 6, 5)
        expected[torch.arange(400), row + 1, column] = 1
        expected[torch.arange(400), 5, moved] = 1
        assert torch.equal(reached, expected)
        hit = torch.where(moved == column, 1.0, -1.0)
        assert torch.equal(reward, torch.where(down, hit, 0.0))
        before, was_down = (row + 1, column), down
        row, column, paddle = _places(program.call_method(env, "observe"))
        assert torch.equal(paddle, moved)
        assert torch.equal(row, torch.where(was_down, 0, before[0]))
        assert torch.equal(column[~was_down], before[1][~was_down])
        if was_down.sum() > 60:
            assert column[was_down].unique().numel() == 5


def test_the_memory_keeps_the_newest_rows_and_nothing_else(program, seed):
    memory = program.call("Replay", 10, keep=True)
    rng = _rng(program, seed)
    program.call_method(memory, "add", torch.ones(3, 2), torch.ones(3), keep=True)
    early, _ = program.call_method(memory, "sample", 50, rng)
    assert torch.equal(early, torch.ones(50, 2))  # places not yet filled are never drawn
    for first in (10, 14, 18, 22):
        numbers = torch.arange(first, first + 4).float()
        rows = torch.stack([numbers, -numbers], dim=1)
        program.call_method(memory, "add", rows, 2 * numbers, keep=True)
    rows, doubles = program.call_method(memory, "sample", 400, rng)
    assert sorted(set(rows[:, 0].tolist())) == list(range(16, 26))
    assert torch.equal(rows[:, 1], -rows[:, 0])
    assert torch.equal(doubles, 2 * rows[:, 0])
    counts = torch.bincount(rows[:, 0].long())[16:]
    assert counts.min() > 15


def test_training_remembers_as_many_rows_as_it_is_told(program, task, seed):
    # One board, values that stay nil: one row in seven has a reward, and it is known for three ticks.
    config = {**task.small, "boards": 1, "memory": 3, "first_look": 5, "batch": 99, "lr": 0.0, "steps": 7}
    model = program.build(seed=seed, **config)
    program.load_state(model, {n: torch.zeros_like(v) for n, v in program.state(model).items()})
    reported = sorted(program.train(model, task.data(seed).train, seed, **config).next(7))
    assert reported[:4] == [0.0] * 4
    assert reported[4:] == pytest.approx([0.5 / 3] * 3, abs=0.13)


def test_the_first_update_has_a_memory_to_look_into(program, task, seed):
    # Random play in which all values are nil: targets are the rewards alone, so the loss tells their share.
    config = {**task.small, "boards": 200, "first_look": 20, "batch": 3000, "steps": 1}
    model = program.build(seed=seed, **config)
    program.load_state(model, {n: torch.zeros_like(v) for n, v in program.state(model).items()})
    reported = program.train(model, task.data(seed).train, seed, **config).next()[0]
    assert reported == pytest.approx(0.5 / (ROWS - 1), rel=0.15)


def test_the_agent_learns_to_catch(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    before = task.measure(program, model, data.held_out)
    program.train(model, data.train, seed, steps=450, exploring=250).next(450)
    after = task.measure(program, model, data.held_out)
    assert after.metric > before.metric + 0.3
    assert after.curve < 0.65 * before.curve
    assert program.call("values", model, _boards(seed)).abs().max() < 2.5
