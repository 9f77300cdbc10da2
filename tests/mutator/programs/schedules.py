"""A line is fitted with every common kind of learning rate schedule."""

import math

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, StepLR

EPOCHS = 3
BATCH = 4


def rows() -> tuple[Tensor, Tensor]:
    x = torch.linspace(-1, 1, 10)[:, None]
    return x, 3 * x + 1


def batches() -> list[tuple[Tensor, Tensor]]:
    x, y = rows()
    return list(zip(x.split(BATCH), y.split(BATCH), strict=True))


def start() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.2)


def numbers(model: nn.Module) -> list[float]:
    return [model.weight.item(), model.bias.item()]


def update(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    loss = (model(x) - y).square().mean()
    loss.backward()


def by_epochs() -> list[float]:
    model, optimizer = start()
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    for _ in range(EPOCHS):
        for x, y in batches():
            update(model, optimizer, x, y)
            optimizer.step()
        scheduler.step()
    return numbers(model)


def by_steps(epochs: int = EPOCHS) -> list[float]:
    model, optimizer = start()
    loader = batches()
    scheduler = OneCycleLR(optimizer, max_lr=0.3, total_steps=epochs * len(loader) + 1)
    for _ in range(epochs):
        for x, y in loader:
            update(model, optimizer, x, y)
            optimizer.step()
            scheduler.step()
    return numbers(model)


def cosine(epochs: int = EPOCHS) -> list[float]:
    model, optimizer = start()
    loader = batches()
    scheduler = CosineAnnealingLR(optimizer, T_max=epochs * len(loader))
    for _ in range(epochs):
        for x, y in loader:
            update(model, optimizer, x, y)
            optimizer.step()
            scheduler.step()
    return numbers(model)


def warmup() -> list[float]:
    model, optimizer = start()
    loader = batches()
    for epoch in range(EPOCHS):
        for i, (x, y) in enumerate(loader):
            step = epoch * len(loader) + i
            for group in optimizer.param_groups:
                group["lr"] = 0.2 * min(1, (step + 1) / 5)
            update(model, optimizer, x, y)
            optimizer.step()
    return numbers(model)


def linear_decay() -> list[float]:
    model, optimizer = start()
    total_steps = math.ceil(len(rows()[0]) / BATCH) * EPOCHS
    scheduler = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / total_steps))
    for _ in range(EPOCHS):
        for x, y in batches():
            update(model, optimizer, x, y)
            optimizer.step()
            scheduler.step()
    return numbers(model)


def fingerprint() -> list[float]:
    return [*by_epochs(), *by_steps(), *cosine(), *warmup(), *linear_decay()]
