"""Temporaries: a step of a computation given a name, or the name taken away again."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import STATEMENTS, Change, rewrite
from bughunt_mutator.rewrites.look import (
    assigned,
    bare,
    comments,
    fits,
    function_scope,
    is_line,
    is_pure,
    neighbour,
    only,
    span_of_lines,
    uses,
    view,
    words,
)
from bughunt_mutator.source import SourceFile

OF_CALL = {
    "softmax": "weights", "log_softmax": "log_probs", "mean": "average", "sum": "total", "matmul": "product",
    "sqrt": "root", "exp": "exponential", "log": "logarithm", "flatten": "flat", "reshape": "arranged",
    "view": "arranged", "permute": "arranged", "transpose": "turned", "relu": "active", "gelu": "active",
    "tanh": "squashed", "sigmoid": "gate", "clamp": "bounded", "clip": "bounded", "float": "as_float",
    "unsqueeze": "spread", "cat": "joined", "concat": "joined", "stack": "stacked", "pow": "power",
    "square": "squares", "abs": "sizes", "norm": "length", "argmax": "best", "argsort": "ranking",
    "expand": "widened", "cumsum": "running", "where": "picked", "gather": "picked", "masked_fill": "masked",
    "a"
    "range": "positions", "zeros": "blank", "ones": "all_ones", "cross_entropy": "entropy",
    "split": "pieces",
    "chunk": "pieces", "sort": "ordered", "sorted": "ordered", "parameters": "weights", "next": "item",
}  # fmt: skip
OF_OPERATOR = {
    cst.Add: "total", cst.Subtract: "difference", cst.Multiply: "product", cst.Divide: "quotient",
    cst.MatrixMultiply: "product", cst.Power: "power", cst.FloorDivide: "whole", cst.Modulo: "rest",
}  # fmt: skip
SPARE = ("result", "value", "outcome", "answer", "inner", "part", "step_out")


@rewrite(
    "extract-temporary",
    cst.SimpleStatementLine,
    turn=STATEMENTS,
    odds=0.6,
    examples=(
        Example(
            "def f(self, x):\n    return self.drop(self.out(x))\n",
            ("def f(self, x):\n    out_x = self.out(x)\n    return self.drop(out_x)\n",),
        ),
        Example(
            "def f(x, m):\n    y = (x - m).abs() / 2  # [B]\n    return y\n",
            ("def f(x, m):\n    sizes = (x - m).abs()\n    y = sizes / 2  # [B]\n    return y\n",),
        ),
        Example(
            "def f(x, g):\n    y = x + g(x, 1)\n    return y\n",
            ("def f(x, g):\n    g_x = g(x, 1)\n    y = x + g_x\n    return y\n",),
        ),
    ),
    counterexamples=(
        "def f(x):\n    return x\n",
        "y = g(h(x))\n",
        "def f(x):\n    return a(x) if b(x) else c(x)\n",
        "def f(x, g):\n    return [g(y) for y in x]\n",
    ),
)
def extract_temporary(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """What a statement computes first, in a statement of its own above it."""
    whole = _value(line)
    if whole is None or file.function(line) is None or not is_line(line):
        return
    part = _first(file, whole)
    if part is None or not fits(file, line, f"{' ' * 12}{bare(file, part)}"):
        return
    name = _name(file, part)
    if name is None:
        return
    start = file.index.span(line)[0]
    first = file.source.rfind("\n", 0, start) + 1
    above = file.edit(first, first, f"{file.indent(line)}{name} = {bare(file, part)}{file.newline}")
    yield Change((above, file.replace(part, name)))


def _value(line: cst.SimpleStatementLine) -> cst.BaseExpression | None:
    """What a `return`, a `yield`ing line or an assignment computes."""
    statement = line.body[0]
    if isinstance(statement, cst.Return):
        return statement.value
    if isinstance(statement, cst.Assign) and len(statement.targets) == 1:
        target = statement.targets[0].target
        return statement.value if isinstance(target, cst.Name | cst.Tuple) else None
    return None


def _first(file: SourceFile, whole: cst.BaseExpression) -> cst.BaseExpression | None:
    """The sub-expression that is computed before anything else with an effect, if it is worth a name."""
    match whole:
        case cst.Call(func=func, args=args) if args and not any(a.star for a in args):
            subject = func.value if isinstance(func, cst.Attribute) else None
            if subject is not None and _is_step(file, subject):
                return subject
            inner = args[0].value
            if _is_step(file, inner) and is_pure(file, func):
                return inner
        case cst.Call(func=cst.Attribute(value=subject)):
            return subject if _is_step(file, subject) else None
        case cst.Subscript(value=subject):
            return subject if _is_step(file, subject) else None
        case cst.BinaryOperation(left=left, right=right):
            if _is_step(file, left):
                return left
            if isinstance(left, cst.Name | cst.Attribute) and _is_step(file, right):
                return right
            if is_pure(file, left) and is_pure(file, right) and _is_step(file, right):
                return right
    return None


def _is_step(file: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression is a call or an operation that a reader would give a name."""
    if isinstance(node, cst.Call):
        if isinstance(node.func, cst.Name) and node.func.value in ("super", "len", "range", "int", "float"):
            return False
        return "\n" not in file.text(node) and file.qname(node.func) != "torch.no_grad"
    return isinstance(node, cst.BinaryOperation) and len(file.text(node)) > 8 and "\n" not in file.text(node)


def _name(file: SourceFile, part: cst.BaseExpression) -> str | None:
    """A name that the file does not use yet, made from what is computed."""
    known = view(file).words
    for name in _proposed(file, part):
        if name not in known and name.isidentifier():
            return name
    return None


def _proposed(file: SourceFile, part: cst.BaseExpression) -> Iterator[str]:
    if isinstance(part, cst.BinaryOperation):
        yield OF_OPERATOR.get(type(part.operator), "combined")
    if isinstance(part, cst.Call):
        called = part.func.attr.value if isinstance(part.func, cst.Attribute) else file.text(part.func)
        if called in OF_CALL:
            yield OF_CALL[called]
        elif called.isidentifier() and called[0].islower():
            of = next((a.value.value for a in part.args if isinstance(a.value, cst.Name)), "")
            called = called.strip("_")
            yield from (f"{called}_{of.lower()}" if of else f"{called}_out", f"{called}_now")
    yield from SPARE


@rewrite(
    "inline-temporary",
    cst.SimpleStatementLine,
    turn=STATEMENTS,
    odds=0.6,
    examples=(
        Example(
            "def f(self, x):\n    h = self.up(x)\n    return self.down(h)\n",
            ("def f(self, x):\n    return self.down(self.up(x))\n",),
        ),
        Example(
            "def f(a, b):\n    d = a - b\n    y = d * 2\n    return y\n",
            (
                "def f(a, b):\n    y = (a - b) * 2\n    return y\n",
                "def f(a, b):\n    d = a - b\n    return d * 2\n",
            ),
        ),
    ),
    counterexamples=(
        "def f(x):\n    h = g(x)\n    return h + h\n",
        "def f(x):\n    h = g(x)\n    return k(x) + h\n",
        "def f(x):\n    h = g(x)\n    return [h for _ in x]\n",
        "def f(x):\n    h = g(x)  # why\n    return h\n",
        "def f(x):\n    for h in x:\n        h = g(h)\n        yield h\n    return h\n",
    ),
)
def inline_temporary(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """A name that is used once, right away, replaced by what it stands for."""
    found = assigned(line)
    after = neighbour(file, line)
    if found is None or not is_line(after) or comments(file, line):
        return
    name, value = found
    scope = function_scope(file, name)
    if scope is None or scope.ways.get(name.value) != {"assigned"}:
        return
    places = uses(file, scope, name.value)
    if (
        len(places) != 2
        or "\n" in file.text(value)
        or isinstance(value, cst.Yield | cst.Await | cst.NamedExpr)
    ):
        return
    use = places[1]
    assert after is not None
    if file.statement(use) is not after or not _is_first(file, use, after, pure=is_pure(file, value)):
        return
    edit = file.replace(use, bare(file, value))
    if not fits(file, after, file.text(after)[: -len(name.value)] + edit.new):
        return
    yield Change((file.edit(*span_of_lines(file, line), ""), edit), frozenset({name.value}))


def _is_first(file: SourceFile, use: cst.Name, line: cst.CSTNode, *, pure: bool) -> bool:
    """Whether nothing with an effect is computed in a line before a name is read, or at all if need be."""
    if only(line, cst.Assign) is None and only(line, cst.Return) is None and only(line, cst.Expr) is None:
        return False
    if isinstance(file.parent[use], cst.AssignTarget | cst.AugAssign | cst.Del | cst.NamedExpr):
        return False
    at: cst.CSTNode = use
    while at is not line:
        above = file.parent[at]
        if isinstance(above, cst.Lambda | cst.CompFor | cst.BaseComp | cst.IfExp | cst.BooleanOperation):
            return False
        if isinstance(above, cst.FormattedStringExpression | cst.AssignTarget):
            return False
        if not all(_is_calm(file, earlier, pure) for earlier in _before(above, at)):
            return False
        at = above
    return True


def _is_calm(file: SourceFile, node: cst.CSTNode, pure: bool) -> bool:
    if pure and isinstance(node, cst.BaseExpression | cst.Arg):
        return not any(isinstance(each, cst.NamedExpr | cst.Yield | cst.Await) for each in node.children)
    return is_pure(file, node.value if isinstance(node, cst.Arg) else node)


def _before(above: cst.CSTNode, at: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The children of a node that stand before one of them and compute something."""
    for child in above.children:
        if child is at:
            return
        if isinstance(child, cst.BaseExpression | cst.Arg | cst.BaseElement | cst.SubscriptElement):
            yield child


@rewrite(
    "joined-assignment",
    cst.SimpleStatementLine,
    turn=STATEMENTS,
    odds=0.5,
    examples=(
        Example("a = x.b\nc = 2\n", ("a, c = x.b, 2\n",)),
        Example("self.a = a\nself.b = b\n", ("self.a, self.b = a, b\n",)),
    ),
    counterexamples=("a = 1\nb = a\n", "a = f()\nb = g()\n", "a = 1  # one\nb = 2\n", "a: int = 1\nb = 2\n"),
)
def joined_assignment(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """Two independent assignments in one line."""
    after = neighbour(file, line)
    pair = [_simple(file, each) for each in (line, after)]
    if None in pair or after is None or comments(file, line) or comments(file, after):
        return
    if _depends(file, line, after) or (not file.function(line) and len(file.text(line)) > 40):
        return
    (one, first), (two, second) = pair  # type: ignore[misc]
    new = f"{one}, {two} = {first}, {second}"
    if fits(file, line, new) and len(new) < 70:
        start = file.index.span(line)[0]
        yield Change((file.edit(start, file.index.span(after)[1], new),))


@rewrite(
    "split-assignment",
    cst.SimpleStatementLine,
    turn=STATEMENTS,
    examples=(Example("a, b = 1, x.c\n", ("a = 1\nb = x.c\n",)),),
    counterexamples=("a, b = b, a\n", "a, b = f(), g()\n", "a, b = x\n", "a, b = 1, 2  # both\n"),
)
def split_assignment(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """Independent values assigned in lines of their own."""
    found = only(line, cst.Assign)
    if found is None or len(found.targets) != 1 or comments(file, line):
        return
    targets, values = found.targets[0].target, found.value
    if not (isinstance(targets, cst.Tuple) and isinstance(values, cst.Tuple)):
        return
    if len(targets.elements) != len(values.elements) or not is_pure(file, values):
        return
    left = [file.text(each.value) for each in targets.elements]
    right = [file.text(each.value) for each in values.elements]
    if any(each in words(file, values) for text in left for each in text.split(".")[-1:]):
        return
    lines = [f"{name} = {value}" for name, value in zip(left, right, strict=True)]
    margin = file.newline + file.indent(line)
    yield Change((file.edit(*file.index.span(line), margin.join(lines)),))


@rewrite(
    "swapped-statements",
    cst.SimpleStatementLine,
    turn=STATEMENTS,
    odds=0.5,
    examples=(Example("a = x + 1\nb = x.mean()\nprint(a)\n", ("b = x.mean()\na = x + 1\nprint(a)\n",)),),
    counterexamples=("a = 1\nb = a\n", "a = f()\nb = g()\n", "a = b\nb = 2\n", "a[0] = 1\nb = 2\n"),
)
def swapped_statements(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """Two neighbouring assignments that know nothing of each other, the other way round."""
    after = neighbour(file, line)
    if after is None or not is_line(after) or _blank_between(file, line, after):
        return
    if _simple(file, line) is None or _simple(file, after) is None or _depends(file, line, after):
        return
    if (
        file.outer[line][1] != file.outer[after][0]
        or _owned_comment(file, after)
        or _owned_comment(file, line)
    ):
        return
    one, two = span_of_lines(file, line), span_of_lines(file, after)
    if file.source[two[1] - 1 : two[1]] != "\n":
        return
    yield Change((file.edit(*one, ""), file.edit(two[1], two[1], file.source[one[0] : one[1]])))


def _owned_comment(file: SourceFile, line: cst.CSTNode) -> bool:
    start = file.outer[line][0]
    return "#" in file.source[start : file.index.span(line)[0]]


def _blank_between(file: SourceFile, line: cst.CSTNode, after: cst.CSTNode) -> bool:
    return file.source[file.outer[line][1] : file.index.span(after)[0]].strip(" \t") != ""


def _simple(file: SourceFile, line: cst.CSTNode | None) -> tuple[str, str] | None:
    """Target and value of an assignment of something without effect to a name or an attribute of self."""
    found = only(line, cst.Assign)
    if found is None or len(found.targets) != 1 or not is_pure(file, found.value):
        return None
    target = found.targets[0].target
    own = isinstance(target, cst.Attribute) and isinstance(target.value, cst.Name)
    if not (isinstance(target, cst.Name) or own) or "\n" in file.text(found):
        return None
    if isinstance(found.value, cst.Tuple) and not found.value.lpar:
        return None
    return file.text(target), file.text(found.value)


def _depends(file: SourceFile, one: cst.CSTNode, two: cst.CSTNode) -> bool:
    """Whether one of two assignments mentions what the other assigns."""
    first, second = only(one, cst.Assign), only(two, cst.Assign)
    assert first is not None
    assert second is not None
    ends = [file.text(each.targets[0].target).split(".")[-1] for each in (first, second)]
    return ends[0] in words(file, two) or ends[1] in words(file, one)
