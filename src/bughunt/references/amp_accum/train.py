"""Training in half precision, by batches that are too large to fit and come in pieces.

Products are taken in half precision, weights and sums are kept in full. The loss is scaled up so that small
gradients survive; where something overflows, the step is left out and the scale comes down.

Shapes: B batch, M piece of a batch, P pixels, H hidden units, K classes.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

UNKNOWN = -1  # the label of a row that nobody has looked at
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class Config:
    precision: str = "bfloat16"
    pixels: int = 144
    hidden: int = 64
    classes: int = 10
    batch: int = 88
    piece: int = 36
    steps: int = 240
    warmup: int = 12
    lr: float = 4e-3
    last_lr: float = 0.05  # as a share of the highest
    weight_decay: float = 0.2
    max_norm: float = 0.7
    first_scale: float = 4096.0
    growth_interval: int = 60


class Block(nn.Module):
    """A product in half precision, a normalisation in full, a bend."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:  # [M, I] -> [M, O]
        return F.gelu(self.norm(self.linear(x).float()))


class Reader(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(cfg.pixels, cfg.hidden), Block(cfg.hidden, cfg.hidden))
        self.head = nn.Linear(cfg.hidden, cfg.classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:  # [M, height, width] -> [M, K]
        x = (images.flatten(1).float() / 255 - 0.4) / 0.2
        return self.head(self.blocks(x)).float()


class Scaler:
    """Keeps the loss at a scale where gradients neither vanish nor overflow."""

    def __init__(self, first: float, interval: int, growth: float = 2.0, backoff: float = 0.5) -> None:
        self.factor = first
        self.growth, self.backoff, self.interval = growth, backoff, interval
        self.good_steps = 0  # since the scale last changed
        self.overflow = False

    def scale(self, loss: Tensor) -> Tensor:
        return loss * self.factor

    def unscale(self, params: Iterable[Tensor]) -> None:
        """Bring the gradients back to their own size, and note whether all of them are numbers."""
        grads = [p.grad for p in params if p.grad is not None]
        for grad in grads:
            grad.div_(self.factor)
        self.overflow = not all(bool(grad.isfinite().all()) for grad in grads)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.overflow:
            optimizer.step()

    def update(self) -> None:
        """Down at once after an overflow, up after a long time without one."""
        if self.overflow:
            self.factor *= self.backoff
            self.good_steps = 0
            return
        self.good_steps += 1
        if self.good_steps == self.interval:
            self.factor *= self.growth
            self.good_steps = 0

    def current(self) -> float:
        return self.factor


def build(cfg: Config) -> nn.Module:
    return Reader(cfg)


def piece_loss(model: nn.Module, images: Tensor, labels: Tensor, count: int, cfg: Config) -> Tensor:
    """What a piece adds to the mean over the `count` known labels of its batch."""
    dtype = PRECISIONS[cfg.precision]
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        logits = model(images)
    return F.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="sum") / count


def accumulate(model: nn.Module, images: Tensor, labels: Tensor, scaler: Scaler, cfg: Config) -> float:
    """Add the gradients of a batch, piece by piece, and return its loss."""
    count = max(int((labels != UNKNOWN).sum()), 1)
    total = 0.0
    for rows, answers in zip(images.split(cfg.piece), labels.split(cfg.piece), strict=True):
        loss = piece_loss(model, rows, answers, count, cfg)
        scaler.scale(loss).backward()
        total += loss.item()
    return total


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases and the scales of normalisations do not."""
    params = list(model.parameters())
    return [
        {"params": [p for p in params if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]


def learning_rate(step: int, cfg: Config) -> float:
    """A straight climb, then half a cosine down to the last share."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    progress = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return cfg.lr * (cfg.last_lr + (1 - cfg.last_lr) * 0.5 * (1 + math.cos(math.pi * progress)))


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass after pass in random order; the last batch of each takes what is left."""
    while True:
        order = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
        for rows in order.split(cfg.batch):
            yield images[rows], labels[rows]


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding the loss of its batch."""
    optimizer = torch.optim.AdamW(parameter_groups(model, cfg.weight_decay), lr=cfg.lr, betas=(0.9, 0.98))
    scaler = Scaler(cfg.first_scale, cfg.growth_interval)
    stream = batches(data["images"], data["labels"], cfg, rng)
    for step in range(cfg.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, cfg)
        images, labels = next(stream)
        model.train()
        optimizer.zero_grad()
        loss = accumulate(model, images, labels, scaler, cfg)
        scaler.unscale(model.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_norm)
        scaler.step(optimizer)
        scaler.update()
        yield loss


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes, in full precision."""
    model.eval()
    return model(images).log_softmax(dim=1)
