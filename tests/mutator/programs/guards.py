"""Functions that stay finite, with finite gradients, for every input."""

import torch
from torch import Tensor


def entropy(p: Tensor) -> Tensor:
    used = p > 0
    safe = torch.where(used, p, 1.0)
    return -torch.where(used, p * safe.log(), 0.0).sum()


def surrogate(new: Tensor, old: Tensor, advantage: Tensor) -> Tensor:
    log_ratio = (new - old).clamp(-5.0, 5.0)
    return (log_ratio.exp() * advantage).mean()


def box_iou(a: Tensor, b: Tensor) -> Tensor:  # [N, 4], [N, 4] -> [N]
    a, b = a.float(), b.float()
    low = torch.maximum(a[:, :2], b[:, :2])
    high = torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=1)
    areas = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1)
    return overlap / (areas - overlap)


def fingerprint() -> list[float]:
    p = torch.tensor([0.5, 0.5, 0.0], requires_grad=True)
    loss = entropy(p)
    loss.backward()
    spike = surrogate(torch.tensor([9.0, 0.1]), torch.tensor([-3.0, 0.0]), torch.tensor([1.0, 2.0]))
    boxes = torch.tensor([[0.0, 0.0, 300.0, 301.0], [1.0, 2.0, 100.0, 130.0]]).half()
    others = torch.tensor([[7.0, 0.0, 290.0, 303.0], [3.0, 2.0, 90.0, 131.0]]).half()
    return [loss.item(), *p.grad.tolist(), spike.item(), *box_iou(boxes, others).tolist()]
