"""Mistakes with what is kept from round to round: what is reset, counted, bounded, rounded, handed out."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    called,
    enclosing,
    inside,
    loop_of,
    names_in,
    number,
    orphans,
)
from bughunt_mutator.source import SourceFile

CATEGORY = "collections"


@operator(
    "reset-dropped",
    cst.SimpleStatementLine,
    category=CATEGORY,
    difficulty=3,
    symptom="The first round is right; every further one still holds something of those before.",
    hints=(
        "LOOK: run it twice and compare what is there at the start.",
        "WHERE: what `{function}` keeps between rounds.",
        "WHAT: what has to be empty, or zero, again?",
    ),
    repair="Empty it, or set it back, before the next round.",
    mechanism="What was gathered for one round is not cleared away, and counts for the next one too.",
    examples=(
        Example(
            "class A:\n    def flush(self):\n        send(self.rows)\n        self.rows = []\n",
            ("class A:\n    def flush(self):\n        send(self.rows)\n",),
        ),
        Example(
            "for row in rows:\n    n = 0\n    for a in row:\n        n = max(n, a)\n    f(n)\n",
            ("n = 0\nfor row in rows:\n    for a in row:\n        n = max(n, a)\n    f(n)\n",),
        ),
        Example(
            "def f(pot):\n    g(pot)\n    pot.clear()\n    h(pot)\n",
            ("def f(pot):\n    g(pot)\n    h(pot)\n",),
        ),
    ),
    counterexamples=(
        "class A:\n    def __init__(self):\n        self.rows = []\n",
        "for row in rows:\n    found = []\n    f(found)\n",
        "total = 0\nfor row in rows:\n    total += row\n",
    ),
)
def reset_dropped(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    call, pair = called(node), assigned(node)
    home = enclosing(f, node, cst.FunctionDef)
    if call is not None and isinstance(call.func, cst.Attribute) and call.func.attr.value == "clear":
        if not call.args and home is not None and len(f.siblings(node)) > 1:
            yield Proposal((f.delete_statement(node),))
        return
    if pair is None or not is_empty(f, pair[1]):
        return
    if isinstance(pair[0], cst.Attribute | cst.Tuple) and home is not None and home.name.value != "__init__":
        slots = pair[0].elements if isinstance(pair[0], cst.Tuple) else ()
        if all(isinstance(each.value, cst.Attribute) for each in slots) and len(f.siblings(node)) > 1:
            yield Proposal((f.delete_statement(node),))
    elif isinstance(pair[0], cst.Name) and (loop := loop_of(f, node)) is not None:
        first = f.siblings(node) and f.siblings(node)[0] is node and f.parent[node] is loop.body
        if first and len(f.siblings(node)) > 1 and gathered(loop.body, pair[0].value):
            text = f.text(node).strip()
            yield Proposal((f.insert_before(loop, text), f.delete_statement(node)))


def is_empty(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether a value is what one starts with: nothing, zero, or several of these."""
    if isinstance(node, cst.Tuple) and node.elements:
        return all(is_empty(f, each.value) for each in node.elements)
    empty = f.text(node) in ("[]", "{}", "0", "0.0", "False", "set()", "dict()", "list()", "deque()")
    return empty or f.text(node) == "Counter()"


def gathered(body: cst.CSTNode, name: str) -> bool:
    """Whether an inner loop adds to a name."""
    for loop in (*inside(body, cst.For), *inside(body, cst.While)):
        for each in inside(loop, cst.AugAssign):
            if isinstance(each.target, cst.Name) and each.target.value == name:
                return True
        for line in inside(loop, cst.SimpleStatementLine):
            pair = assigned(line)
            if pair is not None and isinstance(pair[0], cst.Name) and pair[0].value == name:
                return name in names_in(pair[1])
    return False


@operator(
    "count-forgotten",
    cst.SimpleStatementLine,
    category=CATEGORY,
    difficulty=2,
    symptom="A count that is reported or waited for stays where it is.",
    hints=(
        "LOOK: print the counts after each round.",
        "WHERE: what is counted in `{function}`.",
        "WHAT: where is it counted on?",
    ),
    repair="Count on in each case that counts.",
    mechanism="One of the places that count is left out: the count is right until its case comes.",
    examples=(
        Example(
            "class A:\n    def get(self, k):\n        self.hits += 1\n        return self.t[k]\n",
            ("class A:\n    def get(self, k):\n        return self.t[k]\n",),
        ),
        Example(
            "for a in rows:\n    f(a)\n    seen[a] -= 1\n",
            ("for a in rows:\n    f(a)\n",),
        ),
    ),
    counterexamples=(
        "while n < 3:\n    f()\n    n += 1\n",
        "for a in rows:\n    total += a\n",
        "for a in rows:\n    seen[a] += 1\n",
    ),
)
def count_forgotten(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    only = node.body[0] if len(node.body) == 1 else None
    if not isinstance(only, cst.AugAssign) or not isinstance(only.target, cst.Attribute | cst.Subscript):
        return
    loop = loop_of(f, node)
    if isinstance(loop, cst.While) and f.text(only.target) in f.text(loop.test):
        return
    if number(only.value) == 1 and len(f.siblings(node)) > 1 and not orphans(f, node):
        yield Proposal((f.delete_statement(node),))


@operator(
    "limit-dropped",
    cst.Call,
    category=CATEGORY,
    difficulty=3,
    symptom="All is well until a value is smaller or larger than anybody thought of.",
    hints=(
        "LOOK: try the smallest and the largest case there can be.",
        "WHERE: the bounds in `{function}`.",
        "WHAT: what keeps this value within what makes sense?",
    ),
    repair="Bound the value again.",
    mechanism="A bound matters in few cases. In these a negative count or index goes on unnoticed.",
    examples=(
        Example(
            "for i in range(max(0, start - first), n):\n    f(i)\n",
            ("for i in range(start - first, n):\n    f(i)\n",),
        ),
        Example("rate = min(1.0, (step + 1) / warmup)\n", ("rate = (step + 1) / warmup\n",)),
        Example(
            "begin = max(self.free, self.needed())\n", ("begin = self.free\n", "begin = self.needed()\n")
        ),
    ),
    counterexamples=("x = max(rows)\n", "x = max(a, b, c)\n", "x = max(rows, key=f)\n", "x = max(a, a2)\n"),
)
def limit_dropped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if not isinstance(node.func, cst.Name) or node.func.value not in ("min", "max") or len(node.args) != 2:
        return
    if any(each.keyword is not None or each.star for each in node.args) or f.qname(node.func):
        return
    one, two = (each.value for each in node.args)
    for bound, kept in ((one, two), (two, one)):
        plain = number(bound) is not None and number(kept) is None
        settled = isinstance(bound, cst.Attribute | cst.Call) and isinstance(kept, cst.Attribute | cst.Call)
        if (plain or settled) and not orphans(f, bound):
            yield Proposal((f.replace(node, f.text(kept)),))


@operator(
    "rounded-down",
    cst.Call,
    cst.UnaryOperation,
    category=CATEGORY,
    difficulty=3,
    symptom="The last few are left out, unless the sizes happen to divide.",
    hints=(
        "LOOK: try sizes that do not divide.",
        "WHERE: where `{function}` turns a share into a whole number.",
        "WHAT: up, down, or to the nearest?",
    ),
    repair="Round in the direction that leaves nothing out.",
    mechanism="Down instead of up, or instead of to the nearest, is one less at most, and often nothing.",
    examples=(
        Example("import math\nn = math.ceil(a / b)\n", ("import math\nn = math.floor(a / b)\n",)),
        Example("n = -(-a // b)\n", ("n = a // b\n",)),
        Example("n = round(share * total)\n", ("n = int(share * total)\n",)),
    ),
    counterexamples=("x = round(a, 2)\n", "n = -a // b\n", "n = x.ceil()\n"),
)
def rounded_down(f: SourceFile, node: cst.Call | cst.UnaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.UnaryOperation):
        inner = node.expression
        share = inner if isinstance(inner, cst.BinaryOperation) and inner.lpar else None
        if isinstance(node.operator, cst.Minus) and share and isinstance(share.operator, cst.FloorDivide):
            first = share.left
            if isinstance(first, cst.UnaryOperation) and isinstance(first.operator, cst.Minus):
                yield Proposal((f.replace(node, f"{f.text(first.expression)} // {f.text(share.right)}"),))
        return
    if len(node.args) != 1:
        return
    if f.qname(node.func) == "math.ceil" and (floor := f.spelling("math.floor")) and "." in floor:
        yield Proposal((f.replace(node.func, floor),))
    elif isinstance(node.func, cst.Name) and node.func.value == "round":
        yield Proposal((f.replace(node.func, "int"),))


@operator(
    "rest-forgotten",
    cst.For,
    cst.If,
    cst.SimpleStatementLine,
    category=CATEGORY,
    difficulty=3,
    symptom="A few of the last ones never come out.",
    hints=(
        "LOOK: count what goes in and what comes out.",
        "WHERE: the end of `{function}`.",
        "WHAT: what is still waiting when the loop is over?",
    ),
    repair="Hand out what is left when the loop ends.",
    mechanism="The loop hands out what is full or replaced. What is still waiting at its end is dropped.",
    examples=(
        Example(
            "def f(rows, n):\n    b = []\n    for r in rows:\n        b.append(r)\n        if len(b) == n:\n"
            "            yield b\n            b = []\n    if b:\n        yield b\n",
            (
                "def f(rows, n):\n    b = []\n    for r in rows:\n        b.append(r)\n"
                "        if len(b) == n:\n"
                "            yield b\n            b = []\n",
            ),
        ),
        Example(
            "def f(a, b):\n    for x in a:\n        yield x\n    yield from b\n",
            ("def f(a, b):\n    for x in a:\n        yield x\n",),
        ),
    ),
    counterexamples=(
        "def f(a, b):\n    for x in a:\n        g(x)\n    yield b\n",
        "def f(a, b):\n    yield a\n    yield b\n",
    ),
)
def rest_forgotten(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    siblings = list(f.siblings(node))
    if len(siblings) < 2 or siblings[-1] is not node or not any(True for _ in inside(node, cst.Yield)):
        return
    before = siblings[-2]
    yields = isinstance(before, cst.For | cst.While) and any(True for _ in inside(before, cst.Yield))
    if yields and not orphans(f, node):
        yield Proposal((f.delete_statement(node),))
