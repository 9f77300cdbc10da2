"""A network that has learned one task is adapted to another by thin matrices beside its frozen weights.

Beside each weight stand two thin matrices, whose product has the weight's shape; only these learn. They can
be switched off, saved by themselves, and folded into the weights when nothing is to be learned any more.

Shapes: B batch, I inputs, O outputs, R rank, P pixels, K classes.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    pixels: int = 144
    first: int = 64
    second: int = 48
    classes: int = 10
    rank: int = 6
    alpha: float = 9.0
    dropout: float = 0.1
    batch: int = 48
    steps: int = 260
    warmup: int = 20
    lr: float = 8e-3
    last_lr: float = 0.1  # as a share of the highest
    weight_decay: float = 0.05
    max_norm: float = 1.0


class Adapted(nn.Module):
    """A linear layer with a change of low rank beside it, which is nothing to begin with."""

    def __init__(self, inputs: int, outputs: int, cfg: Config) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.down = nn.Parameter(torch.randn(cfg.rank, inputs) / math.sqrt(inputs))
        self.up = nn.Parameter(torch.zeros(outputs, cfg.rank))
        self.scale = cfg.alpha / cfg.rank
        self.dropout = nn.Dropout(cfg.dropout)
        self.enabled = True
        self.merged = False

    def change(self) -> Tensor:  # [O, I]
        return self.scale * self.up @ self.down

    def forward(self, x: Tensor) -> Tensor:  # [B, I] -> [B, O]
        out = self.base(x)
        if self.merged or not self.enabled:
            return out
        thin = self.dropout(x) @ self.down.T  # [B, R]
        return out + self.scale * thin @ self.up.T


class Reader(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        sizes = [cfg.pixels, cfg.first, cfg.second, cfg.classes]
        self.layers = nn.ModuleList(Adapted(i, o, cfg) for i, o in itertools.pairwise(sizes))

    def forward(self, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
        x = prepare(images).flatten(1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


def prepare(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.4) / 0.2


def build(cfg: Config) -> nn.Module:
    return Reader(cfg)


def adapters(model: nn.Module) -> dict[str, Tensor]:
    """What is learned, by name."""
    return {name: p for name, p in model.named_parameters() if ".base." not in name}


@torch.no_grad()
def load_base(model: nn.Module, base: list[tuple[Tensor, Tensor]]) -> None:
    """Put the weights and biases of the first task in place."""
    for layer, (weight, bias) in zip(model.layers, base, strict=True):
        layer.base.weight.copy_(weight)
        layer.base.bias.copy_(bias)


def freeze_base(model: nn.Module) -> None:
    for layer in model.layers:
        layer.base.requires_grad_(False)


def use_adapters(model: nn.Module, flag: bool) -> None:
    """Without them, the model does what it did before."""
    for layer in model.layers:
        layer.enabled = flag


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Fold every change into its weight, so that predicting costs no more than before; once is enough."""
    for layer in model.layers:
        if not layer.merged:
            layer.base.weight += layer.change()
            layer.merged = True


@torch.no_grad()
def unmerge(model: nn.Module) -> None:
    """Take the changes out again."""
    for layer in model.layers:
        if layer.merged:
            layer.base.weight -= layer.change()
            layer.merged = False


def save_adapters(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all that is needed, beside the first task's weights, to do the new task."""
    return {name: value.detach().clone() for name, value in adapters(model).items()}


@torch.no_grad()
def load_adapters(model: nn.Module, saved: dict[str, Tensor]) -> None:
    """Put saved adapters in place of the model's own, folded in or not."""
    folded = [layer.merged for layer in model.layers]
    unmerge(model)
    for name, value in adapters(model).items():
        value.copy_(saved[name])
    if any(folded):
        merge(model)


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
    """Make one update of the adapters per item, yielding its loss."""
    load_base(model, data["base"])
    freeze_base(model)
    learned = list(adapters(model).values())
    optimizer = torch.optim.AdamW(learned, lr=cfg.lr, weight_decay=cfg.weight_decay)
    stream = batches(data["images"], data["labels"], cfg, rng)
    for step in range(cfg.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, cfg)
        images, labels = next(stream)
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, cfg.max_norm)
        optimizer.step()
        yield loss.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    return model(images).log_softmax(dim=1)
