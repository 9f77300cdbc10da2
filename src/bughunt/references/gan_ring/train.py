"""A generative adversarial network that learns to draw points from eight spots on a ring.

A generator turns noise into points, a discriminator tells drawn points from real ones. Each is trained
against the other: first the discriminator, then the generator, which wants its points to pass as real.

Shapes: N points, B batch, C coordinates, Z latent, H hidden.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    coordinates: int = 2
    latent: int = 5
    hidden: int = 64
    slope: float = 0.2  # of the leaky activations
    batch: int = 128
    steps: int = 900
    generator_lr: float = 2e-3
    discriminator_lr: float = 2.5e-3
    penalty: float = 0.02
    penalty_every: int = 4
    decay: float = 0.98  # of the moving average


def network(inputs: int, outputs: int, cfg: Config) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, cfg.hidden),
        nn.LeakyReLU(cfg.slope),
        nn.Linear(cfg.hidden, cfg.hidden),
        nn.LeakyReLU(cfg.slope),
        nn.Linear(cfg.hidden, outputs),
    )


class Adversaries(nn.Module):
    """Both players, and a moving average of the generator."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.generator = network(cfg.latent, cfg.coordinates, cfg)
        self.discriminator = network(cfg.coordinates, 1, cfg)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)


def build(cfg: Config) -> Adversaries:
    return Adversaries(cfg)


def latent(count: int, width: int, device: torch.device) -> Tensor:  # -> [B, Z]
    return torch.randn(count, width, device=device)


def scores(model: Adversaries, points: Tensor) -> Tensor:  # [B, C] -> [B]
    """Log-odds that each point is real, as the discriminator sees it."""
    return model.discriminator(points).squeeze(-1)


def discriminator_loss(model: Adversaries, real: Tensor, z: Tensor) -> Tensor:  # [B, C], [B, Z] -> []
    """The cost of mistaking one kind of point for the other; the generator is not to be changed by it."""
    drawn = model.generator(z).detach()
    of_real, of_drawn = scores(model, real), scores(model, drawn)
    missed = F.binary_cross_entropy_with_logits(of_real, torch.ones_like(of_real))
    fooled = F.binary_cross_entropy_with_logits(of_drawn, torch.zeros_like(of_drawn))
    return missed + fooled


def slope_penalty(model: Adversaries, real: Tensor) -> Tensor:  # [B, C] -> []
    """The squared slope of the scores at real points: a flat discriminator there keeps the game stable."""
    real = real.clone().requires_grad_(True)
    (slopes,) = torch.autograd.grad(scores(model, real).sum(), real, create_graph=True)
    return 0.5 * slopes.square().sum(dim=1).mean()


def generator_loss(model: Adversaries, z: Tensor) -> Tensor:  # [B, Z] -> []
    """The cost of being found out."""
    of_drawn = scores(model, model.generator(z))
    return F.binary_cross_entropy_with_logits(of_drawn, torch.ones_like(of_drawn))


@torch.no_grad()
def update_average(average: nn.Module, generator: nn.Module, decay: float) -> None:
    """Move the average a little towards the generator."""
    for slow, fast in zip(average.parameters(), generator.parameters(), strict=True):
        slow.mul_(decay).add_(fast, alpha=1 - decay)


def batches(points: Tensor, cfg: Config, rng: Generator) -> Iterator[Tensor]:
    """Epoch after epoch in a new order; the last batch of an epoch may be short."""
    while True:
        order = torch.randperm(len(points), generator=rng, device=rng.device)
        for rows in order.to(points.device).split(cfg.batch):
            yield points[rows]


def train(model: Adversaries, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update of each player per item, yielding the discriminator's loss."""
    generator_adam = torch.optim.Adam(model.generator.parameters(), lr=cfg.generator_lr, betas=(0.0, 0.99))
    discriminator_adam = torch.optim.Adam(
        model.discriminator.parameters(), lr=cfg.discriminator_lr, betas=(0.0, 0.99)
    )
    stream = batches(data, cfg, rng)
    for step in range(cfg.steps):
        real = next(stream)

        z = latent(len(real), cfg.latent, real.device)
        reported = discriminator_loss(model, real, z)
        value = reported
        if step % cfg.penalty_every == 0:
            value = value + cfg.penalty * cfg.penalty_every * slope_penalty(model, real)
        discriminator_adam.zero_grad()
        value.backward()
        discriminator_adam.step()

        z = latent(len(real), cfg.latent, real.device)
        value = generator_loss(model, z)
        generator_adam.zero_grad()
        value.backward()
        generator_adam.step()

        update_average(model.average, model.generator, cfg.decay)
        yield reported.item()


@torch.no_grad()
def predict(model: Adversaries, inputs: Tensor) -> Tensor:  # noise [N, Z] -> points [N, C]
    """New points, drawn by the averaged generator."""
    return model.average(inputs)
