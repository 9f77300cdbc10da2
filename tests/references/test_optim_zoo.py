"""The parts of `optim-zoo` that its behaviour tests do not reach from outside."""

import pytest
import torch

from bughunt.references.optim_zoo import train as program
from bughunt.references.optim_zoo.task import TASK

torch.set_num_threads(1)


@pytest.mark.parametrize("name", sorted(program.OPTIMIZERS))
def test_each_finds_the_bottom_of_a_narrow_valley(name: str) -> None:
    place = torch.nn.Parameter(torch.tensor([2.0, -1.5]))
    optimizer = program.OPTIMIZERS[name]([place], lr=0.02)
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 600)
        optimizer.zero_grad()
        (place**2 * torch.tensor([1.0, 20.0])).sum().backward()
        optimizer.step()
    assert place.abs().max().item() <= 0.01


def test_every_optimiser_has_a_configuration() -> None:
    names = {program.Config(**config).optimizer for config in TASK.configurations.values()}
    assert names == set(program.OPTIMIZERS)


def test_clipping_agrees_with_the_one_in_pytorch() -> None:
    rng = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.zeros(shape)) for shape in (3, 5)]
    theirs = [torch.nn.Parameter(torch.zeros(shape)) for shape in (3, 5)]
    for one, other in zip(ours, theirs, strict=True):
        one.grad = torch.randn(one.shape, generator=rng)
        other.grad = one.grad.clone()
    found = program.clip_gradients(ours, 0.7)
    expected = torch.nn.utils.clip_grad_norm_(theirs, 0.7)
    assert found == pytest.approx(expected.item())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_every_exported_name_exists() -> None:
    assert all(hasattr(program, name) for name in TASK.exports)
