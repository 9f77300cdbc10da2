"""A rewrite: one way to say the same thing differently, where it can be done, and what shows that it can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal, TypeAlias

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example
from bughunt_mutator.source import SourceFile

Preserves: TypeAlias = Literal["bits", "prose"]

NAMES, EXPRESSIONS, STATEMENTS, BLOCKS = range(4)  # rounds, each on the text that the last one left


class RewriteError(ValueError):
    """A rewrite that is not fit to be registered."""


@dataclass(frozen=True)
class Change:
    """One place rewritten; `drops` are words that the file may not need any more."""

    edits: tuple[Edit, ...]
    drops: frozenset[str] = frozenset()


Finder: TypeAlias = Callable[[SourceFile, "cst.CSTNode"], Iterable[Change]]


@dataclass(frozen=True)
class Rewrite:
    """A finder of places, when it has its turn, how often it is taken, and what it keeps.

    `bits` promises equal results to the last bit, which is proved for each program anew; `prose` touches
    nothing that runs.
    """

    id: str
    nodes: tuple[type[cst.CSTNode], ...]
    turn: int
    odds: float
    preserves: Preserves
    examples: tuple[Example, ...]
    counterexamples: tuple[str, ...]
    find: Finder

    def faults(self) -> Iterator[str]:
        """What this rewrite still lacks, one remedy a line."""
        for name in ("nodes", "examples", "counterexamples"):
            if not getattr(self, name):
                yield f"{self.id} has no {name}; give it one"
        if not self.find.__doc__:
            yield f"{self.id} does not say what it does; give it a docstring"
        for example in self.examples:
            if not example.after or example.before in example.after:
                yield f"{self.id} has an example that changes nothing; list its results"


REWRITES: dict[str, Rewrite] = {}


def rewrite(
    id: str,  # noqa: A002 - the word that operators use for it
    *nodes: type[cst.CSTNode],
    turn: int = EXPRESSIONS,
    odds: float = 0.7,
    preserves: Preserves = "bits",
    examples: tuple[Example, ...] = (),
    counterexamples: tuple[str, ...] = (),
) -> Callable[[Callable[..., Iterable[Change]]], Rewrite]:
    """Register a generator of changes as a rewrite; refuses one that lacks examples."""

    def register(find: Callable[..., Iterable[Change]]) -> Rewrite:
        made = Rewrite(id, nodes, turn, odds, preserves, examples, counterexamples, find)
        if faults := list(made.faults()):
            raise RewriteError("; ".join(faults))
        if id in REWRITES:
            raise RewriteError(f"there are two rewrites {id}; rename one")
        REWRITES[id] = made
        return made

    return register


@cache
def load_rewrites() -> dict[str, Rewrite]:
    """Import every module of rewrites, and give them by id."""
    import_module("bughunt_mutator.rewrites")
    return dict(sorted(REWRITES.items()))


def changes(file: SourceFile, turn: int, leave_out: frozenset[str]) -> Iterator[tuple[Rewrite, str, Change]]:
    """Every place of one round, with the scope it is in."""
    table: dict[type[cst.CSTNode], list[Rewrite]] = {}
    for each in load_rewrites().values():
        if each.turn == turn and each.id not in leave_out:
            for kind in each.nodes:
                table.setdefault(kind, []).append(each)
    for node in file.order:
        for each in table.get(type(node), ()):
            for change in each.find(file, node):
                yield each, file.scope(node), change


def places(text: str, id_: str) -> list[Change]:
    """Every place of a text where one rewrite can be made."""
    one = load_rewrites()[id_]
    file = SourceFile(text)
    return [change for node in file.order if isinstance(node, one.nodes) for change in one.find(file, node)]
