"""Aliases: what the names that a file imports stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

ASSIGNING = (
    cst.AssignTarget,
    cst.AugAssign,
    cst.AnnAssign,
    cst.NamedExpr,
    cst.For,
    cst.CompFor,
)


TELLING = frozenset(
    {
        *ASSIGNING,
        cst.Import,
        cst.ImportFrom,
        cst.WithItem,
        cst.ExceptHandler,
        cst.Param,
        cst.FunctionDef,
        cst.ClassDef,
    }
)


class Aliases:
    """The imported names of a file, less those that mean something else anywhere in it."""

    def __init__(self, order: Iterable[cst.CSTNode]) -> None:
        imported: dict[str, set[str]] = {}
        bound: set[str] = set()
        for node in order:
            if type(node) not in TELLING:
                continue
            for name, target in _imports(node):
                imported.setdefault(name, set()).add(target)
            bound.update(_bindings(node))
        self.table = {
            name: next(iter(targets))
            for name, targets in sorted(imported.items())
            if len(targets) == 1 and name not in bound
        }

    def qname(self, node: cst.CSTNode) -> str | None:
        """The dotted name behind a name or an attribute of an imported name."""
        parts = []
        while isinstance(node, cst.Attribute):
            parts.append(node.attr.value)
            node = node.value
        if not isinstance(node, cst.Name) or node.value not in self.table:
            return None
        return ".".join([self.table[node.value], *reversed(parts)])

    def spelling(self, qname: str) -> str | None:
        """The shortest way to write a full name with the names imported here."""
        written = [
            name + qname[len(target) :]
            for name, target in self.table.items()
            if qname == target or qname.startswith(f"{target}.")
        ]
        return min(written, key=lambda text: (text.count("."), text), default=None)


def _imports(node: cst.CSTNode) -> Iterator[tuple[str, str]]:
    if isinstance(node, cst.Import):
        for alias in node.names:
            full = dotted(alias.name)
            if alias.asname is None:
                full = full.split(".")[0]
            yield _name(alias) if alias.asname else full, full
    elif isinstance(node, cst.ImportFrom) and not isinstance(node.names, cst.ImportStar):
        base = "." * len(node.relative) + (dotted(node.module) + "." if node.module else "")
        for alias in node.names:
            yield _name(alias), base + dotted(alias.name)


def _bindings(node: cst.CSTNode) -> Iterator[str]:
    """The names that a node binds otherwise than by import."""
    if isinstance(node, ASSIGNING):
        yield from targets(node.target)
    elif isinstance(node, cst.WithItem) and node.asname is not None:
        yield from targets(node.asname.name)
    elif isinstance(node, cst.ExceptHandler) and node.name is not None:
        yield from targets(node.name.name)
    elif isinstance(node, cst.Param | cst.FunctionDef | cst.ClassDef):
        yield node.name.value


def targets(node: cst.CSTNode) -> Iterator[str]:
    """The plain names that an assignment target binds."""
    if isinstance(node, cst.Name):
        yield node.value
    elif isinstance(node, cst.Tuple | cst.List):
        for element in node.elements:
            yield from targets(element.value)


def dotted(node: cst.CSTNode) -> str:
    """A name of an import statement, its dots included."""
    if isinstance(node, cst.Attribute):
        return f"{dotted(node.value)}.{node.attr.value}"
    return node.value if isinstance(node, cst.Name) else ""


def _name(alias: cst.ImportAlias) -> str:
    if alias.asname is None:
        return dotted(alias.name)
    return dotted(alias.asname.name)
