"""Everything that can be set."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    source_channels: int = 28  # of a character that is read
    target_channels: int = 20  # of a character that is written
    hidden: int = 36  # of the encoder, in each direction
    state: int = 60  # of the decoder
    attention: int = 44
    dropout: float = 0.05
    batch: int = 52
    steps: int = 130
    warmup: int = 12
    peak_lr: float = 1.3e-2
    max_grad_norm: float = 1.0
    longest: int = 12  # characters of an answer, its end included
