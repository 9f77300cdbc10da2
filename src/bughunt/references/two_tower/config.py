"""Everything that can be set."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    users: int = 360
    items: int = 240
    channels: int = 12
    recent: int = 5  # earlier picks that say something about a user
    temperature: float = 0.23
    batch: int = 224
    steps: int = 230
    warmup: int = 10
    lr: float = 2.5e-2
    weight_decay: float = 0.5
    top: int = 20  # of a list of recommendations
