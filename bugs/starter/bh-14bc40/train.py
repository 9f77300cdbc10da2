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
import torch.nn.functional as F


@dataclass(kw_only=True, frozen=True)
class Config:
    side: int = 8
    hidden: int = 96
    batch: int = 64
    latent: int = 6
    warmup: int = 100
    steps: int = 600
    peak_lr: float = 0.2


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
        hid = self.trunk(pixels)
        return self.mean(hid), self.log_variance(hid)


def build(cfg: Config) -> VAE:
    return VAE(cfg)


def resized(imgs: Tensor) -> Tensor:  # bytes [B, S, S] -> [B, P]
    """The share of ink in each pixel."""
    return imgs.flatten(start_dim=1).float() / 255


def _reconstruction_impl(raw_scores: Tensor, pixels: Tensor) -> Tensor:  # [B, P], [B, P] -> [B]
    """How badly each image comes back, in nats; a grey pixel counts as a chance of ink."""
    per_pixel_now = F.binary_cross_entropy_with_logits(raw_scores, target=pixels, reduction="none")
    return torch.sum(per_pixel_now, dim=-1)


def cost(net: VAE, pixels: Tensor, weight: float) -> Tensor:  # [B, P] -> []
    centre, log_var = net.posterior(pixels)
    preds = net.decoder(reparameterise(centre, logvar=log_var))
    return (_reconstruction_impl(preds, pixels=pixels) + kl(centre, log_var) * weight).mean()


def reparameterise(mu: Tensor, logvar: Tensor) -> Tensor:  # [B, Z], [B, Z] -> [B, Z]
    """A code from each cloud, written so that gradients reach both of its parameters."""
    product = 0.5 * logvar
    deviation_now = product.exp()
    return mu + deviation_now * torch.randn_like(deviation_now)


def kl_wt(it: int, settings: Config) -> float:
    """Rises over the first steps, such that codes carry something before they are drawn to the prior."""
    return min(1.0, (1 + it) / settings.warmup)


def kl(mu: Tensor, logvar: Tensor) -> Tensor:  # [B, Z], [B, Z] -> [B]
    """How far each cloud lies from the prior, in nats."""
    difference = torch.square(mu) + torch.exp(logvar) - 1 - logvar
    this_per_latent = 0.5 * difference
    return torch.sum(this_per_latent, dim=-1)


def step_length(iteration: int, config: Config) -> float:
    product = config.peak_lr * 0.5
    return product * (1 + cos(pi * iteration / config.steps))


def train(model: VAE, data: Tensor, cfg: Config, rng: torch.Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss. Whoever iterates may measure in between."""
    solver = torch.optim.Adam(model.parameters(), cfg.peak_lr)
    source = minibatches(data, cfg, rng=rng)
    for it in range(cfg.steps):
        for bucket in solver.param_groups:
            bucket["lr"] = step_length(it, cfg)
        result = next(source)
        intensities = resized(result)
        model.train()
        solver.zero_grad(set_to_none=True)
        content = cost(model, intensities, weight=kl_wt(it, cfg))
        content.backward()
        solver.step()
        yield content.item()


def minibatches(pictures: Tensor, config: Config, rng: torch.Generator) -> Iterator[Tensor]:
    """Epoch after epoch in a new order; the last batch of an epoch may be short."""
    while True:
        sequence = torch.randperm(len(pictures), generator=rng, device=rng.device)
        for samples in sequence.to(pictures.device).split(config.batch):
            yield pictures[samples]


@torch.no_grad()
def encode(model: VAE, images: Tensor) -> tuple[Tensor, Tensor]:  # [B, S, S] -> [B, Z] twice
    """Mean and log-variance of the cloud of codes of each image."""
    model.eval()
    scaled_imgs = resized(images)
    return model.posterior(scaled_imgs)


def predict(model: VAE, inputs: Tensor) -> Tensor:  # noise [B, Z] -> [B, S, S]
    """New images, as grey as the ones trained on: 0 is paper, 255 is ink."""
    return 255 * decode(model, inputs).sigmoid()


@torch.no_grad()
def decode(model: VAE, z: Tensor) -> Tensor:  # [B, Z] -> [B, S, S]
    """Log-odds of ink in each pixel."""
    model.eval()
    raw_scores = model.decoder(z)
    side_now = isqrt(raw_scores.size(-1))
    return raw_scores.view(-1, side_now, side_now)
