"""Looking at a program: which operation a call is, what surrounds it, what a removal would orphan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.index import descendants as descendants
from bughunt_mutator.index import inside as inside
from bughunt_mutator.source import SourceFile

LIBRARIES = frozenset(
    {"torch", "torch.nn.functional", "torch.special", "torch.linalg", "torch.Tensor", "numpy"}
)

Node = TypeVar("Node", bound=cst.CSTNode)
Suite = cst.IndentedBlock | cst.Module


@dataclass(frozen=True)
class Operation:
    """A call that computes with arrays, written `op(x, ...)` or `x.op(...)`.

    Its parameters after the operand start at position `shift` of the call.
    """

    name: str
    subject: cst.BaseExpression
    call: cst.Call
    shift: int


def operation(f: SourceFile, node: cst.CSTNode | None, *names: str) -> Operation | None:
    """The array operation that a node is, if it is one of `names`."""
    if not isinstance(node, cst.Call):
        return None
    qualified = f.qname(node.func)
    if qualified is not None:
        home, _, name = qualified.rpartition(".")
        if name in names and home in LIBRARIES and node.args and not node.args[0].keyword:
            return Operation(name, node.args[0].value, node, 1)
        return None
    if isinstance(node.func, cst.Attribute) and node.func.attr.value in names:
        subject = node.func.value
        if not (isinstance(subject, cst.Name) and subject.value in ("self", "cls", "super")):
            return Operation(node.func.attr.value, subject, node, 0)
    return None


def value(f: SourceFile, call: cst.Call, name: str, position: int) -> cst.BaseExpression | None:
    """What a call passes for a parameter, by keyword or by position."""
    given = f.arg(call, name, position)
    return given.value if given is not None else None


def axis(f: SourceFile, op: Operation) -> cst.BaseExpression | None:
    """The axis that an operation works along, as written."""
    for name in ("dim", "axis"):
        if (given := value(f, op.call, name, op.shift)) is not None:
            return given
    return None


def keyword(call: cst.Call, *names: str) -> cst.Arg | None:
    """The argument that a call passes by one of these keywords."""
    for given in call.args:
        if given.keyword is not None and given.keyword.value in names:
            return given
    return None


def number(node: cst.CSTNode | None) -> float | None:
    """The value of a numeric literal, signed or not."""
    if isinstance(node, cst.Integer | cst.Float):
        return float(node.value.replace("_", ""))
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        inner = number(node.expression)
        return None if inner is None else -inner
    return None


def bare(f: SourceFile, node: cst.BaseExpression) -> str:
    """The text of an expression without its own parentheses."""
    return f.text(node)[1:-1] if node.lpar else f.text(node)


def last_name(node: cst.CSTNode | None) -> str:
    """The last part of a dotted name; empty for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    return node.attr.value if isinstance(node, cst.Attribute) else ""


def binary(
    node: cst.CSTNode | None, *operators: type[cst.BaseBinaryOp]
) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Both sides of a binary operation, if its operator is one of these."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, operators):
        return node.left, node.right
    return None


@lru_cache(maxsize=8192)
def names_in(node: cst.CSTNode) -> frozenset[str]:
    """Every name and attribute that a node mentions."""
    return frozenset(name.value for name in inside(node, cst.Name))


def mentions(node: cst.CSTNode, *words: str) -> bool:
    """Whether a name in the node contains one of these words."""
    return any(word in name.lower() for name in names_in(node) for word in words)


def ancestors(f: SourceFile, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """What a node stands in, from the inside out."""
    above = f.parent.get(node)
    while above is not None:
        yield above
        above = f.parent.get(above)


def enclosing(f: SourceFile, node: cst.CSTNode, *kinds: type[Node]) -> Node | None:
    """The innermost of these that a node stands in."""
    return next((above for above in ancestors(f, node) if isinstance(above, kinds)), None)


def function_of(f: SourceFile, node: cst.CSTNode) -> cst.CSTNode:
    """The function that a node stands in, or the module."""
    return enclosing(f, node, cst.FunctionDef) or f.module


def in_forward(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a node is part of what a module computes."""
    home = enclosing(f, node, cst.FunctionDef)
    return home is not None and home.name.value in ("forward", "__call__")


def loop_of(f: SourceFile, node: cst.CSTNode) -> cst.For | cst.While | None:
    """The innermost loop around a node within its own function."""
    for above in ancestors(f, node):
        if isinstance(above, cst.For | cst.While):
            return above
        if isinstance(above, cst.FunctionDef | cst.Lambda):
            return None
    return None


def neighbours(f: SourceFile, line: cst.CSTNode) -> tuple[Sequence[cst.CSTNode], int]:
    """The statements of the suite that a statement is in, and its place among them."""
    suite = f.parent.get(line)
    if not isinstance(suite, cst.IndentedBlock | cst.Module):
        return (line,), 0
    return suite.body, next(i for i, each in enumerate(suite.body) if each is line)


def called(line: cst.CSTNode) -> cst.Call | None:
    """The call that a statement consists of."""
    if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
        only = line.body[0]
        if isinstance(only, cst.Expr) and isinstance(only.value, cst.Call):
            return only.value
    return None


def assigned(line: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Target and value of a statement that is one plain assignment."""
    if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
        only = line.body[0]
        if isinstance(only, cst.Assign) and len(only.targets) == 1:
            return only.targets[0].target, only.value
    return None


def method_line(f: SourceFile, line: cst.CSTNode, name: str) -> str | None:
    """The receiver of `receiver.name(...)`, if the statement is that call and no more."""
    call = called(line)
    if call is not None and isinstance(call.func, cst.Attribute) and call.func.attr.value == name:
        return f.text(call.func.value)
    return None


def definitions(f: SourceFile, node: cst.CSTNode, name: str) -> Iterator[cst.SimpleStatementLine]:
    """The plain assignments to a name in the function that a node stands in."""
    for line in inside(function_of(f, node), cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is not None and isinstance(pair[0], cst.Name) and pair[0].value == name:
            yield line


def loads(node: cst.CSTNode) -> Counter[str]:
    """How often each name is read within a node."""
    if isinstance(node, cst.Name):
        return Counter([node.value])
    if isinstance(node, cst.Attribute):
        return loads(node.value)
    if isinstance(node, cst.Arg | cst.AugAssign):
        return loads(node.value)
    if isinstance(node, cst.AssignTarget) and isinstance(node.target, cst.Name):
        return Counter()
    total: Counter[str] = Counter()
    if not isinstance(node, cst.Import | cst.ImportFrom):
        for child in node.children:
            total += loads(child)
    return total


@lru_cache(maxsize=64)
def _all_loads(node: cst.CSTNode) -> Counter[str]:
    """`loads` of a function or module, counted once for all who ask."""
    return loads(node)


def orphans(f: SourceFile, *removed: cst.CSTNode) -> bool:
    """Whether removing nodes would leave a local or an import that nobody reads."""
    if not removed:
        return False
    gone: Counter[str] = Counter()
    for node in removed:
        gone += loads(node)
    home = function_of(f, removed[0])
    here, everywhere = _all_loads(home), _all_loads(f.module)
    locals_ = {
        pair[0].value
        for line in inside(home, cst.SimpleStatementLine)
        if (pair := assigned(line)) is not None and isinstance(pair[0], cst.Name)
    }
    imports = {
        (alias.asname.name if alias.asname else alias.name)
        for line in inside(f.module, cst.ImportAlias)
        for alias in (line,)
    }
    imported = {name.value for name in imports if isinstance(name, cst.Name)}
    return any(
        (name in locals_ and isinstance(home, cst.FunctionDef) and here[name] <= count)
        or (name in imported and everywhere[name] <= count)
        for name, count in gone.items()
    )


def moved_after(f: SourceFile, line: cst.CSTNode, place: cst.CSTNode) -> tuple[Edit, ...]:
    """The edits that take a statement away and put it after another."""
    return f.delete_statement(line), f.insert_after(place, f.text(line).strip())


def moved_before(f: SourceFile, line: cst.CSTNode, place: cst.CSTNode) -> tuple[Edit, ...]:
    """The edits that take a statement away and put it before another."""
    return f.delete_statement(line), f.insert_before(place, f.text(line).strip())
