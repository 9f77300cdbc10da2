"""What any correct tiny-gpt does, whatever its parts are called."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data import grammar
from bughunt.references.gradients import follow, silent_share
from bughunt.references.projections import projection_names
from bughunt.task import Model, Program, Task

STILL = {"dropout": 0.0, "weight_decay": 0.0}
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


def outer_projections(program: Program, model: Model) -> list[str]:
    """Names of the matrices that mix what the heads have found."""
    state = program.state(model)
    own = {name: state[name] for name in program.parameters(model)}
    return [outer for _, outer in projection_names(own, program.config()["channels"])]


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


def test_weights_start_at_the_scale_of_gpt_2(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    cfg, state = program.config(), program.state(model)
    C, std = cfg["channels"], cfg["init_std"]
    smaller = [*outer_projections(program, model), *of_shape(program, model, C, 4 * C)]
    for name in program.parameters(model):
        if state[name].dim() > 1:
            scale = std / math.sqrt(2 * cfg["layers"]) if name in smaller else std
            assert float(state[name].std()) == pytest.approx(scale, rel=0.15), name


def test_the_embedding_is_the_head(program: Program) -> None:
    model = program.build(seed=0)
    cfg = program.config()
    assert len(of_shape(program, model, cfg["vocab"], cfg["channels"])) == 1


def test_it_overfits_one_small_batch(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **STILL)
    texts = grammar.corpus(3, seed)
    program.train(model, texts, seed, **STILL, steps=60, batch=16, peak_lr=8e-3).next(60)
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
        assert bool(moved.any(dim=-1).all()), f"part of {name} stays where it is"


def test_the_trained_parameters_are_the_whole_model(program: Program, seed: int) -> None:
    cfg = program.config()
    C, L, V, T = cfg["channels"], cfg["layers"], cfg["vocab"], cfg["context"]
    model = program.build(seed=seed)
    state = program.state(model)
    matrices = [state[n].numel() for n in program.parameters(model) if state[n].dim() > 1]
    assert sum(matrices) == V * C + T * C + L * 12 * C * C


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
    model = program.build(seed=seed, dropout=0.3)
    prefixes = grammar.corpus(7, seed)[:, :9]
    program.train_mode(model, True)
    before = program.state(model)
    first = program.predict(model, prefixes)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, prefixes))
    after = program.state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_training_goes_on_with_dropout_after_a_look(program: Program, seed: int) -> None:
    losses = []
    for look in (False, True):
        model = program.build(seed=seed, dropout=0.3)
        run = program.train(model, copies(seed), seed, dropout=0.3, peak_lr=0.0, steps=4)
        run.next(2)
        if look:
            program.predict(model, copies(seed)[:7, :9])
        program.seed(seed)
        losses.append(run.next(2))
    assert losses[0] == losses[1]


def test_dropout_makes_the_same_batch_differ(program: Program, seed: int) -> None:
    model = program.build(seed=seed, dropout=0.3)
    run = program.train(model, copies(seed), seed, dropout=0.3, peak_lr=0.0, weight_decay=0.0)
    losses = run.next(3)
    assert len(set(losses)) == 3


def test_what_branches_add_is_dropped_as_often_as_it_should(program: Program, seed: int) -> None:
    # of one token alone; where it is dropped, the row of the matrix that wrote it gets no gradient
    C, cfg = program.config()["channels"], {**STILL, "dropout": 0.3, "peak_lr": 0.0, "batch": 1}
    model = program.build(seed=seed, **cfg)
    writers = [*outer_projections(program, model), *of_shape(program, model, C, 4 * C)]
    program.watch_gradients(model, True)
    run = program.train(model, grammar.corpus(50, seed)[:, :2].contiguous(), seed, **cfg)
    assert silent_share(program, model, run, writers, 12) == pytest.approx(0.3, abs=0.06)


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


def test_every_update_sees_another_batch(program: Program, seed: int) -> None:
    cfg = {**STILL, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    assert len(set(program.train(model, grammar.corpus(200, seed), seed, **cfg).next(4))) == 4


def test_batches_draw_on_the_whole_corpus(program: Program, seed: int) -> None:
    # texts that consist of one token each; its row of the embedding says whether it was read
    cfg = program.config()
    model = program.build(seed=seed, vocab=60, init_std=0.02, **STILL)
    table = of_shape(program, model, 60, cfg["channels"])[0]
    corpus = torch.arange(60)[:, None].expand(-1, grammar.LENGTH).contiguous()
    before = program.state(model)[table]
    overrides = {**STILL, "vocab": 60, "steps": 1, "batch": 16, "warmup": 1}
    seen = []
    for rng_seed in (seed, seed + 1):
        program.load_state(model, {table: before})
        program.watch_gradients(model, True)
        program.train(model, corpus, rng_seed, **overrides).next()
        size = program.gradients(model)[table].norm(dim=1)
        seen.append(set((size > 3 * size.median()).nonzero().flatten().tolist()))
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


def test_updates_are_those_of_torch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, **STILL, "warmup": 1, "peak_lr": 4e-3, "max_grad_norm": 0.2}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    state = program.state(model)
    params = {n: torch.nn.Parameter(state[n]) for n in program.parameters(model)}
    oracle = torch.optim.AdamW(params.values(), betas=(0.9, 0.98), weight_decay=0.0)
    run = program.train(model, grammar.corpus(200, seed), seed, **cfg)
    # a cosine that falls after one update at the peak
    rates = [4e-3 * (1 + math.cos(math.pi * max(0, step - 1) / 39)) / 2 for step in range(5)]
    follow(program, model, run, oracle, params, rates, max_norm=0.2)
    after = program.state(model)
    for name, parameter in params.items():
        move, due = after[name] - state[name], parameter.detach() - state[name]
        assert (move - due).norm() <= 0.02 * due.norm() + 1e-6, name


def test_only_matrices_decay(program: Program, seed: int) -> None:
    cfg = program.config()
    model = program.build(seed=seed, dropout=0.0)
    draws = torch.Generator().manual_seed(seed)
    start = program.state(model)
    for name in program.parameters(model):
        if start[name].dim() == 1:
            start[name] = 1 + 0.3 * torch.randn(start[name].shape, generator=draws)
    program.load_state(model, start)
    program.watch_gradients(model, True)
    overrides = {"dropout": 0.0, "weight_decay": 0.5, "peak_lr": 1e-3, "warmup": 1}
    program.train(model, grammar.corpus(99, seed), seed, **overrides).next()
    after, gradient = program.state(model), program.gradients(model)
    for name, g in gradient.items():
        before = start[name]
        if before.shape[0] in (cfg["vocab"], cfg["context"]):
            continue  # embeddings are decayed by some and not by others
        # the first step of Adam goes by the sign of the gradient, decay by the value itself
        clear = g.abs() > 1e-5
        causes = torch.stack([-g[clear].sign(), -before[clear]], dim=1).double()
        moves = (after[name] - before)[clear].double()[:, None]
        rate, decay = torch.linalg.lstsq(causes, moves).solution.flatten().tolist()
        assert rate == pytest.approx(1e-3, rel=0.05), name
        assert decay == pytest.approx(0.5e-3 if before.dim() > 1 else 0.0, abs=0.5e-4), name


def test_the_rate_climbs_to_its_peak_and_falls_along_half_a_cosine(program: Program, seed: int) -> None:
    # while the gradient hardly changes, Adam moves every weight by the rate itself
    peak, warmup, steps = 2e-4, 4, 17
    expected = [peak * (step + 1) / warmup for step in range(warmup)]
    expected += [peak * (1 + math.cos(math.pi * k / 13)) / 2 for k in range(13)]
    model = program.build(seed=seed, **STILL)
    overrides = {**STILL, "peak_lr": peak, "warmup": warmup, "steps": steps}
    head = of_shape(program, model, program.config()["vocab"], program.config()["channels"])[0]
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


def test_attention_agrees_with_the_one_in_pytorch(program: Program, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    q, k, v = 2 * torch.randn(3, 2, 3, 7, 5, generator=draws)  # [B, H, T, K] each
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(program.call("attend", q, k, v), expected, rtol=1e-4, atol=1e-5)


def test_a_silent_block_passes_its_input_on(program: Program, seed: int) -> None:
    # with all weights of the blocks at zero what is left is embedding, norm and head
    cfg = program.config()
    model = program.build(seed=seed)
    state = program.state(model)
    token = of_shape(program, model, cfg["vocab"], cfg["channels"])[0]
    position = of_shape(program, model, cfg["context"], cfg["channels"])[0]
    inner = [n for n in program.parameters(model) if state[n].dim() > 1]
    silent = {n: torch.zeros_like(state[n]) for n in inner if n not in (token, position)}
    program.load_state(model, silent)
    texts = grammar.corpus(5, seed)[:, :-1]
    x = state[token][texts] + state[position][: texts.size(1)]
    expected = F.layer_norm(x, (cfg["channels"],)) @ state[token].T
    torch.testing.assert_close(forward(program, model, texts), expected.double(), rtol=1e-3, atol=1e-4)


def test_without_attention_each_block_adds_its_mlp(program: Program, seed: int) -> None:
    cfg = program.config()
    C = cfg["channels"]
    model = program.build(seed=seed, init_std=0.3)
    state = program.state(model)
    mixers = of_shape(program, model, C, C)
    program.load_state(model, {name: torch.zeros(C, C) for name in mixers})
    token, position = (state[of_shape(program, model, cfg[n], C)[0]] for n in ("vocab", "context"))
    texts = grammar.corpus(5, seed)[:, :-1]
    x = token[texts] + position[: texts.size(1)]
    ups, downs = of_shape(program, model, 4 * C, C), of_shape(program, model, C, 4 * C)
    for up, down in zip(ups, downs, strict=True):
        x = x + F.gelu(F.layer_norm(x, (C,)) @ state[up].T) @ state[down].T
    expected = F.layer_norm(x, (C,)) @ token.T
    scale = float(expected.std())
    answer = forward(program, model, texts) / scale
    torch.testing.assert_close(answer, expected.double() / scale, rtol=0, atol=0.01)
