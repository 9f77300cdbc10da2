"""Order: functions, methods and fields in another sequence, where no one depends on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import BLOCKS, Change, rewrite
from bughunt_mutator.rewrites.look import WORD, is_number, only, words
from bughunt_mutator.source import SourceFile

FAR = 3


@rewrite(
    "function-order",
    cst.FunctionDef,
    turn=BLOCKS,
    odds=0.25,
    examples=(
        Example(
            "x = 1\n\n\ndef f():\n    return g()\n\n\ndef g():\n    return 1\n",
            ("x = 1\n\n\ndef g():\n    return 1\n\n\ndef f():\n    return g()\n",),
        ),
    ),
    counterexamples=(
        "def f():\n    return 1\n\n\n@f\ndef g():\n    return 1\n",
        "def f():\n    return 1\nx = f()\n",
        "def f():\n    return 1\n\n\ndef g(a=f()):\n    return a\n",
        "class A:\n    def f(self):\n        return 1\n",
    ),
)
def function_order(file: SourceFile, node: cst.FunctionDef) -> Iterator[Change]:
    """A function of the module moved behind others that do not need it when they are defined."""
    if file.parent[node] is not file.module:
        return
    yield from _moves(file, node, [each for each in file.module.body if isinstance(each, cst.BaseStatement)])


@rewrite(
    "method-order",
    cst.FunctionDef,
    turn=BLOCKS,
    odds=0.4,
    examples=(
        Example(
            "class A:\n    x = 1\n\n    def f(self):\n        return 1\n\n    def g(self):\n"
            "        return 2\n",
            (
                "class A:\n    x = 1\n\n    def g(self):\n        return 2\n\n    def f(self):\n"
                "        return 1\n",
            ),
        ),
    ),
    counterexamples=(
        "class A:\n    def __init__(self):\n        pass\n\n    def g(self):\n        return 2\n",
        "class A:\n    def f(self):\n        return 1\n\n    @f.setter\n"
        "    def f(self, x):\n        return 2\n",
        "def f():\n    return 1\n",
    ),
)
def method_order(file: SourceFile, node: cst.FunctionDef) -> Iterator[Change]:
    """A method moved behind its neighbours; the constructor stays first."""
    body = file.parent[node]
    if node.name.value == "__init__" or not isinstance(body, cst.IndentedBlock):
        return
    if isinstance(file.parent[body], cst.ClassDef):
        yield from _moves(file, node, body.body)


def _moves(file: SourceFile, node: cst.FunctionDef, around: Sequence[cst.CSTNode]) -> Iterator[Change]:
    at = next(place for place, each in enumerate(around) if each is node)
    for other in around[at + 1 : at + 1 + FAR]:
        if not isinstance(other, cst.FunctionDef) or not _are_strangers(file, node, other):
            return
        start, end = file.outer[node]
        there = file.outer[other][1]
        if not file.source[:there].endswith("\n") or _blank(file, node) != _blank(file, other):
            return
        yield Change((file.edit(start, end, ""), file.edit(there, there, file.source[start:end])))


def _blank(file: SourceFile, node: cst.CSTNode) -> int:
    """How many blank lines stand above a definition; it moves together with them."""
    above = file.source[file.outer[node][0] : file.index.span(node)[0]]
    return len(above) - len(above.lstrip("\r\n"))


def _are_strangers(file: SourceFile, one: cst.FunctionDef, two: cst.FunctionDef) -> bool:
    """Whether neither needs the other when it is defined."""
    if one.name.value == two.name.value:
        return False
    return one.name.value not in _heads(file, two) and two.name.value not in _heads(file, one)


def _heads(file: SourceFile, node: cst.FunctionDef) -> frozenset[str]:
    """The words that are read when a function is defined."""
    found = words(file, node.params) | frozenset(
        word for d in node.decorators for word in WORD.findall(file.text(d))
    )
    return found | (words(file, node.returns) if node.returns else frozenset())


@rewrite(
    "field-order",
    cst.SimpleStatementLine,
    turn=BLOCKS,
    odds=0.35,
    examples=(
        Example(
            "@dataclass(kw_only=True)\nclass C:\n    a: int = 1\n    b: float = 2.0\n",
            ("@dataclass(kw_only=True)\nclass C:\n    b: float = 2.0\n    a: int = 1\n",),
        ),
    ),
    counterexamples=(
        "@dataclass\nclass C:\n    a: int = 1\n    b: float = 2.0\n",
        "@dataclass(kw_only=True)\nclass C:\n    a: int = 1\n    b: int = a\n",
        "class C:\n    a: int = 1\n    b: float = 2.0\n",
    ),
)
def field_order(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """The fields of a record that is only made by keyword, in another order."""
    body = file.parent[line]
    owner = file.parent.get(body) if body is not file.module else None
    if not isinstance(owner, cst.ClassDef) or not any(
        "kw_only=True" in file.text(d) for d in owner.decorators
    ):
        return
    if not _is_field(file, line):
        return
    around = file.siblings(line)
    at = next(place for place, each in enumerate(around) if each is line)
    for other in around[at + 1 : at + 1 + FAR]:
        if not _is_field(file, other):
            return
        start, end = file.outer[line]
        there = file.outer[other][1]
        if file.source[:there].endswith("\n"):
            yield Change((file.edit(start, end, ""), file.edit(there, there, file.source[start:end])))


def _is_field(file: SourceFile, line: cst.CSTNode) -> bool:
    """Whether a line is a field with a default that is written out."""
    found = only(line, cst.AnnAssign)
    if found is None or found.value is None:
        return False
    literal = isinstance(found.value, cst.SimpleString) or file.text(found.value) in ("True", "False", "None")
    return literal or is_number(found.value)
