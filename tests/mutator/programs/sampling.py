"""The ways to draw a next token: temperature, the k best, the nucleus."""

import torch
from torch import Tensor


def keep_best(logits: Tensor, k: int) -> Tensor:
    best = logits.topk(k, dim=-1).values
    return logits.masked_fill(logits < best[..., -1:], -torch.inf)


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    total = probabilities.cumsum(dim=-1)
    keep = total - probabilities < top_p
    kept = torch.zeros_like(keep).scatter(-1, order, keep)
    return logits.masked_fill(~kept, -torch.inf)


def next_token_probabilities(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    cooled = logits / temperature
    return keep_nucleus(keep_best_sampled(cooled, top_k), top_p).softmax(dim=-1)


def keep_best_sampled(logits: Tensor, top_k: int) -> Tensor:
    return keep_best(logits, top_k)


def sample(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    rank = logits.argsort(dim=-1, descending=True).argsort(dim=-1)
    limited = (logits / temperature).masked_fill(rank >= top_k, -torch.inf)
    return torch.multinomial(limited.softmax(dim=-1), 1).squeeze(-1)


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    logits = torch.randn(5, 9)
    shares = next_token_probabilities(logits, 0.7, 6, 0.5)
    draws = sample(logits.repeat(200, 1), 0.5, 2)
    return [*shares.flatten().tolist(), *torch.bincount(draws, minlength=9).tolist()]
