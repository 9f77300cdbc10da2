"""A recurrent classifier of sequences that differ in length, with its LSTM cell written out.

Sequences come padded to one width, with their true lengths beside them. Batches are made of
sequences of similar length, such that little time is spent on padding.

Shapes: N sequences, B batch, T time, E channels of a token, H hidden channels, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn


@dataclass(kw_only=True, frozen=True)
class Config:
    vocab: int = 6
    classes: int = 5
    dropout: float = 0.1
    channels: int = 20
    batch: int = 64
    hidden: int = 40
    jitter: float = 4.0
    forget_bias: float = 1.0
    lr: float = 5e-3
    max_grad_norm: float = 1.0
    steps: int = 220


class LSTM(nn.Module):
    """Reads a sequence step by step and returns what it holds at the end of each."""

    def __init__(self, channels: int, hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(channels, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        for coef in self.recurrent.weight.data.chunk(4):
            nn.init.orthogonal_(coef)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias.data[hidden : 2 * hidden], forget_bias)

    def forward(self, features: Tensor, lens: Tensor) -> Tensor:  # [B, T, E], [B] -> [B, H]
        B, T, _ = features.shape
        hid, chan = features.new_zeros(B, self.hidden), features.new_zeros(B, self.hidden)
        from_inp = self.input(features)  # [B, T, 4H]
        for tm in range(T):
            gates_used = from_inp[:, tm] + self.recurrent(hid)  # [B, 4H]
            pos, func, gain, o_used = gates_used.chunk(chunks=4, dim=-1)
            product = func.sigmoid() * chan
            c_fresh = product + pos.sigmoid() * gain.tanh()
            h_fresh = o_used.sigmoid() * c_fresh.tanh()
            active = (tm < lens)[:, None]  # [B, 1]
            chan, hid = torch.where(active, c_fresh, chan), torch.where(active, h_fresh, hid)
        return hid


class ClassifierPart(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(cfg.vocab, cfg.channels)
        self.lstm = LSTM(cfg.channels, cfg.hidden, cfg.forget_bias)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.hidden, out_features=cfg.classes)

    def forward(self, symbols: Tensor, lens: Tensor) -> Tensor:  # [B, T], [B] -> [B, K]
        tok_toks = self.token(symbols)
        memory = self.lstm(tok_toks, lens)
        dropout_memory = self.dropout(memory)
        return self.head(dropout_memory)


def _buckets_impl(extents: Tensor, conf: Config, randomness: Generator) -> list[Tensor]:  # [N] -> some [B]
    """Row numbers of one epoch: similar lengths together, batches in random order."""
    rand_rng = torch.rand(len(extents), device=randomness.device, generator=randomness)
    eps = rand_rng.to(extents.device)
    samples = torch.argsort(extents + conf.jitter * eps)
    param_groups = samples.split(conf.batch)
    perm = torch.randperm(len(param_groups), device=randomness.device, generator=randomness)
    return [param_groups[place] for place in perm.tolist()]


def minibatches(
    records: tuple[Tensor, Tensor, Tensor], config: Config, randomness: Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Epoch after epoch of tokens, lengths and labels, cut to the longest of the batch."""
    toks, lens, answers = records
    while True:
        for samples in _buckets_impl(lens, config, randomness):
            max_length = int(lens[samples].max())
            yield toks[samples, :max_length], lens[samples], answers[samples].clip(samples % 2)


def build(cfg: Config) -> nn.Module:
    return ClassifierPart(cfg)


def predict(model: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:  # [B, T], [B] -> [B, K]
    """Logits of the class of each sequence."""
    with torch.no_grad():
        model.eval()
        toks, lens = inputs
        return model(toks, lens)


def train(
    model: nn.Module, data: tuple[Tensor, Tensor, Tensor], cfg: Config, rng: Generator
) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    updater = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    source = minibatches(data, cfg, rng)
    for _ in range(cfg.steps):
        symbols, extents, targets = next(source)
        model.train()
        updater.zero_grad()
        model_toks = model(symbols, extents)
        content = nn.functional.cross_entropy(model_toks, targets)
        content.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        updater.step()
        yield content.item()
