"""Programs of several files: the mutants of all of them, and one disguise over all of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from bughunt_mutator.disguise import Disguise, disguise
from bughunt_mutator.edit import Edit, apply
from bughunt_mutator.engine import Mutant, enumerate_mutants
from bughunt_mutator.facts import NOTHING, Facts

Tree: TypeAlias = Mapping[str, str]  # path -> text

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class TreeDisguise:
    """The disguised files of a program, and the mutants that were kept in mind."""

    covers: Mapping[str, Disguise]
    mutants: Sequence[Mutant] = ()

    @property
    def files(self) -> dict[str, str]:
        return {path: cover.text for path, cover in self.covers.items()}

    @property
    def used(self) -> Counter[str]:
        """How often each rewrite was made."""
        return sum((cover.used for cover in self.covers.values()), Counter())

    def broken(self, which: Iterable[int] | None = None) -> dict[str, str]:
        """The disguised program with some of the mutants in it, by number, or with all of them."""
        chosen = range(len(self.mutants)) if which is None else which
        own: dict[str, list[int]] = {}
        for number in chosen:
            path = self.mutants[number].path
            before = [mutant for mutant in self.mutants[:number] if mutant.path == path]
            own.setdefault(path, []).append(len(before))
        return {**self.files, **{path: self.covers[path].broken(numbers) for path, numbers in own.items()}}


def enumerate_tree(
    tree: Tree, only: Iterable[str] | None = None, facts: Mapping[str, Facts] | None = None
) -> list[Mutant]:
    """Every mutant of every file, each with its path; one mistake is in one file, facts are by file."""
    wanted = None if only is None else frozenset(only)
    return [
        replace(mutant, path=path, key=mutant.key if len(tree) == 1 else f"{path}:{mutant.key}")
        for path in sorted(tree)
        for mutant in enumerate_mutants(tree[path], wanted, (facts or {}).get(path, NOTHING))
    ]


def mutated(tree: Tree, *mutants: Mutant) -> dict[str, str]:
    """The program with the mutants in it; EditError where two of them touch the same text."""
    edits: dict[str, list[Edit]] = {}
    for mutant in mutants:
        edits.setdefault(mutant.path, []).extend(mutant.edits)
    return {**tree, **{path: apply(tree[path], each) for path, each in edits.items()}}


def disguise_tree(
    tree: Tree,
    seed: int,
    keep: frozenset[str] = frozenset(),
    mutants: Sequence[Mutant] = (),
    leave_out: frozenset[str] = frozenset(),
) -> TreeDisguise:
    """Disguise every file; what another file mentions keeps its name."""
    words = {path: frozenset(WORD.findall(text)) for path, text in tree.items()}
    covers = {}
    for path, text in sorted(tree.items()):
        others = [found for other, found in words.items() if other != path]
        bugs = [mutant.edits for mutant in mutants if mutant.path == path]
        covers[path] = disguise(text, seed, keep.union(*others), bugs, leave_out)
    return TreeDisguise(covers, tuple(mutants))
