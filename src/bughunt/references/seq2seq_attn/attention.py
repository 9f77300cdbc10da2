"""Additive attention: a small network says how well each place of the source fits what is wanted.

Shapes: B batch, S places, Q query, M memory, A attention.
"""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """As by Bahdanau; what comes from the memory alone is worked out once a source."""

    def __init__(self, query: int, memory: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, hidden, bias=False)
        self.key = nn.Linear(memory, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:  # [B, S, M] -> [B, S, A]
        return self.key(memory)

    def forward(self, query: Tensor, keys: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, Q], [B, S, A], [B, S, M], [B, S] where to look -> what was found [B, M], weights [B, S]."""
        fit = torch.tanh(self.query(query).unsqueeze(1) + keys)  # [B, S, A]
        scores = self.score(fit).squeeze(-1)  # [B, S]
        weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
        found = torch.einsum("bs,bsm->bm", weights, memory)
        return found, weights
