"""A denoiser that is told the time, and the sinusoids that tell it."""

import math

import torch
from torch import Tensor, nn


def wave(t: Tensor, width: int) -> Tensor:  # [B] -> [B, W]
    speeds = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2) / width)
    angles = t[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Denoiser(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.read = nn.Linear(2, width)
        self.time = nn.Linear(width, width)
        self.middle = nn.Linear(width, width)
        self.write = nn.Linear(width, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        temb = self.time(wave(t, self.width))
        h = (self.read(x) + temb).relu()
        h = h + self.middle(h).relu()
        return self.write(h)


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    model = Denoiser()
    return model(torch.randn(5, 2), torch.tensor([0.0, 3.0, 50.0, 400.0, 999.0])).flatten().tolist()
