"""A candidate's tensors under the reference's names, for tests that ask for them by name or by place.

A right repair may call its layers otherwise or make them in another order.
"""

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, cast
from weakref import WeakKeyDictionary

from bughunt.task import Model, Program, Value

MARGIN = 1.05  # by which names have to be more alike than in the order that they come in


def familiar(program: Program, names: Sequence[str]) -> Program:
    """The program, with the state of its models in the reference's order and under the reference's names."""
    return cast(Program, _Familiar(program, names))  # the rest goes through __getattr__


class _Familiar:
    def __init__(self, program: Program, names: Sequence[str]) -> None:
        self._program, self._names = program, list(names)
        self._known: WeakKeyDictionary[Model, dict[str, str]] = WeakKeyDictionary()
        self._paired: dict[tuple[str, ...], dict[str, str]] = {}  # by the names of a model

    def state(self, model: Model) -> dict[str, Value]:
        state = self._program.state(model)
        return self._told(state, self._theirs(model, state))

    def gradients(self, model: Model) -> dict[str, Value]:
        return self._told(self._program.gradients(model), self._theirs(model))

    def parameters(self, model: Model) -> list[str]:
        return list(self._told(dict.fromkeys(self._program.parameters(model)), self._theirs(model)))

    def load_state(self, model: Model, state: Mapping[str, Value]) -> None:
        own = {theirs: mine for mine, theirs in self._theirs(model).items()}
        self._program.load_state(model, {own.get(name, name): value for name, value in state.items()})

    def _theirs(self, model: Model, state: Mapping[str, Value] | None = None) -> dict[str, str]:
        """The candidate's names -> the reference's; empty where they are the same or cannot be told."""
        if model not in self._known:
            mine = tuple(self._program.state(model) if state is None else state)
            if mine not in self._paired:
                self._paired[mine] = self._pairs(list(mine))
            self._known[model] = self._paired[mine]
        return self._known[model]

    def _pairs(self, mine: Sequence[str]) -> dict[str, str]:
        if mine == self._names or len(mine) != len(self._names):
            return {}
        if set(mine) == set(self._names):
            return {name: name for name in mine}
        in_order = dict(zip(mine, self._names, strict=True))
        by_likeness = self._by_likeness(mine)
        return by_likeness if _likeness(by_likeness) > MARGIN * _likeness(in_order) else in_order

    def _by_likeness(self, mine: Sequence[str]) -> dict[str, str]:
        waiting, pairs = list(self._names), {}
        for name in mine:
            same = [other for other in waiting if _end(other) == _end(name)]
            pairs[name] = max(same or waiting, key=lambda other: _ratio(name, other))
            waiting.remove(pairs[name])
        return pairs

    def _told(self, values: Mapping[str, Value], theirs: Mapping[str, str]) -> dict[str, Value]:
        if not theirs:
            return dict(values)
        place = {name: index for index, name in enumerate(self._names)}
        pairs = [(theirs.get(name, name), value) for name, value in values.items()]
        return dict(sorted(pairs, key=lambda pair: place.get(pair[0], len(place))))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


def _end(name: str) -> str:
    """`weight` of `blocks.0.linear.weight`."""
    return name.rpartition(".")[2]


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def _likeness(pairs: Mapping[str, str]) -> float:
    return sum(_ratio(mine, theirs) for mine, theirs in pairs.items())
