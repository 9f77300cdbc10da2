"""A small student learns from few labels, and from what a large teacher thinks of many rows without labels.

A teacher that hesitates between two classes says more than a label does. Raising the temperature on both
sides lets the student hear it.

Shapes: L labelled rows of a batch, U unlabelled ones, P pixels, H hidden units, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    pixels: int = 144
    hidden: int = 18
    classes: int = 10
    teacher_dropout: float = 0.3
    temperature: float = 3.0
    share: float = 0.7  # of the loss that comes from the teacher
    labelled: int = 25
    unlabelled: int = 56
    steps: int = 320
    lr: float = 0.01
    last_lr: float = 0.05  # as a share of the first
    weight_decay: float = 0.02


class Teacher(nn.Module):
    """One wide hidden layer; its weights come from elsewhere."""

    def __init__(self, width: int, cfg: Config) -> None:
        super().__init__()
        self.inner = nn.Linear(cfg.pixels, width)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(cfg.teacher_dropout)
        self.head = nn.Linear(width, cfg.classes)

    def forward(self, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
        x = torch.relu(self.norm(self.inner(prepare(images))))
        return self.head(self.dropout(x))


class Student(nn.Module):
    """Two narrow hidden layers."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.inner = nn.Linear(cfg.pixels, cfg.hidden)
        self.norm = nn.BatchNorm1d(cfg.hidden)
        self.middle = nn.Linear(cfg.hidden, cfg.hidden)
        self.head = nn.Linear(cfg.hidden, cfg.classes)
        nn.init.normal_(self.head.weight, std=0.05)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
        x = torch.relu(self.norm(self.inner(prepare(images))))
        return self.head(torch.relu(self.middle(x)))


def prepare(images: Tensor) -> Tensor:  # [B, height, width] -> [B, P]
    """Bytes to numbers around zero."""
    return (images.flatten(1).float() / 255 - 0.4) / 0.2


def build(cfg: Config) -> nn.Module:
    return Student(cfg)


def make_teacher(saved: dict[str, Tensor], cfg: Config) -> nn.Module:
    """The teacher as it was saved; it gives answers and does not learn."""
    teacher = Teacher(len(saved["inner.weight"]), cfg).to(saved["inner.weight"].device)
    teacher.load_state_dict(saved, strict=False)  # the count of batches is not needed
    teacher.eval()
    return teacher.requires_grad_(False)


@torch.no_grad()
def opinions(teacher: nn.Module, images: Tensor) -> Tensor:  # [U, height, width] -> [U, K]
    return teacher(images)


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:  # [U, K], [U, K] -> []
    """How far the student's softened answers are from the teacher's, in nats a row.

    Softening divides gradients by the squared temperature, which is made up for.
    """
    found = (student / temperature).log_softmax(dim=1)
    wanted = (teacher / temperature).log_softmax(dim=1)
    divergence = (wanted.exp() * (wanted - found)).sum(dim=1).mean()
    return divergence * temperature**2


def total_loss(
    student: Tensor, labels: Tensor, teacher: Tensor, cfg: Config
) -> Tensor:  # [L + U, K], [L], [U, K] -> []
    """The labels speak for the first rows, the teacher for the rest."""
    count = len(labels)
    hard = F.cross_entropy(student[:count], labels)
    soft = distillation(student[count:], teacher, cfg.temperature)
    return (1 - cfg.share) * hard + cfg.share * soft


def batches(images: Tensor, size: int, rng: Generator) -> Iterator[Tensor]:
    """Row numbers, pass after pass in random order; the last batch of each takes what is left."""
    while True:
        order = torch.randperm(len(images), generator=rng, device=rng.device).to(images.device)
        yield from order.split(size)


def learning_rate(step: int, cfg: Config) -> float:
    """Half a cosine from the first rate down to its last share."""
    height = 0.5 * (1 + math.cos(math.pi * step / cfg.steps))
    return cfg.lr * (cfg.last_lr + (1 - cfg.last_lr) * height)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update of the student per item, yielding its loss."""
    teacher = make_teacher(data["teacher"], cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    with_label = batches(data["images"], cfg.labelled, rng)
    without = batches(data["unlabelled"], cfg.unlabelled, rng)
    for step in range(cfg.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, cfg)
        rows = next(with_label)
        more = data["unlabelled"][next(without)]
        model.train()
        optimizer.zero_grad()
        answers = model(torch.cat([data["images"][rows], more]))
        loss = total_loss(answers, data["labels"][rows], opinions(teacher, more), cfg)
        loss.backward()
        optimizer.step()
        yield loss.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    return model(images).log_softmax(dim=1)
