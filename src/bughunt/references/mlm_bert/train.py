"""A masked language model: some words of a sentence are hidden, and both sides help to guess them.

Of the tokens chosen, most become a mask, some become another word and some stay, so that the model never
knows which of the words that it sees are true. Only the chosen ones are asked for.

Shapes: B batch, T time, C channels, H heads, K channels per head, W words, V vocabulary (words, mask, pad).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

WORDS = 21
START, MASK, PAD = 0, 21, 22
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Config:
    context: int = 18
    channels: int = 36
    heads: int = 3
    layers: int = 2
    inner: int = 88
    init_std: float = 0.12
    chosen: float = 0.15
    masked: float = 0.8  # of the chosen ones
    replaced: float = 0.1  # of the chosen ones; the others stay
    longest_padding: int = 4
    batch: int = 40
    steps: int = 240
    warmup: int = 30
    peak_lr: float = 8e-3
    weight_decay: float = 0.02
    max_grad_norm: float = 1.0


def corrupt(tokens: Tensor, cfg: Config, rng: Generator) -> tuple[Tensor, Tensor]:  # [B, T] -> [B, T] twice
    """Sentences with some tokens hidden, and what these were; everything else is not asked for."""
    lucky = torch.rand(3, *tokens.shape, generator=rng, device=rng.device).to(tokens.device)
    anything = torch.randint(1, WORDS, tokens.shape, generator=rng, device=rng.device).to(tokens.device)
    special = (tokens == START) | (tokens == PAD)
    chosen = (lucky[0] < cfg.chosen) & ~special
    masked = chosen & (lucky[1] < cfg.masked)
    replaced = chosen & ~masked & (lucky[1] < cfg.masked + cfg.replaced)
    seen = torch.where(masked, MASK, torch.where(replaced, anything, tokens))
    return seen, torch.where(chosen, tokens, IGNORED)


def attend(q: Tensor, k: Tensor, v: Tensor, padding: Tensor) -> Tensor:  # [B, H, T, K] -> [B, H, T, K]
    """Each query gathers values from all places but those of the padding [B, T]."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # [B, H, T, T], queries down, keys across
    scores = scores.masked_fill(padding[:, None, None, :], -torch.inf)
    return scores.softmax(dim=-1) @ v


class Block(nn.Module):
    """Attention moves information between places, the MLP digests it; each has a norm in front."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.attention_norm = nn.LayerNorm(cfg.channels)
        self.qkv = nn.Linear(cfg.channels, 3 * cfg.channels)
        self.out = nn.Linear(cfg.channels, cfg.channels)
        self.mlp_norm = nn.LayerNorm(cfg.channels)
        self.up = nn.Linear(cfg.channels, cfg.inner)
        self.down = nn.Linear(cfg.inner, cfg.channels)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:  # [B, T, C], [B, T] -> [B, T, C]
        B, T, C = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        gathered = attend(q, k, v, padding).transpose(1, 2).reshape(B, T, C)
        x = x + self.out(gathered)
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class Encoder(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(WORDS + 2, cfg.channels)
        self.position = nn.Embedding(cfg.context, cfg.channels)
        self.blocks = nn.ModuleList([Block(cfg) for _ in range(cfg.layers)])
        self.norm = nn.LayerNorm(cfg.channels)
        self.head = nn.Linear(cfg.channels, WORDS)

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, W]
        time = torch.arange(tokens.size(1), device=tokens.device)
        x = self.token(tokens) + self.position(time)
        for block in self.blocks:
            x = block(x, tokens == PAD)
        return self.head(self.norm(x))


def build(cfg: Config) -> Encoder:
    model = Encoder(cfg)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=cfg.init_std)
    return model


def loss(model: Encoder, seen: Tensor, asked: Tensor) -> Tensor:  # [B, T], [B, T] -> []
    """Cross-entropy over the tokens that are asked for."""
    logits = model(seen)
    return F.cross_entropy(logits.flatten(0, 1), asked.flatten(), ignore_index=IGNORED)


def batches(corpus: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random rows with a random amount of padding behind them, corrupted anew each time."""
    while True:
        rows = torch.randint(len(corpus), (cfg.batch,), generator=rng, device=rng.device)
        padding = int(torch.randint(cfg.longest_padding + 1, (), generator=rng, device=rng.device))
        tokens = F.pad(corpus[rows.to(corpus.device)], (0, padding), value=PAD)
        yield corrupt(tokens, cfg, rng)


def learning_rate(step: int, cfg: Config) -> float:
    """Warm-up, then half a cosine."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    progress = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * 0.5 * (1 + math.cos(math.pi * progress))


def train(model: Encoder, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss. `data` is token ids [N, T]."""
    optim = torch.optim.AdamW(model.parameters(), lr=cfg.peak_lr, weight_decay=cfg.weight_decay)
    stream = batches(data, cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        seen, asked = next(stream)
        model.train()
        optim.zero_grad()
        value = loss(model, seen, asked)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        optim.step()
        yield value.item()


@torch.no_grad()
def predict(model: Encoder, inputs: Tensor) -> Tensor:  # token ids [B, T] -> [B, T, W]
    """Log-probabilities of the words at every place."""
    model.eval()
    return model(inputs).log_softmax(dim=-1)
