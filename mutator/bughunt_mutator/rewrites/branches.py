"""Branches: the other branch first, a condition as an expression or as a statement."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import STATEMENTS, Change, rewrite
from bughunt_mutator.rewrites.look import bare, comments, fits, neighbour, only
from bughunt_mutator.source import SourceFile

OPPOSITE = {
    cst.Equal: "!=", cst.NotEqual: "==", cst.Is: "is not", cst.IsNot: "is", cst.In: "not in", cst.NotIn: "in",
}  # fmt: skip
ORDERED = {
    cst.LessThan: ">=", cst.GreaterThan: "<=", cst.LessThanEqual: ">", cst.GreaterThanEqual: "<",
}  # fmt: skip
WHOLE = re.compile(r"\b(len\(|step\b|epoch\b|index\b|\w+\.dim\(\)|\w+\.ndim\b|\w+\.size\()")


@rewrite(
    "branch-swap",
    cst.If,
    turn=STATEMENTS,
    examples=(
        Example(
            "if p.dim() >= 2:\n    a.append(p)\nelse:\n    b.append(p)\n",
            ("if p.dim() < 2:\n    b.append(p)\nelse:\n    a.append(p)\n",),
        ),
        Example("if not x:\n    f()\nelse:\n    g()\n", ("if x:\n    g()\nelse:\n    f()\n",)),
        Example("if a and b:\n    f()\nelse:\n    g()\n", ("if not (a and b):\n    g()\nelse:\n    f()\n",)),
    ),
    counterexamples=(
        "if x < y:\n    f()\nelse:\n    g()\n",
        "if a:\n    f()\nelif b:\n    g()\nelse:\n    h()\n",
        "if x:\n    f()\n",
    ),
)
def branch_swap(file: SourceFile, node: cst.If) -> Iterator[Change]:
    """The other branch first, under the opposite condition; only whole numbers have an opposite order."""
    if not isinstance(node.orelse, cst.Else) or isinstance(file.parent[node], cst.If):
        return
    bodies = node.body, node.orelse.body
    test = opposite(file, node.test)
    if test is None or not all(isinstance(body, cst.IndentedBlock) for body in bodies):
        return
    (a, b), (c, d) = (_block(file, body) for body in bodies)
    header = file.edit(*file.span(node.test), test)
    yield Change((header, file.edit(a, b, file.source[c:d]), file.edit(c, d, file.source[a:b])))


def _block(file: SourceFile, body: cst.BaseSuite) -> tuple[int, int]:
    """The lines of a suite, behind the colon's own line."""
    start, end = file.outer[body]
    first = file.source.find("\n", start) + 1
    return first, end


def opposite(file: SourceFile, test: cst.BaseExpression) -> str | None:
    """The condition that is true where another is false."""
    if "\n" in file.text(test):
        return None
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        return bare(file, test.expression)
    if isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
        target = test.comparisons[0]
        sign = OPPOSITE.get(type(target.operator))
        if sign is None and WHOLE.search(file.text(test)):
            sign = ORDERED.get(type(target.operator))
        return f"{file.text(test.left)} {sign} {file.text(target.comparator)}" if sign else None
    if isinstance(test, cst.Name | cst.Attribute | cst.Call | cst.Subscript):
        return f"not {file.text(test)}"
    return f"not ({bare(file, test)})" if isinstance(test, cst.BooleanOperation) else None


@rewrite(
    "conditional-return",
    cst.If,
    turn=STATEMENTS,
    examples=(
        Example(
            "def f(x):\n    if x is None:\n        return 1\n    return g(x)\n",
            (
                "def f(x):\n    return 1 if x is None else g(x)\n",
                "def f(x):\n    if x is not None:\n        return g(x)\n    return 1\n",
                "def f(x):\n    if x is None:\n        return 1\n    else:\n        return g(x)\n",
            ),
        ),
    ),
    counterexamples=(
        "def f(x):\n    if x:\n        return 1\n    y = 2\n    return y\n",
        "def f(x):\n    if x:\n        return\n    return 2\n",
        "def f(x):\n    if x:\n        return 1\n    # else\n    return 2\n",
    ),
)
def conditional_return(file: SourceFile, node: cst.If) -> Iterator[Change]:
    """Two returns under a condition: as one expression, the other first, or with an `else`."""
    after = neighbour(file, node)
    first = _only_return(node.body)
    last = only(after, cst.Return)
    if node.orelse is not None or first is None or last is None or after is None:
        return
    if first.value is None or last.value is None or comments(file, node) or comments(file, after):
        return
    one, two = file.text(first.value), file.text(last.value)
    if "\n" in one + two + file.text(node.test):
        return
    start, end = file.index.span(node)[0], file.index.span(after)[1]
    margin, deep = file.newline + file.indent(node), file.newline + file.indent(first)
    test = file.text(node.test)
    both = f"return {one} if {test} else {two}"
    if fits(file, node, both) and len(both) < 80:
        yield Change((file.edit(start, end, both),))
    if (other := opposite(file, node.test)) is not None:
        yield Change((file.edit(start, end, f"if {other}:{deep}return {two}{margin}return {one}"),))
    yield Change((file.edit(start, end, f"if {test}:{deep}return {one}{margin}else:{deep}return {two}"),))


def _only_return(body: cst.BaseSuite) -> cst.Return | None:
    return (
        only(body.body[0], cst.Return)
        if isinstance(body, cst.IndentedBlock) and len(body.body) == 1
        else None
    )


@rewrite(
    "conditional-assignment",
    cst.If,
    turn=STATEMENTS,
    examples=(
        Example(
            "def f(x):\n    if x > 0:\n        y = 1\n    else:\n        y = g(x)\n    return y\n",
            ("def f(x):\n    y = 1 if x > 0 else g(x)\n    return y\n",),
        ),
    ),
    counterexamples=(
        "if x:\n    y = 1\nelse:\n    z = 2\n",
        "if x:\n    y = 1\n",
        "if x:\n    y = 1  # one\nelse:\n    y = 2\n",
    ),
)
def conditional_assignment(file: SourceFile, node: cst.If) -> Iterator[Change]:
    """A name assigned in both branches, assigned once."""
    if not isinstance(node.orelse, cst.Else) or comments(file, node) or isinstance(file.parent[node], cst.If):
        return
    pair = [_only_assignment(file, body) for body in (node.body, node.orelse.body)]
    if pair[0] is None or pair[1] is None or pair[0][0] != pair[1][0]:
        return
    new = f"{pair[0][0]} = {pair[0][1]} if {file.text(node.test)} else {pair[1][1]}"
    if fits(file, node, new):
        yield Change((file.edit(*file.index.span(node), new),))


def _only_assignment(file: SourceFile, body: cst.BaseSuite) -> tuple[str, str] | None:
    if not isinstance(body, cst.IndentedBlock) or len(body.body) != 1:
        return None
    found = only(body.body[0], cst.Assign)
    if found is None or len(found.targets) != 1 or isinstance(found.value, cst.Tuple | cst.IfExp):
        return None
    return file.text(found.targets[0].target), file.text(found.value)


@rewrite(
    "conditional-statement",
    cst.SimpleStatementLine,
    turn=STATEMENTS,
    examples=(
        Example(
            "def f(x):\n    return 1 if x else g(x)\n",
            ("def f(x):\n    if x:\n        return 1\n    return g(x)\n",),
        ),
        Example(
            "def f(x):\n    y = 1 if x else 2\n    return y\n",
            ("def f(x):\n    if x:\n        y = 1\n    else:\n        y = 2\n    return y\n",),
        ),
    ),
    counterexamples=("def f(x):\n    return (1 if x else 2) + 1\n", "y = [1 if x else 2]\n"),
)
def conditional_statement(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """A conditional expression as branches."""
    returned, given = only(line, cst.Return), only(line, cst.Assign)
    margin = file.newline + file.indent(line)
    deep = margin + file.module.default_indent
    found = returned or given
    value = found.value if found else None
    if not isinstance(value, cst.IfExp) or file.function(line) is None or "\n" in file.text(line):
        return
    test, one, two = (file.text(part) for part in (value.test, value.body, value.orelse))
    if returned:
        new = f"if {test}:{deep}return {one}{margin}return {two}"
    else:
        assert given is not None
        if len(given.targets) != 1 or comments(file, line):
            return
        name = file.text(given.targets[0].target)
        new = f"if {test}:{deep}{name} = {one}{margin}else:{deep}{name} = {two}"
    if comments(file, line):
        return
    yield Change((file.edit(*file.index.span(line), new),))
