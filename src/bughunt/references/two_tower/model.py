"""Two towers: one makes a vector of a user, the other of an item; their product is the score.

Shapes: B batch, U users, I items, R recent picks, E channels.
"""

import torch
from config import Config
from interactions import NOTHING
from torch import Tensor, nn
from torch.nn import functional as F


class UserTower(nn.Module):
    """Who it is, and the mean of what was picked of late."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.user = nn.Embedding(cfg.users, cfg.channels)
        self.pick = nn.Embedding(cfg.items, cfg.channels)
        self.mix = nn.Linear(2 * cfg.channels, cfg.channels)

    def forward(self, user: Tensor, recent: Tensor) -> Tensor:  # [B], [B, R] -> [B, E]
        real = (recent != NOTHING).unsqueeze(-1)  # [B, R, 1]
        picks = self.pick(recent.clamp(min=0)) * real  # [B, R, E]
        mean = picks.sum(dim=1) / real.sum(dim=1).clamp(min=1)
        x = torch.cat([self.user(user), mean], dim=-1)
        return F.normalize(self.mix(x), dim=-1)


class ItemTower(nn.Module):
    """A direction, and how much an item is picked whatever the taste."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.item = nn.Embedding(cfg.items, cfg.channels)
        self.appeal = nn.Embedding(cfg.items, 1)

    def forward(self, item: Tensor) -> tuple[Tensor, Tensor]:  # [B] -> [B, E], [B]
        return F.normalize(self.item(item), dim=-1), self.appeal(item).squeeze(-1)


class TwoTower(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        self.users = UserTower(cfg)
        self.items = ItemTower(cfg)
        nothing = torch.full((cfg.users, cfg.recent), NOTHING)
        self.register_buffer("recent", nothing)  # what is known of each user when asked
        self.register_buffer("seen", torch.zeros(cfg.users, cfg.items, dtype=torch.bool))
        for table in (self.users.user, self.users.pick, self.items.item):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(self.items.appeal.weight)

    def forward(self, user: Tensor, recent: Tensor, item: Tensor) -> Tensor:
        """[B], [B, R], [I] -> scores of every item for every user [B, I]."""
        vectors = self.users(user, recent)  # [B, E]
        directions, appeal = self.items(item)  # [I, E], [I]
        return vectors @ directions.T / self.cfg.temperature + appeal
