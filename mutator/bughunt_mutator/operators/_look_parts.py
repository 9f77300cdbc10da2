"""Looking at the parts of a program: the words in its names, its slices, its blocks of lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import libcst as cst

from bughunt_mutator import precedence
from bughunt_mutator.operators._look import (
    assigned,
    definitions,
    function_of,
    inside,
    names_in,
    neighbours,
    number,
    operation,
)
from bughunt_mutator.source import SourceFile

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
LABELS = frozenset(
    {"y", "ys", "label", "labels", "target", "targets", "class", "classes", "answer", "answers", "gold"}
)


@dataclass(frozen=True)
class Cut:
    """One axis of a subscript that is cut, `lower:upper:step`, each as written or empty."""

    lower: str
    upper: str
    step: str


@lru_cache(maxsize=512)
def spoken(node: cst.CSTNode) -> frozenset[str]:
    """The words that the names within a node are made of, in lower case."""
    return frozenset(word.lower() for name in names_in(node) for word in WORDS.findall(name))


def says(node: cst.CSTNode | None, *words: str) -> bool:
    """Whether one of these is a whole word of a name within a node."""
    return node is not None and not spoken(node).isdisjoint(words)


def home_says(f: SourceFile, node: cst.CSTNode, *words: str) -> bool:
    """Whether the function or the class around a node uses one of these words."""
    return says(function_of(f, node), *words) or says(f.class_(node), *words)


def is_label(node: cst.CSTNode | None) -> bool:
    """Whether a name, or what is indexed, is called as labels are."""
    while isinstance(node, cst.Subscript):
        node = node.value
    return isinstance(node, cst.Name | cst.Attribute) and says(node, *LABELS)


def classifies(f: SourceFile) -> bool:
    """Whether a file sorts things into classes."""
    known = ("cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss", "argmax", "one_hot", "bincount")
    return not names_in(f.module).isdisjoint(known)


def cuts(f: SourceFile, node: cst.CSTNode | None) -> list[Cut | str]:
    """The axes of a subscript: cuts, and indices as written."""
    if not isinstance(node, cst.Subscript):
        return []
    return [_cut(f, element.slice) for element in node.slice]


def _cut(f: SourceFile, part: cst.BaseSlice) -> Cut | str:
    if not isinstance(part, cst.Slice):
        return f.text(part)
    ends = (part.lower, part.upper, part.step)
    return Cut(*(f.text(end) if end is not None else "" for end in ends))


def sole(f: SourceFile, node: cst.CSTNode | None) -> Cut | str | None:
    """The only axis of a subscript that has one."""
    axes = cuts(f, node)
    return axes[0] if len(axes) == 1 else None


def defined(f: SourceFile, node: cst.CSTNode, name: str) -> cst.BaseExpression | None:
    """What a name is assigned, if the function around a node assigns it once."""
    lines = list(definitions(f, node, name))
    pair = assigned(lines[0]) if len(lines) == 1 else None
    return pair[1] if pair is not None else None


def resolved(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression:
    """An expression, or what stands behind the name that it is."""
    if isinstance(node, cst.Name):
        return defined(f, node, node.value) or node
    return node


def fresh(f: SourceFile, node: cst.CSTNode, *names: str) -> str:
    """The first of these names that the function around a node does not use."""
    used = names_in(function_of(f, node))
    return next(name for name in (*names, names[-1] + "_") if name not in used)


def later(f: SourceFile, line: cst.CSTNode) -> list[cst.CSTNode]:
    """The statements after one in its suite."""
    lines, place = neighbours(f, line)
    return list(lines[place + 1 :])


def body_text(f: SourceFile, block: cst.CSTNode) -> str | None:
    """The lines of the suite of a compound statement, as deep as the statement itself."""
    suite = getattr(block, "body", None)
    if not isinstance(suite, cst.IndentedBlock) or not suite.body:
        return None
    start, end = f.outer[suite.body[0]][0], f.outer[suite.body[-1]][1]
    text = f.source[start:end].strip("\r\n")
    if '"""' in text or "'''" in text or "\\\n" in text:
        return None
    outer, inner = f.indent(block), f.indent(suite.body[0])
    lines = [outer + line.removeprefix(inner) if line.strip() else line for line in text.splitlines()]
    return "\n".join(lines).strip()


def names_of(target: cst.CSTNode) -> frozenset[str]:
    """The plain names that an assignment binds."""
    if isinstance(target, cst.Name):
        return frozenset({target.value})
    if isinstance(target, cst.Tuple | cst.List):
        return frozenset().union(*(names_of(element.value) for element in target.elements))
    return frozenset()


def calls(node: cst.CSTNode, *names: str) -> Iterator[cst.Call]:
    """The calls within a node of what is called by one of these names."""
    for call in inside(node, cst.Call):
        func = call.func
        last = func.attr if isinstance(func, cst.Attribute) else func
        if isinstance(last, cst.Name) and last.value in names:
            yield call


def draws(node: cst.CSTNode) -> bool:
    """Whether an expression draws at random."""
    known = {
        "rand", "randn", "randint", "random", "uniform", "normal", "choice", "integers", "draw",
        "rand_like", "randn_like", "standard_normal", "bernoulli", "sample", "get_params", "randrange",
    }  # fmt: skip
    return any(True for _ in calls(node, *sorted(known)))


def is_number(node: cst.CSTNode | None, wanted: float) -> bool:
    """Whether a node is this number, written out."""
    return number(node) == wanted


def opposite(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """The operand of a minus sign."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        return node.expression
    return None


def summed(f: SourceFile, node: cst.CSTNode | None) -> str | None:
    """What `x.sum()` adds up, over all axes."""
    op = operation(f, node, "sum")
    return f.text(op.subject) if op is not None and len(op.call.args) == op.shift else None


def closed(text: str) -> str:
    """A text that can be a factor: in brackets, unless nothing binds tighter than it does."""
    return text if precedence.level(text) == precedence.ATOM else f"({text})"


def first(f: SourceFile, nodes: list[cst.Subscript] | list[cst.Call]) -> cst.CSTNode | None:
    """The node that stands first in the text."""
    return min(nodes, key=lambda node: f.span(node)[0], default=None)
