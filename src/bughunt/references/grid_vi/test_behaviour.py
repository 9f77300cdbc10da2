"""What any correct planner and walker on a slippery grid do, whoever wrote them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bughunt.references.grid_vi import task as judge
from bughunt.task import Model, Program, Task

SEEDS = range(3)


def settings(program: Program, **config: object) -> Model:
    return program.call("Config", keep=True, **config)


def seeded(program: Program, seed: int) -> Model:
    return program.call("np.random.default_rng", seed, keep=True)


def whole_law(cells: NDArray[np.int64], slip: float = judge.SLIP) -> NDArray[np.float64]:
    """Chances [S, A, S], state by state; who has arrived stays."""
    law = np.zeros((cells.size, 4, cells.size))
    for state, kind in enumerate(cells.flat):
        for action in range(4):
            if kind in (judge.GOAL, judge.PIT):
                law[state, action, state] = 1
            else:
                law[state, action, judge.neighbour(cells, state, action)] += 1 - slip
                for side in (1, 3):
                    after = judge.neighbour(cells, state, (action + side) % 4)
                    law[state, action, after] += slip / 2
    return law


def given(program: Program, seed: int) -> tuple[NDArray[np.int64], tuple[object, ...]]:
    """A map, and what the program makes of it: law, rewards, ends."""
    cells = judge.grid(seed)
    law = program.call("transitions", cells, judge.SLIP)
    reward = program.call("rewards", cells, settings(program))
    return cells, (law, reward, program.call("is_end", cells))


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, task.data(seed).train, seed, **config).next(200)


@pytest.mark.parametrize("offset", SEEDS)
def test_the_laws_equal_those_written_cell_by_cell(program: Program, seed: int, offset: int) -> None:
    cells = judge.grid(seed + offset)
    for slip in (0.0, 0.2, 0.7):
        found = np.asarray(program.call("transitions", cells, slip))
        assert np.allclose(found, whole_law(cells, slip), atol=1e-9)


def test_steps_at_the_edge_and_into_walls_lead_nowhere(program: Program) -> None:
    cells = np.array([[0, 0, 1], [0, 1, 0]])
    found = [[program.call("moved", state, action, cells) for action in range(4)] for state in (0, 1, 3, 5)]
    assert found == [[0, 1, 3, 0], [1, 1, 1, 0], [0, 3, 3, 3], [5, 5, 5, 5]]


def test_rewards_are_given_on_arrival(program: Program) -> None:
    cells = np.array([[0, 2, 3], [1, 0, 2]])
    cfg = settings(program, step_reward=-0.5, goal_reward=4.0, pit_reward=-3.0)
    assert np.allclose(program.call("rewards", cells, cfg), [-0.5, 3.5, -3.5, -0.5, -0.5, 3.5])
    assert np.array_equal(program.call("is_end", cells), [False, True, True, False, False, True])


def test_a_backup_equals_one_written_out(program: Program, seed: int) -> None:
    cells, (law, reward, ends) = given(program, seed)
    values = np.random.default_rng(seed).normal(size=cells.size)
    going, expected_reward = judge.laws(cells)
    expected = expected_reward + 0.8 * going @ values
    found = np.asarray(program.call("backup", values, law, reward, ends, 0.8))
    assert np.allclose(found, expected, atol=1e-9)


def test_a_backup_brings_any_two_guesses_closer(program: Program, seed: int) -> None:
    cells, (law, reward, ends) = given(program, seed)
    one, other = np.random.default_rng(seed).normal(size=(2, cells.size))
    pair = [np.asarray(program.call("backup", v, law, reward, ends, 0.6)).max(axis=1) for v in (one, other)]
    assert np.abs(pair[0] - pair[1]).max() <= 0.6 * np.abs(one - other).max() + 1e-9


def test_the_first_of_equally_good_actions_is_taken(program: Program) -> None:
    worth = np.array([[0.0, 1.0, 1.0, 0.5], [2.0, 2.0, 2.0, 2.0], [-1.0, -3.0, -1.0, -0.5]])
    assert np.array_equal(program.call("greedy", worth), [1, 0, 3])


def test_the_worth_of_a_policy_obeys_its_equations(program: Program, seed: int) -> None:
    cells, (law, reward, ends) = given(program, seed)
    policy = np.random.default_rng(seed).integers(4, size=cells.size)
    found = np.asarray(program.call("worth_of_policy", policy, law, reward, ends, judge.GAMMA))
    assert np.allclose(found, judge.earned(policy, *judge.laws(cells)), atol=1e-8)


@pytest.mark.parametrize("offset", SEEDS)
def test_values_come_to_those_of_the_best_policy(
    program: Program, task: Task, seed: int, offset: int
) -> None:
    model, _ = trained(program, task, seed + offset, steps=150, episodes=1)
    held_out = task.data(seed + offset).held_out
    values = np.asarray(program.state(model)["values"])
    assert np.allclose(values[held_out["free"]], held_out["best"][held_out["free"]], atol=1e-4)


def test_values_after_each_sweep_are_those_of_a_plan_one_step_longer(
    program: Program, task: Task, seed: int
) -> None:
    model = program.build(seed=seed, steps=4, episodes=1)
    run = program.train(model, task.data(seed).train, seed, steps=4, episodes=1)
    going, reward = judge.laws(judge.grid(seed))
    expected = np.zeros(len(reward))
    for _ in range(4):
        run.next()
        expected = (reward + judge.GAMMA * going @ expected).max(axis=1)
        assert np.allclose(program.state(model)["values"], expected, atol=1e-9)


def test_what_is_random_gets_less_along_a_line(program: Program) -> None:
    cfg = settings(program, steps=11, first_epsilon=0.8, last_epsilon=0.2)
    found = [program.call("epsilon", step, cfg) for step in range(11)]
    assert found == pytest.approx([0.8 - 0.06 * k for k in range(11)])


def test_one_correction_goes_towards_what_was_seen(program: Program, seed: int) -> None:
    cfg = settings(program, gamma=0.5, slowing=0.7)
    model = program.build(seed=seed)
    table = np.random.default_rng(seed).normal(size=(48, 4))
    visits = np.zeros((48, 4))
    visits[3, 2] = 4.0
    program.load_state(model, {"table": table, "visits": visits})
    error = program.call("correct", model, 3, 2, 0.25, 7, False, cfg)
    due = 0.25 + 0.5 * table[7].max() - table[3, 2]
    assert error == pytest.approx(due)
    after = program.state(model)
    assert after["table"][3, 2] == pytest.approx(table[3, 2] + due * 5**-0.7)
    assert after["visits"][3, 2] == 5
    changed = np.asarray(after["table"]) != table
    assert changed.sum() == 1
    program.call("correct", model, 3, 2, 0.25, 7, True, cfg)
    last = float(after["table"][3, 2])
    expected = last + (0.25 - last) * 6**-0.7
    assert program.state(model)["table"][3, 2] == pytest.approx(expected)


def test_a_walk_ends_where_it_should(program: Program, seed: int) -> None:
    cells = np.array([[0, 0, 0, 2]])
    law = whole_law_of_a_corridor()
    reward, ends = np.array([-0.1, -0.1, -0.1, 0.9]), np.array([False, False, False, True])
    cfg = settings(program, rows=1, columns=4, longest=9, gamma=0.9)
    model = program.build(seed=seed, rows=1, columns=4)
    right = np.tile([0.0, 1.0, 0.0, 0.0], (4, 1))
    program.load_state(model, {"table": right})
    assert program.call("walk", model, law, reward, ends, 0, 0.0, cfg, seeded(program, seed)) == 3
    visits = np.asarray(program.state(model)["visits"])
    assert np.array_equal(visits[:3], np.tile([0, 1, 0, 0], (3, 1)))
    assert not visits[3].any()
    assert program.state(model)["table"][2, 1] == pytest.approx(0.9)
    program.load_state(model, {"table": right[:, [1, 0, 2, 3]]})
    assert program.call("walk", model, law, reward, ends, 0, 0.0, cfg, seeded(program, seed)) == 9
    assert cells.size == 4


def whole_law_of_a_corridor() -> NDArray[np.float64]:
    """Four cells in a row, the last one the goal; right and left do what they say."""
    law = np.zeros((4, 4, 4))
    for state in range(3):
        law[state, [0, 2], state] = 1
        law[state, 1, state + 1] = 1
        law[state, 3, max(state - 1, 0)] = 1
    law[3, :, 3] = 1
    return law


def test_all_actions_are_tried_as_often_as_the_share_says(program: Program, seed: int) -> None:
    law, ends = np.zeros((2, 4, 2)), np.array([False, True])
    law[:, :, 0] = 1
    cfg = settings(program, rows=1, columns=2, longest=2000)
    model = program.build(seed=seed, rows=1, columns=2)
    often = np.full((2, 4), 1e9)  # so that what is seen changes next to nothing
    program.load_state(model, {"table": np.array([[0.0, 0.0, 50.0, 0.0]] * 2), "visits": often})
    program.call("walk", model, law, np.zeros(2), ends, 0, 0.4, cfg, seeded(program, seed))
    share = (np.asarray(program.state(model)["visits"]) - often)[0] / 2000
    assert share == pytest.approx([0.1, 0.1, 0.7, 0.1], abs=0.04)


def test_steps_lead_where_the_law_says(program: Program, seed: int) -> None:
    law = np.zeros((4, 4, 4))
    law[:, :] = [0.15, 0.5, 0.05, 0.3]
    cfg = settings(program, rows=1, columns=4, longest=4000, gamma=0.0)
    model = program.build(seed=seed, rows=1, columns=4)
    args = (law, np.zeros(4), np.zeros(4, bool), 0, 1.0, cfg, seeded(program, seed))
    program.call("walk", model, *args)
    visits = np.asarray(program.state(model)["visits"]).sum(axis=1) / 4000
    assert visits == pytest.approx([0.15, 0.5, 0.05, 0.3], abs=0.035)


def test_episodes_start_in_every_free_cell(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed, steps=40, episodes=20, longest=1)
    visited = np.asarray(program.state(model)["visits"]).sum(axis=1)
    free = judge.grid(seed).ravel() == judge.FREE
    assert (visited[free] > 0).all()
    assert not visited[~free].any()
    assert visited.sum() == 800


def test_the_reported_regret_is_that_of_the_table(program: Program, task: Task, seed: int) -> None:
    model, losses = trained(program, task, seed, steps=100, episodes=2)
    going, reward = judge.laws(judge.grid(seed))
    held_out = task.data(seed).held_out
    policy = np.asarray(program.state(model)["table"]).argmax(axis=1)
    regret = (held_out["best"] - judge.earned(policy, going, reward))[held_out["free"]].mean()
    assert losses[-1] == pytest.approx(regret, abs=1e-4)


def test_predictions_are_the_best_actions_of_the_table(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    table = np.random.default_rng(seed).normal(size=(48, 4))
    program.load_state(model, {"table": table})
    states = np.array([5, 0, 47, 5])
    assert np.array_equal(program.predict(model, states), table[states].argmax(axis=1))


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    before, states = program.state(model), np.arange(48)
    assert np.array_equal(program.predict(model, states), program.predict(model, states))
    assert all(np.array_equal(before[name], value) for name, value in program.state(model).items())


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    first, second = (trained(program, task, seed) for _ in range(2))
    assert first[1] == second[1]
    assert len(first[1]) == task.small["steps"]
    tables = [program.state(model)["table"] for model, _ in (first, second)]
    assert np.array_equal(*tables)


def test_training_leaves_the_data_as_it_was(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed).train
    copy = data["cells"].copy()
    program.train(program.build(seed=seed), data, seed, **task.small).next(3)
    assert np.array_equal(data["cells"], copy)


def test_it_learns_in_a_short_run(program: Program, task: Task, seed: int) -> None:
    shares = []
    for offset in SEEDS:
        data = task.data(seed + offset)
        model = program.build(seed=seed)
        program.train(model, data.train, seed).next(200)
        shares.append(task.measure(program, model, data.held_out).metric)
    assert sorted(shares)[1] >= 0.85
