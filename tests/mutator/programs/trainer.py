"""A small trainer: bytes in, warm-up, an averaged copy, the best weights kept.

Shapes: B sequences, T steps, C channels.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    steps: int = 12
    warmup: int = 3
    peak: float = 0.5


class Batch(nn.Module):
    """Statistics of the batch in training, running ones afterwards."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:  # [B, C]
        if not self.training:
            return (x - self.running_mean) / (self.running_var + 1e-5).sqrt()
        mean, var = x.mean(0), x.var(0, unbiased=False)
        self.running_mean.lerp_(mean.detach(), 0.1)
        self.running_var.lerp_(x.detach().var(0), 0.1)
        return (x - mean) / (var + 1e-5).sqrt()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 6)
        self.position = nn.Embedding(9, 6)
        self.norm = Batch(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, 2] -> [B, 3]
        where = torch.arange(x.size(1))
        h = self.embed(x) + self.position(where)
        return self.head(self.norm(torch.tanh(h).mean(1)))


def floats(pixels: Tensor) -> Tensor:
    """Bytes around zero."""
    return (pixels.float() - 128) / 64


def rate(step: int, cfg: Config) -> float:
    if step < cfg.warmup:
        return cfg.peak * (step + 1) / cfg.warmup
    return cfg.peak * (cfg.steps - step) / cfg.steps


def lengths_of(x: Tensor) -> Tensor:
    return torch.sqrt((x**2).sum(-1) + 1e-8)


@torch.no_grad()
def follow(slow: nn.Module, model: nn.Module, decay: float) -> None:
    for s, p in zip(slow.parameters(), model.parameters(), strict=True):
        s.mul_(decay).add_(p, alpha=1 - decay)
    for s, b in zip(slow.buffers(), model.buffers(), strict=True):
        s.copy_(b)


def train(model: nn.Module, x: Tensor, y: Tensor, cfg: Config) -> nn.Module:
    """The averaged copy; the model ends with the weights that were best in training."""
    slow = copy.deepcopy(model)
    best, kept = float("inf"), copy.deepcopy(model.state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=cfg.peak, momentum=0.9)
    for step in range(cfg.steps):
        optimiser.param_groups[0]["lr"] = rate(step, cfg)
        loss = F.cross_entropy(model(floats(x)), y)
        if loss.item() < best:
            best, kept = loss.item(), copy.deepcopy(model.state_dict())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        follow(slow, model, 0.8)
    model.load_state_dict(kept)
    return slow


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    x, y = torch.randint(256, (5, 5, 2), dtype=torch.uint8), torch.tensor([0, 2, 1, 1, 0])
    model = Net()
    slow = train(model, x, y, Config())
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    lengths_of(points).sum().backward()
    with torch.no_grad():
        found = [model(floats(x)), slow.eval()(floats(x)), points.grad]
    return torch.cat([each.flatten() for each in found]).tolist()
