"""A router that sends each row to one expert and is asked to spread the work."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def route(router: nn.Module, x: Tensor, k: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    probs = router(x).softmax(dim=-1)
    top, chosen = probs.topk(k, dim=-1)
    experts = probs.size(-1)
    share = F.one_hot(chosen, experts).float().sum(dim=1).mean(dim=0)
    aux = experts * (share * probs.mean(dim=0)).sum()
    return top, chosen, aux


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    router = nn.Linear(3, 4)
    _, _, aux = route(router, torch.randn(16, 3))
    aux.backward()
    return [aux.item(), *router.weight.grad.flatten().tolist()]
