"""A detector: one look at the image, and every cell of a grid says what is centred in it, and where.

A box is left, top, right, bottom in pixels. The cell that holds a box's centre is responsible for it; it
gives the place of the centre within itself, and the size relative to a typical one, as logarithms.

Shapes: B batch, Y and X height and width of an image, R rows and C columns of the grid, M boxes an image
at most, N boxes, K classes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    classes: int = 3
    cell: int = 4  # pixels of a side
    typical: float = 6.5  # pixels of a side
    channels: tuple[int, ...] = (14, 22, 30)
    prior: float = 0.04  # share of cells that hold a centre, before anything is learned
    place_weight: float = 4.0
    size_weight: float = 6.0
    positive_weight: float = 3.0
    least_score: float = 0.1
    overlap: float = 0.4
    batch: int = 40
    steps: int = 170
    peak_lr: float = 1.6e-2
    rise: float = 0.3  # share of the steps


class Detector(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        one, two, three = cfg.channels
        self.features = nn.Sequential(
            *layer(1, one), nn.MaxPool2d(2), *layer(one, two), nn.MaxPool2d(2), *layer(two, three)
        )
        self.head = nn.Conv2d(three, 5 + cfg.classes, 1)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        nn.init.constant_(self.head.bias[:1], math.log(cfg.prior / (1 - cfg.prior)))

    def forward(self, images: Tensor) -> Tensor:  # [B, Y, X] -> [B, 5 + K, R, C]
        """Log-odds of a centre, place of it (two), size (two), scores of the classes."""
        return self.head(self.features(images[:, None]))


def layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()


def build(cfg: Config) -> Detector:
    return Detector(cfg)


def flip(images: Tensor, boxes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror the chosen images [B, Y, X] from left to right, and with each its boxes [B, M, 4]."""
    width = images.size(2)
    left, top, right, bottom = boxes.unbind(dim=-1)
    mirrored = torch.stack([width - right, top, width - left, bottom], dim=-1)
    images = torch.where(chosen[:, None, None], images.flip(2), images)
    return images, torch.where(chosen[:, None, None], mirrored, boxes)


def encode(boxes: Tensor, labels: Tensor, shape: Sequence[int], cfg: Config) -> Tensor:
    """What each cell should say, [B, 6, R, C]: a centre or none, place, size, class.

    Labels [B, M] below zero are padding. No two centres share a cell.
    """
    rows, columns = shape
    target = boxes.new_zeros(len(boxes), 6, rows, columns)
    image, slot = (labels >= 0).nonzero(as_tuple=True)  # [N] each
    real = boxes[image, slot]
    centre = (real[:, :2] + real[:, 2:]) / 2 / cfg.cell  # x and y, in cells
    size = (real[:, 2:] - real[:, :2]) / cfg.typical
    column, row = centre.long().unbind(dim=1)
    kind = labels[image, slot].to(boxes.dtype)
    said = [torch.ones_like(kind), *(centre - centre.floor()).T, *size.log().T, kind]
    target[image, :, row, column] = torch.stack(said, dim=1)
    return target


def loss(raw: Tensor, target: Tensor, cfg: Config) -> Tensor:  # [B, 5 + K, R, C], [B, 6, R, C] -> []
    """Every cell is asked whether it holds a centre; only those that do are asked for the rest."""
    held = target[:, 0]  # [B, R, C]
    weight = torch.where(held > 0, cfg.positive_weight, 1.0)
    found = F.binary_cross_entropy_with_logits(raw[:, 0], held, weight, reduction="sum")
    place = (raw[:, 1:3].sigmoid() - target[:, 1:3]).square().sum(dim=1)
    size = (raw[:, 3:5] - target[:, 3:5]).square().sum(dim=1)
    kind = F.cross_entropy(raw[:, 5:], target[:, 5].long(), reduction="none")
    box = cfg.place_weight * place + cfg.size_weight * size + kind
    return (found + (box * held).sum()) / held.sum().clamp(min=1)


def iou(one: Tensor, other: Tensor) -> Tensor:  # [N, 4], [M, 4] -> [N, M]
    """How much two boxes have in common, as a share of what they cover together."""
    top_left = torch.maximum(one[:, None, :2], other[:, :2])
    bottom_right = torch.minimum(one[:, None, 2:4], other[:, 2:4])
    shared = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    area = (one[:, 2:4] - one[:, :2]).prod(dim=-1)
    other_area = (other[:, 2:4] - other[:, :2]).prod(dim=-1)
    return shared / (area[:, None] + other_area - shared)


def suppress(boxes: Tensor, scores: Tensor, kinds: Tensor, overlap: float) -> Tensor:  # [N, ..] -> [M]
    """Which boxes stay, best first: none that overlaps a better one of its own class too much."""
    order = scores.argsort(descending=True, stable=True)
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        same = kinds[rest] == kinds[best]
        close = iou(boxes[best][None], boxes[rest])[0] > overlap
        order = rest[~(same & close)]
    return torch.stack(kept) if kept else order


def decode(raw: Tensor, cfg: Config) -> list[Tensor]:  # [B, 5 + K, R, C] -> [N, 6] for each image
    """Boxes with their score and class, best first."""
    found = []
    for answer in raw:
        scores = answer[0].sigmoid()
        row, column = (scores > cfg.least_score).nonzero(as_tuple=True)
        said = answer[:, row, column]  # [5 + K, N]
        corner = torch.stack([column, row])
        centre = (corner + said[1:3].sigmoid()) * cfg.cell
        half = said[3:5].exp() * cfg.typical / 2
        boxes = torch.cat([centre - half, centre + half]).T  # [N, 4]
        sure, kinds = scores[row, column], said[5:].argmax(dim=0)
        kept = suppress(boxes, sure, kinds, cfg.overlap)
        found.append(torch.cat([boxes, sure[:, None], kinds[:, None].to(boxes.dtype)], dim=1)[kept])
    return found


def average_precision(found: Sequence[Tensor], truth: Sequence[Tensor], least_iou: float = 0.5) -> float:
    """Area under precision over recall, for detections [N, 5+] and true boxes [M, 4] of one class.

    Better detections choose first; a true box counts once. Precision at a recall is the best from there on.
    """
    outcomes = []
    for detections, boxes in zip(found, truth, strict=True):
        taken: set[int] = set()
        order = detections[:, 4].argsort(descending=True)
        for detection in detections[order]:
            hit = False
            if len(boxes):
                overlap, index = iou(detection[None, :4], boxes)[0].max(dim=0)
                hit = bool(overlap >= least_iou) and int(index) not in taken
                taken.add(int(index)) if hit else None
            outcomes.append((float(detection[4]), hit))
    total = sum(len(boxes) for boxes in truth)
    hits = [hit for _, hit in sorted(outcomes, key=lambda outcome: -outcome[0])]
    area, best, right = 0.0, 0.0, sum(hits)
    for place in range(len(hits), 0, -1):
        if hits[place - 1]:
            best = max(best, right / place)
            area += best / total
            right -= 1
    return area


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then a linear fall to zero."""
    top = cfg.rise * cfg.steps
    if step < top:
        return cfg.peak_lr * (step + 1) / (top + 1)
    return cfg.peak_lr * (cfg.steps - step) / (cfg.steps - top)


def batches(data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, ...]]:
    """Pass after pass in a new order, half of the images mirrored; the last batch takes what is left."""
    images, boxes, labels = data["images"], data["boxes"], data["labels"]
    while True:
        order = torch.randperm(len(images), generator=rng, device=rng.device).to(images.device)
        for rows in order.split(cfg.batch):
            coin = torch.rand(len(rows), generator=rng, device=rng.device).to(images.device) < 0.5
            yield *flip(images[rows], boxes[rows], coin), labels[rows]


def train(model: Detector, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim = torch.optim.Adam(model.parameters(), lr=cfg.peak_lr)
    stream = batches(data, cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        images, boxes, labels = next(stream)
        model.train()
        optim.zero_grad()
        raw = model(images)
        value = loss(raw, encode(boxes, labels, raw.shape[2:], cfg), cfg)
        value.backward()
        optim.step()
        yield value.item()


@torch.no_grad()
def predict(model: Detector, images: Tensor) -> list[Tensor]:  # [B, Y, X] -> [N, 6] for each
    """Left, top, right, bottom, score and class of what is found, best first."""
    model.eval()
    return decode(model(images), Config())
