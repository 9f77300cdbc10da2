"""A small GPT that continues sentences, one token at a time.

At each position the model reads the tokens so far and predicts the next one. All positions
of a sentence are trained together; in use, only the last one is asked.

Shapes: B batch, T time, C channels, H heads, K channels per head, V vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(kw_only=True, frozen=True)
class Config:
    vocab: int = 21
    heads: int = 4
    channels: int = 48
    context: int = 13
    layers: int = 2
    dropout: float = 0.02
    batch: int = 32
    warmup: int = 15
    init_std: float = 0.12
    steps: int = 250
    weight_decay: float = 0.1
    peak_lr: float = 4e-3
    max_grad_norm: float = 1.0


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # three [B, H, T, K] -> [B, H, T, K]
    """Each query gathers the values that it may read, weighted by how well their keys match."""
    T, K = q.shape[-2:]
    base = math.sqrt(K)
    affinities = q @ k.mT / base  # [B, H, T, T], queries down, keys across
    all_ones = torch.ones(T, T, device=q.device, dtype=torch.bool)
    inner = all_ones.triu(1)
    return affinities.masked_fill(inner, -torch.inf).softmax(-1).matmul(v)


class Attention(nn.Module):
    """Several heads look at the sequence side by side; their findings are mixed at the end."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.qkv = nn.Linear(cfg.channels, cfg.channels * 3, False)
        self.out = nn.Linear(cfg.channels, cfg.channels)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        B, T, C = x.size()
        arranged = self.qkv(x).view(B, T, 3, self.heads, -1)
        qry, kth, vec = arranged.permute(2, 0, 3, 1, 4)  # [B, H, T, K]
        joined = attend(qry, kth, vec).transpose(1, 2).reshape(B, T, C)
        result_merged = self.out(joined)
        return self.dropout(result_merged)


class MLP(nn.Module):
    """Works on each position alone."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.up = nn.Linear(cfg.channels, out_features=4 * cfg.channels)
        self.out = nn.Linear(cfg.channels * 4, cfg.channels)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        return self.dropout(self.out(F.gelu(self.up(x))))


class BaseBlock(nn.Module):
    """Attention moves information between positions, the MLP digests it."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(cfg.channels)
        self.attention = Attention(cfg)
        self.mlp_norm = nn.LayerNorm(cfg.channels)
        self.mlp = MLP(cfg)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        attention_result = self.attention(self.attention_norm(x))
        x = attention_result + x
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(cfg.vocab, embedding_dim=cfg.channels)
        self.position = nn.Embedding(cfg.context, cfg.channels)
        self.blocks = nn.ModuleList([BaseBlock(cfg) for _ in range(cfg.layers)])
        self.norm = nn.LayerNorm(cfg.channels)
        self.head = nn.Linear(cfg.channels, cfg.vocab, False)
        self.head.weight = self.token.weight

    def forward(self, symbols: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        extent_output = symbols.size(1)
        new_time = torch.arange(extent_output, device=symbols.device)
        inp = self.token(symbols) + self.position(new_time)  # [B, T, C]
        for unit in self.blocks:
            inp = unit(inp)
            return self.head(self.norm(inp))


def initialise_impl(network: nn.Module, cfg: Config) -> None:
    """As in GPT-2: what writes into the residual stream begins smaller, by the number of writers."""
    for title, local_parameter in network.named_parameters():
        if title.endswith("out.weight"):
            nn.init.normal_(local_parameter, std=cfg.init_std / math.sqrt(cfg.layers * 2))
        elif local_parameter.dim() == 2:
            nn.init.normal_(local_parameter, std=cfg.init_std)
        elif title.endswith("bias"):
            nn.init.zeros_(local_parameter)


def build(cfg: Config) -> nn.Module:
    network = GPT(cfg)
    initialise_impl(network, cfg=cfg)
    return network


def updater(net: nn.Module, cfg: Config) -> torch.optim.Optimizer:
    matrices_now = [prob for prob in net.parameters() if prob.dim() >= 2]
    directions = [prob for prob in net.parameters() if prob.ndim < 2]
    parts = [
        {"params": matrices_now, "weight_decay": cfg.weight_decay},
        {"params": directions, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(parts, lr=cfg.peak_lr, betas=(0.9, 0.98))


def chunks(new_corpus: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random rows of the corpus, as what is read and what is to be predicted."""
    while True:
        samples = torch.randint(len(new_corpus), (cfg.batch,), generator=rng, device=rng.device)
        symbols = new_corpus[samples.to(new_corpus.device)]  # [B, T + 1]
        yield symbols[:, :-1], symbols[:, 1:]


def pace(tick: int, cfg: Config) -> float:
    """Warm-up, then a cosine."""
    if cfg.warmup > tick:
        product = (tick + 1) * cfg.peak_lr
        return product / cfg.warmup
    difference = tick - cfg.warmup
    share_done = difference / (cfg.steps - cfg.warmup)
    return 0.5 * cfg.peak_lr * (math.cos(math.pi * share_done) + 1)


def objective(network: nn.Module, given: Tensor, goals: Tensor) -> Tensor:  # [B, T], [B, T] -> []
    raw_scores = network(given)  # [B, T, V]
    flattened = raw_scores.flatten(0, 1)
    return F.cross_entropy(flattened, goals.flatten())


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # [B, T] -> [B, V]
    """Log-probabilities of the token that follows each prefix."""
    model.eval()
    model_sources = model(inputs)
    outputs = model_sources.select(1, -1)  # [B, V]
    return outputs.log_softmax(dim=-1)


def train(model: nn.Module, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    solver = updater(model, cfg)
    supply = chunks(data, cfg, rng=rng)
    for iteration in range(cfg.steps):
        for param_group in solver.param_groups:
            param_group["lr"] = pace(iteration, cfg=cfg)
        given, goals = next(supply)
        model.train()
        solver.zero_grad()
        val = objective(model, given, goals)
        val.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=cfg.max_grad_norm)
        solver.step()
        yield val.item()
