"""A table with holes and names becomes numbers, and the numbers a chance.

All that is learnt from the table, medians and scales and what each name stands for, is learnt from the rows
to train on and used unchanged on others. A name stands for the share of positive labels among its rows; for
a row of the training that share comes from other rows than itself.

Shapes: M rows, N numeric columns, K kinds, D features, B batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

Table = dict[str, Tensor]  # numeric [M, N] with NaN, plan [M], shop [M], label [M] where it is known


@dataclass(frozen=True, kw_only=True)
class Config:
    numeric: int = 5
    plans: int = 4  # kinds with a column of their own
    smoothing: float = 6.0  # rows of the overall share that every shop is given
    folds: int = 5
    weight_decay: float = 2e-2
    batch: int = 120
    steps: int = 160
    lr: float = 3e-2
    momentum: float = 0.9


class Numeric:
    """Holes are filled with the median, then columns are put on one scale; where holes were is kept."""

    def __init__(self, columns: int) -> None:
        self.median, self.mean = torch.zeros(columns), torch.zeros(columns)
        self.std = torch.ones(columns)

    def fit(self, values: Tensor) -> None:  # [M, N]
        self.median = values.nanmedian(dim=0).values
        filled = self.fill(values)
        self.mean = filled.mean(dim=0)
        self.std = filled.std(dim=0, unbiased=False).clamp(min=1e-6)

    def fill(self, values: Tensor) -> Tensor:
        return torch.where(values.isnan(), self.median.to(values.device), values)

    def transform(self, values: Tensor) -> Tensor:  # [M, N] -> [M, 2N]
        scaled = (self.fill(values) - self.mean.to(values.device)) / self.std.to(values.device)
        return torch.cat([scaled, values.isnan().float()], dim=1)


class Plans:
    """A column for each of the kinds that were seen; a new one has none."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.kinds: list[int] = []

    def fit(self, plan: Tensor) -> None:
        self.kinds = plan.unique().tolist()[: self.count]

    def transform(self, plan: Tensor) -> Tensor:  # [M] -> [M, K]
        columns = torch.zeros(len(plan), self.count, device=plan.device)
        for place, kind in enumerate(self.kinds):
            columns[:, place] = (plan == kind).float()
        return columns


class Shops:
    """The share of positive labels of each, pulled towards that of all where there are few rows."""

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing
        self.shares: dict[int, float] = {}
        self.overall = 0.5

    def fit(self, shop: Tensor, label: Tensor) -> None:  # [M], [M]
        self.overall = float(label.float().mean())
        self.shares = {}
        for name in shop.unique().tolist():
            own = label[shop == name].float()
            weight = self.smoothing
            self.shares[name] = float((own.sum() + weight * self.overall) / (len(own) + weight))

    def transform(self, shop: Tensor) -> Tensor:  # [M] -> [M]
        shares = [self.shares.get(name, self.overall) for name in shop.tolist()]
        return torch.tensor(shares, device=shop.device)


def folds_of(count: int, folds: int, rng: Generator) -> Tensor:  # -> [M]
    """A fold for every row, as even as it goes, at random."""
    order = torch.randperm(count, generator=rng, device=rng.device)
    fold = torch.empty_like(order)
    fold[order] = torch.arange(count, device=rng.device) % folds
    return fold


class Pipeline:
    """All of it: fitted once, then applied as often as one likes."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.numeric, self.plans = Numeric(cfg.numeric), Plans(cfg.plans)
        self.shops = Shops(cfg.smoothing)

    def fit(self, table: Table) -> None:
        self.numeric.fit(table["numeric"])
        self.plans.fit(table["plan"])
        self.shops.fit(table["shop"], table["label"])

    def transform(self, table: Table) -> Tensor:  # -> [M, D]
        return self.put_together(table, self.shops.transform(table["shop"]))

    def put_together(self, table: Table, share: Tensor) -> Tensor:  # [M] -> [M, D]
        numeric, plans = self.numeric.transform(table["numeric"]), self.plans.transform(table["plan"])
        share = share.clamp(0.02, 0.98)
        return torch.cat([numeric, plans, torch.logit(share)[:, None]], dim=1)

    def fit_transform(self, table: Table, rng: Generator) -> Tensor:  # -> [M, D]
        """Features of the rows to train on: the share of a shop is that among rows of other folds."""
        self.fit(table)
        shop, label = table["shop"], table["label"]
        fold = folds_of(len(shop), self.cfg.folds, rng).to(shop.device)
        share = torch.zeros(len(shop), device=shop.device)
        for number in range(self.cfg.folds):
            held = fold == number
            others = Shops(self.cfg.smoothing)
            others.fit(shop[~held], label[~held])
            share[held] = others.transform(shop[held])
        return self.put_together(table, share)


class Classifier(nn.Module):
    """A logistic regression that brings its pipeline along."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.pipeline = Pipeline(cfg)
        self.linear = nn.Linear(2 * cfg.numeric + cfg.plans + 1, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:  # [B, D] -> [B]
        return self.linear(features).squeeze(-1)


def build(cfg: Config) -> Classifier:
    return Classifier(cfg)


def batches(count: int, cfg: Config, rng: Generator) -> Iterator[Tensor]:  # -> [B] each
    """Row numbers, epoch after epoch in a new order; the last batch of an epoch may be short."""
    while True:
        yield from torch.randperm(count, generator=rng, device=rng.device).split(cfg.batch)


def learning_rate(step: int, cfg: Config) -> float:
    """Falls on a line."""
    return cfg.lr * (1 - step / cfg.steps)


def optimizer(model: Classifier, cfg: Config) -> torch.optim.Optimizer:
    """Weights decay, the bias does not."""
    groups = [
        {"params": [model.linear.weight], "weight_decay": cfg.weight_decay},
        {"params": [model.linear.bias], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum)


def train(model: Classifier, data: Table, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    features = model.pipeline.fit_transform(data, rng)
    label = data["label"].float()
    optim = optimizer(model, cfg)
    stream = batches(len(label), cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        rows = next(stream).to(label.device)
        model.train()
        optim.zero_grad()
        value = F.binary_cross_entropy_with_logits(model(features[rows]), label[rows])
        value.backward()
        optim.step()
        yield value.item()


def auc(scores: Tensor, label: Tensor) -> float:  # [M], [M]
    """How often a positive row scores higher than a negative one; a tie is half a win."""
    wins = scores[label > 0][:, None] - scores[label == 0][None, :]
    return float((wins > 0).double().mean() + 0.5 * (wins == 0).double().mean())


def cross_validate(data: Table, cfg: Config, rng: Generator) -> list[float]:
    """The area under the curve on each fold, of a model and a pipeline that never saw it."""
    fold = folds_of(len(data["label"]), cfg.folds, rng).to(data["label"].device)
    areas = []
    for number in range(cfg.folds):
        held = fold == number
        model = build(cfg).to(held.device)
        for _ in train(model, {name: values[~held] for name, values in data.items()}, cfg, rng):
            pass
        table = {name: values[held] for name, values in data.items()}
        areas.append(auc(predict(model, table), table["label"]))
    return areas


@torch.no_grad()
def predict(model: Classifier, inputs: Table) -> Tensor:  # -> [M]
    """The chance of a positive label for each row."""
    model.eval()
    return model(model.pipeline.transform(inputs)).sigmoid()
