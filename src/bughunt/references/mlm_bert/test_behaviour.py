"""What any correct masked language model does, whoever wrote it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data import grammar
from bughunt.references.gradients import follow
from bughunt.references.projections import projections
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task

ROWS = 60
MASK, PAD = 21, 22


def settings(program: Program, **config: object) -> Model:
    return program.call("Config", keep=True, **config)


def seeded(program: Program, seed: int) -> Model:
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    return rng


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, grammar.corpus(ROWS, seed), seed, **config).next(100)


def corrupted(program: Program, seed: int, **config: float) -> tuple[Tensor, Tensor, Tensor]:
    texts = F.pad(grammar.corpus(1500, seed), (0, 3), value=PAD)
    seen, asked = program.call("corrupt", texts, settings(program, **config), seeded(program, seed))
    return texts, seen, asked


def test_tokens_are_chosen_and_hidden_as_often_as_they_should(program: Program, seed: int) -> None:
    texts, seen, asked = corrupted(program, seed, chosen=0.3, masked=0.6, replaced=0.25)
    real = (texts != 0) & (texts != PAD)
    chosen = asked != -100
    assert float(chosen[real].double().mean()) == pytest.approx(0.3, abs=0.02)
    assert float((seen[chosen] == MASK).double().mean()) == pytest.approx(0.6, abs=0.03)
    other = (seen != texts) & (seen != MASK)
    assert float(other[chosen].double().mean()) == pytest.approx(0.25 * 19 / 20, abs=0.03)
    assert chosen[:, 1:14].double().mean(dim=0).std() <= 0.04


def test_only_what_is_chosen_changes_and_is_asked_for(program: Program, seed: int) -> None:
    texts, seen, asked = corrupted(program, seed, chosen=0.4)
    chosen = asked != -100
    assert torch.equal(asked[chosen], texts[chosen])
    assert torch.equal(seen[~chosen], texts[~chosen])


def test_starts_and_padding_are_never_chosen(program: Program, seed: int) -> None:
    texts, seen, asked = corrupted(program, seed, chosen=1.0, masked=0.5, replaced=0.5)
    special = (texts == 0) | (texts == PAD)
    assert torch.equal(seen[special], texts[special])
    assert (asked[special] == -100).all()
    assert torch.equal(asked[~special], texts[~special])
    words = seen[~special & (seen != MASK)]
    assert torch.equal(words.unique(), torch.arange(1, 21))


def test_attention_agrees_with_the_one_in_pytorch(program: Program, seed: int) -> None:
    q, k, v = 2 * torch.randn(3, 2, 3, 7, 5, generator=torch.Generator().manual_seed(seed))
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[0, 4:], padding[1, 2] = True, True
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=~padding[:, None, None, :])
    torch.testing.assert_close(program.call("attend", q, k, v, padding), expected, rtol=1e-4, atol=1e-5)


def test_padding_leaves_no_trace(program: Program, seed: int) -> None:
    model, texts = program.build(seed=seed), grammar.corpus(9, seed)
    padded = F.pad(texts, (0, 4), value=PAD)
    found = program.predict(model, padded)[:, : texts.size(1)]
    torch.testing.assert_close(found, program.predict(model, texts), atol=1e-4, rtol=1e-3)


def test_every_place_hears_of_every_other(program: Program, seed: int) -> None:
    model, texts = program.build(seed=seed), grammar.corpus(5, seed)
    base = program.predict(model, texts)
    for changed in range(texts.size(1)):
        other = texts.clone()
        other[:, changed] = (other[:, changed] + 3) % 21
        assert (program.predict(model, other) - base).abs().amax(dim=(0, 2)).min() > 1e-5
    turned = texts.clone()
    turned[:, [2, 6]] = texts[:, [6, 2]]
    assert (program.predict(model, turned) - base)[:, 0].abs().max() > 1e-5


def expected_logits(program: Program, state: dict[str, Tensor], texts: Tensor) -> Tensor:
    """The same layers by PyTorch's own operations; all shifts are taken as zero."""
    cfg = program.config()
    C, H, J = cfg["channels"], cfg["heads"], cfg["inner"]

    def of(*shape: int) -> list[Tensor]:
        return [v for v in state.values() if tuple(v.shape) == shape]

    x = of(23, C)[0][texts] + of(cfg["context"], C)[0][: texts.size(1)]
    for (wide, out), up, down in zip(projections(state, C), of(J, C), of(C, J), strict=True):
        q, k, v = (F.layer_norm(x, (C,)) @ wide.T).unflatten(-1, (3, H, C // H)).permute(2, 0, 3, 1, 4)
        x = x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2) @ out.T
        x = x + F.gelu(F.layer_norm(x, (C,)) @ up.T) @ down.T
    return F.layer_norm(x, (C,)) @ of(21, C)[0].T


def test_answers_are_those_of_the_same_layers_put_together_by_hand(program: Program, seed: int) -> None:
    model, texts = program.build(seed=seed, init_std=0.3), grammar.corpus(5, seed)
    state = program.state(model)
    shifts = {n: v for n, v in state.items() if v.dim() == 1 and not (v == 1).all()}
    program.load_state(model, {n: torch.zeros_like(v) for n, v in shifts.items()})
    expected = expected_logits(program, state, texts).log_softmax(dim=-1)
    torch.testing.assert_close(program.predict(model, texts), expected, atol=2e-2, rtol=1e-2)


def test_the_loss_is_over_what_is_asked_for(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    _, seen, asked = corrupted(program, seed)
    seen, asked = seen[:40], asked[:40]
    answers, chosen = program.predict(model, seen), asked != -100
    expected = -answers[chosen].gather(1, asked[chosen][:, None]).mean()
    assert float(program.call("loss", model, seen, asked)) == pytest.approx(float(expected), rel=1e-4)


def test_a_fresh_model_knows_nothing_yet(program: Program, seed: int) -> None:
    model = program.build(seed=seed, init_std=0.02)
    answers = program.predict(model, grammar.corpus(40, seed))
    assert float(-answers.mean()) == pytest.approx(math.log(21), abs=0.1)
    torch.testing.assert_close(answers.exp().sum(dim=-1), torch.ones(40, 14))


def test_weights_start_at_their_scale(program: Program, seed: int) -> None:
    model = program.build(seed=seed, init_std=0.3)
    for name, value in program.state(model).items():
        if value.dim() > 1:
            assert float(value.std()) == pytest.approx(0.3, rel=0.15), name


def test_the_trained_parameters_are_the_whole_model(program: Program, seed: int) -> None:
    cfg, model = program.config(), program.build(seed=seed)
    C, J = cfg["channels"], cfg["inner"]
    block = 3 * C * C + 3 * C + C * C + C + 2 * C * J + J + C + 4 * C
    expected = 23 * C + cfg["context"] * C + cfg["layers"] * block + 2 * C + 21 * C + 21
    state = program.state(model)
    assert sum(state[name].numel() for name in program.parameters(model)) == expected


def test_batches_are_padded_and_drawn_anew(program: Program, seed: int) -> None:
    corpus = grammar.corpus(300, seed)
    cfg = settings(program, batch=7, chosen=0.0, longest_padding=3)
    stream = program.call("batches", corpus, cfg, seeded(program, seed), keep=True)
    known, widths, rows = {tuple(text) for text in corpus.tolist()}, set(), set()
    for _ in range(30):
        seen, asked = program.call_method(stream, "__next__")
        widths.add(seen.size(1))
        assert (seen[:, 14:] == PAD).all()
        assert (asked == -100).all()
        rows |= {tuple(row) for row in seen[:, :14].tolist()}
    assert rows <= known
    assert len(rows) > 80
    assert widths == {14, 15, 16, 17}


def test_the_rate_climbs_to_its_peak_and_falls_along_half_a_cosine(program: Program) -> None:
    cfg = settings(program, steps=25, warmup=5, peak_lr=0.4)
    found = [program.call("learning_rate", step, cfg) for step in range(25)]
    expected = [0.08, 0.16, 0.24, 0.32, 0.4] + [0.2 * (1 + math.cos(math.pi * k / 20)) for k in range(20)]
    assert found == pytest.approx(expected, rel=1e-6)


def test_updates_are_those_of_torch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "peak_lr": 0.01, "weight_decay": 0.3, "max_grad_norm": 0.05}
    model, handle = program.build(seed=seed, **cfg), settings(program, **cfg)
    program.watch_gradients(model, True)
    state = program.state(model)
    params = {n: torch.nn.Parameter(state[n]) for n in program.parameters(model)}
    oracle = torch.optim.AdamW(params.values(), lr=0.01, weight_decay=0.3)
    run = program.train(model, grammar.corpus(ROWS, seed), seed, **cfg)
    rates = [float(program.call("learning_rate", step, handle)) for step in range(4)]
    follow(program, model, run, oracle, params, rates, max_norm=0.05)
    after = program.state(model)
    for name, parameter in params.items():
        move, due = (after[name] - state[name]).flatten(), (parameter.detach() - state[name]).flatten()
        assert (move - due).norm() <= 0.05 * due.norm() + 1e-6, name


def test_the_gradient_is_the_slope_of_the_reported_loss(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    found, length = slope_of_report(program, model, grammar.corpus(ROWS, seed), seed, cfg, same_draws=True)
    assert found == pytest.approx(length, rel=0.05)


def test_every_update_sees_another_batch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    assert len(set(program.train(model, grammar.corpus(ROWS, seed), seed, **cfg).next(4))) == 4


def test_a_gradient_belongs_to_this_batch_only(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "peak_lr": 0.0, "batch": 300, "steps": 20}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, grammar.corpus(1, seed), seed, **cfg)
    sizes = []
    for _ in range(6):
        run.next()
        sizes.append(torch.cat([g.flatten() for g in program.gradients(model).values()]).norm())
    assert max(sizes) < 1.6 * min(sizes)


def test_every_parameter_moves(program: Program, task: Task, seed: int) -> None:
    before = program.state(program.build(seed=seed, **task.small))
    model, _ = trained(program, task, seed, weight_decay=0.0)
    after = program.state(model)
    assert all(not torch.equal(after[name], before[name]) for name in program.parameters(model))


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model, texts = program.build(seed=seed), grammar.corpus(7, seed)
    alone = torch.cat([program.predict(model, row[None]) for row in texts])
    torch.testing.assert_close(program.predict(model, texts), alone, atol=1e-4, rtol=1e-3)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    before, texts = program.state(model), grammar.corpus(7, seed)
    first = program.predict(model, texts)
    program.train_mode(model, True)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, texts))
    assert all(torch.equal(before[name], value) for name, value in program.state(model).items())


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    first, second = (trained(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_it_learns_more_than_frequencies(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(70)
    assert 0.5 <= task.measure(program, model, data.held_out).curve <= 1.1
