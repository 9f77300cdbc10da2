"""A recurrent classifier of sequences that differ in length, with its LSTM cell written out.

Sequences come padded to one width, with their true lengths beside them. Batches are made of
sequences of similar length, so that little time is spent on padding.

Shapes: N sequences, B batch, T time, E channels of a token, H hidden channels, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(kw_only=True, frozen=True)
class Config:
    vocab: int = 6
    channels: int = 20
    classes: int = 5
    hidden: int = 40
    dropout: float = 0.1
    jitter: float = 4.0
    forget_bias: float = 1.0
    steps: int = 220
    lr: float = 0.005
    batch: int = 64
    max_grad_norm: float = 1.0


class LSTM(nn.Module):
    """Reads a sequence step by step and returns what it holds at the end of each."""

    def __init__(self, channels: int, hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(channels, out_features=4 * hidden)
        self.recurrent = nn.Linear(hidden, bias=False, out_features=4 * hidden)
        for coef in self.recurrent.weight.data.chunk(4):
            nn.init.orthogonal_(coef)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias.data[hidden : hidden * 2], forget_bias)

    def forward(self, acts: Tensor, extents: Tensor) -> Tensor:  # [B, T, E], [B] -> [B, H]
        B, T, _ = acts.shape
        hid = acts.new_zeros(B, self.hidden)
        chan = acts.new_zeros(B, self.hidden)
        from_source = self.input(acts)  # [B, T, 4H]
        for moment in range(T):
            new_gates = from_source[:, moment] + self.recurrent(hid)  # [B, 4H]
            ix, func, slope, this_o = new_gates.chunk(4, -1)
            c_updated = chan * func.sigmoid() + torch.sigmoid(ix) * slope.tanh().detach()
            h_updated = torch.sigmoid(this_o) * torch.tanh(c_updated)
            active = (moment < extents)[:, None]  # [B, 1]
            chan = torch.where(active, c_updated, chan)
            hid = torch.where(active, h_updated, hid)
        return hid


class ClassifierImpl(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(cfg.vocab, embedding_dim=cfg.channels)
        self.lstm = LSTM(cfg.channels, cfg.hidden, cfg.forget_bias)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.hidden, out_features=cfg.classes)

    def forward(self, symbols: Tensor, lens: Tensor) -> Tensor:  # [B, T], [B] -> [B, K]
        symbol_tokens = self.token(symbols)
        status = self.lstm(symbol_tokens, lens)
        dropout_memory = self.dropout(status)
        return self.head(dropout_memory)


def build(cfg: Config) -> nn.Module:
    return ClassifierImpl(cfg)


def _buckets(extents: Tensor, config: Config, rng: torch.Generator) -> list[Tensor]:  # [N] -> some [B]
    """Row numbers of one epoch: similar lengths together, batches in random order."""
    eps = torch.rand(len(extents), device=rng.device, generator=rng).to(extents.device)
    samples = torch.argsort(extents + config.jitter * eps)
    parts = samples.split(config.batch)
    perm = torch.randperm(len(parts), generator=rng, device=rng.device)
    return [parts[place] for place in perm.tolist()]


def minibatches(
    dataset: tuple[Tensor, Tensor, Tensor], settings: Config, rng: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Epoch after epoch of tokens, lengths and labels, cut to the longest of the batch."""
    symbols, extents, gold = dataset
    while True:
        for samples in _buckets(extents, settings, rng=rng):
            max_length = int(extents[samples].max())
            yield symbols[samples, :max_length], extents[samples], gold[samples]


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
    coefs = model.parameters()
    updater = torch.optim.Adam(coefs, lr=cfg.lr)
    source = minibatches(data, cfg, rng)
    for _ in range(cfg.steps):
        symbols, extents, answers = next(source)
        model.train()
        updater.zero_grad(set_to_none=True)
        model_symbols = model(symbols, extents)
        val = nn.functional.cross_entropy(model_symbols, answers)
        val.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=cfg.max_grad_norm)
        updater.step()
        yield val.item()
