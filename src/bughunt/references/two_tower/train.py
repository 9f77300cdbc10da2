"""Retrieval for recommendations: two towers that are trained on what users picked.

`config` has the settings, `interactions` the events, `model` the towers, `losses` and `metrics` what their
names say. Shapes: M events, B batch, I items, R recent picks.
"""

from collections.abc import Iterator

import torch
from config import Config
from interactions import (
    Events,
    in_order,
    log_frequency,
    recent_at_end,
    recent_before,
    seen,
)
from losses import in_batch_softmax
from metrics import ndcg, ranking, recall
from model import TwoTower
from torch import Generator, Tensor

__all__ = ["Config", "build", "evaluate", "predict", "recommend", "train"]


def build(cfg: Config) -> TwoTower:
    return TwoTower(cfg)


def batches(count: int, cfg: Config, rng: Generator) -> Iterator[Tensor]:  # -> [B] each
    """Row numbers, epoch after epoch in a new order; a short rest waits for the next epoch."""
    while True:
        order = torch.randperm(count, generator=rng, device=rng.device)
        for rows in order.split(cfg.batch):
            if len(rows) == cfg.batch or count < cfg.batch:
                yield rows


def learning_rate(step: int, cfg: Config) -> float:
    """A short warm-up, then down on a line."""
    return cfg.lr * min((step + 1) / cfg.warmup, 1 - step / cfg.steps)


def train(model: TwoTower, data: Events, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    events = in_order(data)
    before = recent_before(events, cfg.recent)  # [M, R]
    frequency = log_frequency(events["item"], cfg.items)  # [I]
    model.recent.copy_(recent_at_end(events, cfg.users, cfg.recent))
    model.seen.copy_(seen(events, cfg.users, cfg.items))
    optim = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    stream = batches(len(before), cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        rows = next(stream).to(before.device)
        user, item = events["user"][rows], events["item"][rows]
        model.train()
        optim.zero_grad()
        scores = model(user, before[rows], item)  # [B, B]
        value = in_batch_softmax(scores, item, frequency[item])
        value.backward()
        optim.step()
        yield value.item()


@torch.no_grad()
def predict(model: TwoTower, inputs: Tensor) -> Tensor:  # [B] users -> [B, I]
    """Scores of all items; those that a user knows already come last."""
    model.eval()
    items = torch.arange(model.cfg.items, device=inputs.device)
    scores = model(inputs, model.recent[inputs], items)
    return scores.masked_fill(model.seen[inputs], -torch.inf)


def recommend(model: TwoTower, users: Tensor) -> Tensor:  # [B] -> [B, top]
    """A list for each user, the best first."""
    return ranking(predict(model, users), model.seen[users], model.cfg.top)


def evaluate(model: TwoTower, users: Tensor, relevant: Tensor) -> dict[str, float]:
    """Mean recall and nDCG of the lists, for relevant items [B, R]."""
    ranked = recommend(model, users)
    return {
        "recall": float(recall(ranked, relevant).mean()),
        "ndcg": float(ndcg(ranked, relevant).mean()),
    }
