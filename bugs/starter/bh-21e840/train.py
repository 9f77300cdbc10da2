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
import torch.nn.functional as F


@dataclass(kw_only=True, frozen=True)
class Config:
    classes: int = 10
    pixels: int = 144
    features: int = 96
    batch: int = 64
    validation: float = 0.2  # share of the rows
    dropout: float = 0.2
    eval_batch: int = 128
    steps: int = 400
    momentum: float = 0.9
    lr: float = 0.1
    max_norm: float = 1.0
    weight_decay: float = 1e-3
    decay: float = 0.95  # of the moving average
    patience: int = 15
    evaluate_every: int = 20


class ReaderModule(nn.Module):
    """Two hidden layers; the scale of the pixels is part of the model, so it travels with it."""

    mean: Tensor
    std: Tensor

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.first = nn.Linear(cfg.pixels, cfg.features, False)
        self.first_norm = nn.BatchNorm1d(cfg.features)
        self.second = nn.Linear(cfg.features, bias=False, out_features=cfg.features)
        self.second_norm = nn.BatchNorm1d(cfg.features)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.features, cfg.classes)

    def forward(self, imgs: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
        feats = (torch.flatten(imgs, 1).float() - self.mean) / self.std  # [B, P]
        feats = self.dropout(self.first_norm(self.first(feats)).relu())  # [B, F]
        active = torch.relu(self.second_norm(self.second(feats)))
        feats = self.dropout(active)
        return self.head(feats)


def build(cfg: Config) -> nn.Module:
    net = ReaderModule(cfg)
    for block in (net.first, net.second):
        nn.init.kaiming_normal_(block.weight, nonlinearity="relu")
    nn.init.normal_(net.head.weight, std=0.01)  # a fresh model has no opinion
    nn.init.zeros_(net.head.bias)
    return net


Rows = tuple[Tensor, Tensor]  # images and labels


def split(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> tuple[Rows, Rows]:
    """Training rows and validation rows, drawn at random: files often come sorted."""
    perm = torch.randperm(len(labels), device=rng.device, generator=rng).to(labels.device)
    product = cfg.validation * len(labels)
    total = round(product)
    kept_back = perm[:total]
    held_on = perm[total:]
    return (images[held_on], labels[held_on]), (images[kept_back], labels[kept_back])


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[Rows]:
    """One pass over the rows in random order; the last batch takes what is left."""
    randperm_rng = torch.randperm(len(labels), device=rng.device, generator=rng)
    perm = randperm_rng.to(labels.device)
    for samples in perm.split(cfg.batch):
        yield images[samples], labels[samples]


def _endless_impl(records: Rows, settings: Config, rng: Generator) -> Iterator[Rows]:
    while True:
        yield from batches(*records, settings, rng)


def fit_multiplier(net: nn.Module, imgs: Tensor) -> None:
    """Measure the pixels that the model will be trained on."""
    with torch.no_grad():
        net.mean.copy_(imgs.float().mean())
        net.std.copy_(torch.std(imgs.float()))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average a little towards the model; statistics and counters are taken over."""
    for lagging, quick in zip(average.parameters(), model.parameters(), strict=True):
        lagging.mul_(decay).add_(quick, alpha=1 - decay)
    for lagging, quick in zip(average.buffers(), model.buffers(), strict=True):
        lagging.copy_(quick)


def evaluate(model: nn.Module, images: Tensor, labels: Tensor, cfg: Config) -> dict[str, float]:
    """Mean loss and accuracy over all rows, read in pieces that fit in memory."""
    with torch.no_grad():
        model.eval()
        objective = 0.0
        cur_correct = 0
        for inp, out in zip(images.split(cfg.eval_batch), labels.split(cfg.eval_batch), strict=True):
            raw_scores = model(inp)
            objective += F.cross_entropy(raw_scores, target=out, reduction="sum").item()
            cur_correct += torch.sum(raw_scores.argmax(dim=1) == out).item()
        return {"loss": objective / len(labels), "accuracy": cur_correct / len(labels)}


class EarlyStopping:
    """Remembers the best weights and says when the wait for better ones is over."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best = float("inf")
        self.waited = 0
        self.weights: dict[str, Tensor] = {}

    def exhausted(self) -> bool:
        return self.waited >= self.patience

    def restore(self, net: nn.Module) -> None:
        if self.weights:
            net.load_state_dict(self.weights)

    def update(self, objective: float, net: nn.Module) -> None:
        if self.best > objective:
            self.best = objective
            self.waited = 0
            self.weights = copy.deepcopy(net.state_dict())
        else:
            self.waited += 1


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    cur_training, validation_now = split(data["images"], data["labels"], cfg, rng=rng)
    fit_multiplier(model, cur_training[0])
    mean_of = copy.deepcopy(model)
    stopping_now = EarlyStopping(cfg.patience)
    result = model.parameters()
    opt = torch.optim.SGD(
        result,
        cfg.lr,
        weight_decay=cfg.weight_decay,
        momentum=cfg.momentum,
    )
    endless_training = _endless_impl(cur_training, cfg, rng=rng)
    feed = itertools.islice(endless_training, cfg.steps)
    for iteration, (imgs, answers) in enumerate(feed, start=1):
        model.train()
        model_pictures = model(imgs)
        objective = F.cross_entropy(model_pictures, answers)
        objective.backward()
        opt.zero_grad()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=cfg.max_norm)
        opt.step()
        update_average(mean_of, model, cfg.decay)
        if iteration % cfg.evaluate_every == 0:
            stopping_now.update(evaluate(mean_of, *validation_now, cfg)["loss"], mean_of)
        yield objective.item()
        if stopping_now.exhausted():
            break
    stopping_now.restore(model)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    model_pictures = model(images)
    return torch.log_softmax(model_pictures, dim=1)
