"""Looking at training code: schedules, updates, averages, and what a name was made from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    definitions,
    function_of,
    inside,
    last_name,
    loads,
    method_line,
    names_in,
    number,
)
from bughunt_mutator.source import SourceFile

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
AVERAGING = frozenset({"ema", "average", "averaged", "avg", "shadow", "slow"})
TEMPERATURES = frozenset({"temperature", "temp", "tau", "t"})
SIMPLE = (cst.Name, cst.Attribute, cst.Call, cst.Subscript)


@lru_cache(maxsize=1024)
def words(node: cst.CSTNode) -> frozenset[str]:
    """The words, in lower case, that the names in a node consist of."""
    return frozenset(part.lower() for name in names_in(node) for part in WORD.findall(name))


def atom(f: SourceFile, node: cst.BaseExpression) -> str:
    """The text of an expression, fit to be followed by an attribute or put beside any operator."""
    text = f.text(node)
    return text if node.lpar or isinstance(node, SIMPLE) else f"({text})"


@lru_cache(maxsize=16)
def made(f: SourceFile) -> dict[str, list[cst.Call]]:
    """The calls of a file whose results are assigned to a name, by that name."""
    found: dict[str, list[cst.Call]] = {}
    for line in inside(f.module, cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is not None and isinstance(pair[1], cst.Call):
            found.setdefault(f.text(pair[0]), []).append(pair[1])
    return found


def maker(f: SourceFile, node: cst.CSTNode, name: str) -> cst.Call | None:
    """The call whose result is assigned to a name, looked for near the node first."""
    calls = made(f).get(name, [])
    for home in (f.function, f.class_):
        near = [call for call in calls if home(call) is home(node)]
        if near:
            return near[0]
    return calls[0] if calls else None


def made_by(f: SourceFile, node: cst.CSTNode, name: str) -> str:
    """The full name of what makes the value of a name; empty if that is not known."""
    call = maker(f, node, name)
    return (f.qname(call.func) or "") if call is not None else ""


def resolved(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression:
    """What a local name was assigned, if that happens once; any other expression as it is."""
    if not isinstance(node, cst.Name):
        return node
    pairs = [assigned(line) for line in definitions(f, node, node.value)]
    return pairs[0][1] if len(pairs) == 1 and pairs[0] is not None else node


def schedule_step(f: SourceFile, line: cst.CSTNode) -> bool:
    """Whether a statement moves a learning rate schedule on."""
    name = method_line(f, line, "step")
    if name is None:
        return False
    return "sched" in name.lower() or made_by(f, line, name).startswith("torch.optim.lr_scheduler.")


def optimiser_step(f: SourceFile, line: cst.CSTNode) -> bool:
    """Whether a statement updates parameters."""
    name = method_line(f, line, "step")
    if name is None or schedule_step(f, line):
        return False
    known = any(word in name.lower() for word in ("opt", "scaler", "solver"))
    return known or made_by(f, line, name).startswith("torch.optim.")


def statements(home: cst.CSTNode) -> Iterator[cst.SimpleStatementLine]:
    """The plain statements of a loop or function, at any depth."""
    return inside(home, cst.SimpleStatementLine)


def backward_line(f: SourceFile, node: cst.CSTNode, name: str) -> bool:
    """Whether the function that a node stands in calls `backward()` on this name."""
    return any(method_line(f, line, "backward") == name for line in statements(function_of(f, node)))


def averaging(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a node is part of keeping a moving average of weights."""
    home, family = f.function(node), f.class_(node)
    return any(words(each) & AVERAGING for each in (home, family) if each is not None)


def is_temperature(node: cst.CSTNode | None) -> bool:
    """Whether a name is that of a temperature."""
    return any(part.lower() in TEMPERATURES for part in WORD.findall(last_name(node)))


def is_small(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression is a small constant that keeps a value away from zero."""
    if (given := number(node)) is not None:
        return 0 < given < 1e-2
    return isinstance(node, cst.Name | cst.Attribute) and "eps" in f.text(node).lower()


def factors(node: cst.BaseExpression) -> tuple[cst.BaseExpression, ...]:
    """What a product consists of."""
    sides = binary(node, cst.Multiply)
    return (*factors(sides[0]), *factors(sides[1])) if sides is not None else (node,)


def complement(node: cst.CSTNode | None) -> cst.BaseExpression | None:
    """The `p` of `1 - p`."""
    sides = binary(node, cst.Subtract)
    return sides[1] if sides is not None and number(sides[0]) == 1 else None


def retired(f: SourceFile, *removed: cst.CSTNode) -> tuple[Edit, ...] | None:
    """The edits that take away the definitions that nobody reads once nodes are removed.

    Nothing at all where an import would be left over, or a name that is assigned in several places.
    """
    gone: list[cst.CSTNode] = list(removed)
    edits: list[Edit] = []
    while (found := _left_over(f, gone)) is not None:
        if len(found) != 1 or found[0] in gone:
            return None
        gone.append(found[0])
        edits.append(f.delete_statement(found[0]))
    return tuple(edits)


def _left_over(f: SourceFile, gone: list[cst.CSTNode]) -> list[cst.SimpleStatementLine] | None:
    """The assignments to one name that nobody reads any more; no lines at all for an import."""
    lost: Counter[str] = Counter()
    for node in gone:
        lost += loads(node)
    home = function_of(f, gone[0])
    here, everywhere = loads(home), loads(f.module)
    for name, count in lost.items():
        if name in _imported(f) and everywhere[name] <= count:
            return []
        if isinstance(home, cst.FunctionDef) and here[name] <= count:
            lines = [line for line in definitions(f, gone[0], name) if line not in gone]
            if lines:
                return lines
    return None


def _imported(f: SourceFile) -> frozenset[str]:
    names = (alias.asname.name if alias.asname else alias.name for alias in inside(f.module, cst.ImportAlias))
    return frozenset(name.value for name in names if isinstance(name, cst.Name))


def merged(*edits: Edit) -> tuple[Edit, ...]:
    """The same edits, those that touch made into one, so that they can be taken back."""
    whole: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: edit.start):
        if whole and whole[-1].end == edit.start:
            last = whole.pop()
            guards = [each.new if each.guarded is None else each.guarded for each in (last, edit)]
            guarded = None if last.guarded is edit.guarded is None else "".join(guards)
            edit = Edit(last.start, edit.end, last.old + edit.old, last.new + edit.new, guarded)
        whole.append(edit)
    return tuple(whole)


def reduced(f: SourceFile, node: cst.BaseExpression, part: cst.BaseExpression) -> Edit:
    """The edit that leaves a part of an expression, without parentheses that nothing asks for."""
    text = f.text(part)
    alone = isinstance(f.parent.get(node), cst.Assign | cst.Return | cst.Arg)
    if (
        alone
        and len(part.lpar) == 1
        and "\n" not in text
        and not isinstance(part, cst.Tuple | cst.GeneratorExp)
    ):
        text = text[1:-1]
    return f.replace(node, text)
