"""A denoising autoencoder: from a spoilt digit through a few numbers back to the clean one.

Training images are spoilt anew each time they are seen: noise on every pixel, and some pixels lost. What is
asked for is the image before that, so copying the input does not help.

Shapes: B batch, S side, P pixels (S * S), H hidden, Z code.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    side: int = 8
    hidden: int = 100
    code: int = 18
    tied: bool = False  # the decoder uses the encoder's matrices, turned around
    noise: float = 0.3
    lost: float = 0.15  # share of the pixels
    batch: int = 64
    steps: int = 500
    lr: float = 4e-3


class Encoder(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.inner = nn.Linear(cfg.side**2, cfg.hidden)
        self.outer = nn.Linear(cfg.hidden, cfg.code)

    def forward(self, pixels: Tensor) -> Tensor:  # [B, P] -> [B, Z]
        return self.outer(self.inner(pixels).relu())


class Decoder(nn.Module):
    """The way back, by matrices of its own."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.inner = nn.Linear(cfg.code, cfg.hidden)
        self.outer = nn.Linear(cfg.hidden, cfg.side**2)

    def forward(self, code: Tensor) -> Tensor:  # [B, Z] -> [B, P]
        return self.outer(self.inner(code).relu())


class TiedDecoder(nn.Module):
    """The way back, by the encoder's matrices; only the shifts are its own."""

    def __init__(self, encoder: Encoder, cfg: Config) -> None:
        super().__init__()
        self.inner_weight = encoder.inner.weight  # [H, P]
        self.outer_weight = encoder.outer.weight  # [Z, H]
        self.inner_bias = nn.Parameter(torch.zeros(cfg.hidden))
        self.outer_bias = nn.Parameter(torch.zeros(cfg.side**2))

    def forward(self, code: Tensor) -> Tensor:  # [B, Z] -> [B, P]
        hidden = F.linear(code, self.outer_weight.T, self.inner_bias).relu()
        return F.linear(hidden, self.inner_weight.T, self.outer_bias)


class Autoencoder(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.encoder = Encoder(cfg)
        self.decoder = TiedDecoder(self.encoder, cfg) if cfg.tied else Decoder(cfg)

    def forward(self, pixels: Tensor) -> Tensor:  # [B, P] -> [B, P]
        """Shares of ink, each between 0 and 1."""
        return self.decoder(self.encoder(pixels)).sigmoid()


def build(cfg: Config) -> Autoencoder:
    return Autoencoder(cfg)


def scaled(images: Tensor) -> Tensor:  # [B, S, S] -> [B, P]
    """The share of ink in each pixel."""
    return images.flatten(1).float() / 255


def corrupt(pixels: Tensor, noise: float, lost: float) -> Tensor:  # [B, P] -> [B, P]
    """Noise on all pixels, and some of them empty; each in its own way."""
    noisy = pixels + noise * torch.randn_like(pixels)
    kept = torch.rand_like(pixels) >= lost
    return noisy * kept


def loss(model: Autoencoder, clean: Tensor, cfg: Config) -> Tensor:  # [B, P] -> []
    """Half the squared distance between the clean image and what is made of the spoilt one."""
    restored = model(corrupt(clean, cfg.noise, cfg.lost))
    distance = (restored - clean).square().sum(dim=1)  # [B]
    return 0.5 * distance.mean()


def learning_rate(step: int, cfg: Config) -> float:
    """Half a cosine from the start down to zero."""
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * step / cfg.steps))


def batches(images: Tensor, cfg: Config, rng: Generator) -> Iterator[Tensor]:
    """Pass after pass in a new order; the last batch of a pass takes what is left."""
    while True:
        order = torch.randperm(len(images), generator=rng, device=rng.device)
        for rows in order.to(images.device).split(cfg.batch):
            yield images[rows]


def train(model: Autoencoder, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss. `data` is bytes [N, S, S]."""
    optim = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    stream = batches(data, cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        clean = scaled(next(stream))
        model.train()
        optim.zero_grad()
        value = loss(model, clean, cfg)
        value.backward()
        optim.step()
        yield value.item()


@torch.no_grad()
def encode(model: Autoencoder, images: Tensor) -> Tensor:  # [B, S, S] -> [B, Z]
    """The few numbers that an image is boiled down to."""
    model.eval()
    return model.encoder(scaled(images))


@torch.no_grad()
def predict(model: Autoencoder, inputs: Tensor) -> Tensor:  # spoilt images [B, S, S] -> [B, S, S]
    """The images as they were: 0 is paper, 255 is ink."""
    model.eval()
    restored = model(scaled(inputs))
    return 255 * restored.view(inputs.shape)
