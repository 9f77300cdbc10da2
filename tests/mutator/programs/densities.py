"""A flow of one affine layer, and codes that are rounded to the nearest of a book."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Flow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(2))
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.shift) * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def log_prob(self, x: Tensor) -> Tensor:
        z, log_det = self(x)
        prior = torch.distributions.Normal(0.0, 1.0)
        return prior.log_prob(z).sum(dim=1) + log_det


def code_loss(z: Tensor, book: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    nearest = torch.cdist(z, book).argmin(dim=1)
    code = book[nearest]
    loss = F.mse_loss(code, z.detach()) + beta * F.mse_loss(z, code.detach())
    return z + (code - z).detach(), loss


def fingerprint() -> list[float]:
    torch.manual_seed(1)
    flow = Flow()
    encoder, decoder = nn.Linear(2, 2), nn.Linear(2, 2)
    book = nn.Parameter(torch.randn(4, 2))
    every = [*flow.parameters(), *encoder.parameters(), *decoder.parameters(), book]
    adam = torch.optim.Adam(every, lr=0.05)
    reported = []
    for _ in range(8):
        x = torch.randn(16, 2) * 0.4 + 1.0
        adam.zero_grad()
        code, extra = code_loss(encoder(x), book, 0.3)
        loss = -flow.log_prob(x).mean() + F.mse_loss(decoder(code), x) + extra
        loss.backward()
        adam.step()
        reported.append(loss.item())
    return [*reported, *flow.log_scale.tolist(), *encoder.weight.flatten().tolist()]
