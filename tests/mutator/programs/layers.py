"""Normalisation layers written out, and attention in half precision."""

import torch
from torch import Tensor, nn


class LayerNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C]
        mean = x.mean(dim=-1, keepdim=True)
        var = x.var(dim=-1, keepdim=True, unbiased=False)
        return self.gain * (x - mean) / (var + self.eps) ** 0.5


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C]
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return (wide * (1 + self.weight)).to(x.dtype)


def attention(scores: Tensor, hidden: Tensor) -> Tensor:  # [T, T]
    lowest = torch.finfo(scores.dtype).min
    return torch.where(hidden, lowest, scores).masked_fill(hidden, lowest).softmax(dim=-1)


def unit(x: Tensor, eps: float = 1e-5) -> Tensor:
    return x / (x.norm(dim=-1, keepdim=True) + eps)


def fingerprint() -> list[float]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, generator=generator)
    x[0, 0] *= 1e-3
    x[1, 1] += 1e4
    scores = torch.randn(3, 3, generator=generator).half()
    hidden = torch.ones(3, 3, dtype=torch.bool).triu(1)
    parts = [
        LayerNorm(4)(x),
        RMSNorm(4)((300 * x[:1]).half()),
        attention(scores, hidden),
        unit(torch.cat([torch.zeros(1, 3), torch.ones(1, 3)]).half()),
    ]
    return [value for part in parts for value in part.float().flatten().tolist()]
