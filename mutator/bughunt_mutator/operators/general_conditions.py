"""Mistakes in conditions: a bound, a guard, a quantifier, the way out of a loop."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import ancestors, enclosing, inside, last_name, names_in, number
from bughunt_mutator.operators._look_parts import names_of
from bughunt_mutator.source import SourceFile

CATEGORY = "control-flow"
BOUNDS: dict[type[cst.BaseCompOp], str] = {
    cst.LessThan: "<=",
    cst.LessThanEqual: "<",
    cst.GreaterThan: ">=",
    cst.GreaterThanEqual: ">",
}
TURNED: dict[type[cst.BaseCompOp], str] = {
    cst.In: "not in",
    cst.NotIn: "in",
    cst.Is: "is not",
    cst.IsNot: "is",
    cst.Equal: "!=",
    cst.NotEqual: "==",
}
QUANTIFIERS = {"any": "all", "all": "any"}


def decides(f: SourceFile, node: cst.CSTNode) -> cst.CSTNode | None:
    """The branch, loop or comprehension that a condition decides about."""
    at = node
    for above in ancestors(f, node):
        if isinstance(above, cst.If | cst.While | cst.IfExp | cst.CompIf):
            return above if above.test is at else None
        if not isinstance(above, cst.BooleanOperation | cst.UnaryOperation):
            return None
        at = above
    return None


def refuses(node: cst.CSTNode) -> bool:
    """Whether a branch does nothing but raise."""
    return isinstance(node, cst.If) and any(True for _ in inside(node.body, cst.Raise))


@operator(
    "bound-included",
    cst.Comparison,
    category=CATEGORY,
    difficulty=3,
    symptom="Nearly everything is right; what lies exactly on a limit is not.",
    hints=(
        "LOOK: try the limit itself, and one less and one more.",
        "WHERE: the comparisons that `{function}` decides by.",
        "WHAT: does the limit itself belong to it?",
    ),
    repair="Compare so that the limit itself falls on the side that was promised.",
    mechanism=(
        "Only values that equal the limit are decided differently. Counts and whole times do so often, so one"
        " more or one less gets through each time."
    ),
    examples=(
        Example("if len(batch) >= size:\n    flush()\n", ("if len(batch) > size:\n    flush()\n",)),
        Example(
            "kept = [one for one in rows if one.time <= now and one.ok]\n",
            ("kept = [one for one in rows if one.time < now and one.ok]\n",),
        ),
        Example("fresh = now - t if now > t else 0\n", ("fresh = now - t if now >= t else 0\n",)),
    ),
    counterexamples=(
        "if loss < 0.5:\n    stop()\n",
        "late = a < b\n",
        "if n < 0:\n    raise ValueError(n)\n",
        "if 0 < n < 3:\n    f()\n",
    ),
)
def bound_included(f: SourceFile, node: cst.Comparison) -> Iterator[Proposal]:
    decided = decides(f, node)
    if decided is None or refuses(decided) or len(node.comparisons) != 1:
        return
    target = node.comparisons[0]
    new = BOUNDS.get(type(target.operator))
    literal = isinstance(node.left, cst.Float) or isinstance(target.comparator, cst.Float)
    if new is not None and not literal:
        yield Proposal((f.replace(node, f"{f.text(node.left)} {new} {f.text(target.comparator)}"),))


@operator(
    "guard-turned",
    cst.Comparison,
    cst.UnaryOperation,
    category=CATEGORY,
    difficulty=2,
    symptom="What should be left out is let in, and the other way round.",
    hints=(
        "LOOK: follow one case that should be let through, and one that should not.",
        "WHERE: the conditions in `{function}`.",
        "WHAT: for which of the two cases is this branch?",
    ),
    repair="Ask for the case that the branch is for.",
    mechanism="The branches have changed places. Where both give something of the right type, nothing stops.",
    examples=(
        Example("rows = [r for r in rows if r not in seen]\n", ("rows = [r for r in rows if r in seen]\n",)),
        Example("x = a if key is None else b\n", ("x = a if key is not None else b\n",)),
        Example("if not queue:\n    wait()\n", ("if queue:\n    wait()\n",)),
        Example("if kind == 'a' and on:\n    f()\n", ("if kind != 'a' and on:\n    f()\n",)),
    ),
    counterexamples=(
        "if key not in known:\n    raise KeyError(key)\n",
        "x = not y\n",
        "while not done:\n    step()\n",
        "if a < b:\n    f()\n",
    ),
)
def guard_turned(f: SourceFile, node: cst.Comparison | cst.UnaryOperation) -> Iterator[Proposal]:
    decided = decides(f, node)
    if decided is None or refuses(decided) or isinstance(decided, cst.While):
        return
    if isinstance(node, cst.UnaryOperation):
        if isinstance(node.operator, cst.Not):
            yield Proposal((f.replace(node, f.text(node.expression)),))
    elif len(node.comparisons) == 1 and (new := TURNED.get(type(node.comparisons[0].operator))):
        other = f.text(node.comparisons[0].comparator)
        yield Proposal((f.replace(node, f"{f.text(node.left)} {new} {other}"),))


@operator(
    "and-for-or",
    cst.BooleanOperation,
    category=CATEGORY,
    difficulty=3,
    symptom="Cases that meet one of two conditions are treated as if they met both, or neither.",
    hints=(
        "LOOK: try each of the four cases of two conditions.",
        "WHERE: the conditions of several parts in `{function}`.",
        "WHAT: is one of them enough?",
    ),
    repair="Join the conditions as the rule says.",
    mechanism="Both give the same where the conditions agree, and they do so most of the time.",
    examples=(
        Example("if full or late:\n    flush()\n", ("if full and late:\n    flush()\n",)),
        Example(
            "found = [a for a in rows if big(a) and near(a)]\n",
            ("found = [a for a in rows if big(a) or near(a)]\n",),
        ),
    ),
    counterexamples=(
        "name = given or 'none'\n",
        "if rows and rows[-1] > 3:\n    f()\n",
        "if a is not None and a.ok:\n    f()\n",
    ),
)
def and_for_or(f: SourceFile, node: cst.BooleanOperation) -> Iterator[Proposal]:
    decided = decides(f, node)
    if decided is None or refuses(decided) or isinstance(node.left, cst.BooleanOperation):
        return
    if isinstance(node.operator, cst.And) and guards(f, node.left, node.right):
        return
    new = "or" if isinstance(node.operator, cst.And) else "and"
    yield Proposal((f.replace(node, f"{f.text(node.left)} {new} {f.text(node.right)}"),))


def guards(f: SourceFile, first: cst.BaseExpression, second: cst.BaseExpression) -> bool:
    """Whether a condition makes sure that the next one can be asked at all."""
    asked = first.left if isinstance(first, cst.Comparison) else first
    return isinstance(asked, cst.Name | cst.Attribute) and f.text(asked) in f.text(second)


@operator(
    "any-for-all",
    cst.Call,
    category=CATEGORY,
    difficulty=2,
    symptom="One case among many decides, or no single case ever does.",
    hints=(
        "LOOK: try it with one that fits among several that do not.",
        "WHERE: where `{function}` asks about many at once.",
        "WHAT: must all of them fit, or does one suffice?",
    ),
    repair="Ask for all, or for any, as the rule says.",
    mechanism="With none, with one, and where all agree, both give the same answer; only mixtures differ.",
    examples=(
        Example("ready = all(done[s] for s in needs)\n", ("ready = any(done[s] for s in needs)\n",)),
        Example("stop = finished.all()\n", ("stop = finished.any()\n",)),
        Example("import numpy as np\nx = np.any(a > b)\n", ("import numpy as np\nx = np.all(a > b)\n",)),
    ),
    counterexamples=("x = a.sum()\n", "assert all(x)\n"),
)
def any_for_all(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    new = QUANTIFIERS.get(last_name(node.func))
    if new is None or enclosing(f, node, cst.Assert) is not None:
        return
    if isinstance(node.func, cst.Name) and not f.aliases.qname(node.func):
        yield Proposal((f.replace(node.func, new),))
    elif isinstance(node.func, cst.Attribute):
        yield Proposal((f.replace(node.func.attr, new),))


@operator(
    "break-for-continue",
    cst.Continue,
    cst.Break,
    category=CATEGORY,
    difficulty=2,
    symptom="Only the first part of what there is gets done, or more than should be.",
    hints=(
        "LOOK: count how many rounds the loop makes.",
        "WHERE: the loops of `{function}`.",
        "WHAT: is it this one that is to be skipped, or all that follow too?",
    ),
    repair="Skip one with `continue`, end with `break`.",
    mechanism=(
        "Leaving the loop drops everything behind one unusual case; going on takes in what should have ended"
        " the loop."
    ),
    examples=(
        Example(
            "for a in rows:\n    if a.empty:\n        continue\n    f(a)\n",
            ("for a in rows:\n    if a.empty:\n        break\n    f(a)\n",),
        ),
        Example(
            "for a in rows:\n    if full(a):\n        break\n    f(a)\n",
            ("for a in rows:\n    if full(a):\n        continue\n    f(a)\n",),
        ),
    ),
    counterexamples=("while more():\n    if late():\n        break\n    f()\n",),
)
def break_for_continue(f: SourceFile, node: cst.Continue | cst.Break) -> Iterator[Proposal]:
    loop = enclosing(f, node, cst.For, cst.While)
    if isinstance(node, cst.Continue):
        yield Proposal((f.replace(node, "break"),))
    elif isinstance(loop, cst.For) and loop.orelse is None:
        yield Proposal((f.replace(node, "continue"),))


@operator(
    "returned-too-early",
    cst.Return,
    category=CATEGORY,
    difficulty=2,
    symptom="Only the first of many has any effect on the result.",
    hints=(
        "LOOK: call it with one element and with many; what differs?",
        "WHERE: where `{function}` gives its result.",
        "WHAT: after the loop, or in it?",
    ),
    repair="Give the result after the loop.",
    mechanism="Indented once too often, the return belongs to the loop and ends it in its first round.",
    examples=(
        Example(
            "def total(rows):\n    n = 0\n    for row in rows:\n        n += row\n    return n\n",
            ("def total(rows):\n    n = 0\n    for row in rows:\n        n += row\n        return n\n",),
        ),
    ),
    counterexamples=(
        "def f(rows):\n    for row in rows:\n        g(row)\n    return rows\n",
        "def f(rows):\n    for row in rows:\n        x = row\n    y = 1\n    return x + y\n",
    ),
)
def returned_too_early(f: SourceFile, node: cst.Return) -> Iterator[Proposal]:
    line = f.statement(node)
    siblings = list(f.siblings(line))
    place = next((at for at, each in enumerate(siblings) if each is line), 0)
    loop = siblings[place - 1] if place else None
    if node.value is None or not isinstance(loop, cst.For) or not isinstance(loop.body, cst.IndentedBlock):
        return
    last = loop.body.body[-1]
    changed = {name for each in inside(loop.body, cst.AssignTarget) for name in names_of(each.target)}
    changed |= {name for each in inside(loop.body, cst.AugAssign) for name in names_in(each.target)}
    changed |= {name for call in inside(loop.body, cst.Call) for name in names_in(call.func)}
    used = names_in(node.value)
    if loop.orelse is not None or not isinstance(last, cst.SimpleStatementLine) or not used & changed:
        return
    if not isinstance(last.body[0], cst.Return | cst.Continue | cst.Break | cst.Raise):
        yield Proposal((f.delete_statement(line), f.insert_after(last, f.text(line).strip())))


@operator(
    "one-off",
    cst.BinaryOperation,
    category=CATEGORY,
    difficulty=3,
    symptom="Everything is there but the first or the last, or one of them is there twice.",
    hints=(
        "LOOK: count what goes in and what comes out, for none, one and two.",
        "WHERE: the ranges and indices of `{function}`.",
        "WHAT: does the count start with zero, and is the end in it?",
    ),
    repair="Count from and to where the range says.",
    mechanism="A range leaves out its end, an index starts at zero: one more or less is needed exactly once.",
    examples=(
        Example("for d in range(a, b + 1):\n    f(d)\n", ("for d in range(a, b):\n    f(d)\n",)),
        Example("x = rows[place - 1]\n", ("x = rows[place]\n",)),
        Example("if n + 1 > most:\n    stop()\n", ("if n > most:\n    stop()\n",)),
    ),
    counterexamples=("x = a + 1\n", "x = rows[a + 2]\n", "y = f(n - 1)\n"),
)
def one_off(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    if not isinstance(node.operator, cst.Add | cst.Subtract) or number(node.right) != 1:
        return
    above = f.parent.get(node)
    call = f.parent.get(above) if isinstance(above, cst.Arg) else None
    in_range = isinstance(call, cst.Call) and last_name(call.func) in ("range", "arange")
    if in_range or isinstance(above, cst.Index | cst.Slice | cst.Comparison | cst.ComparisonTarget):
        yield Proposal((f.replace(node, f.text(node.left)),))
