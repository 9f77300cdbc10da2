"""Coloured glyphs of different sizes, packed one after the other as a scanner would write them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data.glyphs import SIDE, glyphs


def pack(images: list[NDArray[np.uint8]]) -> dict[str, Tensor]:
    """Bytes [H, W, 3] of each image, and the shapes [N, 2] that tell them apart."""
    flat = np.concatenate([image.reshape(-1) for image in images])
    shapes = np.array([image.shape[:2] for image in images])
    return {"bytes": torch.from_numpy(flat), "shapes": torch.from_numpy(shapes)}


def packs(count: int, seed: int, *, turn: float = 0.0, ordered: bool = False) -> dict[str, Tensor]:
    """A pack with `labels` [N]: glyphs turned by up to `turn` radians more, each on its own paper."""
    rng = np.random.default_rng(seed + 7)
    drawn = glyphs(count, seed, noise=0.12, ordered=ordered)
    ink = drawn["images"].double() / 255
    turned = _turned(ink, torch.from_numpy(rng.uniform(-turn, turn, count)))
    images = [_sheet(one.numpy(), rng) for one in turned]
    return {**pack(images), "labels": drawn["labels"]}


def _turned(ink: Tensor, angle: Tensor) -> Tensor:  # [N, 12, 12], [N] -> [N, 12, 12]
    zero = torch.zeros_like(angle)
    rows = [
        torch.stack([angle.cos(), -angle.sin(), zero], dim=1),
        torch.stack([angle.sin(), angle.cos(), zero], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [len(ink), 1, SIDE, SIDE], align_corners=False)
    return F.grid_sample(ink[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _sheet(ink: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Dark ink on light paper, with up to three pixels of margin on every side."""
    margins = rng.integers(0, 4, (2, 2))
    wide = np.pad(ink, margins, mode="edge")[..., None]
    paper, pen = rng.uniform(0.6, 0.95, 3), rng.uniform(0.0, 0.45, 3)
    light = paper * (1 - wide) + pen * wide
    return np.rint(255 * light.clip(0, 1)).astype(np.uint8)
