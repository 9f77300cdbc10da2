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


@dataclass(frozen=True, kw_only=True)
class Config:
    classes: int = 10
    pixels: int = 144
    dropout: float = 0.2
    # share of the rows
    validation: float = 0.2
    features: int = 96
    eval_batch: int = 128
    batch: int = 64
    steps: int = 400
    lr: float = 0.1
    weight_decay: float = 0.001
    decay: float = 0.95  # of the moving average
    momentum: float = 0.9
    max_norm: float = 1.0
    patience: int = 15
    evaluate_every: int = 20


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
        self.second = nn.Linear(cfg.features, cfg.features, False)
        self.second_norm = nn.BatchNorm1d(cfg.features)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.features, cfg.classes)

    def forward(self, imgs: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
        difference = torch.flatten(imgs, 1).float() - self.mean
        inp = difference / self.std  # [B, P]
        active = self.first_norm(self.first(inp)).relu()
        inp = self.dropout(active)  # [B, F]
        active = self.second_norm(self.second(inp)).relu()
        inp = self.dropout(active)
        return self.head(inp.detach())


def build(cfg: Config) -> nn.Module:
    learner = BaseReader(cfg)
    for stage in (learner.first, learner.second):
        nn.init.kaiming_normal_(stage.weight, nonlinearity="relu")
    nn.init.normal_(learner.head.weight, std=0.01)  # a fresh model has no opinion
    nn.init.zeros_(learner.head.bias)
    return learner


Rows = tuple[Tensor, Tensor]  # images and labels


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[Rows]:
    """One pass over the rows in random order; the last batch takes what is left."""
    randperm_rng = torch.randperm(len(labels), generator=rng, device=rng.device)
    sequence = randperm_rng.to(labels.device)
    for samples in sequence.split(cfg.batch):
        yield images[samples], labels[samples]


def split(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> tuple[Rows, Rows]:
    """Training rows and validation rows, drawn at random: files often come sorted."""
    randperm_rng = torch.randperm(len(labels), generator=rng, device=rng.device)
    sequence = randperm_rng.to(labels.device)
    product = len(labels) * cfg.validation
    total = round(product)
    retained = sequence[:total]
    held_on = sequence[total:]
    return (images[held_on], labels[held_on]), (images[retained], labels[retained])


def fit_factor(learner: nn.Module, pictures: Tensor) -> None:
    """Measure the pixels that the model will be trained on."""
    with torch.no_grad():
        learner.mean.copy_(torch.mean(pictures.float()))
        learner.std.copy_(torch.std(pictures.float()))


def _endless(records: Rows, config: Config, rng: Generator) -> Iterator[Rows]:
    while True:
        yield from batches(*records, config, rng)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average a little towards the model; statistics and counters are taken over."""
    for gradual, quick in zip(average.parameters(), model.parameters(), strict=True):
        gradual.mul_(decay).add_(quick, alpha=1 - decay)
    for gradual, quick in zip(average.buffers(), model.buffers(), strict=True):
        gradual.copy_(quick)


def evaluate(model: nn.Module, images: Tensor, labels: Tensor, cfg: Config) -> dict[str, float]:
    """Mean loss and accuracy over all rows, read in pieces that fit in memory."""
    with torch.no_grad():
        model.eval()
        err = 0.0
        correct_used = 0
        for feats, result in zip(images.split(cfg.eval_batch), labels.split(cfg.eval_batch), strict=True):
            raw_scores = model(feats)
            err += nn.functional.cross_entropy(raw_scores, target=result, reduction="sum").item()
            correct_used += (result == raw_scores.argmax(dim=1)).sum().item()
        return {"loss": err / len(labels), "accuracy": correct_used / len(labels)}


class EarlyStopping:
    """Remembers the best weights and says when the wait for better ones is over."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best = torch.inf
        self.waited = 0
        self.weights: dict[str, Tensor] = {}

    def exhausted(self) -> bool:
        return self.waited >= self.patience

    def update(self, cost: float, net: nn.Module) -> None:
        if cost < self.best:
            self.waited = 0
            self.best = cost
            self.weights = copy.deepcopy(net.state_dict())
        else:
            self.waited += 1

    def restore(self, learner: nn.Module) -> None:
        if self.weights:
            learner.load_state_dict(self.weights)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    cur_training, cur_validation = split(data["images"], data["labels"], cfg, rng=rng)
    fit_factor(model, cur_training[0])
    typical = copy.deepcopy(model)
    cur_stopping = EarlyStopping(cfg.patience)
    opt = torch.optim.SGD(
        model.parameters(),
        lr=cfg.lr,
        momentum=cfg.momentum,
        weight_decay=cfg.weight_decay,
    )
    endless_training = _endless(cur_training, cfg, rng)
    source = itertools.islice(endless_training, cfg.steps)
    for tick, (pictures, answers) in enumerate(source, start=1):
        model.train()
        opt.zero_grad()
        cost = nn.functional.cross_entropy(model(pictures), target=answers)
        cost.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=cfg.max_norm)
        opt.step()
        update_average(typical, model, cfg.decay)
        if tick % cfg.evaluate_every == 0:
            cur_stopping.update(evaluate(typical, *cur_validation, cfg)["loss"], typical)
        yield cost.item()
        if cur_stopping.exhausted():
            break
    cur_stopping.restore(model)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    model_imgs = model(images)
    return model_imgs.log_softmax(dim=1)
