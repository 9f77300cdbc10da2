"""Reads dates as people write them and writes them as a machine wants them.

An encoder reads the characters, a decoder writes the answer and attends to what was read. In training it is
told the right characters so far; in use it has to rely on its own.

`config` has the settings, `text` the characters, `attention` and `model` the network, `search` the use of it.
Shapes: B batch, S places of the source, T of the target, V characters.
"""

import math
from collections.abc import Iterator

import torch
from config import Config
from model import Translator
from search import greedy
from text import PAD, collate, collate_sources, decode_target
from torch import Generator, Tensor, nn
from torch.nn import functional as F

__all__ = ["Config", "build", "predict", "train"]


def build(cfg: Config) -> Translator:
    model = Translator(cfg)
    model.longest = cfg.longest
    for name, parameter in model.encoder.gru.named_parameters():
        if name.startswith("weight_hh"):
            for gate in parameter.data.chunk(3):
                nn.init.orthogonal_(gate)
    return model


def batches(
    data: dict[str, list[str]], cfg: Config, rng: Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Epoch after epoch in a new order; the last batch of an epoch may be short."""
    texts, answers = data["texts"], data["answers"]
    while True:
        order = torch.randperm(len(texts), generator=rng, device=rng.device)
        for rows in order.split(cfg.batch):
            chosen = rows.tolist()
            yield collate([texts[row] for row in chosen], [answers[row] for row in chosen])


def loss(model: Translator, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
    """[B, S], [B], [B, T] -> []: the mean over all characters to be written, padding aside."""
    inputs, answers = target[:, :-1], target[:, 1:]
    logits = model(source, lengths, inputs)  # [B, T - 1, V]
    return F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=PAD)


def learning_rate(step: int, cfg: Config) -> float:
    """Warm-up, then half a cosine."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    progress = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return cfg.peak_lr * 0.5 * (1 + math.cos(math.pi * progress))


def train(model: Translator, data: dict[str, list[str]], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    device = next(model.parameters()).device
    optim = torch.optim.Adam(model.parameters(), lr=cfg.peak_lr)
    stream = batches(data, cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        source, lengths, target = (part.to(device) for part in next(stream))
        model.train()
        optim.zero_grad()
        value = loss(model, source, lengths, target)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        optim.step()
        yield value.item()


@torch.no_grad()
def predict(model: Translator, inputs: list[str]) -> list[str]:
    """An answer to each text."""
    model.eval()
    device = next(model.parameters()).device
    source, lengths = (part.to(device) for part in collate_sources(inputs))
    tokens = greedy(model, source, lengths, model.longest)
    return [decode_target(row) for row in tokens.tolist()]
