"""What any correct decoder with a cache does, whoever wrote it."""

import itertools
import math
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

STOP = 1
FREE = {"stop": -1}  # no token ends an answer


def _prompts(seed, count=5, vocab=23, longest=9):
    rng = torch.Generator().manual_seed(seed)
    sizes = [1, longest, *torch.randint(1, longest, (count - 2,), generator=rng).tolist()]
    return [torch.randint(2, vocab, (size,), generator=rng).tolist() for size in sizes]


def _next(program, model, tokens):
    """Logits of the token after these, without a cache."""
    return torch.as_tensor(program.call("logits", model, torch.tensor([tokens])))[0, -1]


def _after_each(program, model, prompt, answer):
    """Logits that a token of the answer was chosen by, for each of them, without a cache."""
    read = torch.tensor([[*prompt, *answer[:-1]]])
    return torch.as_tensor(program.call("logits", model, read))[0, len(prompt) - 1 :]


def _is_greedy(program, model, prompt, answer, longest, stop=STOP, context=36):
    """Whether an answer has the likeliest token everywhere and ends neither too early nor too late."""
    full = min(longest, context - len(prompt))
    ended = len(answer) == full or answer[-1] == stop
    likeliest = _after_each(program, model, prompt, answer).argmax(dim=-1).tolist()
    return ended and len(answer) <= full and stop not in answer[:-1] and answer == likeliest


def _logits(seed, rows=6, vocab=17):
    return 2.5 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


def _kept(program, name, logits, *args):
    """Which tokens are left, after a look at whether their logits are as before."""
    given = logits.clone()
    got = torch.as_tensor(program.call(f"sampling.{name}", given, *args))
    left = got > -1e9
    torch.testing.assert_close(got[left], logits[left])
    return left


def test_a_position_never_sees_what_comes_after_it(program, seed):
    model = program.build(seed=seed)
    tokens = torch.randint(0, 23, (3, 9), generator=torch.Generator().manual_seed(seed))
    others = (tokens[:, None] + 3 * torch.eye(9, dtype=torch.int64)) % 23  # each with one place changed
    base = torch.as_tensor(program.call("logits", model, tokens))
    found = torch.as_tensor(program.call("logits", model, others.flatten(0, 1)))
    moved = (found.view(3, 9, 9, -1) - base[:, None]).abs().amax(dim=(0, 3))
    assert float(moved.tril(-1).max()) <= 1e-4
    assert all(float(row[changed:].min()) > 1e-4 for changed, row in enumerate(moved))


def test_the_model_agrees_with_one_written_out(program, seed):
    model = program.build(seed=seed)
    state, C, H = program.state(model), 24, 3
    draws = torch.Generator().manual_seed(seed)
    flat = {n: w + 0.3 * torch.randn(w.shape, generator=draws) for n, w in state.items() if w.dim() == 1}
    program.load_state(model, flat)
    state = program.state(model)
    tokens = torch.randint(0, 23, (2, 7), generator=torch.Generator().manual_seed(seed))
    shaped = lambda *shape: [n for n in program.parameters(model) if tuple(state[n].shape) == shape]  # noqa: E731
    token, head = (state[name] for name in shaped(23, C))
    x = token[tokens] + state[shaped(36, C)[0]][:7]
    scales = iter(
        [n for n in program.parameters(model) if n.removesuffix("weight") != n and state[n].dim() == 1]
    )

    def normed(value):
        name = next(scales)
        return F.layer_norm(value, (C,), state[name], state[name.removesuffix("weight") + "bias"])

    layers = zip(shaped(3 * C, C), shaped(C, C), shaped(4 * C, C), shaped(C, 4 * C), strict=True)
    for wide, mix, up, down in layers:
        q, k, v = (normed(x) @ state[wide].T).chunk(3, dim=-1)
        parts = [part.view(2, 7, H, -1).transpose(1, 2) for part in (q, k, v)]
        gathered = F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).reshape(2, 7, C)
        linear = lambda value, name: value @ state[name].T + state[name.replace("weight", "bias")]  # noqa: E731
        x = x + linear(gathered, mix)
        x = x + linear(F.gelu(linear(normed(x), up)), down)
    expected = normed(x) @ head.T
    torch.testing.assert_close(
        torch.as_tensor(program.call("logits", model, tokens)), expected, rtol=1e-4, atol=1e-4
    )


def test_weights_start_at_the_scale_that_is_asked_for(program, seed):
    model = program.build(seed=seed, init_std=0.15)
    for name, value in program.state(model).items():
        if value.dim() == 2:
            assert float(value.std()) == pytest.approx(0.15, rel=0.2), name


@pytest.mark.parametrize(
    "config", [{}, {"layers": 3, "heads": 2, "channels": 20}], ids=["default", "other sizes"]
)
def test_answers_are_those_of_reading_everything_anew(program, seed, config):
    model = program.build(seed=seed, **config)
    prompts = _prompts(seed, 4)
    got = program.call("complete", model, prompts, 0, temperature=0, longest=8, **FREE)["answers"]
    for prompt, answer in zip(prompts, got, strict=True):
        assert _is_greedy(program, model, prompt, answer, 8, stop=-1)


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, seed):
    model = program.build(seed=seed)
    prompts = _prompts(seed, 5)
    together = program.call("complete", model, prompts, 0, temperature=0, longest=8)["answers"]
    alone = [program.call("complete", model, [p], 0, temperature=0, longest=8)["answers"][0] for p in prompts]
    assert together == alone
    turned = program.call("complete", model, prompts[::-1], 0, temperature=0, longest=8)["answers"]
    assert turned == together[::-1]


def test_an_answer_ends_with_its_stop(program, seed):
    model = program.build(seed=seed)
    prompts = _prompts(seed, 7)
    free = program.call("complete", model, prompts, 0, temperature=0, longest=9, **FREE)["answers"]
    stops = Counter(token for answer in free for token in answer[1:-1]).most_common(3)
    for stop, _ in stops:
        got = program.call("complete", model, prompts, 0, temperature=0, longest=9, stop=stop)["answers"]
        cut = [answer[: answer.index(stop) + 1] if stop in answer else answer for answer in free]
        assert got == cut


def test_answers_end_where_the_context_does(program, seed):
    model = program.build(seed=seed, context=12)
    prompts = _prompts(seed, 2, longest=9)
    (got,) = program.call("complete", model, prompts[1:], 0, temperature=0, longest=30, **FREE)["answers"]
    assert _is_greedy(program, model, prompts[1], got, 30, stop=-1, context=12)
    short = program.call("complete", model, prompts, 0, temperature=0, longest=4, **FREE)["answers"]
    assert list(map(len, short)) == [min(4, 12 - 9)] * 2


def test_no_token_is_read_twice(program, seed):
    model = program.build(seed=seed)
    prompts = [[4, 5, 6, 7], [8, 9, 3, 2]]
    read = program.call("complete", model, prompts, 0, temperature=0, longest=9, **FREE)["read"]
    assert read in (2 * 4 + 2 * 8, 2 * 4 + 2 * 9)  # the last token need not be read
    read = program.call("beam_answers", model, prompts[0], 3, longest=7, **FREE)["read"]
    assert read <= 4 + 3 * 7


def test_rows_that_have_ended_cost_nothing(program, seed):
    model = program.build(seed=seed)
    prompts = [[token, 3] for token in range(2, 12)]
    answers = program.call("complete", model, prompts, 0, temperature=0, longest=12, **FREE)["answers"]
    stop = Counter(token for answer in answers for token in set(answer[:6])).most_common(1)[0][0]
    got = program.call("complete", model, prompts, 0, temperature=0, longest=12, stop=stop)
    assert got["read"] <= 2 * len(prompts) + sum(map(len, got["answers"]))


def test_asking_twice_gives_the_same(program, seed):
    model = program.build(seed=seed)
    before = program.state(model)
    prompts = _prompts(seed)
    one, two = (program.call("complete", model, prompts, 5)["answers"] for _ in range(2))
    assert one == two
    others = [program.call("complete", model, prompts, s)["answers"] for s in range(3)]
    assert len({str(answers) for answers in others}) == 3
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())
    assert prompts == _prompts(seed)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0, "top_k": 4},
        {"temperature": 1.4, "top_p": 0.7},
        {"repetition": 1.8},
        {"temperature": 1.5, "top_k": 5, "top_p": 0.8, "repetition": 1.3},
    ],
    ids=["plain", "cold", "few", "share", "repetition", "everything"],
)
def test_tokens_come_as_often_as_they_should(program, seed, how):
    model = program.build(seed=seed, init_std=0.3)
    prompt, count = [5, 9, 2], 600
    logits = _next(program, model, prompt).double()
    said = torch.zeros(23, dtype=torch.bool)
    said[prompt] = True
    penalty = how.get("repetition", 1.0)
    logits = torch.where(said, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    logits = logits / how.get("temperature", 1.0)
    order = logits.argsort(descending=True).tolist()[: how.get("top_k") or 23]
    weights = {token: math.exp(float(logits[token])) for token in order}
    total, mass, kept = sum(weights.values()), 0.0, {}
    for token in order:
        if mass < how.get("top_p", 1.0):
            kept[token] = weights[token]
        mass += weights[token] / total
    chances = {token: weight / sum(kept.values()) for token, weight in kept.items()}
    answers = program.call("complete", model, [prompt] * count, seed, longest=1, **how)["answers"]
    seen = Counter(answer[0] for answer in answers)
    assert set(seen) <= set(chances)
    statistic = sum((seen[t] - count * c) ** 2 / (count * c) for t, c in chances.items() if count * c >= 3)
    freedom = sum(count * c >= 3 for c in chances.values())
    assert statistic <= freedom + 5 * math.sqrt(2 * freedom) + 3


def test_what_was_said_is_penalised_in_the_answer_too(program, seed):
    model = program.build(seed=seed)
    prompts = _prompts(seed, 4)
    got = program.call("complete", model, prompts, 0, temperature=0, repetition=3.0, longest=7, **FREE)
    for prompt, answer in zip(prompts, got["answers"], strict=True):
        assert len(answer) == 7
        for place, logits in enumerate(_after_each(program, model, prompt, answer)):
            said = sorted({*prompt, *answer[:place]})
            logits[said] = torch.where(logits[said] > 0, logits[said] / 3.0, logits[said] * 3.0)
            assert answer[place] == int(logits.argmax())


@pytest.mark.parametrize("count", [1, 3, 16, 17, 40])
def test_the_likeliest_tokens_are_left(program, seed, count):
    logits = _logits(seed)
    left = _kept(program, "top_k", logits, count)
    rank = logits.argsort(dim=1, descending=True).argsort(dim=1)
    assert torch.equal(left, rank < count)


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.8, 0.99, 1.0])
def test_the_fewest_tokens_with_the_share_are_left(program, seed, share):
    logits = _logits(seed)
    left = _kept(program, "top_p", logits, share)
    for row, kept in zip(logits.double().softmax(dim=1), left, strict=True):
        assert bool(kept[row.argmax()])
        mass = float(row[kept].sum())
        assert mass >= share - 1e-6
        assert float(row[kept].min()) >= float(row[~kept].max()) if bool((~kept).any()) else True
        assert share == 1.0 or mass - float(row[kept].min()) < share


def test_zero_leaves_everything(program, seed):
    logits = _logits(seed)
    assert bool(_kept(program, "top_k", logits, 0).all())
    said = torch.rand(6, 17, generator=torch.Generator().manual_seed(seed)) < 0.5
    got = torch.as_tensor(program.call("sampling.penalised", logits, said, 2.0))
    torch.testing.assert_close(got[~said], logits[~said])
    assert bool((got[said] < logits[said]).all())


def test_scores_are_sums_of_log_probabilities(program, seed):
    model = program.build(seed=seed)
    prompt, answer = [3, 4, 5], [6, 1, 2, 9]
    chances = _after_each(program, model, prompt, answer).log_softmax(dim=-1)
    total = float(chances[torch.arange(4), answer].sum())
    assert program.call("score", model, prompt, answer) == pytest.approx(total, rel=1e-4)


def test_one_beam_is_the_greedy_answer(program, seed):
    model = program.build(seed=seed)
    for prompt in _prompts(seed, 4):
        ((answer, total),) = program.call("beam_answers", model, prompt, 1, longest=7)["answers"]
        assert _is_greedy(program, model, prompt, answer, 7)
        assert total == pytest.approx(program.call("score", model, prompt, answer), rel=1e-4, abs=1e-4)


def test_beams_are_scored_as_if_read_anew(program, seed):
    model = program.build(seed=seed)
    prompt = _prompts(seed)[1]
    found = program.call("beam_answers", model, prompt, 5, longest=7)["answers"]
    assert len(found) == 5
    assert len({str(answer) for answer, _ in found}) == 5
    totals = [total for _, total in found]
    assert totals == sorted(totals, reverse=True)
    for answer, total in found:
        assert total == pytest.approx(program.call("score", model, prompt, answer), rel=1e-3, abs=1e-3)
        assert STOP not in answer[:-1]
        assert answer[-1] == STOP or len(answer) == 7


def test_many_beams_find_what_a_search_of_all_answers_finds(program, seed):
    model = program.build(seed=seed, vocab=4, init_std=0.3)
    prompt, others = [2, 0, 3], [0, 2, 3]
    answers = [[*head, STOP] for n in (0, 1) for head in itertools.product(others, repeat=n)]
    answers += [list(head) for head in itertools.product(others, others, range(4))]
    scored = sorted(
        ((program.call("score", model, prompt, answer), answer) for answer in answers), reverse=True
    )
    found = program.call("beam_answers", model, prompt, 200, longest=3)["answers"]
    assert [answer for answer, _ in found[:6]] == [answer for _, answer in scored[:6]]
    assert len(found) == len(answers)
