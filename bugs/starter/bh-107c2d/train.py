"""A recurrent classifier of sequences that differ in length, with its LSTM cell written out.

Sequences come padded to one width, with their true lengths beside them. Batches are made of
sequences of similar length, such that little time is spent on padding.

Shapes: N sequences, B batch, T time, E channels of a token, H hidden channels, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    vocab: int = 6
    classes: int = 5
    dropout: float = 0.1
    hidden: int = 40
    channels: int = 20
    forget_bias: float = 1.0
    batch: int = 64
    steps: int = 220
    lr: float = 0.005
    jitter: float = 4.0
    max_grad_norm: float = 1.0


class LSTM(nn.Module):
    """Reads a sequence step by step and returns what it holds at the end of each."""

    def __init__(self, channels: int, hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(channels, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        for coef in self.recurrent.weight.data.chunk(chunks=4):
            nn.init.orthogonal_(coef)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias.data[hidden : hidden * 2], forget_bias)

    def forward(self, features: Tensor, lens: Tensor) -> Tensor:  # [B, T, E], [B] -> [B, H]
        B, T, _ = features.shape
        hid = features.new_zeros(B, self.hidden)
        chan = features.new_zeros(B, self.hidden)
        from_inp = self.input(features)  # [B, T, 4H]
        for tm in range(T):
            new_gates = from_inp[:, tm] + self.recurrent(hid)  # [B, 4H]
            pos, fn, gain, new_o = new_gates.chunk(4, -1)
            c_updated = fn.sigmoid() * hid + torch.sigmoid(pos) * gain.tanh()
            gate = new_o.sigmoid()
            h_updated = gate * torch.tanh(c_updated)
            active = (tm < lens)[:, None]  # [B, 1]
            hid = torch.where(active, h_updated, hid)
            chan = torch.where(active, c_updated, chan)
        return hid


class BaseClassifier(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(cfg.vocab, cfg.channels)
        self.lstm = LSTM(cfg.channels, cfg.hidden, cfg.forget_bias)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.hidden, cfg.classes)

    def forward(self, toks: Tensor, extents: Tensor) -> Tensor:  # [B, T], [B] -> [B, K]
        symbol_tokens = self.token(toks)
        status = self.lstm(symbol_tokens, extents)
        return self.head(self.dropout(status))


def build(cfg: Config) -> nn.Module:
    return BaseClassifier(cfg)


def minibatches(
    material: tuple[Tensor, Tensor, Tensor], config: Config, rng: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Epoch after epoch of tokens, lengths and labels, cut to the longest of the batch."""
    symbols, extents, targets = material
    while True:
        for samples in _buckets(extents, config, rng=rng):
            yield symbols[samples, :int(extents[samples].max())], extents[samples], targets[samples]


def _buckets(lens: Tensor, settings: Config, rng: torch.Generator) -> list[Tensor]:  # [N] -> some [B]
    """Row numbers of one epoch: similar lengths together, batches in random order."""
    rand_rng = torch.rand(len(lens), generator=rng, device=rng.device)
    eps = rand_rng.to(lens.device)
    samples = torch.argsort(lens + eps * settings.jitter)
    parts = samples.split(split_size=settings.batch)
    perm = torch.randperm(len(parts), generator=rng, device=rng.device)
    return [parts[idx] for idx in perm.tolist()]


def predict(model: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:  # [B, T], [B] -> [B, K]
    """Logits of the class of each sequence."""
    with torch.no_grad():
        model.eval()
        symbols, lens = inputs
        return model(symbols, lens)


def train(
    model: nn.Module, data: tuple[Tensor, Tensor, Tensor], cfg: Config, rng: torch.Generator
) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    updater = torch.optim.Adam(model.parameters(), cfg.lr)
    feed = minibatches(data, cfg, rng=rng)
    for _ in range(cfg.steps):
        toks, lens, gold = next(feed)
        model.train()
        updater.zero_grad(set_to_none=True)
        content = F.cross_entropy(model(toks, lens), gold)
        content.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=cfg.max_grad_norm)
        updater.step()
        yield content.item()
