"""The judge's side of `lora-adapt`: a reader of upright glyphs, and few lying ones to adapt it to."""

from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bughunt.references.data import reading
from bughunt.references.data.glyphs import glyphs
from bughunt.task import Data, Task

UPRIGHT, LYING, HELD_OUT = 1500, 900, 1000
SIZES = (144, 64, 48, 10)
Base = list[tuple[Tensor, Tensor]]


def lying(count: int, seed: int) -> dict[str, Tensor]:
    """Glyphs with rows and columns exchanged."""
    made = glyphs(count, seed)
    return {"images": made["images"].transpose(1, 2).contiguous(), "labels": made["labels"]}


@lru_cache(maxsize=16)
def base(seed: int) -> Base:
    """Weights and biases of a reader of upright glyphs; the global random state is left alone."""
    rng = torch.Generator().manual_seed(seed)
    rows = glyphs(UPRIGHT, 3 * seed)
    pixels, labels = (rows["images"].flatten(1).float() / 255 - 0.4) / 0.2, rows["labels"]
    shapes = [(o, i) for i, o in pairwise(SIZES)]
    weights = [nn.Parameter(torch.randn(o, i, generator=rng) * (2 / i) ** 0.5) for o, i in shapes]
    biases = [nn.Parameter(torch.zeros(o)) for o, _ in shapes]
    optimizer = torch.optim.AdamW([*weights, *biases], lr=3e-3, weight_decay=0.1)
    for _ in range(200):
        chosen = torch.randint(UPRIGHT, (64,), generator=rng)
        x = pixels[chosen]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = torch.relu(F.linear(x, weight, bias))
        optimizer.zero_grad()
        F.cross_entropy(F.linear(x, weights[-1], biases[-1]), labels[chosen]).backward()
        optimizer.step()
    return [(w.detach(), b.detach()) for w, b in zip(weights, biases, strict=True)]


def _data(seed: int) -> Data:
    train = {**lying(LYING, 3 * seed + 1), "base": [(w.clone(), b.clone()) for w, b in base(seed)]}
    return Data(train=train, held_out=lying(HELD_OUT, 3 * seed + 2))


TASK = Task(
    slug="lora-adapt",
    title="Low-rank adaptation",
    kind="classifier",
    topics=("S27", "S60", "S61"),
    categories=("INI", "GRD", "STA", "OPT", "API"),
    data=_data,
    measure=reading.measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.66, 0.84),  # seeds 0-9: 0.705 to 0.772, standard deviation 0.022
    steps=260,
    small={"steps": 8, "batch": 16},
    exports=("merge", "unmerge", "use_adapters", "save_adapters", "load_adapters", "learning_rate"),
    cpu_seconds=0.6,
)
