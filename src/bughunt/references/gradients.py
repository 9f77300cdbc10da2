"""What becomes of a program's gradients, update by update, for behaviour tests."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from bughunt.task import Model, Program, Run


def follow(
    program: Program,
    model: Model,
    run: Run,
    oracle: torch.optim.Optimizer,
    leaves: Mapping[str, nn.Parameter],
    rates: Sequence[float],
    *,
    max_norm: float = math.inf,
) -> None:
    """Take an update for each rate, and with the same gradients as many of PyTorch's own optimiser.

    `leaves` are what the oracle moves, by the program's names; its gradients have to be watched already.
    The oracle's are clipped to `max_norm`, and its learning rate is that of the update.
    """
    for rate in rates:
        run.next()
        for name, gradient in program.gradients(model).items():
            leaves[name].grad = gradient
        if max_norm < math.inf:
            nn.utils.clip_grad_norm_(leaves.values(), max_norm)
        for group in oracle.param_groups:
            group["lr"] = rate
        oracle.step()


def silent_share(program: Program, model: Model, run: Run, names: Sequence[str], updates: int) -> float:
    """Of the rows of these matrices, over so many updates, the share that gets no gradient at all."""
    silent = []
    for _ in range(updates):
        run.next()
        gradients = program.gradients(model)
        silent += [(gradients[name] == 0).all(dim=1) for name in names]
    return float(torch.cat(silent).double().mean())
