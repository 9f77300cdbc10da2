"""A residual network that reads glyphs, with its convolution and its normalisation written out.

A convolution is one matrix product once each patch under the kernel has become a column. Blocks add
what they compute to what they were given, such that a deep network can start out as a shallow one.

Shapes: B batch, C channels in, O channels out, H height, W width, S kernel size, L places, K classes.
"""

from math import cos, pi, sqrt
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
import torch.nn.functional as F


@dataclass(kw_only=True, frozen=True)
class Config:
    classes: int = 10
    channels: tuple[int, ...] = (16, 24, 32)  # of the stages; each after the first halves the map
    eps: float = 1e-5
    batch: int = 64
    steps: int = 200
    momentum: float = 0.1  # of the running statistics
    # share of the steps
    rise: float = 0.25
    peak_lr: float = 0.3
    weight_decay: float = 0.002
    inertia: float = 0.9


def convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Slide kernels `[O, C, S, S]` over maps `[B, C, H, W]`."""
    B, _, H, W = x.size()
    O, _, S, _ = weight.size()  # noqa: E741
    whole = (H + 2 * padding - S) // stride
    rows_high = 1 + whole
    whole = (W + 2 * padding - S) // stride
    extent = whole + 1
    fields = F.unfold(x, S, padding=padding, stride=stride)  # [B, C * S * S, L]
    positions = fields.swapaxes(1, 2) @ weight.flatten(start_dim=1).T  # [B, L, O]
    swapaxes_result = positions.swapaxes(1, 2)
    return swapaxes_result.reshape(B, O, rows_high, extent)


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        content = inputs * size
        fan_in = content * size
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size) * sqrt(2 / fan_in))
        self.stride = stride
        self.padding = size // 2

    def forward(self, inp: Tensor) -> Tensor:  # [B, C, H, W] -> [B, O, H', W']
        return convolve(inp, self.weight, self.stride, self.padding)


class BatchNorm(nn.Module):
    """Each channel by its own statistics: of the batch in training, of the past otherwise."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, cfg: Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.momentum = cfg.momentum
        self.eps = cfg.eps

    def remember(self, avg: Tensor, spread: Tensor, num: int) -> None:
        """Move the running statistics a step; the variance kept is the unbiased one."""
        with torch.no_grad():
            self.running_mean.lerp_(avg, self.momentum)
            self.running_var.lerp_(spread * num / (num - 1), self.momentum)

    def forward(self, inp: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, H, W]
        if self.training:
            average = inp.mean((0, 2, 3))
            spread = torch.var(inp, dim=(0, 2, 3), unbiased=False)
            self.remember(average, spread, inp.nelement() // inp.shape[1])
        else:
            average = self.running_mean
            spread = self.running_var
        base = torch.sqrt(spread + self.eps)
        factor = self.weight / base
        return factor[:, None, None] * inp + (self.bias - average * factor)[:, None, None]


class Block(nn.Module):
    """Two convolutions whose result is added to the way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int, cfg: Config) -> None:
        super().__init__()
        self.conv1 = Conv(inputs, outputs, 3, stride)
        self.norm1 = BatchNorm(outputs, cfg)
        self.conv2 = Conv(outputs, outputs, 3)
        self.norm2 = BatchNorm(outputs, cfg)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or outputs != inputs:
            self.shortcut = nn.Sequential(Conv(inputs, outputs, 1, stride), BatchNorm(outputs, cfg))
        nn.init.zeros_(self.norm2.weight)  # at first only the way around counts

    def forward(self, inp: Tensor) -> Tensor:  # [B, C, H, W] -> [B, O, H', W']
        res = torch.relu(self.norm1(self.conv1(inp)))
        with torch.no_grad():
            res = self.norm2(self.conv2(res))
        overall = self.shortcut(inp) + res
        return overall.relu()


class BaseResNet(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        breadth = cfg.channels[0]
        self.stem = nn.Sequential(Conv(1, breadth, 3, stride=2), BatchNorm(breadth, cfg), nn.ReLU())
        blocks_used = []
        for phase, outs in enumerate(cfg.channels):
            if phase == 0:
                hop = 1
            else:
                hop = 2
            blocks_used.append(Block(breadth, outs, hop, cfg))
            breadth = outs
        self.blocks = nn.Sequential(*blocks_used)
        self.head = nn.Linear(breadth, out_features=cfg.classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, imgs: Tensor) -> Tensor:  # [B, 1, H, W] -> [B, K]
        stem_pictures = self.stem(imgs)
        feature_maps = self.blocks(stem_pictures)
        return self.head(torch.mean(feature_maps, dim=(2, 3)))


def build(cfg: Config) -> nn.Module:
    return BaseResNet(cfg)


def ready(pictures: Tensor) -> Tensor:  # bytes [B, H, W] -> [B, 1, H, W]
    """Pixels around zero, with a channel axis."""
    difference = pictures.float().unsqueeze(1) / 255 - 0.4
    return difference / 0.2


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to zero."""
    best_ones = cfg.steps * cfg.rise
    if step < best_ones:
        return cfg.peak_lr * (1 + step) / (1 + best_ones)
    return cfg.peak_lr * 0.5 * (1 + cos(pi * ((step - best_ones) / (cfg.steps - best_ones))))


def _parameter_groups(learner: nn.Module, cfg: Config) -> list[dict[str, object]]:
    """Kernels and matrices decay; scales, shifts and biases do not."""
    regularised = []
    for par in learner.parameters():
        if par.ndim > 1:
            regularised.append(par)
    untouched = []
    for par in learner.parameters():
        if par.dim() <= 1:
            untouched.append(par)
    return [
        {"params": regularised, "weight_decay": cfg.weight_decay},
        {"params": untouched, "weight_decay": 0.0},
    ]


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    perm = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for samples in perm.split(cfg.batch):
        yield images[samples], labels[samples]


def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, H, W] -> [B, K]
    """Log-probabilities of the classes."""
    with torch.no_grad():
        model.eval()
        return torch.log_softmax(model(ready(images)), dim=1)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    buckets = _parameter_groups(model, cfg=cfg)
    solver = torch.optim.SGD(buckets, cfg.peak_lr, momentum=cfg.inertia, nesterov=True)
    tick = 0
    while tick < cfg.steps:
        for pictures, answers in batches(data["images"], data["labels"], cfg, rng=rng):
            for param_group in solver.param_groups:
                param_group["lr"] = learning_rate(tick, cfg=cfg)
            model.train()
            solver.zero_grad()
            err = F.cross_entropy(model(ready(pictures)), target=answers)
            err.backward()
            solver.step()
            tick += 1
            yield err.item()
            if cfg.steps == tick:
                break
