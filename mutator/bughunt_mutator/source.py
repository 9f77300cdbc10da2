"""A source file: parsed once, indexed once, and asked for places and edits ever after."""

from __future__ import annotations

import ast
from typing import TypeVar

import libcst as cst

from bughunt_mutator import layout, precedence
from bughunt_mutator.aliases import Aliases
from bughunt_mutator.edit import Edit
from bughunt_mutator.facts import NOTHING, Fact, Facts
from bughunt_mutator.forecast import Forecast
from bughunt_mutator.index import Index, Span
from bughunt_mutator.refusals import SourceError, line_of, refuse

BOM = "\ufeff"
Definition = TypeVar("Definition", cst.FunctionDef, cst.ClassDef)
STATEMENTS = (cst.SimpleStatementLine, cst.BaseCompoundStatement)


class SourceFile:
    """The text of one Python file, its tree, and where each node stands in the text."""

    def __init__(self, text: str, facts: Facts = NOTHING) -> None:
        refuse(text)
        start = len(BOM) if text.startswith(BOM) else 0
        try:
            self.module = cst.parse_module(text[start:])
        except cst.ParserSyntaxError as error:
            raise SourceError(f"line {error.raw_line}: {error.message}") from error
        index = Index(self.module, start)
        if (written := "".join(index.tokens)) != text[start:]:
            same = zip(written, text[start:], strict=False)
            at = next((at for at, (one, two) in enumerate(same) if one != two), len(written))
            raise SourceError(
                f"line {line_of(text, start + at)}: the parser does not give this back unchanged"
            )
        index.clamp(len(text))
        self.source = text
        self.index = index
        self.outer, self.inner = index.outer, index.inner
        self.parent, self.order = index.parent, index.order
        self.newline = self.module.default_newline
        self.aliases = Aliases(index.order)
        self.facts = facts
        self.forecast = Forecast(text, facts, self.aliases.table) if facts else None

    # Reading

    def qname(self, node: cst.CSTNode) -> str | None:
        """The full name of what an expression refers to, if it can only be one import."""
        return self.aliases.qname(node)

    def span(self, node: cst.CSTNode) -> Span:
        """An expression with its parentheses; anything else without comments and separators."""
        return self.outer[node] if isinstance(node, cst.BaseExpression) else self.index.span(node)

    def text(self, node: cst.CSTNode) -> str:
        """The node as it stands in the file."""
        start, end = self.span(node)
        return self.source[start:end]

    def spelling(self, qname: str) -> str | None:
        """How this file writes a full name, if it imports what leads to it."""
        return self.aliases.spelling(qname)

    def indent(self, node: cst.CSTNode) -> str:
        """The white space before the line that a node starts on."""
        return layout.indent(self, self.index.span(node)[0])

    def arg(self, call: cst.Call, name: str | None, position: int | None) -> cst.Arg | None:
        """The argument passed under a keyword or at a position; nothing behind a star."""
        for place, arg in enumerate(call.args):
            if arg.star:
                position = None if arg.star == "*" else position
            elif arg.keyword is None:
                if place == position:
                    return arg
            elif arg.keyword.value == name:
                return arg
        return None

    def statement(self, node: cst.CSTNode) -> cst.CSTNode:
        """The statement line or compound statement that a node is in."""
        while not isinstance(node, STATEMENTS):
            node = self.parent[node]
        return node

    def function(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        """The innermost function whose definition holds the node."""
        return self._enclosing(node, cst.FunctionDef)

    def class_(self, node: cst.CSTNode) -> cst.ClassDef | None:
        """The innermost class whose definition holds the node."""
        return self._enclosing(node, cst.ClassDef)

    def scope(self, node: cst.CSTNode) -> str:
        """The dotted path of the classes and functions around a node, or `<module>`."""
        path, at = [], self.parent.get(node)
        while at is not None:
            if isinstance(at, cst.FunctionDef | cst.ClassDef):
                path.append(at.name.value)
            at = self.parent.get(at)
        return ".".join(reversed(path)) or "<module>"

    def siblings(self, node: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
        """The statements of the suite that a statement is in, itself included."""
        body = getattr(self.parent.get(node), "body", ())
        return tuple(body) if isinstance(body, list | tuple) else ()

    def line(self, node: cst.CSTNode) -> int:
        """The line that a node starts on, from 1."""
        return line_of(self.source, self.span(node)[0])

    def seen(self, node: cst.CSTNode) -> tuple[Fact, ...]:
        """What an expression was seen to be; nothing where the program was not run."""
        found = self.facts.get(self.inner.get(node) or self.outer[node])
        return found.facts if found is not None else ()

    # Writing

    def edit(self, start: int, end: int, new: str) -> Edit:
        """The edit that puts `new` in the place of a stretch of the file."""
        return Edit(start, end, self.source[start:end], new)

    def replace(self, node: cst.CSTNode, new: str) -> Edit:
        """The edit that puts a text in the place of a node, in parentheses where it needs them."""
        start, end = self.span(node)
        if not isinstance(node, cst.BaseExpression):
            return self.edit(start, end, layout.lined(self, new))
        level = precedence.level(new)
        if level is None:
            return self.edit(start, end, new)
        if level < precedence.asked(node, self.parent[node]) or self._breaks_line(node, new):
            new = f"({new})"
        if isinstance(self.parent[node], cst.Attribute) and new.isdecimal():
            new = f"({new})"
        new = layout.spaced(self.source, start, end, new)
        guarded = None if level == precedence.ATOM else f" ({new}) "
        return Edit(start, end, self.source[start:end], new, guarded)

    def delete_statement(self, node: cst.CSTNode) -> Edit:
        """The edit that takes a statement away with the comments above it."""
        return layout.deletion(self, node)

    def insert_before(self, statement: cst.CSTNode, new: str) -> Edit:
        """The edit that puts lines before a statement and the comments above it.

        Only the first line is indented; the others stand as they are given.
        """
        return layout.insertion_before(self, statement, new)

    def insert_after(self, statement: cst.CSTNode, new: str) -> Edit:
        """The edit that puts lines after a statement; only the first is indented."""
        return layout.insertion_after(self, statement, new)

    def swap(self, one: cst.CSTNode, two: cst.CSTNode) -> tuple[Edit, Edit]:
        """The edits that exchange the texts of two nodes."""
        return self.replace(one, self.text(two)), self.replace(two, self.text(one))

    def delete_arg(self, call: cst.Call, arg: cst.Arg) -> Edit:
        """The edit that takes an argument away with one comma."""
        return layout.argument_deletion(self, call, arg)

    def insert_arg(self, call: cst.Call, new: str) -> Edit:
        """The edit that passes one more argument, after all others."""
        return layout.argument_insertion(self, call, new)

    def _enclosing(self, node: cst.CSTNode, kind: type[Definition]) -> Definition | None:
        at: cst.CSTNode | None = node
        while at is not None and not isinstance(at, kind):
            at = self.parent.get(at)
        return at

    def _breaks_line(self, node: cst.CSTNode, new: str) -> bool:
        """Whether a text of several lines stands in no bracket of its own or of others."""
        if "\n" not in new or _parses(new):
            return False
        at = self.parent[node]
        while not isinstance(at, STATEMENTS):
            if isinstance(at, precedence.BRACKETS) or getattr(at, "lpar", None):
                return False
            at = self.parent[at]
        return True


def _parses(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True
