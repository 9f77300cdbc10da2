"""A residual network that reads glyphs, with its convolution and its normalisation written out.

A convolution is one matrix product once every patch under the kernel has become a column. Blocks add
what they compute to what they were given, such that a deep network can start out as a shallow one.

Shapes: B batch, C channels in, O channels out, H height, W width, S kernel size, L places, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
import torch.nn.functional as F


@dataclass(kw_only=True, frozen=True)
class Config:
    classes: int = 10
    channels: tuple[int, ...] = (16, 24, 32)  # of the stages; each after the first halves the map
    # of the running statistics
    momentum: float = 0.1
    batch: int = 64
    eps: float = 1e-5
    rise: float = 0.25  # share of the steps
    inertia: float = 0.9
    steps: int = 200
    weight_decay: float = 2e-3
    peak_lr: float = 0.3


def convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Slide kernels `[O, C, S, S]` over maps `[B, C, H, W]`."""
    B, _, H, W = x.size()
    O, _, S, _ = weight.size()  # noqa: E741
    rows_high = (H + padding * 2 - S) // stride + 1
    whole = (W + padding * 2 - S) // stride
    breadth = whole + 1
    cols = F.unfold(x, S, padding=padding, stride=stride)  # [B, C * S * S, L]
    locations = cols.swapaxes(1, 2) @ weight.flatten(1).t()  # [B, L, O]
    return locations.swapaxes(1, 2).reshape(B, O, rows_high, breadth)


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        val = size * inputs
        incoming = val * size
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size) * math.sqrt(2 / incoming))
        self.padding = size // 2
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, O, H', W']
        return convolve(x, self.weight, self.stride, self.padding)


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
        self.eps = cfg.eps
        self.momentum = cfg.momentum

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, H, W]
        avg = x.mean(dim=(0, 2, 3))
        spread = x.var(dim=(0, 2, 3), unbiased=False)
        self.remember(avg, spread, x.numel() // x.size(1))
        factor = self.weight / (spread + self.eps).sqrt()
        val = factor[:, None, None] * x
        return val + (self.bias - avg * factor)[:, None, None]

    def remember(self, mean: Tensor, var: Tensor, total: int) -> None:
        """Move the running statistics a step; the variance kept is the unbiased one."""
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(total * var / (total - 1), self.momentum)


class Block(nn.Module):
    """Two convolutions whose result is added to the way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int, cfg: Config) -> None:
        super().__init__()
        self.conv1 = Conv(inputs, outputs, 3, stride)
        self.norm1 = BatchNorm(outputs, cfg)
        self.conv2 = Conv(outputs, outputs, 3)
        self.norm2 = BatchNorm(outputs, cfg)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(Conv(inputs, outputs, 1, stride), BatchNorm(outputs, cfg))
        nn.init.zeros_(self.norm2.weight)  # at first only the way around counts

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, O, H', W']
        res = self.norm1(self.conv1(x)).relu()
        conv2_y = self.conv2(res)
        res = self.norm2(conv2_y)
        return (self.shortcut(x) + res).relu()


class ResNetImpl(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        breadth = cfg.channels[0]
        self.stem = nn.Sequential(Conv(1, breadth, 3, stride=2), BatchNorm(breadth, cfg), nn.ReLU())
        blocks_now = []
        for level, results in enumerate(cfg.channels):
            if level == 0:
                step_by = 1
            else:
                step_by = 2
            blocks_now.append(Block(breadth, results, step_by, cfg))
            breadth = results
        self.blocks = nn.Sequential(*blocks_now)
        self.head = nn.Linear(breadth, out_features=cfg.classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, imgs: Tensor) -> Tensor:  # [B, 1, H, W] -> [B, K]
        planes = self.blocks(self.stem(imgs))
        return self.head(planes.mean((2, 3)))


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    randperm_rng = torch.randperm(len(labels), generator=rng, device=rng.device)
    sequence = randperm_rng.to(labels.device)
    for records in sequence.split(cfg.batch):
        yield images[records], labels[records]


def build(cfg: Config) -> nn.Module:
    return ResNetImpl(cfg)


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to zero."""
    best_ones = cfg.rise * cfg.steps
    if best_ones > step:
        val = cfg.peak_lr * (1 + step)
        return val / (1 + best_ones)
    share_done = (step - best_ones) / (cfg.steps - best_ones)
    return 0.5 * cfg.peak_lr * (1 + math.cos(share_done * math.pi))


def ready(imgs: Tensor) -> Tensor:  # bytes [B, H, W] -> [B, 1, H, W]
    """Pixels around zero, with a channel axis."""
    difference = imgs.float().unsqueeze(1) / 255 - 0.4
    return difference / 0.2


def _parameter_groups_impl(net: nn.Module, config: Config) -> list[dict[str, object]]:
    """Kernels and matrices decay; scales, shifts and biases do not."""
    regularised = []
    for param in net.parameters():
        if param.ndim > 1:
            regularised.append(param)
    exempt = []
    for param in net.parameters():
        if param.dim() <= 1:
            exempt.append(param)
    return [
        {"params": regularised, "weight_decay": config.weight_decay},
        {"params": exempt, "weight_decay": 0.0},
    ]


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    parts = _parameter_groups_impl(model, cfg)
    solver = torch.optim.SGD(parts, cfg.peak_lr, nesterov=True, momentum=cfg.inertia)
    tick = 0
    while tick < cfg.steps:
        for pictures, targets in batches(data["images"], data["labels"], cfg, rng):
            for param_group in solver.param_groups:
                param_group["lr"] = learning_rate(tick, cfg)
            model.train()
            solver.zero_grad()
            model_output = model(ready(pictures))
            cost = F.cross_entropy(model_output, targets)
            cost.backward()
            solver.step()
            tick += 1
            yield cost.item()
            if tick == cfg.steps:
                break


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, H, W] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    return torch.log_softmax(model(ready(images)), dim=1)
