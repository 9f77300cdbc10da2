"""Instrumenting: a text every expression of which is shown to a recorder as it is computed.

The recorder is a module beside the program with a function `see(number, value)` that gives the value back.
What it makes of the values is its own affair; the text says only which expression has which number.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from bughunt_mutator.facts import Places, Span

SEE = "see_value"
UNSEEN = ("self", "cls", "super")
SHOWN = (
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.Call,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.IfExp,
    ast.BoolOp,
)


@dataclass(frozen=True)
class Instrumented:
    """A text that shows its expressions, and their spans in the order of their numbers."""

    text: str
    spans: tuple[Span, ...]


def instrument(text: str, recorder: str, first: int = 0) -> Instrumented | None:
    """The text with each expression wrapped in a call of `recorder`, numbered from `first`.

    None where there is no place for the import that this needs.
    """
    places = Places(text)
    see = SEE
    while see in text:
        see += "_"
    place = _import_place(places)
    if place is None:
        return None
    spans = sorted({places.span(node) for node in _shown(places.tree)}, key=lambda span: (span[0], -span[1]))
    marks = [(place, 1, 0, f"from {recorder} import see as {see}\n")]
    for number, (start, end) in enumerate(spans, first):
        marks.append((start, 2, number, f"{see}({number}, "))
        marks.append((end, 0, -number, ")"))
    return Instrumented(_spliced(text, sorted(marks)), tuple(spans))


def _spliced(text: str, marks: list[tuple[int, int, int, str]]) -> str:
    pieces: list[str] = []
    at = 0
    for place, _, _, new in marks:
        pieces += text[at:place], new
        at = place
    return "".join([*pieces, text[at:]])


def _import_place(places: Places) -> int | None:
    """The start of the line of the first statement that an import may come before."""
    body = places.tree.body
    past = 0
    while past < len(body) and _is_prologue(body[past], past):
        past += 1
    if past == len(body):
        return None
    node = body[past]
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    line = min([node.lineno, *(each.lineno for each in decorators)])
    if past and (body[past - 1].end_lineno or 0) >= line:
        return None
    return places.begins[line - 1]


def _is_prologue(node: ast.stmt, place: int) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__"
    return place == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _shown(tree: ast.Module) -> Iterator[ast.expr]:
    """The expressions whose value can be looked at without changing what the program does."""
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, SHOWN) and _is_value(node, imported):
            yield node
        waiting += _parts(node)


def _is_value(node: ast.expr, imported: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return isinstance(node.ctx, ast.Load) and node.id not in imported and node.id not in UNSEEN
    if isinstance(node, ast.Attribute | ast.Subscript):
        return isinstance(node.ctx, ast.Load)
    return not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super")


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """What is computed as part of a node; no annotation, decorator, base class, pattern or f-string."""
    match node:
        case ast.JoinedStr():
            return
        case ast.Call(func=ast.Name()):
            yield from (*node.args, *node.keywords)
        case ast.Call(func=ast.Attribute(value=receiver)):
            yield from (receiver, *node.args, *node.keywords)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            defaults = (*node.args.defaults, *node.args.kw_defaults)
            yield from (*(each for each in defaults if each is not None), *node.body)
        case ast.Lambda():
            yield node.body
        case ast.ClassDef():
            yield from node.body
        case ast.AnnAssign():
            yield from (each for each in (node.target, node.value) if each is not None)
        case ast.match_case():
            yield from (each for each in (node.guard, *node.body) if each is not None)
        case ast.ExceptHandler():
            yield from node.body
        case _:
            yield from ast.iter_child_nodes(node)
