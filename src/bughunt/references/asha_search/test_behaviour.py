"""What any right search by successive halving does, whoever wrote it."""

import math

import numpy as np
import pytest

SMALL = {"settings": 9, "most": 9, "batch": 16}


def _data(seed, noise=0.7):
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng([seed, 3]).normal(size=(3, 5))
    made = {}
    for name, count in (("", 70), ("_held", 60)):
        labels = rng.integers(3, size=count)
        labels[:3] = [0, 1, 2]
        made[f"points{name}"] = middles[labels] + noise * rng.normal(size=(count, 5))
        made[f"labels{name}"] = labels
    return made


def _search(program, data, known=None, limit=10**9, **config):
    cfg = program.call("Config", keep=True, **{**SMALL, **config})
    return program.call("search", data, cfg, known, limit)


def _settings(program, count, seed):
    drawn = program.call("draw", count, seed, keep=True)
    found = []
    for place in range(count):
        one = program.call_method(drawn, "__getitem__", place, keep=True)
        found.append([program.call_method(one, "__getattribute__", n) for n in ("lr", "penalty", "momentum")])
    return found


def _by_hand(data, setting, number, epochs, batch, seed):
    """The held-out loss after each epoch, by sums over classes and rows."""
    lr, penalty, momentum = setting
    x = np.column_stack([data["points"], np.ones(70)])
    held = np.column_stack([data["points_held"], np.ones(60)])
    truth = np.eye(3)[data["labels"]]
    weights, speed, losses = np.zeros((6, 3)), np.zeros((6, 3)), []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, number, epoch]).permutation(70)
        for rows in np.split(order, range(batch, 70, batch)):
            scores = np.exp(x[rows] @ weights)
            chances = scores / scores.sum(axis=1, keepdims=True)
            slope = x[rows].T @ (chances - truth[rows]) / len(rows)
            slope[:5] += penalty * weights[:5]
            speed = momentum * speed + slope
            weights = weights - lr * speed
        scores = np.exp(held @ weights)
        right = (scores / scores.sum(axis=1, keepdims=True))[np.arange(60), data["labels_held"]]
        losses.append(-np.log(right).mean())
    return losses


def test_settings_spread_over_orders_of_magnitude(program, seed):
    found = np.array(_settings(program, 300, seed))
    for column, low, high in ((0, -4, 1), (1, -5, -1)):
        powers = np.log10(found[:, column])
        assert low <= powers.min() < low + 0.3
        assert high - 0.3 < powers.max() <= high
        assert powers.mean() == pytest.approx((low + high) / 2, abs=0.35)
    assert set(found[:, 2]) == {0.0, 0.5, 0.9}
    assert _settings(program, 5, seed) == _settings(program, 5, seed) != _settings(program, 5, seed + 1)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((1, 27, 3), [1, 3, 9, 27]), ((2, 20, 3), [2, 6, 18, 20]), ((1, 8, 2), [1, 2, 4, 8]), ((5, 5, 4), [5])],
)
def test_rungs_climb_by_the_factor(program, ends, expected):
    assert program.call("rungs", *ends) == expected


def test_the_better_part_goes_on(program):
    scores = {4: 0.5, 1: 0.2, 7: 0.9, 2: 0.3, 9: 0.2, 3: 0.7, 5: 0.8}
    assert program.call("promoted", scores, 3) == [1, 9]
    assert program.call("promoted", scores, 2) == [1, 9, 2]
    assert program.call("promoted", scores, 3, largest=True) == [7, 5]
    assert program.call("promoted", scores, 99) == [1]
    assert program.call("promoted", {}, 3) == []


@pytest.mark.parametrize("largest", [False, True])
def test_what_is_no_number_never_wins(program, largest):
    scores = {0: math.nan, 1: 2.0, 2: math.nan, 3: 1.0}
    assert program.call("promoted", scores, 2, largest=largest) == ([1, 3] if largest else [3, 1])
    assert program.call("promoted", {5: math.nan, 6: math.nan}, 2) == [5]


def test_large_scores_stay_finite(program, seed):
    data = _data(seed)
    weights = 1e4 * np.random.default_rng(seed).normal(size=(6, 3))
    chances = np.asarray(program.call("log_chances", weights, data["points"]))
    assert np.isfinite(chances).all()
    assert np.allclose(np.exp(chances).sum(axis=1), 1)
    found = program.call("loss", weights / 1e4, data["points"], data["labels"])
    scores = np.exp(data["points"] @ weights[:5] / 1e4 + weights[5] / 1e4)
    right = (scores / scores.sum(axis=1, keepdims=True))[np.arange(70), data["labels"]]
    assert found == pytest.approx(-np.log(right).mean())


def test_the_search_equals_one_played_by_hand(program, seed):
    data = _data(seed)
    found = _search(program, data, seed=seed)
    settings = _settings(program, 9, seed)
    with np.errstate(all="ignore"):
        curves = [_by_hand(data, setting, number, 9, 16, seed) for number, setting in enumerate(settings)]
    expected = {(number, at): curves[number][at - 1] for number, at, _ in found["entries"]}
    for number, at, score in found["entries"]:
        if math.isfinite(expected[number, at]):
            assert score == pytest.approx(expected[number, at], rel=1e-6), (number, at)
    found_at = {(number, at): score for number, at, score in found["entries"]}
    alive, reached = list(range(9)), {}
    for height, at in enumerate((1, 3, 9)):
        reached[height] = sorted(alive)
        score = {number: found_at[number, at] for number in alive}
        alive = sorted(alive, key=lambda number: (score[number], number))[: max(1, len(alive) // 3)]
    assert {height: sorted(some) for height, some in found["reached"].items()} == reached
    number, at, score = found["best"]
    assert score == min(entry[2] for entry in found["entries"] if not math.isnan(entry[2]))
    assert (number, at, score) in [tuple(entry) for entry in found["entries"]]


def test_no_epoch_is_paid_for_twice(program, seed):
    found = _search(program, _data(seed), seed=seed, settings=27, most=27)
    assert found["spent"] == found["trained"] == 27 * 1 + 9 * 2 + 3 * 6 + 1 * 18
    assert [len(some) for some in found["reached"].values()] == [27, 9, 3, 1]
    assert len(found["entries"]) == 27 + 9 + 3 + 1


@pytest.mark.parametrize("limit", [1, 5, 9, 12, 15])
def test_an_interrupted_search_goes_on_where_it_stopped(program, seed, limit):
    data = _data(seed)
    whole = _search(program, data, seed=seed)
    part = _search(program, data, None, limit, seed=seed)
    assert limit <= part["trained"] <= limit + 5
    assert part["entries"] == whole["entries"][: len(part["entries"])]
    rest = _search(program, data, part["entries"], seed=seed)
    assert rest["entries"] == whole["entries"]
    assert rest["best"] == whole["best"]
    assert rest["reached"] == whole["reached"]
    again = _search(program, data, whole["entries"], seed=seed)
    assert again["trained"] == 0
    assert again["spent"] == whole["spent"]
    assert again["best"] == whole["best"]


def test_the_register_tells_what_was_spent(program):
    register = program.call("Register", keep=True)
    for entry in ((3, 1, 0.9), (4, 1, 0.4), (4, 3, 0.5), (6, 1, math.nan), (3, 3, 0.4), (4, 9, 0.4)):
        program.call_method(register, "add", *entry)
    assert program.call_method(register, "spent") == 3 + 9 + 1
    assert tuple(program.call_method(register, "best")) == (4, 1, 0.4)
    assert program.call_method(register, "score", 4, 3) == 0.5
    assert program.call_method(register, "score", 4, 2) is None
    assert program.call_method(register, "score", 9, 1) is None


def test_rows_that_are_compared_on_are_not_learned_from(program, seed):
    data, other = _data(seed), _data(seed)
    other["labels_held"] = (other["labels_held"] + 1) % 3
    cfg = {"seed": seed, "settings": 1, "most": 3}
    first, second = (_search(program, some, **cfg) for some in (data, other))
    setting = _settings(program, 1, seed)[0]
    for some, found in ((data, first), (other, second)):
        curve = _by_hand(some, setting, 0, 3, 16, seed)
        assert [score for _, _, score in found["entries"]] == pytest.approx([curve[0], curve[2]], rel=1e-6)
    misleading = {**data, "labels": (data["labels"] + 1) % 3}
    assert _search(program, misleading, seed=seed)["best"][2] > 0.9


def test_the_same_seed_gives_the_same_search(program, seed):
    data = _data(seed)
    runs = [_search(program, data, seed=s)["entries"] for s in (seed, seed, seed + 1)]
    assert runs[0] == runs[1] != runs[2]


def test_it_finds_what_a_full_search_finds(program, seed):
    data = _data(seed, noise=0.5)
    found = _search(program, data, seed=seed, settings=27, most=27)
    with np.errstate(all="ignore"):
        full = [_by_hand(data, s, n, 27, 16, seed)[-1] for n, s in enumerate(_settings(program, 27, seed))]
    assert found["best"][2] <= np.nanmin(full) + 0.05
    assert found["spent"] <= 81
