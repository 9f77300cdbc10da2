"""A transformer of encoder and decoder that learns to write the numbers it reads in ascending order.

`config` has the settings, `attention` and `model` the network, `search` the ways to use it.
Shapes: N rows of the data, B batch, S places of the source, T of the target, V vocabulary.
"""

from collections.abc import Iterator

import torch
from config import PAD, Config
from model import Transformer, initialise
from search import beam, greedy
from torch import Generator, Tensor, nn
from torch.nn import functional as F

__all__ = ["Config", "answers", "build", "predict", "train"]


def build(cfg: Config) -> Transformer:
    model = Transformer(cfg)
    initialise(model)
    return model


def batches(data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch in a new order, cut to the longest of the batch; the last one may be short."""
    source, target = data["source"], data["target"]
    while True:
        order = torch.randperm(len(source), generator=rng, device=rng.device)
        for rows in order.to(source.device).split(cfg.batch):
            longest = int((source[rows] != PAD).sum(dim=1).max())
            yield source[rows, :longest], target[rows, : longest + 2]


def loss(model: Transformer, source: Tensor, target: Tensor) -> Tensor:  # [B, S], [B, T] -> []
    """The mean over all tokens to be written, padding aside; labels are smoothed."""
    inputs, labels = target[:, :-1], target[:, 1:]
    logits = model(source, inputs)  # [B, T - 1, V]
    return F.cross_entropy(
        logits.flatten(0, 1),
        labels.flatten(),
        ignore_index=PAD,
        label_smoothing=model.cfg.smoothing,
    )


def learning_rate(step: int, cfg: Config) -> float:
    """Up on a line, then down on a longer one."""
    up = (step + 1) / cfg.warmup
    down = (cfg.steps - step) / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * min(up, down)


def train(model: Transformer, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim = torch.optim.Adam(model.parameters(), lr=cfg.peak_lr, betas=(0.9, 0.98))
    stream = batches(data, cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        source, target = next(stream)
        model.train()
        optim.zero_grad()
        value = loss(model, source, target)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        optim.step()
        yield value.item()


def answers(model: Transformer, inputs: Tensor) -> list[list[tuple[list[int], float]]]:
    """Several answers to each source [B, S], with their scores."""
    model.eval()
    cfg = model.cfg
    return [beam(model, row, cfg.beam, cfg.longest, cfg.length_penalty) for row in inputs]


@torch.no_grad()
def predict(model: Transformer, inputs: Tensor) -> Tensor:  # [B, S] -> [B, T]
    """The likeliest answer token by token, with its end and padding after it."""
    model.eval()
    return greedy(model, inputs, model.cfg.longest)
