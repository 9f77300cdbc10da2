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


class BaseReader(nn.Module):
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
        act = (images.flatten(1).float() - self.mean) / self.std  # [B, P]
        act = self.dropout(self.first_norm(self.first(act)).relu())  # [B, F]
        act = self.dropout(self.second_norm(self.second(act)).relu())
        return self.head(act.detach())


def build(cfg: Config) -> nn.Module:
    this_model = BaseReader(cfg)
    for stage in (this_model.first, this_model.second):
        nn.init.kaiming_normal_(stage.weight, nonlinearity="relu")
    nn.init.normal_(this_model.head.weight, std=0.01)  # a fresh model has no opinion
    nn.init.zeros_(this_model.head.bias)
    return this_model


Rows = tuple[Tensor, Tensor]  # images and labels


def split(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> tuple[Rows, Rows]:
    """Training rows and validation rows, drawn at random: files often come sorted."""
    sequence = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    total = round(cfg.validation * len(labels))
    held_cur, kept_val = sequence[:total], sequence[total:]
    return (images[kept_val], labels[kept_val]), (images[held_cur], labels[held_cur])


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[Rows]:
    """One pass over the rows in random order; the last batch takes what is left."""
    sequence = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for samples in sequence.split(cfg.batch):
        yield images[samples], labels[samples]


def endless_cur(rows: Rows, cfg: Config, rng: Generator) -> Iterator[Rows]:
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
    for cur_slow, fast_cur in zip(average.parameters(), model.parameters(), strict=True):
        cur_slow.mul_(decay).add_(fast_cur, alpha=1 - decay)
    for cur_slow, fast_cur in zip(average.buffers(), model.buffers(), strict=True):
        cur_slow.copy_(fast_cur)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, cfg: Config) -> dict[str, float]:
    """Mean loss and accuracy over all rows, read in pieces that fit in memory."""
    model.eval()
    err, this_correct = 0.0, 0
    for h_in, result in zip(images.split(cfg.eval_batch), labels.split(cfg.eval_batch), strict=True):
        raw_scores = model(h_in)
        err += F.cross_entropy(raw_scores, result, reduction="sum").item()
        this_correct += (raw_scores.argmax(dim=1) == result).sum().item()
    return {"loss": err / len(labels), "accuracy": this_correct / len(labels)}


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
    cur_training, cur_validation = split(data["images"], data["labels"], cfg, rng)
    fit_factor(model, cur_training[0])
    cur_average = copy.deepcopy(model)
    stopping_here = EarlyStopping(cfg.patience)
    opt = torch.optim.SGD(
        model.parameters(),
        lr=cfg.lr,
        momentum=cfg.momentum,
        weight_decay=cfg.weight_decay,
    )
    stream_here = itertools.islice(endless_cur(cur_training, cfg, rng), cfg.steps)
    for tick, (pictures, answers) in enumerate(stream_here, start=1):
        model.train()
        opt.zero_grad()
        cost = F.cross_entropy(model(pictures), answers)
        cost.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_norm)
        opt.step()
        update_average(cur_average, model, cfg.decay)
        if tick % cfg.evaluate_every == 0:
            stopping_here.update(evaluate(cur_average, *cur_validation, cfg)["loss"], cur_average)
        yield cost.item()
        if stopping_here.exhausted():
            break
    stopping_here.restore(model)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    return model(images).log_softmax(dim=1)
