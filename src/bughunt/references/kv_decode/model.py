"""A small GPT that reads with or without a cache.

Shapes: B batch, T new tokens, S slots or tokens to look at, C channels, H heads, K per head, V vocabulary.
"""

import math

import torch
from cache import Cache
from config import Config
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, cfg: Config, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = cfg.heads
        self.qkv = nn.Linear(cfg.channels, 3 * cfg.channels, bias=False)
        self.out = nn.Linear(cfg.channels, cfg.channels)

    def forward(self, x: Tensor, positions: Tensor, cache: Cache | None) -> Tensor:
        """[B, T, C] at positions [B, T] -> [B, T, C]."""
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, T, K]
        if cache is not None:
            k, v = cache.store(self.layer, positions, k, v)
        slots = torch.arange(k.size(2), device=x.device)
        seen = slots <= positions[:, None, :, None]  # [B, 1, T, S]
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))  # [B, H, T, S]
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        merged = (weights @ v).transpose(1, 2).reshape(B, T, C)
        return self.out(merged)


class Block(nn.Module):
    def __init__(self, cfg: Config, layer: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(cfg.channels)
        self.attention = Attention(cfg, layer)
        self.mlp_norm = nn.LayerNorm(cfg.channels)
        self.up = nn.Linear(cfg.channels, 4 * cfg.channels)
        self.down = nn.Linear(4 * cfg.channels, cfg.channels)

    def forward(self, x: Tensor, positions: Tensor, cache: Cache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), positions, cache)
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class GPT(nn.Module):
    """Counts the tokens that it reads, which is what an answer costs."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        self.read = 0
        self.token = nn.Embedding(cfg.vocab, cfg.channels)
        self.position = nn.Embedding(cfg.context, cfg.channels)
        self.blocks = nn.ModuleList(Block(cfg, layer) for layer in range(cfg.layers))
        self.norm = nn.LayerNorm(cfg.channels)
        self.head = nn.Linear(cfg.channels, cfg.vocab, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=cfg.init_std)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:  # [B, T] -> [B, T, V]
        """With a cache the tokens go on after what it holds; its lengths are the caller's to advance."""
        B, T = tokens.shape
        self.read += B * T
        if cache is None:
            positions = torch.arange(T, device=tokens.device).expand(B, T)
        else:
            positions = cache.positions(T)
        x = self.token(tokens) + self.position(positions)
        for block in self.blocks:
            x = block(x, positions, cache)
        return self.head(self.norm(x))
