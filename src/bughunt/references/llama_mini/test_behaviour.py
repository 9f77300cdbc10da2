"""What any correct llama-mini does, whatever its parts are called."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data import grammar
from bughunt.task import Model, Program, Task

STILL = {"weight_decay": 0.0}
Tensors = dict[str, Tensor]


def forward(program: Program, model: Model, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
    """The model's logits at all positions, in evaluation mode."""
    program.train_mode(model, False)
    return torch.as_tensor(program.call_method(model, "__call__", tokens)).double()


def cross_entropy(logits: Tensor, targets: Tensor) -> float:
    return float(F.cross_entropy(logits.flatten(0, 1), targets.flatten()))


def copies(seed: int, n: int = 50) -> Tensor:
    """A corpus in which every text is the same, so that every batch is known beforehand."""
    return grammar.corpus(1, seed).expand(n, -1).contiguous()


def of_shape(program: Program, model: Model, *shape: int) -> list[str]:
    """Names of the parameters of that shape; a shared one counts once."""
    state = program.state(model)
    return [name for name in program.parameters(model) if tuple(state[name].shape) == shape]


def slope(program: Program, model: Model, text: Tensor, along: Tensors, size: float = 2e-3) -> float:
    """How fast the loss on one text changes along a direction, from the loss alone."""
    start = program.state(model)
    ends = []
    for sign in (1, -1):
        moved = {name: start[name] + sign * size * along[name] for name in along}
        program.load_state(model, moved)
        ends.append(cross_entropy(forward(program, model, text[:, :-1]), text[:, 1:]))
    program.load_state(model, {name: start[name] for name in along})
    return (ends[0] - ends[1]) / (2 * size)


def first_gradient(program: Program, seed: int, model: Model, corpus: Tensor) -> Tensors:
    """The gradient of the first batch, taken without leaving the starting point."""
    program.watch_gradients(model, True)
    program.train(model, corpus, seed, **STILL, peak_lr=0.0).next()
    return program.gradients(model)


def test_a_fresh_model_knows_nothing_yet(program: Program, seed: int) -> None:
    model = program.build(seed=seed, init_std=0.02)
    texts = grammar.corpus(60, seed)
    start = cross_entropy(forward(program, model, texts[:, :-1]), texts[:, 1:])
    assert abs(start - math.log(len(grammar.WORDS))) <= 0.15


def test_it_overfits_one_small_batch(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **STILL)
    texts = grammar.corpus(3, seed)
    program.train(model, texts, seed, **STILL, steps=50, batch=16, peak_lr=1e-2).next(60)
    left = cross_entropy(forward(program, model, texts[:, :-1]), texts[:, 1:])
    choice = math.log(3) / grammar.LENGTH  # which of the three it is cannot be known at the start
    assert left <= choice + 0.15


def test_it_learns_more_than_frequencies(program: Program, task: Task, seed: int) -> None:
    model = program.build(seed=seed, **task.small)
    given = task.data(seed)
    before = task.measure(program, model, given.held_out).curve
    program.train(model, given.train, seed, **task.small).next(task.small["steps"])
    after = task.measure(program, model, given.held_out).curve
    assert task.floor is not None
    assert task.floor <= after <= 0.5 * before


def test_every_parameter_moves(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **STILL)
    before = program.state(model)
    program.train(model, grammar.corpus(200, seed), seed, **STILL, steps=3).next(3)
    after = program.state(model)
    for name in program.parameters(model):
        moved = (after[name] != before[name]).flatten(1 if after[name].dim() > 1 else 0)
        if len(moved) == len(grammar.WORDS):
            continue  # the last word of a text is never read
        assert bool(moved.any(dim=-1).all()), f"part of {name} stays where it is"


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    prefixes = grammar.corpus(7, seed)[:, :9]
    together = program.predict(model, prefixes)
    alone = torch.cat([program.predict(model, row[None]) for row in prefixes])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_predict_gives_log_probabilities(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    answer = program.predict(model, grammar.corpus(7, seed)[:, :5])
    assert answer.shape == (7, len(grammar.WORDS))
    torch.testing.assert_close(answer.exp().sum(dim=1), torch.ones(7), rtol=0, atol=1e-4)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    prefixes = grammar.corpus(7, seed)[:, :9]
    program.train_mode(model, True)
    before = program.state(model)
    first = program.predict(model, prefixes)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, prefixes))
    after = program.state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_same_seed_gives_the_same_curve(program: Program, seed: int) -> None:
    curves = []
    for _ in range(2):
        model = program.build(seed=seed)
        texts = grammar.corpus(200, seed)
        program.seed(seed)
        curves.append(program.train(model, texts, seed, steps=6, batch=8).next(6))
    assert curves[0] == curves[1]


def test_a_run_has_as_many_updates_as_it_is_told(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    run = program.train(model, grammar.corpus(50, seed), seed, steps=5, batch=7, warmup=2)
    assert len(run.next(9)) == 5


def test_batches_draw_on_the_whole_corpus(program: Program, seed: int) -> None:
    # texts that consist of one token each; its row of the embedding says whether it was read
    cfg = program.config()
    model = program.build(seed=seed, vocab=60, init_std=0.02, **STILL)
    table = of_shape(program, model, 60, cfg["channels"])[0]  # the head has a gradient everywhere
    corpus = torch.arange(60)[:, None].expand(-1, grammar.LENGTH).contiguous()
    before = program.state(model)[table]
    overrides = {**STILL, "vocab": 60, "steps": 1, "batch": 16, "warmup": 1}
    seen = []
    for rng_seed in (seed, seed + 1):
        program.load_state(model, {table: before})
        program.watch_gradients(model, True)
        program.train(model, corpus, rng_seed, **overrides).next()
        tables = [g for g in program.gradients(model).values() if g.shape == before.shape]
        touched = min(((g.norm(dim=1) > 0).nonzero().flatten().tolist() for g in tables), key=len)
        seen.append(set(touched))
    assert seen[0] != seen[1]
    assert all(8 <= len(rows) <= 16 for rows in seen)


def test_batches_pair_each_token_with_the_next_one(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **STILL)
    corpus = copies(seed)
    expected = cross_entropy(forward(program, model, corpus[:1, :-1]), corpus[:1, 1:])
    reported = program.train(model, corpus, seed, **STILL).next()[0]
    assert reported == pytest.approx(expected, rel=1e-4)


def test_the_gradient_is_the_slope_of_the_loss(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **STILL)
    corpus = copies(seed)
    gradient = first_gradient(program, seed, model, corpus)
    length = math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))
    along = {name: g / length for name, g in gradient.items()}
    assert slope(program, model, corpus[:1], along) == pytest.approx(length, rel=0.02)


def test_the_gradient_belongs_to_this_batch_only(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **STILL)
    program.watch_gradients(model, True)
    run = program.train(model, copies(seed), seed, **STILL, peak_lr=0.0)
    run.next()
    first = program.gradients(model)
    run.next()
    second = program.gradients(model)
    for name, expected in first.items():
        torch.testing.assert_close(second[name], expected, rtol=1e-3, atol=1e-6)


def test_gradients_are_clipped_by_their_common_norm(program: Program, seed: int) -> None:
    # so tight a limit that Adam's epsilon shows how large the clipped gradient was
    limit, rate, epsilon = 1e-6, 1e-3, 1e-8
    model = program.build(seed=seed, **STILL)
    before = program.state(model)
    program.watch_gradients(model, True)
    overrides = {**STILL, "peak_lr": rate, "warmup": 1, "max_grad_norm": limit}
    program.train(model, copies(seed), seed, **overrides).next()
    after, gradient = program.state(model), program.gradients(model)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))
    clip = min(1.0, limit / norm)
    for name, g in gradient.items():
        expected = -rate * clip * g / (clip * g.abs() + epsilon)
        torch.testing.assert_close(after[name] - before[name], expected, rtol=0.05, atol=1e-6)


def test_the_rate_climbs_to_its_peak_and_falls_along_half_a_cosine(program: Program, seed: int) -> None:
    # while the gradient hardly changes, Adam moves every weight by the rate itself
    peak, warmup, steps = 2e-4, 4, 17
    expected = [peak * (step + 1) / warmup for step in range(warmup)]
    expected += [peak * (1 + math.cos(math.pi * k / 13)) / 2 for k in range(13)]
    model = program.build(seed=seed, **STILL)
    overrides = {**STILL, "peak_lr": peak, "warmup": warmup, "steps": steps}
    head = of_shape(program, model, program.config()["channels"], program.config()["inner"])[0]
    run = program.train(model, copies(seed), seed, **overrides)
    rates, before = [], program.state(model)[head]
    while run.next():
        after = program.state(model)[head]
        rates.append(float((after - before).abs().median()))
        before = after
    assert rates == pytest.approx(expected, rel=0.15, abs=0.03 * peak)


def test_a_position_never_sees_what_comes_after_it(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    texts = grammar.corpus(5, seed)[:, :-1]
    base = forward(program, model, texts)
    for changed in range(texts.size(1)):
        other = texts.clone()
        other[:, changed] = (other[:, changed] + 3) % len(grammar.WORDS)
        moved = (forward(program, model, other) - base).abs().amax(dim=(0, 2))  # [T]
        assert float(moved[:changed].sum()) <= 1e-4
        assert float(moved[changed:].min()) > 1e-5, "an earlier token makes no difference"


def test_a_prefix_is_answered_as_in_the_whole_text(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    texts = grammar.corpus(5, seed)[:, :-1]
    whole = forward(program, model, texts).log_softmax(dim=-1)  # [B, T, V]
    for length in range(1, texts.size(1) + 1):
        answer = program.predict(model, texts[:, :length]).double()
        torch.testing.assert_close(answer, whole[:, length - 1], rtol=1e-4, atol=1e-5)


def sizes(program: Program) -> tuple[int, int, int, int]:
    cfg = program.config()
    return cfg["channels"], cfg["heads"], cfg["groups"], cfg["inner"]


def normed(x: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=eps)


def turned(x: Tensor, base: float) -> Tensor:  # [B, T, H, K]
    """Rotary positions by complex numbers."""
    T, K = x.size(1), x.size(-1)
    speed = base ** (-torch.arange(0, K, 2).double() / K)
    turn = torch.polar(torch.ones(T, K // 2).double(), torch.arange(T).double()[:, None] * speed)
    points = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(points * turn[:, None]).flatten(-2)


def test_weights_start_at_the_scale_that_is_asked_for(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    C, _, _, inner = sizes(program)
    cfg, state = program.config(), program.state(model)
    residual = cfg["init_std"] / math.sqrt(2 * cfg["layers"])
    for name in program.parameters(model):
        shape = tuple(state[name].shape)
        if state[name].squeeze().dim() == 1:
            assert torch.equal(state[name].flatten(), torch.ones(C)), name
        elif shape == (C, inner):
            assert float(state[name].std()) == pytest.approx(residual, rel=0.15), name
        elif shape == (C, C):
            assert min(abs(float(state[name].std()) / s - 1) for s in (residual, cfg["init_std"])) <= 0.15
        else:
            assert float(state[name].std()) == pytest.approx(cfg["init_std"], rel=0.15), name
    square = [float(state[n].std()) for n in of_shape(program, model, C, C)]
    assert sum(abs(std / residual - 1) <= 0.15 for std in square) == cfg["layers"]


def test_the_trained_parameters_are_the_whole_model(program: Program, seed: int) -> None:
    C, H, G, inner = sizes(program)
    cfg = program.config()
    model = program.build(seed=seed)
    state = program.state(model)
    matrices = [state[n].numel() for n in program.parameters(model) if state[n].squeeze().dim() > 1]
    layer = 2 * C * C + 2 * C * C * G // H + 3 * C * inner
    assert sum(matrices) == 2 * cfg["vocab"] * C + cfg["layers"] * layer


def test_the_model_agrees_with_one_written_out(program: Program, seed: int) -> None:
    C, H, G, inner = sizes(program)
    model = program.build(seed=seed)
    draws = torch.Generator().manual_seed(seed)
    state, names = program.state(model), program.parameters(model)
    for name in names:
        if state[name].squeeze().dim() == 1:
            state[name] = 1 + 0.3 * torch.randn(state[name].shape, generator=draws)
    program.load_state(model, {name: state[name] for name in names})
    parts = [state[name].squeeze().double() for name in names]
    narrow = C * G // H
    joined = {C + 2 * narrow: [C, narrow, narrow], 2 * inner: [inner, inner]}  # several layers in one
    parts = [piece for part in parts for piece in part.split(joined.get(len(part), len(part)))]
    texts = grammar.corpus(4, seed)[:, :-1]
    got = forward(program, model, texts)
    # whichever of two alike comes first in the file
    ways = itertools.product((1, -1), repeat=3)
    off = [float((written_out(parts, texts, program, *way) - got).abs().max()) for way in ways]
    assert min(off) <= 1e-3


def written_out(parts: list[Tensor], texts: Tensor, program: Program, *way: int) -> Tensor:
    """Logits of these matrices; `way` turns round query and out, key and value, gate and up."""
    C, H, G, inner = sizes(program)
    cfg = program.config()
    named = lambda *shape: [part for part in parts if part.shape == shape]  # noqa: E731
    token, head = named(cfg["vocab"], C)
    gains = iter(named(C))
    square, narrow, wide, down = named(C, C), named(C * G // H, C), named(inner, C), named(C, inner)
    x = token[texts]
    for layer in range(cfg["layers"]):
        both = slice(2 * layer, 2 * layer + 2)
        h = normed(x, cfg["eps"]) * next(gains)
        q, out = square[both][:: way[0]]
        k, v = narrow[both][:: way[1]]
        q, k = (turned((h @ w.T).unflatten(-1, (n, -1)), cfg["base"]) for w, n in ((q, H), (k, G)))
        v = (h @ v.T).unflatten(-1, (G, -1))
        heads = [part.transpose(1, 2) for part in (q, k, v)]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True)
        x = x + mixed.transpose(1, 2).flatten(2) @ out.T
        h = normed(x, cfg["eps"]) * next(gains)
        gate, up = wide[both][:: way[2]]
        x = x + (F.silu(h @ gate.T) * (h @ up.T)) @ down[layer].T
    return (normed(x, cfg["eps"]) * next(gains)) @ head.T


def test_attention_agrees_with_the_one_in_pytorch(program: Program, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    q = 2 * torch.randn(2, 6, 7, 5, generator=draws)  # [B, H, T, K]
    k, v = 2 * torch.randn(2, 2, 3, 7, 5, generator=draws)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(program.call("attend", q, k, v), expected, rtol=1e-4, atol=1e-5)


def test_the_norm_agrees_with_the_one_in_pytorch(program: Program, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    layer = program.call("RMSNorm", 9, 0.02, keep=True)
    weight = torch.randn(9, generator=draws)
    shapes = {name: program.state(layer)[name].shape for name in program.parameters(layer)}
    program.load_state(layer, {name: weight.view(shape) for name, shape in shapes.items()})
    x = 0.3 * torch.randn(4, 5, 9, generator=draws) + 0.2
    expected = F.rms_norm(x, (9,), weight, eps=0.02)
    got = torch.as_tensor(program.call_method(layer, "__call__", x))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_only_the_distance_of_two_positions_matters(program: Program, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=draws)
    turn = torch.as_tensor(program.call("angles", 30, 8, 100.0))
    assert turn.shape == (30, 4)
    rows = [torch.as_tensor(program.call("rotate", x.expand(1, 1, 30, 8), turn))[0, 0] for x in (q, k)]
    scores = rows[0] @ rows[1].T  # [T, T]
    for distance in (0, 1, 7):
        along = scores.diagonal(-distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-3, atol=1e-3)
    assert float(scores.std()) > 0.1
    torch.testing.assert_close(rows[0].norm(dim=1), q.norm().expand(30), rtol=1e-4, atol=1e-4)
    expected = turned(q.expand(1, 30, 1, 8), 100.0)[0, :, 0]
    torch.testing.assert_close(rows[0].double(), expected, rtol=1e-3, atol=1e-4)


def test_only_matrices_decay(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    start = program.state(model)
    draws = torch.Generator().manual_seed(seed)
    for name in program.parameters(model):
        if start[name].squeeze().dim() == 1:
            start[name] = 1 + 0.3 * torch.randn(start[name].shape, generator=draws)
    program.load_state(model, start)
    program.watch_gradients(model, True)
    program.train(model, grammar.corpus(99, seed), seed, weight_decay=0.5, peak_lr=1e-3, warmup=1).next()
    after, gradient = program.state(model), program.gradients(model)
    for name, g in gradient.items():
        before = start[name]
        if before.shape[0] == program.config()["vocab"]:
            continue  # embeddings are decayed by some and not by others
        # the first step of Adam goes by the sign of the gradient, decay by the value itself
        clear = g.abs() > 1e-5
        causes = torch.stack([-g[clear].sign(), -before[clear]], dim=1).double()
        moves = (after[name] - before)[clear].double()[:, None]
        rate, decay = torch.linalg.lstsq(causes, moves).solution.flatten().tolist()
        assert rate == pytest.approx(1e-3, rel=0.05), name
        assert decay == pytest.approx(0.5e-3 if before.squeeze().dim() > 1 else 0.0, abs=0.5e-4), name


def written(program: Program, model: Model, prompt: Tensor, count: int) -> list[int]:
    """Greedy, by asking for the next token each time."""
    tokens = prompt.clone()
    for _ in range(count):
        answer = torch.as_tensor(program.predict(model, tokens)).argmax(dim=1)
        tokens = torch.cat([tokens, answer[:, None]], dim=1)
    return tokens[0].tolist()


@pytest.mark.parametrize("ahead", [1, 3, 6])
def test_a_draft_changes_the_cost_and_not_the_answer(program: Program, seed: int, ahead: int) -> None:
    model = program.build(seed=seed, init_std=0.4)
    other = program.build(seed=seed + 1, init_std=0.4, layers=1)
    prompt = grammar.corpus(1, seed)[:, :4]
    expected = written(program, model, prompt, 13)
    tokens, _ = program.call("continued", model, other, prompt, 13, ahead)
    assert torch.as_tensor(tokens)[0].tolist() == expected
    twin = program.build(seed=seed, init_std=0.4)
    tokens, calls = program.call("continued", model, twin, prompt, 13, ahead)  # everything is accepted
    assert torch.as_tensor(tokens)[0].tolist() == expected
    assert calls == math.ceil(13 / (ahead + 1))


def test_a_good_draft_saves_most_of_the_asking(program: Program, seed: int) -> None:
    texts = grammar.corpus(300, seed)
    model, draft = (program.build(seed=seed + n, layers=2 - n) for n in (0, 1))
    for each, layers in ((model, 2), (draft, 1)):
        program.train(each, texts, seed, steps=40, layers=layers, batch=16).next(40)
    for row in grammar.corpus(3, seed + 1)[:, None, :3]:
        tokens, calls = program.call("continued", model, draft, row, 10, 3)
        assert torch.as_tensor(tokens)[0].tolist() == written(program, model, row, 10)
        assert 3 <= calls <= 7


def test_updates_follow_the_gradients(program: Program, seed: int) -> None:
    # Adam with the gradients as they were seen, and averages of about ten and of fifty of them
    rate, model = 3e-3, program.build(seed=seed)
    overrides = {**STILL, "peak_lr": rate, "warmup": 1, "steps": 10**6, "max_grad_norm": 1e6}
    program.watch_gradients(model, True)
    run = program.train(model, grammar.corpus(90, seed), seed, **overrides)
    name = of_shape(program, model, program.config()["channels"], program.config()["inner"])[0]
    value = program.state(model)[name].double()
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for step in range(1, 25):
        run.next()
        g = program.gradients(model)[name].double()
        first, second = 0.9 * first + 0.1 * g, 0.98 * second + 0.02 * g.square()
        value = value - rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.98**step)).sqrt() + 1e-8)
    torch.testing.assert_close(program.state(model)[name].double(), value, rtol=0, atol=0.02 * rate)
