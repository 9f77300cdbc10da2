"""What any correct pipeline for a table does, whoever wrote it."""

import math
import statistics
from collections import Counter

import pytest
import torch

from bughunt.references.tabular_pipe.task import table


def _table(seed, count=90):
    rows, _ = table(1000 + seed)
    return {name: values[:count] for name, values in rows.items()}


def _after(program, given, seed, **config):
    model = program.build(seed=seed, **config)
    losses = program.train(model, given, seed, **config).next(config["steps"])
    return model, losses


def _generator(program, seed):
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    return rng


def _fitted(program, name, args, *given):
    part = program.call(name, *args, keep=True)
    program.call_method(part, "fit", *given, keep=True)
    return part


def _pipeline(program, seed, given, **config):
    """A fitted pipeline, and the features of the rows that it was fitted on."""
    pipeline = program.call("Pipeline", program.call("Config", keep=True, **config), keep=True)
    rng = _generator(program, seed)
    return pipeline, torch.as_tensor(program.call_method(pipeline, "fit_transform", given, rng))


def _transformed(program, part, *given):
    return torch.as_tensor(program.call_method(part, "transform", *given))


def _share(own, overall, smoothing):
    return (sum(own) + smoothing * overall) / (len(own) + smoothing)


def test_a_fresh_model_has_no_opinion(program, task, seed):
    chance = torch.as_tensor(program.predict(program.build(seed=seed), task.data(seed).held_out[0]))
    torch.testing.assert_close(chance, torch.full_like(chance, 0.5), rtol=0, atol=0.1)


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    given = task.data(seed).train
    first, second = (_after(program, given, seed, **task.small)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]
    assert first != _after(program, given, seed + 1, **task.small)[1]


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed))
    after = program.state(_after(program, task.data(seed).train, seed, **task.small)[0])
    for name in before:
        assert bool((before[name] != after[name]).all()), name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    given = task.data(seed)
    model, _ = _after(program, given.train, seed, **task.small)
    before = program.state(model)
    first = torch.as_tensor(program.predict(model, given.held_out[0]))
    program.seed(seed + 1)
    assert torch.equal(first, torch.as_tensor(program.predict(model, given.held_out[0])))
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    given = task.data(seed)
    model, _ = _after(program, given.train, seed, **task.small)
    rows = {name: values[:12] for name, values in given.held_out[0].items()}
    together = torch.as_tensor(program.predict(model, rows))
    alone = [program.predict(model, {name: v[k : k + 1] for name, v in rows.items()}) for k in range(12)]
    torch.testing.assert_close(together, torch.cat([torch.as_tensor(a) for a in alone]), rtol=1e-4, atol=1e-5)


def test_training_leaves_the_data_as_it_was(program, seed):
    given = _table(seed)
    kept = {name: values.clone() for name, values in given.items()}
    _after(program, given, seed, steps=3)
    for name, values in given.items():
        torch.testing.assert_close(values, kept[name], equal_nan=True, rtol=0, atol=0)


def test_holes_are_filled_and_columns_scaled(program, seed):
    values = _table(seed, 61)["numeric"]
    part = _fitted(program, "Numeric", [5], values)
    other = _table(seed + 1, 30)["numeric"]
    got = _transformed(program, part, other)
    assert got.shape == (30, 10)
    for column in range(5):
        known = [value for value in values[:, column].tolist() if not math.isnan(value)]
        middle = sorted(known)[(len(known) - 1) // 2], statistics.median(known)
        fits = []
        for median in middle:
            filled = [median if math.isnan(value) else value for value in values[:, column].tolist()]
            mean, std = statistics.fmean(filled), statistics.pstdev(filled)
            expected = [((median if math.isnan(v) else v) - mean) / std for v in other[:, column].tolist()]
            fits.append(max(abs(a - b) for a, b in zip(got[:, column].tolist(), expected, strict=True)))
        assert min(fits) <= 2e-2  # either divisor of the variance
        assert got[:, 5 + column].tolist() == [float(math.isnan(v)) for v in other[:, column].tolist()]


def test_a_column_that_never_changes_stays_finite(program):
    values = torch.tensor([[1.0, 5.0], [2.0, 5.0], [float("nan"), 5.0]])
    part = _fitted(program, "Numeric", [2], values)
    got = _transformed(program, part, values)
    assert bool(got.isfinite().all())
    assert got[:, 1].tolist() == [0.0, 0.0, 0.0]


def test_a_new_kind_has_no_column(program):
    part = _fitted(program, "Plans", [4], torch.tensor([13, 10, 16, 10, 19]))
    got = _transformed(program, part, torch.tensor([10, 22, 19, 13, 16]))
    assert got[1].tolist() == [0.0] * 4
    kinds = got[[0, 2, 3, 4]]
    assert sorted(kinds.argmax(dim=1).tolist()) == [0, 1, 2, 3]
    assert kinds.sum(dim=1).tolist() == [1.0] * 4


@pytest.mark.parametrize("smoothing", [0.5, 6.0])
def test_few_rows_are_pulled_towards_the_share_of_all(program, seed, smoothing):
    given = _table(seed)
    shop, label = given["shop"], given["label"]
    part = _fitted(program, "Shops", [smoothing], shop, label)
    asked = torch.cat([shop.unique(), torch.tensor([-7])])
    got = _transformed(program, part, asked).tolist()
    overall = statistics.fmean(label.tolist())
    own = {name: label[shop == name].tolist() for name in asked.tolist()}
    assert got == pytest.approx([_share(own[name], overall, smoothing) for name in asked.tolist()], rel=1e-4)


def test_folds_part_the_rows_evenly(program, seed):
    for count, folds in ((53, 5), (12, 4)):
        fold = torch.as_tensor(program.call("folds_of", count, folds, _generator(program, seed)))
        assert sorted(Counter(fold.tolist())) == list(range(folds))
        sizes = Counter(fold.tolist()).values()
        assert max(sizes) - min(sizes) <= 1
        again = torch.as_tensor(program.call("folds_of", count, folds, _generator(program, seed + 1)))
        assert not torch.equal(fold, again)
    runs = [torch.as_tensor(program.call("folds_of", 40, 4, _generator(program, s))) for s in range(6)]
    assert len({tuple(run[:4].tolist()) for run in runs}) > 2


def test_no_row_is_told_its_own_label(program, seed):
    # a shop of one row is known to nobody else
    count = 30
    given = _table(seed, count)
    given["shop"] = torch.arange(count)
    _, features = _pipeline(program, seed, given, folds=count, smoothing=2.0)
    total = int(given["label"].sum())
    share = [(total - int(label)) / (count - 1) for label in given["label"]]
    expected = [math.log(s / (1 - s)) for s in share]
    assert features[:, -1].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_rows_to_train_on_are_told_of_other_folds_only(program, seed):
    given = _table(seed, 80)
    given["shop"] = torch.arange(80) % 4
    _, base = _pipeline(program, seed, given, folds=5, smoothing=3.0)
    for row in (0, 33, 79):
        other = {**given, "label": given["label"].clone()}
        other["label"][row] = 1 - other["label"][row]
        _, moved = _pipeline(program, seed, other, folds=5, smoothing=3.0)
        same = (moved[:, -1] - base[:, -1]).abs() < 1e-6
        assert bool(same[row])
        assert int(same.sum()) == 16  # one fold of five
        torch.testing.assert_close(moved[:, :-1], base[:, :-1])


def test_features_of_other_rows_use_what_was_learnt(program, seed):
    given, other = _table(seed, 80), _table(seed + 1, 20)
    pipeline, _ = _pipeline(program, seed, given, smoothing=3.0)
    got = _transformed(program, pipeline, other)
    numeric = _transformed(program, _fitted(program, "Numeric", [5], given["numeric"]), other["numeric"])
    plans = _transformed(program, _fitted(program, "Plans", [4], given["plan"]), other["plan"])
    shops = _fitted(program, "Shops", [3.0], given["shop"], given["label"])
    share = _transformed(program, shops, other["shop"]).clamp(0.02, 0.98)
    expected = torch.cat([numeric, plans, (share / (1 - share)).log()[:, None]], dim=1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    some = {name: values[3:9] for name, values in other.items() if name != "label"}
    torch.testing.assert_close(_transformed(program, pipeline, some), got[3:9], rtol=1e-4, atol=1e-5)


def test_units_of_the_features_do_not_matter(program, task, seed):
    given = task.data(seed)
    asked = given.held_out[0]
    scale, shift = torch.tensor([3.0, 0.1, 7.0, 40.0, 1.0]), torch.tensor([5.0, 0.0, -30.0, 2.0, 9.0])
    one, _ = _after(program, given.train, seed, **task.small)
    moved = {**given.train, "numeric": given.train["numeric"] * scale + shift}
    other, _ = _after(program, moved, seed, **task.small)
    answer = torch.as_tensor(program.predict(other, {**asked, "numeric": asked["numeric"] * scale + shift}))
    torch.testing.assert_close(answer, torch.as_tensor(program.predict(one, asked)), rtol=0, atol=2e-3)


def test_updates_follow_the_gradients(program, seed):
    config = {"steps": 5, "batch": 40, "lr": 0.05, "momentum": 0.7, "weight_decay": 0.3}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, _table(seed), seed, **config)
    value = program.state(model)
    speed = {name: torch.zeros_like(tensor) for name, tensor in value.items()}
    for step in range(5):
        run.next()
        for name, gradient in program.gradients(model).items():
            decay = 0.3 * value[name] if value[name].dim() > 1 else 0.0
            speed[name] = 0.7 * speed[name] + gradient + decay
            value[name] = value[name] - 0.05 * (1 - step / 5) * speed[name]
        for name, tensor in program.state(model).items():
            torch.testing.assert_close(tensor, value[name], rtol=1e-4, atol=1e-6)


def test_the_reported_loss_is_that_of_the_batch_before_its_update(program, seed):
    # all rows in one batch, features that do not depend on folds
    given = _table(seed)
    given["shop"] = torch.zeros(90, dtype=torch.long)
    config = {"steps": 2, "batch": 90, "lr": 0.0, "folds": 90, "smoothing": 1e9}
    model = program.build(seed=seed, **config)
    draws = torch.Generator().manual_seed(seed)
    state = program.state(model)
    program.load_state(model, {n: torch.randn(w.shape, generator=draws) / 3 for n, w in state.items()})
    losses = program.train(model, given, seed, **config).next(2)
    chance = torch.as_tensor(program.predict(model, given)).double()
    expected = -torch.where(given["label"] > 0, chance, 1 - chance).log().mean()
    assert losses == pytest.approx([float(expected)] * 2, rel=3e-2)


def test_one_pass_shows_every_row_once(program, seed):
    stream = program.call(
        "batches", 53, program.call("Config", keep=True, batch=20), _generator(program, seed), keep=True
    )
    epochs = []
    for _ in range(2):
        parts = [torch.as_tensor(program.call_method(stream, "__next__")).tolist() for _ in range(3)]
        assert list(map(len, parts)) == [20, 20, 13]
        epochs.append([row for part in parts for row in part])
        assert sorted(epochs[-1]) == list(range(53))
        assert epochs[-1] != sorted(epochs[-1])
    assert epochs[0] != epochs[1]


def test_the_area_is_the_share_of_pairs_in_order(program, seed):
    rng = torch.Generator().manual_seed(seed)
    label = (torch.rand(90, generator=rng) < 0.3).long()
    for scores in (torch.rand(90, generator=rng), torch.randint(0, 4, (90,), generator=rng).float()):
        pairs = [(a, b) for a in scores[label > 0].tolist() for b in scores[label == 0].tolist()]
        expected = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
        assert program.call("auc", scores, label) == pytest.approx(expected, rel=1e-6)


def test_cross_validation_finds_nothing_where_there_is_nothing(program, seed):
    rng = torch.Generator().manual_seed(seed)
    given = _table(seed, 1200)
    given["label"] = (torch.rand(1200, generator=rng) < 0.5).long()
    given["shop"] = torch.randint(0, 300, (1200,), generator=rng)  # many small shops invite to learn by heart
    cfg = program.call("Config", keep=True, steps=40, folds=3)
    areas = program.call("cross_validate", given, cfg, _generator(program, seed))
    assert len(areas) == 3
    assert abs(statistics.fmean(areas) - 0.5) <= 0.07


def test_cross_validation_judges_rows_that_were_kept_apart(program, seed):
    # half of the shops have two rows with one label, of the others nothing can be known
    rng = torch.Generator().manual_seed(seed)
    given = _table(seed, 600)
    given["shop"] = torch.cat([torch.arange(300) // 2, torch.arange(1000, 1300)])
    coins = (torch.rand(600, generator=rng) < 0.5).long()
    given["label"] = torch.where(torch.arange(600) < 300, coins[given["shop"] % 300], coins)
    cfg = program.call("Config", keep=True, steps=40, smoothing=1.0, folds=3)
    areas = program.call("cross_validate", given, cfg, _generator(program, seed))
    assert 0.55 <= statistics.fmean(areas) <= 0.86


def test_cross_validation_says_what_new_rows_will_show(program, task, seed):
    given = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, given.train, seed).next(task.steps)
    seen = task.measure(program, model, given.held_out).metric
    cfg = program.call("Config", keep=True)
    promised = statistics.fmean(program.call("cross_validate", given.train, cfg, _generator(program, seed)))
    assert abs(promised - seen) <= 0.1
    assert seen >= 0.72


def test_gradients_belong_to_one_batch(program, seed):
    # features that do not depend on folds, and a model that stays where it is
    given = _table(seed)
    given["shop"] = torch.zeros(90, dtype=torch.long)
    for batch in (90, 9):
        config = {"steps": 10, "batch": batch, "lr": 0.0, "folds": 90, "smoothing": 1e9}
        model = program.build(seed=seed, **config)
        program.watch_gradients(model, True)
        run, seen = program.train(model, given, seed, **config), []
        for _ in range(10):
            run.next()
            bias = next(g for g in program.gradients(model).values() if g.dim() == 1)
            seen.append(float(bias))
        chance = torch.as_tensor(program.predict(model, given))
        slope = float((chance - given["label"]).mean())
        assert statistics.fmean(seen) == pytest.approx(slope, rel=1e-2, abs=1e-4)
        assert (max(seen) - min(seen) <= 1e-4) == (batch == 90)
