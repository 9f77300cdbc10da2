"""What any correct reader of dates with attention does, whoever wrote it."""

import math

import pytest
import torch
from torch.nn import functional as F

from bughunt.references.copies import copy_of
from bughunt.references.data import dates
from bughunt.references.slope import norm, slope

STILL = {"dropout": 0.0}
PAD, START, END = 0, 1, 2
CHARACTERS = "0123456789-"
V = 3 + len(CHARACTERS)


def _pairs(seed, count=30):
    texts, answers = dates.dates(count, 900 + seed)
    return {"texts": texts, "answers": answers}


def _collated(program, pairs):
    parts = program.call("text.collate", pairs["texts"], pairs["answers"])
    return tuple(torch.as_tensor(part) for part in parts)


def _logits(program, model, source, lengths, inputs):
    """Of the answers to each place of the inputs, in evaluation mode."""
    program.train_mode(model, False)
    return torch.as_tensor(program.call_method(model, "__call__", source, lengths, inputs)).double()


def _expected_loss(program, model, pairs):
    """The mean over all characters, each text read alone."""
    total = count = 0
    for text, answer in zip(pairs["texts"], pairs["answers"], strict=True):
        source, lengths, target = _collated(program, {"texts": [text], "answers": [answer]})
        logits = _logits(program, model, source, lengths, target[:, :-1])[0]
        total += float(F.cross_entropy(logits, target[0, 1:], reduction="sum"))
        count += len(answer) + 1
    return total / count


def _trained(program, pairs, seed, **config):
    model = program.build(seed=seed, **config)
    losses = program.train(model, pairs, seed, **config).next(config["steps"])
    return model, losses


def _partly_trained(program, seed):
    """A model that tells texts apart, to do with as one likes; the training is shared."""
    pairs = _pairs(seed, 90)
    learnt, _ = _trained(program, pairs, seed, steps=15, dropout=0.2)
    return copy_of(program, learnt, seed, dropout=0.2), pairs


def _first_gradient(program, pairs, seed, **config):
    config = {**STILL, "peak_lr": 0.0, "steps": 3, **config}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, pairs, seed, **config)
    run.next()
    return model, run, program.gradients(model)


def _attention(program, seed):
    """One with its weights known, and what to ask it."""
    program.seed(seed)
    layer = program.call("attention.Attention", 5, 7, 6, keep=True)
    draws = torch.Generator().manual_seed(seed)
    query, memory = torch.randn(4, 5, generator=draws), torch.randn(4, 9, 7, generator=draws)
    mask = torch.arange(9) < torch.tensor([9, 1, 4, 6])[:, None]
    return layer, query, memory, mask


def _looked(program, layer, query, memory, mask):
    keys = program.call_method(layer, "keys", memory)
    return tuple(map(torch.as_tensor, program.call_method(layer, "__call__", query, keys, memory, mask)))


def test_a_fresh_model_has_no_opinion(program, seed):
    model = program.build(seed=seed)
    source, lengths, target = _collated(program, _pairs(seed))
    logits = _logits(program, model, source, lengths, target[:, :-1])
    uniform = torch.full_like(logits, 1 / V)
    assert float((logits.softmax(dim=-1) - uniform).abs().max()) <= 0.1


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    config = {**task.small, "steps": 7}
    first, second = (_trained(program, _pairs(seed, 90), seed, **config)[1] for _ in range(2))
    assert first == second
    assert len(first) == 7


def test_every_parameter_moves(program, task, seed):
    config = {**task.small, "batch": 60, "steps": 4}
    before = program.state(program.build(seed=seed, **config))
    model, _ = _trained(program, _pairs(seed, 200), seed, **config)
    after = program.state(model)
    for name in program.parameters(model):
        assert not torch.equal(before[name], after[name]), name


def test_it_overfits_one_small_batch(program, seed):
    pairs = _pairs(seed, 5)
    model, _ = _trained(program, pairs, seed, **STILL, steps=45, peak_lr=2e-2, warmup=3)
    assert _expected_loss(program, model, pairs) <= 0.25
    assert program.predict(model, pairs["texts"]) == pairs["answers"]


def test_predict_is_repeatable_and_leaves_nothing_changed(program, seed):
    model, pairs = _partly_trained(program, seed)
    before = program.state(model)
    first = program.predict(model, pairs["texts"][:30])
    program.train_mode(model, True)
    program.seed(seed + 1)
    assert program.predict(model, pairs["texts"][:30]) == first
    for name, value in program.state(model).items():
        assert torch.equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, seed):
    model, pairs = _partly_trained(program, seed)
    texts = pairs["texts"][:10]
    together = program.predict(model, texts)
    assert together == [program.predict(model, [text])[0] for text in texts]
    source, lengths, target = _collated(program, {name: part[:10] for name, part in pairs.items()})
    whole = _logits(program, model, source, lengths, target[:, :-1])
    for row, (text, answer) in enumerate(zip(texts, pairs["answers"][:10], strict=True)):
        s, n, t = _collated(program, {"texts": [text], "answers": [answer]})
        alone = _logits(program, model, s, n, t[:, :-1])[0]
        torch.testing.assert_close(whole[row, : len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_what_stands_in_the_padding_makes_no_difference(program, seed):
    model = program.build(seed=seed)
    source, lengths, target = _collated(program, _pairs(seed))
    inputs = target[:, :-1]
    clean = _logits(program, model, source, lengths, inputs)
    wider = _logits(program, model, F.pad(source, (0, 5)), lengths, F.pad(inputs, (0, 3)))
    torch.testing.assert_close(wider[:, : inputs.size(1)], clean, rtol=1e-4, atol=1e-5)


def test_every_character_counts(program, seed):
    model, pairs = _partly_trained(program, seed)
    source, lengths, target = _collated(program, {name: part[:30] for name, part in pairs.items()})
    clean = _logits(program, model, source, lengths, target[:, :-1])
    for place in range(source.size(1)):
        other = source.clone()
        other[:, place] = torch.where(source[:, place] == 5, 6, 5)
        moved = _logits(program, model, other, lengths, target[:, :-1]) - clean
        read = lengths > place
        assert float(moved[read].abs().amax(dim=(1, 2)).min()) > 1e-6


def _ways_to_move(program, place, draw):
    """How far a fresh encoder's start strays from a line as one of three characters changes."""
    program.seed(draw)
    encoder = program.call("model.Encoder", program.call("Config", keep=True, hidden=1), keep=True)
    program.train_mode(encoder, False)
    letters = torch.arange(2, 28)
    source = torch.full((len(letters), 3), 20)
    source[:, place] = letters
    _, start = program.call_method(encoder, "__call__", source, torch.full_like(letters, 3))
    moved = torch.atanh(torch.as_tensor(start).double())
    return float(torch.linalg.svdvals(moved - moved.mean(dim=0))[1])


def test_both_directions_read_the_whole_text(program, seed):
    # a direction remembers one number here: only if both see a character do its effects span a plane
    for place in (0, 2):
        assert max(_ways_to_move(program, place, 10 * seed + draw) for draw in range(6)) > 1e-3


def test_a_position_never_sees_what_comes_after_it(program, seed):
    model = program.build(seed=seed)
    source, lengths, target = _collated(program, _pairs(seed))
    inputs = target[:, :-1]
    base = _logits(program, model, source, lengths, inputs)
    for changed in range(inputs.size(1)):
        other = inputs.clone()
        other[:, changed] = 3 + (other[:, changed] + 2) % 11
        moved = (_logits(program, model, source, lengths, other) - base).abs().amax(dim=(0, 2))
        assert float(moved[:changed].sum()) <= 1e-6
        assert float(moved[changed:].min()) > 1e-7


def test_the_reported_loss_is_that_of_all_characters(program, seed):
    pairs = _pairs(seed, 23)
    config = {**STILL, "peak_lr": 0.0, "steps": 2}
    model = program.build(seed=seed, **config)
    expected = _expected_loss(program, model, pairs)
    assert program.train(model, pairs, seed, **config).next(2) == pytest.approx([expected] * 2, rel=1e-4)


def test_answers_are_written_with_what_was_written_before(program, seed):
    model, pairs = _partly_trained(program, seed)
    texts = pairs["texts"][:6]
    longest = program.config()["longest"]
    source, lengths, _ = _collated(program, {"texts": texts, "answers": [""] * 6})
    written = torch.full((6, 1), START)
    for _ in range(longest):
        likeliest = _logits(program, model, source, lengths, written)[:, -1:].argmax(dim=-1)
        written = torch.cat([written, likeliest], dim=1)
    for answer, row in zip(program.predict(model, texts), written[:, 1:].tolist(), strict=True):
        kept = row[: row.index(END) if END in row else None]
        assert answer == "".join(CHARACTERS[token - 3] for token in kept if token > 2)


def test_an_untrained_model_stops_at_the_longest(program, seed):
    model = program.build(seed=seed, longest=7)
    answers = program.predict(model, _pairs(seed)["texts"])
    assert all(len(answer) <= 7 for answer in answers)
    state = program.state(model)
    never = {n: torch.where(torch.arange(V) == 5, 50.0, 0.0) for n, w in state.items() if w.shape == (V,)}
    program.load_state(model, never)
    assert program.predict(model, ["5 may 1999"]) == ["2222222"]


def test_text_becomes_numbers_and_comes_back(program, seed):
    pairs = _pairs(seed, 40)
    pairs["texts"][0] = "5 MAY ü 99"
    source, lengths, target = _collated(program, pairs)
    assert lengths.tolist() == [len(text) for text in pairs["texts"]]
    for text, answer, read, row in zip(*pairs.values(), source.tolist(), target.tolist(), strict=True):
        assert read[len(text) :] == [PAD] * (len(read) - len(text))
        assert PAD not in read[: len(text)]
        assert row[0] == START
        assert row[len(answer) + 1] == END
        assert row[len(answer) + 2 :] == [PAD] * (len(row) - len(answer) - 2)
        assert program.call("text.decode_target", row) == answer
    assert source.size(1) == max(map(len, pairs["texts"]))
    assert target.size(1) == 2 + max(map(len, pairs["answers"]))
    same = _collated(program, {"texts": ["5 may %", "5 MAY ü"], "answers": ["", ""]})[0]
    assert torch.equal(same[0], same[1])
    numbers = {
        text: _collated(program, {"texts": [text], "answers": [""]})[0].tolist() for text in "az09 ,./'"
    }
    assert len(set(map(str, numbers.values()))) == 9


def test_attention_looks_only_where_it_may(program, seed):
    layer, query, memory, mask = _attention(program, seed)
    found, weights = _looked(program, layer, query, memory, mask)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))
    assert float(weights[~mask].abs().max()) == 0.0
    expected = torch.stack(
        [sum(w * m for w, m in zip(*row, strict=True)) for row in zip(weights, memory, strict=True)]
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    junk = torch.where(mask[..., None], memory, 1e3)
    torch.testing.assert_close(_looked(program, layer, query, junk, mask)[0], found, rtol=1e-4, atol=1e-5)


def test_attention_agrees_with_its_formula(program, seed):
    layer, query, memory, mask = _attention(program, seed)
    draws = torch.Generator().manual_seed(seed)
    state = program.state(layer)
    program.load_state(layer, {n: torch.randn(w.shape, generator=draws) for n, w in state.items()})
    state = program.state(layer)
    of_query, of_memory, score = (
        [w for w in state.values() if w.shape == s] for s in ((6, 5), (6, 7), (1, 6))
    )
    bias = sum(w for w in state.values() if w.shape == (6,))
    fit = torch.tanh((query @ of_query[0].T)[:, None] + memory @ of_memory[0].T + bias)
    scores = (fit @ score[0].T)[..., 0].masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(
        _looked(program, layer, query, memory, mask)[1], scores.softmax(dim=1), rtol=1e-4, atol=1e-5
    )


def test_batches_cover_each_row_once_with_its_own_label(program, seed):
    pairs = {"texts": [f"in {1950 + n}" for n in range(50)], "answers": [str(1950 + n) for n in range(50)]}
    cfg = program.call("Config", keep=True, batch=16)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", pairs, cfg, rng, keep=True)
    epochs = []
    for _ in range(2):
        seen = []
        for size in (16, 16, 16, 2):
            source, _, target = (torch.as_tensor(p) for p in program.call_method(stream, "__next__"))
            assert len(source) == size
            digits = torch.stack([source[:, 3 + k] - 28 for k in range(4)], dim=1)  # after 'in '
            assert torch.equal(digits, target[:, 1:5] - 3)
            seen += ["".join(map(str, row)) for row in digits.tolist()]
        assert sorted(seen) == pairs["answers"]
        epochs.append(seen)
    assert epochs[0] != epochs[1]
    assert epochs[0] != sorted(epochs[0])


def test_the_gradient_is_the_slope_of_the_loss(program, seed):
    pairs = _pairs(seed, 20)
    model, _, gradient = _first_gradient(program, pairs, seed)
    start = program.state(model)

    def loss_at(state):
        program.load_state(model, state)
        return _expected_loss(program, model, pairs)

    assert slope(loss_at, start, gradient) == pytest.approx(norm(gradient), rel=0.03)


def test_a_gradient_belongs_to_this_batch_only(program, seed):
    model, run, first = _first_gradient(program, _pairs(seed, 20), seed)
    run.next()
    second = program.gradients(model)
    for name, expected in first.items():
        torch.testing.assert_close(second[name], expected, rtol=1e-3, atol=1e-5)


def test_gradients_are_clipped_by_their_common_norm(program, seed):
    # so tight a limit that Adam's epsilon shows how large the clipped gradient was
    limit, rate, epsilon = 1e-6, 1e-3, 1e-8
    config = {"peak_lr": rate, "warmup": 1, "max_grad_norm": limit}
    model, _, gradient = _first_gradient(program, _pairs(seed, 20), seed, **config)
    before = program.state(program.build(seed=seed, **STILL))
    after = program.state(model)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))
    clip = min(1.0, limit / norm)
    for name, g in gradient.items():
        expected = -rate * clip * g / (clip * g.abs() + epsilon)
        torch.testing.assert_close(after[name] - before[name], expected, rtol=0.05, atol=1e-6)


def test_the_learning_rate_climbs_and_then_follows_a_cosine(program, seed):
    # while the gradient hardly changes, Adam moves every weight by the rate itself
    peak, warmup, steps = 1e-4, 4, 14
    expected = [peak * (step + 1) / warmup for step in range(warmup)]
    expected += [peak * (1 + math.cos(math.pi * k / 10)) / 2 for k in range(10)]
    config = {**STILL, "peak_lr": peak, "warmup": warmup, "steps": steps}
    model = program.build(seed=seed, **config)
    run = program.train(model, _pairs(seed, 8), seed, **config)
    name = next(n for n, w in program.state(model).items() if w.shape == (V,))
    rates, before = [], program.state(model)[name]
    while run.next():
        after = program.state(model)[name]
        rates.append(float((after - before).abs()[3:].median()))
        before = after
    assert rates == pytest.approx(expected, rel=0.1, abs=0.03 * peak)


def test_dropout_is_on_while_training(program, seed):
    pairs = _pairs(seed, 20)
    config = {"dropout": 0.4, "peak_lr": 0.0, "steps": 3}
    model = program.build(seed=seed, **config)
    run = program.train(model, pairs, seed, **config)
    first = run.next()[0]
    program.predict(model, pairs["texts"])
    later = run.next(2)
    assert len({first, *later}) == 3
    assert min(abs(first - other) for other in later) > 1e-5
    still = _expected_loss(program, model, pairs)
    assert all(abs(value - still) > 1e-5 for value in (first, *later))


def test_recurrent_weights_start_orthogonal(program, seed):
    model = program.build(seed=seed)
    H = program.config()["hidden"]
    found = [w for w in program.state(model).values() if w.shape == (3 * H, H)]
    assert len(found) == 2
    for gate in torch.cat(found).split(H):
        gram = gate.T @ gate
        torch.testing.assert_close(gram / gram.diagonal().mean(), torch.eye(H), rtol=0, atol=1e-3)
