"""A training loop with what a real one has around it.

A small network learns to read glyphs. The rows are split, pixels are put on a common scale, a moving
average follows the weights, and the run ends with the weights that did best on the validation rows.

Shapes: N rows, B batch, P pixels, F features, K classes.
"""

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    pixels: int = 144
    classes: int = 10
    features: int = 96
    dropout: float = 0.2
    validation: float = 0.2  # share of the rows
    batch: int = 64
    eval_batch: int = 128
    steps: int = 400
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-3
    max_norm: float = 1.0
    decay: float = 0.95  # of the moving average
    evaluate_every: int = 20
    patience: int = 15


class ReaderPart(nn.Module):
    """Two hidden layers; the scale of the pixels is part of the model, so it travels with it."""

    mean: Tensor
    std: Tensor

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.first = nn.Linear(cfg.pixels, cfg.features, bias=False)
        self.first_norm = nn.BatchNorm1d(cfg.features)
        self.second = nn.Linear(cfg.features, cfg.features, bias=False)
        self.second_norm = nn.BatchNorm1d(cfg.features)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.features, cfg.classes)

    def forward(self, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
        h_in = (images.flatten(1).float() - self.mean) / self.std  # [B, P]
        h_in = self.dropout(self.first_norm(self.first(h_in)).relu())  # [B, F]
        h_in = self.dropout(self.first_norm(self.second(h_in)).relu())
        return self.head(h_in)


def build(cfg: Config) -> nn.Module:
    model_here = ReaderPart(cfg)
    for block in (model_here.first, model_here.second):
        nn.init.kaiming_normal_(block.weight, nonlinearity="relu")
    nn.init.normal_(model_here.head.weight, std=0.01)  # a fresh model has no opinion
    nn.init.zeros_(model_here.head.bias)
    return model_here


Rows = tuple[Tensor, Tensor]  # images and labels


def split(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> tuple[Rows, Rows]:
    """Training rows and validation rows, drawn at random: files often come sorted."""
    perm = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    num = round(cfg.validation * len(labels))
    held_here, cur_kept = perm[:num], perm[num:]
    return (images[cur_kept], labels[cur_kept]), (images[held_here], labels[held_here])


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[Rows]:
    """One pass over the rows in random order; the last batch takes what is left."""
    sequence = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for samples in sequence.split(cfg.batch):
        yield images[samples], labels[samples]


def endless_val(rows: Rows, cfg: Config, rng: Generator) -> Iterator[Rows]:
    while True:
        yield from batches(*rows, cfg, rng)


@torch.no_grad()
def fit_factor(model: nn.Module, images: Tensor) -> None:
    """Measure the pixels that the model will be trained on."""
    model.mean.copy_(images.float().mean())
    model.std.copy_(images.float().std())


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average a little towards the model; statistics and counters are taken over."""
    for slow_here, cur_fast in zip(average.parameters(), model.parameters(), strict=True):
        slow_here.mul_(decay).add_(cur_fast, alpha=1 - decay)
    for slow_here, cur_fast in zip(average.buffers(), model.buffers(), strict=True):
        slow_here.copy_(cur_fast)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, cfg: Config) -> dict[str, float]:
    """Mean loss and accuracy over all rows, read in pieces that fit in memory."""
    model.eval()
    criterion_value, correct_here = 0.0, 0
    for inp, out in zip(images.split(cfg.eval_batch), labels.split(cfg.eval_batch), strict=True):
        raw_scores = model(inp)
        criterion_value += F.cross_entropy(raw_scores, out, reduction="sum").item()
        correct_here += (raw_scores.argmax(dim=1) == out).sum().item()
    return {"loss": criterion_value / len(labels), "accuracy": correct_here / len(labels)}


class EarlyStopping:
    """Remembers the best weights and says when the wait for better ones is over."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.waited = 0
        self.best = float("inf")
        self.weights: dict[str, Tensor] = {}

    def update(self, loss: float, model: nn.Module) -> None:
        if loss < self.best:
            self.best = loss
            self.waited = 0
            self.weights = copy.deepcopy(model.state_dict())
        else:
            self.waited += 1

    def exhausted(self) -> bool:
        return self.waited >= self.patience

    def restore(self, model: nn.Module) -> None:
        if self.weights:
            model.load_state_dict(self.weights)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    cur_training, validation_cur = split(data["images"], data["labels"], cfg, rng)
    fit_factor(model, cur_training[0])
    average_val = copy.deepcopy(model)
    stopping_here = EarlyStopping(cfg.patience)
    updater = torch.optim.SGD(
        model.parameters(),
        lr=cfg.lr,
        momentum=cfg.momentum,
        weight_decay=cfg.weight_decay,
    )
    stream_val = itertools.islice(endless_val(cur_training, cfg, rng), cfg.steps)
    for iteration, (imgs, targets) in enumerate(stream_val, start=1):
        model.train()
        updater.zero_grad()
        objective = F.cross_entropy(model(imgs), targets)
        objective.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_norm)
        updater.step()
        update_average(average_val, model, cfg.decay)
        if iteration % cfg.evaluate_every == 0:
            stopping_here.update(evaluate(average_val, *validation_cur, cfg)["loss"], average_val)
        yield objective.item()
        if stopping_here.exhausted():
            break
    stopping_here.restore(model)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    return model(images).log_softmax(dim=1)
