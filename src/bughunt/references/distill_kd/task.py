"""The judge's side of `distill-kd`: a trained teacher, few labelled glyphs and many without a label."""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bughunt.references.data import reading
from bughunt.references.data.glyphs import glyphs
from bughunt.task import Data, Task

LABELLED, UNLABELLED, HELD_OUT = 90, 1500, 1000
SEEN_BY_THE_TEACHER, WIDTH = 2500, 110


@lru_cache(maxsize=16)
def teacher(seed: int) -> dict[str, Tensor]:
    """The parameters and statistics of a reader of many glyphs; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rows = glyphs(SEEN_BY_THE_TEACHER, 4 * seed)
        parts = {
            "inner": nn.Linear(144, WIDTH),
            "norm": nn.BatchNorm1d(WIDTH),
            "relu": nn.ReLU(),
            "dropout": nn.Dropout(0.3),
            "head": nn.Linear(WIDTH, 10),
        }
        model = nn.Sequential()
        for name, part in parts.items():
            model.add_module(name, part)
        pixels = (rows["images"].flatten(1).float() / 255 - 0.4) / 0.2
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)
        for _ in range(320):
            chosen = torch.randint(len(pixels), (64,))
            optimizer.zero_grad()
            F.cross_entropy(model(pixels[chosen]), rows["labels"][chosen]).backward()
            optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}


def _data(seed: int) -> Data:
    few = glyphs(LABELLED, 4 * seed + 1)
    many = glyphs(UNLABELLED, 4 * seed + 2)["images"]
    train = {**few, "unlabelled": many, "teacher": dict(teacher(seed))}
    return Data(train=train, held_out=glyphs(HELD_OUT, 4 * seed + 3))


TASK = Task(
    slug="distill-kd",
    title="Knowledge distillation",
    kind="classifier",
    topics=("S21", "S35", "S61", "S75"),
    categories=("LOS", "GRD", "NRM", "NUM"),
    data=_data,
    measure=reading.measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.71, 0.87),  # seeds 0-9: 0.762 to 0.825, standard deviation 0.022
    steps=320,
    small={"steps": 8, "labelled": 7, "unlabelled": 16},
    exports=("distillation", "total_loss", "make_teacher", "opinions", "learning_rate", "batches"),
    cpu_seconds=0.6,
)
