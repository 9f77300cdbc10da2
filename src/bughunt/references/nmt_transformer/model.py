"""A transformer that reads one sequence and writes another.

Shapes: B batch, S places of the source, T of the target, C channels, V vocabulary.
"""

import math

import torch
from attention import Attention, causal_mask, padding_mask
from config import PAD, Config
from torch import Tensor, nn


def positions(length: int, channels: int, device: torch.device | None = None) -> Tensor:  # -> [T, C]
    """Sines and cosines of the position, side by side, from fast to slow."""
    place = torch.arange(length, device=device)[:, None]
    pair = torch.arange(0, channels, 2, device=device)
    angle = place * torch.exp(-math.log(10_000.0) * pair / channels)  # [T, C / 2]
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class FeedForward(nn.Module):
    """Works on each position alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.Linear(channels, 3 * channels)
        self.down = nn.Linear(3 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        return self.down(self.up(x).relu())


class EncoderLayer(nn.Module):
    """The source looks at itself."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(cfg.channels)
        self.self_attention = Attention(cfg.channels, cfg.heads)
        self.norm = nn.LayerNorm(cfg.channels)
        self.feed_forward = FeedForward(cfg.channels)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # [B, S, C] -> [B, S, C]
        normed = self.self_norm(x)
        x = x + self.dropout(self.self_attention(normed, normed, mask))
        return x + self.dropout(self.feed_forward(self.norm(x)))


class DecoderLayer(nn.Module):
    """The target looks at what is written so far, then at the source."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(cfg.channels)
        self.self_attention = Attention(cfg.channels, cfg.heads)
        self.cross_norm = nn.LayerNorm(cfg.channels)
        self.cross_attention = Attention(cfg.channels, cfg.heads)
        self.norm = nn.LayerNorm(cfg.channels)
        self.feed_forward = FeedForward(cfg.channels)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """[B, T, C] with a mask for itself, [B, S, C] with another -> [B, T, C]."""
        normed = self.self_norm(x)
        x = x + self.dropout(self.self_attention(normed, normed, mask))
        x = x + self.dropout(self.cross_attention(self.cross_norm(x), memory, memory_mask))
        return x + self.dropout(self.feed_forward(self.norm(x)))


class Transformer(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        self.token = nn.Embedding(cfg.vocab, cfg.channels, padding_idx=PAD)
        self.dropout = nn.Dropout(cfg.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(cfg) for _ in range(cfg.layers))
        self.encoder_norm = nn.LayerNorm(cfg.channels)
        self.decoder = nn.ModuleList(DecoderLayer(cfg) for _ in range(cfg.layers))
        self.decoder_norm = nn.LayerNorm(cfg.channels)
        self.head = nn.Linear(cfg.channels, cfg.vocab)

    def embed(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, C]
        C = self.cfg.channels
        x = self.token(tokens) * math.sqrt(C) + positions(tokens.size(1), C, tokens.device)
        return self.dropout(x)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S] -> what was read [B, S, C], and where there is something to look at [B, 1, 1, S]."""
        mask = padding_mask(source, PAD)
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def decode(self, inputs: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """[B, T], [B, S, C], [B, 1, 1, S] -> logits of the token after each place [B, T, V]."""
        mask = causal_mask(inputs.size(1), inputs.device)
        x = self.embed(inputs)
        for layer in self.decoder:
            x = layer(x, mask, memory, memory_mask)
        return self.head(self.decoder_norm(x))

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:  # [B, S], [B, T] -> [B, T, V]
        return self.decode(inputs, *self.encode(source))


def initialise(model: Transformer) -> None:
    """Linear layers by the widths on both sides, embeddings so that their scaled size is one."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
