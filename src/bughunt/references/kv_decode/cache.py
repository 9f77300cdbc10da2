"""Keys and values of what was read, so that no token is read twice.

Every row has its own length: prompts of unlike lengths share a batch, filled up on the right. A token is
stored at its position, so what was stored for padding is overwritten by the tokens that come there later.

Shapes: L layers, B batch, H heads, T new tokens, S slots, K channels per head.
"""

import torch
from config import Config
from torch import Tensor


class Cache:
    def __init__(self, cfg: Config, rows: int, device: torch.device) -> None:
        K = cfg.channels // cfg.heads
        shape = (cfg.layers, rows, cfg.heads, cfg.context, K)
        self.keys = torch.zeros(shape, device=device)
        self.values = torch.zeros(shape, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)

    def positions(self, count: int) -> Tensor:  # -> [B, T]
        """Where the next tokens of each row go."""
        return self.lengths[:, None] + torch.arange(count, device=self.lengths.device)

    def store(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """New keys and values [B, H, T, K] go to their slots; all slots come back [B, H, S, K]."""
        where = positions[:, None, :, None].expand_as(k)
        self.keys[layer] = self.keys[layer].scatter(2, where, k)
        self.values[layer] = self.values[layer].scatter(2, where, v)
        return self.keys[layer], self.values[layer]

    def advance(self, counts: Tensor) -> None:  # [B]
        """So many tokens of each row were real."""
        self.lengths = self.lengths + counts

    def pick(self, rows: Tensor) -> None:
        """Go on with these rows, in this order; one may come several times."""
        self.keys = self.keys[:, rows]
        self.values = self.values[:, rows]
        self.lengths = self.lengths[rows]
