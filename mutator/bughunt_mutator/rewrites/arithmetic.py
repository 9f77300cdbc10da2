"""Arithmetic: what commutes to the last bit, and numbers that grow in place or anew."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import STATEMENTS, Change, rewrite
from bughunt_mutator.rewrites.look import (
    binary,
    function_scope,
    is_number,
    is_numeric,
    is_pure,
    overloads,
    uses,
)
from bughunt_mutator.source import SourceFile

FLIPPED = {cst.LessThan: ">", cst.GreaterThan: "<", cst.LessThanEqual: ">=", cst.GreaterThanEqual: "<="}


@rewrite(
    "commuted-sum",
    cst.BinaryOperation,
    examples=(
        Example("y = a * b + c / d\n", ("y = c / d + a * b\n",)),
        Example("y = x - c + d.mean()\n", ("y = d.mean() + (x - c)\n",)),
        Example(
            "def forward(self, x):\n    return x + self.mlp(x)\n",
            ("def forward(self, x):\n    return self.mlp(x) + x\n",),
        ),
    ),
    counterexamples=(
        "y = a + b\n",
        'y = "a" + b * 2\n',
        "y = rows + [1] * 2\n",
        "y = next(a) / 2 + next(b) / 3\n",
    ),
    odds=0.5,
)
def commuted_sum(file: SourceFile, node: cst.BinaryOperation) -> Iterator[Change]:
    """The two terms of one sum the other way round; floating-point addition commutes, chains do not."""
    if not isinstance(node.operator, cst.Add) or overloads(file, "__add__"):
        return
    if not any(is_numeric(file, side) or _is_layer(file, side) for side in (node.left, node.right)):
        return
    if isinstance(file.parent[node], cst.BinaryOperation) and not node.lpar:
        return
    yield from _swapped(file, node)


@rewrite(
    "commuted-product",
    cst.BinaryOperation,
    examples=(Example("y = a * (b + c)\n", ("y = (b + c) * a\n",)),),
    counterexamples=("y = a / b * c\n", 'y = "-" * 3\n', "y = draw() * draw()\n"),
    odds=0.5,
)
def commuted_product(file: SourceFile, node: cst.BinaryOperation) -> Iterator[Change]:
    """The two factors of one product the other way round."""
    if not isinstance(node.operator, cst.Multiply) or overloads(file, "__mul__"):
        return
    if binary(node.left, cst.Multiply, cst.Divide, cst.FloorDivide, cst.Modulo, cst.MatrixMultiply):
        return
    if isinstance(node.left, cst.SimpleString | cst.List | cst.Tuple):
        return
    yield from _swapped(file, node)


def _is_layer(file: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a layer of a model is called, which gives a tensor."""
    function = file.function(node)
    if function is None or function.name.value != "forward" or not isinstance(node, cst.Call):
        return False
    return isinstance(node.func, cst.Attribute) and file.text(node.func.value) == "self"


def _swapped(file: SourceFile, node: cst.BinaryOperation) -> Iterator[Change]:
    """Both sides exchanged, if at most one of them does more than compute."""
    calm = is_pure(file, node.left) or is_pure(file, node.right)
    if calm and "\n" not in file.text(node):
        yield Change(file.swap(node.left, node.right))


@rewrite(
    "comparison-flip",
    cst.Comparison,
    examples=(Example("y = a < b\n", ("y = b > a\n",)), Example("y = a.x == b\n", ("y = b == a.x\n",))),
    counterexamples=("y = a < 3\n", "y = a < b < c\n", "y = a in b\n", "y = f(a) < f(b)\n"),
    odds=0.5,
)
def comparison_flip(file: SourceFile, node: cst.Comparison) -> Iterator[Change]:
    """A comparison read from the other side."""
    if len(node.comparisons) != 1 or "\n" in file.text(node) or overloads(file, "__lt__", "__eq__", "__gt__"):
        return
    target = node.comparisons[0]
    right = target.comparator
    if is_number(right) or isinstance(right, cst.SimpleString) or _is_constant(right) or is_number(node.left):
        return
    if not (is_pure(file, node.left) and is_pure(file, right)):
        return
    sides = file.swap(node.left, right)
    if isinstance(target.operator, cst.Equal | cst.NotEqual):
        yield Change(sides)
    elif (sign := FLIPPED.get(type(target.operator))) is not None:
        start, end = file.span(node.left)[1], file.span(right)[0]
        yield Change((*sides, file.edit(start, end, f" {sign} ")))


def _is_constant(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name) and (node.value in ("None", "True", "False") or node.value.isupper())


@rewrite(
    "chained-comparison",
    cst.BooleanOperation,
    examples=(Example("y = low <= n and n < high\n", ("y = low <= n < high\n",)),),
    counterexamples=("y = a < b and c < d\n", "y = a < b or b < c\n", "y = a < f(x) and f(x) < b\n"),
)
def chained_comparison(file: SourceFile, node: cst.BooleanOperation) -> Iterator[Change]:
    """Two comparisons with a name between them as one."""
    left, right = node.left, node.right
    if not isinstance(node.operator, cst.And) or node.lpar:
        return
    if not (isinstance(left, cst.Comparison) and isinstance(right, cst.Comparison)):
        return
    middle = left.comparisons[-1].comparator
    if isinstance(middle, cst.Name) and isinstance(right.left, cst.Name) and middle.value == right.left.value:
        rest = file.source[file.span(right.left)[1] : file.span(right)[1]]
        yield Change((file.replace(node, file.text(left) + rest),))


@rewrite(
    "augmented-number",
    cst.AugAssign,
    cst.Assign,
    turn=STATEMENTS,
    examples=(
        Example(
            "def f(rows):\n    total = 0.0\n    for row in rows:\n"
            "        total += row.item()\n    return total\n",
            (
                "def f(rows):\n    total = 0.0\n    for row in rows:\n"
                "        total = total + row.item()\n    return total\n",
            ),
        ),
        Example(
            "def f():\n    n = 0\n    n = n + 1\n    return n\n",
            ("def f():\n    n = 0\n    n += 1\n    return n\n",),
        ),
    ),
    counterexamples=(
        "def f(x):\n    x += 1\n    return x\n",
        "def f(x):\n    total = 0\n    total += x\n    return total\n",
    ),
)
def augmented_number(file: SourceFile, node: cst.CSTNode) -> Iterator[Change]:
    """A plain number added to in place or anew; a tensor would be changed for others too."""
    if isinstance(node, cst.AugAssign):
        sign = {cst.AddAssign: "+", cst.SubtractAssign: "-", cst.MultiplyAssign: "*"}.get(type(node.operator))
        if sign and _is_counter(file, node.target) and _is_plain_number(node.value):
            name = file.text(node.target)
            yield Change(
                (file.edit(*file.index.span(node), f"{name} = {name} {sign} {file.text(node.value)}"),)
            )
    elif isinstance(node, cst.Assign) and len(node.targets) == 1 and binary(node.value, cst.Add):
        target, sum_ = node.targets[0].target, node.value
        assert isinstance(sum_, cst.BinaryOperation)
        if (
            file.text(target) == file.text(sum_.left)
            and _is_counter(file, target)
            and _is_plain_number(sum_.right)
        ):
            yield Change(
                (file.edit(*file.index.span(node), f"{file.text(target)} += {file.text(sum_.right)}"),)
            )


def _is_counter(file: SourceFile, target: cst.CSTNode) -> bool:
    """Whether a name of a function is only ever given a number as written or added to."""
    if not isinstance(target, cst.Name) or (scope := function_scope(file, target)) is None:
        return False
    if "parameter" in scope.ways.get(target.value, {"parameter"}):
        return False
    given = False
    for use in uses(file, scope, target.value):
        above = file.parent[use]
        if isinstance(above, cst.AssignTarget):
            value = file.parent[above].value  # type: ignore[attr-defined]
            given = given or is_number(value)
            if not is_number(value) and not (binary(value, cst.Add) and _is_plain_number(value.right)):
                return False
        elif (
            isinstance(above, cst.AugAssign) and use is above.target and not _is_plain_number(above.value)
        ) or isinstance(above, cst.Element | cst.For | cst.NamedExpr | cst.AnnAssign | cst.CompFor):
            return False
    return given


def _is_plain_number(node: cst.CSTNode) -> bool:
    """Whether an expression surely gives a Python number."""
    if is_number(node):
        return True
    if not isinstance(node, cst.Call):
        return False
    if isinstance(node.func, cst.Attribute):
        return node.func.attr.value == "item"
    return isinstance(node.func, cst.Name) and node.func.value in ("len", "float", "int")


@rewrite(
    "number-spelling",
    cst.Float,
    examples=(Example("y = 4e-3\n", ("y = 0.004\n",)), Example("y = 0.0005\n", ("y = 5e-4\n",))),
    counterexamples=("y = 1e-8\n", "y = 0.5\n", "y = 3e7\n"),
)
def number_spelling(file: SourceFile, node: cst.Float) -> Iterator[Change]:
    """A small number with or without an exponent."""
    value, text = float(node.value), node.value.lower()
    if not 1e-4 <= value < 1e-2:
        return
    digits, exponent = f"{value:e}".split("e")
    short = f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    new = repr(value) if "e" in text else short
    if float(new) == value and new != text:
        yield Change((file.replace(node, new),))
