"""A vision transformer that reads digits: an image is a sequence of small squares.

Every square becomes a vector, a learned one for its place is added, and a class token in front of them
gathers what the head needs to know.

Shapes: B batch, S side of an image, P side of a patch, N patches, T tokens (N + 1), C channels, H heads,
D channels per head, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    side: int = 12
    patch: int = 3
    classes: int = 10
    channels: int = 36
    heads: int = 3
    layers: int = 2
    inner: int = 80  # width between the two matrices of an MLP
    position_std: float = 0.5
    dropout: float = 0.02
    batch: int = 56
    steps: int = 280
    warmup: int = 35
    peak_lr: float = 8e-3
    weight_decay: float = 0.05
    smoothing: float = 0.05
    max_grad_norm: float = 1.5


def prepare(images: Tensor) -> Tensor:  # bytes [B, S, S] -> [B, S, S]
    """Ink around zero, with about the scale of the weights."""
    return (images.float() / 255 - 0.4) / 0.2


def patchify(pixels: Tensor, patch: int) -> Tensor:  # [B, S, S] -> [B, N, P * P]
    """Squares in reading order, each with its own pixels in reading order."""
    B, S, _ = pixels.shape
    across = S // patch
    grid = pixels.reshape(B, across, patch, across, patch)
    return grid.transpose(2, 3).reshape(B, across * across, patch * patch)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # three [B, H, T, D] -> [B, H, T, D]
    """Each query gathers values, weighted by how well their keys match."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # [B, H, T, T], queries down, keys across
    return scores.softmax(dim=-1) @ v


class Attention(nn.Module):
    """Several heads look at all tokens side by side; their findings are mixed at the end."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.qkv = nn.Linear(cfg.channels, 3 * cfg.channels)
        self.out = nn.Linear(cfg.channels, cfg.channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, T, D]
        merged = attend(q, k, v).transpose(1, 2).reshape(B, T, C)
        return self.out(merged)


class Block(nn.Module):
    """Attention moves information between tokens, the MLP digests it."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(cfg.channels)
        self.attention = Attention(cfg)
        self.mlp_norm = nn.LayerNorm(cfg.channels)
        self.up = nn.Linear(cfg.channels, cfg.inner)
        self.down = nn.Linear(cfg.inner, cfg.channels)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C] -> [B, T, C]
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        digested = self.down(F.gelu(self.up(self.mlp_norm(x))))
        return x + self.dropout(digested)


class ViT(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.patch = cfg.patch
        tokens = (cfg.side // cfg.patch) ** 2 + 1
        self.embed = nn.Linear(cfg.patch**2, cfg.channels)
        self.class_token = nn.Parameter(torch.zeros(cfg.channels))
        self.position = nn.Parameter(cfg.position_std * torch.randn(tokens, cfg.channels))
        self.blocks = nn.ModuleList([Block(cfg) for _ in range(cfg.layers)])
        self.norm = nn.LayerNorm(cfg.channels)
        self.head = nn.Linear(cfg.channels, cfg.classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels: Tensor) -> Tensor:  # [B, S, S] -> [B, K]
        patches = self.embed(patchify(pixels, self.patch))  # [B, N, C]
        first = self.class_token.expand(len(patches), 1, -1)
        x = torch.cat([first, patches], dim=1) + self.position  # [B, T, C]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


def build(cfg: Config) -> nn.Module:
    return ViT(cfg)


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    order = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for rows in order.split(cfg.batch):
        yield images[rows], labels[rows]


def loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:  # [B, K], [B] -> []
    """Cross-entropy with a share of each answer spread over all classes."""
    log_chances = logits.log_softmax(dim=-1)
    right = log_chances.gather(1, labels[:, None]).squeeze(1)  # [B]
    anything = log_chances.mean(dim=-1)  # [B]
    return -((1 - smoothing) * right + smoothing * anything).mean()


def learning_rate(step: int, cfg: Config) -> float:
    """Warm-up, then half a cosine."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    progress = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * 0.5 * (1 + math.cos(math.pi * progress))


def optimizer(model: nn.Module, cfg: Config) -> torch.optim.Optimizer:
    """Matrices decay; places, norms and biases do not."""
    decayed = [p for n, p in model.named_parameters() if p.dim() > 1 and n != "position"]
    spared = [p for n, p in model.named_parameters() if p.dim() <= 1 or n == "position"]
    groups = [
        {"params": decayed, "weight_decay": cfg.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.peak_lr)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim = optimizer(model, cfg)
    step = 0
    while step < cfg.steps:
        for images, labels in batches(data["images"], data["labels"], cfg, rng):
            for group in optim.param_groups:
                group["lr"] = learning_rate(step, cfg)
            model.train()
            optim.zero_grad()
            value = loss(model(prepare(images)), labels, cfg.smoothing)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
            optim.step()
            step += 1
            yield value.item()
            if step == cfg.steps:
                break


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, S, S] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    return model(prepare(images)).log_softmax(dim=1)
