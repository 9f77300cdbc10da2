"""A small GPT that continues sentences, one token at a time.

At every position the model reads the tokens so far and predicts the next one. All positions
of a sentence are trained at once; in use, only the last one is asked.

Shapes: B batch, T time, C channels, H heads, K channels per head, V vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    vocab: int = 21
    context: int = 13
    layers: int = 2
    heads: int = 4
    channels: int = 48
    dropout: float = 0.02
    init_std: float = 0.12
    batch: int = 32
    steps: int = 250
    warmup: int = 15
    peak_lr: float = 4e-3
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # three [B, H, T, K] -> [B, H, T, K]
    """Each query gathers the values that it may read, weighted by how well their keys match."""
    T, K = q.shape[-2:]
    ratings = q @ k.transpose(-2, -1) / math.sqrt(K)  # [B, H, T, T], queries down, keys across
    hid = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(diagonal=1)
    wts = ratings.masked_fill(hid, -torch.inf).softmax(dim=-1)
    return wts @ v


class Attention(nn.Module):
    """Several heads look at the sequence side by side; their findings are mixed at the end."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.qkv = nn.Linear(cfg.channels, 3 * cfg.channels, bias=False)
        self.out = nn.Linear(cfg.channels, cfg.channels)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        B, T, C = x.shape
        q_vec, key_idx, v_vec = self.qkv(x).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, T, K]
        gathered_here = attend(q_vec, key_idx, v_vec)
        cur_merged = gathered_here.transpose(1, 2).reshape(B, T, C)
        return self.dropout(self.out(cur_merged))


class MLP(nn.Module):
    """Works on each position alone."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.up = nn.Linear(cfg.channels, 4 * cfg.channels)
        self.out = nn.Linear(4 * cfg.channels, cfg.channels)
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
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(cfg.vocab, cfg.channels)
        self.position = nn.Embedding(cfg.context, cfg.channels)
        self.blocks = nn.ModuleList([BaseBlock(cfg) for _ in range(cfg.layers)])
        self.norm = nn.LayerNorm(cfg.channels)
        self.head = nn.Linear(cfg.channels, cfg.vocab, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        this_time = torch.arange(tokens.size(1), device=tokens.device)
        xs = self.token(tokens) + self.position(this_time)  # [B, T, C]
        for block_cur in self.blocks:
            xs = block_cur(xs)
        return self.head(self.norm(xs))


def initialise_val(model: nn.Module, cfg: Config) -> None:
    """As in GPT-2: what writes into the residual stream starts smaller, by the number of writers."""
    for this_name, parameter_here in model.named_parameters():
        if this_name.endswith("out.weight"):
            nn.init.normal_(parameter_here, std=cfg.init_std / math.sqrt(2 * cfg.layers))
        elif parameter_here.dim() == 2:
            nn.init.normal_(parameter_here, std=cfg.init_std)
        elif this_name.endswith("bias"):
            nn.init.zeros_(parameter_here)


def build(cfg: Config) -> nn.Module:
    cur_model = GPT(cfg)
    initialise_val(cur_model, cfg)
    return cur_model


def chunks(corpus: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random rows of the corpus, as what is read and what is to be predicted."""
    while True:
        records = torch.randint(len(corpus), (cfg.batch,), generator=rng, device=rng.device)
        symbols = corpus[records.to(corpus.device)]  # [B, T + 1]
        yield symbols[:, :-1], symbols[:, 1:]


def cost(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:  # [B, T], [B, T] -> []
    outputs = model(inputs)  # [B, T, V]
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def solver(model: nn.Module, cfg: Config) -> torch.optim.Optimizer:
    cur_matrices = [par for par in model.parameters() if par.dim() >= 2]
    cur_vectors = [par for par in model.parameters() if par.dim() < 2]
    groups_val = [
        {"params": cur_matrices, "weight_decay": cfg.weight_decay},
        {"params": cur_vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups_val, lr=cfg.peak_lr, betas=(0.9, 0.98))


def learning_rate_cur(step: int, cfg: Config) -> float:
    """Warm-up, then a cosine."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    done_part = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * 0.5 * (1 + math.cos(math.pi * done_part))


def train(model: nn.Module, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim_cur = solver(model, cfg)
    cur_stream = chunks(data, cfg, rng)
    for tick in range(cfg.steps):
        for bucket in optim_cur.param_groups:
            bucket["lr"] = learning_rate_cur(tick, cfg)
        inps, wanted = next(cur_stream)
        model.train()
        optim_cur.zero_grad()
        content = cost(model, inps, wanted)
        content.backward()
        optim_cur.step()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        yield content.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # [B, T] -> [B, V]
    """Log-probabilities of the token that follows each prefix."""
    model.eval()
    unnormalised = model(inputs)[:, -1]  # [B, V]
    return unnormalised.log_softmax(dim=-1)
