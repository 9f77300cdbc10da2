"""How good lists of recommendations are.

Shapes: B users, I items, R relevant items of each.
"""

import torch
from torch import Tensor


def ranking(scores: Tensor, seen: Tensor, top: int) -> Tensor:  # two [B, I] -> [B, top]
    """The best items that a user does not know yet, the best first."""
    return scores.masked_fill(seen, -torch.inf).topk(top, dim=1).indices


def hits(ranked: Tensor, relevant: Tensor) -> Tensor:  # [B, top], [B, R] -> [B, top]
    return (ranked[:, :, None] == relevant[:, None, :]).any(dim=2)


def recall(ranked: Tensor, relevant: Tensor) -> Tensor:  # [B, top], [B, R] -> [B]
    """The share of the relevant items that are in the list."""
    return hits(ranked, relevant).sum(dim=1) / relevant.size(1)


def ndcg(ranked: Tensor, relevant: Tensor) -> Tensor:  # [B, top], [B, R] -> [B]
    """Hits weigh less further down; a list that begins with all relevant items has one."""
    place = torch.arange(ranked.size(1), device=ranked.device)
    weight = 1 / torch.log2(place + 2.0)
    best = weight[: relevant.size(1)].sum()
    return (hits(ranked, relevant) * weight).sum(dim=1) / best
