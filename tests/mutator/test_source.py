"""A source file knows where its nodes stand and writes edits that mean what was asked."""

from __future__ import annotations

import ast
from itertools import product

import libcst as cst
import pytest
from bughunt_mutator import SourceError, SourceFile, apply

LAYOUTS = {
    "unix": "# head\n\nclass A:\n    '''Doc.'''\n\n    # why\n    x = (1 +\n         2)\n\ny = A()\n",
    "windows": "import os\r\nif os:\r\n    x = 1  # one\r\n    y = [\r\n        2,\r\n    ]\r\n",
    "old newlines mixed": "a = 1\r\nb = 2\nc = 3\n",
    "tabs": "if a:\n\tif b:\n\t\tx = 1\n\telse:\n\t\ty = 2\n",
    "no final newline": "def f():\n    return 1",
    "no final newline after a comment": "x = 1\n# end",
    "byte order mark": "\ufeffx = 1\ny = 2\n",
    "beyond ascii": "größe = 'déjà 🐛'  # 変数\nname = f'{größe!r:>{10}}'\n",
    "form feed": "x = 1\n\x0c\ndef f():\n    pass\n",
    "backslash": "x = 1 + \\\n    2\n",
    "semicolons": "a = 1; b = 2;\nif a: b = 3; c = 4\n",
    "empty": "",
    "only a comment": "# nothing",
    "decorated": "@d\n@e(1)\nasync def f(a, /, b=1, *c, d: int = 2, **e) -> None: ...\n",
    "match": "match x:\n    case [1, *rest] if rest:\n        pass\n    case A(b=1):\n        pass\n",
}


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS.keys())
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


def nodes(file: SourceFile, kind: type[cst.CSTNode]) -> list[cst.CSTNode]:
    return [node for node in file.order if type(node) is kind]


def replaced(text: str, kind: type[cst.CSTNode], new: str, nth: int = 0) -> str:
    file = SourceFile(text)
    return apply(text, [file.replace(nodes(file, kind)[nth], new)])


def test_every_expression_stands_where_its_span_says(layout: str) -> None:
    file = SourceFile(layout)
    for node in file.order:
        if isinstance(node, cst.BaseExpression):
            written = file.module.code_for_node(node)
            assert file.text(node).split() == written.split()


def test_names_stand_where_the_compiler_sees_them() -> None:
    text = LAYOUTS["unix"] + "z = x + (y)\n"
    file = SourceFile(text)
    lines = text.splitlines(keepends=True)
    expected = {
        (sum(map(len, lines[: node.lineno - 1])) + node.col_offset, node.id)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Name)
    }
    found = {(file.index.span(n)[0], n.value) for n in nodes(file, cst.Name)}
    assert expected <= found


def test_deleting_any_statement_leaves_a_file_that_parses(layout: str) -> None:
    file = SourceFile(layout)
    for node in file.order:
        if isinstance(node, cst.BaseSmallStatement | cst.SimpleStatementLine):
            gone = apply(layout, [file.delete_statement(node)])
            ast.parse(gone.removeprefix("\ufeff"))


@pytest.mark.parametrize(
    ("text", "kind", "new", "nth", "after"),
    [
        ("y = (a + b) * c\n", cst.BinaryOperation, "a - b", 1, "y = (a - b) * c\n"),
        ("y = (a + b) * c\n", cst.BinaryOperation, "a / b", 1, "y = a / b * c\n"),
        ("y = c / (a + b)\n", cst.BinaryOperation, "a / b", 1, "y = c / (a / b)\n"),
        ("z = ((a - b))\n", cst.BinaryOperation, "a + b", 0, "z = a + b\n"),
        ("x * y\n", cst.Name, "1 + 2", 0, "(1 + 2) * y\n"),
        ("x.mean()\n", cst.Name, "a + b", 0, "(a + b).mean()\n"),
        ("x.mean()\n", cst.Name, "2", 0, "(2).mean()\n"),
        ("-x ** 2\n", cst.Name, "-y", 0, "-(-y) ** 2\n"),
        ("y = not(a)\n", cst.Name, "b", 1, "y = not b\n"),
        ("y = 1 if(a)else 2\n", cst.Name, "b", 1, "y = 1 if b else 2\n"),
        ("f(a)\n", cst.Name, "b, c", 1, "f((b, c))\n"),
        ("f(*a)\n", cst.Name, "b or c", 1, "f(*(b or c))\n"),
        ("f(a, dim=-1,)\n", cst.Arg, "dim=0", 1, "f(a, dim=0,)\n"),
        ("x = a < b\n", cst.LessThan, ">=", 0, "x = a >= b\n"),
        ("x = (\n    a\n    + b\n)\n", cst.BinaryOperation, "a\n- b", 0, "x = (a\n- b)\n"),
        ("f(\n    a\n)\n", cst.Name, "b\n    + c", 1, "f(\n    b\n    + c\n)\n"),
        ("x = a\n", cst.Name, "lambda: 1", 1, "x = lambda: 1\n"),
        ("x = a if b else c\n", cst.Name, "p if q else r", 3, "x = a if b else p if q else r\n"),
    ],
)  # fmt: skip
def test_a_replacement_means_what_was_asked(
    text: str, kind: type[cst.CSTNode], new: str, nth: int, after: str
) -> None:
    assert replaced(text, kind, new, nth) == after


OPERANDS = ["a + b", "a * b", "a ** b", "-a", "not a", "a or b", "a and b", "a < b", "a if b else c",
            "lambda: a", "a @ b", "a | b", "a & b", "a << b", "(a, b)",
            "a.b", "f(a)", "a[0]", "await_"]  # fmt: skip
PLACES = ["x + y", "y + x", "x * y", "y / x", "x ** y", "y ** x",
          "-x", "not x", "x or y", "y and x",
          "x < y", "y < x", "x if y else z", "y if x else z", "y if z else x",
          "f(x)", "f(*x)", "f(k=x)",
          "x.y", "x[0]", "y[x]", "y[x:]", "x()", "[x]", "{x: y}", "{y: x}",
          "[z for z in x]",
          "[z for z in y if x]", "[x for z in y]", "lambda: x", "f'{x}'", "(y := x)", "y @ x"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_an_operand_keeps_its_tree_wherever_it_is_put(place: str) -> None:
    for operand in OPERANDS:
        text = f"r = {place}\n"
        file = SourceFile(text)
        site = next(node for node in nodes(file, cst.Name) if node.value == "x")
        got = apply(text, [file.replace(site, operand)])
        meant = ast.parse(text)
        Put(operand).visit(meant)
        assert ast.dump(ast.parse(got)) == ast.dump(meant), got


class Put(ast.NodeTransformer):
    """Puts an expression in the place of `x` in the tree itself, where no text can mislead."""

    def __init__(self, operand: str) -> None:
        self.operand = operand

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.parse(self.operand, mode="eval").body if node.id == "x" else node


@pytest.mark.parametrize(
    ("text", "gone", "after"),
    [
        ("a()\nb()\n", "b()", "a()\n"),
        ("if x:\n    # why\n    a()\n", "a()", "if x:\n    pass\n"),
        ("if x: a()\n", "a()", "if x: pass\n"),
        ("a(); b(); c()\n", "b()", "a(); c()\n"),
        ("a(); b(); c()\n", "c()", "a(); b()\n"),
        ("x = 1\n\n# of a\na()\nb()\n", "a()", "x = 1\n\nb()\n"),
        ("if x:\r\n\ta()", "a()", "if x:\r\n\tpass"),
    ],
)
def test_a_statement_goes_with_its_comments_and_leaves_a_suite(text: str, gone: str, after: str) -> None:
    file = SourceFile(text)
    site = next(node for node in nodes(file, cst.Expr) if file.text(node) == gone)
    assert apply(text, [file.delete_statement(site)]) == after


def test_lines_are_inserted_with_the_newlines_and_depth_of_the_file() -> None:
    text = "if x:\r\n\t# why\r\n\ta()\r\n\tb()"
    file = SourceFile(text)
    a, b = (file.statement(node) for node in nodes(file, cst.Expr))
    assert apply(text, [file.insert_before(a, "c()")]).startswith("if x:\r\n\tc()\r\n\t# why")
    assert apply(text, [file.insert_after(b, "c()")]).endswith("\tb()\r\n\tc()")


def test_arguments_come_and_go_with_their_commas() -> None:
    for args, nth in product(["a, b=1, *c", "a, b=1, *c,"], range(3)):
        text = f"f({args})\n"
        file = SourceFile(text)
        call = nodes(file, cst.Call)[0]
        got = ast.parse(apply(text, [file.delete_arg(call, call.args[nth])])).body[0].value
        kept = [ast.unparse(arg) for arg in (*got.args, *(k.value for k in got.keywords))]
        assert sorted(kept) == sorted(x for i, x in enumerate(["a", "1", "*c"]) if i != nth)
        assert apply(text, [file.insert_arg(call, "d=2")]).count("d=2") == 1
    empty = SourceFile("f()\n")
    assert apply("f()\n", [empty.insert_arg(nodes(empty, cst.Call)[0], "1")]) == "f(1)\n"


IMPORTS = """import torch
import torch.nn.functional as F
import os.path
from torch import nn as layers
from torch.optim import SGD
from torch import max
from . import near

def f(max, x):
    for SGD in x:
        pass
"""


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("torch.softmax", "torch.softmax"),
        ("F.softmax", "torch.nn.functional.softmax"),
        ("os.path.join", "os.path.join"),
        ("layers.Linear", "torch.nn.Linear"),
        ("near.f", ".near.f"),
        ("SGD", None),
        ("max", None),
        ("unknown.f", None),
        ("torch.f().g", None),
    ],
)
def test_a_full_name_is_given_only_where_it_is_certain(expression: str, name: str | None) -> None:
    file = SourceFile(f"{IMPORTS}\n{expression}\n")
    assert file.qname(nodes(file, cst.Expr)[-1].value) == name


@pytest.mark.parametrize(
    "text",
    [
        "import m\nm = 1\n",
        "import m\nfor m in x: pass\n",
        "import m\n[m for m in x]\n",
        "import m\nwith x as m: pass\n",
        "import m\ntry: pass\nexcept E as m: pass\n",
        "import m\nx, (m, y) = z\n",
        "import m\nlambda m: 1\n",
        "import m\ndef m(): pass\n",
        "import m\n(m := 1)\n",
        "import m\nimport n as m\n",
    ],
)
def test_a_name_that_is_also_bound_otherwise_has_no_full_name(text: str) -> None:
    file = SourceFile(text + "m.f\n")
    assert file.qname(nodes(file, cst.Expr)[-1].value) is None


def test_a_full_name_is_spelled_as_the_file_imports_it() -> None:
    file = SourceFile(IMPORTS)
    assert file.spelling("torch.nn.functional.relu") == "F.relu"
    assert file.spelling("torch.nn.Linear") == "layers.Linear"
    assert file.spelling("numpy.mean") is None


def test_arguments_are_found_by_keyword_or_place_but_never_behind_a_star() -> None:
    file = SourceFile("f(a, b, dim=c)\ng(*a, b)\n")
    f, g = nodes(file, cst.Call)
    assert file.text(file.arg(f, "dim", 2).value) == "c"
    assert file.text(file.arg(f, "other", 1).value) == "b"
    assert file.arg(f, "other", 2) is None
    assert file.arg(g, "other", 1) is None


def test_a_scope_is_the_path_of_definitions_around_a_node() -> None:
    file = SourceFile("class A:\n    def f(self):\n        x\ny\n")
    inner, outer = nodes(file, cst.Expr)
    assert file.scope(inner) == "A.f"
    assert file.scope(outer) == "<module>"
    assert file.function(inner).name.value == "f"
    assert file.function(outer) is None


@pytest.mark.parametrize("text", ["def f(:\n", "x = (\n", "  x = 1\n"])
def test_a_text_that_is_not_python_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="line"):
        SourceFile(text)
