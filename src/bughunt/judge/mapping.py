"""Which of a candidate's tensors stands for which of the reference's."""

from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher

import numpy as np
import torch

from bughunt.task import Model, Program, Value

RUNNING = ("running_mean", "running_var")


def trained(program: Program, model: Model, state: Mapping[str, Value]) -> list[str]:
    """Names of the floating parameters and running statistics; other buffers are the program's own."""
    names = [name for name in program.parameters(model) if name in state]
    names += [name for name in state if name.endswith(RUNNING) and name not in names]
    return [name for name in names if is_floating(state[name])]


def mappings(
    wanted: Mapping[str, Value], offered: Mapping[str, Value], all_wanted: Mapping[str, Value]
) -> list[dict[str, str]]:
    """Candidate's name -> reference's name, in every way that is worth a try; none where shapes do not fit.

    Equal names first, then what is left over where the shapes agree: in order, by likeness of the names, and
    by the modules that tensors are in. A candidate that has untied what the reference ties has a tensor more,
    which the reference's state knows by name.
    """
    names = {name: name for name in offered if name in all_wanted}
    left = [name for name in wanted if name not in names]
    open_ = [name for name in offered if name not in names]
    if len(left) != len(open_):
        return []
    ways = [_paired(open_, left, offered, wanted, alike) for alike in (_first, _most_alike)]
    ways.append(_by_modules(open_, left, offered, wanted))
    fitting = [names | way for way in ways if _fit(names | way, offered, all_wanted)]
    return [way for place, way in enumerate(fitting) if way not in fitting[:place]]


def map_names(
    wanted: Mapping[str, Value], offered: Mapping[str, Value], all_wanted: Mapping[str, Value]
) -> dict[str, str] | None:
    """The first of `mappings`, or None."""
    return next(iter(mappings(wanted, offered, all_wanted)), None)


def _paired(
    mine: Sequence[str],
    theirs: Sequence[str],
    offered: Mapping[str, Value],
    wanted: Mapping[str, Value],
    choose: Callable[[str, Sequence[str]], str],
) -> dict[str, str]:
    """Pairs of equal shape: a layer may have moved in the file."""
    waiting = list(theirs)
    pairs = {}
    for name in mine:
        same = [other for other in waiting if _shape(wanted[other]) == _shape(offered[name])]
        pairs[name] = choose(name, same or waiting)
        waiting.remove(pairs[name])
    return pairs


def _by_modules(
    mine: Sequence[str], theirs: Sequence[str], offered: Mapping[str, Value], wanted: Mapping[str, Value]
) -> dict[str, str]:
    """Pairs of equal shape, those with the fewest choices first: where one went, its neighbours go too."""
    waiting, open_ = list(theirs), list(mine)
    pairs: dict[str, str] = {}
    modules: dict[str, str] = {}
    while open_:
        choices = {
            name: [other for other in waiting if _shape(wanted[other]) == _shape(offered[name])]
            for name in open_
        }
        name = min(open_, key=lambda name: len(choices[name]))
        near = {other: _neighbours(name, other, modules) for other in choices[name] or waiting}
        pairs[name] = _most_alike(name, [other for other in near if near[other] == max(near.values())])
        modules |= zip(_modules_of(name), _modules_of(pairs[name]), strict=False)
        waiting.remove(pairs[name])
        open_.remove(name)
    return pairs


def _modules_of(name: str) -> list[str]:
    """`blocks.0.linear`, `blocks.0` and `blocks` of `blocks.0.linear.weight`."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _neighbours(name: str, other: str, modules: Mapping[str, str]) -> int:
    """How many modules around a tensor are known as those around another one, less those known otherwise."""
    around = zip(_modules_of(name), _modules_of(other), strict=False)
    return sum(1 if modules[mine] == theirs else -1 for mine, theirs in around if mine in modules)


def _first(_name: str, others: Sequence[str]) -> str:
    return others[0]


def _most_alike(name: str, others: Sequence[str]) -> str:
    return max(others, key=lambda other: SequenceMatcher(None, name, other).ratio())


def _fit(way: Mapping[str, str], offered: Mapping[str, Value], wanted: Mapping[str, Value]) -> bool:
    return all(_shape(offered[mine]) == _shape(wanted[theirs]) for mine, theirs in way.items())


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
