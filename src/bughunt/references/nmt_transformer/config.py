"""Everything that can be set."""

from dataclasses import dataclass

PAD, START, END = 0, 1, 2  # tokens with a meaning of their own


@dataclass(frozen=True, kw_only=True)
class Config:
    vocab: int = 15
    layers: int = 2  # of the encoder and of the decoder
    heads: int = 4
    channels: int = 40
    dropout: float = 0.0
    smoothing: float = 0.04  # of the labels
    batch: int = 42
    steps: int = 150
    warmup: int = 20
    peak_lr: float = 7e-3
    max_grad_norm: float = 1.0
    longest: int = 8  # tokens of an answer, its end included
    beam: int = 3
    length_penalty: float = 0.6
