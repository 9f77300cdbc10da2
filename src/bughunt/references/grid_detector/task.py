"""The judge's side of `grid-detector`: scenes of its own, and precision over recall counted here."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.scenes import CLASSES, MOST, scenes
from bughunt.task import Data, Measurement, Model, Program, Task

TRAIN_ROWS, HELD_OUT_ROWS = 900, 150
OVERLAPS = (0.5, 0.65, 0.8)


def _data(seed: int) -> Data:
    return Data(train=scenes(TRAIN_ROWS, 2 * seed), held_out=scenes(HELD_OUT_ROWS, 2 * seed + 1))


def overlaps(boxes: Tensor, true: Tensor) -> Tensor:  # [D, 4], [D, M, 4] -> [D, M]
    """Intersection over union of each box with the true ones of its own image, axis by axis."""
    sides = []
    for axis in (0, 1):
        end = torch.minimum(boxes[:, None, axis + 2], true[..., axis + 2])
        sides.append((end - torch.maximum(boxes[:, None, axis], true[..., axis])).relu())
    shared = sides[0] * sides[1]
    areas = [(b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (boxes, true)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1e-9)


def precisions(found: list[Tensor], held_out: dict[str, Tensor], kind: int) -> list[float]:
    """The average precision for one class at each of the overlaps: the best detections choose first.

    True boxes lie apart, so none overlaps half of two: whoever is second at its nearest one finds nothing.
    """
    image = torch.arange(len(found)).repeat_interleave(torch.tensor([len(one) for one in found]))
    all_of_them = torch.cat(found)
    mine = all_of_them[:, 5] == kind
    detections, image = all_of_them[mine], image[mine]
    order = detections[:, 4].argsort(descending=True, stable=True)
    detections, image = detections[order], image[order]
    true = held_out["labels"] == kind  # [N, M]
    shared = overlaps(detections[:, :4], held_out["boxes"][image].to(detections.dtype))
    best, place = shared.where(true[image], 0.0).max(dim=1)
    nearest, total = image * MOST + place, int(true.sum())
    return [_area(_hits(nearest, best >= least), total) for least in OVERLAPS]


def _hits(nearest: Tensor, close: Tensor) -> Tensor:  # [D], [D] -> [D]
    """One for the first detection close to each true box, zero for all others."""
    _, first = np.unique(nearest[close], return_index=True)
    hits = torch.zeros(len(close))
    hits[close.nonzero()[first, 0]] = 1.0
    return hits


def _area(hits: Tensor, total: int) -> float:
    """Precision over recall, as the best from each recall on."""
    if not len(hits):
        return 0.0
    right = hits.cumsum(dim=0)
    share = right / torch.arange(1, len(right) + 1)
    envelope = share.flip(0).cummax(dim=0).values.flip(0)
    steps = F.pad(right, (1, 0)).diff() / total
    return float((steps * envelope).sum())


def _measure(program: Program, model: Model, held_out: dict[str, Tensor]) -> Measurement:
    found = [torch.as_tensor(one).cpu().reshape(-1, 6) for one in program.predict(model, held_out["images"])]
    if len(found) != len(held_out["labels"]):
        raise ValueError(f"expected {len(held_out['labels'])} lists of boxes, got {len(found)}")
    each = [precisions(found, held_out, kind) for kind in range(len(CLASSES))]
    means = [sum(of_kinds) / len(CLASSES) for of_kinds in zip(*each, strict=True)]
    return Measurement(curve=1.02 - sum(means) / len(means), metric=means[0])


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
