"""A reader of coloured glyphs with its whole input pipeline: decode, resize, augment, normalise, batch.

Rows are few, so every pass shows them a little differently; rows to be read are looked at from three sides.
`codec`, `transforms` and `loader` are the pipeline, `network` is the reader.

Shapes: N rows, S side, K classes.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from codec import decode
from loader import endless
from network import Reader
from settings import Config
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from transforms import channel_statistics, views

__all__ = ["Config", "build", "learning_rate", "predict", "train"]


def build(cfg: Config) -> Reader:
    return Reader(cfg)


def learning_rate(step: int, cfg: Config) -> float:
    """Warm-up, then half a cosine."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    progress = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * 0.5 * (1 + math.cos(math.pi * progress))


def optimizer(model: nn.Module, cfg: Config) -> torch.optim.Optimizer:
    """Kernels and matrices decay; scales, shifts and biases do not."""
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": cfg.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.peak_lr)


def train(model: Reader, data: Mapping[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss. `data` is a pack with `labels` [N]."""
    images = decode(data, cfg.side)  # [N, 3, S, S]
    model.learn_scale(*channel_statistics(images))
    optim = optimizer(model, cfg)
    stream = endless(images, data["labels"], cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        seen, labels = next(stream)
        model.train()
        optim.zero_grad()
        value = F.cross_entropy(model(seen), labels)
        value.backward()
        optim.step()
        yield value.item()


@torch.no_grad()
def predict(model: Reader, inputs: Mapping[str, Tensor]) -> Tensor:  # a pack -> [N, K]
    """Log-probabilities of the classes, the mean chance over all views of a row."""
    model.eval()
    cfg = Config()
    images = decode(inputs, cfg.side)
    chances = [model(view).softmax(dim=1) for view in views(images, cfg)]
    return torch.stack(chances).mean(dim=0).log()
