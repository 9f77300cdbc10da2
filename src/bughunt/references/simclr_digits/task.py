"""The judge's side of `simclr-digits`: what a linear map reads out of the features with a few labels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs
from bughunt.task import Data, Measurement, Model, Program, Task

TRAIN_ROWS, HELD_OUT_ROWS = 1500, 600
PER_CLASS = 15
RIDGE = 10.0


def _data(seed: int) -> Data:
    seen, unseen = glyphs(TRAIN_ROWS, 2 * seed), glyphs(HELD_OUT_ROWS, 2 * seed + 1)
    labels = seen["labels"]
    few = torch.cat([(labels == digit).nonzero().flatten()[:PER_CLASS] for digit in range(10)])
    held_out = {
        "few": seen["images"][few],
        "labels": labels[few],
        "images": unseen["images"],
        "answers": unseen["labels"],
    }
    return Data(train=seen["images"], held_out=held_out)


def probe(few: Tensor, labels: Tensor, features: Tensor) -> Tensor:  # [M, F], [M], [N, F] -> [N, 10]
    """Scores by ridge regression on the few labels, in units of each feature's deviation."""
    mean, std = features.mean(dim=0), features.std(dim=0) + 1e-6
    known, asked = (few - mean) / std, (features - mean) / std
    gram = known @ known.T + RIDGE * torch.eye(len(known), dtype=known.dtype)
    ones = F.one_hot(labels, 10).to(known.dtype) - 0.1
    return asked @ known.T @ torch.linalg.solve(gram, ones) + 0.1


def _measure(program: Program, model: Model, held_out: dict[str, Tensor]) -> Measurement:
    few, features = (torch.as_tensor(program.predict(model, held_out[n])).double() for n in ("few", "images"))
    scores = probe(few, held_out["labels"], features)
    error = (scores - F.one_hot(held_out["answers"], 10)).square().sum(dim=1).mean().item()
    right = (scores.argmax(dim=1) == held_out["answers"]).double().mean().item()
    return Measurement(curve=error, metric=right)


TASK = Task(
    slug="simclr-digits",
    title="Contrastive pre-training",
    kind="embedding",
    topics=("S21", "S75"),
    categories=("LOS", "GEN", "SHP", "DAT", "NUM"),
    data=_data,
    measure=_measure,
    curve_name="probe error",
    metric_name="probe accuracy",
    metric_higher_is_better=True,
    band=(0.53, 0.73),  # seeds 0-9: 0.582 to 0.677, standard deviation 0.027
    steps=320,
    small={"steps": 8, "batch": 40, "hidden": 30, "features": 18, "projection": 7},
    exports=("around_zero", "augment", "batches", "learning_rate", "loss", "nt_xent"),
    cpu_seconds=1.5,
)
