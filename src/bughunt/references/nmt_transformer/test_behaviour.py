"""What any correct transformer that reads and writes does, whoever wrote it."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from bughunt.references.copies import copy_of
from bughunt.references.data import sorting
from bughunt.references.data.sorting import END, PAD, START
from bughunt.references.slope import norm, slope

STILL = {"dropout": 0.0}
V = sorting.VOCABULARY


def _rows(seed, count=30):
    return sorting.rows(count, 700 + seed)


def _data(rows):
    return {"source": rows[0], "target": rows[1]}


def _logits(program, model, source, inputs):
    """In evaluation mode."""
    program.train_mode(model, False)
    return torch.as_tensor(program.call_method(model, "__call__", source, inputs)).double()


def _cut(source, target):
    length = int((source != PAD).sum())
    return source[None, :length], target[None, : length + 2]


def _expected_loss(program, model, rows, smoothing):
    """The mean over all tokens, each row read alone."""
    total = count = 0
    for row in zip(*rows, strict=True):
        source, target = _cut(*row)
        odds = _logits(program, model, source, target[:, :-1])[0].log_softmax(dim=-1)
        right = odds.gather(1, target[0, 1:, None])[:, 0]
        total -= float(((1 - smoothing) * right + smoothing * odds.mean(dim=1)).sum())
        count += len(odds)
    return total / count


def _trained(program, rows, seed, **config):
    model = program.build(seed=seed, **config)
    losses = program.train(model, _data(rows), seed, **config).next(config["steps"])
    return model, losses


def _partly_trained(program, seed):
    """A model that tells rows apart, to do with as one likes; the training is shared."""
    rows = _rows(seed, 90)
    learnt, _ = _trained(program, rows, seed, steps=14, warmup=4, dropout=0.2)
    return copy_of(program, learnt, seed, dropout=0.2), rows


def _first_gradient(program, rows, seed, **config):
    config = {**STILL, "peak_lr": 0.0, "steps": 30, **config}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, _data(rows), seed, **config)
    run.next()
    return model, run, program.gradients(model)


def _attention(program, seed):
    """One of three heads, and sequences for it."""
    program.seed(seed)
    layer = program.call("attention.Attention", 12, 3, keep=True)
    draws = torch.Generator().manual_seed(seed)
    noisy = {n: torch.randn(w.shape, generator=draws) / 2 for n, w in program.state(layer).items()}
    program.load_state(layer, noisy)
    return layer, torch.randn(2, 5, 12, generator=draws), torch.randn(2, 7, 12, generator=draws)


def _attended(program, layer, x, memory, mask):
    return torch.as_tensor(program.call_method(layer, "__call__", x, memory, mask))


def _score(program, model, source, tokens):
    """The log-likelihood of an answer, its end included."""
    odds = _logits(program, model, source, torch.tensor([[START, *tokens[:-1]]]))[0].log_softmax(dim=-1)
    return float(odds.gather(1, torch.tensor(tokens)[:, None]).sum())


def test_a_fresh_model_knows_nothing_yet(program, seed):
    model = program.build(seed=seed)
    start = _expected_loss(program, model, _rows(seed, 15), 0.0)
    assert 0.9 * math.log(V) <= start <= 1.8 * math.log(V)


def test_hidden_weights_start_on_the_scale_of_their_inputs(program, seed):
    model = program.build(seed=seed)
    C = program.config()["channels"]
    state = program.state(model)
    for name in program.parameters(model):
        if state[name].shape in {(C, C), (3 * C, C), (C, 3 * C), (V, C)}:
            fan = sum(state[name].shape)
            near_embedding = state[name].shape == (V, C) and float(state[name][PAD].abs().sum()) == 0
            scale = C**-0.5 if near_embedding else math.sqrt(2 / fan)
            assert float(state[name].std()) == pytest.approx(scale, rel=0.15), name
        elif state[name].dim() == 1:
            assert float(state[name].unique().numel()) == 1, name


def test_every_layer_has_matrices_of_its_own(program, seed):
    cfg, model = program.config(), program.build(seed=seed)
    state, C = program.state(model), cfg["channels"]
    matrices = [state[name] for name in program.parameters(model) if state[name].dim() > 1]
    attention, bent = 4 * C**2, 2 * C * 3 * C
    expected = 2 * V * C + cfg["layers"] * (3 * attention + 2 * bent)
    assert sum(matrix.numel() for matrix in matrices) == expected


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    config = {**task.small, "steps": 7}
    first, second = (_trained(program, _rows(seed, 90), seed, **config)[1] for _ in range(2))
    assert first == second
    assert len(first) == 7


def test_every_parameter_moves(program, task, seed):
    config = {**task.small, "steps": 6}
    before = program.state(program.build(seed=seed, **config))
    model, _ = _trained(program, _rows(seed, 200), seed, **config)
    after = program.state(model)
    for name in program.parameters(model):
        assert not torch.equal(before[name], after[name]), name


def test_it_overfits_one_small_batch(program, seed):
    rows = _rows(seed, 4)
    config = {**STILL, "steps": 45, "warmup": 6, "smoothing": 0.0}
    model, _ = _trained(program, rows, seed, **config)
    assert _expected_loss(program, model, rows, 0.0) <= 0.2
    given = torch.as_tensor(program.predict(model, rows[0]))
    assert torch.equal(given, rows[1][:, 1 : 1 + given.size(1)])


def test_predict_is_repeatable_and_leaves_nothing_changed(program, seed):
    model, rows = _partly_trained(program, seed)
    before = program.state(model)
    first = torch.as_tensor(program.predict(model, rows[0][:20]))
    program.train_mode(model, True)
    program.seed(seed + 1)
    assert torch.equal(torch.as_tensor(program.predict(model, rows[0][:20])), first)
    program.train_mode(model, True)
    one = program.call("answers", model, rows[0][:3])
    program.seed(seed + 2)
    program.train_mode(model, True)
    assert program.call("answers", model, rows[0][:3]) == one
    for name, value in program.state(model).items():
        assert torch.equal(value, before[name]), name


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, seed):
    model, rows = _partly_trained(program, seed)
    source, target = (part[:8] for part in rows)
    together = torch.as_tensor(program.predict(model, source))
    whole = _logits(program, model, source, target[:, :-1])
    for number, row in enumerate(zip(source, target, strict=True)):
        short, wanted = _cut(*row)
        alone = torch.as_tensor(program.predict(model, short))[0]
        assert torch.equal(together[number, : len(alone)], alone)
        assert not together[number, len(alone) :].any()
        logits = _logits(program, model, short, wanted[:, :-1])[0]
        torch.testing.assert_close(whole[number, : len(logits)], logits, rtol=1e-4, atol=1e-4)


def test_what_stands_in_the_padding_makes_no_difference(program, seed):
    model = program.build(seed=seed)
    source, target = _rows(seed)
    clean = _logits(program, model, source, target[:, :-1])
    wider = _logits(program, model, F.pad(source, (0, 5)), F.pad(target[:, :-1], (0, 3)))
    torch.testing.assert_close(wider[:, : clean.size(1)], clean, rtol=1e-4, atol=1e-4)
    junk = program.state(model)
    tables = [n for n, w in junk.items() if w.shape[:1] == (V,) and w.dim() == 2]
    tables = [n for n in tables if not junk[n][PAD].any()]
    other = junk[tables[0]].clone()
    other[PAD] = 9.0
    program.load_state(model, {tables[0]: other})
    full = (target[:, :-1] != PAD).nonzero(as_tuple=True)
    noisy = _logits(program, model, source, target[:, :-1])
    torch.testing.assert_close(noisy[full], clean[full], rtol=1e-4, atol=1e-4)


def test_a_position_never_sees_what_comes_after_it(program, seed):
    model = program.build(seed=seed)
    source, _ = _rows(seed, 6)
    inputs = torch.randint(3, V, (6, 7), generator=torch.Generator().manual_seed(seed))
    base = _logits(program, model, source, inputs)
    for changed in range(7):
        other = inputs.clone()
        other[:, changed] = 3 + (other[:, changed] - 1) % (V - 3)
        moved = (_logits(program, model, source, other) - base).abs().amax(dim=(0, 2))
        assert float(moved[:changed].sum()) <= 1e-4
        assert float(moved[changed:].min()) > 1e-4, "an earlier token makes no difference"


def test_every_place_of_the_source_counts_for_every_answer(program, seed):
    model = program.build(seed=seed)
    source, target = _rows(seed, 40)
    lengths = (source != PAD).sum(dim=1)
    base = _logits(program, model, source, target[:, :-1])
    for place in range(source.size(1)):
        other = source.clone()
        other[:, place] = 3 + (other[:, place] - 1) % (V - 3)
        moved = (_logits(program, model, other, target[:, :-1]) - base).abs().amax(dim=2)
        assert float(moved[lengths > place].min()) > 1e-4


def test_the_order_of_the_source_is_seen(program, seed):
    model = program.build(seed=seed)
    source = torch.tensor([[4, 9, 6, 12]])
    answers = [
        _logits(program, model, source[:, list(order)], torch.tensor([[START]]))
        for order in ((0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2))
    ]
    for one, other in itertools.combinations(answers, 2):
        assert float((one - other).abs().max()) > 1e-4


def test_positions_follow_their_formula(program):
    for length, channels in ((9, 12), (5, 6)):
        table = torch.as_tensor(program.call("model.positions", length, channels))
        assert table.shape == (length, channels)
        for place, pair in itertools.product(range(length), range(channels // 2)):
            angle = place / 10_000 ** (2 * pair / channels)
            expected = torch.tensor([math.sin(angle), math.cos(angle)])
            torch.testing.assert_close(table[place, 2 * pair : 2 * pair + 2], expected, rtol=1e-4, atol=1e-5)


def _by_torch(x, memory, mask, matrices, shifts):
    """Attention with the matrices of query, key, value and outcome, and the biases of all but the key."""
    (query, key, value, out), (of_query, of_value, of_out) = matrices, shifts
    parts = x @ query.T + of_query, memory @ key.T, memory @ value.T + of_value
    heads = [part.view(2, -1, 3, 4).transpose(1, 2) for part in parts]
    gathered = F.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2).reshape(2, 5, 12)
    return gathered @ out.T + of_out


def test_attention_agrees_with_the_one_in_pytorch(program, seed):
    layer, x, memory = _attention(program, seed)
    state = program.state(layer)
    squares = [square for w in state.values() if w.dim() == 2 for square in w.split(12)]
    shifts = [w for w in state.values() if w.dim() == 1]
    assert len(squares) == 4
    mask = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[..., 0] = True
    got = _attended(program, layer, x, memory, mask)
    orders = itertools.product(itertools.permutations(squares), itertools.permutations(shifts, 3))
    assert any(
        torch.allclose(got, _by_torch(x, memory, mask, *order), rtol=1e-3, atol=1e-4) for order in orders
    )


def test_attention_ignores_what_it_may_not_see(program, seed):
    layer, x, memory = _attention(program, seed)
    mask = (torch.arange(7) < torch.tensor([7, 4])[:, None])[:, None, None, :]
    clean = _attended(program, layer, x, memory, mask)
    junk = torch.where(mask[:, 0, 0, :, None], memory, 50.0)
    torch.testing.assert_close(_attended(program, layer, x, junk, mask), clean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        _attended(program, layer, x[1:], memory[1:, :4], mask[1:, ..., :4]), clean[1:], rtol=1e-4, atol=1e-4
    )


def test_without_attention_each_block_adds_its_mlp(program, seed):
    model = program.build(seed=seed)
    C = program.config()["channels"]
    state = program.state(model)
    program.load_state(model, {n: torch.zeros(C, C) for n, w in state.items() if w.shape == (C, C)})
    tables = [n for n, w in state.items() if w.shape == (V, C)]
    embedding, head = sorted(tables, key=lambda n: bool(state[n][PAD].any()))
    ups, downs = ([w for w in state.values() if w.shape == s] for s in ((3 * C, C), (C, 3 * C)))
    source, target = _rows(seed, 5)
    table = torch.as_tensor(program.call("model.positions", target.size(1) - 1, C))
    x = state[embedding][target[:, :-1]] * math.sqrt(C) + table
    for up, down in zip(ups[len(ups) // 2 :], downs[len(downs) // 2 :], strict=True):
        x = x + (F.layer_norm(x, (C,)) @ up.T).relu() @ down.T
    expected = F.layer_norm(x, (C,)) @ state[head].T
    got = _logits(program, model, source, target[:, :-1])
    torch.testing.assert_close(got, expected.double(), rtol=1e-3, atol=1e-3)


def test_the_reported_loss_is_that_of_all_tokens(program, seed):
    rows = _rows(seed, 23)
    config = {**STILL, "peak_lr": 0.0, "steps": 2, "smoothing": 0.2, "warmup": 1}
    model = program.build(seed=seed, **config)
    expected = _expected_loss(program, model, rows, 0.2)
    reported = program.train(model, _data(rows), seed, **config).next(2)
    assert reported == pytest.approx([expected] * 2, rel=1e-3)


def test_answers_are_written_with_what_was_written_before(program, seed):
    model, rows = _partly_trained(program, seed)
    longest = program.config()["longest"]
    given = torch.as_tensor(program.predict(model, rows[0][:6]))
    for source, answer in zip(rows[0][:6], given.tolist(), strict=True):
        length = answer.index(END) + 1 if END in answer else longest
        read = torch.tensor([[START, *answer[: length - 1]]])
        likeliest = _logits(program, model, source[None], read)[0].argmax(dim=-1).tolist()
        assert answer == likeliest + [PAD] * (len(answer) - length)


def test_one_beam_is_the_greedy_answer(program, seed):
    model, rows = _partly_trained(program, seed)
    program.train_mode(model, False)
    given = torch.as_tensor(program.predict(model, rows[0][:5]))
    for source, answer in zip(rows[0][:5], given.tolist(), strict=True):
        ((tokens, score),) = program.call("search.beam", model, source, 1, 8, 0.0)
        assert tokens == [token for token in answer if token != PAD]
        assert score == pytest.approx(_score(program, model, source[None], tokens), rel=1e-4)


def test_many_beams_find_what_a_search_of_all_answers_finds(program, seed):
    model = program.build(seed=seed, vocab=5, channels=8, **STILL)
    program.train_mode(model, False)
    source, others = torch.tensor([3, 4, 4]), [0, 1, 3, 4]
    answers = [[*head, END] for n in (0, 1) for head in itertools.product(others, repeat=n)]
    answers += [list(head) for head in itertools.product(others, others, range(5))]
    totals = [_score(program, model, source[None], tokens) for tokens in answers]
    for penalty in (0.0, 1.3):
        shares = [((5 + len(tokens)) / 6) ** penalty for tokens in answers]
        scores = [total / share for total, share in zip(totals, shares, strict=True)]
        best = sorted(zip(scores, answers, strict=True), reverse=True)[:4]
        found = program.call("search.beam", model, source, 400, 3, penalty)
        assert [tokens for tokens, _ in found[:4]] == [tokens for _, tokens in best]
        assert [score for _, score in found[:4]] == pytest.approx([score for score, _ in best], rel=1e-3)
        assert len(program.call("search.beam", model, source, 3, 3, penalty)) == 3


def _searched(program, model, source, width, longest, penalty):
    """Several answers side by side, one token at a time."""
    open_, done = [([], 0.0)], []
    for length in range(1, longest + 1):
        longer = []
        for tokens, total in open_:
            written = torch.tensor([[START, *tokens]])
            odds = _logits(program, model, source[None], written)[0, -1].log_softmax(dim=-1)
            longer += [([*tokens, token], total + odd) for token, odd in enumerate(odds.tolist())]
        longer = sorted(longer, key=lambda answer: -answer[1])[:width]
        ended = [answer for answer in longer if answer[0][-1] == END or length == longest]
        done += [(tokens, total / ((5 + length) / 6) ** penalty) for tokens, total in ended]
        open_ = [answer for answer in longer if answer[0][-1] != END]
    return sorted(done, key=lambda answer: -answer[1])[:width]


def test_few_beams_give_the_best_of_what_they_find(program, seed):
    model = program.build(seed=seed, vocab=6, channels=8, **STILL)
    state = program.state(model)
    # a sharp opinion: what ends late may be likelier than what ended soon
    program.load_state(model, {n: 6 * w for n, w in state.items() if w.shape == (6, 8) and w[PAD].any()})
    for source in itertools.permutations([3, 4, 5]):
        given = torch.tensor(source)
        expected = _searched(program, model, given, 3, 5, 0.7)
        found = program.call("search.beam", model, given, 3, 5, 0.7)
        assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], rel=1e-3)


def test_batches_cover_each_row_once_with_its_own_label(program, seed):
    source, target = _rows(seed, 50)
    cfg = program.call("Config", keep=True, batch=16)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", {"source": source, "target": target}, cfg, rng, keep=True)
    rows = [str([t for t in s.tolist() if t] + t.tolist()) for s, t in zip(source, target, strict=True)]
    epochs = []
    for _ in range(2):
        seen = []
        for size in (16, 16, 16, 2):
            read, wanted = (torch.as_tensor(p) for p in program.call_method(stream, "__next__"))
            assert len(read) == size
            wide = F.pad(wanted, (0, target.size(1) - wanted.size(1)))
            seen += [str([t for t in s.tolist() if t] + t.tolist()) for s, t in zip(read, wide, strict=True)]
        assert sorted(seen) == sorted(rows)
        epochs.append(seen)
    assert epochs[0] != epochs[1]
    assert epochs[0] != rows


def test_the_gradient_is_the_slope_of_the_loss(program, seed):
    rows = _rows(seed, 12)
    model, _, gradient = _first_gradient(program, rows, seed, smoothing=0.0)
    start = program.state(model)

    def loss_at(state):
        program.load_state(model, state)
        return _expected_loss(program, model, rows, 0.0)

    assert slope(loss_at, start, gradient, reach=0.005) == pytest.approx(norm(gradient), rel=0.05)


def test_a_gradient_belongs_to_this_batch_only(program, seed):
    model, run, first = _first_gradient(program, _rows(seed, 20), seed)
    run.next()
    second = program.gradients(model)
    for name, expected in first.items():
        torch.testing.assert_close(second[name], expected, rtol=1e-3, atol=1e-5)


def test_gradients_are_clipped_by_their_common_norm(program, seed):
    # so tight a limit that Adam's epsilon shows how large the clipped gradient was
    limit, rate, epsilon = 1e-6, 1e-3, 1e-8
    config = {"peak_lr": rate, "warmup": 1, "steps": 10**6, "max_grad_norm": limit}
    model, _, gradient = _first_gradient(program, _rows(seed, 20), seed, **config)
    before, after = program.state(program.build(seed=seed, **STILL)), program.state(model)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))
    clip = min(1.0, limit / norm)
    for name, g in gradient.items():
        expected = -rate * clip * g / (clip * g.abs() + epsilon)
        torch.testing.assert_close(after[name] - before[name], expected, rtol=0.05, atol=1e-6)


def test_the_rate_climbs_and_falls(program, seed):
    # while the gradient hardly changes, Adam moves every weight by the rate itself
    peak, warmup, steps = 1e-4, 4, 14
    expected = [peak * min((step + 1) / warmup, (steps - step) / (steps - warmup)) for step in range(steps)]
    config = {**STILL, "peak_lr": peak, "warmup": warmup, "steps": steps}
    model = program.build(seed=seed, **config)
    run = program.train(model, _data(_rows(seed, 8)), seed, **config)
    name = next(n for n, w in program.state(model).items() if w.shape == (V,))
    rates, before = [], program.state(model)[name]
    while run.next():
        after = program.state(model)[name]
        rates.append(float((after - before).abs()[3:].median()))
        before = after
    assert rates == pytest.approx(expected, rel=0.1, abs=0.03 * peak)


def test_dropout_is_on_while_training(program, seed):
    rows = _rows(seed, 20)
    config = {"dropout": 0.4, "peak_lr": 0.0, "steps": 3, "warmup": 1}
    model = program.build(seed=seed, **config)
    run = program.train(model, _data(rows), seed, **config)
    first = run.next()[0]
    program.predict(model, rows[0])
    values = [first, *run.next(2)]
    still = _expected_loss(program, model, rows, program.config()["smoothing"])
    assert min(abs(a - b) for a, b in itertools.combinations([*values, still], 2)) > 1e-5


def test_updates_follow_the_gradients(program, seed):
    # Adam with the gradients as they were seen, and averages of about ten and of fifty of them
    rate = 3e-3
    config = {**STILL, "peak_lr": rate, "warmup": 1, "steps": 10**6, "max_grad_norm": 1e6}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, _data(_rows(seed, 8)), seed, **config)
    C = program.config()["channels"]
    name = next(n for n, w in program.state(model).items() if w.shape == (3 * C, C))
    value = program.state(model)[name].double()
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for step in range(1, 25):
        run.next()
        g = program.gradients(model)[name].double()
        first, second = 0.9 * first + 0.1 * g, 0.98 * second + 0.02 * g.square()
        value = value - rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.98**step)).sqrt() + 1e-8)
    off = (program.state(model)[name].double() - value).abs()
    assert float(off.quantile(0.99)) <= 0.02 * rate
