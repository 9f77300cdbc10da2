"""The network that is trained, and the slow copy of it that is asked. Shapes: B rows, K classes."""

import torch
from settings import Config
from torch import Tensor, nn


class Reader(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.hidden = nn.Linear(cfg.pixels, cfg.hidden)
        self.norm = nn.BatchNorm1d(cfg.hidden)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.hidden, cfg.classes)

    def forward(self, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
        x = (images.flatten(1).float() / 255 - 0.4) / 0.2
        return self.head(self.dropout(torch.relu(self.norm(self.hidden(x)))))


class Pair(nn.Module):
    """A network and the moving average of its weights, which begins as a copy."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.fast = Reader(cfg)
        self.slow = Reader(cfg).requires_grad_(False)
        self.slow.load_state_dict(self.fast.state_dict())

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """The average moves a little towards the weights; counts and running statistics are copied."""
        for slow, fast in zip(self.slow.parameters(), self.fast.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)
        for slow, fast in zip(self.slow.buffers(), self.fast.buffers(), strict=True):
            slow.copy_(fast)
