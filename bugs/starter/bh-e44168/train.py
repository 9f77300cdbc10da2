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


@dataclass(frozen=True, kw_only=True)
class Config:
    side: int = 8
    latent: int = 6
    batch: int = 64
    hidden: int = 96
    steps: int = 600
    peak_lr: float = 1e-2
    warmup: int = 100


class VAE(nn.Module):
    """Two small networks, from pixels to a cloud of codes and from a code to pixels."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        dots = cfg.side * cfg.side
        self.trunk = nn.Sequential(nn.Linear(dots, out_features=cfg.hidden), nn.ReLU())
        self.mean = nn.Linear(cfg.hidden, cfg.latent)
        self.log_variance = nn.Linear(cfg.hidden, cfg.latent)
        self.decoder = nn.Sequential(
            nn.Linear(cfg.latent, cfg.hidden), nn.ReLU(), nn.Linear(cfg.hidden, dots)
        )

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # [B, P] -> [B, Z], [B, Z]
        hid = self.trunk(pixels)
        return self.mean(hid), self.log_variance(hid)


def resized(imgs: Tensor) -> Tensor:  # bytes [B, S, S] -> [B, P]
    """The share of ink in each pixel."""
    as_float = imgs.flatten(start_dim=1).float()
    return as_float / 255


def reparameterise(mu: Tensor, logvar: Tensor) -> Tensor:  # [B, Z], [B, Z] -> [B, Z]
    """A code from each cloud, written such that gradients reach both of its parameters."""
    new_deviation = (0.5 * logvar).exp()
    return mu + new_deviation * torch.randn_like(new_deviation)


def kl(mu: Tensor, logvar: Tensor) -> Tensor:  # [B, Z], [B, Z] -> [B]
    """How far each cloud lies from the prior, in nats."""
    return (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).mean(dim=-1)


def build(cfg: Config) -> VAE:
    return VAE(cfg)


def _reconstruction_impl(raw_scores: Tensor, pixels: Tensor) -> Tensor:  # [B, P], [B, P] -> [B]
    """How badly each image comes back, in nats; a grey pixel counts as a chance of ink."""
    per_pixel_now = nn.functional.binary_cross_entropy_with_logits(raw_scores, pixels, reduction="none")
    return per_pixel_now.sum(dim=-1)


def objective(network: VAE, pixels: Tensor, weight: float) -> Tensor:  # [B, P] -> []
    centre, log_var = network.posterior(pixels)
    unnormalised = network.decoder(reparameterise(centre, logvar=log_var))
    whole = _reconstruction_impl(unnormalised, pixels=pixels) + weight * kl(centre, log_var)
    return whole.mean()


def pace(it: int, cfg: Config) -> float:
    return cfg.peak_lr * 0.5 * (1 + cos(it * pi / cfg.steps))


def kl_wt(tick: int, cfg: Config) -> float:
    """Rises over the first steps, so that codes carry something before they are drawn to the prior."""
    return min(1.0, (tick + 1) / cfg.warmup)


def train(model: VAE, data: Tensor, cfg: Config, rng: torch.Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss. Whoever iterates may measure in between."""
    updater = torch.optim.Adam(model.parameters(), lr=cfg.peak_lr)
    supply = minibatches(data, cfg, rng=rng)
    for iteration in range(cfg.steps):
        for param_group in updater.param_groups:
            param_group["lr"] = pace(iteration, cfg=cfg)
        dots = resized(next(supply))
        model.train()
        updater.zero_grad(set_to_none=True)
        val = objective(model, dots, weight=kl_wt(iteration, cfg))
        val.backward()
        updater.step()
        yield val.item()


def encode(model: VAE, images: Tensor) -> tuple[Tensor, Tensor]:  # [B, S, S] -> [B, Z] twice
    """Mean and log-variance of the cloud of codes of each image."""
    with torch.no_grad():
        model.eval()
        scaled_imgs = resized(images)
        return model.posterior(scaled_imgs)


def minibatches(imgs: Tensor, cfg: Config, rng: torch.Generator) -> Iterator[Tensor]:
    """Epoch after epoch in a new order; the last batch of an epoch may be short."""
    while True:
        sequence = torch.randperm(len(imgs), generator=rng, device=rng.device)
        for samples in sequence.to(imgs.device).split(cfg.batch):
            yield imgs[samples]


def predict(model: VAE, inputs: Tensor) -> Tensor:  # noise [B, Z] -> [B, S, S]
    """New images, as grey as the ones trained on: 0 is paper, 255 is ink."""
    return 255 * decode(model, inputs).sigmoid()


@torch.no_grad()
def decode(model: VAE, z: Tensor) -> Tensor:  # [B, Z] -> [B, S, S]
    """Log-odds of ink in each pixel."""
    model.eval()
    preds = model.decoder(z)
    new_side = isqrt(preds.shape[-1])
    return preds.view(-1, new_side, new_side)
