"""The judge's side of `grid-detector`: scenes of its own, and precision over recall counted here."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.scenes import CLASSES, scenes
from bughunt.task import Data, Measurement, Model, Program, Task

TRAIN_ROWS, HELD_OUT_ROWS = 900, 150
OVERLAPS = (0.5, 0.65, 0.8)


def _data(seed: int) -> Data:
    return Data(train=scenes(TRAIN_ROWS, 2 * seed), held_out=scenes(HELD_OUT_ROWS, 2 * seed + 1))


def overlaps(one: Tensor, other: Tensor) -> Tensor:  # [N, 4], [M, 4] -> [N, M]
    """Intersection over union, axis by axis."""
    sides = []
    for axis in (0, 1):
        end = torch.minimum(one[:, None, axis + 2], other[:, axis + 2])
        sides.append((end - torch.maximum(one[:, None, axis], other[:, axis])).relu())
    shared = sides[0] * sides[1]
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (one, other)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1e-9)


def precision(found: list[Tensor], held_out: dict[str, Tensor], kind: int, least: float) -> float:
    """Average precision for one class: detections sorted by score, each true box found once."""
    scores, hits, total = [], [], 0
    for detections, boxes, labels in zip(found, held_out["boxes"], held_out["labels"], strict=True):
        mine = detections[detections[:, 5] == kind]
        mine = mine[mine[:, 4].argsort(descending=True)]
        true = boxes[labels == kind].to(mine.dtype)
        total += len(true)
        shared = overlaps(mine[:, :4], true)
        for row in range(len(mine)):
            best = int(shared[row].argmax()) if len(true) else 0
            hit = bool(len(true)) and bool(shared[row, best] >= least)
            if hit:
                shared[:, best] = 0.0
            scores.append(mine[row, 4].item())
            hits.append(float(hit))
    if not hits:
        return 0.0
    ordered = torch.tensor(hits)[torch.tensor(scores).argsort(descending=True, stable=True)]
    right = ordered.cumsum(dim=0)
    share = right / torch.arange(1, len(right) + 1)
    envelope = share.flip(0).cummax(dim=0).values.flip(0)
    steps = F.pad(right, (1, 0)).diff() / total
    return float((steps * envelope).sum())


def _measure(program: Program, model: Model, held_out: dict[str, Tensor]) -> Measurement:
    found = [torch.as_tensor(one).cpu().reshape(-1, 6) for one in program.predict(model, held_out["images"])]
    means = {
        least: sum(precision(found, held_out, kind, least) for kind in range(len(CLASSES))) / len(CLASSES)
        for least in OVERLAPS
    }
    return Measurement(curve=1.02 - sum(means.values()) / len(means), metric=means[0.5])


TASK = Task(
    slug="grid-detector",
    title="Grid object detector",
    kind="detector",
    topics=("S15", "S26", "S41", "S68"),
    categories=("IDX", "LOS", "EVL", "SHP", "NRM", "ALG"),
    data=_data,
    measure=_measure,
    curve_name="precision missed",
    metric_name="mean average precision at 0.5",
    metric_higher_is_better=True,
    band=(0.92, 1.0),  # seeds 0-9: 0.955 to 0.993, standard deviation 0.010
    steps=170,
    small={"steps": 6, "batch": 16, "channels": (6, 8, 10)},
    probes=12,
    floor=0.02,
    exports=(
        "average_precision",
        "batches",
        "decode",
        "encode",
        "flip",
        "iou",
        "learning_rate",
        "loss",
        "suppress",
    ),
    cpu_seconds=3.3,
)
