"""Digits drawn as seven-segment strokes under jitter and noise: a licence-free image set with head-room.

A linear reader gets about 0.74 of them right, a small MLP 0.83 and a convolutional network 0.97.
"""

import numpy as np
import torch
from torch import Tensor

SIDE = 12
CLASSES = 10

# Each segment from one end to the other, in a box that reaches from -0.5 to 0.5 and from -1 to 1.
ENDS = np.array(
    [
        [[-0.5, -1.0], [0.5, -1.0]],  # a
        [[0.5, -1.0], [0.5, 0.0]],  # b
        [[0.5, 0.0], [0.5, 1.0]],  # c
        [[-0.5, 1.0], [0.5, 1.0]],  # d
        [[-0.5, 0.0], [-0.5, 1.0]],  # e
        [[-0.5, -1.0], [-0.5, 0.0]],  # f
        [[-0.5, 0.0], [0.5, 0.0]],  # g
    ],
    dtype=np.float32,
)
DIGITS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")
LIT = np.array([[segment in digit for segment in "abcdefg"] for digit in DIGITS])  # [10, 7]


def glyphs(count: int, seed: int, *, noise: float = 0.2, ordered: bool = False) -> dict[str, Tensor]:
    """`count` images `[N, 12, 12]` of bytes with their labels `[N]`; `ordered` sorts them by label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    if ordered:
        labels = np.sort(labels)
    ends = _placed(count, rng)
    width = rng.uniform(0.10, 0.20, (count, 1)).astype(np.float32)
    distance = np.full((count, SIDE * SIDE), 9.0, np.float32)
    for segment in range(len(ENDS)):
        rows = np.flatnonzero(LIT[labels, segment])
        near = _distance(ends[rows, segment])
        distance[rows] = np.minimum(distance[rows], near)
    ink = 1 / (1 + np.exp((distance - width) / 0.06))
    ink += noise * rng.standard_normal(ink.shape, dtype=np.float32)
    scaled = (ink.clip(-0.5, 1.5) + 0.5) * 127.5  # the range of a byte
    images = np.rint(scaled).astype(np.uint8).reshape(count, SIDE, SIDE)
    return {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}


def _placed(count: int, rng: np.random.Generator) -> np.ndarray:
    """The ends of every segment of every image after rotation, shear, scaling and a shift."""
    angle = rng.uniform(-0.3, 0.3, count)
    scale = rng.uniform(0.7, 1.0, count)
    shear = rng.uniform(-0.2, 0.2, count)
    shift = rng.uniform(-0.25, 0.25, (count, 1, 1, 2))
    cos, sin = np.cos(angle), np.sin(angle)
    rows = [[cos, shear * cos - sin], [sin, shear * sin + cos]]
    matrix = np.array(rows).transpose(2, 0, 1) * scale[:, None, None]  # [N, 2, 2]
    return (np.einsum("sej,nij->nsei", ENDS, matrix) + shift).astype(np.float32)  # [N, 7, 2, 2]


def _distance(ends: np.ndarray) -> np.ndarray:
    """How far each pixel `[144]` is from each stroke `[R, 2, 2]`."""
    grid = ((np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE * 2 - 1) * np.float32(1.35)
    x, y = np.tile(grid, SIDE), np.repeat(grid, SIDE)
    start, along = ends[:, 0], ends[:, 1] - ends[:, 0]
    dx, dy = x - start[:, :1], y - start[:, 1:]
    ax, ay = along[:, :1], along[:, 1:]
    part = ((dx * ax + dy * ay) / (ax * ax + ay * ay)).clip(0, 1)
    return np.sqrt((dx - part * ax) ** 2 + (dy - part * ay) ** 2)
