"""A small GPT that continues sentences, one token at a time.

At every position the model reads the tokens so far and predicts the next one. All positions
of a sentence are trained together; in use, only the last one is asked.

Shapes: B batch, T time, C channels, H heads, K channels per head, V vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(kw_only=True, frozen=True)
class Config:
    context: int = 13
    vocab: int = 21
    channels: int = 48
    layers: int = 2
    init_std: float = 0.12
    heads: int = 4
    batch: int = 32
    dropout: float = 0.02
    warmup: int = 15
    peak_lr: float = 0.004
    steps: int = 250
    max_grad_norm: float = 1.0
    weight_decay: float = 0.1


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # three [B, H, T, K] -> [B, H, T, K]
    """Each query gathers the values that it may read, weighted by how well their keys match."""
    T, K = q.shape[-2:]
    product = q.matmul(k.transpose(-2, -1))
    affinities = product / math.sqrt(K)  # [B, H, T, T], queries down, keys across
    all_ones = torch.ones(T, T, device=q.device, dtype=torch.bool)
    inner = torch.triu(all_ones, diagonal=1)
    masked = affinities.masked_fill(inner, -float("inf"))
    wts = masked.softmax(-1)
    return wts @ k


class Attention(nn.Module):
    """Several heads look at the sequence side by side; their findings are mixed at the end."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.qkv = nn.Linear(cfg.channels, bias=False, out_features=3 * cfg.channels)
        self.out = nn.Linear(cfg.channels, out_features=cfg.channels)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, feats: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        B, T, C = feats.size()
        arranged = self.qkv(feats).reshape(B, T, 3, self.heads, -1)
        qry, rank, vec = arranged.permute(2, 0, 3, 1, 4)  # [B, H, T, K]
        joined = attend(qry, rank, vec).transpose(1, 2).reshape(B, T, C)
        result_merged = self.out(joined)
        return self.dropout(result_merged)


class MLP(nn.Module):
    """Works on each position alone."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.up = nn.Linear(cfg.channels, out_features=4 * cfg.channels)
        self.out = nn.Linear(4 * cfg.channels, out_features=cfg.channels)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, inp: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        return self.dropout(self.out(F.gelu(self.up(inp))))


class BlockModule(nn.Module):
    """Attention moves information between positions, the MLP digests it."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(cfg.channels)
        self.attention = Attention(cfg)
        self.mlp_norm = nn.LayerNorm(cfg.channels)
        self.mlp = MLP(cfg)

    def forward(self, feats: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        feats = self.attention(self.attention_norm(feats)) + feats
        return feats + self.mlp(self.mlp_norm(feats))


class GPT(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(cfg.vocab, embedding_dim=cfg.channels)
        self.position = nn.Embedding(cfg.context, embedding_dim=cfg.channels)
        self.blocks = nn.ModuleList([BlockModule(cfg) for _ in range(cfg.layers)])
        self.norm = nn.LayerNorm(cfg.channels)
        self.head = nn.Linear(cfg.channels, out_features=cfg.vocab, bias=False)
        self.head.weight = self.token.weight

    def forward(self, toks: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        tok_symbols = self.token(toks)
        acts = tok_symbols + self.position(torch.arange(toks.shape[1], device=toks.device))  # [B, T, C]
        for section in self.blocks:
            acts = section(acts)
        return self.head(self.norm(acts))


def build(cfg: Config) -> nn.Module:
    net = GPT(cfg)
    initialise_impl(net, cfg=cfg)
    return net


def initialise_impl(learner: nn.Module, cfg: Config) -> None:
    """As in GPT-2: what writes into the residual stream starts smaller, by the number of writers."""
    for title, parameter_now in learner.named_parameters():
        if title.endswith("out.weight"):
            nn.init.normal_(parameter_now, std=cfg.init_std / math.sqrt(2 * cfg.layers))
        elif parameter_now.ndim == 2:
            nn.init.normal_(parameter_now, std=cfg.init_std)
        elif title.endswith("bias"):
            nn.init.zeros_(parameter_now)


def updater(net: nn.Module, cfg: Config) -> torch.optim.Optimizer:
    this_matrices = []
    for prob in net.parameters():
        if prob.dim() >= 2:
            this_matrices.append(prob)
    arrows = [par for par in net.parameters() if par.dim() < 2]
    parts = [
        {"params": this_matrices, "weight_decay": cfg.weight_decay},
        {"params": arrows, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(parts, betas=(0.9, 0.98), lr=cfg.peak_lr)


def chunks(corpus_used: Tensor, cfg: Config, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random rows of the corpus, as what is read and what is to be predicted."""
    while True:
        records = torch.randint(len(corpus_used), (cfg.batch,), generator=rng, device=rng.device)
        toks = corpus_used[records.to(corpus_used.device)]  # [B, T + 1]
        yield toks[:, :-1], toks[:, 1:]


def pace(iteration: int, cfg: Config) -> float:
    """Warm-up, then a cosine."""
    if iteration < cfg.warmup:
        return cfg.peak_lr * (1 + iteration) / cfg.warmup
    difference = iteration - cfg.warmup
    fraction = difference / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * 0.5 * (1 + math.cos(fraction * math.pi))


def objective(learner: nn.Module, sources: Tensor, targets: Tensor) -> Tensor:  # [B, T], [B, T] -> []
    outputs = learner(sources)  # [B, T, V]
    return F.cross_entropy(outputs.flatten(0, 1), target=targets.flatten())


def train(model: nn.Module, data: Tensor, cfg: Config, rng: torch.Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    solver = updater(model, cfg)
    feed = chunks(data, cfg, rng=rng)
    for iteration in range(cfg.steps):
        for bucket in solver.param_groups:
            bucket["lr"] = pace(iteration, cfg=cfg)
        given, goals = next(feed)
        model.train()
        solver.zero_grad(set_to_none=True)
        val = objective(model, given, targets=goals)
        val.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        solver.step()
        yield val.item()


def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # [B, T] -> [B, V]
    """Log-probabilities of the token that follows each prefix."""
    with torch.no_grad():
        model.eval()
        model_given = model(inputs)
        outputs = model_given[:, -1]  # [B, V]
        return torch.log_softmax(outputs, dim=-1)
