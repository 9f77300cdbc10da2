"""Attention of several heads, and the masks that say where it may look.

Shapes: B batch, T queries, S keys, C channels, H heads, K channels per head.
"""

import math

import torch
from torch import Tensor, nn


def padding_mask(tokens: Tensor, pad: int) -> Tensor:  # [B, S] -> [B, 1, 1, S]
    """True where there is something to look at."""
    return (tokens != pad)[:, None, None, :]


def causal_mask(length: int, device: torch.device) -> Tensor:  # -> [T, T]
    """True where the key is not after the query."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


class Attention(nn.Module):
    """Queries from one sequence, keys and values from the same or another one."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def split(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, H, T, K]
        B, T, _ = x.shape
        return x.view(B, T, self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """[B, T, C], [B, S, C], mask that broadcasts to [B, H, T, S] -> [B, T, C]."""
        q = self.split(self.query(x))
        k = self.split(self.key(memory))
        v = self.split(self.value(memory))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # [B, H, T, S]
        weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
        gathered = (weights @ v).transpose(1, 2)  # [B, T, H, K]
        return self.out(gathered.flatten(2))
