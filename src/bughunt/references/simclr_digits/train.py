"""Contrastive pre-training: an encoder learns from images without a label which two come from the same one.

Every image of a batch is drawn twice, each time turned, scaled and shifted a little differently. The
two drawings are to be closer to each other than to the drawings of all other images. What the encoder
knows afterwards is read out by others, with a few labels and a linear map.

Shapes: B batch, S side of an image, P pixels (S * S), F features, Z width of the projection.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    side: int = 12
    hidden: int = 112
    features: int = 48
    projection: int = 20
    temperature: float = 0.3
    turn: float = 0.2  # radians, to either side
    stretch: float = 0.22
    shift: float = 0.16  # of half a side
    noise: float = 0.1
    batch: int = 144
    steps: int = 320
    lr: float = 4e-3
    weight_decay: float = 1e-4


class Encoder(nn.Module):
    """From pixels to features; the projection is for training alone."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Flatten(),
            nn.Linear(cfg.side**2, cfg.hidden),
            nn.BatchNorm1d(cfg.hidden),
            nn.ReLU(),
            nn.Linear(cfg.hidden, cfg.features),
        )
        self.project = nn.Sequential(nn.ReLU(), nn.Linear(cfg.features, cfg.projection))


def build(cfg: Config) -> Encoder:
    return Encoder(cfg)


def scaled(images: Tensor) -> Tensor:  # bytes [B, S, S] -> [B, S, S]
    """The share of ink in each pixel."""
    return images.float() / 255


def around_zero(like: Tensor, spread: float) -> Tensor:  # [B] -> [B]
    """Even draws, up to `spread` to either side."""
    return spread * (2 * torch.rand_like(like) - 1)


def augment(pixels: Tensor, cfg: Config) -> Tensor:  # [B, S, S] -> [B, S, S]
    """The same images seen a little differently, each in its own way."""
    each = pixels.new_zeros(len(pixels))
    angle = around_zero(each, cfg.turn)
    scale = 1 + around_zero(each, cfg.stretch)
    across, down = around_zero(each, cfg.shift), around_zero(each, cfg.shift)
    rows = [
        torch.stack([scale * angle.cos(), -scale * angle.sin(), across], dim=1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), down], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), pixels[:, None].shape, align_corners=False)
    seen = F.grid_sample(pixels[:, None], grid, align_corners=False).squeeze(1)
    return seen + cfg.noise * torch.randn_like(seen)


def nt_xent(one: Tensor, other: Tensor, temperature: float) -> Tensor:  # [B, Z], [B, Z] -> []
    """Each view has to find its twin among all views but itself, by the cosine between them."""
    views = F.normalize(torch.cat([one, other]), dim=1)  # [2B, Z]
    scores = views @ views.T / temperature  # [2B, 2B]
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    scores = scores.masked_fill(itself, -torch.inf)
    twins = torch.arange(len(views), device=views.device).roll(len(one))
    return F.cross_entropy(scores, twins)


def loss(model: Encoder, images: Tensor, cfg: Config) -> Tensor:  # [B, S, S] -> []
    pixels = scaled(images)
    one = model.project(model.trunk(augment(pixels, cfg)))
    other = model.project(model.trunk(augment(pixels, cfg)))
    return nt_xent(one, other, cfg.temperature)


def learning_rate(step: int, cfg: Config) -> float:
    """Half a cosine from the start down to zero."""
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * step / cfg.steps))


def batches(images: Tensor, cfg: Config, rng: Generator) -> Iterator[Tensor]:
    """Pass after pass in a new order; rows that do not fill a batch wait for another pass."""
    while True:
        order = torch.randperm(len(images), generator=rng, device=rng.device).to(images.device)
        size = min(cfg.batch, len(images))
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]


def train(model: Encoder, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    stream = batches(data, cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        model.train()
        optim.zero_grad()
        value = loss(model, next(stream), cfg)
        value.backward()
        optim.step()
        yield value.item()


@torch.no_grad()
def predict(model: Encoder, inputs: Tensor) -> Tensor:  # images [B, S, S] -> [B, F]
    """The features that others build on: what the trunk says, before the projection."""
    model.eval()
    return model.trunk(scaled(inputs))
