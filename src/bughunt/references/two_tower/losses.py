"""The softmax over the items of a batch.

Shapes: B batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def in_batch_softmax(scores: Tensor, item: Tensor, log_frequency: Tensor) -> Tensor:
    """[B, B] users by items, [B], [B] -> []: each user's own item against those of the others.

    Popular items are in more batches, so they are refused more often; taking the logarithm of their frequency
    from their scores makes up for it. The same item under another user is no wrong answer.
    """
    B = len(item)
    own = torch.eye(B, dtype=torch.bool, device=item.device)
    duplicate = (item[:, None] == item[None, :]) & ~own
    logits = (scores - log_frequency[None, :]).masked_fill(duplicate, -torch.inf)
    return F.cross_entropy(logits, torch.arange(B, device=item.device))
