"""Looking at a program: which library it speaks, what has effects, what is a number, where names are used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.rewrite import Change
from bughunt_mutator.scopes import Names, Scope
from bughunt_mutator.source import STATEMENTS, SourceFile

Node = TypeVar("Node", bound=cst.CSTNode)

WORD = re.compile(r"\w+")
WIDTH = 100  # room for longer names

# Methods of tensors and arrays, and of strings and lists, that change nothing.
PURE_METHODS = frozenset(
    [
        "abs",
        "all",
        "amax",
        "amin",
        "any",
        "argmax",
        "argmin",
        "argsort",
        "astype",
        "bmm",
        "bool",
        "chunk",
        "clamp",
        "clip",
        "clone",
        "contiguous",
        "copy",
        "cos",
        "cpu",
        "cumsum",
        "detach",
        "diag",
        "diagonal",
        "diff",
        "dim",
        "div",
        "dot",
        "double",
        "endswith",
        "eq",
        "exp",
        "expand",
        "expand_as",
        "expm1",
        "fill_diagonal",
        "flatten",
        "flip",
        "float",
        "floor",
        "gather",
        "ge",
        "get",
        "gt",
        "half",
        "index_select",
        "int",
        "isfinite",
        "isinf",
        "isnan",
        "item",
        "items",
        "keys",
        "le",
        "log",
        "log1p",
        "log2",
        "log_softmax",
        "logsumexp",
        "long",
        "lower",
        "lt",
        "masked_fill",
        "masked_select",
        "matmul",
        "max",
        "mean",
        "median",
        "min",
        "mm",
        "movedim",
        "mul",
        "mv",
        "narrow",
        "ne",
        "neg",
        "new_full",
        "new_ones",
        "new_tensor",
        "new_zeros",
        "nonzero",
        "norm",
        "numel",
        "numpy",
        "outer",
        "permute",
        "pow",
        "prod",
        "ravel",
        "reciprocal",
        "relu",
        "repeat",
        "repeat_interleave",
        "reshape",
        "roll",
        "round",
        "rsqrt",
        "scatter",
        "scatter_add",
        "select",
        "sigmoid",
        "sign",
        "sin",
        "size",
        "softmax",
        "sort",
        "split",
        "sqrt",
        "square",
        "squeeze",
        "startswith",
        "std",
        "sub",
        "sum",
        "swapaxes",
        "t",
        "take",
        "take_along_dim",
        "tanh",
        "to",
        "tolist",
        "topk",
        "trace",
        "transpose",
        "tril",
        "triu",
        "type",
        "unbind",
        "unflatten",
        "unfold",
        "unique",
        "unsqueeze",
        "upper",
        "values",
        "var",
        "view",
        "view_as",
        "where",
    ]
)
PURE_BUILTINS = frozenset(
    [
        "abs",
        "bool",
        "dict",
        "enumerate",
        "float",
        "frozenset",
        "int",
        "isinstance",
        "len",
        "list",
        "max",
        "min",
        "range",
        "reversed",
        "round",
        "set",
        "sorted",
        "str",
        "sum",
        "tuple",
        "zip",
    ]
)
DRAWS = re.compile(
    r"(^|\.)(rand|randn|randint|randperm|normal|bernoulli|multinomial|poisson|dropout\w*|rand\w*_like)$"
)
EFFECTS = re.compile(
    r"torch\.(nn|optim|autograd|cuda|distributed|manual_seed|seed|set_|save|load)|numpy\.(random|seterr)"
)
HOMES = ("torch", "math", "numpy")


@dataclass(frozen=True)
class View:
    """What is asked of a file again and again."""

    names: Names
    bindings: dict[tuple[Scope, str], list[cst.Name]]
    scope_of: dict[cst.Name, Scope]
    defined: frozenset[str]
    roots: frozenset[str]
    words: frozenset[str]
    functions: dict[str, list[cst.FunctionDef]]
    classes: frozenset[str]


@lru_cache(maxsize=4)
def view(file: SourceFile) -> View:
    """The names of a file and the libraries that it imports."""
    names = Names(file)
    functions = [node for node in file.order if type(node) is cst.FunctionDef]
    classes = [node.name.value for node in file.order if type(node) is cst.ClassDef]
    defined = {node.name.value for node in functions}
    return View(
        names,
        names.bindings(),
        dict(names.uses),
        frozenset(defined),
        frozenset(target.partition(".")[0] for target in file.aliases.table.values()),
        frozenset(WORD.findall(file.source)),
        {name: [node for node in functions if node.name.value == name] for name in defined},
        frozenset(classes),
    )


def speaks(file: SourceFile, library: str) -> bool:
    """Whether a file computes with this library and with no other."""
    roots = view(file).roots
    return library in roots and not roots & ({"torch", "numpy"} - {library})


def overloads(file: SourceFile, *methods: str) -> bool:
    """Whether the file gives operators or methods a meaning of its own."""
    return not view(file).defined.isdisjoint(methods)


def binary(node: cst.CSTNode | None, *operators: type[cst.BaseBinaryOp]) -> bool:
    """Whether a node is a binary operation with one of these operators."""
    return isinstance(node, cst.BinaryOperation) and isinstance(node.operator, operators)


def integer(node: cst.CSTNode | None) -> int | None:
    """The value of a whole number, signed or not."""
    if isinstance(node, cst.Integer) and node.value.isdecimal():
        return int(node.value)
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        inner = integer(node.expression)
        return None if inner is None else -inner
    return None


def is_number(node: cst.CSTNode | None) -> bool:
    """Whether a node is a number as written, signed or not."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        return is_number(node.expression)
    return isinstance(node, cst.Integer | cst.Float)


@lru_cache(maxsize=4096)
def within(node: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
    """The node and everything in it, in the order of the text."""
    found = [node]
    for child in node.children:
        found += within(child)
    return tuple(found)


def inside(node: cst.CSTNode, *kinds: type[Node]) -> Iterator[Node]:
    """The nodes of some types within a node, itself included."""
    return (each for each in within(node) if isinstance(each, kinds))


def words(file: SourceFile, node: cst.CSTNode) -> frozenset[str]:
    """Every word that the text of a node holds."""
    return frozenset(WORD.findall(file.text(node)))


def method(node: cst.CSTNode | None, *names: str) -> cst.BaseExpression | None:
    """What a method of one of these names is called on; nothing for a module or for `super()`."""
    if not (isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute)):
        return None
    if node.func.attr.value not in names:
        return None
    subject = node.func.value
    if isinstance(subject, cst.Call) and isinstance(subject.func, cst.Name) and subject.func.value == "super":
        return None
    return subject


def tensor_method(file: SourceFile, node: cst.CSTNode, *names: str) -> cst.BaseExpression | None:
    """What a method of tensors is called on, where it can be nothing else."""
    subject = method(node, *names)
    if subject is None or not speaks(file, "torch") or overloads(file, *names):
        return None
    if isinstance(subject, cst.Name) and subject.value in ("self", "cls"):
        return None
    return None if file.qname(subject) else subject


def plain(call: cst.Call, most: int, least: int = 0) -> bool:
    """Whether a call passes so many arguments, all by position and none behind a star."""
    return least <= len(call.args) <= most and not any(arg.keyword or arg.star for arg in call.args)


def is_pure(file: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression can be computed earlier or later with the same effect: none."""
    match node:
        case cst.Name() | cst.BaseNumber() | cst.SimpleString():
            return True
        case cst.Attribute():
            return is_pure(file, node.value)
        case cst.Call():
            return _is_pure_call(file, node)
        case cst.Subscript() | cst.SubscriptElement() | cst.Index() | cst.Slice() | cst.Tuple() | cst.List():
            pass
        case cst.Element() | cst.BinaryOperation() | cst.UnaryOperation() | cst.Comparison() | cst.IfExp():
            pass
        case cst.BooleanOperation() | cst.ComparisonTarget():
            pass
        case _:
            return not isinstance(node, cst.BaseExpression | cst.BaseStatement | cst.BaseSmallStatement)
    return all(is_pure(file, child) for child in node.children)


def _is_pure_call(file: SourceFile, call: cst.Call) -> bool:
    if any(arg.star or not is_pure(file, arg.value) for arg in call.args):
        return False
    full = file.qname(call.func)
    if full is not None:
        known = full.startswith("torch.nn.functional.") or not EFFECTS.match(full)
        return full.partition(".")[0] in HOMES and known and full[-1] != "_" and not DRAWS.search(full)
    if isinstance(call.func, cst.Name):
        return call.func.value in PURE_BUILTINS and not overloads(file, call.func.value)
    if isinstance(call.func, cst.Attribute):
        name = call.func.attr.value
        return name in PURE_METHODS and not overloads(file, name) and is_pure(file, call.func.value)
    return False


def is_numeric(file: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression surely gives a number or an array of numbers."""
    match node:
        case cst.BaseNumber():
            return True
        case cst.UnaryOperation():
            return is_numeric(file, node.expression)
        case cst.BinaryOperation(operator=cst.Divide() | cst.Subtract() | cst.Power() | cst.MatrixMultiply()):
            return True
        case cst.BinaryOperation(operator=cst.Multiply() | cst.Add()):
            return is_numeric(file, node.left) and is_numeric(file, node.right)
        case cst.Call():
            full = file.qname(node.func) or ""
            if full.partition(".")[0] in HOMES:
                return True
            return (
                method(node, "mean", "sum", "exp", "log", "sqrt", "square", "pow", "abs", "item") is not None
            )
    return False


def function_scope(file: SourceFile, node: cst.CSTNode) -> Scope | None:
    """The scope of the function that a node is in, from one of the names there."""
    for name in inside(node, cst.Name):
        scope = view(file).scope_of.get(name)
        if scope is not None:
            while scope.kind == "comprehension" and scope.parent is not None:
                scope = scope.parent
            return scope if scope.kind == "function" else None
    return None


def uses(file: SourceFile, scope: Scope, name: str) -> list[cst.Name]:
    """Where a name of a scope stands."""
    return view(file).bindings.get((scope, name), [])


def is_line(node: cst.CSTNode | None) -> bool:
    """Whether a node is a line with one simple statement."""
    return isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1


def only(node: cst.CSTNode | None, kind: type[Node]) -> Node | None:
    """The one statement of a line, if it is of this type."""
    if isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1 and isinstance(node.body[0], kind):
        return node.body[0]
    return None


def assigned(node: cst.CSTNode | None) -> tuple[cst.Name, cst.BaseExpression] | None:
    """The name and the value of a line that is `name = value`."""
    found = only(node, cst.Assign)
    if found is None or len(found.targets) != 1 or not isinstance(found.targets[0].target, cst.Name):
        return None
    return found.targets[0].target, found.value


def comments(file: SourceFile, statement: cst.CSTNode) -> bool:
    """Whether a comment stands above, behind or within a statement."""
    start, end = file.outer[statement]
    return "#" in file.source[start:end]


def span_of_lines(file: SourceFile, statement: cst.CSTNode) -> tuple[int, int]:
    """From the start of a statement's first line to the end of its last, without comments around it."""
    start = file.index.span(statement)[0]
    return file.source.rfind("\n", 0, start) + 1, file.outer[statement][1]


def one_line(text: str) -> bool:
    return "\n" not in text and "\r" not in text


def fits(file: SourceFile, node: cst.CSTNode, text: str) -> bool:
    """Whether a statement of this text is one line, and not too long where the node stands."""
    return one_line(text) and len(file.indent(node)) + len(text) <= WIDTH


def grown(file: SourceFile, node: cst.CSTNode, new: str) -> bool:
    """Whether the line of a node has room for a text in its place."""
    start, end = file.span(node)
    first = file.source.rfind("\n", 0, start) + 1
    last = file.source.find("\n", end)
    line = file.source[first : last if last >= 0 else len(file.source)]
    return one_line(file.text(node)) and one_line(new) and len(line) + len(new) - (end - start) <= WIDTH


def instead(
    file: SourceFile, node: cst.CSTNode, new: str, drops: frozenset[str] = frozenset()
) -> Iterator[Change]:
    """The change that puts a text in the place of an expression, if its line has room."""
    if grown(file, node, new):
        yield Change((file.replace(node, new),), drops)


def operand(file: SourceFile, node: cst.BaseExpression) -> str:
    """The text of an expression, in parentheses unless a dot may follow it."""
    text = file.text(node)
    tight = cst.Name | cst.Attribute | cst.Call | cst.Subscript
    return text if isinstance(node, tight) or node.lpar else f"({text})"


def bare(file: SourceFile, node: cst.BaseExpression) -> str:
    """The text of an expression without its own parentheses."""
    return (
        file.text(node)[1:-1]
        if len(node.lpar) == 1 and not isinstance(node, cst.Tuple | cst.GeneratorExp)
        else file.text(node)
    )


def renamed_function(file: SourceFile, call: cst.Call, new: str) -> Edit:
    """The edit that calls another function with the same arguments."""
    return file.edit(*file.span(call.func), new)


def suite(file: SourceFile, statement: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
    return file.siblings(statement)


def neighbour(file: SourceFile, statement: cst.CSTNode, step: int = 1) -> cst.CSTNode | None:
    """The statement right after another of its suite, or right before it."""
    around = file.siblings(statement)
    for place, each in enumerate(around):
        if each is statement:
            return around[place + step] if 0 <= place + step < len(around) else None
    return None


def is_statement(node: cst.CSTNode) -> bool:
    return isinstance(node, STATEMENTS)
