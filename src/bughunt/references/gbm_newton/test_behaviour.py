"""What any right gradient boosting does, whoever wrote it."""

import math

import numpy as np
import pytest

from bughunt.references.gbm_newton.task import FEATURES, log_odds


def _trained(program, task, seed, **config):
    data = task.data(seed)
    model = program.build(seed=seed, **config)
    losses = program.train(model, data.train, seed, **config).next(10_000)
    return model, losses, data


def _sums(seed, count=40, features=3):
    """Rows, one feature of few values, with a slope and a curvature each."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, features))
    rows[:, 1] = rng.integers(4, size=count)
    slope = np.sign(rows[:, 0] - 0.3) * 0.4 + 0.3 * rng.normal(size=count)
    return rows, slope, rng.uniform(0.05, 0.25, size=count)


def _worth(slope, curvature, ridge):
    return slope.sum() ** 2 / (curvature.sum() + ridge)


def _splits(rows, slope, curvature, ridge, smallest):
    """Every possible split with its gain, by trying all midpoints."""
    for feature in range(rows.shape[1]):
        values = np.unique(rows[:, feature])
        for threshold in (values[1:] + values[:-1]) / 2:
            left = rows[:, feature] <= threshold
            if min(curvature[left].sum(), curvature[~left].sum()) < smallest:
                continue
            sides = [_worth(slope[side], curvature[side], ridge) for side in (left, ~left)]
            yield (sum(sides) - _worth(slope, curvature, ridge)) / 2, feature, threshold


def _answers(asked, rows, slope, curvature, depth, config):
    """What a tree grown on these rows says of the rows asked about, by recursion."""
    options = _splits(rows, slope, curvature, config["ridge"], config["smallest_leaf"]) if depth else ()
    gain, feature, threshold = max(options, default=(0.0, 0, 0.0))
    found = np.full(len(asked), -slope.sum() / (curvature.sum() + config["ridge"]))
    if gain <= config["smallest_gain"]:
        return found
    for side in (True, False):
        theirs, ours = ((table[:, feature] <= threshold) == side for table in (asked, rows))
        found[theirs] = _answers(asked[theirs], rows[ours], slope[ours], curvature[ours], depth - 1, config)
    return found


def _table(seed, count=101, features=3):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, features))
    return {"rows": rows, "labels": (rng.random(count) < 0.3).astype(np.int64)}


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_trained(program, task, seed, **task.small)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_another_seed_gives_another_curve(program, task, seed):
    data = task.data(seed).train
    curves = []
    for offset in range(2):
        model = program.build(seed=seed, **task.small)
        curves.append(program.train(model, data, seed + offset, **task.small).next(5))
    assert curves[0] != curves[1]


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    before = program.state(model)
    rows = data.held_out["rows"]
    assert np.array_equal(program.predict(model, rows), program.predict(model, rows))
    for name, value in program.state(model).items():
        assert np.array_equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    rows = data.held_out["rows"]
    together = program.predict(model, rows)
    assert np.allclose(program.predict(model, rows[40:47]), together[40:47], atol=1e-12)


def test_training_leaves_the_data_as_it_was(program, task, seed):
    data = task.data(seed).train
    copy = {name: value.copy() for name, value in data.items()}
    model = program.build(seed=seed, **task.small)
    program.train(model, data, seed, **task.small).next(10)
    assert all(np.array_equal(data[name], copy[name]) for name in data)


def test_units_of_the_features_do_not_matter(program, task, seed):
    data = task.data(seed)
    answers = []
    for change in (lambda x: x, lambda x: x * np.array([4.0, 0.5, 1.0, 8.0, 0.25, 2.0])):
        model = program.build(seed=seed, **task.small)
        train = {**data.train, "rows": change(data.train["rows"])}
        program.train(model, train, seed, **task.small).next(10)
        answers.append(program.predict(model, change(data.held_out["rows"])))
    assert np.allclose(answers[0], answers[1], atol=1e-9)


def test_chances_stay_finite(program):
    found = program.call("sigmoid", np.array([-1e4, -2.0, 0.0, 2.0, 1e4]))
    assert np.allclose(found, [0, 1 / (1 + math.exp(2)), 0.5, 1 / (1 + math.exp(-2)), 1], atol=1e-12)


def test_the_loss_equals_one_written_row_by_row(program, seed):
    scores, labels = np.random.default_rng(seed).normal(size=30), np.arange(30) % 2
    chances = [1 / (1 + math.exp(-z)) for z in scores]
    expected = -sum(math.log(p if y else 1 - p) for p, y in zip(chances, labels, strict=True)) / 30
    assert program.call("log_loss", scores, labels) == pytest.approx(expected, rel=1e-9)
    far = program.call("log_loss", np.array([-900.0, 900.0]), np.array([1, 1]))
    assert far == pytest.approx(450)


def test_slopes_equal_finite_differences(program, seed):
    scores, labels, step = np.random.default_rng(seed).normal(size=20), np.arange(20) % 2, 1e-4

    def loss(z):
        return np.logaddexp(0, z) - labels * z

    slope, curvature = program.call("slopes", scores, labels)
    up, here, down = loss(scores + step), loss(scores), loss(scores - step)
    assert np.allclose(slope, (up - down) / (2 * step), atol=1e-7)
    assert np.allclose(curvature, (up - 2 * here + down) / step**2, atol=1e-5)


def test_a_leaf_sits_where_the_parabola_is_lowest(program):
    value = program.call("leaf_value", 3.0, 4.0, 2.0)
    heights = [3.0 * v + (4.0 + 2.0) * v**2 / 2 for v in (value - 0.01, value, value + 0.01)]
    assert heights[1] < min(heights[0], heights[2])
    assert value == pytest.approx(-0.5)


@pytest.mark.parametrize(("ridge", "smallest"), [(0.1, 0.0), (1.5, 1.0), (0.5, 2.0)])
def test_the_best_split_is_the_best_of_all(program, seed, ridge, smallest):
    rows, slope, curvature = _sums(seed)
    cfg = program.call("Config", keep=True, ridge=ridge, smallest_leaf=smallest)
    found = program.call("best_split", rows, slope, curvature, cfg)
    gain, feature, threshold = max(_splits(rows, slope, curvature, ridge, smallest))
    assert found[0] == pytest.approx(gain)
    side = rows[:, feature] <= threshold
    assert np.array_equal(rows[:, found[1]] <= found[2], side) or np.array_equal(
        rows[:, found[1]] > found[2], side
    )


def test_a_threshold_lies_between_two_values(program, seed):
    rows, slope, curvature = _sums(seed)
    rows[:, 0] = np.repeat([1.0, 2.0, 5.0, 9.0], 10)
    slope = np.where(rows[:, 0] > 2, 1.0, -1.0)
    cfg = program.call("Config", keep=True, smallest_leaf=0.0)
    _, feature, threshold = program.call("best_split", rows, slope, curvature, cfg)
    assert feature == 0
    assert threshold == pytest.approx(3.5)


def test_equal_values_are_never_split(program, seed):
    _, slope, curvature = _sums(seed)
    rows = np.full((40, 2), 7.0)
    cfg = program.call("Config", keep=True, smallest_leaf=0.0)
    assert program.call("best_split", rows, slope, curvature, cfg)[0] == 0


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_tree_equals_one_grown_by_recursion(program, seed, depth):
    rows, slope, curvature = _sums(seed, count=60)
    config = {"ridge": 0.7, "smallest_leaf": 0.3, "smallest_gain": 0.02}
    cfg = program.call("Config", keep=True, depth=depth, **config)
    tree = program.call("grow", rows, slope, curvature, cfg)
    asked = np.vstack([rows, _sums(seed + 1, count=30)[0]])
    found = np.asarray(program.call("apply_tree", tree, asked))
    assert np.allclose(found, _answers(asked, rows, slope, curvature, depth, config))


def test_a_row_on_the_threshold_goes_with_the_smaller_ones(program):
    rows = np.repeat([[2.0], [5.0]], 10, axis=0)
    slope = np.repeat([1.0, -1.0], 10)
    cfg = program.call("Config", keep=True)
    tree = program.call("grow", rows, slope, np.full(20, 0.25), cfg)
    found = np.asarray(program.call("apply_tree", tree, np.array([[2.0], [3.5], [3.51], [5.0]])))
    assert found[0] == found[1] != found[2] == found[3]


def test_a_split_has_to_be_worth_it(program, seed):
    rows, slope, curvature = _sums(seed)
    cfg = program.call("Config", keep=True, smallest_gain=1e6)
    tree = program.call("grow", rows, slope, curvature, cfg)
    found = np.asarray(program.call("apply_tree", tree, rows))
    assert np.allclose(found, -slope.sum() / (curvature.sum() + 1.5))


def test_the_base_is_the_log_odds_of_the_rows_trained_on(program, seed):
    config = {"steps": 1, "validation": 0.2}
    model = program.build(seed=seed, **config)
    program.train(model, _table(seed), seed, **config).next()
    base = np.asarray(program.state(model)["base"]).item()
    positive = 81 / (1 + math.exp(-base))  # of the 101 rows 20 are held back
    assert positive == pytest.approx(round(positive), abs=1e-6)
    assert 10 < positive < 45


def test_a_tree_sees_its_share_of_the_rows(program, seed):
    config = {"steps": 8, "lr": 1e-7, "ridge": 0.0, "subsample": 0.7, "smallest_gain": 1e6}
    data = _table(seed)
    model = program.build(seed=seed, **config)
    run = program.train(model, data, seed, **config)
    chances, before = [], np.zeros(101)
    for _ in range(8):
        run.next()
        odds = np.asarray(program.call("scores", model, data["rows"]))
        base = np.asarray(program.state(model)["base"]).item()
        p = 1 / (1 + math.exp(-base))
        added = (odds - base - before).mean() / 1e-7
        before = odds - base
        chances.append(p + added * p * (1 - p))
    positive = 57 * np.array(chances)  # 70 % of 81
    assert np.allclose(positive, np.round(positive), atol=2e-3)
    assert len(np.unique(np.round(positive))) > 1


def test_a_tree_sees_no_row_twice(program, seed):
    # the base suits all rows together, so a leaf that holds each of them once has nothing to add
    config = {"steps": 9, "subsample": 1.0, "smallest_gain": 1e6}
    data = _table(seed)
    model = program.build(seed=seed, **config)
    program.train(model, data, seed, **config).next(4)
    base = np.asarray(program.state(model)["base"]).item()
    assert np.allclose(program.call("scores", model, data["rows"]), base, atol=1e-9)


def test_the_rate_scales_what_a_tree_adds(program, seed):
    data, added = _table(seed), []
    for rate in (0.1, 0.3):
        config = {"steps": 1, "lr": rate}
        model = program.build(seed=seed, **config)
        program.train(model, data, seed, **config).next()
        base = np.asarray(program.state(model)["base"]).item()
        added.append(np.asarray(program.call("scores", model, data["rows"])) - base)
    assert np.allclose(added[1], 3 * added[0])
    assert np.abs(added[0]).max() > 0


def test_the_loss_never_rises_when_trees_see_all_rows(program, task, seed):
    _, losses, _ = _trained(program, task, seed, steps=20, subsample=1.0)
    assert (np.diff(losses) < 1e-9).all()


def test_the_reported_loss_is_that_of_the_rows_trained_on(program, task, seed):
    data = task.data(seed).train
    model = program.build(seed=seed, steps=12)
    run = program.train(model, data, seed, steps=12)
    for _ in range(3):
        reported = run.next(4)[-1]
        odds = np.asarray(program.call("scores", model, data["rows"]))
        everywhere = np.mean(np.logaddexp(0, odds) - data["labels"] * odds)
        assert reported == pytest.approx(everywhere, rel=0.13)


def test_predictions_are_chances_of_the_scores(program, task, seed):
    model, _, data = _trained(program, task, seed, **task.small)
    rows = data.held_out["rows"]
    odds = np.asarray(program.call("scores", model, rows))
    assert np.allclose(program.predict(model, rows), 1 / (1 + np.exp(-odds)))


def test_predictions_agree_with_the_shares_of_the_labels(program, task, seed):
    model, _, data = _trained(program, task, seed)
    chance = np.asarray(program.predict(model, data.held_out["rows"]))
    truth = 1 / (1 + np.exp(-data.held_out["odds"]))
    assert chance.mean() == pytest.approx(truth.mean(), abs=0.04)
    assert np.corrcoef(chance, truth)[0, 1] > 0.75


def test_trees_that_only_fit_noise_are_dropped(program, seed):
    rng = np.random.default_rng(seed)
    kept = []
    for _ in range(3):
        rows, labels = rng.normal(size=(200, 4)), rng.integers(2, size=200)
        model = program.build(seed=seed, steps=30, lr=0.5)
        program.train(model, {"rows": rows, "labels": labels}, seed, steps=30, lr=0.5).next(31)
        kept.append(np.asarray(program.state(model)["count"]).item())
    assert sorted(kept)[1] <= 12


def test_trees_that_help_are_kept(program, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(400, 2))
    data = {"rows": rows, "labels": (rows[:, 0] + rows[:, 1] > 0).astype(np.int64)}
    model = program.build(seed=seed, steps=20, lr=0.1)
    program.train(model, data, seed, steps=20, lr=0.1).next(21)
    assert np.asarray(program.state(model)["count"]).item() >= 18


def test_the_best_number_of_trees_is_kept(program, seed):
    rng = np.random.default_rng(seed)
    rows = rng.choice([-1.0, 1.0], size=(400, 1))
    easy, noise = (rows[:, 0] > 0).astype(np.int64), rng.integers(2, size=400)
    for labels, rate, best in ((easy, 0.1, 12), (noise, 200.0, 0)):  # every tree helps, every tree does harm
        config = {"steps": 12, "lr": rate}
        model = program.build(seed=seed, **config)
        program.train(model, {"rows": rows, "labels": labels}, seed, **config).next(13)
        assert np.asarray(program.state(model)["count"]).item() == best


def test_rows_are_held_back_whatever_their_order(program, seed):
    data = _table(seed)
    order = np.argsort(data["labels"], kind="stable")
    for way in (1, -1):
        given = {name: value[order[::way]] for name, value in data.items()}
        model = program.build(seed=seed, steps=1)
        program.train(model, given, seed, steps=1).next()
        base = np.asarray(program.state(model)["base"]).item()
        positive = round(81 / (1 + math.exp(-base)))
        assert 1 <= data["labels"].sum() - positive <= 19  # of the 20 that are held back


def test_importance_is_the_share_of_the_gain(program, task, seed):
    model, _, _ = _trained(program, task, seed)
    shares = np.asarray(program.call("importance", model, FEATURES))
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    assert shares[:4].min() > shares[5]  # the last column has no say
    state = program.state(model)
    gain, feature = (np.asarray(state[name]) for name in ("gain", "feature"))
    count = np.asarray(state["count"]).item()
    used = [(f, g) for tree in range(count) for f, g in zip(feature[tree], gain[tree], strict=True)]
    sums = [sum(g for f, g in used if f == column) for column in range(FEATURES)]
    assert np.allclose(shares, np.array(sums) / sum(sums))


def test_it_comes_close_to_the_true_odds(program, task, seed):
    model, _, data = _trained(program, task, seed)
    units = np.array([1.0, 50.0, 0.1, 3.0, 1.0, 200.0])
    odds = log_odds(data.held_out["rows"] / units)
    ideal = np.mean(np.logaddexp(0, odds) - data.held_out["labels"] * odds)
    reached = task.measure(program, model, data.held_out).curve
    assert ideal < reached < ideal + 0.11
