"""What any right hidden Markov model does, whoever wrote it."""

import itertools
import math

import numpy as np
import pytest

from bughunt.references.hmm_viterbi.task import EMIT, MOVE, START, STATES, SYMBOLS, draw, true_log_likelihood


def _law(seed, states=3, symbols=5):
    """Chances of a random model."""
    rng = np.random.default_rng(seed)
    return (
        rng.dirichlet(np.ones(states)),
        rng.dirichlet(np.ones(states), size=states),
        rng.dirichlet(np.ones(symbols), size=states),
    )


def _model(law):
    with np.errstate(divide="ignore"):
        return dict(zip(("start", "move", "emit"), map(np.log, law), strict=True))


def _symbols(seed, length=6, symbols=5):
    return np.random.default_rng(seed + 9).integers(symbols, size=length)


def _paths(law, symbols):
    """Every path with its joint chance, by multiplying along it."""
    start, move, emit = law
    for path in itertools.product(range(len(start)), repeat=len(symbols)):
        chance = start[path[0]] * emit[path[0], symbols[0]]
        for before, after, symbol in zip(path, path[1:], symbols[1:], strict=False):
            chance *= move[before, after] * emit[after, symbol]
        yield path, chance


def _trained(program, task, seed, **config):
    data = task.data(seed)
    model = program.build(seed=seed, **config)
    losses = program.train(model, data.train, seed, **config).next(config.get("steps", task.steps))
    return model, losses, data


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_trained(program, task, seed, **task.small)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_a_fresh_model_is_a_law_whose_states_differ(program, seed):
    state = program.state(program.build(seed=seed))
    assert np.asarray(state["emit"]).shape == (STATES, SYMBOLS)
    for value in state.values():
        assert np.allclose(np.exp(value).sum(axis=-1), 1)
    assert np.asarray(state["emit"]).std(axis=0).min() > 0.02


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed))
    after = program.state(_trained(program, task, seed, **task.small)[0])
    for name, value in before.items():
        assert (np.asarray(after[name]) != np.asarray(value)).all(), name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    before = program.state(model)
    answers = [program.predict(model, data.held_out["symbols"][:9]) for _ in range(2)]
    for (path, value), (other, second) in zip(*answers, strict=True):
        assert np.array_equal(path, other)
        assert value == second
    for name, value in program.state(model).items():
        assert np.array_equal(value, before[name]), name


def test_training_leaves_the_data_as_it_was(program, task, seed):
    data = task.data(seed).train
    copy = [symbols.copy() for symbols in data]
    model = program.build(seed=seed, **task.small)
    program.train(model, data, seed, **task.small).next(3)
    assert all(np.array_equal(one, other) for one, other in zip(data, copy, strict=True))


@pytest.mark.parametrize("length", [1, 2, 6])
def test_the_likelihood_adds_up_all_paths(program, seed, length):
    law, symbols = _law(seed), _symbols(seed, length)
    total = math.log(sum(chance for _, chance in _paths(law, symbols)))
    assert program.call("log_likelihood", _model(law), symbols) == pytest.approx(total)


@pytest.mark.parametrize("length", [1, 2, 6])
def test_the_likeliest_path_beats_all_others(program, seed, length):
    law, symbols = _law(seed), _symbols(seed, length)
    best, chance = max(_paths(law, symbols), key=lambda pair: pair[1])
    path, score = program.call("viterbi", _model(law), symbols)
    assert tuple(path) == best
    assert score == pytest.approx(math.log(chance))


def test_forward_tables_add_up_the_paths_so_far(program, seed):
    law, symbols = _law(seed), _symbols(seed, 5)
    table = np.exp(program.call("forward", _model(law), symbols))
    for t in range(5):
        for state in range(3):
            paths = _paths(law, symbols[: t + 1])
            assert table[t, state] == pytest.approx(sum(c for path, c in paths if path[-1] == state))


def test_forward_and_backward_agree_at_every_place(program, seed):
    model, symbols = _model(_law(seed)), _symbols(seed, 12)
    joint = np.asarray(program.call("forward", model, symbols)) + program.call("backward", model, symbols)
    total = np.logaddexp.reduce(joint, axis=1)
    assert np.allclose(total, program.call("log_likelihood", model, symbols))
    assert np.allclose(np.asarray(program.call("backward", model, symbols))[-1], 0)


def test_expectations_add_up_all_paths(program, seed):
    law, symbols = _law(seed), _symbols(seed, 5)
    chances, steps = np.zeros((5, 3)), np.zeros((3, 3))
    total = sum(chance for _, chance in _paths(law, symbols))
    for path, chance in _paths(law, symbols):
        chances[np.arange(5), path] += chance / total
        np.add.at(steps, (path[:-1], path[1:]), chance / total)
    found = program.call("expectations", _model(law), symbols)
    assert np.allclose(found[0], chances)
    assert np.allclose(found[1], steps)
    assert found[2] == pytest.approx(math.log(total))


def test_long_sequences_stay_finite(program, seed):
    symbols = _symbols(seed, 1500)
    model = _model(_law(seed))
    chances, steps, likelihood = program.call("expectations", model, symbols)
    assert -1500 * 4 < likelihood < -500
    assert np.allclose(np.asarray(chances).sum(axis=1), 1)
    assert np.asarray(steps).sum() == pytest.approx(1499)
    path, score = program.call("viterbi", model, symbols)
    assert score < likelihood
    assert len(path) == 1500


def test_steps_that_cannot_happen_are_never_taken(program, seed):
    start, move, emit = _law(seed)
    start = np.array([1.0, 0.0, 0.0])
    move[0, 2] = move[2, 0] = 0.0
    law = start, move / move.sum(axis=1, keepdims=True), emit
    symbols = _symbols(seed, 6)
    chances, steps, likelihood = program.call("expectations", _model(law), symbols)
    assert likelihood == pytest.approx(math.log(sum(chance for _, chance in _paths(law, symbols))))
    assert np.asarray(steps)[0, 2] == np.asarray(steps)[2, 0] == 0
    assert np.asarray(chances)[0, 0] == pytest.approx(1)


def test_known_states_are_counted(program):
    sequences, paths = [np.array([0, 1, 1]), np.array([2, 1])], [np.array([0, 1, 1]), np.array([0, 0])]
    cfg = program.call("Config", keep=True, states=2, symbols=3, prior=0.5)
    found = program.call("supervised", sequences, paths, cfg)
    assert np.allclose(np.exp(found["start"]), np.array([2.5, 0.5]) / 3)
    assert np.allclose(np.exp(found["move"]), [[1.5 / 3, 1.5 / 3], [0.5 / 2, 1.5 / 2]])
    assert np.allclose(np.exp(found["emit"]), [[1.5 / 4.5] * 3, [0.5 / 3.5, 2.5 / 3.5, 0.5 / 3.5]])


def test_steps_that_are_seen_often_are_counted_often(program, seed):
    rng = np.random.default_rng(seed)
    drawn = [draw(rng) for _ in range(120)]
    cfg = program.call("Config", keep=True)
    found = program.call("supervised", [symbols for symbols, _ in drawn], [path for _, path in drawn], cfg)
    for name, truth in (("start", START), ("move", MOVE), ("emit", EMIT)):
        assert np.allclose(np.exp(found[name]), truth, atol=0.16), name


def test_a_new_estimate_has_the_expected_counts(program, seed):
    law, cfg = _law(seed), program.call("Config", keep=True, states=3, symbols=5, prior=0.3)
    sequences = [_symbols(seed, 5), _symbols(seed + 1, 3), _symbols(seed + 2, 4)]
    counts = [np.full(3, 0.3), np.full((3, 3), 0.3), np.full((3, 5), 0.3)]
    likelihood = 0.0
    for symbols in sequences:
        total = sum(chance for _, chance in _paths(law, symbols))
        likelihood += math.log(total)
        for path, chance in _paths(law, symbols):
            counts[0][path[0]] += chance / total
            np.add.at(counts[1], (path[:-1], path[1:]), chance / total)
            np.add.at(counts[2], (path, symbols), chance / total)
    new, found = program.call("reestimate", _model(law), sequences, cfg)
    for name, count in zip(("start", "move", "emit"), counts, strict=True):
        assert np.allclose(np.exp(new[name]), count / count.sum(axis=-1, keepdims=True)), name
    assert found == pytest.approx(likelihood / 12)


def test_the_reported_loss_is_that_of_all_sequences(program, task, seed):
    model, sequences = program.build(seed=seed, **task.small), task.data(seed).train
    total = sum(program.call("log_likelihood", model, symbols) for symbols in sequences)
    reported = program.train(model, sequences, seed, **task.small).next()[0]
    assert reported == pytest.approx(-total / sum(map(len, sequences)), rel=1e-6)


def test_the_reported_likelihood_never_falls(program, task, seed):
    _, losses, _ = _trained(program, task, seed, steps=10, prior=1e-6)
    assert (np.diff(losses) < 1e-6).all()
    assert losses[-1] < losses[0] - 0.05


def test_predictions_are_the_likeliest_paths(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    law = {name: np.asarray(value) for name, value in program.state(model).items()}
    some = [symbols[:5] for symbols in data.held_out["symbols"][:4]]
    chances = [np.exp(law[name]) for name in ("start", "move", "emit")]
    for symbols, (path, value) in zip(some, program.predict(model, some), strict=True):
        options = list(_paths(chances, symbols))
        assert tuple(path) == max(options, key=lambda pair: pair[1])[0]
        assert value == pytest.approx(math.log(sum(chance for _, chance in options)))


def test_knowing_the_law_decodes_as_well_as_can_be(program, seed):
    rng = np.random.default_rng(seed)
    drawn = [draw(rng) for _ in range(40)]
    model = program.build(seed=seed)
    program.load_state(model, _model((START, MOVE, EMIT)))
    answers = program.predict(model, [symbols for symbols, _ in drawn])
    right = [np.mean(np.asarray(path) == truth) for (path, _), (_, truth) in zip(answers, drawn, strict=True)]
    alone = [np.mean(EMIT[:, symbols].argmax(axis=0) == truth) for symbols, truth in drawn]
    assert np.mean(right) > np.mean(alone) + 0.05
    for (symbols, _), (_, value) in zip(drawn, answers, strict=True):
        assert value == pytest.approx(true_log_likelihood(symbols))


def test_it_comes_close_to_the_true_law(program, task, seed):
    reached = []
    for offset in range(3):
        model, _, data = _trained(program, task, seed + offset, steps=20)
        reached.append(task.measure(program, model, data.held_out).curve)
    assert min(reached) < 0.13
