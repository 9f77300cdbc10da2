"""The judge's side of `denoise-ae`: digits that it spoils itself, compared with the clean ones."""

import numpy as np
import torch
from torch import Tensor

from bughunt.references.data import digits
from bughunt.task import Data, Measurement, Model, Program, Task

TRAIN_ROWS, HELD_OUT_ROWS = 1500, 500
NOISE, LOST = 0.3, 0.15


def rows(count: int, seed: int) -> Tensor:
    """Clean digits, bytes [N, 8, 8]."""
    return torch.from_numpy(digits.draw(count, np.random.default_rng(seed))[0])


def spoil(images: Tensor, seed: int) -> Tensor:
    """Noise on every pixel, then some of them empty, on the scale of bytes."""
    rng = torch.Generator().manual_seed(seed)
    noisy = images.float() + 255 * NOISE * torch.randn(images.shape, generator=rng)
    return torch.where(torch.rand(images.shape, generator=rng) < LOST, 0.0, noisy)


def _data(seed: int) -> Data:
    clean = rows(HELD_OUT_ROWS, 2 * seed + 1)
    return Data(train=rows(TRAIN_ROWS, 2 * seed), held_out={"clean": clean, "spoilt": spoil(clean, seed)})


def _measure(program: Program, model: Model, held_out: dict[str, Tensor]) -> Measurement:
    restored = torch.as_tensor(program.predict(model, held_out["spoilt"])).double()
    error = ((restored - held_out["clean"]) / 255).square().mean().item()
    return Measurement(curve=error, metric=error)


TASK = Task(
    slug="denoise-ae",
    title="Denoising autoencoder",
    kind="generative",
    topics=("S25",),
    categories=("LOS", "DAT", "NRM", "GRD", "GEN"),
    data=_data,
    measure=_measure,
    curve_name="held-out error",
    metric_name="mean squared error",
    metric_higher_is_better=False,
    band=(0.0155, 0.0205),  # seeds 0-9: 0.0171 to 0.0181, standard deviation 0.0003
    steps=500,
    configurations={"default": {}, "tied": {"tied": True}},
    small={"steps": 10, "batch": 40},
    exports=("batches", "corrupt", "encode", "learning_rate", "loss", "scaled"),
    cpu_seconds=0.8,
)
