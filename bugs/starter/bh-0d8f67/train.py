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
        for coef in self.recurrent.weight.data.chunk(4):
            nn.init.orthogonal_(coef)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias.data[hidden : 2 * hidden], forget_bias)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # [B, T, E], [B] -> [B, H]
        B, T, _ = x.shape
        feat = x.new_zeros(B, self.hidden)
        cc = x.new_zeros(B, self.hidden)
        from_inp = self.input(x)  # [B, T, 4H]
        for tick in range(T):
            gates_here = from_inp[:, tick] + self.recurrent(feat)  # [B, 4H]
            idx, func, grad_g, o_cur = gates_here.chunk(4, dim=-1)
            c_fresh = func.sigmoid() * cc + idx.sigmoid() * grad_g.tanh()
            h_updated = o_cur.sigmoid() * c_fresh.tanh()
            cur_alive = (tick < lengths)[:, None]  # [B, 1]
            cc = torch.where(cur_alive, c_fresh, cc)
            feat = torch.where(cur_alive, h_updated, feat)
        return feat


class MyClassifier(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(cfg.vocab, cfg.channels)
        self.lstm = LSTM(cfg.channels, cfg.hidden, cfg.forget_bias)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.hidden, cfg.classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:  # [B, T], [B] -> [B, K]
        memory = self.lstm(self.token(tokens), lengths)
        return self.head(self.dropout(memory))


def build(cfg: Config) -> nn.Module:
    return MyClassifier(cfg)


def buckets_val(lengths: Tensor, cfg: Config, rng: Generator) -> list[Tensor]:  # [N] -> some [B]
    """Row numbers of one epoch: similar lengths together, batches in random order."""
    eps = torch.rand(len(lengths), generator=rng, device=rng.device).to(lengths.device)
    records = torch.argsort(lengths + cfg.jitter * eps)
    groups_here = records.split(cfg.batch)
    perm = torch.randperm(len(groups_here), generator=rng, device=rng.device)
    return [groups_here[place] for place in perm.tolist()]


def chunks(
    data: tuple[Tensor, Tensor, Tensor], cfg: Config, rng: Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Epoch after epoch of tokens, lengths and labels, cut to the longest of the batch."""
    symbols, extents, gold = data
    while True:
        for samples in buckets_val(extents, cfg, rng):
            longest_cur = int(extents[samples].max())
            yield symbols[samples, :longest_cur], extents[samples], gold[samples]


def train(
    model: nn.Module, data: tuple[Tensor, Tensor, Tensor], cfg: Config, rng: Generator
) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim_here = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    stream_cur = chunks(data, cfg, rng)
    for _ in range(cfg.steps):
        toks, extents, answers = next(stream_cur)
        model.train()
        content = F.cross_entropy(model(toks, extents), answers)
        content.backward()
        optim_here.zero_grad()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        optim_here.step()
        yield content.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:  # [B, T], [B] -> [B, K]
    """Logits of the class of each sequence."""
    model.eval()
    toks, extents = inputs
    return model(toks, extents)
