"""Mistakes with lists, queues and tables: their order, their ends, their copies."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    called,
    enclosing,
    inside,
    keyword,
    last_name,
    number,
    orphans,
)
from bughunt_mutator.source import SourceFile

CATEGORY = "collections"
COPIES = ("list", "dict", "set")
CHANGES = (
    *("append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "update", "setdefault"),
    *("add", "discard", "popitem", "move_to_end"),
)
ENDS = {
    "popleft": "pop",
    "appendleft": "append",
    "bisect_left": "bisect_right",
    "bisect_right": "bisect_left",
}
SIDES = {"left": "right", "right": "left"}


@operator(
    "order-turned",
    cst.Call,
    category=CATEGORY,
    difficulty=2,
    symptom="The worst comes first, or what should be taken last is taken at once.",
    hints=(
        "LOOK: print the first and the last of what was put in order.",
        "WHERE: where `{function}` sorts or picks.",
        "WHAT: which end of the order is wanted?",
    ),
    repair="Sort from the end that is wanted, by all that the order goes by.",
    mechanism="An order from the other end has the same elements; what takes the first few takes wrong ones.",
    examples=(
        Example("best = sorted(rows, reverse=True)\n", ("best = sorted(rows)\n",)),
        Example("rows.sort(key=score)\n", ("rows.sort(key=score, reverse=True)\n",)),
        Example("for a in sorted(b):\n    f(a)\n", ("for a in sorted(b, reverse=True):\n    f(a)\n",)),
        Example(
            "q = sorted(w, key=lambda r: (r.urgent, r.time))\n",
            (
                "q = sorted(w, key=lambda r: (r.urgent, r.time), reverse=True)\n",
                "q = sorted(w, key=lambda r: (r.time, r.urgent))\n",
            ),
        ),
    ),
    counterexamples=("x = max(rows)\n", "x = tensor.sort(descending=True)\n", "assert sorted(a) == b\n"),
)
def order_turned(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    listed = called(f.statement(node)) is node and isinstance(node.func, cst.Attribute)
    sorts = last_name(node.func) == "sort" and listed
    if not sorts and not (isinstance(node.func, cst.Name) and node.func.value == "sorted"):
        return
    if isinstance(f.parent.get(node), cst.ComparisonTarget | cst.Comparison):
        return
    turned, key = keyword(node, "reverse"), keyword(node, "key")
    if turned is None:
        yield Proposal((f.insert_arg(node, "reverse=True"),))
    elif f.text(turned.value) == "True":
        yield Proposal((f.delete_arg(node, turned),))
    parts = key.value.body if key is not None and isinstance(key.value, cst.Lambda) else None
    if isinstance(parts, cst.Tuple) and len(parts.elements) > 1:
        yield Proposal(f.swap(parts.elements[0].value, parts.elements[1].value))


@operator(
    "other-end",
    cst.Call,
    cst.Subscript,
    category=CATEGORY,
    difficulty=3,
    symptom="It works with one element; with several, the wrong one is taken.",
    hints=(
        "LOOK: put in three things that can be told apart, and see which one comes out.",
        "WHERE: where `{function}` takes one of several.",
        "WHAT: the first or the last, before its equals or behind them?",
    ),
    repair="Take it from the end that is meant.",
    mechanism=(
        "Both ends hold an element of the right kind, and with one element they are the same. Equal values"
        " have two sides, too."
    ),
    examples=(
        Example("job = queue.popleft()\n", ("job = queue.pop()\n",)),
        Example("job = waiting.pop(0)\n", ("job = waiting.pop()\n",)),
        Example("step = waiting.pop()\n", ("step = waiting.pop(0)\n",)),
        Example(
            "import bisect\nn = bisect.bisect_left(t, x)\n",
            ("import bisect\nn = bisect.bisect_right(t, x)\n",),
        ),
        Example(
            "import numpy as np\nn = np.searchsorted(t, x, side='right')\n",
            ("import numpy as np\nn = np.searchsorted(t, x, side='left')\n",),
        ),
        Example("if rows[-1] == day:\n    f()\n", ("if rows[0] == day:\n    f()\n",)),
    ),
    counterexamples=("x = table.pop(key)\n", "x = rows[1]\n", "rows[-1] = 3\n", "n = x.shape[-1]\n"),
)
def other_end(f: SourceFile, node: cst.Call | cst.Subscript) -> Iterator[Proposal]:
    if isinstance(node, cst.Subscript):
        yield from _other_index(f, node)
        return
    name, side = last_name(node.func), keyword(node, "side")
    if name in ENDS and (isinstance(node.func, cst.Attribute) or f.qname(node.func)):
        place = node.func.attr if isinstance(node.func, cst.Attribute) else None
        spelling = None if place is not None else f.spelling(f"bisect.{ENDS[name]}")
        if place is not None:
            yield Proposal((f.replace(place, ENDS[name]),))
        elif spelling is not None and not orphans(f, node.func):
            yield Proposal((f.replace(node.func, spelling),))
    elif name == "pop" and isinstance(node.func, cst.Attribute):
        if not node.args and _is_list(f, node.func.value):
            yield Proposal((f.insert_arg(node, "0"),))
        elif len(node.args) == 1 and number(node.args[0].value) == 0:
            yield Proposal((f.delete_arg(node, node.args[0]),))
    elif (
        side is not None
        and isinstance(side.value, cst.SimpleString)
        and (new := SIDES.get(side.value.value[1:-1]))
    ):
        quote = side.value.value[0]
        yield Proposal((f.replace(side.value, f"{quote}{new}{quote}"),))


def _other_index(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    part = node.slice[0].slice
    above = f.parent.get(node)
    if len(node.slice) != 1 or not isinstance(part, cst.Index) or last_name(node.value) in ("shape", "argv"):
        return
    if number(part.value) == -1 and not isinstance(above, cst.AssignTarget | cst.AugAssign | cst.Del):
        yield Proposal((f.replace(part.value, "0"),))


def _is_list(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether something that is popped is filled as a list is, or not known to be anything else."""
    name = f.text(node)
    unlike = ("add", "discard", "popleft", "appendleft")
    return not any(verb in unlike for verb in verbs(f, f.module, name))


def verbs(f: SourceFile, home: cst.CSTNode, name: str) -> Iterator[str]:
    """The methods that are called of a thing."""
    for call in inside(home, cst.Call):
        if isinstance(call.func, cst.Attribute) and f.text(call.func.value) == name:
            yield call.func.attr.value


@operator(
    "copy-shared",
    cst.Call,
    category=CATEGORY,
    difficulty=3,
    symptom="The first call is right; later ones find what the first has left behind.",
    hints=(
        "LOOK: print what was passed in, before and after the call.",
        "WHERE: what `{function}` changes in place.",
        "WHAT: whose is it?",
    ),
    repair="Change a copy.",
    mechanism="Without a copy there are two names for one thing: changed by the one, it is by the other too.",
    examples=(
        Example(
            "def walk(starts):\n    waiting = list(starts)\n    while waiting:\n        f(waiting.pop())\n",
            ("def walk(starts):\n    waiting = starts\n    while waiting:\n        f(waiting.pop())\n",),
        ),
        Example(
            "def add(table, key):\n    new = table.copy()\n    new[key] = 1\n    return new\n",
            ("def add(table, key):\n    new = table\n    new[key] = 1\n    return new\n",),
        ),
    ),
    counterexamples=(
        "def f(rows):\n    kept = list(rows)\n    return len(kept)\n",
        "def f(rows):\n    kept = list(map(g, rows))\n    kept.append(1)\n    return kept\n",
    ),
)
def copy_shared(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    line = f.statement(node)
    pair = assigned(line)
    source = copied(node)
    if pair is None or pair[1] is not node or source is None or not isinstance(pair[0], cst.Name):
        return
    home = enclosing(f, node, cst.FunctionDef)
    if home is not None and isinstance(source, cst.Name | cst.Attribute) and changed(f, home, pair[0].value):
        yield Proposal((f.replace(node, f.text(source)),))


def copied(node: cst.Call) -> cst.BaseExpression | None:
    """What a call makes a copy of."""
    if isinstance(node.func, cst.Name) and node.func.value in (*COPIES, "deepcopy") and len(node.args) == 1:
        return node.args[0].value if not node.args[0].star and node.args[0].keyword is None else None
    if isinstance(node.func, cst.Attribute) and node.func.attr.value in ("copy", "deepcopy"):
        return node.args[0].value if node.args else node.func.value
    return None


def changed(f: SourceFile, home: cst.CSTNode, name: str) -> bool:
    """Whether something is changed in place under a name."""
    if any(verb in CHANGES for verb in verbs(f, home, name)):
        return True
    targets = [each.target for each in inside(home, cst.AssignTarget)]
    targets += [each.target for each in inside(home, cst.AugAssign)]
    return any(isinstance(each, cst.Subscript) and f.text(each.value) == name for each in targets)
