"""Writing an answer: the likeliest token each time, or several answers side by side.

Shapes: B batch, S places of the source, T written so far, W beams, V vocabulary.
"""

import torch
from config import END, PAD, START
from model import Transformer
from torch import Tensor


@torch.no_grad()
def greedy(model: Transformer, source: Tensor, longest: int) -> Tensor:  # [B, S] -> [B, T]
    """Answers without their start, filled up after their end."""
    memory, mask = model.encode(source)
    written = source.new_full((len(source), 1), START)
    ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    for _ in range(longest):
        logits = model.decode(written, memory, mask)[:, -1]  # [B, V]
        token = logits.argmax(dim=-1).masked_fill(ended, PAD)
        written = torch.cat([written, token[:, None]], dim=1)
        ended = ended | (token == END)
        if bool(ended.all()):
            break
    return written[:, 1:]


def normalised(total: float, length: int, penalty: float) -> float:
    """A log-likelihood that does not favour short answers, as in Wu et al. (2016)."""
    return total / ((5 + length) / 6) ** penalty


@torch.no_grad()
def beam(
    model: Transformer, source: Tensor, width: int, longest: int, penalty: float
) -> list[tuple[list[int], float]]:
    """Up to `width` answers to one source [S] with their normalised scores, the best first.

    An answer ends with its end, or where it has become too long.
    """
    memory, mask = model.encode(source[None])
    open_ = [([START], 0.0)]
    done: list[tuple[list[int], float]] = []
    for length in range(1, longest + 1):
        written = torch.tensor([tokens for tokens, _ in open_], device=source.device)  # [W, T]
        W = len(open_)
        logits = model.decode(written, memory.expand(W, -1, -1), mask.expand(W, -1, -1, -1))
        so_far = torch.tensor([total for _, total in open_], device=source.device)
        totals = so_far[:, None] + logits[:, -1].log_softmax(dim=-1)  # [W, V]
        best, places = totals.flatten().topk(min(width, totals.numel()))
        candidates = []
        for total, place in zip(best.tolist(), places.tolist(), strict=True):
            row, token = divmod(place, totals.size(1))
            candidates.append(([*open_[row][0], token], total))
        finished = [c for c in candidates if c[0][-1] == END or length == longest]
        done += [(tokens[1:], normalised(total, length, penalty)) for tokens, total in finished]
        open_ = [c for c in candidates if c[0][-1] != END]
        if not open_:
            break
    return sorted(done, key=lambda answer: -answer[1])[:width]
