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
    dropout: float = 0.98
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
    affinities = q @ k.transpose(-2, -1) / math.sqrt(K)  # [B, H, T, T], queries down, keys across
    hid = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(diagonal=1)
    coefs = affinities.masked_fill(hid, -torch.inf).softmax(dim=-1)
    return coefs @ v


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
        quer, which, vec = self.qkv(x).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, T, K]
        cur_gathered = attend(quer, which, vec)
        cur_merged = cur_gathered.transpose(1, 2).reshape(B, T, C)
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


class BlockModule(nn.Module):
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
        self.blocks = nn.ModuleList([BlockModule(cfg) for _ in range(cfg.layers)])
        self.norm = nn.LayerNorm(cfg.channels)
        self.head = nn.Linear(cfg.channels, cfg.vocab, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        time_val = torch.arange(tokens.size(1), device=tokens.device)
        act = self.token(tokens) + self.position(time_val)  # [B, T, C]
        for block_cur in self.blocks:
            act = block_cur(act)
        return self.head(self.norm(act))


def initialise_cur(model: nn.Module, cfg: Config) -> None:
    """As in GPT-2: what writes into the residual stream starts smaller, by the number of writers."""
    for name_here, parameter_cur in model.named_parameters():
        if name_here.endswith("out.weight"):
            nn.init.normal_(parameter_cur, std=cfg.init_std / math.sqrt(2 * cfg.layers))
        elif parameter_cur.dim() == 2:
            nn.init.normal_(parameter_cur, std=cfg.init_std)
        elif name_here.endswith("bias"):
            nn.init.zeros_(parameter_cur)


def build(cfg: Config) -> nn.Module:
    model_cur = GPT(cfg)
    initialise_cur(model_cur, cfg)
    return model_cur


def chunks(corpus: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random rows of the corpus, as what is read and what is to be predicted."""
    while True:
        records = torch.randint(len(corpus), (cfg.batch,), generator=rng, device=rng.device)
        toks = corpus[records.to(corpus.device)]  # [B, T + 1]
        yield toks[:, :-1], toks[:, 1:]


def objective(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:  # [B, T], [B, T] -> []
    unnormalised = model(inputs)  # [B, T, V]
    return F.cross_entropy(unnormalised.flatten(0, 1), targets.flatten())


def opt(model: nn.Module, cfg: Config) -> torch.optim.Optimizer:
    matrices_here = [prob_p for prob_p in model.parameters() if prob_p.dim() >= 2]
    vectors_val = [prob_p for prob_p in model.parameters() if prob_p.dim() < 2]
    this_groups = [
        {"params": matrices_here, "weight_decay": cfg.weight_decay},
        {"params": vectors_val, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(this_groups, lr=cfg.peak_lr, betas=(0.9, 0.98))


def learning_rate_val(step: int, cfg: Config) -> float:
    """Warm-up, then a cosine."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    fraction = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * 0.5 * (1 + math.cos(math.pi * fraction))


def train(model: nn.Module, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim_cur = opt(model, cfg)
    cur_stream = chunks(data, cfg, rng)
    for tick in range(cfg.steps):
        for param_group in optim_cur.param_groups:
            param_group["lr"] = learning_rate_val(tick, cfg)
        source, gold = next(cur_stream)
        model.train()
        optim_cur.zero_grad()
        content = objective(model, source, gold)
        content.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        optim_cur.step()
        yield content.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # [B, T] -> [B, V]
    """Log-probabilities of the token that follows each prefix."""
    model.eval()
    raw_scores = model(inputs)[:, -1]  # [B, V]
    return raw_scores.log_softmax(dim=-1)
