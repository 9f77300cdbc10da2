"""Which of a candidate's tensors stands for which of the reference's."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from bughunt.task import Model, Program, Value

RUNNING = ("running_mean", "running_var")


def trained(program: Program, model: Model, state: Mapping[str, Value]) -> list[str]:
    """Names of the floating parameters and running statistics; other buffers are the program's own."""
    names = [name for name in program.parameters(model) if name in state]
    names += [name for name in state if name.endswith(RUNNING) and name not in names]
    return [name for name in names if is_floating(state[name])]


def map_names(
    wanted: Mapping[str, Value], offered: Mapping[str, Value], all_wanted: Mapping[str, Value]
) -> dict[str, str] | None:
    """Candidate's name -> reference's name, or None.

    Equal names first, then what is left over in order, where the shapes agree. A candidate that has untied
    what the reference ties has one tensor more, which the reference's state knows by name.
    """
    names = {name: name for name in offered if name in all_wanted}
    left = [name for name in wanted if name not in names]
    open_ = [name for name in offered if name not in names]
    if len(left) != len(open_):
        return None
    names |= _in_order(open_, left, offered, wanted)
    fits = all(_shape(offered[mine]) == _shape(all_wanted[theirs]) for mine, theirs in names.items())
    return names if fits else None


def _in_order(
    mine: Sequence[str],
    theirs: Sequence[str],
    offered: Mapping[str, Value],
    wanted: Mapping[str, Value],
) -> dict[str, str]:
    """Pairs of equal shape, each shape in its own order: a layer may have moved in the file."""
    waiting = list(theirs)
    pairs = {}
    for name in mine:
        same = [other for other in waiting if _shape(wanted[other]) == _shape(offered[name])]
        pairs[name] = (same or waiting)[0]
        waiting.remove(pairs[name])
    return pairs


def is_floating(value: Value) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_floating_point()
    return isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)


def array(value: Value) -> np.ndarray:
    """A tensor or array as float64."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().to(torch.float64).numpy()
    return np.asarray(value, dtype=np.float64)


def like(value: np.ndarray, model: Value) -> Value:
    """A float64 array in the type of another value."""
    if isinstance(model, torch.Tensor):
        return torch.as_tensor(value).to(model.dtype)
    return value.astype(model.dtype)


def _shape(value: Value) -> tuple[int, ...]:
    return tuple(value.shape)
