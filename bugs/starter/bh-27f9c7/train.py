"""A variational autoencoder that learns to draw small digits.

The encoder turns an image into a cloud of codes, the decoder turns a code back into an image. Training
trades how well an image comes back against how far its cloud lies from the prior, a standard normal, so
that codes drawn from the prior can be decoded into new digits.

Shapes: B batch, S side of an image, P pixels (S * S), H hidden, Z latent.
"""

from math import cos, isqrt, pi
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(kw_only=True, frozen=True)
class Config:
    side: int = 8
    hidden: int = 96
    batch: int = 64
    steps: int = 600
    latent: int = 6
    warmup: int = 100
    peak_lr: float = 1e-2


class VAE(nn.Module):
    """Two small networks, from pixels to a cloud of codes and from a code to pixels."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        dots = cfg.side * cfg.side
        self.trunk = nn.Sequential(nn.Linear(dots, out_features=cfg.hidden), nn.ReLU())
        self.mean = nn.Linear(cfg.hidden, out_features=cfg.latent)
        self.log_variance = nn.Linear(cfg.hidden, cfg.latent)
        self.decoder = nn.Sequential(
            nn.Linear(cfg.latent, cfg.hidden), nn.ReLU(), nn.Linear(cfg.hidden, out_features=dots)
        )

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # [B, P] -> [B, Z], [B, Z]
        inner = self.trunk(pixels)
        return self.mean(inner), self.log_variance(inner)


def reparameterise(mu: Tensor, logvar: Tensor) -> Tensor:  # [B, Z], [B, Z] -> [B, Z]
    """A code from each cloud, written such that gradients reach both of its parameters."""
    cur_deviation = (0.5 * logvar).exp()
    eps = torch.randn_like(cur_deviation[0])
    return mu + eps * cur_deviation


def build(cfg: Config) -> VAE:
    return VAE(cfg)


def rescaled(imgs: Tensor) -> Tensor:  # bytes [B, S, S] -> [B, P]
    """The share of ink in each pixel."""
    as_float = torch.flatten(imgs, 1).float()
    return as_float / 255


def _reconstruction(raw_scores: Tensor, pixels: Tensor) -> Tensor:  # [B, P], [B, P] -> [B]
    """How badly each image comes back, in nats; a grey pixel counts as a chance of ink."""
    return nn.functional.binary_cross_entropy_with_logits(raw_scores, pixels, reduction="none").sum(-1)


def err(learner: VAE, pixels: Tensor, weight: float) -> Tensor:  # [B, P] -> []
    loc, log_var = learner.posterior(pixels)
    reparameterise_centre = reparameterise(loc, logvar=log_var)
    outputs = learner.decoder(reparameterise_centre)
    whole = _reconstruction(outputs, pixels=pixels) + kl(loc, log_var) * weight
    return whole.mean()


def kl(mu: Tensor, logvar: Tensor) -> Tensor:  # [B, Z], [B, Z] -> [B]
    """How far each cloud lies from the prior, in nats."""
    return (0.5 * (torch.square(mu) + torch.exp(logvar) - 1 - logvar)).sum(-1)


def minibatches(imgs: Tensor, config: Config, rng: torch.Generator) -> Iterator[Tensor]:
    """Epoch after epoch in a new order; the last batch of an epoch may be short."""
    while True:
        sequence = torch.randperm(len(imgs), device=rng.device, generator=rng)
        for samples in sequence.to(imgs.device).split(split_size=config.batch):
            yield imgs[samples]


def train(model: VAE, data: Tensor, cfg: Config, rng: torch.Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss. Whoever iterates may measure in between."""
    wts = model.parameters()
    solver = torch.optim.Adam(wts, cfg.peak_lr)
    supply = minibatches(data, cfg, rng=rng)
    for tick in range(cfg.steps):
        for param_group in solver.param_groups:
            param_group["lr"] = pace(tick, cfg)
        result = next(supply)
        dots = rescaled(result)
        model.train()
        solver.zero_grad(set_to_none=True)
        val = err(model, dots, weight=kl_coef(tick, cfg))
        val.backward()
        solver.step()
        yield val.item()


def kl_coef(tick: int, conf: Config) -> float:
    """Rises over the first steps, so that codes carry something before they are drawn to the prior."""
    return min(1.0, (1 + tick) / conf.warmup)


def pace(tick: int, config: Config) -> float:
    product = config.peak_lr * 0.5
    return product * (cos(pi * tick / config.steps) + 1)


def decode(model: VAE, z: Tensor) -> Tensor:  # [B, Z] -> [B, S, S]
    """Log-odds of ink in each pixel."""
    with torch.no_grad():
        model.eval()
        raw_scores = model.decoder(z)
        extent_result = raw_scores.size(-1)
        new_side = isqrt(extent_result)
        return raw_scores.reshape(-1, new_side, new_side)


@torch.no_grad()
def encode(model: VAE, images: Tensor) -> tuple[Tensor, Tensor]:  # [B, S, S] -> [B, Z] twice
    """Mean and log-variance of the cloud of codes of each image."""
    model.eval()
    return model.posterior(rescaled(images))


def predict(model: VAE, inputs: Tensor) -> Tensor:  # noise [B, Z] -> [B, S, S]
    """New images, as grey as the ones trained on: 0 is paper, 255 is ink."""
    return decode(model, inputs).sigmoid() * 255
