"""A modern decoder that continues sentences, and a quick way to use it.

Instead of learned positions, LayerNorm and GELU it has rotary positions, RMSNorm and a gated SiLU, and
queries share keys and values in groups. To write faster, a model with fewer layers drafts a few tokens; the
large one looks at all of them at once and keeps those that it would have written itself.

Shapes: B batch, T time, C channels, H heads, G groups of them, K channels per head, V vocabulary.
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
    layers: int = 2
    heads: int = 4
    groups: int = 2
    channels: int = 40
    inner: int = 88
    base: float = 500.0  # the slowest position turns once in about so many tokens
    eps: float = 1e-5
    init_std: float = 0.12
    batch: int = 30
    steps: int = 190
    warmup: int = 12
    peak_lr: float = 8e-3
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0


class RMSNorm(nn.Module):
    """Scales each position to a root mean square of one, then each channel by what was learnt."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:  # [..., C] -> [..., C]
        mean_square = x.pow(2).mean(dim=-1, keepdim=True)
        return x * torch.rsqrt(mean_square + self.eps) * self.weight


def angles(length: int, channels: int, base: float, device: torch.device | None = None) -> Tensor:
    """How far each pair of channels is turned at each position, [T, K / 2]."""
    pair = torch.arange(0, channels, 2, device=device)
    speed = base ** (-pair / channels)
    return torch.arange(length, device=device)[:, None] * speed


def rotate(x: Tensor, turn: Tensor) -> Tensor:  # [B, H, T, K], [T, K / 2] -> [B, H, T, K]
    """Turn each pair of neighbouring channels as a point of the plane."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = turn.cos(), turn.sin()
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # [B, H, T, K], two [B, G, T, K] -> [B, H, T, K]
    """Causal attention in which several neighbouring heads share keys and values."""
    shared = q.size(1) // k.size(1)
    k = k.repeat_interleave(shared, dim=1)
    v = v.repeat_interleave(shared, dim=1)
    T, K = q.shape[-2:]
    scores = q @ k.transpose(-2, -1) / math.sqrt(K)  # [B, H, T, T]
    hidden = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(diagonal=1)
    return scores.masked_fill(hidden, -torch.inf).softmax(dim=-1) @ v


class Attention(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        K = cfg.channels // cfg.heads
        self.query = nn.Linear(cfg.channels, cfg.heads * K, bias=False)
        self.key = nn.Linear(cfg.channels, cfg.groups * K, bias=False)
        self.value = nn.Linear(cfg.channels, cfg.groups * K, bias=False)
        self.out = nn.Linear(cfg.heads * K, cfg.channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        B, T, _ = x.shape
        q = self.query(x).view(B, T, self.cfg.heads, -1).transpose(1, 2)
        k = self.key(x).view(B, T, self.cfg.groups, -1).transpose(1, 2)
        v = self.value(x).view(B, T, self.cfg.groups, -1).transpose(1, 2)
        turn = angles(T, q.size(-1), self.cfg.base, x.device)
        q, k = rotate(q, turn), rotate(k, turn)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))


class GatedMLP(nn.Module):
    """SwiGLU: one projection decides how much of the other passes."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.gate = nn.Linear(cfg.channels, cfg.inner, bias=False)
        self.up = nn.Linear(cfg.channels, cfg.inner, bias=False)
        self.out = nn.Linear(cfg.inner, cfg.channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        return self.out(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(cfg.channels, cfg.eps)
        self.attention = Attention(cfg)
        self.mlp_norm = RMSNorm(cfg.channels, cfg.eps)
        self.mlp = GatedMLP(cfg)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Llama(nn.Module):
    """Counts how often it is asked, which is what an answer costs."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.calls = 0
        self.token = nn.Embedding(cfg.vocab, cfg.channels)
        self.blocks = nn.ModuleList([Block(cfg) for _ in range(cfg.layers)])
        self.norm = RMSNorm(cfg.channels, cfg.eps)
        self.head = nn.Linear(cfg.channels, cfg.vocab, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        self.calls += 1
        x = self.token(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def initialise(model: nn.Module, cfg: Config) -> None:
    """What writes into the residual stream starts smaller, by the number of writers."""
    for name, parameter in model.named_parameters():
        if name.endswith("out.weight"):
            nn.init.normal_(parameter, std=cfg.init_std / math.sqrt(2 * cfg.layers))
        elif parameter.dim() == 2:
            nn.init.normal_(parameter, std=cfg.init_std)


def build(cfg: Config) -> nn.Module:
    model = Llama(cfg)
    initialise(model, cfg)
    return model


def batches(corpus: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random rows of the corpus, as what is read and what is to be predicted."""
    while True:
        rows = torch.randint(len(corpus), (cfg.batch,), generator=rng, device=rng.device)
        tokens = corpus[rows.to(corpus.device)]  # [B, T + 1]
        yield tokens[:, :-1], tokens[:, 1:]


def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:  # [B, T], [B, T] -> []
    logits = model(inputs)  # [B, T, V]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def optimizer(model: nn.Module, cfg: Config) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": cfg.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.peak_lr, betas=(0.9, 0.98))


def learning_rate(step: int, cfg: Config) -> float:
    """Warm-up, then a cosine."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    progress = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * 0.5 * (1 + math.cos(math.pi * progress))


def train(model: nn.Module, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim = optimizer(model, cfg)
    stream = batches(data, cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        inputs, targets = next(stream)
        model.train()
        optim.zero_grad()
        value = loss(model, inputs, targets)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        optim.step()
        yield value.item()


@torch.no_grad()
def greedy(model: nn.Module, tokens: Tensor, count: int) -> Tensor:  # [1, T] -> [1, T + count]
    """The likeliest token each time."""
    for _ in range(count):
        token = model(tokens)[:, -1:].argmax(dim=-1)  # [1, 1]
        tokens = torch.cat([tokens, token], dim=1)
    return tokens


@torch.no_grad()
def speculative(model: nn.Module, draft: nn.Module, tokens: Tensor, count: int, ahead: int) -> Tensor:
    """As `greedy` of the model, but it is asked once for up to `ahead` drafted tokens and one more."""
    end = tokens.size(1) + count
    while tokens.size(1) < end:
        T = tokens.size(1)
        drafted = greedy(draft, tokens, min(ahead, end - T - 1))
        own = model(drafted)[:, T - 1 :].argmax(dim=-1)  # what the model would write at each place
        agreed = own[:, :-1] == drafted[:, T:]
        accepted = int(agreed[0].long().cumprod(dim=0).sum())
        tokens = torch.cat([drafted[:, : T + accepted], own[:, accepted : accepted + 1]], dim=1)
    return tokens


def continued(
    model: nn.Module, draft: nn.Module, tokens: Tensor, count: int, ahead: int
) -> tuple[Tensor, int]:
    """A prompt [1, T] with `count` tokens more, and how often the model was asked for them."""
    model.eval()
    draft.eval()
    before = model.calls
    return speculative(model, draft, tokens, count, ahead), model.calls - before


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # [B, T] -> [B, V]
    """Log-probabilities of the token that follows each prefix."""
    model.eval()
    logits = model(inputs)[:, -1]  # [B, V]
    return logits.log_softmax(dim=-1)
