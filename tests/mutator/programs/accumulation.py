"""Batches in several parts, with scaled gradients that are limited before each update."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def start() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    return model, torch.optim.SGD(model.parameters(), lr=0.5)


def examples(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, generator=generator)
    return x, torch.randint(4, (count,), generator=generator)


def numbers(model: nn.Module) -> list[float]:
    return model.weight.flatten().tolist()


def in_parts(accum_steps: int = 2) -> list[float]:
    model, optimizer = start()
    x, y = examples(10)
    optimizer.zero_grad()
    for i, (a, b) in enumerate(zip(x.split(2), y.split(2), strict=True)):
        loss = F.cross_entropy(model(a), b) / accum_steps
        loss.backward()
        if (i + 1) % accum_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
    return numbers(model)


def ragged() -> list[float]:
    model, optimizer = start()
    x, y = examples(9)
    parts = list(zip(x.split([1, 3, 5]), y.split([1, 3, 5]), strict=True))
    total = sum(len(b) for _, b in parts)
    optimizer.zero_grad()
    for a, b in parts:
        loss = F.cross_entropy(model(a), b, reduction="sum") / total
        loss.backward()
    optimizer.step()
    return numbers(model)


def scaled(steps: int = 30) -> list[float]:
    model, optimizer = start()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=7)
    x, y = examples(8)
    for _ in range(steps):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
    return [*numbers(model), scaler.get_scale()]


def limited() -> list[float]:
    model, optimizer = start()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    x, y = examples(8)
    for _ in range(5):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
    return [*numbers(model), scaler.get_scale()]


def fingerprint() -> list[float]:
    return [*in_parts(), *ragged(), *scaled(), *limited()]
