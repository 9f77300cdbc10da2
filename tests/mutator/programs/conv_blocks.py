"""A chain of blocks with convolutions, normalisation and a small head."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x)).relu()


class Net(nn.Module):
    def __init__(self, channels: int = 3, classes: int = 2, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3)
        self.blocks = nn.ModuleList([Block(channels) for _ in range(blocks)])
        self.up = nn.Linear(channels, 4 * channels)
        self.down = nn.Linear(4 * channels, channels)
        self.head = nn.Linear(channels, classes)
        nn.init.kaiming_normal_(self.stem.weight, nonlinearity="relu")
        nn.init.kaiming_uniform_(self.up.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        h = x.mean(dim=(2, 3))
        gate = self.down(self.up(h).relu())
        h = h * gate
        return self.head(h)


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    model = Net()
    y = model(torch.randn(4, 1, 6, 6))
    y.square().sum().backward()
    sizes = [float(parameter.numel()) for parameter in model.parameters()]
    return [*y.flatten().tolist(), *sizes, *model.stem.weight.grad.flatten().tolist()]
