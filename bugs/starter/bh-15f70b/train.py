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


class ReaderImpl(nn.Module):
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
        h_in = self.dropout(self.second_norm(self.second(h_in)).relu())
        return self.head(h_in)


def build(cfg: Config) -> nn.Module:
    cur_model = ReaderImpl(cfg)
    for block in (cur_model.first, cur_model.second):
        nn.init.kaiming_normal_(block.weight, nonlinearity="relu")
    nn.init.normal_(cur_model.head.weight, std=0.01)  # a fresh model has no opinion
    nn.init.zeros_(cur_model.head.bias)
    return cur_model


Rows = tuple[Tensor, Tensor]  # images and labels


def split(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> tuple[Rows, Rows]:
    """Training rows and validation rows, drawn at random: files often come sorted."""
    sequence = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    num = round(cfg.validation * len(labels))
    this_held, this_kept = sequence[:num], sequence[num:]
    return (images[this_kept], labels[this_kept]), (images[this_held], labels[this_held])


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[Rows]:
    """One pass over the rows in random order; the last batch takes what is left."""
    sequence = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for records in sequence.split(cfg.batch):
        yield images[records], labels[records]


def this_endless(rows: Rows, cfg: Config, rng: Generator) -> Iterator[Rows]:
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
    for this_slow, this_fast in zip(average.parameters(), model.parameters(), strict=True):
        this_slow.mul_(decay).add_(this_fast, alpha=1 - decay)
    for this_slow, this_fast in zip(average.buffers(), model.buffers(), strict=True):
        this_slow.copy_(this_fast)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, cfg: Config) -> dict[str, float]:
    """Mean loss and accuracy over all rows, read in pieces that fit in memory."""
    model.eval()
    criterion_value, correct_val = 0.0, 0
    for act, result in zip(images.split(cfg.eval_batch), labels.split(cfg.eval_batch), strict=True):
        preds = model(act)
        criterion_value += F.cross_entropy(preds, result, reduction="sum").item()
        correct_val += (preds.argmax(dim=1) == result).sum().item()
    return {"loss": criterion_value / len(labels), "accuracy": correct_val / len(labels)}


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
    training_here, validation_val = split(data["images"], data["labels"], cfg, rng)
    fit_factor(model, training_here[0])
    cur_average = copy.deepcopy(model)
    this_stopping = EarlyStopping(cfg.patience)
    opt = torch.optim.SGD(
        model.head.parameters(),
        lr=cfg.lr,
        momentum=cfg.momentum,
        weight_decay=cfg.weight_decay,
    )
    stream_val = itertools.islice(this_endless(training_here, cfg, rng), cfg.steps)
    for tick, (imgs, gold) in enumerate(stream_val, start=1):
        model.train()
        opt.zero_grad()
        criterion_value = F.cross_entropy(model(imgs), gold)
        criterion_value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_norm)
        opt.step()
        update_average(cur_average, model, cfg.decay)
        if tick % cfg.evaluate_every == 0:
            this_stopping.update(evaluate(cur_average, *validation_val, cfg)["loss"], cur_average)
        yield criterion_value.item()
        if this_stopping.exhausted():
            break
    this_stopping.restore(model)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    return model(images).log_softmax(dim=1)
