"""Programs of several files: the mutants of all of them, and one disguise over all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from bughunt_mutator.disguise import Disguise, disguise
from bughunt_mutator.edit import apply
from bughunt_mutator.engine import Mutant, enumerate_mutants

Tree: TypeAlias = Mapping[str, str]  # path -> text

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class TreeDisguise:
    """The renamed files of a program."""

    covers: Mapping[str, Disguise]

    @property
    def files(self) -> dict[str, str]:
        return {path: cover.text for path, cover in self.covers.items()}

    def broken(self, original: Tree, mutant: Mutant) -> dict[str, str]:
        """The disguised program with the mutant in it."""
        cover = self.covers[mutant.path]
        edits = cover.carry(original[mutant.path], mutant.edits)
        return {**self.files, mutant.path: apply(cover.text, edits)}


def enumerate_tree(tree: Tree, only: Iterable[str] | None = None) -> list[Mutant]:
    """Every mutant of every file, each with its path; one mistake is in one file."""
    wanted = None if only is None else frozenset(only)
    return [
        replace(mutant, path=path, key=mutant.key if len(tree) == 1 else f"{path}:{mutant.key}")
        for path in sorted(tree)
        for mutant in enumerate_mutants(tree[path], wanted)
    ]


def mutated(tree: Tree, mutant: Mutant) -> dict[str, str]:
    """The program with the mutant in it."""
    return {**tree, mutant.path: mutant.apply(tree[mutant.path])}


def disguise_tree(tree: Tree, seed: int, keep: frozenset[str] = frozenset()) -> TreeDisguise:
    """Rename what only its own file knows; what another file mentions keeps its name."""
    words = {path: frozenset(WORD.findall(text)) for path, text in tree.items()}
    covers = {}
    for path, text in sorted(tree.items()):
        others = [found for other, found in words.items() if other != path]
        covers[path] = disguise(text, seed, keep=keep.union(*others))
    return TreeDisguise(covers)
