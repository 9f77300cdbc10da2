"""Linear regression with dropout on its inputs: rows of four numbers in, one number out."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    steps: int = 60
    batch: int = 24
    lr: float = 0.05
    drop: float = 0.1


class Line(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.drop = nn.Dropout(drop)
        self.linear = nn.Linear(4, 1)

    def forward(self, x):  # (B, 4)
        return self.linear(self.drop(x)).squeeze(-1)  # (B,)


def build(cfg):
    return Line(cfg.drop)


def train(model, data, cfg, rng):
    inputs, targets = data
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg.lr)
    for step in range(cfg.steps):
        model.train()
        rows = torch.randint(len(inputs), (cfg.batch,), generator=rng)
        loss = ((model(inputs[rows]) - targets[rows]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        if step < cfg.steps // 2:
            optimizer.step()
        yield loss.item()


@torch.no_grad()
def predict(model, inputs):
    model.eval()
    return model(inputs)
