"""The judge's side of `ddpm-moons`: two moons in unlike units, and how far the drawn points are from them."""

import math

import torch
from torch import Tensor

from bughunt.references.data.clouds import energy_distance
from bughunt.task import Data, Measurement, Model, Program, Task

LEVELS = 40
TRAINED, HELD_OUT, DRAWN = 2300, 1000, 700
UNITS = torch.tensor([12.0, 0.3])
OFFSET = torch.tensor([-20.0, 4.0])
BLUR = 0.06


def moons(count: int, rng: torch.Generator) -> Tensor:  # -> [N, 2]
    """Two half circles that reach into one another, a little blurred."""
    angles = math.pi * torch.rand(count, generator=rng)
    lower = torch.rand(count, generator=rng) < 0.5
    x = torch.where(lower, 1 - angles.cos(), angles.cos())
    y = torch.where(lower, 0.5 - angles.sin(), angles.sin())
    return torch.stack([x, y], dim=1) + BLUR * torch.randn(count, 2, generator=rng)


def _data(seed: int) -> Data:
    rng = torch.Generator().manual_seed(seed)
    points = moons(TRAINED + HELD_OUT, rng)
    noise = torch.randn(LEVELS + 1, DRAWN, 2, generator=rng)
    raw = OFFSET + UNITS * points
    return Data(train=raw[:TRAINED], held_out={"points": points[TRAINED:], "noise": noise})


def _measure(program: Program, model: Model, held_out: dict[str, Tensor]) -> Measurement:
    drawn = (program.predict(model, held_out["noise"]) - OFFSET) / UNITS
    apart = energy_distance(drawn.double(), held_out["points"].double())
    return Measurement(curve=max(apart, 0.0) + 0.003, metric=apart)


TASK = Task(
    slug="ddpm-moons",
    title="Diffusion model",
    kind="generative",
    topics=("S62",),
    categories=("GEN", "IDX", "NUM", "SHP", "STA"),
    data=_data,
    measure=_measure,
    curve_name="energy distance (plus 0.003)",
    metric_name="energy distance",
    metric_higher_is_better=False,
    band=(-0.003, 0.02),  # 0.0039 to 0.0110 over seeds 0-9
    steps=900,
    small={"steps": 8, "levels": 9, "hidden": 20, "batch": 50},
    probes=15,
    floor=0.0025,
    exports=(
        "batches",
        "betas",
        "code",
        "diffuse",
        "guess_noise",
        "learning_rate",
        "loss",
        "step_back",
        "update_average",
    ),
    cpu_seconds=1.7,
)
