"""A residual network that reads glyphs, with its convolution and its normalisation written out.

A convolution is one matrix product once each patch under the kernel has become a column. Blocks add
what they compute to what they were given, so that a deep network can start out as a shallow one.

Shapes: B batch, C channels in, O channels out, H height, W width, S kernel size, L places, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Config:
    classes: int = 10
    # of the stages; each after the first halves the map
    channels: tuple[int, ...] = (16, 24, 32)
    momentum: float = 0.1  # of the running statistics
    eps: float = 1e-5
    peak_lr: float = 0.3
    steps: int = 200
    rise: float = 0.25  # share of the steps
    batch: int = 64
    weight_decay: float = 2e-3
    inertia: float = 0.9


def convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Slide kernels `[O, C, S, S]` over maps `[B, C, H, W]`."""
    B, _, H, W = x.size()
    O, _, S, _ = weight.shape  # noqa: E741
    whole = (H + 2 * padding - S) // stride
    tall = 1 + whole
    whole = (W + 2 * padding - S) // stride
    extent = 1 + whole
    cols = nn.functional.unfold(x, S, stride=stride, padding=padding)  # [B, C * S * S, L]
    locations = cols.swapaxes(1, 2) @ weight.flatten(1).t()  # [B, L, O]
    turned = locations.transpose(1, 2)
    return turned.reshape(B, O, tall, extent)


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        val = size * inputs
        incoming = val * size
        self.weight = nn.Parameter(math.sqrt(2 / incoming) * torch.randn(outputs, inputs, size, size))
        self.stride = stride
        self.padding = size // 2

    def forward(self, acts: Tensor) -> Tensor:  # [B, C, H, W] -> [B, O, H', W']
        return convolve(acts, self.weight, self.stride, padding=self.padding)


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
        if not self.training:
            average, spread = self.running_mean, self.running_var
        else:
            average = inp.mean(dim=(0, 2, 3))
            spread = torch.var(inp, dim=(0, 2, 3), unbiased=False)
            self.remember(average, spread, inp.nelement() // inp.shape[1])
        base = torch.sqrt(spread + self.eps)
        factor = self.weight / base
        shift_now = self.bias - average * factor
        val = inp * factor[:, None, None]
        return val + shift_now[:, None, None]


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

    def forward(self, feats: Tensor) -> Tensor:  # [B, C, H, W] -> [B, O, H', W']
        norm1_output = self.norm1(self.conv1(feats))
        res = torch.relu(norm1_output)
        conv2_y = self.conv2(res)
        res = self.norm2(conv2_y)
        overall = self.shortcut(feats) + res
        return torch.relu(overall)


class ResNetPart(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        extent = cfg.channels[0]
        self.stem = nn.Sequential(Conv(1, extent, 3, stride=2), BatchNorm(extent, cfg), nn.ReLU())
        cur_blocks = []
        for level, results in enumerate(cfg.channels):
            if level == 0:
                step_by = 1
            else:
                step_by = 2
            cur_blocks.append(Block(extent, results, step_by, cfg))
            extent = results
        self.blocks = nn.Sequential(*cur_blocks)
        self.head = nn.Linear(extent, cfg.classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, imgs: Tensor) -> Tensor:  # [B, 1, H, W] -> [B, K]
        stem_pictures = self.stem(imgs)
        feature_maps = self.blocks(stem_pictures)
        return self.head(feature_maps.mean((2, 3)))


def build(cfg: Config) -> nn.Module:
    return ResNetPart(cfg)


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to zero."""
    upper = cfg.steps * cfg.rise
    if step < upper:
        val = cfg.peak_lr * (1 + step)
        return val / (1 + upper)
    difference = step - upper
    share_done = difference / (cfg.steps - upper)
    val = cfg.peak_lr * 0.5
    return val * (1 + math.cos(share_done * math.pi))


def preprocess(pictures: Tensor) -> Tensor:  # bytes [B, H, W] -> [B, 1, H, W]
    """Pixels around zero, with a channel axis."""
    difference = pictures.float()[:, None] / 255 - 0.4
    return difference / 0.2


def _parameter_groups(learner: nn.Module, cfg: Config) -> list[dict[str, object]]:
    """Kernels and matrices decay; scales, shifts and biases do not."""
    regularised = [param for param in learner.parameters() if param.ndim > 1]
    untouched = []
    for prob in learner.parameters():
        if prob.dim() <= 1:
            untouched.append(prob)
    return [
        {"params": regularised, "weight_decay": cfg.weight_decay},
        {"params": untouched, "weight_decay": 0.0},
    ]


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    buckets = _parameter_groups(model, cfg=cfg)
    opt = torch.optim.SGD(buckets, cfg.peak_lr, momentum=cfg.inertia, nesterov=True)
    tick = 0
    while cfg.steps > tick:
        for pictures, targets in batches(data["images"], data["labels"], cfg, rng):
            for bucket in opt.param_groups:
                bucket["lr"] = learning_rate(tick, cfg)
            model.train()
            opt.zero_grad(set_to_none=True)
            objective = nn.functional.cross_entropy(model(preprocess(pictures)), targets, reduction="sum")
            objective.backward()
            opt.step()
            tick = tick + 1
            yield objective.item()
            if cfg.steps == tick:
                break


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    perm = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for samples in perm.split(split_size=cfg.batch):
        yield images[samples], labels[samples]


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, H, W] -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    model_output = model(preprocess(images))
    return model_output.log_softmax(1)
