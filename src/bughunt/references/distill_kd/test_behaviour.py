"""What a right `distill-kd` does, however it is written."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs
from bughunt.references.distill_kd.task import teacher
from bughunt.task import Model, Program, Task, Value

SMALL = {"steps": 8, "labelled": 7, "unlabelled": 16}
WHOLE = {**SMALL, "labelled": 1000, "unlabelled": 1000, "last_lr": 1.0}  # every update sees every row


def rows(seed: int, few: int = 20, many: int = 45) -> Value:
    return {
        **glyphs(few, seed),
        "unlabelled": glyphs(many, seed + 1)["images"],
        "teacher": dict(teacher(seed)),
    }


def trained(program: Program, seed: int, **config: Value) -> tuple[Model, Value]:
    config = {**SMALL, **config}
    model, data = program.build(seed=seed, **config), rows(seed)
    program.train(model, data, seed, **config).next(config["steps"])
    return model, data


def pixels(images: Tensor) -> Tensor:
    return (images.flatten(1).float() / 255 - 0.4) / 0.2


def thinks(saved: dict[str, Tensor], images: Tensor) -> Tensor:
    """The scores of the saved teacher, by its running statistics and with nothing dropped."""
    x = F.linear(pixels(images), saved["inner.weight"], saved["inner.bias"])
    statistics = saved["norm.running_mean"], saved["norm.running_var"]
    x = F.batch_norm(x, *statistics, saved["norm.weight"], saved["norm.bias"])
    return F.linear(torch.relu(x), saved["head.weight"], saved["head.bias"])


def softened(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Temperature squared times the divergence from the teacher to the student, entry by entry."""
    p, q = (teacher / temperature).softmax(dim=1), (student / temperature).softmax(dim=1)
    return temperature**2 * (p * (p / q).log()).sum() / len(p)


def draw(seed: int, *shapes: tuple[int, int]) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("temperature", [1.0, 2.5, 6.0])
def test_the_distance_is_that_of_the_softened_answers(
    program: Program, seed: int, temperature: float
) -> None:
    student, wise = draw(seed, (7, 10), (7, 10))
    found = program.call("distillation", 2 * student, 3 * wise, temperature)
    torch.testing.assert_close(found, softened(2 * student, 3 * wise, temperature))


def test_equal_answers_are_no_distance_apart(program: Program, seed: int) -> None:
    (scores,) = draw(seed, (7, 10))
    assert program.call("distillation", scores, scores + 5, 3.0).item() == pytest.approx(0.0, abs=1e-9)


def test_the_pull_is_the_difference_of_the_softened_answers(program: Program, seed: int) -> None:
    student, wise = draw(seed, (6, 10), (6, 10))
    handle = program.call("torch.clone", student, keep=True)
    program.call_method(handle, "requires_grad_", keep=True)
    loss = program.call("distillation", handle, wise, 3.0, keep=True)
    (gradient,) = program.call("torch.autograd.grad", [loss], [handle])
    expected = 3.0 / 6 * ((student / 3).softmax(dim=1) - (wise / 3).softmax(dim=1))
    torch.testing.assert_close(gradient, expected)


def test_large_scores_stay_finite(program: Program) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0], [0.0, 1e4, 5.0]])
    found = program.call("distillation", student, student.flip(0), 2.0)
    assert found.isfinite()
    assert found.item() > 1e4
    assert program.call("distillation", student, student, 2.0).item() == pytest.approx(0.0)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_labels_speak_for_the_first_rows_and_the_teacher_for_the_rest(
    program: Program, seed: int, share: float
) -> None:
    student, wise = draw(seed, (11, 10), (7, 10))
    labels = torch.randint(10, (4,), generator=torch.Generator().manual_seed(seed))
    cfg = program.call("Config", keep=True, share=share, temperature=2.0)
    found = program.call("total_loss", student, labels, wise, cfg)
    hard = F.cross_entropy(student[:4], labels)
    expected = (1 - share) * hard + share * softened(student[4:], wise, 2.0)
    torch.testing.assert_close(found, expected)


def test_the_teacher_answers_as_it_was_saved(program: Program, seed: int) -> None:
    saved, images = dict(teacher(seed)), glyphs(30, seed)["images"]
    cfg = program.call("Config", keep=True)
    wise = program.call("make_teacher", saved, cfg, keep=True)
    before = program.state(wise)
    for noise in (1, 2):
        program.seed(noise)
        found = program.call("opinions", wise, images)
        torch.testing.assert_close(found, thinks(saved, images), atol=1e-4, rtol=1e-4)
    one = program.call("opinions", wise, images[:1])
    torch.testing.assert_close(one, thinks(saved, images[:1]), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in program.state(wise).items())
    assert not found.requires_grad


def scores_in_training(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """What a fresh student answers while it is trained, from the shapes and order of its weights."""
    weights = [value for value in state.values() if value.dim() == 2]
    x = pixels(images) @ weights[0].T  # a bias would be normalised away
    x = torch.relu((x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-5).sqrt())
    biases = [state[name] for name in state if name.endswith("bias") and state[name].dim() == 1]
    return F.linear(torch.relu(F.linear(x, weights[1], biases[-2])), weights[2], biases[-1])


def test_the_first_loss_is_that_of_both_teachers_and_labels(program: Program, seed: int) -> None:
    data, config = rows(seed), {**WHOLE, "lr": 0.0}
    model = program.build(seed=seed, **config)
    state = program.state(model)
    student = scores_in_training(state, torch.cat([data["images"], data["unlabelled"]]))
    hard = F.cross_entropy(student[:20], data["labels"])
    soft = softened(student[20:], thinks(data["teacher"], data["unlabelled"]), 3.0)
    run = program.train(model, data, seed, **config)
    for _ in range(2):
        program.seed(seed + 1)
        assert run.next()[0] == pytest.approx((0.3 * hard + 0.7 * soft).item(), rel=1e-3)


def test_gradients_are_those_of_the_reported_loss(program: Program, seed: int) -> None:
    data, config = rows(seed), {**WHOLE, "lr": 0.0}
    model = program.build(seed=seed, **config)
    state = program.state(model)
    program.load_state(model, {n: 0 * v for n, v in state.items() if n.endswith("bias")})
    shapes = ((18, 144), (18, 18), (10, 18))
    found = [next(value for value in state.values() if value.shape == shape) for shape in shapes]
    inner, middle, head = (value.clone().requires_grad_() for value in found)
    x = pixels(torch.cat([data["images"], data["unlabelled"]]))
    x = F.batch_norm(F.linear(x, inner), None, None, training=True).relu()
    student = F.linear(F.linear(x, middle).relu(), head)
    wise = thinks(data["teacher"], data["unlabelled"])
    loss = 0.3 * F.cross_entropy(student[:20], data["labels"]) + 0.7 * softened(student[20:], wise, 3.0)
    loss.backward()
    program.watch_gradients(model, True)
    assert program.train(model, data, seed, **config).next()[0] == pytest.approx(loss.item(), rel=1e-3)
    for weight in (inner, middle, head):
        (gradient,) = [g for g in program.gradients(model).values() if g.shape == weight.shape]
        assert (gradient - weight.grad).norm() <= 1e-3 * weight.grad.norm()


def test_the_head_starts_small_and_unlike(program: Program, seed: int) -> None:
    state = program.state(program.build(seed=seed))
    (head,) = [value for value in state.values() if value.shape == (10, 18)]
    assert 0 < head.std() < 0.2
    assert head.unique().numel() > 0.9 * head.numel()


def test_a_fresh_model_has_no_opinion(program: Program, seed: int) -> None:
    model = program.build(seed=seed, share=0.0)
    first = program.train(model, rows(seed), seed, share=0.0).next()[0]
    assert first == pytest.approx(math.log(10), abs=0.15)


def test_every_parameter_moves(program: Program, seed: int) -> None:
    before = program.state(program.build(seed=seed, **SMALL))
    model, _ = trained(program, seed)
    for name, value in program.state(model).items():
        assert (value != before[name]).any(), name


def test_the_running_statistics_follow_what_the_student_sees(program: Program, seed: int) -> None:
    data, config = rows(seed), {**WHOLE, "lr": 0.0, "steps": 60}
    model = program.build(seed=seed, **config)
    program.train(model, data, seed, **config).next(60)
    images = torch.cat([data["images"], data["unlabelled"]])
    expected = scores_in_training(program.state(model), images).log_softmax(dim=1)
    found = program.predict(model, images)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_the_teacher_and_the_data_stay_as_they_were(program: Program, seed: int) -> None:
    data = rows(seed)
    saved = {name: program.call("torch.clone", value, keep=True) for name, value in data["teacher"].items()}
    model = program.build(seed=seed, **SMALL)
    program.train(model, {**data, "teacher": saved}, seed, **SMALL).next(8)
    for name, handle in saved.items():
        assert torch.equal(program.call("torch.clone", handle), data["teacher"][name]), name


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    config = {**WHOLE, "lr": 0.0}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, rows(seed), seed, **config)
    run.next()
    first = program.gradients(model)
    run.next(2)
    third = program.gradients(model)
    assert set(first) == set(program.parameters(model))
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, third[name], atol=1e-4, rtol=1e-3)


def test_updates_follow_the_gradients(program: Program, seed: int) -> None:
    config = {**WHOLE, "lr": 0.01, "weight_decay": 0.1}
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    run = program.train(model, rows(seed), seed, **config)
    names, start = program.parameters(model), program.state(model)
    leaves = {name: torch.nn.Parameter(start[name]) for name in names}
    oracle = torch.optim.AdamW(list(leaves.values()), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        run.next()
        gradients, after = program.gradients(model), program.state(model)
        for name, leaf in leaves.items():
            leaf.grad = gradients[name].clone()
        oracle.step()
        for name, leaf in leaves.items():
            torch.testing.assert_close(after[name], leaf.detach(), atol=1e-5, rtol=1e-4)


def test_the_rate_falls_along_half_a_cosine(program: Program) -> None:
    cfg = program.call("Config", keep=True, steps=100, lr=0.5, last_lr=0.2)
    rates = [program.call("learning_rate", step, cfg) for step in (0, 25, 50, 100)]
    assert rates == pytest.approx([0.5, 0.3 + 0.2 * math.sqrt(0.5), 0.3, 0.1])


def generator(program: Program, seed: int) -> Model:
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    return rng


def test_one_pass_shows_every_row_once(program: Program, seed: int) -> None:
    iterator = program.call("batches", torch.zeros(23, 12, 12), 5, generator(program, seed), keep=True)
    passes = []
    for _ in range(2):
        passes.append(torch.cat([program.call_method(iterator, "__next__") for _ in range(5)]))
        assert torch.equal(passes[-1].sort().values, torch.arange(23))
    assert not torch.equal(*passes)


def test_the_same_seed_gives_the_same_curve(program: Program, seed: int) -> None:
    curves = []
    for rng in (seed, seed, seed + 1):
        model = program.build(seed=seed, **SMALL)
        curves.append(program.train(model, rows(seed), rng, **SMALL).next(100))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert len(curves[0]) == 8


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    program.train_mode(model, True)
    before = program.state(model)
    first = program.predict(model, data["images"])
    program.train_mode(model, True)
    assert torch.equal(first, program.predict(model, data["images"]))
    assert all(torch.equal(value, before[name]) for name, value in program.state(model).items())


def test_measuring_between_updates_changes_nothing(program: Program, seed: int) -> None:
    losses = []
    for measure in (False, True):
        model, data = program.build(seed=seed, **SMALL), rows(seed)
        run = program.train(model, data, seed, **SMALL)
        losses.append([])
        for _ in range(5):
            losses[-1] += run.next()
            if measure:
                program.predict(model, data["images"])
    assert losses[0] == losses[1]


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    model, data = trained(program, seed)
    together = program.predict(model, data["images"])
    alone = torch.cat([program.predict(model, data["images"][i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together[:5], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.exp().sum(dim=1), torch.ones(20))


def test_it_reads_glyphs_that_it_has_not_seen(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
