"""What any correct ranker of impressions does, whoever wrote it."""

import itertools
import math
from collections import Counter

import pytest
import torch

from bughunt.references.ctr_ranker.task import impressions
from bughunt.references.slope import norm, slope

SIZES = {"sizes": (14, 9, 6), "channels": 5, "hidden": 7}


def _rows(seed, count=120):
    """A few impressions with few values."""
    rng = torch.Generator().manual_seed(seed)
    return {
        "user": 1000 + 7 * torch.randint(0, 20, (count,), generator=rng),
        "item": torch.randint(0, 12, (count,), generator=rng) ** 2,
        "hour": torch.randint(0, 5, (count,), generator=rng),
        "time": torch.rand(count, generator=rng, dtype=torch.float64),
        "click": (torch.rand(count, generator=rng) < 0.3).long(),
    }


def _after(program, task, seed, **config):
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, task.data(seed).train, seed, **config).next(config["steps"])
    return model, losses


def _batches(program, click, count, seed, **config):
    cfg = program.call("Config", keep=True, **config)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", click, cfg, rng, keep=True)
    return [torch.as_tensor(program.call_method(stream, "__next__")) for _ in range(count)]


def _noisy(program, seed, **config):
    model = program.build(seed=seed, **{**SIZES, **config})
    draws = torch.Generator().manual_seed(seed)
    state = program.state(model)
    program.load_state(model, {n: torch.randn(w.shape, generator=draws) / 2 for n, w in state.items()})
    return model


def _logits(program, model, codes):
    program.train_mode(model, False)
    return torch.as_tensor(program.call_method(model, "__call__", codes)).double()


def _codes(seed, count=40):
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, size, (count,), generator=rng) for size in SIZES["sizes"]], dim=1)


def _first_gradient(program, rows, seed, **config):
    config = {
        **SIZES,
        "lr": 0.0,
        "steps": 3,
        "negatives": 1.0,
        "batch": 500,
        "fewest": 1,
        "penalty": 0.0,
        **config,
    }
    model = _noisy(program, seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, rows, seed, **config)
    losses = run.next()
    return model, run, losses[0], program.gradients(model)


def _mean_surprise(program, model, rows):
    """In nats, of chances that are not calibrated, because nothing was left out."""
    chance = torch.as_tensor(program.predict(model, rows)).double()
    return float(-torch.where(rows["click"] > 0, chance, 1 - chance).log().mean())


def test_a_fresh_model_has_no_opinion(program, seed):
    model = program.build(seed=seed, negatives=0.25)
    chance = torch.as_tensor(program.predict(model, _rows(seed)))
    torch.testing.assert_close(chance, torch.full((120,), 0.2), rtol=0, atol=0.1)


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_after(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed, **task.small))
    after = program.state(_after(program, task, seed)[0])
    for name in before:
        moved = (before[name] != after[name]).flatten(1 if before[name].dim() > 1 else 0).any(dim=-1)
        assert float(moved.double().mean()) > 0.5, name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _ = _after(program, task, seed)
    rows, before = task.data(seed).held_out[0], program.state(model)
    first = torch.as_tensor(program.predict(model, rows))
    program.train_mode(model, True)
    program.seed(seed + 1)
    assert torch.equal(first, torch.as_tensor(program.predict(model, rows)))
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _ = _after(program, task, seed)
    rows = {name: values[:9] for name, values in task.data(seed).held_out[0].items()}
    together = torch.as_tensor(program.predict(model, rows))
    alone = [program.predict(model, {name: v[k : k + 1] for name, v in rows.items()}) for k in range(9)]
    torch.testing.assert_close(together, torch.cat([torch.as_tensor(a) for a in alone]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("fewest", "limit"), [(1, 100), (6, 100), (1, 8), (7, 5)])
def test_the_most_frequent_values_have_numbers_of_their_own(program, seed, fewest, limit):
    values = _rows(seed)["user"]
    counts = Counter(values.tolist())
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    kept = [value for value in ranked if counts[value] >= fewest][: limit - 1]
    numbers = program.call("vocabulary", values, fewest, limit)
    assert numbers == {value: 1 + rank for rank, value in enumerate(kept)}


def test_what_is_new_is_the_unknown_value(program, task, seed):
    numbers = {7: 1, 900: 2}
    assert torch.as_tensor(program.call("encode", torch.tensor([900, 8, 7, -1]), numbers)).tolist() == [
        2,
        0,
        1,
        0,
    ]
    model, _ = _after(program, task, seed)
    rows = {name: values[:2].clone() for name, values in task.data(seed).held_out[0].items()}
    rows["hour"][1], rows["user"][0], rows["user"][1] = rows["hour"][0], -5, 10**7
    rows["item"][1] = rows["item"][0]
    one, other = torch.as_tensor(program.predict(model, rows)).tolist()
    assert one == pytest.approx(other, rel=1e-6)


def test_products_of_pairs_equal_those_of_a_loop(program, seed):
    vectors = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(seed))
    got = torch.as_tensor(program.call("pair_products", vectors))
    expected = [
        sum(float(row[a] @ row[b]) for a, b in itertools.combinations(range(4), 2)) for row in vectors
    ]
    assert got.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_logits_are_the_sum_of_their_parts(program, seed):
    model = _noisy(program, seed)
    codes, state = _codes(seed), program.state(model)
    names = program.parameters(model)
    tables = [next(state[n] for n in names if state[n].shape == (size, 5)) for size in SIZES["sizes"]]
    weights = [next(state[n] for n in names if state[n].shape == (size, 1)) for size in SIZES["sizes"]]
    (hidden,) = (state[n] for n in names if state[n].shape == (7, 15))
    (shift,) = (state[n] for n in names if state[n].shape == (7,))
    (out,) = (state[n] for n in names if state[n].shape == (1, 7))
    bias = sum(float(state[n]) for n in names if state[n].shape == (1,))
    expected = []
    for row in codes.tolist():
        parts = [table[code] for table, code in zip(tables, row, strict=True)]
        total = bias + sum(float(weight[code]) for weight, code in zip(weights, row, strict=True))
        total += sum(float(a @ b) for a, b in itertools.combinations(parts, 2))
        total += float(out[0] @ (hidden @ torch.cat(parts) + shift).relu())
        expected.append(total)
    assert _logits(program, model, codes).tolist() == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("share", [1.0, 0.3, 0.05])
def test_chances_are_put_right_for_what_was_left_out(program, share):
    logits = torch.linspace(-6, 6, 13)
    got = torch.as_tensor(program.call("calibrated", logits, share)).tolist()
    for logit, chance in zip(logits.tolist(), got, strict=True):
        biased = 1 / (1 + math.exp(-logit))
        assert chance == pytest.approx(biased / (biased + (1 - biased) / share), rel=1e-4)


def test_all_clicks_are_kept_and_a_share_of_the_others(program, seed):
    click = (torch.arange(6000) % 5 == 0).long()
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    first, second = (torch.as_tensor(program.call("thinned", click, 0.35, rng)) for _ in range(2))
    for rows in (first, second):
        kept = click[rows].bincount(minlength=2).tolist()
        assert kept[1] == 1200
        assert kept[0] == pytest.approx(0.35 * 4800, rel=0.1)
        assert len(set(rows.tolist())) == len(rows)
    assert len(first) != len(second) or not torch.equal(first, second)
    assert len(program.call("thinned", click, 1.0, rng)) == 6000


def test_one_pass_shows_every_row_once(program, seed):
    click = (torch.arange(110) % 4 == 0).long()
    epochs = []
    parts = _batches(program, click, 6, seed, batch=50, negatives=1.0)
    assert [len(part) for part in parts] == [50, 50, 10, 50, 50, 10]
    for epoch in (torch.cat(parts[:3]).tolist(), torch.cat(parts[3:]).tolist()):
        assert sorted(epoch) == list(range(110))
        assert epoch != sorted(epoch)
        epochs.append(epoch)
    assert epochs[0] != epochs[1]


def test_every_pass_leaves_out_others(program, seed):
    click = (torch.arange(400) % 4 == 0).long()
    passes = _batches(program, click, 2, seed, batch=400, negatives=0.35)
    first, second = (set(rows.tolist()) for rows in passes)
    assert first & second >= set(range(0, 400, 4))
    assert first != second


def test_each_impression_keeps_its_click(program, seed):
    # all in one batch, whose loss does not depend on their order
    rows = _rows(seed)
    model, _, reported, _ = _first_gradient(program, rows, seed)
    assert reported == pytest.approx(_mean_surprise(program, model, rows), rel=1e-3)


def test_large_embeddings_cost(program, seed):
    codes, click = _codes(seed), (torch.arange(40) % 3 == 0).float()
    values = []
    for penalty in (0.0, 0.5):
        model = _noisy(program, seed, penalty=penalty)
        values.append(float(program.call("loss", model, codes, click)))
    state = program.state(model)
    tables = [next(w for w in state.values() if w.shape == (size, 5)) for size in SIZES["sizes"]]
    size = sum(float(table[codes[:, d]].pow(2).sum(dim=1).mean()) for d, table in enumerate(tables))
    assert values[1] - values[0] == pytest.approx(0.5 * size, rel=1e-3)
    logits = _logits(program, model, codes)
    right = torch.where(click > 0, logits, -logits).sigmoid().log().mean()
    assert values[0] == pytest.approx(-float(right), rel=1e-3)


def test_the_penalty_pulls_embeddings_to_zero(program, seed):
    codes, click = _codes(seed), (torch.arange(40) % 3 == 0).float()
    pulls = []
    for penalty in (0.0, 0.5):
        model = _noisy(program, seed, penalty=penalty)
        value = program.call("loss", model, codes, click, keep=True)
        program.call_method(value, "backward", keep=True)
        pulls.append(program.gradients(model))
    for name, table in program.state(model).items():
        if table.dim() == 2 and table.size(1) == 5:
            column = next(d for d, size in enumerate(SIZES["sizes"]) if size == len(table))
            times = codes[:, column].bincount(minlength=len(table))
            expected = times[:, None] * table / 40  # of half the square, a mean over 40 rows
            torch.testing.assert_close(pulls[1][name] - pulls[0][name], expected, rtol=1e-3, atol=1e-5)


def test_large_scores_stay_finite(program, seed):
    model = _noisy(program, seed)
    state = program.state(model)
    program.load_state(model, {name: 12 * value for name, value in state.items()})
    value = float(program.call("loss", model, _codes(seed), torch.arange(40.0) % 2))
    assert math.isfinite(value)
    assert value > 50


def test_the_gradient_is_the_slope_of_the_loss(program, seed):
    rows = _rows(seed)
    model, _, _, gradient = _first_gradient(program, rows, seed)
    start = program.state(model)

    def loss_at(state):
        program.load_state(model, state)
        return _mean_surprise(program, model, rows)

    assert slope(loss_at, start, gradient) == pytest.approx(norm(gradient), rel=0.05)


def test_a_gradient_belongs_to_this_batch_only(program, seed):
    model, run, _, first = _first_gradient(program, _rows(seed), seed)
    run.next()
    for name, value in program.gradients(model).items():
        torch.testing.assert_close(value, first[name], rtol=1e-3, atol=1e-6)


def test_the_rate_climbs_and_falls(program, seed):
    # while the gradient hardly changes, Adam moves every weight by the rate itself
    config = {**SIZES, "batch": 500, "lr": 1e-4, "steps": 12, "warmup": 4, "negatives": 1.0, "fewest": 1}
    model = _noisy(program, seed, **config)
    name = next(n for n in program.parameters(model) if program.state(model)[n].shape == (7, 15))
    run, rates, before = program.train(model, _rows(seed), seed, **config), [], program.state(model)[name]
    while run.next():
        after = program.state(model)[name]
        moved = (after - before).abs()
        rates.append(float(moved[moved > 0].median()))
        before = after
    expected = [1e-4 * min((step + 1) / 4, 1 - step / 12) for step in range(12)]
    assert rates == pytest.approx(expected, rel=0.1)


def test_the_area_is_the_share_of_pairs_in_order(program, seed):
    rng = torch.Generator().manual_seed(seed)
    click = (torch.rand(150, generator=rng) < 0.3).long()
    for scores in (torch.rand(150, generator=rng), torch.randint(0, 4, (150,), generator=rng).float()):
        wins = scores[click > 0][:, None] - scores[click == 0][None, :]
        expected = float((wins > 0).double().mean() + 0.5 * (wins == 0).double().mean())
        assert program.call("auc", scores, click) == pytest.approx(expected, rel=1e-6)
        assert program.call("auc", -scores, click) == pytest.approx(1 - expected, rel=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_the_split_goes_by_time(program, seed, share):
    rows = _rows(seed)
    early, late = program.call("split_by_time", rows, share)
    assert len(late["time"]) == round(share * 120)
    assert float(torch.as_tensor(early["time"]).max()) <= float(torch.as_tensor(late["time"]).min())
    whole = Counter(zip(*(rows[name].tolist() for name in rows), strict=True))
    parts = Counter()
    for part in (early, late):
        parts.update(zip(*(torch.as_tensor(part[name]).tolist() for name in rows), strict=True))
    assert parts == whole


def test_evaluation_agrees_with_formulas(program, task, seed):
    model, _ = _after(program, task, seed)
    rows = {name: values[:300] for name, values in task.data(seed).train.items()}
    chance = torch.as_tensor(program.predict(model, rows)).double()
    seen = program.call("evaluate", model, rows)
    assert seen["log_loss"] == pytest.approx(_mean_surprise(program, model, rows), rel=1e-3)
    assert seen["calibration"] == pytest.approx(float(chance.sum()) / int(rows["click"].sum()), rel=1e-3)


def test_it_promises_as_many_clicks_as_come(program, task, seed):
    model, losses = _after(program, task, seed, steps=150, batch=200, channels=10)
    given = task.data(seed)
    chance = torch.as_tensor(program.predict(model, given.held_out[0])).double()
    assert 0.8 <= float(chance.mean() / given.held_out[2].mean()) <= 1.25
    assert task.measure(program, model, given.held_out).metric >= 0.68
    assert sum(losses[-20:]) < 0.95 * sum(losses[:20])


def test_training_leaves_the_data_as_it_was(program, seed):
    rows, _ = impressions(seed)
    kept = {name: values.clone() for name, values in rows.items()}
    program.train(program.build(seed=seed), rows, seed, steps=2).next(2)
    assert all(torch.equal(kept[name], rows[name]) for name in rows)


def test_vectors_start_small_and_unlike(program, seed):
    model = program.build(seed=seed, init_std=0.3)
    cfg, state = program.config(), program.state(model)
    for size in cfg["sizes"]:
        (vectors,) = (value for value in state.values() if value.shape == (size, cfg["channels"]))
        assert float(vectors.std()) == pytest.approx(0.3, rel=0.2)
        (weights,) = (value for value in state.values() if value.shape == (size, 1))
        assert not weights.any()
    assert any(state[name].shape == (1,) for name in program.parameters(model)), "nothing holds the mean"
