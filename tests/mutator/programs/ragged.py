"""Sequences of unlike lengths, read to their ends, answered by a policy and a value.

Shapes: B sequences, T steps, D features, K draws.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5, batch_first=True)
        self.policy = nn.Linear(5, 4)
        self.value = nn.Linear(5, 1)
        nn.init.orthogonal_(self.policy.weight, gain=0.01)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        out, _ = self.rnn(x)
        last = out[torch.arange(len(x)), lengths - 1]  # [B, 5]
        last = F.dropout(last, 0.4, training=self.training)
        return self.policy(last), self.value(last)


def value_loss(value: Tensor, gains: Tensor) -> Tensor:  # [B, 1], [B]
    return ((value.squeeze(-1) - gains) ** 2).mean()


def normaliser(logits: Tensor) -> Tensor:  # [B, 4] -> [B]
    return logits.logsumexp(dim=1)


def draws(x: Tensor, count: int) -> Tensor:  # [B, D] -> [B * K, D]
    """Each row as often as it is drawn, the copies beside one another."""
    return x.repeat_interleave(count, dim=0)


class AdamW:
    """Adam with decay beside the gradient."""

    def __init__(self, params: list[Tensor], lr: float, wd: float) -> None:
        self.params, self.lr, self.wd = params, lr, wd
        self.m = [torch.zeros_like(p) for p in params]
        self.v = [torch.zeros_like(p) for p in params]
        self.t = 0

    @torch.no_grad()
    def step(self) -> None:
        self.t += 1
        for p, m, v in zip(self.params, self.m, self.v, strict=True):
            grad = p.grad
            p.mul_(1 - self.lr * self.wd)
            m.lerp_(grad, 0.1)
            v.lerp_(grad**2, 0.01)
            p -= self.lr * m / (1 - 0.9**self.t) / (torch.sqrt(v / (1 - 0.99**self.t)) + 1e-8)


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    model = Reader()
    x, lengths = torch.randn(6, 7, 3), torch.tensor([7, 3, 5, 1, 2, 6])
    gains = torch.randn(6)
    optimiser = AdamW(list(model.parameters()), lr=0.05, wd=0.3)
    for _ in range(3):
        logits, value = model(x, lengths)
        loss = value_loss(value, gains) + F.cross_entropy(logits, lengths % 4)
        model.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    logits, value = model(x, lengths)
    asked = draws(x[:, 0], 2) * torch.arange(12.0)[:, None]
    found = [logits.flatten(), value.flatten(), normaliser(1000 * logits), asked.flatten()]
    return torch.cat(found).tolist()
