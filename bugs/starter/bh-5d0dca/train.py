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


@dataclass(kw_only=True, frozen=True)
class Config:
    classes: int = 10
    pixels: int = 144
    dropout: float = 0.2
    features: int = 96
    batch: int = 64
    validation: float = 0.2  # share of the rows
    eval_batch: int = 128
    lr: float = 0.1
    steps: int = 400
    max_norm: float = 1.0
    momentum: float = 0.9
    decay: float = 0.95  # of the moving average
    evaluate_every: int = 20
    weight_decay: float = 0.001
    patience: int = 15


class ReaderPart(nn.Module):
    """Two hidden layers; the scale of the pixels is part of the model, so it travels with it."""

    mean: Tensor
    std: Tensor

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.first = nn.Linear(cfg.pixels, bias=False, out_features=cfg.features)
        self.first_norm = nn.BatchNorm1d(cfg.features)
        self.second = nn.Linear(cfg.features, cfg.features, False)
        self.second_norm = nn.BatchNorm1d(cfg.features)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.features, cfg.classes)

    def forward(self, pictures: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
        difference = torch.flatten(pictures, 1).float() - self.mean
        inp = difference / self.std  # [B, P]
        inp = self.dropout(self.first(inp).relu())  # [B, F]
        inp = self.dropout(torch.relu(self.second_norm(self.second(inp))))
        return self.head(inp)


def build(cfg: Config) -> nn.Module:
    learner = ReaderPart(cfg)
    for block in (learner.first, learner.second):
        nn.init.kaiming_normal_(block.weight, nonlinearity="relu")
    # a fresh model has no opinion
    nn.init.normal_(learner.head.weight, std=0.01)
    nn.init.zeros_(learner.head.bias)
    return learner


Rows = tuple[Tensor, Tensor]  # images and labels


def split(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> tuple[Rows, Rows]:
    """Training rows and validation rows, drawn at random: files often come sorted."""
    perm = torch.randperm(len(labels), device=rng.device, generator=rng).to(labels.device)
    num = round(cfg.validation * len(labels))
    retained = perm[:num]
    held_on = perm[num:]
    return (images[held_on], labels[held_on]), (images[retained], labels[retained])


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[Rows]:
    """One pass over the rows in random order; the last batch takes what is left."""
    sequence = torch.randperm(len(labels), device=rng.device, generator=rng).to(labels.device)
    for records in sequence.split(cfg.batch):
        yield images[records], labels[records]


def _endless(records: Rows, config: Config, randomness: Generator) -> Iterator[Rows]:
    while True:
        yield from batches(*records, config, randomness)


def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average a little towards the model; statistics and counters are taken over."""
    with torch.no_grad():
        for lagging, rapid in zip(average.parameters(), model.parameters(), strict=True):
            lagging.mul_(decay).add_(rapid, alpha=1 - decay)
        for lagging, rapid in zip(average.buffers(), model.buffers(), strict=True):
            lagging.copy_(rapid)


@torch.no_grad()
def fit_factor(learner: nn.Module, imgs: Tensor) -> None:
    """Measure the pixels that the model will be trained on."""
    learner.mean.copy_(imgs.float().mean())
    learner.std.copy_(torch.std(imgs.float()))


def evaluate(model: nn.Module, images: Tensor, labels: Tensor, cfg: Config) -> dict[str, float]:
    """Mean loss and accuracy over all rows, read in pieces that fit in memory."""
    with torch.no_grad():
        model.eval()
        err, correct_now = 0.0, 0
        for feats, result in zip(images.split(cfg.eval_batch), labels.split(cfg.eval_batch), strict=True):
            preds = model(feats)
            err += F.cross_entropy(preds, target=result, reduction="sum").item()
            correct_now += (torch.argmax(preds, dim=1) == result).sum().item()
        return {"loss": err / len(labels), "accuracy": correct_now / len(labels)}


class EarlyStopping:
    """Remembers the best weights and says when the wait for better ones is over."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.waited = 0
        self.best = torch.inf
        self.weights: dict[str, Tensor] = {}

    def exhausted(self) -> bool:
        return self.patience <= self.waited

    def restore(self, learner: nn.Module) -> None:
        if self.weights:
            learner.load_state_dict(self.weights)

    def update(self, cost: float, learner: nn.Module) -> None:
        if self.best > cost:
            self.waited = 0
            self.best = cost
            self.weights = copy.deepcopy(learner.state_dict())
        else:
            self.waited += 1


def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    with torch.no_grad():
        model.eval()
        return torch.log_softmax(model(images), dim=1)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    cur_training, this_validation = split(data["images"], data["labels"], cfg, rng)
    fit_factor(model, cur_training[0])
    mean_of = copy.deepcopy(model)
    stopping_used = EarlyStopping(cfg.patience)
    updater = torch.optim.SGD(
        model.parameters(),
        cfg.lr,
        momentum=cfg.momentum,
        weight_decay=cfg.weight_decay,
    )
    feed = itertools.islice(_endless(cur_training, cfg, rng), cfg.steps)
    for iteration, (imgs, gold) in enumerate(feed, start=1):
        model.train()
        updater.zero_grad(set_to_none=True)
        model_pictures = model(imgs)
        err = F.cross_entropy(model_pictures, gold)
        err.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_norm)
        updater.step()
        update_average(mean_of, model, cfg.decay)
        if iteration % cfg.evaluate_every == 0:
            stopping_used.update(evaluate(mean_of, *this_validation, cfg)["loss"], mean_of)
        yield err.item()
        if stopping_used.exhausted():
            break
    stopping_used.restore(model)
