"""From logits to a token: what is left out, and how one is drawn.

Shapes: B batch, V vocabulary, T said so far.
"""

import torch
from config import Sampling
from torch import Generator, Tensor


def penalised(logits: Tensor, said: Tensor, penalty: float) -> Tensor:  # [B, V], [B, V] -> [B, V]
    """Logits of what was said are divided where positive and multiplied where negative."""
    less = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(said, less, logits)


def top_k(logits: Tensor, count: int) -> Tensor:  # [B, V] -> [B, V]
    """Only the likeliest `count`, and what is as likely as the last of them."""
    if count <= 0 or count >= logits.size(-1):
        return logits
    least = logits.topk(count, dim=-1).values[:, -1:]  # [B, 1]
    return logits.masked_fill(logits < least, -torch.inf)


def top_p(logits: Tensor, share: float) -> Tensor:  # [B, V] -> [B, V]
    """The fewest likeliest tokens that together have the share; the likeliest always."""
    if share >= 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    p = ordered.softmax(dim=-1)
    before = p.cumsum(dim=-1) - p  # mass of the likelier ones
    dropped = before >= share
    dropped[:, 0] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter(1, order, dropped), -torch.inf)


def distribution(logits: Tensor, said: Tensor, how: Sampling) -> Tensor:  # [B, V], [B, V] -> [B, V]
    """The chance of each token; with a temperature of zero all of it is the likeliest one's."""
    logits = penalised(logits, said, how.repetition)
    if how.temperature == 0:
        return torch.zeros_like(logits).scatter(1, logits.argmax(dim=-1, keepdim=True), 1.0)
    logits = logits / how.temperature
    return top_p(top_k(logits, how.top_k), how.top_p).softmax(dim=-1)


def draw(chances: Tensor, rng: Generator) -> Tensor:  # [B, V] -> [B]
    picked = torch.multinomial(chances.to(rng.device), 1, generator=rng)
    return picked[:, 0].to(chances.device)
