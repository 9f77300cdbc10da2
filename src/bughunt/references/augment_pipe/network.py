"""A small convolutional reader that knows the statistics of what it was trained on.

Shapes: B batch, S side, K classes.
"""

import torch
from settings import Config
from torch import Tensor, nn
from transforms import normalise


def layer(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the norm has a shift of its own, so the convolution needs none."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Reader(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        one, two, three = cfg.channels
        self.layers = nn.Sequential(
            layer(3, one), nn.MaxPool2d(2), layer(one, two), nn.MaxPool2d(2), layer(two, three)
        )
        places = (cfg.side // 4) ** 2
        self.head = nn.Linear(three * places, cfg.classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))

    def learn_scale(self, mean: Tensor, std: Tensor) -> None:
        """Remember the statistics by which every image is normalised from now on."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, images: Tensor) -> Tensor:  # shares of light [B, 3, S, S] -> [B, K]
        maps = self.layers(normalise(images, self.mean, self.std))
        return self.head(maps.flatten(1))
