"""What a right `trainer-loop` does, however it is written."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs
from bughunt.task import Model, Program, Task

ROWS = 90  # 72 to train on and 18 to validate on; neither is a multiple of the batch
SMALL = {"steps": 8, "batch": 16, "features": 24, "evaluate_every": 1000}
WHOLE = {**SMALL, "batch": 1000, "dropout": 0.0}  # every update sees every training row


def generator(program: Program, seed: int) -> Model:
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    return rng


def passes(program: Program, rows: int, count: int, batch: int, seed: int) -> list[list[Tensor]]:
    """The rows of `count` passes, batch by batch; the pixels of a row all equal its own label."""
    labels = torch.arange(rows).roll(1)
    images = labels.to(torch.float32).reshape(-1, 1, 1).expand(-1, 12, 12).clone()
    cfg = program.call("Config", keep=True, batch=batch)
    rng = generator(program, seed)
    found = []
    for _ in range(count):
        one_pass = program.call("batches", images, labels, cfg, rng, keep=True)
        iterator = program.call_method(one_pass, "__iter__", keep=True)
        found.append([])
        for _ in range(math.ceil(rows / batch)):
            x, y = program.call_method(iterator, "__next__")
            assert torch.equal(x.float().mean(dim=(1, 2)), y.float())
            found[-1].append((y + 1) % rows)
    return found


def trained(program: Program, seed: int, steps: int = 8) -> tuple[Model, dict[str, Tensor]]:
    data = glyphs(ROWS, seed)
    model = program.build(seed=seed, **SMALL)
    program.train(model, data, seed, **SMALL).next(steps)
    return model, data


def same_state(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_fresh_model_has_no_opinion(program: Program, task: Task, seed: int) -> None:
    model = program.build(seed=seed)
    first = program.train(model, task.data(seed).train, seed).next()[0]
    assert abs(first - math.log(10)) <= 0.15


def test_hidden_weights_start_on_the_scale_of_their_inputs(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    state = program.state(model)
    matrices = [state[n] for n in program.parameters(model) if state[n].dim() == 2]
    hidden = [w for w in matrices if w.size(0) != 10]
    assert len(hidden) == 2
    for weight in hidden:
        assert weight.std().item() == pytest.approx(math.sqrt(2 / weight.size(1)), rel=0.1)


def test_it_overfits_one_small_batch(program: Program, seed: int) -> None:
    data = glyphs(20, seed)
    model = program.build(seed=seed, **WHOLE)
    losses = program.train(model, data, seed, **{**WHOLE, "steps": 60}).next(60)
    assert losses[-1] <= 0.1
    right = program.predict(model, data["images"]).argmax(dim=1) == data["labels"]
    assert right.double().mean().item() >= 0.8  # the share of the rows that it was shown


def test_every_parameter_moves(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    before = program.state(model)
    program.train(model, glyphs(ROWS, seed), seed, **SMALL, weight_decay=0.0).next(3)
    after = program.state(model)
    assert all((after[n] - before[n]).abs().max() > 1e-5 for n in program.parameters(model))


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    together = program.predict(model, data["images"])
    alone = torch.cat([program.predict(model, data["images"][i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together[:5], alone, atol=1e-5, rtol=1e-4)


def test_predictions_are_log_probabilities(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    answers = program.predict(model, data["images"])
    assert answers.shape == (ROWS, 10)
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(ROWS))


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    program.train_mode(model, True)
    before = program.state(model)
    first = program.predict(model, data["images"])
    program.seed(seed + 1)
    program.train_mode(model, True)
    assert torch.equal(first, program.predict(model, data["images"]))
    assert same_state(before, program.state(model))


def test_evaluation_leaves_the_model_unchanged(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    before = program.state(model)
    program.train_mode(model, True)
    cfg = program.call("Config", keep=True, eval_batch=16)
    program.call("evaluate", model, data["images"], data["labels"], cfg)
    assert same_state(before, program.state(model))


def test_measuring_between_updates_changes_nothing(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    losses = []
    for measure in (False, True):
        model = program.build(seed=seed, **SMALL)
        run = program.train(model, data, seed, **SMALL)
        losses.append([])
        for step in range(6):
            program.seed(step)
            losses[-1] += run.next()
            if measure:
                program.predict(model, data["images"])
    assert losses[0] == losses[1]


def test_evaluating_inside_the_run_changes_nothing(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    losses = []
    for every in (1000, 1):
        model = program.build(seed=seed, **SMALL)
        cfg = {**SMALL, "evaluate_every": every}
        losses.append(program.train(model, data, seed, **cfg).next(8))
    assert losses[0] == losses[1]


def test_the_same_seed_gives_the_same_curve(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    curves = []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, data, rng, **SMALL).next(8))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_batches_cover_each_row_once_with_its_own_label(program: Program, seed: int) -> None:
    (labels,) = passes(program, rows=23, count=1, batch=5, seed=seed)
    assert torch.equal(torch.cat(labels).sort().values, torch.arange(23))
    assert max(len(y) for y in labels) == 5


def test_every_pass_has_its_own_order(program: Program, seed: int) -> None:
    first, second = passes(program, rows=23, count=2, batch=5, seed=seed)
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert not torch.equal(torch.cat(first), torch.arange(23))
    together = [set(y.tolist()) for y in first]
    assert any(set(y.tolist()) not in together for y in second)


def test_a_pass_shows_every_training_row_once(program: Program, seed: int) -> None:
    rows = 30
    images = torch.zeros(rows, 144)
    images[torch.arange(rows), torch.arange(rows)] = 255.0  # row r lights pixel r, none lights the last
    data = {"images": images.reshape(rows, 12, 12), "labels": torch.arange(rows) % 10}
    cfg = {**SMALL, "batch": 5, "dropout": 0.0, "lr": 0.0, "steps": 10}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, data, seed, **cfg)
    seen = torch.zeros(2, rows)
    for step in range(10):
        run.next()
        (first,) = [g for g in program.gradients(model).values() if g.dim() == 2 and g.size(1) == 144]
        apart = (first - first[:, -1:]).abs().sum(dim=0)[:rows]
        seen[step // 5] += (apart > 1e-3 * apart.max()).float()
    assert torch.equal(seen[0], seen[1])
    assert seen[0].max() == 1
    assert seen[0].sum() == 24


def test_training_and_validation_rows_never_overlap(program: Program, seed: int) -> None:
    labels = torch.arange(50)
    images = labels.float().reshape(-1, 1, 1).expand(-1, 12, 12).clone()
    cfg = program.call("Config", keep=True, validation=0.2)
    kept, held = program.call("split", images, labels, cfg, generator(program, seed))
    assert len(held[1]) == 10
    assert torch.equal(torch.cat([kept[1], held[1]]).sort().values, labels)
    for x, y in (kept, held):
        assert torch.equal(x.mean(dim=(1, 2)), y.float())
    assert not torch.equal(held[1].sort().values, labels[:10])
    assert not torch.equal(held[1].sort().values, labels[-10:])


def test_rows_held_out_have_no_say_in_the_scale(program: Program, seed: int) -> None:
    data = glyphs(15, seed)
    probe = glyphs(4, seed + 1)["images"]

    def answers(images: Tensor) -> Tensor:
        model = program.build(seed=seed, **WHOLE)
        rows = {"images": images, "labels": data["labels"]}
        program.train(model, rows, seed, **WHOLE, lr=0.0).next()
        return program.predict(model, probe)

    plain = answers(data["images"])
    heard = 0
    for row in range(15):
        images = data["images"].clone()
        images[row] = 255 - images[row] // 2
        heard += int((answers(images) - plain).abs().max() > 1e-6)
    assert heard == 12


def test_the_unit_of_the_pixels_does_not_matter(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)
    losses, answers = [], []
    for scale, shift in ((1.0, 0.0), (0.02, 3.0)):
        images = data["images"].float() * scale + shift
        model = program.build(seed=seed, **SMALL)
        rows = {"images": images, "labels": data["labels"]}
        losses.append(program.train(model, rows, seed, **SMALL).next(4))
        answers.append(program.predict(model, images))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    torch.testing.assert_close(answers[0], answers[1], atol=2e-3, rtol=2e-3)


def test_the_network_is_not_linear(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    left, right = data["images"][:20].float(), data["images"][20:40].float()
    ends = program.predict(model, torch.cat([left, right, (left + right) / 2]))
    scores = ends - ends.mean(dim=1, keepdim=True)  # an affine network would keep the middle
    one, other, middle = scores.split(20)
    assert ((one + other) / 2 - middle).abs().max() > 1e-2


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **WHOLE)
    program.watch_gradients(model, True)
    run = program.train(model, glyphs(ROWS, seed), seed, **WHOLE, lr=0.0, max_norm=1e9)
    run.next()
    first = program.gradients(model)
    run.next(2)
    third = program.gradients(model)
    assert set(first) == set(program.parameters(model))
    for name in first:
        torch.testing.assert_close(first[name], third[name], atol=1e-5, rtol=1e-3)


def matrices(state: dict[str, Tensor], data: dict[str, Tensor]) -> list[Tensor]:
    """The matrices of a fresh network, with the gradients of the mean loss over all rows."""
    shapes = ((24, 144), (24, 24), (10, 24))
    found = [next(value for value in state.values() if value.shape == shape) for shape in shapes]
    first, second, head = (value.clone().requires_grad_() for value in found)
    x = data["images"].flatten(1).float()
    x = F.batch_norm(F.linear((x - x.mean()) / x.std(), first), None, None, training=True).relu()
    x = F.batch_norm(F.linear(x, second), None, None, training=True).relu()
    F.cross_entropy(F.linear(x, head), data["labels"]).backward()
    return [first, second, head]


@pytest.mark.parametrize("max_norm", [0.05, 1e6], ids=["clipped", "free"])
def test_updates_follow_the_gradients(program: Program, seed: int, max_norm: float) -> None:
    cfg = {**WHOLE, "lr": 0.05, "momentum": 0.8, "weight_decay": 0.01, "max_norm": max_norm}
    cfg["validation"] = 0.0
    model, data = program.build(seed=seed, **cfg), glyphs(ROWS, seed)
    program.watch_gradients(model, True)
    run = program.train(model, data, seed, **cfg)
    names = program.parameters(model)
    before = program.state(model)
    expected = [torch.nn.Parameter(before[name]) for name in names]
    oracle = torch.optim.SGD(expected, lr=0.05, momentum=0.8, weight_decay=0.01)
    for step in range(3):
        run.next()
        gradients = program.gradients(model)
        if step == 0:
            for weight in matrices(before, data):
                (found,) = [g for g in gradients.values() if g.shape == weight.shape]
                assert (found - weight.grad).norm() <= 1e-3 * weight.grad.norm()
        for parameter, name in zip(expected, names, strict=True):
            parameter.grad = gradients[name]
        torch.nn.utils.clip_grad_norm_(expected, max_norm)
        oracle.step()
        after = program.state(model)
        for parameter, name in zip(expected, names, strict=True):
            torch.testing.assert_close(after[name], parameter.detach(), atol=1e-5, rtol=1e-4)


def test_dropout_is_on_while_training(program: Program, seed: int) -> None:
    data = glyphs(ROWS, seed)

    def second_loss(dropout: float, noise: int) -> float:
        cfg = {**WHOLE, "dropout": dropout}
        model = program.build(seed=seed, **cfg)
        run = program.train(model, data, seed, **cfg)
        run.next()
        program.seed(noise)
        return run.next()[0]

    found = [second_loss(0.4, noise) for noise in range(4)]  # two may come close by chance
    assert max(found) - min(found) > 1e-4
    assert second_loss(0.0, 1) == second_loss(0.0, 2)


def test_the_moving_average_moves_slowly(program: Program, seed: int) -> None:
    slow = program.build(seed=seed, **SMALL)
    fast, _ = trained(program, seed + 1)
    before, target = program.state(slow), program.state(fast)
    for _ in range(2):
        program.call("update_average", slow, fast, 0.9)
    after = program.state(slow)
    parameters = program.parameters(slow)
    for name, value in after.items():
        mixed = 0.81 * before[name] + 0.19 * target[name]
        expected = mixed if name in parameters else target[name]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-4)
    assert same_state(target, program.state(fast))


@pytest.mark.parametrize("decay", [0.0, 1.0], ids=["the newest", "the oldest"])
def test_the_weights_kept_are_the_averaged_ones(program: Program, seed: int, decay: float) -> None:
    cfg = {**SMALL, "evaluate_every": 8, "decay": decay}
    model = program.build(seed=seed, **cfg)
    first = program.state(model)
    run = program.train(model, glyphs(ROWS, seed), seed, **cfg)
    run.next(8)
    last = program.state(model)
    run.next()
    kept = program.state(model)
    for name in program.parameters(model):
        expected = first[name] if decay == 1.0 else last[name]
        torch.testing.assert_close(kept[name], expected, atol=1e-6, rtol=1e-5)


def test_the_moving_average_looks_back_over_about_twenty_updates(program: Program, seed: int) -> None:
    cfg = {**SMALL, "evaluate_every": 8}
    model = program.build(seed=seed, **cfg)
    run, states = program.train(model, glyphs(ROWS, seed), seed, **cfg), [program.state(model)]
    for _ in range(8):
        run.next()
        states.append(program.state(model))
    run.next()
    kept, name = program.state(model), program.parameters(model)[0]

    def off(decay: float) -> float:
        slow = states[0][name]
        for fast in states[1:]:
            slow = decay * slow + (1 - decay) * fast[name]
        return float((slow - kept[name]).norm())

    assert min((0.8, 0.9, 0.95, 0.975, 0.99), key=off) == 0.95


def test_the_best_weights_are_restored(program: Program, task: Task, seed: int) -> None:
    noise = torch.Generator().manual_seed(seed)
    rows, unseen = glyphs(ROWS, seed), glyphs(300, seed + 1)
    for part in (rows, unseen):  # nothing to learn, so every update does harm
        part["labels"] = torch.randint(10, (len(part["labels"]),), generator=noise)
    cfg = {**WHOLE, "steps": 50, "evaluate_every": 1, "patience": 1000, "decay": 0.0}
    model = program.build(seed=seed, **cfg)
    run = program.train(model, rows, seed, **cfg)
    curve = []
    for _ in range(10):
        run.next(5)
        curve.append(task.measure(program, model, unseen).curve)
    assert run.next() == []
    kept = task.measure(program, model, unseen).curve
    assert kept <= min(curve) + 0.25 * (max(curve) - min(curve))


def test_the_run_ends_when_nothing_gets_better(program: Program, seed: int) -> None:
    rows = glyphs(ROWS, seed)
    rows["labels"] = torch.randint(10, (ROWS,), generator=torch.Generator().manual_seed(seed))
    cfg = {**WHOLE, "steps": 80, "evaluate_every": 2, "decay": 0.0}
    counts = {}
    for patience in (3, 1000):
        model = program.build(seed=seed, **cfg)
        run = program.train(model, rows, seed, **cfg, patience=patience)
        counts[patience] = len(run.next(100))
    assert 6 <= counts[3] < 80
    assert counts[1000] == 80


def test_patience_counts_evaluations_since_the_best_one(program: Program, seed: int) -> None:
    model = program.build(seed=seed, **SMALL)
    other, _ = trained(program, seed + 1)
    stopping = program.call("EarlyStopping", 2, keep=True)
    states, spent = [], []
    for loss in (3.0, 3.5, 2.0, 2.5, 2.2):
        program.call_method(stopping, "update", loss, model, keep=True)
        states.append(program.state(model))
        spent.append(bool(program.call_method(stopping, "exhausted")))
        program.load_state(model, {n: v + 1 for n, v in states[-1].items()})
    assert spent == [False, False, False, False, True]
    program.call_method(stopping, "restore", other, keep=True)
    assert same_state(states[2], program.state(other))


def test_the_metric_counts_every_row(program: Program, seed: int) -> None:
    model, _ = trained(program, seed)
    rows = glyphs(37, seed + 2)
    cfg = program.call("Config", keep=True, eval_batch=8)
    found = program.call("evaluate", model, rows["images"], rows["labels"], cfg)
    answers = program.predict(model, rows["images"])
    right = (answers.argmax(dim=1) == rows["labels"]).double().mean().item()
    assert found["accuracy"] == pytest.approx(right)
    assert found["loss"] == pytest.approx(F.nll_loss(answers, rows["labels"]).item(), rel=1e-4)


def test_it_reads_glyphs_that_it_has_not_seen(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
