"""The parts of `trainer-loop` that its behaviour tests do not reach from outside."""

import copy

import torch

from bughunt.references.data.glyphs import glyphs
from bughunt.references.trainer_loop import train as program
from bughunt.references.trainer_loop.task import TASK

torch.set_num_threads(1)
CFG = program.Config(steps=12, batch=16, features=24, evaluate_every=4)


def run(cfg: program.Config, seed: int = 0) -> tuple[torch.nn.Module, list[float]]:
    torch.manual_seed(seed)
    model = program.build(cfg)
    rng = torch.Generator().manual_seed(seed)
    return model, list(program.train(model, glyphs(90, seed), cfg, rng))


def test_nothing_runs_before_the_first_item() -> None:
    torch.manual_seed(0)
    model = program.build(CFG)
    before = copy.deepcopy(model.state_dict())
    program.train(model, glyphs(90, 0), CFG, torch.Generator())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_scale_is_that_of_the_training_rows() -> None:
    data = glyphs(90, 0)
    rng = torch.Generator().manual_seed(0)
    (images, _), _ = program.split(data["images"], data["labels"], CFG, rng)
    model, _ = run(CFG)
    torch.testing.assert_close(model.mean, images.double().mean().float())
    torch.testing.assert_close(model.std, images.double().std().float())


def test_a_run_makes_as_many_updates_as_it_is_asked_for() -> None:
    _, losses = run(CFG)
    assert len(losses) == 12


def test_batch_size_does_not_divide_the_rows_of_the_task() -> None:
    rows = len(TASK.data(0).train["labels"])
    cfg = program.Config()
    training = rows - round(cfg.validation * rows)
    assert training % cfg.batch > 1
    assert (rows - training) % cfg.eval_batch > 1


def test_every_exported_name_exists() -> None:
    assert all(hasattr(program, name) for name in TASK.exports)
