"""Grey scenes with one to three shapes on them, and the boxes around these.

Scenes are wider than high, and shapes may be too. A shape is a filled rectangle, an ellipse or a frame;
no two overlap.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HEIGHT, WIDTH = 20, 28
MOST = 3
CLASSES = ("block", "ellipse", "frame")
Box = tuple[int, int, int, int]  # left, top, right, bottom


def scenes(count: int, seed: int) -> dict[str, Tensor]:
    """Images [N, 20, 28], boxes [N, 3, 4] in pixels and labels [N, 3]; where there is none, zeros and -1."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0.0, 0.12, (count, HEIGHT, WIDTH))
    boxes = np.zeros((count, MOST, 4))
    labels = np.full((count, MOST), -1)
    for row in range(count):
        placed: list[Box] = []
        for _ in range(int(rng.integers(1, MOST + 1))):
            box = _free_place(placed, rng)
            if box is None:
                continue
            kind = int(rng.integers(len(CLASSES)))
            _draw(images[row], box, kind, float(rng.uniform(0.7, 1.2)))
            boxes[row, len(placed)], labels[row, len(placed)] = box, kind
            placed.append(box)
    return {
        "images": torch.from_numpy(images).float(),
        "boxes": torch.from_numpy(boxes).float(),
        "labels": torch.from_numpy(labels),
    }


def _free_place(placed: list[Box], rng: np.random.Generator) -> Box | None:
    """A box that overlaps none of those placed, if one is found soon."""
    for _ in range(20):
        width, height = int(rng.integers(5, 11)), int(rng.integers(5, 9))
        left, top = int(rng.integers(WIDTH - width + 1)), int(rng.integers(HEIGHT - height + 1))
        box = (left, top, left + width, top + height)
        if not any(_overlap(box, other) for other in placed):
            return box
    return None


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw(image: NDArray[np.float64], box: Box, kind: int, ink: float) -> None:
    left, top, right, bottom = box
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    across, down = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
    filled = np.ones_like(across, dtype=bool)
    if CLASSES[kind] == "ellipse":
        filled = across**2 + down**2 <= 1
    if CLASSES[kind] == "frame":
        filled[1:-1, 1:-1] = False
    image[top:bottom, left:right] += ink * filled
