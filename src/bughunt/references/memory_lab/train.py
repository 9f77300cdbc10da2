"""Training in little memory: a deep classifier with many classes that never holds all it computes.

Blocks are run twice instead of remembered, scores are made for a few rows at a time, and what can be
changed in place is. The numbers are those of the plain way, to the last bit where order allows.

Shapes: N rows, B batch, D inputs, C channels, J inner width, V classes, R rows at a time.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    inputs: int = 12
    classes: int = 260
    channels: int = 40
    inner: int = 96
    blocks: int = 5
    dropout: float = 0.05
    checkpoint: bool = True
    rows: int = 36  # scored at a time
    batch: int = 128
    steps: int = 250
    lr: float = 0.6
    momentum: float = 0.85
    weight_decay: float = 2e-4
    average: float = 0.97  # how much of the averaged weights stays at every update


class Rerun(torch.autograd.Function):
    """A block whose inside is forgotten after the forward pass and computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, block: nn.Module, x: Tensor) -> Tensor:
        ctx.block = block
        ctx.random = random_state(x.device)
        ctx.save_for_backward(x)
        with torch.no_grad():
            return block(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None]:
        (x,) = ctx.saved_tensors
        again = x.detach().requires_grad_()
        now = random_state(x.device)
        set_random_state(ctx.random, x.device)  # the same dropout as the first time
        with torch.enable_grad():
            out = ctx.block(again)
        set_random_state(now, x.device)
        torch.autograd.backward(out, gradient)
        return None, again.grad


def random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


class ChunkedLoss(torch.autograd.Function):
    """Cross-entropy of a linear head, a few rows at a time; its gradients are ready when the loss is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, labels: Tensor, rows: int) -> Tensor:
        total = x.new_zeros(())
        to_x, to_weight = torch.empty_like(x), torch.zeros_like(weight)
        for start in range(0, len(x), rows):
            part, right = x[start : start + rows], labels[start : start + rows]
            scores = part @ weight.T  # [R, V]
            each = torch.arange(len(part), device=x.device)
            chosen = scores[each, right]  # [R]
            normaliser = scores.logsumexp(dim=1, keepdim=True)  # [R, 1]
            total += (normaliser.squeeze(1) - chosen).sum()
            error = scores.sub_(normaliser).exp_()  # the scores' own memory
            error[each, right] -= 1
            to_x[start : start + rows] = error @ weight
            to_weight.addmm_(error.T, part)
        ctx.save_for_backward(to_x.div_(len(x)), to_weight.div_(len(x)))
        return total / len(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_x, to_weight = ctx.saved_tensors
        return gradient * to_x, gradient * to_weight, None, None


class Block(nn.Module):
    """A norm, two matrices, and the way around them."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cfg.channels)
        self.up = nn.Linear(cfg.channels, cfg.inner)
        self.down = nn.Linear(cfg.inner, cfg.channels)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor) -> Tensor:  # [B, C] -> [B, C]
        inner = F.gelu(self.up(self.norm(x)))
        return x + self.dropout(self.down(inner))


class Classifier(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.checkpoint = cfg.checkpoint
        self.embed = nn.Linear(cfg.inputs, cfg.channels)
        self.blocks = nn.ModuleList([Block(cfg) for _ in range(cfg.blocks)])
        self.norm = nn.LayerNorm(cfg.channels)
        self.head = nn.Parameter(torch.randn(cfg.classes, cfg.channels) / cfg.channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, D] -> [B, C]
        """What the head reads."""
        x = self.embed(x)
        for block in self.blocks:
            x = Rerun.apply(block, x) if self.checkpoint and torch.is_grad_enabled() else block(x)
        return self.norm(x)


def build(cfg: Config) -> Classifier:
    return Classifier(cfg)


def loss(model: Classifier, inputs: Tensor, labels: Tensor, rows: int) -> Tensor:  # [B, D], [B] -> []
    return ChunkedLoss.apply(model(inputs), model.head, labels, rows)


def moments(pieces: Iterable[Tensor]) -> tuple[Tensor, Tensor]:  # [n, D] each -> [D], [D]
    """Mean and deviation of all rows of all pieces, one piece at a time."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for piece in pieces:
        many = len(piece)
        new = piece.mean(dim=0)
        apart = new - mean.to(piece.device)
        squares = squares.to(piece.device) + (piece - new).square().sum(dim=0)
        squares = squares + apart.square() * count * many / (count + many)
        mean = mean.to(piece.device) + apart * many / (count + many)
        count += many
    return mean, (squares / count).sqrt()


def standardise_(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:  # [N, D] -> [N, D]
    """In place: the tensor given is the one that comes back."""
    return x.sub_(mean).div_(std)


def windows(series: Tensor, size: int, step: int) -> Tensor:  # [N, D] -> [P, size, D]
    """Windows over the rows that share the memory of the series."""
    return series.unfold(0, size, step).transpose(1, 2)


class Momentum:
    """Stochastic gradient descent with momentum and averaged weights, all in place."""

    def __init__(self, parameters: Iterable[nn.Parameter], cfg: Config) -> None:
        self.cfg = cfg
        self.parameters = list(parameters)
        self.speed = [torch.zeros_like(p) for p in self.parameters]
        self.averages = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Add decay to the gradient, the gradient to the speed, and go along the speed."""
        for parameter, speed, average in zip(self.parameters, self.speed, self.averages, strict=True):
            speed.mul_(self.cfg.momentum).add_(parameter.grad)
            speed.add_(parameter, alpha=self.cfg.weight_decay)
            parameter.add_(speed, alpha=-lr)
            average.lerp_(parameter, 1 - self.cfg.average)

    def zero_grad(self) -> None:
        """Gradients are given back, not filled with zeros."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def settle(self) -> None:
        """Make the averaged weights the model's own."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            parameter.copy_(average)


def learning_rate(step: int, cfg: Config) -> float:
    """Half a cosine from the start down to zero."""
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * step / cfg.steps))


def batches(count: int, cfg: Config, rng: Generator) -> Iterator[Tensor]:
    """Rows of pass after pass in a new order; the last batch of a pass takes what is left."""
    while True:
        yield from torch.randperm(count, generator=rng, device=rng.device).split(cfg.batch)


def train(model: Classifier, data: Mapping[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss; afterwards the weights are the averaged ones."""
    inputs, labels = data["inputs"], data["labels"]
    optim = Momentum(model.parameters(), cfg)
    stream = batches(len(labels), cfg, rng)
    for step in range(cfg.steps):
        rows = next(stream).to(labels.device)
        model.train()
        optim.zero_grad()
        value = loss(model, inputs[rows], labels[rows], cfg.rows)
        value.backward()
        optim.step(learning_rate(step, cfg))
        yield value.item()
    optim.settle()


@torch.no_grad()
def predict(model: Classifier, inputs: Tensor, rows: int = 50) -> Tensor:  # [N, D] -> [N, V]
    """Log-probabilities of the classes; no more than a few rows are between the layers at a time."""
    model.eval()
    answers = inputs.new_empty(len(inputs), len(model.head))
    for start in range(0, len(inputs), rows):
        scores = model(inputs[start : start + rows]) @ model.head.T
        torch.log_softmax(scores, dim=1, out=answers[start : start + rows])
    return answers
