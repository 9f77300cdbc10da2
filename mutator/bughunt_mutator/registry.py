"""The registry: every operator by id, ours and those that other packages bring."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import libcst as cst

    from bughunt_mutator.operator import Operator

GROUP = "bughunt.operators"

OPERATORS: dict[str, Operator] = {}


def register(operator: Operator) -> None:
    """Add an operator; refuses an id that is taken."""
    if operator.id in OPERATORS:
        raise ValueError(f"there are two operators {operator.id}; rename one")
    OPERATORS[operator.id] = operator


@cache
def load_operators() -> dict[str, Operator]:
    """Import every module that brings operators, and give the registry."""
    import_module("bughunt_mutator.operators")
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        entry.load()
    return OPERATORS


def by_node(only: frozenset[str] | None) -> dict[type[cst.CSTNode], list[Operator]]:
    """The operators that look at each type of node, in the order of their ids."""
    known = load_operators()
    if only is not None and (unknown := sorted(only - known.keys())):
        raise KeyError(f"there is no operator {', '.join(unknown)}")
    table: dict[type[cst.CSTNode], list[Operator]] = {}
    for id_ in sorted(known):
        if only is None or id_ in only:
            for node in known[id_].nodes:
                table.setdefault(node, []).append(known[id_])
    return table
