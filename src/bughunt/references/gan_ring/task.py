"""The judge's side of `gan-ring`: eight spots on a ring, and how far the drawn points are from them."""

import math

import torch
from torch import Tensor

from bughunt.references.data.clouds import energy_distance
from bughunt.task import Data, Measurement, Model, Program, Task

SPOTS, RADIUS, BLUR = 8, 2.0, 0.15
LATENT = 5
TRAINED, HELD_OUT, DRAWN = 2500, 1000, 1000


def centres() -> Tensor:  # -> [K, 2]
    angles = 2 * math.pi * torch.arange(SPOTS) / SPOTS
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


def ring(count: int, rng: torch.Generator) -> Tensor:  # -> [N, 2]
    spots = torch.randint(SPOTS, (count,), generator=rng)
    return centres()[spots] + BLUR * torch.randn(count, 2, generator=rng)


def spots_hit(points: Tensor) -> int:
    """How many spots got at least a quarter of their share of the points within three deviations."""
    distance, spot = torch.cdist(points, centres()).min(dim=1)
    counts = torch.bincount(spot[distance < 3 * BLUR], minlength=SPOTS)
    return int((counts >= len(points) / SPOTS / 4).sum())


def _data(seed: int) -> Data:
    rng = torch.Generator().manual_seed(seed)
    points = ring(TRAINED + HELD_OUT, rng)
    noise = torch.randn(DRAWN, LATENT, generator=rng)
    return Data(train=points[:TRAINED], held_out={"points": points[TRAINED:], "noise": noise})


def _measure(program: Program, model: Model, held_out: dict[str, Tensor]) -> Measurement:
    drawn = program.predict(model, held_out["noise"])
    apart = energy_distance(drawn.double(), held_out["points"].double())
    return Measurement(curve=max(apart, 0.0) + 0.003, metric=apart)


TASK = Task(
    slug="gan-ring",
    title="Generative adversarial network",
    kind="generative",
    topics=("S25",),
    categories=("GRD", "LOS", "GEN", "OPT", "STA"),
    data=_data,
    measure=_measure,
    curve_name="energy distance (plus 0.003)",
    metric_name="energy distance",
    metric_higher_is_better=False,
    band=(-0.003, 0.06),  # 0.0021 to 0.0183 over seeds 0-9
    steps=900,
    small={"steps": 8, "hidden": 20, "batch": 60},
    probes=15,
    floor=0.0025,
    high_variance=True,
    exports=(
        "latent",
        "scores",
        "discriminator_loss",
        "slope_penalty",
        "generator_loss",
        "update_average",
        "batches",
    ),
    cpu_seconds=2.2,
)
