"""All numbers of the pipeline in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    side: int = 14  # pixels, after resizing
    classes: int = 10
    channels: tuple[int, ...] = (12, 20, 28)
    turn: float = 0.6  # radians, to either side
    stretch: float = 0.15
    shift: float = 0.12  # of half a side
    contrast: float = 0.25
    hole: int = 4  # pixels of a side
    hole_share: float = 0.5
    tilt: float = 0.12  # radians by which other views of a row to be read are turned
    workers: int = 3
    batch: int = 44
    steps: int = 200
    peak_lr: float = 1e-2
    warmup: int = 20
    weight_decay: float = 0.02
