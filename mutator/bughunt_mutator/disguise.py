"""A disguise: the same program under other names, so that a comparison of texts says little."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import libcst as cst

from bughunt_mutator.edit import Edit, apply
from bughunt_mutator.scopes import CLASS, MODULE, Names, Scope
from bughunt_mutator.source import SourceFile
from bughunt_mutator.words import affixed, synonyms

Key: TypeAlias = tuple[str, str]

SEES_NAMES = frozenset({"locals", "eval", "exec", "globals", "vars", "dir"})
SHOWS_NAMES = frozenset({"__name__", "__qualname__"})
PLAIN = frozenset({"assigned", "def", "class"})
DEFINED = frozenset({"def", "class"})
TAKEN = frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins))
QUOTING = (cst.SimpleString, cst.FormattedStringText)
WORD = re.compile(r"\w+")


class DisguiseError(ValueError):
    """A program that cannot be renamed with its behaviour kept."""


@dataclass(frozen=True)
class Disguise:
    """A renamed text, and the new name for each scope and old name."""

    text: str
    names: Mapping[Key, str]

    def apply_to(self, other: str) -> str:
        """Another version of the program under the same names."""
        return _rename(SourceFile(other), self.names)

    def carry(self, original: str, edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
        """The edits that make of the disguised text what `edits` make of the original."""
        changed = self.apply_to(apply(original, edits))
        start = _shared(self.text, changed)
        rest = min(len(self.text), len(changed)) - start
        end = min(_shared(self.text[::-1], changed[::-1]), rest)
        old, new = (text[start : len(text) - end] for text in (self.text, changed))
        return (Edit(start, start + len(old), old, new),) if old or new else ()


def disguise(text: str, seed: int, keep: frozenset[str] = frozenset()) -> Disguise:
    """Rename locals, loop variables and the functions and classes that are not to be kept."""
    file = SourceFile(text)
    names = Names(file.module)
    if seeing := sorted(SEES_NAMES & names.builtins()):
        raise DisguiseError(f"the program looks at its own names with {', '.join(seeing)}")
    used = set(WORD.findall(text)) | TAKEN
    meanings: dict[str, str] = {}
    chosen: dict[Key, str] = {}
    for key in dict.fromkeys(_renamable(file, names, keep)):
        for new in _drawn(key, seed):
            if new not in used and meanings.setdefault(new, key[1]) == key[1]:
                chosen[key] = new
                break
    return Disguise(_rename(file, chosen), chosen)


def _renamable(file: SourceFile, names: Names, keep: frozenset[str]) -> Iterator[Key]:
    """The bindings that nothing outside the code itself refers to by name."""
    fixed = _printed(file) | _legend(file)
    by_hand = keep | _quoted(file)
    shows = any(isinstance(node, cst.Attribute) and node.attr.value in SHOWS_NAMES for node in file.order)
    for scope, name in names.bindings():
        ways = scope.ways[name]
        if name in fixed or name.isupper() or name == "_" or name.startswith("__"):
            continue
        if not _is_plain(scope, name) or _is_bound_in_class(names, scope, name):
            continue
        if (scope.kind == MODULE and name in by_hand) or (shows and ways & DEFINED):
            continue
        yield scope.path, name


def _is_plain(scope: Scope, name: str) -> bool:
    """Whether a name is a local, or a function or class of the module, and nothing else."""
    if scope.kind == CLASS:
        return False
    return scope.ways[name] <= (DEFINED if scope.kind == MODULE else PLAIN)


def _is_bound_in_class(names: Names, owner: Scope, name: str) -> bool:
    """Whether a class inside the scope binds the name too, so that its body may mean either."""
    return any(
        scope.kind == CLASS and name in scope.ways and owner in scope.ancestors() for scope in names.scopes
    )


def _printed(file: SourceFile) -> set[str]:
    """The names that a format string shows with `=`."""
    found = set()
    for node in file.order:
        if isinstance(node, cst.FormattedStringExpression) and node.equal is not None:
            found.update(WORD.findall(file.text(node)))
    return found


def _legend(file: SourceFile) -> set[str]:
    """The words of comments and docstrings that can only be names: short, or not plain words."""
    prose = [node.value for node in file.order if isinstance(node, cst.Comment)]
    prose += [file.text(node) for node in file.order if _is_docstring(file, node)]
    words = set(WORD.findall(" ".join(prose)))
    return {word for word in words if len(word) <= 2 or not (word.isalpha() and word.islower())}


def _quoted(file: SourceFile) -> set[str]:
    """The words in strings, by which a program may look a function or class up."""
    found: set[str] = set()
    for node in file.order:
        if isinstance(node, QUOTING) and not _is_docstring(file, node):
            found.update(WORD.findall(node.value))
    return found


def _is_docstring(file: SourceFile, node: cst.CSTNode) -> bool:
    strings = cst.SimpleString | cst.ConcatenatedString
    return isinstance(node, strings) and isinstance(file.parent[node], cst.Expr)


def _drawn(key: Key, seed: int) -> Iterator[str]:
    """The candidates for a name in an order of the seed's; affixes only as a last resort."""
    for candidates in (synonyms(key[1]), affixed(key[1])):
        yield from sorted(candidates, key=lambda word: _draw(seed, *key, word))


def _draw(*parts: object) -> bytes:
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()


def _rename(file: SourceFile, chosen: Mapping[Key, str]) -> str:
    """The file with every chosen binding under its new name."""
    if clash := sorted(set(WORD.findall(file.source)) & set(chosen.values())):
        raise DisguiseError(f"the text already says {', '.join(clash)}; use another seed")
    edits = [
        file.edit(*file.index.span(node), chosen[scope.path, name])
        for (scope, name), nodes in Names(file.module).bindings().items()
        if (scope.path, name) in chosen and _is_plain(scope, name)
        for node in nodes
    ]
    return apply(file.source, edits)


def _shared(one: str, two: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(two)))
