"""Diffusion of points in the plane, with a cosine schedule and the way back."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

T = 12


def schedule(steps: int) -> Tensor:
    x = torch.linspace(0, steps, steps + 1)
    kept = torch.cos((x / steps + 0.008) / 1.008 * math.pi * 0.5) ** 2
    return (1 - kept[1:] / kept[:-1]).clamp(max=0.99)


class Diffusion:
    def __init__(self) -> None:
        self.betas = schedule(T)
        self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)
        alphas_cumprod_prev = F.pad(self.alphas_cumprod[:-1], (1, 0), value=1.0)
        self.variance = self.betas * (1 - alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([x, t[:, None] / T], dim=1))

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        t = torch.randint(0, T, (len(x),))
        kept = self.alphas_cumprod[t][:, None]
        noised = kept.sqrt() * x + (1 - kept).sqrt() * noise
        return F.mse_loss(self.denoise(noised, t), noise)

    def back(self, x: Tensor, level: int) -> Tensor:
        t = torch.full((len(x),), level)
        kept, beta = self.alphas_cumprod[level], self.betas[level]
        mean = (x - beta / (1 - kept).sqrt() * self.denoise(x, t)) / (1 - beta).sqrt()
        return mean + self.variance[level].abs().sqrt() * torch.randn_like(x) if level else mean


def fingerprint() -> list[float]:
    torch.manual_seed(5)
    model = Diffusion()
    adam = torch.optim.Adam(model.net.parameters(), lr=0.02)
    losses = []
    for _ in range(8):
        x = torch.randn(9, 2) * 0.3 + torch.tensor([1.0, -0.5])
        adam.zero_grad()
        loss = model.loss(x, torch.randn_like(x))
        loss.backward()
        adam.step()
        losses.append(loss.item())
    x = torch.randn(5, 2)
    with torch.no_grad():
        for level in reversed(range(T)):
            x = model.back(x, level)
    return [*losses, *x.flatten().tolist(), *model.betas.tolist()]
