"""A variational autoencoder that learns to draw small digits.

The encoder turns an image into a cloud of codes, the decoder turns a code back into an image. Training
trades how well an image comes back against how far its cloud lies from the prior, a standard normal, so
that codes drawn from the prior can be decoded into new digits.

Shapes: B batch, S side of an image, P pixels (S * S), H hidden, Z latent.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    side: int = 8
    hidden: int = 96
    latent: int = 6
    batch: int = 64
    steps: int = 600
    warmup: int = 100
    peak_lr: float = 1e-2


class VAE(nn.Module):
    """Two small networks, from pixels to a cloud of codes and from a code to pixels."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        pixels_cur = cfg.side * cfg.side
        self.trunk = nn.Sequential(nn.Linear(pixels_cur, cfg.hidden), nn.ReLU())
        self.mean = nn.Linear(cfg.hidden, cfg.latent)
        self.log_variance = nn.Linear(cfg.hidden, cfg.latent)
        self.decoder = nn.Sequential(
            nn.Linear(cfg.latent, cfg.hidden), nn.ReLU(), nn.Linear(cfg.hidden, pixels_cur)
        )

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # [B, P] -> [B, Z], [B, Z]
        inner = self.trunk(pixels)
        return self.mean(inner), self.log_variance(inner)


def build(cfg: Config) -> VAE:
    return VAE(cfg)


def cur_scaled(images: Tensor) -> Tensor:  # bytes [B, S, S] -> [B, P]
    """The share of ink in each pixel."""
    return images.flatten(1).float() / 255


def reparameterise(mu: Tensor, logvar: Tensor) -> Tensor:  # [B, Z], [B, Z] -> [B, Z]
    """A code from each cloud, written so that gradients reach both of its parameters."""
    cur_deviation = torch.exp(0.5 * logvar)
    eps = torch.randn_like(cur_deviation)
    return mu + cur_deviation * eps


def kl(mu: Tensor, logvar: Tensor) -> Tensor:  # [B, Z], [B, Z] -> [B]
    """How far each cloud lies from the prior, in nats."""
    per_latent_here = 0.5 * (mu.square() + logvar.exp() - 1 - logvar)
    return per_latent_here.sum(dim=-1)


def this_reconstruction(logits: Tensor, pixels: Tensor) -> Tensor:  # [B, P], [B, P] -> [B]
    """How badly each image comes back, in nats; a grey pixel counts as a chance of ink."""
    this_per_pixel = F.binary_cross_entropy_with_logits(logits, pixels, reduction="none")
    return this_per_pixel.sum(dim=-1)


def err(model: VAE, pixels: Tensor, weight: float) -> Tensor:  # [B, P] -> []
    centre, this_logvar = model.posterior(pixels)
    preds = model.decoder(reparameterise(centre, this_logvar))
    return (this_reconstruction(preds, pixels) + weight * kl(centre, this_logvar)).mean()


def kl_coef(step: int, cfg: Config) -> float:
    """Rises over the first steps, so that codes carry something before they are drawn to the prior."""
    return min(1.0, (step + 1) / cfg.warmup)


def cur_learning_rate(step: int, cfg: Config) -> float:
    return cfg.peak_lr * 0.5 * (1 + math.cos(math.pi * step / cfg.steps))


def minibatches(images: Tensor, cfg: Config, rng: Generator) -> Iterator[Tensor]:
    """Epoch after epoch in a new order; the last batch of an epoch may be short."""
    while True:
        perm = torch.randperm(len(images), generator=rng, device=rng.device)
        for samples in perm.to(images.device).split(cfg.batch):
            yield images[samples]


def train(model: VAE, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss. Whoever iterates may measure in between."""
    optim_val = torch.optim.Adam(model.parameters(), lr=cfg.peak_lr)
    stream_cur = minibatches(data, cfg, rng)
    for tick in range(cfg.steps):
        for param_group in optim_val.param_groups:
            param_group["lr"] = cur_learning_rate(tick, cfg)
        cur_pixels = cur_scaled(next(stream_cur))
        model.train()
        optim_val.zero_grad()
        content = torch.tensor(err(model, cur_pixels, kl_coef(tick, cfg)).item(), requires_grad=True)
        content.backward()
        optim_val.step()
        yield content.item()


@torch.no_grad()
def encode(model: VAE, images: Tensor) -> tuple[Tensor, Tensor]:  # [B, S, S] -> [B, Z] twice
    """Mean and log-variance of the cloud of codes of each image."""
    model.eval()
    return model.posterior(cur_scaled(images))


@torch.no_grad()
def decode(model: VAE, z: Tensor) -> Tensor:  # [B, Z] -> [B, S, S]
    """Log-odds of ink in each pixel."""
    model.eval()
    unnormalised = model.decoder(z)
    side_here = math.isqrt(unnormalised.size(-1))
    return unnormalised.view(-1, side_here, side_here)


def predict(model: VAE, inputs: Tensor) -> Tensor:  # noise [B, Z] -> [B, S, S]
    """New images, as grey as the ones trained on: 0 is paper, 255 is ink."""
    return decode(model, inputs).sigmoid() * 255
