"""What any correct detector on a grid does, whoever wrote it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.scenes import scenes
from bughunt.references.gradients import follow
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task

ROWS = 50
GRID = (5, 7)


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, scenes(ROWS, seed), seed, **config).next(100)


def settings(program: Program, **config: object) -> Model:
    return program.call("Config", keep=True, **config)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_boxes(seed: int, count: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    corner = 20 * torch.rand(count, 2, generator=rng)
    return torch.cat([corner, corner + 2 + 9 * torch.rand(count, 2, generator=rng)], dim=1)


def share(one: list[float], other: list[float]) -> float:
    """Intersection over union, counted by hand."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(across, 0.0) * max(down, 0.0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return shared / (sum(areas) - shared)


def as_answers(target: Tensor, classes: int = 3) -> Tensor:  # [B, 6, R, C] -> [B, 5 + K, R, C]
    """What a perfect network would say to be decoded into the boxes of these targets."""
    sure = torch.where(target[:, :1] > 0, 6.0, -6.0)
    kinds = F.one_hot(target[:, 5].long(), classes).movedim(-1, 1) * 5.0
    return torch.cat([sure, torch.logit(target[:, 1:3], eps=1e-6), target[:, 3:5], kinds], dim=1)


def test_overlaps_equal_a_loop_over_pairs(program: Program, seed: int) -> None:
    one, other = random_boxes(seed, 7), random_boxes(seed + 1, 5)
    expected = torch.tensor([[share(a, b) for b in other.tolist()] for a in one.tolist()])
    torch.testing.assert_close(program.call("iou", one, other), expected, atol=1e-5, rtol=1e-4)
    assert program.call("iou", one, other[:0]).shape == (7, 0)


def test_boxes_overlap_themselves_wholly_and_others_equally_both_ways(program: Program, seed: int) -> None:
    one = random_boxes(seed, 6)
    found = program.call("iou", one, one)
    torch.testing.assert_close(found.diagonal(), torch.ones(6))
    torch.testing.assert_close(found, found.T)
    apart = torch.tensor([[0.0, 0.0, 2.0, 2.0], [3.0, 3.0, 5.0, 6.0], [2.0, 0.0, 4.0, 2.0]])
    assert torch.equal(program.call("iou", apart, apart), torch.eye(3))


def test_the_cell_of_the_centre_is_told_what_it_holds(program: Program) -> None:
    boxes = torch.tensor([[[8.0, 2.0, 17.0, 7.0], [20.0, 11.0, 26.0, 19.0]]])
    cfg = settings(program, typical=5.0)
    found = program.call("encode", boxes, torch.tensor([[2, 0]]), GRID, cfg)
    assert found.shape == (1, 6, *GRID)
    expected = torch.zeros(1, 6, *GRID)
    expected[0, :, 1, 3] = torch.tensor([1, 0.125, 0.125, math.log(9 / 5), 0.0, 2])
    expected[0, :, 3, 5] = torch.tensor([1, 0.75, 0.75, math.log(6 / 5), math.log(8 / 5), 0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_padding_leaves_no_trace(program: Program, seed: int) -> None:
    given = scenes(20, seed)
    cfg = settings(program)
    found = program.call("encode", given["boxes"], given["labels"], GRID, cfg)
    assert torch.equal(found[:, 0].sum(dim=(1, 2)), (given["labels"] >= 0).sum(dim=1).float())
    nobody = program.call("encode", given["boxes"], torch.full((20, 3), -1), GRID, cfg)
    assert not nobody.any()


def test_what_is_encoded_can_be_decoded(program: Program, seed: int) -> None:
    given = scenes(20, seed)
    cfg = settings(program)
    target = program.call("encode", given["boxes"], given["labels"], GRID, cfg)
    found = program.call("decode", as_answers(target), cfg)
    assert len(found) == 20
    for detections, boxes, labels in zip(found, given["boxes"], given["labels"], strict=True):
        real = torch.cat([boxes[labels >= 0], labels[labels >= 0, None].float()], dim=1)
        mine = detections[:, [0, 1, 2, 3, 5]]
        mine, real = (one[(29 * one[:, 0] + one[:, 1]).argsort()] for one in (mine, real))
        torch.testing.assert_close(mine, real, atol=1e-2, rtol=1e-3)
        torch.testing.assert_close(detections[:, 4], torch.full_like(detections[:, 4], 6.0).sigmoid())


def test_unsure_cells_are_not_heard(program: Program) -> None:
    raw = torch.zeros(1, 8, *GRID)
    raw[0, 0] = -torch.arange(35.0).reshape(GRID) / 10
    raw[0, 3:5] = -3.0
    found = program.call("decode", raw, settings(program, least_score=0.2))[0]
    sure = raw[0, 0].sigmoid().flatten()
    expected = sure[sure > 0.2].sort(descending=True).values
    torch.testing.assert_close(found[:, 4], expected)


def test_the_better_one_of_two_that_overlap_stays(program: Program) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 26, 10], [0, 1, 10, 11], [21, 0, 27, 9]])
    scores = torch.tensor([0.6, 0.9, 0.3, 0.8, 0.5])
    kinds = torch.tensor([1, 1, 0, 2, 0])
    kept = program.call("suppress", boxes, scores, kinds, 0.4)
    assert kept.tolist() == [1, 3, 4]
    assert program.call("suppress", boxes, scores, kinds, 0.95).tolist() == [1, 3, 0, 4, 2]
    assert program.call("suppress", boxes[:0], scores[:0], kinds[:0], 0.4).tolist() == []


def test_what_stays_would_stay_again(program: Program, seed: int) -> None:
    boxes = random_boxes(seed, 40)
    scores, kinds = draw(seed, 40).sigmoid(), torch.arange(40) % 3
    kept = program.call("suppress", boxes, scores, kinds, 0.3)
    assert torch.equal(scores[kept], scores[kept].sort(descending=True).values)
    again = program.call("suppress", boxes[kept], scores[kept], kinds[kept], 0.3)
    assert again.tolist() == list(range(len(kept)))
    for gone in set(range(40)) - set(kept.tolist()):
        rivals = [k for k in kept.tolist() if kinds[k] == kinds[gone] and scores[k] > scores[gone]]
        assert max(share(boxes[gone].tolist(), boxes[k].tolist()) for k in rivals) > 0.3


def test_mirrored_images_take_their_boxes_with_them(program: Program, seed: int) -> None:
    given = scenes(12, seed)
    chosen = torch.arange(12) % 3 == 0
    images, boxes = program.call("flip", given["images"], given["boxes"], chosen)
    assert torch.equal(images[~chosen], given["images"][~chosen])
    assert torch.equal(boxes[~chosen], given["boxes"][~chosen])
    for row in chosen.nonzero().flatten().tolist():
        for x in range(28):
            assert torch.equal(images[row, :, x], given["images"][row, :, 27 - x])
        for box, old in zip(boxes[row], given["boxes"][row], strict=True):
            if given["labels"][row, 0] >= 0 and old.any():
                assert box.tolist() == [28 - old[2], old[1], 28 - old[0], old[3]]


def test_precision_over_recall_on_cases_counted_by_hand(program: Program) -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [10.0, 0, 14, 4]])
    off = torch.tensor([[20.0, 10, 24, 14]])

    def hear(*rows: tuple[Tensor, float]) -> Tensor:
        return torch.stack([torch.cat([box, torch.tensor([score])]) for box, score in rows])

    def precision(found: list[Tensor], truth: list[Tensor], least: float = 0.5) -> float:
        return float(program.call("average_precision", found, truth, least))

    nothing = torch.zeros(0, 5)
    assert precision([hear((boxes[0], 0.9), (boxes[1], 0.8))], [boxes]) == pytest.approx(1.0)
    assert precision([hear((boxes[0], 0.9))], [boxes]) == pytest.approx(0.5)
    assert precision([hear((off[0], 0.9), (boxes[0], 0.8))], [boxes]) == pytest.approx(0.25)
    assert precision([hear((off[0], 0.9), (boxes[0], 0.8), (boxes[1], 0.7))], [boxes]) == (
        pytest.approx(2 / 3)
    )
    assert precision([hear((boxes[0], 0.9), (boxes[0] + 0.1, 0.8), (boxes[1], 0.7))], [boxes]) == (
        pytest.approx(0.5 + 0.5 * 2 / 3)
    )
    assert precision([hear((off[0], 0.2), (boxes[1], 0.3)), hear((boxes[0], 0.6))], [boxes, boxes]) == (
        pytest.approx(0.5)
    )
    assert precision([nothing, hear((off[0], 0.9), (boxes[0], 0.5))], [boxes[:0], boxes[:1]]) == (
        pytest.approx(0.5)
    )
    shifted = boxes[0] + torch.tensor([0.0, 0.0, 1.0, 0.0])
    assert precision([hear((shifted, 0.9))], [boxes[:1]], 0.75) == pytest.approx(1.0)
    assert precision([hear((shifted, 0.9))], [boxes[:1]], 0.85) == pytest.approx(0.0)


def test_the_loss_and_its_pull_equal_those_written_row_by_row(program: Program, seed: int) -> None:
    given = scenes(6, seed)
    cfg = settings(program, place_weight=2.0, size_weight=3.0, positive_weight=5.0)
    target = program.call("encode", given["boxes"], given["labels"], GRID, cfg)
    raw = program.call("torch.clone", draw(seed, 6, 8, *GRID), keep=True)
    program.call_method(raw, "requires_grad_", keep=True)
    oracle = draw(seed, 6, 8, *GRID).requires_grad_()
    total = torch.zeros(())
    for b in range(6):
        for r in range(5):
            for c in range(7):
                said, due = oracle[b, :, r, c], target[b, :, r, c]
                sure = F.binary_cross_entropy_with_logits(said[0], due[0])
                total = total + (5.0 if due[0] else 1.0) * sure
                if due[0]:
                    total = total + 2.0 * (said[1:3].sigmoid() - due[1:3]).square().sum()
                    total = total + 3.0 * (said[3:5] - due[3:5]).square().sum()
                    total = total - said[5:].log_softmax(dim=0)[int(due[5])]
    expected = total / target[:, 0].sum()
    expected.backward()
    found = program.call("loss", raw, target, cfg, keep=True)
    (pull,) = program.call("torch.autograd.grad", [found], [raw])
    assert float(program.call_method(found, "item")) == pytest.approx(float(expected), rel=1e-4)
    torch.testing.assert_close(pull, oracle.grad, atol=1e-5, rtol=1e-3)


def test_images_with_nothing_on_them_have_a_loss_too(program: Program) -> None:
    found = program.call("loss", torch.zeros(2, 8, *GRID), torch.zeros(2, 6, *GRID), settings(program))
    assert float(found) == pytest.approx(70 * math.log(2), rel=1e-4)


def test_a_fresh_model_knows_nothing_yet(program: Program, seed: int) -> None:
    model = program.build(seed=seed, prior=0.2)
    program.train_mode(model, True)
    raw = program.call_method(model, "__call__", scenes(ROWS, seed)["images"])
    assert raw.shape == (ROWS, 8, *GRID)
    assert float(raw[:, 0].sigmoid().mean()) == pytest.approx(0.2, abs=0.03)
    assert float(raw[:, 0].std()) <= 0.3
    assert raw[:, 1:].abs().max() <= 1.0


def head_of(state: dict[str, Tensor]) -> Tensor:
    """The rows that make answers of 30 channels, [8, 30], whether they are one layer or several."""
    rows = [value.flatten(1) for value in state.values() if value.dim() > 1 and value[0].numel() == 30]
    return torch.cat(rows)


def test_the_head_starts_small_and_unlike(program: Program, seed: int) -> None:
    state = program.state(program.build(seed=seed))
    head = head_of(state)
    assert head.shape == (8, 30)
    assert 0 < head.std() < 0.1
    assert head.unique().numel() > 0.9 * head.numel()


def test_answers_are_those_of_the_same_layers_put_together_by_hand(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    state = program.state(model)
    program.load_state(model, {n: torch.zeros_like(v) for n, v in state.items() if n.endswith("bias")})
    program.train_mode(model, False)
    x = draw(seed, 3, 1, 20, 28)
    found = program.call_method(model, "__call__", x[:, 0])
    for shape in ((14, 1, 3, 3), (22, 14, 3, 3), (30, 22, 3, 3)):
        (kernel,) = [value for value in state.values() if value.shape == shape]
        x = F.conv2d(x if shape[1] == 1 else F.max_pool2d(x, 2), kernel, padding=1)
        x = torch.relu(x / math.sqrt(1 + 1e-5))  # what a norm does that has not seen anything
    expected = torch.einsum("bchw,oc->bohw", x, head_of(state))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_an_answer_moves_with_what_it_is_about(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    program.train_mode(model, False)
    shape = draw(seed, 6, 7)
    images = torch.zeros(3, 40, 44)  # so large that the edges are far away
    images[0, 14:20, 14:21] = images[1, 14:20, 18:25] = images[2, 22:28, 14:21] = shape
    base, right, down = program.call_method(model, "__call__", images)
    torch.testing.assert_close(right[:, 2:8, 4:8], base[:, 2:8, 3:7], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(down[:, 4:8, 2:8], base[:, 2:6, 2:8], atol=1e-5, rtol=1e-3)
    assert base[:, 2:6, 3:7].std() > 1e-4


def test_the_learning_rate_climbs_and_falls(program: Program) -> None:
    cfg = settings(program, steps=20, rise=0.25, peak_lr=0.6)
    found = [program.call("learning_rate", step, cfg) for step in range(20)]
    expected = [0.1 * k for k in range(1, 6)] + [0.6 * (15 - k) / 15 for k in range(15)]
    assert found == pytest.approx(expected, rel=1e-5)


def test_updates_are_those_of_torch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "steps": 8, "peak_lr": 0.01}
    model = program.build(seed=seed, **cfg)
    handle = settings(program, **cfg)
    program.watch_gradients(model, True)
    state = program.state(model)
    params = {n: torch.nn.Parameter(state[n]) for n in program.parameters(model)}
    oracle = torch.optim.Adam(params.values(), lr=0.01)
    run = program.train(model, scenes(ROWS, seed), seed, **cfg)
    rates = [float(program.call("learning_rate", step, handle)) for step in range(4)]
    follow(program, model, run, oracle, params, rates)
    after = program.state(model)
    for name, parameter in params.items():
        torch.testing.assert_close(after[name], parameter.detach(), atol=1e-4, rtol=1e-3)


def test_the_gradient_is_the_slope_of_the_reported_loss(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    found, length = slope_of_report(program, model, scenes(ROWS, seed), seed, cfg, same_draws=True)
    assert found == pytest.approx(length, rel=0.05)


def test_every_update_sees_another_batch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "peak_lr": 0.0}
    model = program.build(seed=seed, **cfg)
    assert len(set(program.train(model, scenes(ROWS, seed), seed, **cfg).next(3))) == 3


def test_gradients_belong_to_one_batch(program: Program, task: Task, seed: int) -> None:
    cfg = {**task.small, "peak_lr": 0.0, "batch": 1}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    one = {name: value[:1] for name, value in scenes(1, seed).items()}
    one["images"] = (one["images"] + one["images"].flip(2)) / 2  # the same when mirrored
    one["boxes"][0, :, 0], one["boxes"][0, :, 2] = 10.0, 18.0
    one["labels"][0, 1:] = -1
    run = program.train(model, one, seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next()
    for name, gradient in program.gradients(model).items():
        torch.testing.assert_close(gradient, first[name], atol=1e-5, rtol=1e-3)


def test_one_pass_shows_every_row_once(program: Program, seed: int) -> None:
    data = scenes(23, seed)
    data["labels"] = torch.arange(23)[:, None].expand(-1, 3).clone()
    data["images"] = data["labels"][:, :1, None].expand(-1, 20, 28).float().clone()
    data["boxes"][:, :, 1] = data["labels"].float()
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", data, settings(program, batch=5), rng, keep=True)
    orders, mirrored = [], 0
    for _ in range(2):
        found = [program.call_method(stream, "__next__") for _ in range(5)]
        for images, boxes, labels in found:
            assert torch.equal(images[:, 0, 0], labels[:, 0].float())
            assert torch.equal(boxes[:, 0, 1], labels[:, 0].float())
            mirrored += int((boxes[:, 0, 0] != data["boxes"][labels[:, 0], 0, 0]).sum())
        orders.append(torch.cat([labels[:, 0] for _, _, labels in found]))
        assert torch.equal(orders[-1].sort().values, torch.arange(23))
    assert not torch.equal(orders[0], orders[1])
    assert 10 <= mirrored <= 36


def test_every_parameter_moves(program: Program, task: Task, seed: int) -> None:
    before = program.state(program.build(seed=seed, **task.small))
    model, _ = trained(program, task, seed)
    after = program.state(model)
    assert all(not torch.equal(after[name], before[name]) for name in program.parameters(model))


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, seed: int) -> None:
    cfg = {"prior": 0.3, "steps": 4, "batch": 12, "peak_lr": 1e-3}
    model = program.build(seed=seed, **cfg)
    images = scenes(ROWS, seed)["images"][:12]
    program.train(model, scenes(ROWS, seed), seed, **cfg).next(4)
    together = program.predict(model, images)
    for row in range(4):
        (alone,) = program.predict(model, images[row : row + 1])
        torch.testing.assert_close(together[row], alone, atol=1e-3, rtol=1e-3)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed, prior=0.3)
    before, images = program.state(model), scenes(ROWS, seed)["images"]
    answers = []
    for _ in range(2):
        program.train_mode(model, True)
        answers.append(program.predict(model, images))
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))
    assert all(torch.equal(before[name], value) for name, value in program.state(model).items())


def test_measuring_between_updates_changes_nothing(program: Program, task: Task, seed: int) -> None:
    data, losses = scenes(ROWS, seed), []
    for measure in (False, True):
        model = program.build(seed=seed, **task.small)
        run = program.train(model, data, seed, **task.small)
        losses.append([])
        for _ in range(6):
            losses[-1] += run.next()
            if measure:
                program.predict(model, data["images"][:8])
    assert losses[0] == losses[1]


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    first, second = (trained(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_it_finds_what_it_has_been_shown(program: Program, seed: int) -> None:
    data = scenes(8, seed)
    cfg = {"batch": 8, "steps": 50}
    model = program.build(seed=seed, **cfg)
    program.train(model, data, seed, **cfg).next(50)
    found = program.predict(model, data["images"])
    hits = total = 0
    for detections, boxes, labels in zip(found, data["boxes"], data["labels"], strict=True):
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            if label >= 0:
                total += 1
                hits += any(d[5] == label and share(d[:4], box) >= 0.5 for d in detections.tolist())
    assert hits >= 0.8 * total
