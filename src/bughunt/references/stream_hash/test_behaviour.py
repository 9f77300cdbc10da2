"""What a click model over a stream does, however it is written."""

import math
from itertools import combinations

import numpy as np
import pytest

from bughunt.errors import BughuntError

SMALL = {"steps": 8, "batch": 9, "buckets": 512, "buffer": 40, "block": 13}


def _shards(seed, sizes=(50, 20, 30)):
    """Row r has the values r, 3 and r % 7."""
    rng, start, made = np.random.default_rng(seed), 0, []
    for size in sizes:
        rows = np.arange(start, start + size)
        values = np.stack([rows, np.full(size, 3), rows % 7], axis=1)
        made.append({"values": values, "labels": rng.integers(2, size=size)})
        start += size
    return made


def _trained(program, seed, data, **config):
    config = {**SMALL, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, data, seed, **config).next(10_000)


def _fnv(parts):
    state = 0x811C9DC5
    for part in parts:
        for shift in (0, 8, 16, 24):
            state = ((state ^ (part >> shift & 255)) * 0x01000193) & 0xFFFFFFFF
    return state


def _read(program, seed, block, start=0, sizes=(50, 20, 30)):
    shards = _shards(seed, sizes)
    paths = program.call("write_shards", shards, f"place-{seed}-{len(sizes)}", keep=True)
    rows = program.call("read", paths, block, start, keep=True)
    expected = [
        (values.tolist(), int(label))
        for shard in shards
        for values, label in zip(shard["values"], shard["labels"], strict=True)
    ]
    return _drain(program, rows), expected


def _drain(program, rows):
    """All that is left of a generator in the worker."""
    out = []
    batches = program.call("batches", rows, 10_000, keep=True)
    while True:
        try:
            batch = program.call_method(batches, "__next__")
        except BughuntError:  # the end
            return out
        out += [(np.asarray(values).tolist(), int(label)) for values, label in batch]


@pytest.mark.parametrize("parts", [(0,), (7,), (1, 2), (2, 1), (0, 300, 2, 70_000)])
def test_buckets_are_the_same_in_every_process(program, parts):
    for buckets in (2**32, 4096, 1000):
        assert program.call("hashed", parts, buckets) == _fnv(parts) % buckets


def test_every_value_and_every_pair_has_a_bucket(program):
    values = np.array([4, 9, 4, 250])
    expected = [_fnv((field, value)) for field, value in enumerate(values.tolist())]
    for one, other in combinations(range(4), 2):
        expected.append(_fnv((one, int(values[one]), other, int(values[other]))))
    found = program.call("features", values, 1021)
    assert sorted(np.asarray(found).tolist()) == sorted(bucket % 1021 for bucket in expected)


@pytest.mark.parametrize("block", [1, 7, 25, 1000])
def test_one_pass_shows_every_row_once(program, seed, block):
    found, expected = _read(program, seed, block)
    assert found == expected


@pytest.mark.parametrize("start", [0, 3, 49, 50, 51, 69, 70, 99, 100])
def test_reading_goes_on_at_any_row(program, seed, start):
    found, expected = _read(program, seed, 8, start)
    assert found == expected[start:]


@pytest.mark.parametrize("size", [1, 10, 40, 300])
def test_mixing_loses_and_repeats_nothing(program, seed, size):
    rows = [(np.array([row]), row % 2) for row in range(200)]
    rng = program.call("np.random.default_rng", seed, keep=True)
    out = [values[0] for values, _ in _drain(program, program.call("mixed", rows, size, rng, keep=True))]
    assert sorted(out) == list(range(200))
    assert all(row <= place + size for place, row in enumerate(out))
    late = [place - row for place, row in enumerate(out)]
    if size > 1:
        assert out != sorted(out)
        assert max(late) > size / 2
        assert np.mean(np.abs(late)) > 0.3 * min(size, 100)
    if 1 < size <= 40:
        assert sum(row < size for row in out[-size:]) <= size / 4  # every place gives its row away


def test_batches_are_cut_one_after_the_other(program):
    rows = [(np.array([row]), 0) for row in range(7)]
    batches = program.call("batches", rows, 3, keep=True)
    sizes = [[int(values[0]) for values, _ in program.call_method(batches, "__next__")] for _ in range(3)]
    assert sizes == [[0, 1, 2], [3, 4, 5], [6]]


def test_large_scores_stay_finite(program):
    scores, labels = np.array([-900.0, 900.0, -900.0, 900.0, 0.3]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    losses = program.call("log_loss", scores, labels)
    assert np.allclose(losses, [0, 0, 900, 900, math.log(1 + math.exp(-0.3))])
    assert np.allclose(program.call("sigmoid", scores), [0, 1, 0, 1, 1 / (1 + math.exp(-0.3))])


def _laid_out(state, weights, squares):
    """Both in the shape of a fresh model's state, where the last weight, the bias, may stand apart."""
    parts = {12: slice(None), 11: slice(11), 1: slice(11, None)}
    return {name: (squares if old.any() else weights)[parts[len(old)]] for name, old in state.items()}


def test_updates_follow_the_gradients(program, seed):
    rng = np.random.default_rng(seed)
    weights, squares = rng.normal(size=12), rng.uniform(0.1, 1, size=12)
    index = np.array([[0, 3, 3], [5, 0, 10], [7, 7, 7], [5, 1, 3]])
    labels = np.array([1.0, 0.0, 1.0, 1.0])
    x = np.zeros((4, 12))
    for row, buckets in enumerate(index):
        for bucket in buckets:
            x[row, bucket] += 1
    x[:, -1] = 1
    cfg = program.call("Config", keep=True, lr=0.2, penalty=0.05, buckets=11)
    handle = program.build(seed=seed, buckets=11)
    fresh = program.state(handle)
    program.load_state(handle, _laid_out(fresh, weights, squares))
    loss = program.call("update", handle, index, labels, cfg)
    scores = x @ weights
    chances = 1 / (1 + np.exp(-scores))
    touched = (x > 0).any(axis=0)
    touched[-1] = False
    gradient = x.T @ (chances - labels) / 4 + np.where(touched, 0.05 * weights, 0)
    squares = squares + gradient**2
    expected = _laid_out(fresh, weights - 0.2 * gradient / np.sqrt(squares), squares)
    for name, value in program.state(handle).items():
        assert np.allclose(value, expected[name]), name
    expected = -np.where(labels == 1, np.log(chances), np.log(1 - chances)).mean()
    assert loss == pytest.approx(expected)


def test_a_fresh_model_has_no_opinion(program, seed):
    model = program.build(seed=seed, **SMALL)
    assert np.allclose(program.predict(model, np.array([[1, 2, 3], [4, 0, 9]])), 0.5)
    assert program.train(model, _shards(seed), seed, **SMALL).next()[0] == pytest.approx(math.log(2))


def test_rows_are_predicted_before_they_are_learned_from(program, seed):
    shards = _shards(seed)
    config = {**SMALL, "buffer": 1, "batch": 5, "lr": 0.5}
    model = program.build(seed=seed, **config)
    run = program.train(model, shards, seed, **config)
    for step in range(8):
        rows = slice(5 * step, 5 * step + 5)
        values, labels = shards[0]["values"][rows], shards[0]["labels"][rows]
        chances = np.asarray(program.predict(model, values))
        expected = -np.log(np.where(labels == 1, chances, 1 - chances)).mean()
        assert run.next()[0] == pytest.approx(expected, rel=1e-6)


def test_a_run_ends_with_its_data(program, seed):
    _, losses = _trained(program, seed, _shards(seed), steps=50)
    assert len(losses) == 12
    _, losses = _trained(program, seed, _shards(seed), steps=5)
    assert len(losses) == 5


def test_old_losses_fade(program):
    progress = program.call("Progress", 0.5, keep=True)
    found = [program.call_method(progress, "add", loss) for loss in (4.0, 1.0, 2.0)]
    assert found == pytest.approx([4.0, (2 + 1) / 1.5, (1 + 0.5 + 2) / 1.75])


def test_the_area_counts_pairs(program, seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(5, size=40).astype(float), rng.integers(2, size=40)
    pairs = [(a, b) for a in scores[labels == 1] for b in scores[labels == 0]]
    expected = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert program.call("auc", scores, labels) == pytest.approx(expected)
    for alike in (0, 1):
        assert program.call("auc", scores, np.full(40, alike)) == 0.5


def test_a_bucket_for_all_still_learns_how_many_there_are(program, seed):
    shards = _shards(seed, (600,))
    shards[0]["labels"][:] = (np.arange(600) % 4 == 0).astype(np.int64)
    model, _ = _trained(program, seed, shards, steps=60, buckets=1, lr=0.1)
    chances = np.asarray(program.predict(model, shards[0]["values"][:3]))
    assert np.allclose(chances, 0.25, atol=0.12)


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, seed):
    model, _ = _trained(program, seed, _shards(seed))
    values = _shards(seed)[0]["values"]
    together = np.asarray(program.predict(model, values))
    assert np.allclose(program.predict(model, values[4:6]), together[4:6])


def test_predict_is_repeatable_and_leaves_nothing_changed(program, seed):
    model, _ = _trained(program, seed, _shards(seed))
    values, before = _shards(seed)[0]["values"], program.state(model)
    assert np.array_equal(program.predict(model, values), program.predict(model, values))
    assert all(np.array_equal(value, before[name]) for name, value in program.state(model).items())


def test_the_same_seed_gives_the_same_curve(program, seed):
    curves = []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, _shards(seed), rng, **SMALL).next(100))
    assert curves[0] == curves[1] != curves[2]


def test_it_ranks_clicks_that_it_has_not_seen(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
