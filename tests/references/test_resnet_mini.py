"""The parts of `resnet-mini` that its behaviour tests do not reach from outside."""

import torch

from bughunt.references.resnet_mini import train as program
from bughunt.references.resnet_mini.task import TASK

torch.set_num_threads(1)


def test_the_maps_shrink_from_stage_to_stage() -> None:
    torch.manual_seed(0)
    model = program.build(program.Config())
    x = model.stem(torch.randn(2, 1, 12, 12))
    shapes = [tuple(x.shape[1:])]
    for block in model.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 6, 6), (16, 6, 6), (24, 3, 3), (32, 2, 2)]


def test_the_head_reads_the_mean_over_the_places() -> None:
    torch.manual_seed(0)
    model = program.build(program.Config()).eval()
    images = torch.randn(3, 1, 12, 12)
    maps = model.blocks(model.stem(images))
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1)
    torch.testing.assert_close(model(images), model.head(pooled))


def test_the_gradient_of_the_convolution_is_right() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: program.convolve(a, b, 2, 1), (x, weight))


def test_prepared_pixels_have_the_scale_of_weights() -> None:
    pixels = program.prepare(TASK.data(0).train["images"])
    assert pixels.shape[1:] == (1, 12, 12)
    assert abs(pixels.mean().item()) <= 0.5
    assert 0.5 <= pixels.std().item() <= 2.0


def test_every_exported_name_exists() -> None:
    assert all(hasattr(program, name) for name in TASK.exports)
