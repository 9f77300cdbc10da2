"""A diffusion model that learns to draw points from a cloud of a peculiar shape.

Points are blurred with more and more noise until nothing of them is left; a network learns to say which
noise was added. New points come from pure noise, of which a little is taken away at every step back.

Shapes: N points, B batch, C coordinates, T noise levels, H hidden, W width of the code of a level.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    coordinates: int = 2
    levels: int = 40
    first_beta: float = 1e-3
    last_beta: float = 0.2
    hidden: int = 64
    width: int = 24
    batch: int = 192
    steps: int = 900
    lr: float = 5e-3
    decay: float = 0.985  # of the moving average


class Denoiser(nn.Module):
    """Says which noise is in a blurred point, given how far the blurring has gone."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.width = cfg.width
        self.level = nn.Linear(cfg.width, cfg.hidden)
        self.point = nn.Linear(cfg.coordinates, cfg.hidden)
        self.trunk = nn.Sequential(
            nn.SiLU(),
            nn.Linear(cfg.hidden, cfg.hidden),
            nn.SiLU(),
            nn.Linear(cfg.hidden, cfg.hidden),
            nn.SiLU(),
            nn.Linear(cfg.hidden, cfg.coordinates),
        )

    def forward(self, blurred: Tensor, t: Tensor) -> Tensor:  # [B, C], [B] -> [B, C]
        return self.trunk(self.point(blurred) + self.level(code(t, self.width)))


def code(t: Tensor, width: int) -> Tensor:  # [B] -> [B, W]
    """Sines and cosines of the level, from fast to slow."""
    half = width // 2
    speeds = torch.exp(-math.log(1000.0) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * speeds[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def betas(cfg: Config) -> Tensor:  # -> [T]
    """The variance of the noise that each level adds."""
    return torch.linspace(cfg.first_beta, cfg.last_beta, cfg.levels)


class Diffusion(nn.Module):
    """The network, its moving average, the noise levels and the scale of the data."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.net = Denoiser(cfg)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        beta = betas(cfg)
        kept = torch.cumprod(1 - beta, dim=0)
        kept_before = F.pad(kept[:-1], (1, 0), value=1.0)
        self.register_buffer("beta", beta)
        self.register_buffer("kept", kept)
        self.register_buffer("variance", beta * (1 - kept_before) / (1 - kept))
        self.register_buffer("mean", torch.zeros(cfg.coordinates))
        self.register_buffer("std", torch.ones(cfg.coordinates))


def build(cfg: Config) -> Diffusion:
    return Diffusion(cfg)


def diffuse(model: Diffusion, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Each point [B, C] blurred up to its own level [B], in one go; the variance stays one."""
    kept = model.kept[t][:, None]  # [B, 1]
    return kept.sqrt() * clean + (1 - kept).sqrt() * noise


def loss(model: Diffusion, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """How badly the network guesses the noise [B, C] in the blurred points, squared and averaged."""
    guess = model.net(diffuse(model, clean, t, noise), t)
    return F.mse_loss(guess, noise)


def guess_noise(model: Diffusion, blurred: Tensor, t: Tensor) -> Tensor:  # [N, C], [N] -> [N, C]
    return model.average(blurred, t)


def step_back(model: Diffusion, blurred: Tensor, level: int, noise: Tensor) -> Tensor:
    """From one level to the one below it, [N, C] -> [N, C]; fresh noise keeps the points apart."""
    t = torch.full((len(blurred),), level, device=blurred.device)
    guess = guess_noise(model, blurred, t)
    beta, kept = model.beta[level], model.kept[level]
    centre = (blurred - beta / (1 - kept).sqrt() * guess) / (1 - beta).sqrt()
    return centre + model.variance[level].sqrt() * noise


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the average a little towards the network."""
    for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
        slow.mul_(decay).add_(fast, alpha=1 - decay)


@torch.no_grad()
def fit_scale(model: Diffusion, points: Tensor) -> None:
    model.mean.copy_(points.mean(dim=0))
    model.std.copy_(points.std(dim=0))


def batches(points: Tensor, cfg: Config, rng: Generator) -> Iterator[Tensor]:
    """Epoch after epoch in a new order; the last batch of an epoch may be short."""
    while True:
        order = torch.randperm(len(points), generator=rng, device=rng.device)
        for rows in order.to(points.device).split(cfg.batch):
            yield points[rows]


def learning_rate(step: int, cfg: Config) -> float:
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * step / cfg.steps))


def train(model: Diffusion, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    fit_scale(model, data)
    stream = batches((data - model.mean) / model.std, cfg, rng)
    optimizer = torch.optim.Adam(model.net.parameters(), lr=cfg.lr)
    for step in range(cfg.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, cfg)
        clean = next(stream)
        t = torch.randint(cfg.levels, (len(clean),), device=clean.device)
        value = loss(model, clean, t, torch.randn_like(clean))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        update_average(model.average, model.net, cfg.decay)
        yield value.item()


@torch.no_grad()
def predict(model: Diffusion, inputs: Tensor) -> Tensor:  # noise [T + 1, N, C] -> points [N, C]
    """New points, which start at the last row of the noise; the other rows are used on the way."""
    *on_the_way, points = inputs
    for level in reversed(range(len(model.beta))):
        points = step_back(model, points, level, on_the_way[level])
    return points * model.std + model.mean
