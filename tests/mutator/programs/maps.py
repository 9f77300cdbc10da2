"""A small network that shrinks maps and enlarges them, and layers with gradients by hand."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Hourglass(nn.Module):
    def __init__(self):
        super().__init__()
        self.inward = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(6, 6, 3, padding=1)
        self.outward = nn.ConvTranspose2d(6, 2, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        y = self.inward(x).relu()
        y = F.max_pool2d(self.middle(y).relu(), 2)
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return F.adaptive_avg_pool2d(self.outward(y), 5)


def convolve(x, weight):
    """Slide kernels `[O, C, S, S]` over maps `[B, C, H, W]`, padded with zeros."""
    count, _, S, _ = weight.shape
    columns = F.unfold(x, S, padding=S // 2)
    return (weight.flatten(1) @ columns).view(len(x), count, *x.shape[2:])


def convolve_backward(g, weight):
    """The gradient of the input."""
    return convolve(g, weight.flip(2, 3).transpose(0, 1))


def windows(x):
    """Windows of two by two: `[H, W]` to `[H / 2, W / 2, 4]`."""
    H, W = x.shape
    return x.reshape(H // 2, 2, W // 2, 2).transpose(0, 2, 1, 3).reshape(H // 2, W // 2, 4)


def pool_backward(x, g):
    """The gradient of the windows."""
    patches = windows(x)
    top = patches.max(-1, keepdims=True)
    return (patches == top) * g[..., None]


def fingerprint():
    torch.manual_seed(0)
    net = Hourglass()
    out = net(torch.randn(2, 1, 16, 16))
    weight = torch.randn(3, 2, 3, 3)
    x = torch.randn(2, 2, 5, 5)
    y = convolve(x, weight)
    dx = convolve_backward(torch.randn_like(y), weight)
    values = np.random.default_rng(0).normal(size=(4, 6))
    dy = pool_backward(values, np.arange(6.0).reshape(2, 3) + 1)
    sums = [tensor.flatten()[:40].tolist() for tensor in (out, y, dx)]
    return [*sums[0], *sums[1], *sums[2], *dy.flatten().tolist(), sum(p.numel() for p in net.parameters())]
