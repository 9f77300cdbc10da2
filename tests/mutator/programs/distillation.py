"""A student learns from a teacher's softened answers and from labels."""

import torch
from torch import Tensor
from torch.nn import functional as F


def distill(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 3.0, alpha: float = 0.7
) -> Tensor:
    soft = F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
    )
    hard = F.cross_entropy(student, labels)
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def fingerprint() -> list[float]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 4, generator=generator).requires_grad_()
    teacher = 2 * torch.randn(6, 4, generator=generator)
    loss = distill(student, teacher, torch.tensor([0, 1, 2, 3, 0, 1]))
    loss.backward()
    return [loss.item(), *student.grad.flatten().tolist()]
