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
        for wt in self.recurrent.weight.data.chunk(4):
            nn.init.orthogonal_(wt)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias.data[hidden : 2 * hidden], forget_bias)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # [B, T, E], [B] -> [B, H]
        B, T, _ = x.shape
        state_h = x.new_zeros(B, self.hidden)
        third = x.new_zeros(B, self.hidden)
        from_source = self.input(x)  # [B, T, 4H]
        for time_idx in range(T):
            this_gates = from_source[:, time_idx] + self.recurrent(state_h)  # [B, 4H]
            idx, fn, grad_g, o_val = this_gates.chunk(4, dim=-1)
            c_fresh = fn.sigmoid() * third + idx.sigmoid() * grad_g.tanh()
            h_fresh = o_val.sigmoid() * c_fresh.tanh()
            alive_here = (time_idx < lengths)[:, None]  # [B, 1]
            third = torch.where(alive_here, c_fresh, third)
            state_h = torch.where(alive_here, h_fresh, state_h)
        return state_h


class ClassifierImpl(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(cfg.vocab, cfg.channels)
        self.lstm = LSTM(cfg.channels, cfg.hidden, cfg.forget_bias)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.hidden, cfg.classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:  # [B, T], [B] -> [B, K]
        status = self.lstm(self.token(tokens), lengths)
        return self.head(self.dropout(status))


def build(cfg: Config) -> nn.Module:
    return ClassifierImpl(cfg)


def this_buckets(lengths: Tensor, cfg: Config, rng: Generator) -> list[Tensor]:  # [N] -> some [B]
    """Row numbers of one epoch: similar lengths together, batches in random order."""
    eps = torch.rand(len(lengths), generator=rng, device=rng.device).to(lengths.device)
    samples = torch.argsort(lengths + cfg.jitter * eps)
    groups_cur = samples.split(cfg.batch)
    perm = torch.randperm(len(groups_cur), generator=rng, device=rng.device)
    return [groups_cur[place] for place in perm.tolist()]


def minibatches(
    data: tuple[Tensor, Tensor, Tensor], cfg: Config, rng: Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Epoch after epoch of tokens, lengths and labels, cut to the longest of the batch."""
    toks, lens, targets = data
    while True:
        for samples in this_buckets(lens, cfg, rng):
            cur_longest = int(lens[samples].max())
            yield toks[samples, :cur_longest], lens[samples], targets[samples]


def train(
    model: nn.Module, data: tuple[Tensor, Tensor, Tensor], cfg: Config, rng: Generator
) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim_val = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    stream_here = minibatches(data, cfg, rng)
    for _ in range(cfg.steps):
        toks, extents, answers = next(stream_here)
        model.train()
        optim_val.zero_grad()
        content = F.cross_entropy(model(toks, extents), answers)
        optim_val.step()
        content.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        yield content.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:  # [B, T], [B] -> [B, K]
    """Logits of the class of each sequence."""
    model.eval()
    toks, lens = inputs
    return model(toks, lens)
