"""What any right random forest does, whoever wrote it."""

import numpy as np
import pytest

from bughunt.references.random_forest.task import CLASSES, FEATURES

SMALL = {"steps": 4, "depth": 4}


def _trained(program, task, seed, **config):
    data = task.data(seed)
    model = program.build(seed=seed, **config)
    losses = program.train(model, data.train, seed, **config).next(config.get("steps", task.steps))
    return model, losses, data


def _rows(seed, count=60, features=3, classes=3):
    """Rows with their classes as ones and noughts; one feature takes few values."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, features))
    rows[:, 1] = rng.integers(4, size=count)
    labels = (rows[:, 0] + 0.5 * rows[:, 1] + rng.normal(size=count) > 0.8).astype(int)
    labels = np.where(rng.random(count) < 0.25, rng.integers(classes, size=count), labels)
    return rows, np.eye(classes)[labels]


def _impurity(truth):
    """The chance of unlike classes, by counting pairs."""
    labels = truth.argmax(axis=1)
    return (labels[:, None] != labels[None, :]).mean()


def _splits(rows, truth, smallest):
    """Every possible split with the fall in impurity, by trying all midpoints."""
    for feature in range(rows.shape[1]):
        values = np.unique(rows[:, feature])
        thresholds = (values[1:] + values[:-1]) / 2
        left = rows[:, feature] <= thresholds[:, None]
        alike = sum(_pairs_alike(side, truth) / side.sum(axis=1) for side in (left, ~left)) / len(rows)
        falls = alike - _pairs_alike(np.ones((1, len(rows))), truth) / len(rows) ** 2
        allowed = np.minimum(left.sum(axis=1), (~left).sum(axis=1)) >= smallest
        yield from ((fall, feature, at) for fall, at in zip(falls[allowed], thresholds[allowed], strict=True))


def _pairs_alike(chosen, truth):
    """Of each choice of rows the ordered pairs of one class."""
    return ((chosen @ truth) ** 2).sum(axis=1)


def _answers(asked, rows, truth, depth, smallest):
    """What a tree grown on these rows says of the rows asked about, by recursion."""
    fall, feature, threshold = max(_splits(rows, truth, smallest) if depth else (), default=(0.0, 0, 0.0))
    found = np.tile(truth.mean(axis=0), (len(asked), 1))
    if fall <= 1e-12:
        return found
    for side in (True, False):
        theirs, ours = ((table[:, feature] <= threshold) == side for table in (asked, rows))
        found[theirs] = _answers(asked[theirs], rows[ours], truth[ours], depth - 1, smallest)
    return found


def _is_clear(rows, truth, depth, smallest):
    """Whether at every node one split is better than all others, so that there is but one tree."""
    splits = sorted(_splits(rows, truth, smallest), reverse=True) if depth else []
    if not splits or splits[0][0] <= 1e-12:
        return True
    if len(splits) > 1 and splits[0][0] - splits[1][0] < 1e-9:
        return False
    _, feature, threshold = splits[0]
    sides = (rows[:, feature] <= threshold, rows[:, feature] > threshold)
    return all(_is_clear(rows[side], truth[side], depth - 1, smallest) for side in sides)


def _clear_rows(seed, depth, smallest):
    tables = (_rows(start, count=110) for start in range(100 * seed, 100 * seed + 100))
    return next(table for table in tables if _is_clear(*table, depth, smallest))


def _generator(program, seed):
    return program.call("np.random.default_rng", seed, keep=True)


def _plain_data(seed, count=300):
    """The first of four columns tells the class, the others nothing."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 4))
    return {"rows": rows, "labels": np.digitize(rows[:, 0], [-0.4, 0.4])}


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_trained(program, task, seed, **SMALL)[1] for _ in range(2))
    assert first == second
    assert len(first) == SMALL["steps"]


def test_another_seed_gives_another_curve(program, task, seed):
    data = task.data(seed).train
    curves = []
    for offset in range(2):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, data, seed + offset, **SMALL).next(4))
    assert curves[0] != curves[1]


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _, data = _trained(program, task, seed, **SMALL)
    before = program.state(model)
    rows = data.held_out["rows"]
    assert np.array_equal(program.predict(model, rows), program.predict(model, rows))
    for name, value in program.state(model).items():
        assert np.array_equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _, data = _trained(program, task, seed, **SMALL)
    rows = data.held_out["rows"]
    together = program.predict(model, rows)
    assert np.allclose(program.predict(model, rows[40:47]), together[40:47], atol=1e-12)


def test_training_leaves_the_data_as_it_was(program, task, seed):
    data = task.data(seed).train
    copy = {name: value.copy() for name, value in data.items()}
    model = program.build(seed=seed, **SMALL)
    program.train(model, data, seed, **SMALL).next(4)
    assert all(np.array_equal(data[name], copy[name]) for name in data)


def test_units_of_the_features_do_not_matter(program, task, seed):
    data = task.data(seed)
    answers = []
    for change in (lambda x: x, lambda x: x * np.array([4.0, 0.5, 1.0, 8.0, 0.25, 2.0, 16.0])):
        model = program.build(seed=seed, **SMALL)
        train = {**data.train, "rows": change(data.train["rows"])}
        program.train(model, train, seed, **SMALL).next(4)
        answers.append(program.predict(model, change(data.held_out["rows"])))
    assert np.allclose(answers[0], answers[1], atol=1e-9)


def test_a_fresh_model_has_no_opinion(program, task, seed):
    rows = task.data(seed).held_out["rows"][:5]
    assert np.allclose(program.predict(program.build(seed=seed), rows), 1 / CLASSES)


def test_predictions_are_chances(program, task, seed):
    model, _, data = _trained(program, task, seed, **SMALL)
    chances = np.asarray(program.predict(model, data.held_out["rows"]))
    assert chances.shape == (len(data.held_out["rows"]), CLASSES)
    assert (chances >= 0).all()
    assert np.allclose(chances.sum(axis=1), 1)
    half_grown = program.build(seed=seed, **SMALL)
    program.train(half_grown, data.train, seed, **SMALL).next(2)
    assert np.allclose(np.asarray(program.predict(half_grown, data.held_out["rows"])).sum(axis=1), 1)


def test_impurity_is_the_chance_of_unlike_classes(program):
    counts = np.array([[3.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 5.0, 0.0]])
    expected = [_impurity(np.repeat(np.eye(3), row.astype(int), axis=0)) for row in counts]
    assert np.allclose(program.call("gini", counts), expected)


@pytest.mark.parametrize("smallest", [1, 4, 15])
def test_the_best_split_is_the_best_of_all(program, seed, smallest):
    rows, truth = _rows(seed)
    found = program.call("best_split", rows, truth, np.arange(3), smallest)
    fall, feature, threshold = max(_splits(rows, truth, smallest))
    assert found[0] == pytest.approx(fall)
    assert np.array_equal(rows[:, found[1]] <= found[2], rows[:, feature] <= threshold)


def test_only_the_features_on_offer_are_split(program, seed):
    rows, truth = _rows(seed)
    found = program.call("best_split", rows, truth, np.array([2]), 1)
    expected = max(split for split in _splits(rows, truth, 1) if split[1] == 2)
    assert found[1] == 2
    assert found[0] == pytest.approx(expected[0])


def test_a_threshold_lies_between_two_values(program):
    rows = np.repeat([[1.0], [2.0], [5.0], [9.0]], 5, axis=0)
    truth = np.eye(2)[(rows[:, 0] > 2).astype(int)]
    fall, _, threshold = program.call("best_split", rows, truth, np.array([0]), 1)
    assert threshold == pytest.approx(3.5)
    assert fall == pytest.approx(0.5)


def test_equal_values_are_never_split(program, seed):
    truth = _rows(seed)[1]
    assert program.call("best_split", np.full((60, 2), 7.0), truth, np.arange(2), 1)[0] == 0


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_tree_equals_one_grown_by_recursion(program, seed, depth):
    rows, truth = _clear_rows(seed, depth, 9)
    cfg = program.call("Config", keep=True, depth=depth, tried=3, smallest_leaf=9)
    tree = program.call("grow", rows, truth, cfg, _generator(program, seed))
    rows_seen_or_not = np.vstack([rows, _rows(seed + 1, count=20)[0]])
    found = program.call("apply_tree", tree, rows_seen_or_not)
    assert np.allclose(found, _answers(rows_seen_or_not, rows, truth, depth, 9))


def test_a_row_on_the_threshold_goes_with_the_smaller_ones(program, seed):
    rows, truth = np.repeat([[2.0], [5.0]], 10, axis=0), np.repeat(np.eye(2), 10, axis=0)
    cfg = program.call("Config", keep=True, depth=2, tried=1)
    tree = program.call("grow", rows, truth, cfg, _generator(program, seed))
    found = program.call("apply_tree", tree, np.array([[2.0], [3.5], [3.51], [5.0]]))
    assert np.allclose(found, np.eye(2)[[0, 0, 1, 1]])


def test_a_tree_is_grown_on_rows_drawn_with_replacement(program, seed):
    # A tree of one leaf says how often each class was drawn; of 50 rows 15 are of class 1.
    config = {"steps": 120, "depth": 0, "features": 2, "classes": 2, "tried": 1}
    data = {"rows": np.random.default_rng(seed).normal(size=(50, 2)), "labels": np.arange(50) % 10 // 7}
    model = program.build(seed=seed, **config)
    program.train(model, data, seed, **config).next(120)
    drawn = 50 * np.asarray(program.state(model)["chances"])[:, 0, 1]
    assert np.allclose(drawn, np.round(drawn))
    assert drawn.mean() == pytest.approx(15, abs=1.3)
    assert drawn.std() == pytest.approx(np.sqrt(50 * 0.3 * 0.7), rel=0.3)


def test_a_split_chooses_from_a_few_features(program, seed):
    config = {"steps": 80, "depth": 2, "features": 4, "tried": 2}
    model = program.build(seed=seed, **config)
    program.train(model, _plain_data(seed, count=90), seed, **config).next(80)
    root, left, *_ = np.asarray(program.state(model)["feature"]).T
    assert np.mean(root == 0) == pytest.approx(0.5, abs=0.2)
    assert 0.03 < np.mean(left[root != 0] == 0) < 0.97  # drawn anew at every node


def test_predictions_average_the_trees(program, task, seed):
    model, _, data = _trained(program, task, seed, **SMALL)
    state, rows = program.state(model), data.held_out["rows"][:50]
    parts = {name: value for name, value in state.items() if np.asarray(value).shape[0] == 4}
    trees = [{name: value[number] for name, value in parts.items()} for number in range(4)]
    answers = [np.asarray(program.call("apply_tree", tree, rows)) for tree in trees]
    assert np.allclose(program.predict(model, rows), sum(answers) / 4)


def test_the_error_counts_rows_that_were_left_out(program):
    votes = np.array([[2.0, 1.0], [0.0, 0.0], [0.2, 0.8], [3.0, 4.0], [0.0, 0.0]])
    assert program.call("out_of_bag_error", votes, np.array([0, 0, 1, 0, 1])) == pytest.approx(1 / 3)


def test_the_reported_error_is_that_of_unseen_rows(program, task, seed):
    data = task.data(seed)
    shuffled = np.random.default_rng(seed).permutation(data.train["labels"])
    config = {"steps": 12, "smallest_leaf": 1}
    for labels, unseen in ((data.train["labels"], None), (shuffled, 2 / 3)):
        model = program.build(seed=seed, **config)
        run = program.train(model, {"rows": data.train["rows"], "labels": labels}, seed, **config)
        reported = run.next(12)[-1]
        if unseen is None:
            unseen = 1 - task.measure(program, model, data.held_out).metric
        assert reported == pytest.approx(unseen, abs=0.2)


def test_importance_is_the_share_of_the_fall_in_impurity(program, task, seed):
    model, _, _ = _trained(program, task, seed)
    shares = np.asarray(program.call("importance", model, FEATURES))
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > 2 * shares[5:].max()  # the last two columns have no say
    state = program.state(model)
    sums = np.zeros(FEATURES)
    for features, gains in zip(state["feature"], state["gain"], strict=True):
        for feature, gain in zip(features, gains, strict=True):
            sums[feature] += gain
    assert np.allclose(shares, sums / sums.sum())


def test_falls_in_impurity_add_up_over_a_tree(program, seed):
    rows, truth = _rows(seed)
    cfg = program.call("Config", keep=True, depth=4, tried=3, smallest_leaf=5)
    tree = program.call("grow", rows, truth, cfg, _generator(program, seed))
    left_over = 0.0
    answers = np.asarray(program.call("apply_tree", tree, rows))
    for leaf in np.unique(answers, axis=0):
        left_over += np.all(answers == leaf, axis=1).mean() * (1 - (leaf**2).sum())
    assert np.asarray(tree["gain"]).sum() == pytest.approx(_impurity(truth) - left_over)


def test_dealing_out_a_feature_anew_costs_what_it_is_worth(program, seed):
    data = _plain_data(seed)
    config = {"steps": 8, "depth": 4, "features": 4}
    model = program.build(seed=seed, **config)
    program.train(model, data, seed, **config).next(8)
    rng = _generator(program, seed)
    lost = np.asarray(program.call("permutation_importance", model, data["rows"], data["labels"], rng))
    assert 0.4 < lost[0] < 0.75
    assert np.abs(lost[1:]).max() < 0.1


def test_more_trees_are_better_than_one(program, task, seed):
    data = task.data(seed)
    scores = []
    for count in (task.steps, 1):
        model = program.build(seed=seed)
        program.train(model, data.train, seed).next(count)
        scores.append(task.measure(program, model, data.held_out))
    assert scores[0].curve < 0.9 * scores[1].curve
    assert scores[0].metric > 0.55
