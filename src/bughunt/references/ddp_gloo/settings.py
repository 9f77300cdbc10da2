"""What a run is set to."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    world: int = 2
    averaging: str = "wrapper"  # or "hooks"
    bucket: int = 3000  # numbers that are sent together, of one's own averaging
    patience: float = 20.0  # seconds that a rank waits for the others
    pixels: int = 144
    hidden: int = 52
    classes: int = 10
    batch: int = 38  # of each rank
    steps: int = 220
    lr: float = 0.06
    warmup: int = 12
    momentum: float = 0.85
    weight_decay: float = 0.02
    max_norm: float = 1.5
