"""Numbers kept as small integers, trained through their rounding, and an adapter that is merged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def quantise(x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scale and zero point of a tensor."""
    qmax = 2**bits - 1
    scale = (x.amax() - x.amin()) / qmax
    zero_point = torch.round(-x.amin() / scale)
    codes = torch.clamp(torch.round(x / scale) + zero_point, 0, qmax)
    return codes, scale, zero_point


def restored(x: Tensor, bits: int) -> Tensor:
    codes, scale, zero_point = quantise(x, bits)
    return (codes - zero_point) * scale


def weight_codes(w: Tensor) -> Tensor:
    """Weights [O, I] as they come back from eight bits, each output with a scale of its own."""
    scale = w.abs().amax(dim=1, keepdim=True) / 127
    return torch.round(w / scale) * scale


class Quantised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = low, high
        return (x.clamp(low, high) * 4).round() / 4

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high) = ctx.saved_tensors, ctx.limits
        return grad * ((x >= low) & (x <= high)), None, None


class Adapted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.lora_A, self.lora_B = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(5, 2))
        self.scaling = 16 / 2

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.scaling * (x @ self.lora_A.T @ self.lora_B.T)

    @torch.no_grad()
    def merge(self) -> Tensor:
        return self.weight + self.scaling * (self.lora_B @ self.lora_A)


def fingerprint() -> list[float]:
    torch.manual_seed(6)
    x = torch.randn(40) + 0.7
    far = torch.linspace(10.0, 11.0, 9)
    edge = torch.tensor([-0.5, 0.0, 0.3, 1.0, 2.0], requires_grad=True)
    Quantised.apply(edge, 0.0, 1.0).sum().backward()
    assert edge.grad is not None
    adapted = Adapted()
    weights = torch.randn(6, 5) * torch.tensor([1.0, 2.0, 8.0, 0.1, 3.0, 1.0])[:, None]
    parts = [restored(x, 4), restored(far, 4), weight_codes(weights), edge.grad, adapted.merge()]
    return [number for part in parts for number in part.flatten().tolist()]
