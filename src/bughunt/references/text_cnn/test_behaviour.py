"""What any correct reader of short reviews does, whoever wrote it."""

import math

import pytest
import torch
from torch.nn import functional as F

from bughunt.references.slope import norm, slope
from bughunt.references.text_cnn.task import reviews

STILL = {"lr": 0.0, "dropout": 0.0}


def _after(program, task, seed, **config):
    """A model after a short run, and the losses."""
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    losses = program.train(model, task.data(seed).train, seed, **config).next(config["steps"])
    return model, losses


def _texts(seed, count=40):
    return reviews(count, 1000 + seed)["texts"]


def _tokens(seed, count=12):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(1, 60, (count, 9), generator=rng)


def _batches(program, rows, labels, batch, count, seed):
    cfg = program.call("Config", keep=True, batch=batch)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", rows, labels, cfg, rng, keep=True)
    return [program.call_method(stream, "__next__") for _ in range(count)]


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    first, second = (_after(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_every_parameter_moves(program, task, seed):
    before = program.state(program.build(seed=seed, **task.small))
    after = program.state(_after(program, task, seed, steps=3)[0])
    for name in before:
        assert not torch.equal(before[name], after[name]), name


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    model, _ = _after(program, task, seed)
    before, texts = program.state(model), _texts(seed)
    first = program.predict(model, texts)
    program.train_mode(model, True)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, texts))
    for name, value in program.state(model).items():
        assert torch.equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    model, _ = _after(program, task, seed, steps=30)
    texts = _texts(seed)
    together = program.predict(model, texts)
    alone = torch.cat([program.predict(model, [text]) for text in texts])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_predictions_are_log_probabilities(program, task, seed):
    model, _ = _after(program, task, seed)
    answers = program.predict(model, _texts(seed))
    assert answers.shape == (40, 2)
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(40))


def test_a_fresh_model_has_no_opinion(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    assert task.measure(program, model, data.held_out).curve == pytest.approx(math.log(2), abs=0.25)


def test_a_gradient_belongs_to_this_batch_only(program, task, seed):
    config = {**task.small, **STILL, "batch": 1500, "steps": 6}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, task.data(seed).train, seed, **config)
    run.next()
    first = program.gradients(model)
    run.next(3)
    for name, gradient in program.gradients(model).items():
        torch.testing.assert_close(gradient, first[name], atol=1e-5, rtol=1e-2)


def test_the_gradient_is_the_slope_of_the_loss(program, task, seed):
    data, config = task.data(seed).train, {**task.small, **STILL, "batch": 1500}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    program.train(model, data, seed, **config).next()
    gradient, start = program.gradients(model), program.state(model)

    def loss_at(state):
        program.load_state(model, state)
        return F.nll_loss(program.predict(model, data["texts"]), data["labels"]).item()

    assert slope(loss_at, start, gradient) == pytest.approx(norm(gradient), rel=0.05)


def test_the_first_update_is_as_large_as_the_learning_rate(program, task, seed):
    config = {**task.small, "lr": 0.01}
    model = program.build(seed=seed, **config)
    before = program.state(model)
    program.watch_gradients(model, True)
    program.train(model, task.data(seed).train, seed, **config).next()
    after = program.state(model)
    for name, gradient in program.gradients(model).items():
        moved = (after[name] - before[name])[gradient.abs() > 1e-4]
        torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.01), rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It was GOOD!", ["it", "was", "good"]),
        ("  two   spaces\tand a tab ", ["two", "spaces", "and", "a", "tab"]),
        ("'never' again...", ["never", "again"]),
        ("well-made ... film", ["well-made", "film"]),
        ("", []),
    ],
)
def test_words_are_lower_case_and_without_punctuation(program, text, words):
    assert program.call("tokenise", text) == words


def test_the_most_frequent_words_get_numbers(program):
    texts = ["b b b a", "c a", "d a b", "c e"]  # b 4, a 3, c 2, d 1, e 1
    numbers = program.call("vocabulary", texts, 4)
    assert set(numbers) == {"a", "b", "c", "d"}
    assert len(set(numbers.values())) == 4
    assert set(program.call("vocabulary", texts, 2)) == {"a", "b"}


def test_numbers_do_not_depend_on_the_order_of_the_texts(program, seed):
    texts = _texts(seed, count=100)
    assert program.call("vocabulary", texts, 30) == program.call("vocabulary", texts[::-1], 30)


def test_a_text_keeps_its_order_and_unknown_words_share_a_number(program):
    numbers = program.call("vocabulary", ["one two two three three three"], 10)
    row = program.call("encode", "three zebra one Two. yak", numbers)
    assert [row[0], row[2], row[3]] == [numbers["three"], numbers["one"], numbers["two"]]
    assert row[1] == row[4]
    assert row[1] not in numbers.values()


def test_padding_is_no_word(program):
    numbers = program.call("vocabulary", ["one two three"], 10)
    rows = [program.call("encode", text, numbers) for text in ("one two three zebra", "two")]
    padded = program.call("collate", rows)
    assert padded.shape == (2, 4)
    assert padded[0].tolist() == rows[0]
    assert padded[1, 0].item() == rows[1][0]
    filler = set(padded[1, 1:].tolist())
    assert len(filler) == 1
    assert not filler & {*numbers.values(), rows[0][3]}


def test_every_number_fits_into_the_table(program, task, seed):
    texts = [f"word{i}" for i in range(200)]
    data = {"texts": texts, "labels": torch.arange(200) % 2}
    model = program.build(seed=seed, **task.small, words=37)
    assert len(program.train(model, data, seed, **task.small, words=37).next(4)) == 4
    apart = program.predict(model, texts).round(decimals=6).unique(dim=0)
    assert len(apart) == 38  # 37 words of their own, and all others


def test_a_text_without_words_is_answered(program, task, seed):
    model, _ = _after(program, task, seed)
    assert torch.isfinite(program.predict(model, ["", "!!", "good"])).all()


def test_batches_cover_each_text_once_with_its_own_label(program, seed):
    rows = [[5 + i] * (1 + i % 4) for i in range(23)]
    found = _batches(program, rows, torch.arange(23), 5, 10, seed)
    for one_pass in (found[:5], found[5:]):
        assert [len(labels) for _, labels in one_pass] == [5, 5, 5, 5, 3]
        assert torch.equal(torch.cat([y for _, y in one_pass]).sort().values, torch.arange(23))
        for tokens, labels in one_pass:
            assert torch.equal(tokens[:, 0], labels + 5)
            assert tokens.size(1) == int((1 + labels % 4).max())
    first, second = (torch.cat([y for _, y in part]) for part in (found[:5], found[5:]))
    assert not torch.equal(first, second)
    assert not torch.equal(first, torch.arange(23))


def test_padding_changes_nothing(program, task, seed):
    model, _ = _after(program, task, seed, steps=30)
    program.train_mode(model, False)
    tokens = _tokens(seed)
    blank = program.call("collate", [[7, 7], [7]])[1, 1].item()
    plain = program.call_method(model, "__call__", tokens)
    for extra in (1, 5):
        padded = F.pad(tokens, (0, extra), value=blank)
        torch.testing.assert_close(
            program.call_method(model, "__call__", padded), plain, atol=1e-5, rtol=1e-4
        )


def test_words_are_read_in_order(program, task, seed):
    model, _ = _after(program, task, seed, steps=30)
    program.train_mode(model, False)
    forward, backward = (
        program.call_method(model, "__call__", tokens) for tokens in (_tokens(seed), _tokens(seed).flip(1))
    )
    assert (forward - backward).abs().mean() > 1e-3


def test_a_filter_answers_in_proportion_to_what_exceeds_its_threshold(program, task, seed):
    model, tokens = program.build(seed=seed, **task.small), _tokens(seed)
    program.train_mode(model, False)
    state = program.state(model)
    program.load_state(model, {n: torch.zeros_like(v) for n, v in state.items() if v.dim() == 1})
    plain = program.call_method(model, "__call__", tokens)
    program.load_state(model, {n: 2 * v for n, v in state.items() if v.dim() == 2 and len(v) > 50})
    torch.testing.assert_close(program.call_method(model, "__call__", tokens), 2 * plain)
    high = torch.full((task.small["channels"],), -50.0)
    program.load_state(model, {n: high for n, v in state.items() if v.shape == high.shape})
    opinion = torch.tensor([0.7, -0.4])
    program.load_state(model, {n: opinion for n, v in state.items() if v.shape == opinion.shape})
    silent = program.call_method(model, "__call__", tokens)
    torch.testing.assert_close(silent, opinion.expand_as(silent), atol=1e-5, rtol=0)


def test_the_first_and_the_last_word_are_seen(program, task, seed):
    model, _ = _after(program, task, seed, steps=30)
    program.train_mode(model, False)
    tokens = torch.full((58, 8), 1)
    plain = program.call_method(model, "__call__", tokens)
    for place in (0, 3, 7):
        changed = tokens.clone()
        changed[:, place] = torch.arange(2, 60)
        moved = (program.call_method(model, "__call__", changed) - plain).abs().amax(dim=1) > 1e-4
        assert moved.double().mean() > 0.2  # the largest answer of a filter counts alone


def test_dropout_is_on_while_training_only(program, task, seed):
    def spread(dropout):
        config, losses = {**task.small, "batch": 200, "dropout": dropout}, []
        for noise in range(5):  # two draws may come close by chance
            model = program.build(seed=seed, **config)
            run = program.train(model, reviews(200, seed), seed, **config)
            run.next()
            program.predict(model, _texts(seed))
            program.seed(noise)
            losses += run.next()
        return max(losses) - min(losses)

    assert spread(0.5) > 1e-3
    assert spread(0.0) < 1e-5


def test_the_reported_loss_is_the_mean_over_the_batch(program, task, seed):
    data, config = task.data(seed).train, {**task.small, **STILL, "batch": 1500}
    model = program.build(seed=seed, **config)
    reported = program.train(model, data, seed, **config).next()[0]
    expected = F.nll_loss(program.predict(model, data["texts"]), data["labels"]).item()
    assert reported == pytest.approx(expected, rel=1e-4)


def test_it_overfits_a_few_texts(program, task, seed):
    data = reviews(20, seed)
    config = {**task.small, "batch": 20, "steps": 60, "dropout": 0.0, "lr": 0.02}
    model = program.build(seed=seed, **config)
    losses = program.train(model, data, seed, **config).next(60)
    assert losses[-1] < 0.05
    assert torch.equal(program.predict(model, data["texts"]).argmax(dim=1), data["labels"])


def test_it_learns_what_a_negation_does(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(task.steps)
    assert task.measure(program, model, data.held_out).metric > 0.88
    pairs = [(f"So it was {w}.", f"So it was not {w}.") for w in ("good", "great", "bad", "awful")]
    plain, turned = (program.predict(model, list(texts)).argmax(dim=1) for texts in zip(*pairs, strict=True))
    assert sum(plain == torch.tensor([1, 1, 0, 0])) >= 3
    assert sum(turned == torch.tensor([0, 0, 1, 1])) >= 2  # deaf to the word: none
