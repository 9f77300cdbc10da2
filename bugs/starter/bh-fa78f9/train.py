"""A small GPT that continues sentences, one token at a time.

At every position the model reads the tokens so far and predicts the next one. All positions
of a sentence are trained together; in use, only the last one is asked.

Shapes: B batch, T time, C channels, H heads, K channels per head, V vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(kw_only=True, frozen=True)
class Config:
    context: int = 13
    layers: int = 2
    vocab: int = 21
    heads: int = 4
    dropout: float = 0.02
    init_std: float = 0.12
    channels: int = 48
    warmup: int = 15
    batch: int = 32
    peak_lr: float = 0.004
    weight_decay: float = 0.1
    steps: int = 250
    max_grad_norm: float = 1.0


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # three [B, H, T, K] -> [B, H, T, K]
    """Each query gathers the values that it may read, weighted by how well their keys match."""
    T, K = q.shape[-2:]
    base = math.sqrt(K)
    ratings = q @ k.mT / base  # [B, H, T, T], queries down, keys across
    hid = torch.ones(T, T, device=q.device, dtype=torch.bool).triu(1)
    return torch.matmul(ratings.masked_fill(hid, value=-torch.inf).softmax(dim=-1), v)


class Attention(torch.nn.Module):
    """Several heads look at the sequence side by side; their findings are mixed at the end."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.qkv = torch.nn.Linear(cfg.channels, bias=False, out_features=3 * cfg.channels)
        self.out = torch.nn.Linear(cfg.channels, out_features=cfg.channels)
        self.dropout = torch.nn.Dropout(cfg.dropout)

    def forward(self, features: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        B, T, C = features.size()
        arranged = self.qkv(features).view(B, T, 3, self.heads, -1)
        qry, rank, val = arranged.permute(2, 0, 3, 1, 4)  # [B, H, T, K]
        local_gathered = attend(qry, rank, val)
        return self.dropout(self.out(local_gathered.swapaxes(1, 2).reshape(B, T, C)))


class MLP(torch.nn.Module):
    """Works on each position alone."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.up = torch.nn.Linear(cfg.channels, out_features=4 * cfg.channels)
        self.out = torch.nn.Linear(4 * cfg.channels, out_features=cfg.channels)
        self.dropout = torch.nn.Dropout(cfg.dropout)

    def forward(self, features: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        result_result = self.out(F.gelu(self.up(features)))
        return self.dropout(result_result)


class MyBlock(torch.nn.Module):
    """Attention moves information between positions, the MLP digests it."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.attention_norm = torch.nn.LayerNorm(cfg.channels)
        self.attention = Attention(cfg)
        self.mlp_norm = torch.nn.LayerNorm(cfg.channels)
        self.mlp = MLP(cfg)

    def forward(self, inp: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        attention_output = self.attention(self.attention_norm(inp))
        inp = attention_output + inp
        mlp_output = self.mlp(self.mlp_norm(inp))
        return inp + mlp_output


class GPT(torch.nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = torch.nn.Embedding(cfg.vocab, cfg.channels)
        self.position = torch.nn.Embedding(cfg.context, embedding_dim=cfg.channels)
        self.blocks = torch.nn.ModuleList([MyBlock(cfg) for _ in range(cfg.layers)])
        self.norm = torch.nn.LayerNorm(cfg.channels)
        self.head = torch.nn.Linear(cfg.channels, cfg.vocab, bias=False)
        self.head.weight = self.token.weight

    def forward(self, toks: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        tok_toks = self.token(toks)
        x = tok_toks + self.position(torch.arange(toks.shape[1], device=toks.device))  # [B, T, C]
        for section in self.blocks:
            x = section(x)
        return self.head(self.norm(x))


def build(cfg: Config) -> torch.nn.Module:
    net = GPT(cfg)
    _initialise_impl(net, cfg=cfg)
    return net


def chunks(corpus: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random rows of the corpus, as what is read and what is to be predicted."""
    while True:
        rows = torch.randint(len(corpus), (cfg.batch,), device=rng.device, generator=rng)
        tokens = corpus[rows.to(corpus.device)]  # [B, T + 1]
        yield tokens[:, :-1], tokens[:, 1:]


def _initialise_impl(network: torch.nn.Module, cfg: Config) -> None:
    """As in GPT-2: what writes into the residual stream starts smaller, by the number of writers."""
    for tag, cur_parameter in network.named_parameters():
        if tag.endswith("out.weight"):
            torch.nn.init.normal_(cur_parameter, std=cfg.init_std / math.sqrt(2 * cfg.layers))
        elif cur_parameter.ndim == 2:
            torch.nn.init.normal_(cur_parameter, std=cfg.init_std)
        elif tag.endswith("bias"):
            torch.nn.init.zeros_(cur_parameter)


def err(net: torch.nn.Module, given: Tensor, targets: Tensor) -> Tensor:  # [B, T], [B, T] -> []
    outputs = net(given)  # [B, T, V]
    return F.cross_entropy(outputs.flatten(0, 1).softmax(-1), target=targets.flatten())


def updater(net: torch.nn.Module, cfg: Config) -> torch.optim.Optimizer:
    matrices_used = [param for param in net.parameters() if param.dim() >= 2]
    arrows = [param for param in net.parameters() if param.ndim < 2]
    buckets = [
        {"params": matrices_used, "weight_decay": cfg.weight_decay},
        {"params": arrows, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(buckets, cfg.peak_lr, betas=(0.9, 0.98))


def step_length(iteration: int, cfg: Config) -> float:
    """Warm-up, then a cosine."""
    if iteration < cfg.warmup:
        return (iteration + 1) * cfg.peak_lr / cfg.warmup
    difference = iteration - cfg.warmup
    share_done = difference / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * 0.5 * (1 + math.cos(share_done * math.pi))


def train(model: torch.nn.Module, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    solver = updater(model, cfg=cfg)
    source = chunks(data, cfg, rng)
    for iteration in range(cfg.steps):
        for bucket in solver.param_groups:
            bucket["lr"] = step_length(iteration, cfg)
        sources, wanted = next(source)
        model.train()
        solver.zero_grad()
        content = err(model, sources, targets=wanted)
        content.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        solver.step()
        yield content.item()


def predict(model: torch.nn.Module, inputs: Tensor) -> Tensor:  # [B, T] -> [B, V]
    """Log-probabilities of the token that follows each prefix."""
    with torch.no_grad():
        model.eval()
        outputs = model(inputs)[:, -1]  # [B, V]
        return torch.log_softmax(outputs, dim=-1)
