"""What happens to images before the network sees them: at random in training, always the same otherwise.

Every function draws from the generator that it is given, which lives on the processor whatever the images
do, and leaves its input as it is.

Shapes: B batch, S side.
"""

import torch
from settings import Config
from torch import Generator, Tensor
from torch.nn import functional as F


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:  # [N, 3, S, S] -> [3], [3]
    """Mean and deviation of each colour over all pixels of all images."""
    return images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:  # [B, 3, S, S], [3], [3]
    return (images - mean[:, None, None]) / std[:, None, None]


def evenly(count: int, spread: float, rng: Generator) -> Tensor:  # -> [B]
    """Even draws, up to `spread` to either side of zero."""
    return spread * (2 * torch.rand(count, generator=rng) - 1)


def warp(images: Tensor, angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Turn, scale and shift each image [B, 3, S, S] by its own angle [B], scale [B] and shift [B, 2].

    What comes in from outside repeats the edge.
    """
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = [
        torch.stack([cosine, -sine, shift[:, 0]], dim=1),
        torch.stack([sine, cosine, shift[:, 1]], dim=1),
    ]
    matrices = torch.stack(rows, dim=1).to(images.device)  # [B, 2, 3]
    grid = F.affine_grid(matrices, images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_warp(images: Tensor, cfg: Config, rng: Generator) -> Tensor:  # [B, 3, S, S] -> same
    """Each image a little turned, scaled and shifted, in its own way."""
    count = len(images)
    angle = evenly(count, cfg.turn, rng)
    scale = 1 + evenly(count, cfg.stretch, rng)
    shift = torch.stack([evenly(count, cfg.shift, rng) for _ in range(2)], dim=1)
    return warp(images, angle, scale, shift)


def random_contrast(images: Tensor, cfg: Config, rng: Generator) -> Tensor:  # [B, 3, S, S] -> same
    """More or less of the difference from each image's own mean colour, within what a byte can hold."""
    factor = 1 + evenly(len(images), cfg.contrast, rng)
    factor = factor.to(images.device)[:, None, None, None]
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (mean + factor * (images - mean)).clamp(0, 1)


def random_hole(images: Tensor, cfg: Config, rng: Generator) -> Tensor:  # [B, 3, S, S] -> same
    """A square of some images becomes their mean colour; it lies within the image."""
    count, side = len(images), images.size(-1)
    corner = torch.randint(side - cfg.hole + 1, (count, 2), generator=rng)
    chosen = torch.rand(count, generator=rng) < cfg.hole_share
    axis = torch.arange(side)
    inside = (axis >= corner[..., None]) & (axis < corner[..., None] + cfg.hole)  # [B, 2, S]
    square = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen[:, None, None]
    mean = images.mean(dim=(2, 3), keepdim=True)
    return torch.where(square[:, None].to(images.device), mean, images)


def for_training(images: Tensor, cfg: Config, rng: Generator) -> Tensor:  # [B, 3, S, S] -> same
    """Colours first, then places; the hole comes last, so that nothing blurs it."""
    images = random_contrast(images, cfg, rng)
    images = random_warp(images, cfg, rng)
    return random_hole(images, cfg, rng)


def views(images: Tensor, cfg: Config) -> list[Tensor]:  # [B, 3, S, S] -> three of the same
    """The images as they are, and turned a little to either side."""
    still = torch.zeros(len(images))
    turned = [
        warp(images, still + angle, still + 1, torch.zeros(len(images), 2)) for angle in (-cfg.tilt, cfg.tilt)
    ]
    return [images, *turned]
