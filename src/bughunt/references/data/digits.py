"""Grey 8x8 digits drawn with a jittered pen, as raw bytes and their labels.

Each digit is a few strokes on the unit square (x to the right, y downwards). A drawing moves the corners
of the strokes a little, slants and shifts the whole, and inks every pixel by its distance to the pen's path.
"""

import numpy as np
from numpy.typing import NDArray

SIDE = 8
Stroke = tuple[tuple[float, float], ...]

STROKES: tuple[tuple[Stroke, ...], ...] = (
    (((0.5, 0.1), (0.75, 0.25), (0.8, 0.6), (0.5, 0.9), (0.2, 0.65), (0.25, 0.25), (0.5, 0.1)),),
    (((0.35, 0.3), (0.55, 0.1), (0.55, 0.9)),),
    (((0.2, 0.3), (0.4, 0.1), (0.75, 0.2), (0.7, 0.5), (0.2, 0.9), (0.8, 0.9)),),
    (((0.2, 0.12), (0.7, 0.15), (0.45, 0.45), (0.78, 0.65), (0.55, 0.9), (0.2, 0.85)),),
    (((0.55, 0.1), (0.2, 0.6), (0.85, 0.6)), ((0.65, 0.35), (0.65, 0.9))),
    (((0.75, 0.1), (0.3, 0.1), (0.25, 0.47), (0.7, 0.5), (0.75, 0.8), (0.2, 0.9)),),
    (((0.65, 0.1), (0.3, 0.4), (0.25, 0.8), (0.6, 0.9), (0.75, 0.65), (0.3, 0.6)),),
    (((0.2, 0.1), (0.8, 0.12), (0.4, 0.9)),),
    (
        ((0.5, 0.1), (0.75, 0.27), (0.5, 0.48), (0.25, 0.27), (0.5, 0.1)),
        ((0.5, 0.48), (0.8, 0.7), (0.5, 0.9), (0.2, 0.7), (0.5, 0.48)),
    ),
    (((0.72, 0.4), (0.35, 0.45), (0.3, 0.15), (0.7, 0.12), (0.72, 0.4), (0.6, 0.9)),),
)


def draw(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` images [N, 8, 8] with 0 for paper and 255 for ink, and their labels [N]."""
    labels = rng.integers(len(STROKES), size=count)
    images = np.zeros((count, SIDE, SIDE), np.uint8)
    for digit, strokes in enumerate(STROKES):
        chosen = np.flatnonzero(labels == digit)
        images[chosen] = _ink(strokes, len(chosen), rng)
    return images, labels.astype(np.int64)


def _ink(strokes: tuple[Stroke, ...], count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    slant = _slant(count, rng)
    shift = rng.normal(0.0, 0.015, (count, 1, 2))
    nearest = np.full((count, SIDE * SIDE), np.inf)
    for stroke in strokes:
        corners = np.asarray(stroke) + rng.normal(0.0, 0.02, (count, len(stroke), 2))
        corners = 0.5 + (corners - 0.5) @ slant + shift
        nearest = np.minimum(nearest, _distance(corners[:, :-1], corners[:, 1:]))
    width = rng.uniform(0.055, 0.1, (count, 1))
    ink = 1.0 / (1.0 + np.exp((nearest - width) / 0.03))
    return np.round(255.0 * ink).astype(np.uint8).reshape(count, SIDE, SIDE)


def _slant(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Matrices [N, 2, 2] that turn, shear and stretch a little."""
    turn = rng.normal(0.0, 0.05, count)
    shear = rng.normal(0.0, 0.06, count)
    stretch = rng.uniform(0.9, 1.05, (2, count))
    rows = [
        [stretch[0] * np.cos(turn), np.sin(turn)],
        [shear - np.sin(turn), stretch[1] * np.cos(turn)],
    ]
    return np.moveaxis(np.asarray(rows), -1, 0)


def _distance(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """From each pixel's centre to the nearest of the segments: [N, S, 2] twice -> [N, 64]."""
    axis = (np.arange(SIDE) + 0.5) / SIDE
    pixels = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(1, 1, -1, 2)
    along = (ends - starts)[:, :, None]
    reach = ((pixels - starts[:, :, None]) * along).sum(-1) / (along**2).sum(-1).clip(1e-9)
    foot = starts[:, :, None] + reach.clip(0.0, 1.0)[..., None] * along
    return np.sqrt(((pixels - foot) ** 2).sum(-1)).min(axis=1)
