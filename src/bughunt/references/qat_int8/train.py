"""A network that learns to live with coarse numbers, and then answers in whole ones.

Training keeps full-precision weights and lets them feel the grid: every value is moved to its nearest grid
point on the way there, and gradients pass as if it had not been. Answers are given by sums of products of
whole numbers, scaled once at the end.

Shapes: B batch, I inputs, O outputs, P pixels, K classes.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    pixels: int = 144
    first: int = 64
    second: int = 48
    classes: int = 10
    weight_bits: int = 2
    activation_bits: int = 4
    range_momentum: float = 0.05
    batch: int = 64
    steps: int = 360
    float_steps: int = 130  # before the grid is felt
    lr: float = 6e-3
    last_lr: float = 0.03  # as a share of the first
    weight_decay: float = 0.05


def grid(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Step and zero point of a grid of whole numbers from 0 that covers a range; zero lies on the grid."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-8)
    zero = torch.round(-low / scale)
    return scale, zero


def weight_scale(weight: Tensor, bits: int) -> Tensor:  # [O, I] -> [O, 1]
    """One step for each output, so that its largest weight is the end of the grid; zero is in the middle."""
    largest = 2 ** (bits - 1) - 1
    return weight.detach().abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / largest


def quantise(x: Tensor, scale: Tensor, zero: Tensor, lowest: int, highest: int) -> Tensor:
    """The whole numbers nearest to `x` on the grid; what lies beyond is moved to its end."""
    return (torch.round(x / scale) + zero).clamp(lowest, highest)


class OnGrid(torch.autograd.Function):
    """Moves values to the grid; gradients pass where nothing was beyond its ends."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, zero: Tensor, lowest: int, highest: int) -> Tensor:
        place = torch.round(x / scale) + zero
        ctx.save_for_backward((place >= lowest) & (place <= highest))
        return (place.clamp(lowest, highest) - zero) * scale

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None, None, None, None]:
        (inside,) = ctx.saved_tensors
        return g * inside, None, None, None, None


def on_grid(x: Tensor, scale: Tensor, zero: Tensor, lowest: int, highest: int) -> Tensor:
    return OnGrid.apply(x, scale, zero, lowest, highest)


class Coarse(nn.Module):
    """A linear layer that watches the range of its input and can feel the grid."""

    def __init__(self, inputs: int, outputs: int, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * math.sqrt(2 / inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Follow the ends of what comes in, slowly; the first batch is taken as it is."""
        momentum = self.cfg.range_momentum if self.seen else 1.0
        self.low.lerp_(x.min(), momentum)
        self.high.lerp_(x.max(), momentum)
        self.seen.fill_(True)

    def input_grid(self) -> tuple[Tensor, Tensor]:
        return grid(self.low, self.high, self.cfg.activation_bits)

    def forward(self, x: Tensor, coarse: bool) -> Tensor:  # [B, I] -> [B, O]
        if self.training:
            self.observe(x)
        if not coarse:
            return F.linear(x, self.weight, self.bias)
        x = on_grid(x, *self.input_grid(), 0, 2**self.cfg.activation_bits - 1)
        largest = 2 ** (self.cfg.weight_bits - 1) - 1
        step = weight_scale(self.weight, self.cfg.weight_bits)
        weight = on_grid(self.weight, step, torch.zeros_like(step), -largest, largest)
        return F.linear(x, weight, self.bias)

    def whole_weights(self) -> tuple[Tensor, Tensor]:  # [O, I], [O, 1]
        """The weights as eight-bit numbers, and the step of each output."""
        largest = 2 ** (self.cfg.weight_bits - 1) - 1
        step = weight_scale(self.weight, self.cfg.weight_bits)
        return quantise(self.weight, step, torch.zeros_like(step), -largest, largest).to(torch.int8), step

    def whole(self, x: Tensor) -> Tensor:  # [B, I] -> [B, O]
        """The same answer by sums of products of whole numbers, which double precision holds exactly."""
        scale, zero = self.input_grid()
        levels = quantise(x, scale, zero, 0, 2**self.cfg.activation_bits - 1) - zero
        weight, step = self.whole_weights()
        total = levels.double() @ weight.double().T
        return total.float() * scale * step.T + self.bias


class Reader(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        sizes = [cfg.pixels, cfg.first, cfg.second, cfg.classes]
        self.layers = nn.ModuleList(Coarse(i, o, cfg) for i, o in itertools.pairwise(sizes))
        nn.init.normal_(self.layers[-1].weight, std=0.02)

    def forward(self, images: Tensor, coarse: bool = True) -> Tensor:  # [B, height, width] -> [B, K]
        x = prepare(images)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x, coarse))
        return self.layers[-1](x, coarse)

    def whole(self, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
        x = prepare(images)
        for layer in self.layers[:-1]:
            x = torch.relu(layer.whole(x))
        return self.layers[-1].whole(x)


def prepare(images: Tensor) -> Tensor:  # [B, height, width] -> [B, P]
    """Bytes to numbers around zero."""
    return (images.flatten(1).float() / 255 - 0.4) / 0.2


def build(cfg: Config) -> nn.Module:
    return Reader(cfg)


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass after pass in random order; the last batch of each takes what is left."""
    while True:
        order = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
        for rows in order.split(cfg.batch):
            yield images[rows], labels[rows]


def learning_rate(step: int, cfg: Config) -> float:
    """Half a cosine from the first rate down to its last share."""
    height = 0.5 * (1 + math.cos(math.pi * step / cfg.steps))
    return cfg.lr * (cfg.last_lr + (1 - cfg.last_lr) * height)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    stream = batches(data["images"], data["labels"], cfg, rng)
    for step in range(cfg.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, cfg)
        images, labels = next(stream)
        model.train()
        optimizer.zero_grad()
        scores = model(images, coarse=step >= cfg.float_steps)
        loss = F.cross_entropy(scores, labels)
        loss.backward()
        optimizer.step()
        yield loss.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes, from whole numbers."""
    model.eval()
    return model.whole(images).log_softmax(dim=1)
