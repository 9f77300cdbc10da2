"""The inside of a model, which is a module or a dict of arrays: its parameters, gradients and norms."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from bughunt.judge.failures import ContractError

Model = Any  # what `build` returned


def state_of(model: Model) -> dict[str, Any]:
    if isinstance(model, torch.nn.Module):
        return dict(model.state_dict())
    if isinstance(model, dict):
        return model
    raise ContractError(
        f"build has to return a module or a dict of arrays, it returned a {type(model).__name__}"
    )


def parameters_of(model: Model) -> dict[str, Any]:
    if isinstance(model, torch.nn.Module):
        return dict(model.named_parameters())
    return state_of(model)


def copy_into(held: dict[str, Any], name: str, value: Any) -> None:
    target = held[name]
    if isinstance(target, torch.Tensor):
        if target.shape != value.shape:
            raise ContractError(f"{name} has the shape {tuple(target.shape)}")
        target.copy_(value)
    elif isinstance(target, np.ndarray) and np.shape(value) == target.shape:
        np.copyto(target, value)
    else:
        held[name] = value


def snapshot(value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        array = np.asarray(value)
        value = torch.from_numpy(array) if array.dtype.kind in "fiub" else torch.zeros(0)
    return value.detach().to(torch.float32, copy=True)


def norms_of(tensors: list[torch.Tensor]) -> list[float]:
    if not tensors:
        return []
    with torch.no_grad():
        return torch.stack([torch.linalg.vector_norm(t.float()) for t in tensors]).tolist()


class GradientWatch:
    """Keeps each parameter's gradient as last accumulated, whatever happens to `.grad` afterwards."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.last: dict[str, torch.Tensor] = {}
        self.hooks = [
            parameter.register_post_accumulate_grad_hook(self.keeper(name))
            for name, parameter in parameters.items()
            if isinstance(parameter, torch.Tensor) and parameter.requires_grad
        ]

    def keeper(self, name: str) -> Callable[[torch.Tensor], None]:
        def keep(parameter: torch.Tensor) -> None:
            if parameter.grad is not None:
                self.last[name] = parameter.grad.detach().clone()

        return keep

    def stop(self) -> None:
        for hook in self.hooks:
            hook.remove()


class UpdateNorms:
    """The norm of each parameter, and of its change since it was last asked for."""

    def __init__(self) -> None:
        self.before: dict[str, torch.Tensor] = {}

    def look(self, model: Model) -> dict[str, list[float]]:
        now = {name: snapshot(value) for name, value in parameters_of(model).items()}
        before, self.before = self.before or now, now
        changes = [
            value - before[name] if shape_of(before.get(name)) == value.shape else value
            for name, value in now.items()
        ]
        norms, moved = norms_of(list(now.values())), norms_of(changes)
        return {name: [a, b] for name, a, b in zip(now, norms, moved, strict=True)}


def shape_of(tensor: torch.Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def total_norm(tensors: list[torch.Tensor]) -> float:
    return math.hypot(*norms_of(tensors))
