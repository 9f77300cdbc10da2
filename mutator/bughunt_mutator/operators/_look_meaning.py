"""Looking at what an expression means: the words of its names, where it came from, what it leaves behind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    definitions,
    descendants,
    function_of,
    inside,
    last_name,
    loads,
    names_in,
    number,
)
from bughunt_mutator.source import SourceFile

Node = TypeVar("Node", bound=cst.CSTNode)
PIECES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
DONE = ("done", "dones", "terminated", "terminations", "terminal", "terminals", "finished", "ended")
NOT_DONE = ("alive", "nonterminal", "nonterminals", "nextnonterminal", "continues")
REWARD = ("reward", "rewards", "rew", "rews", "return", "returns", "gamma", "discount")
DISCOUNT = ("gamma", "discount")
TARGET = ("target", "targets", "tgt", "targ", "frozen")
LOG_PROB = ("logp", "logps", "logpi", "logprob", "logprobs", "newlogprob", "oldlogprob", "logratio")


@lru_cache(maxsize=4096)
def pieces(name: str) -> frozenset[str]:
    """The words that a name is put together from, in lower case."""
    return frozenset(piece.lower() for piece in PIECES.findall(name))


@lru_cache(maxsize=2048)
def words(node: cst.CSTNode) -> frozenset[str]:
    """The words of all names in a node."""
    return frozenset(word for name in names_in(node) for word in pieces(name))


def says(node: cst.CSTNode | None, *some: str) -> bool:
    """Whether one of these words is part of a name in the node."""
    return node is not None and not words(node).isdisjoint(some)


def named(node: cst.CSTNode | None, *some: str) -> bool:
    """Whether the last part of a dotted name is put together with one of these words."""
    return not pieces(last_name(node)).isdisjoint(some)


def within(f: SourceFile, node: cst.CSTNode, *some: str) -> bool:
    """Whether the function around a node says one of these words, in its name or in its body."""
    home = function_of(f, node)
    return says(home, *some)


def called_in(f: SourceFile, node: cst.CSTNode, *some: str) -> bool:
    """Whether a function or class around a node is named with one of these words."""
    at: cst.CSTNode | None = node
    while at is not None:
        if isinstance(at, cst.FunctionDef | cst.ClassDef) and not pieces(at.name.value).isdisjoint(some):
            return True
        at = f.parent.get(at)
    return False


@lru_cache(maxsize=64)
def everywhere(f: SourceFile, kind: type[Node]) -> tuple[Node, ...]:
    """All nodes of one type in a file."""
    return tuple(node for node in f.order if isinstance(node, kind))


def resolved(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression:
    """What a name was last given in its function before it stands here; the node itself otherwise."""
    if not isinstance(node, cst.Name):
        return node
    here, home = f.span(node)[0], function_of(f, node)
    found: cst.BaseExpression = node
    for line in everywhere(f, cst.SimpleStatementLine):
        if f.span(line)[1] > here:
            break
        for target, value in given(line):
            if isinstance(target, cst.Name) and target.value == node.value and function_of(f, line) is home:
                found = value
    return found


def given(line: cst.SimpleStatementLine) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """What a statement assigns to what, one by one where both sides are tuples."""
    pair = assigned(line)
    if pair is None:
        return
    if isinstance(pair[0], cst.Tuple) and isinstance(pair[1], cst.Tuple):
        if len(pair[0].elements) == len(pair[1].elements):
            for target, value in zip(pair[0].elements, pair[1].elements, strict=True):
                yield target.value, value.value
    else:
        yield pair


def holder(f: SourceFile, node: cst.CSTNode) -> cst.BaseExpression | None:
    """The target that the statement of a node assigns to, plainly or in place."""
    line: cst.CSTNode | None = node
    while line is not None and not isinstance(line, cst.Assign | cst.AnnAssign | cst.AugAssign):
        if isinstance(line, cst.BaseStatement):
            return None
        line = f.parent.get(line)
    if isinstance(line, cst.Assign):
        return line.targets[0].target
    return line.target if line is not None else None


def complement(node: cst.CSTNode | None) -> cst.BaseExpression | None:
    """What is taken from one in `1 - x`."""
    sides = binary(node, cst.Subtract)
    return sides[1] if sides is not None and number(sides[0]) == 1 else None


def base(node: cst.BaseExpression) -> cst.BaseExpression:
    """What is indexed, cast or reshaped to make an expression."""
    while True:
        if isinstance(node, cst.Subscript):
            node = node.value
        elif isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
            node = node.func.value
        else:
            return node


def is_done(node: cst.CSTNode | None) -> bool:
    """Whether an expression is the flag that an episode has ended."""
    if not isinstance(node, cst.BaseExpression):
        return False
    root = base(node)
    return isinstance(root, cst.Name | cst.Attribute) and named(root, *DONE) and not says(root, "not")


def is_alive(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression is one while an episode goes on and zero once it is over."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        return is_alive(f, node.func.value)
    taken = complement(node)
    if taken is not None:
        return is_done(taken) or cuts_future(f, node, taken)
    if isinstance(node, cst.UnaryOperation):
        return isinstance(node.operator, cst.BitInvert | cst.Not) and is_done(node.expression)
    root = base(node) if isinstance(node, cst.BaseExpression) else node
    if not isinstance(root, cst.Name | cst.Attribute):
        return False
    if named(root, "mask", "masks"):
        return discounted(f, node)
    known = named(root, *NOT_DONE) or {"not", "done"} <= pieces(last_name(root))
    return known and within(f, node, *REWARD)


def cuts_future(f: SourceFile, node: cst.CSTNode, flag: cst.BaseExpression) -> bool:
    """Whether `1 - flag` is multiplied with a discount, whatever the flag is called."""
    if says(flag, *DISCOUNT, "lam", "lambda", "tau", "alpha", "beta", "eps", "decay", "clip"):
        return False
    return discounted(f, node)


def discounted(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression is a factor beside a discount."""
    above = f.parent.get(node)
    while isinstance(above, cst.BinaryOperation) and isinstance(above.operator, cst.Multiply):
        if says(above, *DISCOUNT):
            return True
        above = f.parent.get(above)
    return False


def later_reads(f: SourceFile, node: cst.CSTNode, name: str) -> Iterator[cst.Name]:
    """The places in the same function, behind a node, where a name is read."""
    end = f.span(node)[1]
    for each in inside(function_of(f, node), cst.Name):
        parent = f.parent.get(each)
        bound = isinstance(parent, cst.AssignTarget | cst.Param) or (
            isinstance(parent, cst.Attribute) and parent.attr is each
        )
        keyword = isinstance(parent, cst.Arg) and parent.keyword is each
        if each.value == name and not bound and not keyword and f.span(each)[0] >= end:
            yield each


def tidy(f: SourceFile, *removed: cst.CSTNode) -> tuple[Edit, ...] | None:
    """The edits that take away what only the removed nodes read; nothing if that cannot be done."""
    if not removed:
        return ()
    home = function_of(f, removed[0])
    here, whole = loads(home), loads(f.module)
    gone: Counter[str] = Counter()
    lines: dict[cst.CSTNode, None] = {}
    waiting = list(removed)
    while waiting:
        gone += loads(waiting.pop())
        for line in _unread(f, home, here, whole, gone):
            if line is None:
                return None
            if line in lines or any(node in descendants(line) for node in removed):
                continue
            lines[line] = None
            waiting.append(line)
    if any(line is not other and _holds(f, line, other) for line in lines for other in lines):
        return None
    return tuple(f.delete_statement(line) for line in lines)


def _holds(f: SourceFile, line: cst.CSTNode, other: cst.CSTNode) -> bool:
    one, two = f.outer[line], f.outer[other]
    return one[0] < two[1] and two[0] < one[1]


def _unread(
    f: SourceFile, home: cst.CSTNode, here: Counter[str], whole: Counter[str], gone: Counter[str]
) -> Iterator[cst.CSTNode | None]:
    """The lines that bind names which are now read nowhere; nothing for one that must stay."""
    for line in inside(home, cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is None or not isinstance(home, cst.FunctionDef):
            continue
        if isinstance(pair[0], cst.Tuple) and _parts_unread(pair[0], here, gone):
            yield line
        if not isinstance(pair[0], cst.Name):
            continue
        name = pair[0].value
        if gone[name] and here[name] <= gone[name]:
            yield line if len(list(definitions(f, line, name))) == 1 else None
    for alias in everywhere(f, cst.ImportAlias):
        bound: cst.CSTNode = alias.asname.name if alias.asname else alias.name
        while isinstance(bound, cst.Attribute):
            bound = bound.value
        if isinstance(bound, cst.Name) and gone[bound.value] and whole[bound.value] <= gone[bound.value]:
            bringing = f.statement(alias)
            yield bringing if len(list(inside(bringing, cst.ImportAlias))) == 1 else None


def _parts_unread(target: cst.Tuple, here: Counter[str], gone: Counter[str]) -> bool:
    """Whether every name that a tuple binds was read by what is gone, and is read nowhere else."""
    names = [element.value for element in target.elements]
    return all(
        isinstance(name, cst.Name)
        and bool(gone[name.value])
        and here[name.value] <= gone[name.value] + 1  # the place where it is bound counts too
        for name in names
    )


def alone(f: SourceFile, line: cst.CSTNode) -> cst.CSTNode:
    """The statement to take away with a line: the `if` or `with` around it where it holds nothing else."""
    while True:
        suite = f.parent.get(line)
        above = f.parent.get(suite) if isinstance(suite, cst.IndentedBlock) else None
        if not isinstance(suite, cst.IndentedBlock) or len(suite.body) != 1:
            return line
        if isinstance(above, cst.If) and (above.orelse or isinstance(f.parent.get(above), cst.If)):
            return line
        if not isinstance(above, cst.If | cst.With):
            return line
        line = above


def in_loop_or_method(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a line runs again and again: in a loop, or in a function that sets nothing up."""
    at = f.parent.get(node)
    while at is not None:
        if isinstance(at, cst.For | cst.While):
            return True
        if isinstance(at, cst.FunctionDef):
            return pieces(at.name.value).isdisjoint(("init", "build", "make", "create", "setup", "main"))
        at = f.parent.get(at)
    return False


def reindented(f: SourceFile, node: cst.CSTNode, old: str, new: str) -> str | None:
    """The text of statements with another indent in front of each line; nothing if a string would change."""
    for part in inside(node, cst.SimpleString):
        if "\n" in part.value:
            return None
    start, end = f.span(node)
    lines = f.source[start:end].rstrip("\r\n").splitlines()
    return "\n".join(new + line[len(old) :] if line.startswith(old) else line for line in lines)


def plain(f: SourceFile, node: cst.BaseExpression) -> str:
    """The text of an expression that anything may follow."""
    text = f.text(node)
    simple = isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript)
    return text if simple or node.lpar else f"({text})"


def undetached(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """What `.detach()` is called on, if the node is that call."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and not node.args:
        return node.func.value if node.func.attr.value == "detach" else None
    return None


def same_but_number(one: str, two: str) -> bool:
    """Whether two texts differ in a number or in a final letter only."""
    if one == two:
        return False
    blank = [re.sub(r"\d+", "#", text) for text in (one, two)]
    ended = [re.sub(r"_[ab]\b", "_#", text) for text in (one, two)]
    return blank[0] == blank[1] or ended[0] == ended[1]
