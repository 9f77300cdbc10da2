"""Loops: a list built by a loop or by a comprehension, a count kept by `for` or by hand."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import STATEMENTS, Change, rewrite
from bughunt_mutator.rewrites.look import (
    WORD,
    assigned,
    comments,
    fits,
    function_scope,
    inside,
    is_pure,
    method,
    neighbour,
    only,
    uses,
    view,
    words,
)
from bughunt_mutator.source import SourceFile


@rewrite(
    "comprehension-loop",
    cst.SimpleStatementLine,
    turn=STATEMENTS,
    odds=0.5,
    examples=(
        Example(
            "def f(rows):\n    good = [r * 2 for r in rows if r]\n    return good\n",
            (
                "def f(rows):\n    good = []\n    for r in rows:\n        if r:\n"
                "            good.append(r * 2)\n"
                "    return good\n",
            ),
        ),
    ),
    counterexamples=(
        "good = [r for r in rows]\n",
        "def f(r, rows):\n    good = [r for r in rows]\n    return good, r\n",
        "def f(rows):\n    good = [c for r in rows for c in r]\n    return good\n",
        "def f(good):\n    good = [g for g in good]\n    return good\n",
    ),
)
def comprehension_loop(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """A list made by a comprehension, made by a loop."""
    found = assigned(line)
    if found is None or not isinstance(found[1], cst.ListComp) or file.function(line) is None:
        return
    name, made = found[0], found[1]
    assert isinstance(made, cst.ListComp)
    clause = made.for_in
    if clause.inner_for_in or clause.asynchronous or len(clause.ifs) > 1 or comments(file, line):
        return
    bound = {each.value for each in inside(clause.target, cst.Name)}
    scope = function_scope(file, name)
    if scope is None or any(word in scope.ways for word in bound) or name.value in words(file, made):
        return
    if list(inside(made.elt, cst.Lambda, cst.GeneratorExp, cst.NamedExpr)):
        return
    step, margin = file.module.default_indent, file.newline + file.indent(line)
    lines = [f"{name.value} = []", f"for {file.text(clause.target)} in {file.text(clause.iter)}:"]
    deep = step
    if clause.ifs:
        lines.append(f"{deep}if {file.text(clause.ifs[0].test)}:")
        deep += step
    lines.append(f"{deep}{name.value}.append({file.text(made.elt)})")
    if all(fits(file, line, each) for each in lines):
        yield Change((file.edit(*file.index.span(line), margin.join(lines)),))


@rewrite(
    "loop-comprehension",
    cst.For,
    turn=STATEMENTS,
    examples=(
        Example(
            "def f(rows):\n    out = []\n    for r in rows:\n        out.append(g(r))\n    return out\n",
            ("def f(rows):\n    out = [g(r) for r in rows]\n    return out\n",),
        ),
    ),
    counterexamples=(
        "def f(rows):\n    out = []\n    for r in rows:\n        out.append(len(out))\n    return out\n",
        "def f(rows):\n    out = []\n    for r in rows:\n        out.append(r)\n    return out, r\n",
        "def f(rows):\n    out = [1]\n    for r in rows:\n        out.append(r)\n    return out\n",
        "def f(rows):\n    out = []\n    for r in rows:\n        out.append((yield r))\n    return out\n",
    ),
)
def loop_comprehension(file: SourceFile, loop: cst.For) -> Iterator[Change]:
    """A list made by a loop that does nothing else, made by a comprehension."""
    before = neighbour(file, loop, -1)
    found = assigned(before)
    if found is None or file.text(found[1]) != "[]" or loop.orelse or loop.asynchronous:
        return
    if not isinstance(loop.body, cst.IndentedBlock) or len(loop.body.body) != 1 or before is None:
        return
    call = only(loop.body.body[0], cst.Expr)
    subject = method(call.value, "append") if call else None
    if call is None or subject is None or file.text(subject) != found[0].value:
        return
    assert isinstance(call.value, cst.Call)
    value, name = call.value.args[0].value, found[0].value
    if (
        list(inside(value, cst.Yield, cst.Await, cst.NamedExpr))
        or comments(file, loop)
        or comments(file, before)
    ):
        return
    if name in words(file, value) or name in words(file, loop.iter) or not _only_here(file, loop):
        return
    new = f"{name} = [{file.text(value)} for {file.text(loop.target)} in {file.text(loop.iter)}]"
    if fits(file, loop, new):
        yield Change((file.edit(file.index.span(before)[0], file.index.span(loop)[1], new),))


def _only_here(file: SourceFile, loop: cst.For) -> bool:
    """Whether the names that a loop counts with are used nowhere else in the function."""
    scope = function_scope(file, loop.target)
    if scope is None:
        return False
    start, end = file.index.span(loop)
    for target in inside(loop.target, cst.Name):
        places = [file.index.span(use)[0] for use in uses(file, scope, target.value)]
        if not places or not all(start <= place < end for place in places):
            return False
    return True


@rewrite(
    "for-while",
    cst.For,
    turn=STATEMENTS,
    odds=0.15,
    examples=(
        Example(
            "def f(n):\n    for i in range(n):\n        g(i)\n",
            ("def f(n):\n    i = 0\n    while i < n:\n        g(i)\n        i += 1\n",),
        ),
    ),
    counterexamples=(
        "def f(n):\n    for i in range(n):\n        if g(i):\n            continue\n",
        "def f(n):\n    for i in range(n):\n        n -= 1\n",
        "def f(n):\n    for i in range(n):\n        g(i)\n    return i\n",
        "def f(n):\n    for _ in range(n):\n        g()\n",
        "def f(n):\n    for i in range(1, n):\n        g(i)\n",
    ),
)
def for_while(file: SourceFile, loop: cst.For) -> Iterator[Change]:
    """A count from zero kept by hand."""
    call, target = loop.iter, loop.target
    if not (isinstance(call, cst.Call) and isinstance(target, cst.Name) and file.text(call.func) == "range"):
        return
    if (
        len(call.args) != 1
        or loop.orelse
        or target.value == "_"
        or not isinstance(loop.body, cst.IndentedBlock)
    ):
        return
    limit = call.args[0].value
    if not isinstance(limit, cst.Name | cst.Attribute | cst.Integer) or not is_pure(file, limit):
        return
    if list(inside(loop.body, cst.Continue, cst.Lambda, cst.FunctionDef)) or not _only_here(file, loop):
        return
    changed = {
        word
        for each in inside(loop.body, cst.AssignTarget, cst.AugAssign, cst.NamedExpr)
        for word in WORD.findall(file.text(each.target))  # type: ignore[attr-defined]
    }
    if changed & {target.value, *WORD.findall(file.text(limit))}:
        return
    start, end = file.index.span(loop)[0], file.outer[loop][1]
    header = file.outer[loop.body][0]
    deep = file.indent(loop) + file.module.default_indent
    last = f"{deep}{target.value} += 1{file.newline}"
    if not file.source[:end].endswith("\n"):
        return
    first = f"{target.value} = 0{file.newline}{file.indent(loop)}while {target.value} < {file.text(limit)}:"
    yield Change((file.edit(start, header, first), file.edit(end, end, last)))


@rewrite(
    "unused-rest",
    cst.SimpleStatementLine,
    turn=STATEMENTS,
    examples=(
        Example(
            "def f(self, x):\n    h, _ = self.lstm(x)\n    return h\n",
            ("def f(self, x):\n    h = self.lstm(x)[0]\n    return h\n",),
        ),
        Example(
            "def f(self, x):\n    h = self.rnn(x)[0]\n    return h\n",
            ("def f(self, x):\n    h, _ = self.rnn(x)\n    return h\n",),
        ),
    ),
    counterexamples=(
        "def f(x):\n    h, _ = x\n    return h\n",
        "def f(self, x):\n    h, _ = self.lstm(x)\n    return h, _\n",
        "def f(self, x):\n    h = self.head(x)[0]\n    return h\n",
    ),
)
def unused_rest(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """The first of a pair, by unpacking or by index."""
    found = only(line, cst.Assign)
    if found is None or len(found.targets) != 1 or file.function(line) is None:
        return
    target, value = found.targets[0].target, found.value
    if isinstance(target, cst.Tuple) and isinstance(value, cst.Call):
        names = [file.text(each.value) for each in target.elements]
        if len(names) == 2 and names[1] == "_" and len(_blanks(file, line)) == 1 and _gives_pair(value):
            yield Change((file.edit(*file.index.span(found), f"{names[0]} = {file.text(value)}[0]"),))
        return
    if not (isinstance(value, cst.Subscript) and isinstance(target, cst.Name)) or _blanks(file, line):
        return
    if file.text(value).endswith(")[0]") and _gives_pair(value.value):
        new = f"{target.value}, _ = {file.text(value.value)}"
        yield Change((file.edit(*file.index.span(found), new),))


def _blanks(file: SourceFile, line: cst.CSTNode) -> list[cst.Name]:
    scope = function_scope(file, line)
    return uses(file, scope, "_") if scope else []


def _gives_pair(call: cst.BaseExpression) -> bool:
    """Whether a recurrent layer is called, by the name that such layers have."""
    known = isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute)
    called = call.func.attr.value if known else ""  # type: ignore[attr-defined]
    return called in ("lstm", "gru", "rnn", "encoder_rnn")


@rewrite(
    "dict-form",
    cst.Call,
    examples=(Example("y = dict(a=1, b=x)\n", ('y = {"a": 1, "b": x}\n',)),),
    counterexamples=("y = dict(x)\n", "y = dict(**x)\n", "def dict(a):\n    return dict(a=1)\n"),
)
def dict_form(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """A dictionary made by a call, written as a display."""
    if file.text(call.func) != "dict" or "dict" in view(file).defined or not call.args:
        return
    if any(arg.star or arg.keyword is None for arg in call.args) or "\n" in file.text(call):
        return
    items = [f'"{arg.keyword.value}": {file.text(arg.value)}' for arg in call.args if arg.keyword]
    yield Change((file.replace(call, "{" + ", ".join(items) + "}"),))
