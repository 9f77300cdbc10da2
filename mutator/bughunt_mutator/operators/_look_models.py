"""Looking at models: what a value is made of, what a layer is, what only one place uses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    definitions,
    function_of,
    inside,
    keyword,
    last_name,
    loads,
    names_in,
    operation,
)
from bughunt_mutator.source import SourceFile

SHAPING = ("tril", "triu", "unsqueeze", "view", "reshape", "expand", "to", "transpose", "logical_not")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def words(text: str) -> frozenset[str]:
    """The words that the names of a text are made of, in small letters."""
    return frozenset(word.lower() for word in WORD.findall(text))


def released(f: SourceFile, *removed: cst.CSTNode) -> tuple[Edit, ...] | None:
    """The edits that take away what only these nodes read; nothing where that is not possible."""
    home = function_of(f, removed[0])
    gone = sum((loads(node) for node in removed), Counter[str]())
    lines: list[cst.SimpleStatementLine] = []
    settled: set[str] = set()
    while (name := _orphan(f, home, gone, settled)) is not None:
        line = _only_source(f, home, name)
        if line is None or any(node in tuple(inside(line, type(node))) for node in removed):
            return None
        settled.add(name)
        lines.append(line)
        pair = assigned(line)
        gone += loads(pair[1]) if pair is not None else Counter()
    return together(*(f.delete_statement(line) for line in lines))


def together(*edits: Edit) -> tuple[Edit, ...]:
    """The edits with deletions that touch one another made into one."""
    merged: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        last = merged[-1] if merged else None
        if last is not None and last.end == edit.start and not last.new and not edit.new:
            edit = Edit(last.start, edit.end, last.old + edit.old, "")
            merged.pop()
        merged.append(edit)
    return tuple(merged)


def _orphan(f: SourceFile, home: cst.CSTNode, gone: Counter[str], settled: set[str]) -> str | None:
    here = loads(home) if isinstance(home, cst.FunctionDef) else Counter[str]()
    everywhere = loads(f.module)
    for name, count in sorted(gone.items()):
        if name in settled:
            continue
        local = any(definitions(f, home, name)) if isinstance(home, cst.FunctionDef) else False
        if (local and here[name] <= count) or (_imports(f, name) and everywhere[name] <= count):
            return name
    return None


def _imports(f: SourceFile, name: str) -> list[cst.SimpleStatementLine]:
    found = []
    for line in f.module.body:
        if isinstance(line, cst.SimpleStatementLine) and isinstance(
            line.body[0], cst.Import | cst.ImportFrom
        ):
            for alias in inside(line, cst.ImportAlias):
                bound = alias.asname.name if alias.asname else alias.name
                if isinstance(bound, cst.Name) and bound.value == name:
                    found.append(line)
    return found


def _only_source(f: SourceFile, home: cst.CSTNode, name: str) -> cst.SimpleStatementLine | None:
    if isinstance(home, cst.FunctionDef):
        lines = [line for line in inside(home, cst.SimpleStatementLine) if _assigns(line, name)]
        if lines:
            plain = assigned(lines[0])
            sole = len(lines) == 1 and plain is not None and isinstance(plain[0], cst.Name)
            return lines[0] if sole else None
    lines = _imports(f, name)
    if len(lines) == 1 and len(tuple(inside(lines[0], cst.ImportAlias))) == 1:
        return lines[0]
    return None


def _assigns(line: cst.SimpleStatementLine, name: str) -> bool:
    return any(
        isinstance(each, cst.AssignTarget | cst.AugAssign | cst.AnnAssign)
        and any(isinstance(n, cst.Name) and n.value == name for n in _targets(each.target))
        for part in line.body
        for each in (*inside(part, cst.AssignTarget), part)
    )


def _targets(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Tuple | cst.List):
        for element in node.elements:
            yield from _targets(element.value)
    else:
        yield node


def sources(f: SourceFile, node: cst.BaseExpression) -> list[cst.BaseExpression]:
    """What a name or an attribute of `self` is plainly assigned, here or in its class."""
    if isinstance(node, cst.Name):
        found = [pair[1] for line in definitions(f, node, node.value) if (pair := assigned(line))]
        return found or [
            pair[1]
            for line in f.module.body
            if isinstance(line, cst.SimpleStatementLine)
            and (pair := assigned(line))
            and isinstance(pair[0], cst.Name)
            and pair[0].value == node.value
        ]
    home = f.class_(node)
    if not isinstance(node, cst.Attribute) or home is None or f.text(node.value) != "self":
        return []
    return [*_attribute_sources(f, home, node), *_buffers(home, node.attr.value)]


def _attribute_sources(f: SourceFile, home: cst.ClassDef, node: cst.Attribute) -> list[cst.BaseExpression]:
    text = f.text(node)
    found = []
    for line in inside(home, cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is not None and f.text(pair[0]) == text:
            found.append(pair[1])
    return found


def _buffers(home: cst.ClassDef, name: str) -> Iterator[cst.BaseExpression]:
    for call in inside(home, cst.Call):
        if last_name(call.func) == "register_buffer" and len(call.args) > 1:
            title = call.args[0].value
            if isinstance(title, cst.SimpleString) and title.evaluated_value == name:
                yield call.args[1].value


def is_boolean(f: SourceFile, node: cst.BaseExpression, depth: int = 4) -> bool:
    """Whether an expression is certainly made of truth values."""
    if isinstance(node, cst.Comparison):
        return True
    if isinstance(node, cst.UnaryOperation):
        return isinstance(node.operator, cst.BitInvert)
    if isinstance(node, cst.BinaryOperation):
        bits = isinstance(node.operator, cst.BitAnd | cst.BitOr)
        return bits and is_boolean(f, node.left, depth) and is_boolean(f, node.right, depth)
    if isinstance(node, cst.Subscript):
        return is_boolean(f, node.value, depth)
    if isinstance(node, cst.Call):
        return _boolean_call(f, node, depth)
    given = sources(f, node) if depth else []
    return bool(given) and all(is_boolean(f, each, depth - 1) for each in given)


def _boolean_call(f: SourceFile, node: cst.Call, depth: int) -> bool:
    kind = keyword(node, "dtype")
    if kind is not None:
        return f.text(kind.value) in ("torch.bool", "bool", "np.bool_")
    if last_name(node.func) in ("bool", "isnan", "eq", "ne", "lt", "gt"):
        return True
    op = operation(f, node, *SHAPING)
    if op is None:
        return False
    if op.name == "to":
        return any(f.text(each.value) in ("torch.bool", "bool") for each in node.args)
    return is_boolean(f, op.subject, depth)


def is_minus_infinity(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression is the value that hides a score from the softmax."""
    text = f.text(node).replace(" ", "").replace('"', "'")
    return "-inf" in text or text.startswith(("-torch.inf", "-math.inf", "-np.inf", "-1e", "torch.finfo"))


def atom(f: SourceFile, node: cst.BaseExpression) -> str:
    """The text of an expression that an attribute or an index may follow."""
    text = f.text(node)
    simple = isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript)
    return text if simple or node.lpar else f"({text})"


def inverted(f: SourceFile, mask: cst.BaseExpression) -> str:
    """The mask with true and false exchanged."""
    if isinstance(mask, cst.UnaryOperation) and isinstance(mask.operator, cst.BitInvert):
        return f.text(mask.expression)
    return f"~{atom(f, mask)}"


def arguments(f: SourceFile, call: cst.Call) -> list[str]:
    """The arguments of a call as they stand."""
    return [f.text(each.value) for each in call.args]


def parameters(f: SourceFile, node: cst.CSTNode) -> list[str]:
    """The names of the parameters of the function around a node."""
    home = f.function(node)
    if home is None:
        return []
    given = home.params
    return [each.name.value for each in (*given.posonly_params, *given.params, *given.kwonly_params)]


def put(f: SourceFile, node: cst.BaseExpression, new: str) -> Edit:
    """The edit that puts a text in the place of a value; a line that would say `x = x` goes."""
    line = f.statement(node)
    pair = assigned(line)
    if pair is not None and pair[1] is node and f.text(pair[0]) == new:
        return f.delete_statement(line)
    return f.replace(node, new)


def appended(f: SourceFile, call: cst.Call, new: str) -> Edit:
    """The edit that passes one more argument, on a line of its own where the last one has one."""
    last = call.args[-1]
    start, end = f.span(last)
    margin = f.source[f.source.rfind("\n", 0, start) + 1 : start]
    if margin.strip() or "\n" not in f.text(call):
        return f.insert_arg(call, new)
    return f.edit(end, end, f",{f.newline}{margin}{new}")


def layer(f: SourceFile, node: cst.CSTNode | None) -> str:
    """The name of the `torch.nn` layer that a call makes; empty for anything else."""
    home, _, name = (f.qname(node.func) or "").rpartition(".") if isinstance(node, cst.Call) else ("", "", "")
    return name if home == "torch.nn" else ""


def is_target(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a node is assigned to, or is part of what is."""
    below: cst.CSTNode = node
    for above in ancestors(f, node):
        if isinstance(above, cst.AssignTarget):
            return True
        if isinstance(above, cst.For | cst.CompFor):
            return above.target is below
        if isinstance(above, cst.Arg | cst.SimpleStatementLine):
            return False
        below = above
    return False


def before(f: SourceFile, one: cst.CSTNode, other: cst.CSTNode) -> bool:
    """Whether a node stands earlier in the file than another."""
    return f.span(one)[0] < f.span(other)[0]


def lines_of(f: SourceFile, node: cst.CSTNode) -> Iterator[cst.SimpleStatementLine]:
    """The simple statements of the function that a node stands in."""
    yield from inside(function_of(f, node), cst.SimpleStatementLine)


def rounds_by_hand(home: cst.ClassDef | None) -> bool:
    """Whether a class is a rounding that brings its own derivative."""
    if home is None or not any(last_name(each.value) == "Function" for each in home.bases):
        return False
    return bool(names_in(home) & {"round", "sign", "floor"})
