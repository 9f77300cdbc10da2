"""From packed bytes to images of one size.

A pack is what a scanner writes: all images one after the other as bytes, row by row, the three colours of a
pixel side by side. Images differ in size.

Shapes: N images, H and W height and width of one, S side after resizing, O places out, I places in.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def unpack(pack: Mapping[str, Tensor]) -> list[Tensor]:
    """The images of a pack, bytes [H, W, 3] each, from `bytes` and `shapes` [N, 2]."""
    shapes = pack["shapes"].tolist()
    sizes = [height * width * 3 for height, width in shapes]
    pieces = pack["bytes"].split(sizes)
    return [piece.view(*shape, 3) for piece, shape in zip(pieces, shapes, strict=True)]


def channels_first(image: Tensor) -> Tensor:  # bytes [H, W, 3] -> [3, H, W]
    """Shares of light between 0 and 1, colour by colour."""
    return image.permute(2, 0, 1).float() / 255


def weights(places_in: int, places_out: int, device: torch.device) -> Tensor:  # -> [O, I]
    """How much each place of a line takes from its two neighbours in another line.

    Pixels are squares, so the first one's middle lies half a pixel from the edge, in both lines. Beyond the
    outermost middles the outermost pixel counts alone.
    """
    middles = (torch.arange(places_out, device=device) + 0.5) * places_in / places_out - 0.5
    middles = middles.clamp(0, places_in - 1)
    before = middles.floor().long()
    after = (before + 1).clamp(max=places_in - 1)
    part = middles - before
    out = torch.zeros(places_out, places_in, device=device)
    rows = torch.arange(places_out, device=device)
    out[rows, before] += 1 - part
    out[rows, after] += part
    return out


def resize(image: Tensor, side: int) -> Tensor:  # [3, H, W] -> [3, S, S]
    """Bilinear: along the height, then along the width."""
    _, height, width = image.shape
    down = weights(height, side, image.device)  # [S, H]
    across = weights(width, side, image.device)  # [S, W]
    return down @ image @ across.T


def decode(pack: Mapping[str, Tensor], side: int) -> Tensor:  # -> [N, 3, S, S]
    """All images of a pack at one size."""
    return torch.stack([resize(channels_first(image), side) for image in unpack(pack)])
