"""Renaming: the same program under other names, drawn by a seed."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import libcst as cst

from bughunt_mutator.edit import apply
from bughunt_mutator.scopes import CLASS, FUNCTION, MODULE, Names, Scope
from bughunt_mutator.source import SourceFile
from bughunt_mutator.words import affixed, synonyms

Key: TypeAlias = tuple[str, str]

SEES_NAMES = frozenset({"locals", "eval", "exec", "globals", "vars", "dir"})
SHOWS_NAMES = frozenset({"__name__", "__qualname__"})
PLAIN = frozenset({"assigned", "def", "class", "parameter"})
DEFINED = frozenset({"def", "class"})
TAKEN = frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins))
QUOTING = (cst.SimpleString, cst.FormattedStringText)
WORD = re.compile(r"\w+")
WIDTH = 110
ROUNDS = 8


class DisguiseError(ValueError):
    """A program that cannot be renamed with its behaviour kept."""


@dataclass(frozen=True)
class Renaming:
    """A renamed text, and the new name for each scope and old name."""

    text: str
    names: Mapping[Key, str]

    def apply_to(self, other: str) -> str:
        """Another version of the program under the same names."""
        file = SourceFile(other)
        return _rename(file, Names(file), self.names)


def rename(
    text: str,
    seed: int,
    keep: frozenset[str] = frozenset(),
    beside: str = "",
    fresh: frozenset[str] = frozenset(),
) -> Renaming:
    """Other names for locals, parameters that are passed by position, and what is not to be kept.

    No word of `beside` becomes a new name, and no parameter that it mentions gets one. Fresh names get no
    longer ones.
    """
    file = SourceFile(text)
    names = Names(file)
    if seeing := sorted(SEES_NAMES & names.builtins()):
        raise DisguiseError(f"the program looks at its own names with {', '.join(seeing)}")
    used = set(WORD.findall(text)) | set(WORD.findall(beside)) | TAKEN
    meanings: dict[str, str] = {}
    chosen: dict[Key, str] = {}
    functions = {(scope.path, name) for scope, name in names.bindings() if "def" in scope.ways[name]}
    for key in dict.fromkeys(_renamable(file, names, keep, beside)):
        longer = () if key[1] in fresh else affixed(key[1], key in functions)
        for new in _drawn(key, seed, longer):
            if new not in used and meanings.setdefault(new, key[1]) == key[1]:
                chosen[key] = new
                break
    for _ in range(ROUNDS):
        renamed = _rename(file, names, chosen)
        if not (wide := _too_wide(file, renamed)):
            break
        _shorten(chosen, wide, used)
    return Renaming(renamed, chosen)


def _too_wide(file: SourceFile, renamed: str) -> set[str]:
    """The words of lines that the new names made too long."""
    pairs = zip(file.source.splitlines(), renamed.splitlines(), strict=True)
    lines = [new for old, new in pairs if len(new) > max(WIDTH, len(old))]
    return set(WORD.findall("\n".join(lines)))


def _shorten(chosen: dict[Key, str], wide: set[str], used: set[str]) -> None:
    """A shorter name, or the old one, for what stands in a line that is too long."""
    taken = used | set(chosen.values())
    for key in [key for key, new in chosen.items() if new in wide and len(new) > len(key[1])]:
        short = [word for word in synonyms(key[1]) if len(word) <= len(key[1]) and word not in taken]
        if short:
            chosen[key] = min(short, key=lambda word: (len(word), word))
            taken.add(chosen[key])
        else:
            del chosen[key]


def _renamable(file: SourceFile, names: Names, keep: frozenset[str], beside: str) -> Iterator[Key]:
    """The bindings that nothing outside the code itself refers to by name."""
    fixed = _printed(file) | _legend(file)
    by_hand = keep | _quoted(file)
    passed = keep | _keywords(file) | set(WORD.findall(beside))
    shows = any(isinstance(node, cst.Attribute) and node.attr.value in SHOWS_NAMES for node in file.order)
    for scope, name in names.bindings():
        ways = scope.ways[name]
        if name in fixed or name.isupper() or name == "_" or name.startswith("__"):
            continue
        if not _is_plain(scope, name) or _is_bound_in_class(names, scope, name):
            continue
        if "parameter" in ways and (name in passed or not _takes_by_position(scope, keep)):
            continue
        if (scope.kind == MODULE and name in by_hand) or (shows and ways & DEFINED):
            continue
        yield scope.path, name


def _is_plain(scope: Scope, name: str) -> bool:
    """Whether a name is a local, or a function or class of the module, and nothing else."""
    if scope.kind == CLASS:
        return False
    return scope.ways[name] <= (DEFINED if scope.kind == MODULE else PLAIN)


def _takes_by_position(scope: Scope, keep: frozenset[str]) -> bool:
    """Whether nobody outside the file can name the parameters of a function: a helper, or a method.

    The first parameter of a method keeps its name, and so do those of a constructor.
    """
    name = scope.path.rpartition(".")[2]
    if scope.kind != FUNCTION or name.startswith("__"):
        return False
    return name not in keep or scope.path != name


def _keywords(file: SourceFile) -> set[str]:
    """The names by which arguments are passed anywhere in the file."""
    args = [node for node in file.order if isinstance(node, cst.Arg)]
    return {"self", "cls"} | {arg.keyword.value for arg in args if arg.keyword is not None}


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


def _drawn(key: Key, seed: int, longer: tuple[str, ...]) -> Iterator[str]:
    """The candidates for a name in an order of the seed's; longer names only as a last resort."""
    for candidates in (synonyms(key[1]), longer):
        yield from sorted(candidates, key=lambda word: _draw(seed, *key, word))


def _draw(*parts: object) -> bytes:
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()


def _rename(file: SourceFile, names: Names, chosen: Mapping[Key, str]) -> str:
    """The file with every chosen binding under its new name."""
    if clash := sorted(set(WORD.findall(file.source)) & set(chosen.values())):
        raise DisguiseError(f"the text already says {', '.join(clash)}; use another seed")
    edits = [
        file.edit(*file.index.span(node), chosen[scope.path, name])
        for (scope, name), nodes in names.bindings().items()
        if (scope.path, name) in chosen and _is_plain(scope, name)
        for node in nodes
    ]
    return apply(file.source, edits)
