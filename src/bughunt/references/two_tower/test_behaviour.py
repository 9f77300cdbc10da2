"""What any correct two-tower retrieval does, whoever wrote it."""

import math
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

from bughunt.references.data import tastes
from bughunt.references.slope import slope_of_report

SMALL = {"users": 9, "items": 30}


def _events(seed, users=9, items=30, most=8):
    """Shuffled events of a few users, some of whom have only one, and all times different."""
    rng = torch.Generator().manual_seed(seed)
    counts = torch.randint(2, most + 1, (users,), generator=rng)
    counts[0], counts[-1] = 1, most
    user = torch.arange(users).repeat_interleave(counts)
    item = torch.cat([torch.randperm(items, generator=rng)[:count] for count in counts.tolist()])
    time = torch.rand(len(user), generator=rng, dtype=torch.float64)
    order = torch.randperm(len(user), generator=rng)
    return {"user": user[order], "item": item[order], "time": time[order]}


def _stories(events):
    """The picks of each user in order of time."""
    told = {}
    for time, user, item in sorted(zip(*(events[n].tolist() for n in ("time", "user", "item")), strict=True)):
        told.setdefault(user, []).append((item, time))
    return told


def _call(program, name, *args):
    return torch.as_tensor(program.call(name, *args))


def _ordered(events):
    told = _stories(events)
    rows = [(user, item, time) for user in sorted(told) for item, time in told[user]]
    user, item, time = zip(*rows, strict=True)
    time = torch.tensor(time, dtype=torch.float64)
    return {"user": torch.tensor(user), "item": torch.tensor(item), "time": time}


def _noisy(program, seed, **config):
    model = program.build(seed=seed, **{**SMALL, **config})
    draws = torch.Generator().manual_seed(seed)
    state = program.state(model)
    noisy = {n: torch.randn(state[n].shape, generator=draws) for n in program.parameters(model)}
    program.load_state(model, noisy)
    return model


def _scores(program, model, user, recent, item):
    program.train_mode(model, False)
    return torch.as_tensor(program.call_method(model, "__call__", user, recent, item)).double()


def _loss(scores, item, frequency):
    """Written out: each row against the items of others that are not its own."""
    total = 0.0
    for row in range(len(item)):
        logits = [
            float(scores[row, column] - frequency[column])
            for column in range(len(item))
            if column == row or item[column] != item[row]
        ]
        own = float(scores[row, row] - frequency[row])
        total += math.log(sum(math.exp(value) for value in logits)) - own
    return total / len(item)


def _after(program, task, seed, **config):
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, task.data(seed).train, seed, **config).next(config["steps"])
    return model, losses


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_after(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed, **task.small))
    whole = {"batch": 504, "steps": 15}  # one pass, so that rare items have their turn too
    model, _ = _after(program, task, seed, weight_decay=0.0, **whole)
    after = program.state(model)
    for name in program.parameters(model):
        moved = (before[name] != after[name]).flatten(1 if before[name].dim() > 1 else 0).any(dim=-1)
        assert float(moved.double().mean()) > 0.95, name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _ = _after(program, task, seed)
    before, users = program.state(model), torch.arange(40)
    first = torch.as_tensor(program.predict(model, users))
    program.train_mode(model, True)
    program.seed(seed + 1)
    assert torch.equal(first, torch.as_tensor(program.predict(model, users)))
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _ = _after(program, task, seed)
    users = torch.tensor([7, 300, 7, 31])
    together = torch.as_tensor(program.predict(model, users))
    alone = torch.cat([torch.as_tensor(program.predict(model, user[None])) for user in users])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_vectors_start_small_and_unlike(program, seed):
    cfg, state = program.config(), program.state(program.build(seed=seed))
    C = cfg["channels"]
    for name, value in state.items():
        if value.shape in {(cfg["users"], C), (cfg["items"], C)} and value.is_floating_point():
            assert float(value.std()) == pytest.approx(0.1, rel=0.1), name
        if value.shape == (cfg["items"], 1):
            assert not value.any(), name


def test_events_are_put_in_order_of_time(program, seed):
    events = _events(seed)
    got = program.call("interactions.in_order", events)
    for name, expected in _ordered(events).items():
        assert torch.equal(torch.as_tensor(got[name]), expected), name


@pytest.mark.parametrize("latest", [1, 2])
def test_the_latest_events_are_kept_apart(program, seed, latest):
    events = _events(seed)
    past, late = program.call("interactions.split_by_time", events, latest)
    for part, cut in ((past, slice(0, -latest)), (late, slice(-latest, None))):
        rows = list(
            zip(torch.as_tensor(part["user"]).tolist(), torch.as_tensor(part["item"]).tolist(), strict=True)
        )
        expected = [(user, item) for user, story in _stories(events).items() for item, _ in story[cut]]
        assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("count", [1, 3])
def test_only_earlier_picks_are_known_before_each(program, seed, count):
    events = _ordered(_events(seed))
    got = _call(program, "interactions.recent_before", events, count).tolist()
    told, place = _stories(events), Counter()
    for user, row in zip(events["user"].tolist(), got, strict=True):
        earlier = [item for item, _ in told[user][: place[user]]][::-1][:count]
        assert row == earlier + [-1] * (count - len(earlier))
        place[user] += 1


@pytest.mark.parametrize("count", [1, 4])
def test_the_latest_picks_are_known_at_the_end(program, seed, count):
    events = _ordered(_events(seed))
    got = _call(program, "interactions.recent_at_end", events, 11, count).tolist()
    told = _stories(events)
    for user in range(11):  # two never picked anything
        latest = [item for item, _ in told.get(user, [])][::-1][:count]
        assert got[user] == latest + [-1] * (count - len(latest))


def test_known_items_and_frequencies_are_counted(program, seed):
    events = _events(seed)
    known = _call(program, "interactions.seen", events, 9, 33)
    expected = torch.zeros(9, 33, dtype=torch.bool)
    for user, item in zip(events["user"].tolist(), events["item"].tolist(), strict=True):
        expected[user, item] = True
    assert torch.equal(known, expected)
    counts = Counter(events["item"].tolist())
    frequency = _call(program, "interactions.log_frequency", events["item"], 33)
    total = len(events["item"])
    assert frequency.tolist() == pytest.approx(
        [math.log(max(counts[i], 0.5) / total) for i in range(33)], rel=1e-4
    )


def test_the_loss_equals_one_written_row_by_row(program, seed):
    draws = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(14, 14, generator=draws)
    item = torch.randint(0, 6, (14,), generator=draws)
    frequency = torch.randn(6, generator=draws)[item]
    got = float(_call(program, "losses.in_batch_softmax", scores, item, frequency))
    assert got == pytest.approx(_loss(scores, item, frequency), rel=1e-4)


def test_large_scores_stay_finite(program, seed):
    scores = 300 * torch.randn(9, 9, generator=torch.Generator().manual_seed(seed))
    item = torch.arange(9) // 2
    assert math.isfinite(float(_call(program, "losses.in_batch_softmax", scores, item, torch.zeros(9))))


def test_scores_are_those_of_the_two_towers(program, seed):
    model = _noisy(program, seed, channels=4)
    cfg, state = program.config(), program.state(model)
    tables = {name: state[name] for name in program.parameters(model)}
    (person,) = (w for w in tables.values() if w.shape == (9, 4))
    (appeal,) = (w for w in tables.values() if w.shape == (30, 1))
    (mix,) = (w for w in tables.values() if w.shape == (4, 8))
    (bias,) = (w for w in tables.values() if w.shape == (4,))
    one, two = (w for w in tables.values() if w.shape == (30, 4))
    user, item = torch.arange(9), torch.tensor([4, 9, 9, 0])
    recent = torch.randint(0, 30, (9, 3), generator=torch.Generator().manual_seed(seed))
    recent[0], recent[1, 1:] = -1, -1
    got = _scores(program, model, user, recent, item)
    fits = []
    for picks, directions in ((one, two), (two, one)):
        rows = []
        for u in range(9):
            known = [picks[i] for i in recent[u].tolist() if i >= 0]
            mean = sum(known) / len(known) if known else torch.zeros(4)
            both = (torch.cat([person[u], mean]), torch.cat([mean, person[u]]))
            rows.append([F.normalize(mix @ x + bias, dim=0) for x in both])
        for side in (0, 1):
            vectors = torch.stack([row[side] for row in rows])
            alike = vectors @ F.normalize(directions[item], dim=1).T / cfg["temperature"]
            fits.append(float((alike + appeal[item, 0] - got).abs().max()))
    assert min(fits) <= 1e-4


def test_the_reported_loss_is_that_of_the_batch(program, seed):
    # all events in one batch, whose loss does not depend on their order
    events = _events(seed)
    config = {**SMALL, "batch": 200, "lr": 0.0, "steps": 3, "recent": 2}
    model = _noisy(program, seed, recent=2)
    ordered = _ordered(events)
    recent = _call(program, "interactions.recent_before", ordered, 2)
    scores = _scores(program, model, ordered["user"], recent, ordered["item"])
    counts = ordered["item"].bincount(minlength=30).double() / len(recent)
    expected = _loss(scores, ordered["item"], counts.log()[ordered["item"]])
    assert program.train(model, events, seed, **config).next(3) == pytest.approx([expected] * 3, rel=1e-3)


def test_what_users_know_is_not_recommended(program, task, seed):
    model, _ = _after(program, task, seed, steps=5)
    given = task.data(seed).train
    told = _stories(given)
    users = torch.arange(0, tastes.USERS, 7)
    scores = torch.as_tensor(program.predict(model, users))
    lists = _call(program, "recommend", model, users)
    assert lists.shape == (len(users), program.config()["top"])
    for user, row, ranked in zip(users.tolist(), scores, lists.tolist(), strict=True):
        known = {item for item, _ in told[user]}
        assert {int(i) for i in row.isneginf().nonzero()} == known
        assert ranked == [i for i in row.argsort(descending=True).tolist() if i not in known][: len(ranked)]


def test_scores_use_the_latest_picks(program, task, seed):
    model, _ = _after(program, task, seed, steps=5)
    told = _stories(task.data(seed).train)
    users = torch.tensor([3, 200])
    recent = torch.tensor(
        [[item for item, _ in told[u]][::-1][: program.config()["recent"]] for u in users.tolist()]
    )
    expected = _scores(program, model, users, recent, torch.arange(tastes.ITEMS))
    got = torch.as_tensor(program.predict(model, users)).double()
    finite = got.isfinite()
    torch.testing.assert_close(got[finite], expected[finite], rtol=1e-4, atol=1e-4)


def test_lists_are_judged_as_by_hand(program, seed):
    draws = torch.Generator().manual_seed(seed)
    scores = torch.randn(7, 20, generator=draws)
    known = torch.rand(7, 20, generator=draws) < 0.3
    ranked = _call(program, "metrics.ranking", scores, known, 6)
    relevant = torch.stack([torch.randperm(20, generator=draws)[:3] for _ in range(7)])
    recall = _call(program, "metrics.recall", ranked, relevant)
    ndcg = _call(program, "metrics.ndcg", ranked, relevant)
    best = sum(1 / math.log2(place + 2) for place in range(3))
    for row in range(7):
        unknown = [i for i in scores[row].argsort(descending=True).tolist() if not known[row, i]]
        assert ranked[row].tolist() == unknown[:6]
        hits = [place for place, i in enumerate(unknown[:6]) if i in relevant[row].tolist()]
        assert float(recall[row]) == pytest.approx(len(hits) / 3)
        assert float(ndcg[row]) == pytest.approx(sum(1 / math.log2(p + 2) for p in hits) / best, rel=1e-4)


def test_evaluation_is_the_mean_over_users(program, task, seed):
    model, _ = _after(program, task, seed, steps=5)
    users, latest = torch.arange(50), task.data(seed).held_out[:50]
    lists = _call(program, "recommend", model, users).tolist()
    found = [len(set(row) & set(wanted)) / 3 for row, wanted in zip(lists, latest.tolist(), strict=True)]
    assert program.call("evaluate", model, users, latest)["recall"] == pytest.approx(
        sum(found) / 50, rel=1e-4
    )


def test_one_pass_shows_every_row_once(program, seed):
    cfg = program.call("Config", keep=True, batch=16)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", 53, cfg, rng, keep=True)
    epochs = []
    for _ in range(2):
        parts = [torch.as_tensor(program.call_method(stream, "__next__")) for _ in range(3)]
        assert [len(part) for part in parts] == [16, 16, 16]
        assert any(part.max() - part.min() > 15 for part in parts)  # not rows that stood together
        epochs.append(torch.cat(parts).tolist())
        assert len(set(epochs[-1])) == 48
        assert set(epochs[-1]) <= set(range(53))
    assert epochs[0] != epochs[1]
    assert epochs[0] != sorted(epochs[0])


def test_the_gradient_is_the_slope_of_the_loss(program, seed):
    events, config = _events(seed), {**SMALL, "batch": 200, "lr": 0.0, "steps": 3}
    model = _noisy(program, seed)
    found, length = slope_of_report(program, model, events, seed, config)
    assert found == pytest.approx(length, rel=0.05)


def test_a_gradient_belongs_to_this_batch_only(program, seed):
    config = {**SMALL, "batch": 200, "lr": 0.0, "steps": 3}
    model = _noisy(program, seed)
    program.watch_gradients(model, True)
    run = program.train(model, _events(seed), seed, **config)
    run.next()
    first = program.gradients(model)
    run.next()
    for name, value in program.gradients(model).items():
        torch.testing.assert_close(value, first[name], rtol=1e-3, atol=1e-6)


def test_the_rate_climbs_and_falls(program, seed):
    # what has no gradient moves by its decay alone
    config = {**SMALL, "batch": 200, "lr": 0.05, "steps": 9, "warmup": 4, "weight_decay": 0.5}
    events = {name: values[_events(seed)["user"] > 1] for name, values in _events(seed).items()}
    model = _noisy(program, seed)
    name = next(n for n in program.parameters(model) if len(program.state(model)[n]) == 9)
    run, before, shrunk = program.train(model, events, seed, **config), program.state(model)[name][0], []
    while run.next():
        after = program.state(model)[name][0]
        shrunk.append(float((1 - after / before).mean()))
        before = after
    expected = [0.05 * 0.5 * min((step + 1) / 4, 1 - step / 9) for step in range(9)]
    assert shrunk == pytest.approx(expected, rel=0.05, abs=1e-5)


def test_it_learns_more_than_what_is_popular(program, task, seed):
    given = task.data(seed)
    config = {"steps": 140, "channels": 12, "batch": 224}
    model, _ = _after(program, task, seed, **config)
    popular = given.train["item"].bincount(minlength=tastes.ITEMS).double()
    known = torch.zeros(tastes.USERS, tastes.ITEMS, dtype=torch.bool)
    known[given.train["user"], given.train["item"]] = True
    ranked = popular.expand(tastes.USERS, -1).masked_fill(known, -1).topk(20, dim=1).indices
    found = (ranked[:, :, None] == given.held_out[:, None, :]).any(dim=1).double().mean()
    assert task.measure(program, model, given.held_out).metric >= 1.7 * float(found)
