"""Trees: what makes an edited text sound, and different from all others.

Only the statements around an edit are parsed again, as the block that they are in the file. What a mutant
means is told by the smallest run of statements that differs, so two ways to write it are found out.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import TypeAlias

from bughunt_mutator.edit import Edit, apply, in_order
from bughunt_mutator.source import BOM, SourceFile

Meaning: TypeAlias = tuple[object, ...]  # a block, a place in it, how much goes, what comes

NEWLINE = re.compile(r"\r\n?|\n")
SUITES = ("body", "orelse", "finalbody")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LAYOUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
PASS = b"pass"


class Trees:
    """The syntax trees of a file and of its mutants so far, without their docstrings."""

    def __init__(self, file: SourceFile) -> None:
        self.source = file.source
        self.start = len(BOM) if file.source.startswith(BOM) else 0
        self.lines = [self.start, *(end.end() for end in NEWLINE.finditer(file.source))]
        self.root = Suite(self, ast.parse(file.source[self.start :]).body, documented=True)
        self.seen: set[Meaning] = set()

    def is_new(self, edits: Sequence[Edit]) -> bool:
        """Whether the edits give a tree that is valid, as intended, and not seen before."""
        edits = in_order(edits)
        meaning = self.meaning(edits)
        if not meaning or meaning in self.seen:
            return False
        doubtful = any(edit.guarded is not None for edit in edits)
        if doubtful and self.meaning([_guarded(edit) for edit in edits]) != meaning:
            return False
        self.seen.add(meaning)
        return True

    def meaning(self, edits: Sequence[Edit]) -> Meaning | None:
        """What sets the edited tree apart; nothing if it does not parse, empty if nothing does."""
        for suite, first, last in self._around(edits[0].start, edits[-1].end):
            statements = suite.parsed(first, last, edits)
            if statements is not None:
                return suite.difference(first, last, statements)
        try:
            body = ast.parse(apply(self.source, edits)[self.start :]).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        return self.root.difference(0, len(self.root.body) - 1, body)

    def _around(self, start: int, end: int) -> Iterator[tuple[Suite, int, int]]:
        """The runs of statements that hold a stretch of the text, innermost first."""
        path = []
        suite: Suite | None = self.root
        while suite is not None and (found := suite.holds(start, end)) is not None:
            first, last = found
            path.append((suite, first, last))
            inner = suite.inner(first) if first == last else []
            suite = next((each for each in inner if each.holds(start, end)), None)
        for suite, first, last in reversed(path):
            if suite.solid:
                yield suite, first, last
                yield suite, max(first - 1, 0), min(last + 1, len(suite.body) - 1)


class Suite:
    """The statements of one block, the lines that each stands on, and what each means."""

    def __init__(self, trees: Trees, body: Sequence[ast.stmt], *, documented: bool) -> None:
        self.source = trees.source
        self.trees = trees
        self.body = body
        self.documented = documented
        self.known: dict[int, list[Suite]] = {}
        lines, end = trees.lines, [*trees.lines[1:], len(trees.source)]
        self.firsts = [lines[_line(each) - 1] for each in body]
        self.ends = [end[(each.end_lineno or each.lineno) - 1] for each in body]
        self.starts = [self.firsts[0], *self.ends[:-1]] if body else []

    @cached_property
    def solid(self) -> bool:
        """Whether each statement begins a line of its own and could stand by itself."""
        return all(
            self._margin(first) == self._margin(self.firsts[0])
            and not self.source.startswith("elif", first + len(self._margin(first)))
            and self.source.startswith("@", first + len(self._margin(first))) == _is_decorated(each)
            and first + len(self._margin(first)) == first + each.col_offset
            for first, each in zip(self.firsts, self.body, strict=True)
        )

    @cached_property
    def meanings(self) -> list[bytes]:
        return _meanings(self.body, self.documented)

    def holds(self, start: int, end: int) -> tuple[int, int] | None:
        """The first and the last of the statements that a stretch of the text lies in."""
        first = bisect_right(self.starts, start) - 1
        if start == end and first > 0 and self.starts[first] == start:
            first -= 1
        last = bisect_left(self.ends, end)
        if first < 0 or last >= len(self.body):
            return None
        return min(first, last), max(first, last)

    def inner(self, place: int) -> list[Suite]:
        """The blocks of one statement."""
        if place not in self.known:
            node = self.body[place]
            blocks = [block for name in SUITES if (block := getattr(node, name, None))]
            self.known[place] = [
                Suite(self.trees, block, documented=isinstance(node, DOCUMENTED)) for block in blocks
            ]
        return self.known[place]

    def parsed(self, first: int, last: int, edits: Sequence[Edit]) -> list[ast.stmt] | None:
        """The statements that stand in the place of a few after edits, if they are one block."""
        start, end = self.starts[first], self.ends[last]
        moved = [Edit(edit.start - start, edit.end - start, edit.old, edit.new) for edit in edits]
        text = apply(self.source[start:end], moved)
        margin = self._margin(self.firsts[0])
        try:
            body = ast.parse(f"if 1:\n{text}" if margin else text).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        if margin:
            block = body[0] if len(body) == 1 else None
            if not isinstance(block, ast.If) or block.orelse:
                return None
            body = block.body
        if not body or body[0].col_offset != len(margin) or not self._is_closed(text, end):
            return None
        if "\t" in margin + text or "\\" in text:
            return body if _is_at(margin, text, body[0].lineno - (2 if margin else 1)) else None
        return body

    def difference(self, first: int, last: int, statements: Sequence[ast.stmt]) -> Meaning:
        """The smallest change that puts statements in the place of a run of them; empty for none."""
        old = self.meanings
        new = [*old[:first], *_meanings(statements, self.documented and first == 0), *old[last + 1 :]]
        size = min(len(old), len(new))
        head = next((at for at in range(size) if old[at] != new[at]), size)
        tail = next((at for at in range(size - head) if old[-1 - at] != new[-1 - at]), size - head)
        gone, come = len(old) - head - tail, new[head : len(new) - tail]
        if gone == 0 and not come:
            return ()
        if gone == 1 == len(come) and (deeper := self._deeper(head, statements[head - first])):
            return deeper
        return id(self), head, gone, tuple(come)

    def _deeper(self, place: int, new: ast.stmt) -> Meaning:
        """The difference within the one block of a statement that differs, if that is all."""
        old = self.body[place]
        if type(old) is not type(new) or _header(old) != _header(new):
            return ()
        pairs = [(getattr(old, name, []), getattr(new, name, [])) for name in SUITES]
        if any(bool(one) != bool(other) for one, other in pairs):
            return ()
        blocks = [other for one, other in pairs if one]
        documented = isinstance(old, DOCUMENTED)
        differing = [
            (suite, block)
            for suite, block in zip(self.inner(place), blocks, strict=True)
            if suite.meanings != _meanings(block, documented)
        ]
        if len(differing) != 1:
            return ()
        suite, block = differing[0]
        return suite.difference(0, len(suite.body) - 1, block)

    def _is_closed(self, text: str, end: int) -> bool:
        """Whether the line that follows in the file stays a line of its own."""
        if end == len(self.source):
            return True
        return text[-1] in "\r\n" and not text.rstrip("\r\n").endswith("\\")

    def _margin(self, first: int) -> str:
        at = first
        while at < len(self.source) and self.source[at] in " \t\f":
            at += 1
        return self.source[first:at]


def _is_at(margin: str, text: str, line: int) -> bool:
    """Whether a line has just this margin: a tab is one column, and a margin can be continued."""
    lines = NEWLINE.split(text)
    return lines[line].startswith(margin) and not (line and lines[line - 1].endswith("\\"))


def _line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return decorators[0].lineno if decorators else node.lineno


def _is_decorated(node: ast.stmt) -> bool:
    return bool(getattr(node, "decorator_list", None))


def _meanings(body: Sequence[ast.stmt], documented: bool) -> list[bytes]:
    """A digest of each statement of a block; a docstring means no more than `pass`."""
    found = [_meaning(node) for node in body]
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *_] if documented:
            found[0] = PASS
    return found


def _meaning(node: ast.stmt) -> bytes:
    if isinstance(node, ast.Pass):
        return PASS
    digest = blake2b(_header(node).encode("utf-8", "surrogatepass"), digest_size=16)
    for name in SUITES:
        if block := getattr(node, name, None):
            digest.update(name.encode())
            for each in _meanings(block, isinstance(node, DOCUMENTED)):
                digest.update(each)
    return digest.digest()


def _header(node: ast.stmt) -> str:
    """A statement in words, without the blocks that are its own."""
    out: list[str] = [node.__class__.__name__]
    for name in node._fields:
        if name not in SUITES and name not in LAYOUT:
            _write(getattr(node, name, None), out)
    return "\0".join(out)


def _write(value: object, out: list[str]) -> None:
    if isinstance(value, ast.stmt):
        out.append(_meaning(value).hex())
    elif isinstance(value, ast.AST):
        out.append(value.__class__.__name__)
        for name in value._fields:
            if name not in LAYOUT:
                _write(getattr(value, name, None), out)
        out.append(")")
    elif isinstance(value, list):
        out.append("[")
        for each in value:
            _write(each, out)
        out.append("]")
    else:
        out.append(repr(value))


def _guarded(edit: Edit) -> Edit:
    new = edit.new if edit.guarded is None else edit.guarded
    return Edit(edit.start, edit.end, edit.old, new)
