"""The index: where every node of a parsed module stands, from one pass of code generation."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

import libcst as cst
from libcst._nodes.internal import CodegenState

Span: TypeAlias = tuple[int, int]
Node = TypeVar("Node", bound=cst.CSTNode)

RECENT: deque[Index] = deque(maxlen=4)  # where a node that comes without its file is looked up


class Index(CodegenState):
    """A code generator that notes, for each node it writes, its spans and its parent.

    `outer` spans hold parentheses, comments above and separators; `inner` spans do not.
    `order` lists the nodes as they are met, parents first, so what stands in a node is one stretch
    of it: `extent`.
    """

    __slots__ = ("extent", "inner", "kinds", "open", "order", "outer", "parent", "position")

    def __init__(self, module: cst.Module, start: int) -> None:
        super().__init__(default_indent=module.default_indent, default_newline=module.default_newline)
        self.position = start
        self.open: list[tuple[cst.CSTNode, int, int]] = []
        self.extent: dict[cst.CSTNode, tuple[int, int]] = {}
        self.kinds: dict[type[cst.CSTNode], list[int]] = {}
        self.outer: dict[cst.CSTNode, Span] = {}
        self.inner: dict[cst.CSTNode, Span] = {}
        self.parent: dict[cst.CSTNode, cst.CSTNode] = {}
        self.order: list[cst.CSTNode] = []
        module._codegen(self)
        RECENT.appendleft(self)

    def add_indent_tokens(self) -> None:
        self.tokens.extend(self.indent_tokens)
        self.position += sum(map(len, self.indent_tokens))

    def add_token(self, value: str) -> None:
        self.tokens.append(value)
        self.position += len(value)

    def pop_trailing_newline(self) -> None:
        if self.tokens:
            self.position -= len(self.tokens.pop())

    def before_codegen(self, node: cst.CSTNode) -> None:
        if self.open:
            self.parent[node] = self.open[-1][0]
        self.open.append((node, self.position, len(self.order)))
        self.order.append(node)

    def after_codegen(self, node: cst.CSTNode) -> None:
        _, start, place = self.open.pop()
        self.outer[node] = (start, self.position)
        self.extent[node] = (place, len(self.order))

    @contextmanager
    def record_syntactic_position(
        self,
        node: cst.CSTNode,
        *,
        start_node: cst.CSTNode | None = None,
        end_node: cst.CSTNode | None = None,
    ) -> Iterator[None]:
        start = self.position
        yield
        end = self.position
        if start_node is not None:
            start = self.span(start_node)[0]
        if end_node is not None:
            end = self.span(end_node)[1]
        self.inner[node] = (start, end)

    def span(self, node: cst.CSTNode) -> Span:
        """The inner span where there is one, else the outer."""
        return self.inner.get(node) or self.outer[node]

    def of_kind(self, kind: type[cst.CSTNode]) -> list[int]:
        """The places in `order` of all nodes of a type, found once."""
        places = self.kinds.get(kind)
        if places is None:
            places = [place for place, node in enumerate(self.order) if isinstance(node, kind)]
            self.kinds[kind] = places
        return places

    def clamp(self, end: int) -> None:
        """Cut spans off at the end of a text whose last line has no newline."""
        for spans in (self.outer, self.inner):
            for node, (start, stop) in spans.items():
                if stop > end:
                    spans[node] = (min(start, end), end)


def descendants(node: cst.CSTNode) -> Sequence[cst.CSTNode]:
    """The node and everything in it, in the order of the text."""
    for index in RECENT:
        if (extent := index.extent.get(node)) is not None:
            return index.order[slice(*extent)]
    found = [node]
    for child in node.children:
        found += descendants(child)
    return found


def inside(node: cst.CSTNode, kind: type[Node]) -> Iterator[Node]:
    """The nodes of one type within a node, itself included, in the order of the text."""
    for index in RECENT:
        if (extent := index.extent.get(node)) is not None:
            places = index.of_kind(kind)
            stretch = places[bisect_left(places, extent[0]) : bisect_left(places, extent[1])]
            yield from (each for at in stretch if isinstance(each := index.order[at], kind))
            return
    yield from (each for each in descendants(node) if isinstance(each, kind))
