"""What any correct training in little memory does, whoever wrote it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.memory_lab.task import rows as noisy_rows
from bughunt.references.slope import slope_of_report
from bughunt.task import Model, Program, Task

STILL = {"dropout": 0.0}
METER = '''
import weakref
import torch
from torch.utils._python_dispatch import TorchDispatchMode

class Meter(TorchDispatchMode):
    """Counts the bytes of the storages that live, the most there were and the largest one."""

    def __init__(self, known):
        super().__init__()
        self.live = self.peak = self.largest = 0
        self.seen = {t.untyped_storage()._cdata for t in known}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor):
                self.note(t.untyped_storage())
        return out

    def note(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen:
            return
        self.seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        self.largest = max(self.largest, size)
        weakref.finalize(storage, self.free, key, size)

    def free(self, key, size):
        self.seen.discard(key)
        self.live -= size

def watched(work, known, *args):
    meter = Meter([t for t in known if isinstance(t, torch.Tensor)])
    with meter:
        kept = work(*args)
    return [meter.peak, meter.live, meter.largest]

def forward_and_backward(loss, model, *args):
    value = loss(model, *args)
    value.backward()

def one_more(run):
    return next(run)
'''


class Bench:
    """The program's functions, run under a meter that is the judge's own."""

    def __init__(self, program: Program) -> None:
        self.program = program
        builtins = self.module("builtins")
        self.names = program.call_method(builtins, "dict", keep=True)
        program.call_method(builtins, "exec", METER, self.names)

    def module(self, name: str) -> Model:
        return self.program.call("torch.importlib.import_module", name, keep=True)

    def own(self, name: str) -> Model:
        return self.program.call_method(self.names, "__getitem__", name, keep=True)

    def of_program(self, dotted: str) -> Model:
        place = self.module("train")
        for part in dotted.split("."):
            place = self.program.call_method(place, "__getattribute__", part, keep=True)
        return place

    def watch(self, work: Model, known: list[Model], *args: object) -> tuple[int, int, int]:
        """The most bytes that lived at once, those left at the end, and the largest single piece."""
        return tuple(self.program.call_method(self.own("watched"), "__call__", work, known, *args))


def attribute(program: Program, thing: Model, name: str, **keep: bool) -> Model:
    return program.call_method(thing, "__getattribute__", name, **keep)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def some(seed: int, count: int = 90) -> dict[str, Tensor]:
    words = draw(1000 + seed, 260, 12)
    return noisy_rows(count, words, torch.Generator().manual_seed(seed))


def trained(program: Program, task: Task, seed: int, **config: object) -> tuple[Model, list[float]]:
    config = {**task.small, **config}
    model = program.build(seed=seed, **config)
    return model, program.train(model, some(seed), seed, **config).next(100)


def gradients(program: Program, seed: int, rows: int = 36, **config: object) -> dict[str, Tensor]:
    """Of one loss over ninety rows, at the first weights."""
    model = program.build(seed=seed, **config)
    program.watch_gradients(model, True)
    given = some(seed)
    program.seed(seed)
    value = program.call("loss", model, given["inputs"], given["labels"], rows, keep=True)
    program.call_method(value, "backward")
    return program.gradients(model)


def same(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=atol, rtol=1e-3)


def slopes(program: Program, x: Tensor, weight: Tensor, labels: Tensor, rows: int) -> tuple[Tensor, ...]:
    """Loss and gradients of the program's own head, its loss used three times over."""
    held = [program.call("torch.clone", value, keep=True) for value in (x, weight)]
    held = [program.call_method(value, "requires_grad_", keep=True) for value in held]
    value = program.call("ChunkedLoss.apply", *held, labels, rows, keep=True)
    tripled = program.call_method(value, "__mul__", 3.0, keep=True)
    program.call_method(tripled, "backward")
    return program.call_method(value, "detach"), *(attribute(program, one, "grad") for one in held)


@pytest.mark.parametrize("rows", [1, 4, 7, 19, 50])
def test_the_loss_equals_the_one_in_pytorch(program: Program, seed: int, rows: int) -> None:
    x, weight = draw(seed, 19, 5), draw(seed + 1, 11, 5)
    labels = torch.randint(11, (19,), generator=torch.Generator().manual_seed(seed))
    a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()
    expected = F.cross_entropy(a @ b.T, labels)
    (3 * expected).backward()
    value, to_x, to_weight = slopes(program, x, weight, labels, rows)
    torch.testing.assert_close(value, expected.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(to_x, a.grad, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(to_weight, b.grad, atol=1e-5, rtol=1e-3)


def test_large_scores_stay_finite(program: Program) -> None:
    x, weight = torch.tensor([[1000.0], [-1000.0]]), torch.tensor([[1.0], [-1.0]])
    value, to_x, to_weight = slopes(program, x, weight, torch.tensor([0, 0]), 1)
    assert float(value) == pytest.approx(1000.0)
    assert bool(to_x.isfinite().all())
    assert bool(to_weight.isfinite().all())


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_the_plain_way(program: Program, seed: int, dropout: float) -> None:
    plain = gradients(program, seed, checkpoint=False, dropout=dropout)
    same(gradients(program, seed, checkpoint=True, dropout=dropout), plain)


def test_gradients_do_not_depend_on_the_rows_scored_at_a_time(program: Program, seed: int) -> None:
    same(gradients(program, seed, rows=7, **STILL), gradients(program, seed, rows=1000, **STILL), atol=1e-5)


def test_random_draws_go_on_as_if_nothing_had_been_run_twice(program: Program, seed: int) -> None:
    losses = []
    for checkpoint in (False, True):
        cfg = {"checkpoint": checkpoint, "dropout": 0.4, "steps": 5, "batch": 30, "lr": 0.1}
        model = program.build(seed=seed, **cfg)
        program.seed(seed)
        losses.append(program.train(model, some(seed), seed, **cfg).next(5))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_answers_are_those_of_the_same_layers_put_together_by_hand(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    state = program.state(model)
    C, J = program.config()["channels"], program.config()["inner"]

    def of(*shape: int) -> list[Tensor]:
        return [v for v in state.values() if tuple(v.shape) == shape]

    shifts = {n: torch.zeros_like(v) for n, v in state.items() if v.dim() == 1 and not (v == 1).all()}
    program.load_state(model, shifts)
    x = some(seed)["inputs"]
    expected = x @ of(C, 12)[0].T
    for up, down in zip(of(J, C), of(C, J), strict=True):
        expected = expected + F.gelu(F.layer_norm(expected, (C,)) @ up.T) @ down.T
    scores = F.layer_norm(expected, (C,)) @ of(260, C)[0].T
    found = program.predict(model, x)
    torch.testing.assert_close(found, scores.log_softmax(dim=1), atol=1e-4, rtol=1e-3)


def test_an_update_lives_in_little_memory(program: Program, seed: int) -> None:
    bench, given, most = Bench(program), some(seed, 256), {}
    for checkpoint in (False, True):
        model = program.build(seed=seed, checkpoint=checkpoint)
        known = program.call_method(model, "parameters", keep=True)
        args = (given["inputs"], given["labels"], 36)
        work = bench.own("forward_and_backward")
        most[checkpoint] = bench.watch(work, known, bench.of_program("loss"), model, *args)[0]
    assert most[True] <= 0.55 * most[False]
    assert most[True] <= 900_000


def test_scores_are_made_for_a_few_rows_at_a_time(program: Program, seed: int) -> None:
    bench, given = Bench(program), some(seed, 256)
    model = program.build(seed=seed)
    known = program.call_method(model, "parameters", keep=True)
    work = bench.own("forward_and_backward")
    args = (given["inputs"], given["labels"], 16)
    peak, _, largest = bench.watch(work, known, bench.of_program("loss"), model, *args)
    assert largest < 4 * 256 * 260 / 2
    known = program.call_method(model, "parameters", keep=True)
    peak, _, _ = bench.watch(bench.of_program("predict"), known, model, given["inputs"].repeat(4, 1))
    answers = 4 * 1024 * 260
    assert peak <= answers + 4 * 50 * 260 * 3 + 4 * 50 * 96 * 6


def test_nothing_is_left_over_from_an_update(program: Program, task: Task, seed: int) -> None:
    bench = Bench(program)
    cfg = {**task.small, "steps": 30}
    model = program.build(seed=seed, **cfg)
    config = program.call("Config", keep=True, **cfg)
    rng = program.call("torch.Generator", keep=True)
    run = program.call("train", model, some(seed), config, rng, keep=True)
    sizes = []
    for _ in range(3):
        for _ in range(3):
            program.call_method(run, "__next__")
        known = program.call_method(model, "parameters", keep=True)
        sizes.append(bench.watch(bench.own("one_more"), known, run)[1])
    weights = 4 * sum(v.numel() for v in program.state(model).values())
    assert max(sizes) <= 3.2 * weights  # gradients, speeds and averages, each as large as the weights
    assert max(sizes) - min(sizes) <= 10_000


def test_an_update_changes_everything_in_place(program: Program, seed: int) -> None:
    bench = Bench(program)
    model = program.build(seed=seed)
    cfg = program.call("Config", keep=True)
    named = program.call_method(model, "parameters", keep=True)
    optim = program.call("Momentum", named, cfg, keep=True)
    given = some(seed)
    value = program.call("loss", model, given["inputs"], given["labels"], 36, keep=True)
    program.call_method(value, "backward")
    step = attribute(program, optim, "step", keep=True)
    known = program.call_method(model, "parameters", keep=True)
    peak, left, _ = bench.watch(step, known, 0.1)
    weights = 4 * sum(v.numel() for v in program.state(model).values())
    # buffers that were there before count once when they are first touched
    assert peak <= 3.2 * weights
    assert left <= 3.2 * weights


def test_windows_share_the_memory_of_the_series(program: Program, seed: int) -> None:
    bench = Bench(program)
    series = program.call("torch.clone", draw(seed, 40, 3), keep=True)
    peak, _, _ = bench.watch(bench.of_program("windows"), [series], series, 7, 2)
    assert peak == 0


@pytest.mark.parametrize(("size", "step"), [(3, 1), (3, 2), (2, 3), (9, 1)])
def test_windows_lie_within_the_sequence(program: Program, seed: int, size: int, step: int) -> None:
    series = draw(seed, 9, 4)
    expected = torch.stack([series[k : k + size] for k in range(0, 9 - size + 1, step)])
    assert torch.equal(program.call("windows", series, size, step), expected)


def test_scaling_happens_in_the_memory_that_is_given(program: Program, seed: int) -> None:
    rows, mean, std = draw(seed, 20, 3), draw(seed + 1, 3), draw(seed + 2, 3).abs() + 0.2
    held = program.call("torch.clone", rows, keep=True)
    program.call("standardise_", held, mean, std)
    torch.testing.assert_close(program.call_method(held, "clone"), (rows - mean) / std)
    bench = Bench(program)
    fixed = [program.call("torch.clone", value, keep=True) for value in (mean, std)]
    assert bench.watch(bench.of_program("standardise_"), [held, *fixed], held, *fixed)[0] == 0


def test_moments_of_pieces_are_those_of_all_rows(program: Program, seed: int) -> None:
    whole = draw(seed, 37, 3) * torch.tensor([1.0, 5.0, 0.2]) + torch.tensor([0.0, 100.0, -3.0])
    for sizes in ([37], [10, 20, 7], [1] * 37, [30, 1, 6]):
        mean, std = program.call("moments", list(whole.split(sizes)))
        torch.testing.assert_close(mean, whole.mean(dim=0), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(std, whole.std(dim=0, unbiased=False), atol=1e-4, rtol=1e-3)


def test_updates_follow_the_gradients(program: Program, seed: int) -> None:
    cfg = {**STILL, "steps": 8, "batch": 90, "lr": 0.3, "momentum": 0.7, "weight_decay": 0.1, "average": 0.5}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    params = {n: program.state(model)[n] for n in program.parameters(model)}
    speed = {n: torch.zeros_like(p) for n, p in params.items()}
    average = {n: p.clone() for n, p in params.items()}
    run = program.train(model, some(seed), seed, **cfg)
    for step in range(8):
        assert len(run.next()) == 1
        lr = 0.15 * (1 + math.cos(math.pi * step / 8))
        for name, gradient in program.gradients(model).items():
            speed[name] = 0.7 * speed[name] + gradient + 0.1 * params[name]
            params[name] = params[name] - lr * speed[name]
            average[name] = 0.5 * average[name] + 0.5 * params[name]
            torch.testing.assert_close(program.state(model)[name], params[name], atol=1e-5, rtol=1e-3)
    assert run.next() == []
    after = program.state(model)
    for name, value in average.items():
        torch.testing.assert_close(after[name], value, atol=1e-5, rtol=1e-3)


def test_a_run_begins_with_the_usual_rate_and_decay(program: Program, seed: int) -> None:
    model = program.build(seed=seed)
    program.watch_gradients(model, True)
    before = program.state(model)
    program.train(model, some(seed), seed).next()
    after = program.state(model)
    for name, gradient in program.gradients(model).items():
        expected = before[name] - 0.6 * (gradient + 2e-4 * before[name])
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-5)


def test_the_gradient_is_the_slope_of_the_reported_loss(program: Program, seed: int) -> None:
    cfg = {**STILL, "lr": 0.0, "batch": 90}
    model = program.build(seed=seed, **cfg)
    found, length = slope_of_report(program, model, some(seed), seed, cfg, reach=0.05)
    assert found == pytest.approx(length, rel=0.05)


def test_the_reported_loss_is_that_of_the_rows_with_their_labels(program: Program, seed: int) -> None:
    given, cfg = some(seed), {**STILL, "batch": 90}
    model = program.build(seed=seed, **cfg)
    apart = {name: value + 0.3 * draw(seed, *value.shape) for name, value in program.state(model).items()}
    program.load_state(model, apart)
    expected = F.nll_loss(program.predict(model, given["inputs"]), given["labels"])
    assert program.train(model, given, seed, **cfg).next() == pytest.approx([expected.item()], rel=1e-4)


def test_gradients_belong_to_one_batch(program: Program, seed: int) -> None:
    cfg = {**STILL, "lr": 0.0, "batch": 90}
    model = program.build(seed=seed, **cfg)
    program.watch_gradients(model, True)
    run = program.train(model, some(seed), seed, **cfg)
    run.next()
    first = program.gradients(model)
    run.next()
    same(program.gradients(model), first)


def test_a_fresh_model_has_no_opinion(program: Program, seed: int) -> None:
    answers = program.predict(program.build(seed=seed), some(seed)["inputs"])
    assert float(-answers.mean()) == pytest.approx(math.log(260), abs=0.1)
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(90))


def test_the_trained_parameters_are_the_whole_model(program: Program, seed: int) -> None:
    cfg, model = program.config(), program.build(seed=seed)
    C, J = cfg["channels"], cfg["inner"]
    block = 2 * C + (C * J + J) + (J * C + C)
    expected = (cfg["inputs"] * C + C) + cfg["blocks"] * block + 2 * C + cfg["classes"] * C
    state = program.state(model)
    assert sum(state[name].numel() for name in program.parameters(model)) == expected


def test_every_parameter_moves(program: Program, task: Task, seed: int) -> None:
    before = program.state(program.build(seed=seed, **task.small))
    model, _ = trained(program, task, seed, weight_decay=0.0)
    after = program.state(model)
    assert all(not torch.equal(after[name], before[name]) for name in program.parameters(model))


def test_one_pass_shows_every_row_once(program: Program, seed: int) -> None:
    cfg = program.call("Config", keep=True, batch=5)
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    stream = program.call("batches", 23, cfg, rng, keep=True)
    orders = []
    for _ in range(2):
        orders.append(torch.cat([program.call_method(stream, "__next__") for _ in range(5)]))
        assert torch.equal(orders[-1].sort().values, torch.arange(23))
    assert not torch.equal(orders[0], orders[1])


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed)
    inputs = some(seed, 120)["inputs"]
    alone = torch.cat([program.predict(model, inputs[i : i + 1]) for i in (0, 49, 50, 119)])
    torch.testing.assert_close(program.predict(model, inputs)[[0, 49, 50, 119]], alone, atol=1e-4, rtol=1e-3)


def test_predict_is_repeatable_and_leaves_nothing_changed(program: Program, task: Task, seed: int) -> None:
    model, _ = trained(program, task, seed, dropout=0.4)
    before, inputs = program.state(model), some(seed)["inputs"]
    program.train_mode(model, True)
    first = program.predict(model, inputs)
    program.seed(seed + 1)
    assert torch.equal(first, program.predict(model, inputs))
    assert all(torch.equal(before[name], value) for name, value in program.state(model).items())


def test_training_goes_on_with_dropout_after_a_look(program: Program, seed: int) -> None:
    losses = []
    for look in (False, True):
        cfg = {"dropout": 0.4, "lr": 0.0, "batch": 90}
        model = program.build(seed=seed, **cfg)
        run = program.train(model, some(seed), seed, **cfg)
        losses.append(run.next(2))
        if look:
            program.predict(model, some(seed)["inputs"])
        program.seed(seed)
        losses[-1] += run.next(2)
    assert losses[0] == losses[1]
    assert len(set(losses[0])) > 2


def test_the_same_seed_gives_the_same_curve(program: Program, task: Task, seed: int) -> None:
    first, second = (trained(program, task, seed)[1] for _ in range(2))
    assert first == second
    assert len(first) == task.small["steps"]


def test_it_comes_close_to_the_true_law(program: Program, task: Task, seed: int) -> None:
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(140)
    assert task.measure(program, model, data.held_out).curve <= 1.2
