"""A recurrent classifier of sequences that differ in length, with its LSTM cell written out.

Sequences come padded to one width, with their true lengths beside them. Batches are made of
sequences of similar length, so that little time is spent on padding.

Shapes: N sequences, B batch, T time, E channels of a token, H hidden channels, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    vocab: int = 6
    classes: int = 5
    channels: int = 20
    hidden: int = 40
    dropout: float = 0.1
    forget_bias: float = 1.0
    batch: int = 64
    jitter: float = 4.0
    steps: int = 220
    lr: float = 5e-3
    max_grad_norm: float = 1.0


class LSTM(nn.Module):
    """Reads a sequence step by step and returns what it holds at the end of each."""

    def __init__(self, channels: int, hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(channels, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        for weight in self.recurrent.weight.data.chunk(4):
            nn.init.orthogonal_(weight)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias.data[hidden : 2 * hidden], forget_bias)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # [B, T, E], [B] -> [B, H]
        B, T, _ = x.shape
        h = x.new_zeros(B, self.hidden)
        c = x.new_zeros(B, self.hidden)
        from_input = self.input(x)  # [B, T, 4H]
        for t in range(T):
            gates = from_input[:, t] + self.recurrent(h)  # [B, 4H]
            i, f, g, o = gates.chunk(4, dim=-1)
            c_new = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h_new = o.sigmoid() * c_new.tanh()
            alive = (t < lengths)[:, None]  # [B, 1]
            c = torch.where(alive, c_new, c)
            h = torch.where(alive, h_new, h)
        return h


class Classifier(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(cfg.vocab, cfg.channels)
        self.lstm = LSTM(cfg.channels, cfg.hidden, cfg.forget_bias)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.hidden, cfg.classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:  # [B, T], [B] -> [B, K]
        state = self.lstm(self.token(tokens), lengths)
        return self.head(self.dropout(state))


def build(cfg: Config) -> nn.Module:
    return Classifier(cfg)


def buckets(lengths: Tensor, cfg: Config, rng: Generator) -> list[Tensor]:  # [N] -> some [B]
    """Row numbers of one epoch: similar lengths together, batches in random order."""
    noise = torch.rand(len(lengths), generator=rng, device=rng.device).to(lengths.device)
    rows = torch.argsort(lengths + cfg.jitter * noise)
    groups = rows.split(cfg.batch)
    order = torch.randperm(len(groups), generator=rng, device=rng.device)
    return [groups[index] for index in order.tolist()]


def batches(
    data: tuple[Tensor, Tensor, Tensor], cfg: Config, rng: Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Epoch after epoch of tokens, lengths and labels, cut to the longest of the batch."""
    tokens, lengths, labels = data
    while True:
        for rows in buckets(lengths, cfg, rng):
            longest = int(lengths[rows].max())
            yield tokens[rows, :longest], lengths[rows], labels[rows]


def train(
    model: nn.Module, data: tuple[Tensor, Tensor, Tensor], cfg: Config, rng: Generator
) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    stream = batches(data, cfg, rng)
    for _ in range(cfg.steps):
        tokens, lengths, labels = next(stream)
        model.train()
        optim.zero_grad()
        value = F.cross_entropy(model(tokens, lengths), labels)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        optim.step()
        yield value.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:  # [B, T], [B] -> [B, K]
    """Logits of the class of each sequence."""
    model.eval()
    tokens, lengths = inputs
    return model(tokens, lengths)
