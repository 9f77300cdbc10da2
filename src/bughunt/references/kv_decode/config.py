"""Everything that can be set: the model, and how it is asked."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    vocab: int = 23
    context: int = 36
    layers: int = 2
    heads: int = 3
    channels: int = 24
    init_std: float = 0.4


@dataclass(frozen=True, kw_only=True)
class Sampling:
    temperature: float = 1.0  # zero takes the likeliest token
    top_k: int = 0  # zero keeps all
    top_p: float = 1.0
    repetition: float = 1.0  # larger makes what was said before less likely
    longest: int = 12  # new tokens
    stop: int = 1  # the token that ends an answer
