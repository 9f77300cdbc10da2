"""An operator: one kind of mistake, where it can be made and what there is to say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias

import libcst as cst

from bughunt_mutator import registry
from bughunt_mutator.edit import Edit
from bughunt_mutator.rows import load_rows
from bughunt_mutator.source import SourceFile

Value: TypeAlias = str | int | float | bool | None

NOTHING: Mapping[str, Value] = MappingProxyType({})


class OperatorError(ValueError):
    """An operator that is not fit to be registered."""


@dataclass(frozen=True)
class Proposal:
    """One way to make the mistake at one site; `row` is empty where the operator has one row."""

    edits: tuple[Edit, ...]
    row: str = ""
    params: Mapping[str, Value] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True)
class Example:
    """A text and every text that the operator makes of it."""

    before: str
    after: tuple[str, ...]
    row: str = ""


Finder: TypeAlias = Callable[[SourceFile, "cst.CSTNode"], Iterable[Proposal]]


@dataclass(frozen=True)
class Operator:
    """A finder of sites, and the words that a player reads about the mistake.

    `facts` say what the names in the examples are, for an operator that needs a program that was run; see
    `facts.told`.
    """

    id: str
    nodes: tuple[type[cst.CSTNode], ...]
    rows: tuple[str, ...]
    category: str
    difficulty: int
    symptom: str
    hints: tuple[str, ...]
    repair: str
    mechanism: str
    evidence: tuple[str, ...]
    examples: tuple[Example, ...]
    counterexamples: tuple[str, ...]
    find: Finder
    facts: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def is_general(self) -> bool:
        """Whether it stands beside the catalogue."""
        return load_rows().keys().isdisjoint(self.rows)

    def propose(self, file: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
        """Every proposal at this node."""
        yield from self.find(file, node)

    def hints_in(self, function: str) -> tuple[str, ...]:
        """The hints with `{function}` filled in."""
        return tuple(hint.replace("{function}", function) for hint in self.hints)

    def faults(self) -> Iterator[str]:
        """What this operator still lacks, one remedy a line."""
        for name in NEEDED:
            if not getattr(self, name):
                yield f"{self.id} has no {name}; give it one"
        if 0 < len(self.hints) < 3:
            yield f"{self.id} has {len(self.hints)} hints; give three: look, where, what"
        if not 1 <= self.difficulty <= 5:
            yield f"{self.id} has difficulty {self.difficulty}; choose 1 to 5"
        for example in self.examples:
            if not example.after or example.before in example.after:
                yield f"{self.id} has an example that changes nothing; list its mutants"
            if example.row and example.row not in self.rows:
                yield f"{self.id} has an example for {example.row}; add it to rows"


NEEDED = (
    "nodes",
    "rows",
    "category",
    "symptom",
    "hints",
    "repair",
    "mechanism",
    "examples",
    "counterexamples",
)


def operator(
    id: str,  # noqa: A002 - the word that people use for it
    *nodes: type[cst.CSTNode],
    category: str,
    difficulty: int,
    rows: tuple[str, ...] = (),
    symptom: str = "",
    hints: tuple[str, ...] = (),
    repair: str = "",
    mechanism: str = "",
    evidence: tuple[str, ...] = (),
    examples: tuple[Example, ...] = (),
    counterexamples: tuple[str, ...] = (),
    facts: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Iterable[Proposal]]], Operator]:
    """Register a generator of proposals as an operator; refuses one that lacks its words."""

    def register(find: Callable[..., Iterable[Proposal]]) -> Operator:
        made = Operator(
            id=id,
            nodes=nodes,
            rows=rows or (id,),
            category=category,
            difficulty=difficulty,
            symptom=symptom,
            hints=hints,
            repair=repair,
            mechanism=mechanism,
            evidence=evidence,
            examples=examples,
            counterexamples=counterexamples,
            find=find,
            facts=facts or {},
        )
        if faults := list(made.faults()):
            raise OperatorError("; ".join(faults))
        registry.register(made)
        return made

    return register
