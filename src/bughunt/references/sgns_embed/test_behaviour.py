"""What any correct skip-gram with negative sampling does, whoever wrote it."""

import math
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

from bughunt.references.data import topics


def _given(seed, count=60):
    return topics.sentences(count, 500 + seed)


def _after(program, task, seed, **config):
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, task.data(seed).train, seed, **config).next(config["steps"])
    return model, losses


def _batches(program, data, count, seed, **config):
    cfg = program.call("Config", keep=True, **config)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", data, cfg, rng, keep=True)
    return [program.call_method(stream, "__next__") for _ in range(count)]


def _noisy(program, seed, **config):
    """A model whose vectors are all of ordinary size."""
    model = program.build(seed=seed, **config)
    draws = torch.Generator().manual_seed(seed)
    state = program.state(model)
    program.load_state(model, {n: torch.randn(w.shape, generator=draws) for n, w in state.items()})
    return model


def _near(data, window):
    """Pairs of centre and context by a loop over sentences."""
    found = Counter()
    tokens, sentence = data["tokens"].tolist(), data["sentence"].tolist()
    for i, center in enumerate(tokens):
        for j in range(max(0, i - window), min(len(tokens), i + window + 1)):
            if i != j and sentence[i] == sentence[j]:
                found[center, tokens[j]] += 1
    return found


def _tables(program, model):
    """Centre and context vectors; which is which shows in what predict answers."""
    state = program.state(model)
    names = program.parameters(model)
    everything = torch.arange(len(state[names[0]]))
    answer = torch.as_tensor(program.predict(model, everything))
    alike = [float((F.normalize(state[n], dim=1) - answer).abs().max()) for n in names]
    first = names[alike.index(min(alike))]
    (second,) = [n for n in names if n != first]
    return first, second


def _loss_by_loops(center, context, triples):
    total = 0.0
    for c, o, negatives in triples:
        total -= math.log(1 / (1 + math.exp(-float(center[c] @ context[o]))))
        for n in negatives:
            if n != o:
                total -= math.log(1 / (1 + math.exp(float(center[c] @ context[n]))))
    return total / len(triples)


def test_a_fresh_model_has_no_opinion(program, seed):
    model = program.build(seed=seed)
    asked = program.config()["negatives"]
    center, context = torch.arange(20), torch.arange(20, 40)
    negatives = torch.arange(40, 40 + 20 * asked).view(20, asked)
    start = float(program.call("loss", model, center, context, negatives))
    assert start == pytest.approx((1 + asked) * math.log(2), rel=1e-4)


def test_vectors_start_small_and_unlike(program, seed):
    model = program.build(seed=seed)
    channels = program.config()["channels"]
    center, context = (program.state(model)[n] for n in _tables(program, model))
    assert float(center.abs().max()) <= 0.5 / channels + 1e-6
    assert float(center.std()) == pytest.approx(1 / channels / math.sqrt(12), rel=0.1)
    assert float(context.abs().max()) == 0.0


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_after(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_another_seed_gives_other_batches(program, seed):
    data = _given(seed)
    one, other = (_batches(program, data, 1, s, batch=50)[0] for s in (seed, seed + 1))
    assert not torch.equal(torch.as_tensor(one[0]), torch.as_tensor(other[0]))


def test_every_parameter_moves(program, task, seed):
    model = program.build(seed=seed, **task.small)
    before = program.state(model)
    program.train(model, task.data(seed).train, seed, **task.small).next(20)
    after = program.state(model)
    for name in before:
        moved = (before[name] != after[name]).any(dim=1)
        assert float(moved.double().mean()) > 0.95, name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _ = _after(program, task, seed)
    before, words = program.state(model), torch.arange(30)
    first = torch.as_tensor(program.predict(model, words))
    program.train_mode(model, True)
    program.seed(seed + 1)
    assert torch.equal(first, torch.as_tensor(program.predict(model, words)))
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _ = _after(program, task, seed)
    words = torch.tensor([5, 90, 5, 17, 191])
    together = torch.as_tensor(program.predict(model, words))
    alone = torch.cat([torch.as_tensor(program.predict(model, word[None])) for word in words])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_predictions_have_length_one(program, seed):
    model = _noisy(program, seed)
    answer = torch.as_tensor(program.predict(model, torch.arange(50)))
    assert answer.shape == (50, program.config()["channels"])
    torch.testing.assert_close(answer.norm(dim=1), torch.ones(50), rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_pairs_equal_those_of_a_loop_over_sentences(program, seed, window):
    data = _given(seed, 25)
    found = torch.as_tensor(program.call("pairs", data["tokens"], data["sentence"], window))
    assert Counter(map(tuple, found.tolist())) == _near(data, window)


def test_the_loss_equals_one_written_row_by_row(program, seed):
    model = _noisy(program, seed)
    center, context = (program.state(model)[n].double() for n in _tables(program, model))
    draws = torch.Generator().manual_seed(seed)
    c, o = torch.randint(0, 9, (2, 31), generator=draws)  # few words, so that answers come as negatives
    n = torch.randint(0, 9, (31, 4), generator=draws)
    expected = _loss_by_loops(center, context, list(zip(c.tolist(), o.tolist(), n.tolist(), strict=True)))
    assert float(program.call("loss", model, c, o, n)) == pytest.approx(expected, rel=1e-4)


def test_large_scores_stay_finite(program, seed):
    model = _noisy(program, seed)
    state = program.state(model)
    program.load_state(model, {name: 60 * value for name, value in state.items()})
    c, o = torch.arange(20), torch.arange(20, 40)
    assert math.isfinite(float(program.call("loss", model, c, o, torch.arange(100).view(20, 5))))


def _single(program, model, center_name, context_name):
    """The one pair of the last update and its negatives, as the gradients tell them, with their loss."""
    state, gradients = program.state(model), program.gradients(model)
    (center,) = gradients[center_name].abs().sum(dim=1).nonzero().flatten().tolist()
    vector = state[center_name][center].double()
    answer, loss = None, 0.0
    for word in gradients[context_name].abs().sum(dim=1).nonzero().flatten().tolist():
        score = float(vector @ state[context_name][word].double())
        pull = float(gradients[context_name][word].double() @ vector / (vector @ vector))
        if pull < 0:  # towards the centre: the context
            assert answer is None
            answer, times = word, -1
        else:
            times = round(pull * (1 + math.exp(-score)))
            assert times >= 1
        loss += abs(times) * math.log1p(math.exp(times / abs(times) * score))
    return (center, answer), loss


def test_the_reported_loss_is_that_of_the_batch_before_its_update(program, seed):
    data = _given(seed)
    config = {"batch": 1, "steps": 12, "lr": 0.0}
    model = _noisy(program, seed, **config)
    names, near = _tables(program, model), _near(data, program.config(**config)["window"])
    program.watch_gradients(model, True)
    run = program.train(model, data, seed, **config)
    for _ in range(12):
        (reported,) = run.next()
        pair, expected = _single(program, model, *names)
        assert reported == pytest.approx(expected, rel=1e-3)
        assert pair[0] in {center for center, _ in near}


def test_shares_and_chances_follow_their_formulas(program, seed):
    data = _given(seed)
    V = topics.VOCABULARY + 3  # words that never come
    counts = Counter(data["tokens"].tolist())
    share = torch.tensor([counts[word] / len(data["tokens"]) for word in range(V)])
    got = torch.as_tensor(program.call("shares", data["tokens"], V)).float()
    torch.testing.assert_close(got, share)
    chance = torch.as_tensor(program.call("keep_chance", share, 4e-3)).float()
    for word in range(V - 3):
        if share[word] > 0:
            assert float(chance[word]) == pytest.approx(min(1.0, math.sqrt(4e-3 / share[word])), rel=1e-4)
    law = torch.as_tensor(program.call("noise_law", share, 0.75)).float()
    weights = [float(value) ** 0.75 for value in share]
    expected = torch.tensor([weight / sum(weights) for weight in weights])
    torch.testing.assert_close(law, expected, rtol=1e-4, atol=1e-7)


def test_one_pass_shows_every_row_once(program, seed):
    data = _given(seed, 40)
    expected = _near(data, 3)
    total = sum(expected.values())
    count = math.ceil(total / 64)
    for epoch in (_batches(program, data, 2 * count, seed, batch=64, threshold=1.0, window=3),):
        for part in (epoch[:count], epoch[count:]):
            centers = torch.cat([torch.as_tensor(c) for c, _, _ in part])
            contexts = torch.cat([torch.as_tensor(o) for _, o, _ in part])
            assert Counter(zip(centers.tolist(), contexts.tolist(), strict=True)) == expected
        first, second = (
            torch.cat([torch.as_tensor(b[0]) for b in p]) for p in (epoch[:count], epoch[count:])
        )
        assert not torch.equal(first, second)


def test_a_batch_mixes_the_whole_text(program, seed):
    # every sentence has a word of its own
    n = 80
    data = {"tokens": torch.arange(n).repeat_interleave(9), "sentence": torch.arange(n).repeat_interleave(9)}
    first = _batches(program, data, 1, seed, batch=96, threshold=1.0)[0]
    assert len(set(torch.as_tensor(first[0]).tolist())) >= 35


def test_random_answers_come_as_often_as_their_law_says(program, seed):
    tokens = torch.arange(40).repeat_interleave(torch.arange(40) % 8 + 1)
    tokens = tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))]
    data = {"tokens": tokens, "sentence": torch.arange(len(tokens)) // 9}
    drawn = _batches(program, data, 60, seed, batch=50, negatives=8, vocab=40, threshold=1.0)
    counts = torch.cat([torch.as_tensor(n).flatten() for _, _, n in drawn]).bincount(minlength=40).double()
    weights = (torch.arange(40) % 8 + 1).double() ** 0.75
    expected = counts.sum() * weights / weights.sum()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert statistic <= 80  # chi-square with 39 degrees of freedom: one in ten thousand
    rows = torch.as_tensor(drawn[0][2])
    assert rows.shape == (50, 8)
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows, torch.as_tensor(drawn[1][2]))


def test_frequent_words_are_thinned_out_as_their_chance_says(program, seed):
    # one sentence, a window of one: each kept word is a centre about twice
    data = {"tokens": torch.arange(30) % 5, "sentence": torch.zeros(30, dtype=torch.long)}
    data = {name: value.repeat(100) for name, value in data.items()}
    data["tokens"] = torch.where(torch.arange(3000) % 30 == 29, 7, data["tokens"])
    chance = math.sqrt(0.05 / 0.2)
    share = 100 / 3000
    config = {"batch": 10_000, "threshold": 0.05, "window": 1, "vocab": 8}
    first, second = _batches(program, data, 2, seed, **config)
    centers = torch.as_tensor(first[0]).bincount(minlength=8).double() / 2
    assert float(centers[7]) == pytest.approx(3000 * share, abs=2)
    assert float(centers[0]) == pytest.approx(600 * chance, rel=0.15)
    assert len(first[0]) != len(second[0])


def test_only_words_of_the_batch_get_a_gradient(program, seed):
    data = _given(seed)
    config = {"batch": 3, "steps": 6, "lr": 0.0, "negatives": 4}
    model = _noisy(program, seed, **config)
    center, context = _tables(program, model)
    program.watch_gradients(model, True)
    run = program.train(model, data, seed, **config)
    met = set()
    for _ in range(6):
        run.next()
        gradients = program.gradients(model)
        touched = set(gradients[center].abs().sum(dim=1).nonzero().flatten().tolist())
        assert 1 <= len(touched) <= 3
        assert 1 <= len(gradients[context].abs().sum(dim=1).nonzero()) <= 3 * 5
        met |= touched
    assert len(met) > 3


def test_the_rate_falls_on_a_line(program, seed):
    # Adam's first move of a vector is as long as the rate: words that come for the first time tell
    data = _given(seed, 200)
    config = {"batch": 6, "steps": 30, "lr": 1e-3, "negatives": 2}
    model = _noisy(program, seed, **config)
    center, _ = _tables(program, model)
    program.watch_gradients(model, True)
    run, seen = program.train(model, data, seed, **config), set()
    before = program.state(model)[center]
    for step in range(30):
        run.next()
        after = program.state(model)[center]
        touched = program.gradients(model)[center].abs().sum(dim=1).nonzero().flatten().tolist()
        new = [word for word in touched if word not in seen]
        seen.update(new)
        if new:
            move = float((after - before)[new].abs().median())
            # a moment that begins late is corrected by too little
            begun = (0.1 / (1 - 0.9 ** (step + 1))) / math.sqrt(0.001 / (1 - 0.999 ** (step + 1)))
            assert move == pytest.approx(1e-3 * (1 - 0.9 * step / 30) * begun, rel=0.02)
        before = after


def test_the_nearest_words_equal_those_of_a_search_by_hand(program, seed):
    model = _noisy(program, seed)
    center = program.state(model)[_tables(program, model)[0]].double()
    words = torch.tensor([3, 50, 50, 120])
    found = torch.as_tensor(program.call("neighbours", model, words, 6))
    for word, row in zip(words.tolist(), found.tolist(), strict=True):
        cosines = F.cosine_similarity(center[word][None], center, dim=1)
        order = [other for other in cosines.argsort(descending=True).tolist() if other != word]
        assert row == order[:6]


def test_it_finds_topics_that_nobody_told(program, task, seed):
    given = task.data(seed)
    model = program.build(seed=seed, steps=200)
    before = task.measure(program, model, given.held_out)
    losses = program.train(model, given.train, seed, steps=200).next(200)
    after = task.measure(program, model, given.held_out)
    assert after.curve <= 0.75 * before.curve
    assert after.metric >= 0.5
    assert sum(losses[-20:]) < 0.85 * sum(losses[:20])


def test_training_leaves_the_data_as_it_was(program, seed):
    data = _given(seed)
    kept = {name: value.clone() for name, value in data.items()}
    program.train(program.build(seed=seed), data, seed, steps=2).next(2)
    assert all(torch.equal(kept[name], data[name]) for name in data)
