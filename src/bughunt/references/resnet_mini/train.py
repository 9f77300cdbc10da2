"""A residual network that reads glyphs, with its convolution and its normalisation written out.

A convolution is one matrix product once every patch under the kernel has become a column. Blocks add
what they compute to what they were given, so that a deep network can start out as a shallow one.

Shapes: B batch, C channels in, O channels out, H height, W width, S kernel size, L places, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    classes: int = 10
    channels: tuple[int, ...] = (16, 24, 32)  # of the stages; each after the first halves the map
    momentum: float = 0.1  # of the running statistics
    eps: float = 1e-5
    batch: int = 40
    steps: int = 200
    peak_lr: float = 0.3
    rise: float = 0.25  # share of the steps
    inertia: float = 0.9
    weight_decay: float = 2e-3


def convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Slide kernels `[O, C, S, S]` over maps `[B, C, H, W]`."""
    B, _, H, W = x.shape
    O, _, S, _ = weight.shape  # noqa: E741
    height = (H + 2 * padding - S) // stride + 1
    width = (W + 2 * padding - S) // stride + 1
    columns = F.unfold(x, S, padding=padding, stride=stride)  # [B, C * S * S, L]
    places = columns.transpose(1, 2) @ weight.flatten(1).T  # [B, L, O]
    return places.transpose(1, 2).reshape(B, O, height, width)


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        fan = inputs * size * size
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size) * math.sqrt(2 / fan))
        self.stride = stride
        self.padding = size // 2

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
        self.momentum = cfg.momentum
        self.eps = cfg.eps

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, H, W]
        if self.training:
            mean = x.mean(dim=(0, 2, 3))
            var = x.var(dim=(0, 2, 3), unbiased=False)
            self.remember(mean, var, x.numel() // x.size(1))
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight / torch.sqrt(var + self.eps)
        shift = self.bias - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    @torch.no_grad()
    def remember(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics a step; the variance kept is the unbiased one."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * count / (count - 1), self.momentum)


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
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y))
        return (self.shortcut(x) + y).relu()


class ResNet(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        width = cfg.channels[0]
        self.stem = nn.Sequential(Conv(1, width, 3, stride=2), BatchNorm(width, cfg), nn.ReLU())
        blocks = []
        for stage, outputs in enumerate(cfg.channels):
            stride = 1 if stage == 0 else 2
            blocks.append(Block(width, outputs, stride, cfg))
            width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, cfg.classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:  # [B, 1, H, W] -> [B, K]
        maps = self.blocks(self.stem(images))
        return self.head(maps.mean(dim=(2, 3)))


def build(cfg: Config) -> nn.Module:
    return ResNet(cfg)


def prepare(images: Tensor) -> Tensor:  # bytes [B, H, W] -> [B, 1, H, W]
    """Pixels around zero, with a channel axis."""
    return (images.float().unsqueeze(1) / 255 - 0.4) / 0.2


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    order = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for rows in order.split(cfg.batch):
        yield images[rows], labels[rows]


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to zero."""
    top = cfg.rise * cfg.steps
    if step < top:
        return cfg.peak_lr * (step + 1) / (top + 1)
    progress = (step - top) / (cfg.steps - top)
    return cfg.peak_lr * 0.5 * (1 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module, cfg: Config) -> list[dict[str, object]]:
    """Kernels and matrices decay; scales, shifts and biases do not."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    spared = [p for p in model.parameters() if p.dim() <= 1]
    return [
        {"params": decayed, "weight_decay": cfg.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    groups = parameter_groups(model, cfg)
    optimizer = torch.optim.SGD(groups, lr=cfg.peak_lr, momentum=cfg.inertia, nesterov=True)
    step = 0
    while step < cfg.steps:
        for images, labels in batches(data["images"], data["labels"], cfg, rng):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, cfg)
            model.train()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(prepare(images)), labels)
            loss.backward()
            optimizer.step()
            step += 1
            yield loss.item()
            if step == cfg.steps:
                break


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, H, W] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    return model(prepare(images)).log_softmax(dim=1)
