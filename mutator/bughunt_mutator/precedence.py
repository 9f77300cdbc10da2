"""Precedence: whether an expression needs parentheses where it is put."""

from __future__ import annotations

import ast

import libcst as cst

ANYTHING, WALRUS, TERNARY, OR, AND, NOT, COMPARE, OR_BITS, XOR, AND_BITS = range(-1, 9)
SHIFT, SUM, PRODUCT, SIGN, POWER, AWAIT, ATOM = range(9, 16)

OF_OPERATOR: dict[type[object], int] = {
    ast.Or: OR, ast.And: AND, ast.Not: NOT,
    ast.BitOr: OR_BITS, ast.BitXor: XOR, ast.BitAnd: AND_BITS,
    ast.LShift: SHIFT, ast.RShift: SHIFT, ast.Add: SUM, ast.Sub: SUM,
    ast.Mult: PRODUCT, ast.MatMult: PRODUCT, ast.Div: PRODUCT, ast.FloorDiv: PRODUCT,
    ast.Mod: PRODUCT, ast.UAdd: SIGN, ast.USub: SIGN, ast.Invert: SIGN, ast.Pow: POWER,
    cst.BitOr: OR_BITS, cst.BitXor: XOR, cst.BitAnd: AND_BITS,
    cst.LeftShift: SHIFT, cst.RightShift: SHIFT, cst.Add: SUM, cst.Subtract: SUM,
    cst.Multiply: PRODUCT, cst.MatrixMultiply: PRODUCT, cst.Divide: PRODUCT,
    cst.FloorDivide: PRODUCT, cst.Modulo: PRODUCT, cst.Or: OR, cst.And: AND, cst.Not: NOT,
}  # fmt: skip

OF_EXPRESSION: dict[type[ast.expr], int] = {
    ast.Tuple: ANYTHING, ast.Yield: ANYTHING, ast.YieldFrom: ANYTHING, ast.Starred: ANYTHING,
    ast.NamedExpr: WALRUS, ast.Lambda: TERNARY, ast.IfExp: TERNARY,
    ast.Compare: COMPARE, ast.Await: AWAIT,
}  # fmt: skip

# What a parent asks of a child that it shows bare; a parent that is not listed asks for an atom.
ASKED: dict[type[cst.CSTNode], int] = {
    cst.Assign: ANYTHING, cst.AnnAssign: ANYTHING, cst.AugAssign: ANYTHING,
    cst.Return: ANYTHING, cst.Expr: ANYTHING, cst.AssignTarget: ANYTHING, cst.For: ANYTHING,
    cst.If: WALRUS, cst.While: WALRUS, cst.Index: WALRUS, cst.Decorator: WALRUS,
    cst.Element: TERNARY, cst.DictElement: TERNARY, cst.Slice: TERNARY, cst.Param: TERNARY,
    cst.ListComp: TERNARY, cst.SetComp: TERNARY, cst.GeneratorExp: TERNARY,
    cst.DictComp: TERNARY, cst.Lambda: TERNARY, cst.Annotation: TERNARY, cst.WithItem: TERNARY,
    cst.Assert: TERNARY, cst.Raise: TERNARY, cst.From: TERNARY, cst.Yield: TERNARY,
    cst.FormattedStringExpression: OR, cst.CompFor: OR, cst.CompIf: OR,
    cst.Comparison: OR_BITS, cst.ComparisonTarget: OR_BITS, cst.StarredElement: OR_BITS,
}  # fmt: skip

BRACKETS = (cst.Arg, cst.SubscriptElement, cst.BaseElement, cst.BaseDictElement)


def level(text: str) -> int | None:
    """How tightly an expression holds together; nothing for a text that is no expression."""
    try:
        node = ast.parse(f"({text}\n)", mode="eval").body
    except SyntaxError:
        return None
    if isinstance(node, ast.Tuple):
        return ATOM if text.startswith("(") and _is_call(f"f{text}") else ANYTHING
    if text.startswith("(") and node.col_offset > 1:
        return ATOM
    if isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp):
        return OF_OPERATOR[type(node.op)]
    return OF_EXPRESSION.get(type(node), ATOM)


def asked(node: cst.CSTNode, parent: cst.CSTNode) -> int:
    """The least level that may stand bare in the place of `node`."""
    if isinstance(parent, cst.BinaryOperation):
        return _asked_by_binary(node, parent)
    if isinstance(parent, cst.BooleanOperation):
        return OF_OPERATOR[type(parent.operator)] + 1
    if isinstance(parent, cst.UnaryOperation):
        return OF_OPERATOR.get(type(parent.operator), SIGN)
    if isinstance(parent, cst.IfExp):
        return TERNARY if node is parent.orelse else OR
    if isinstance(parent, cst.Arg):
        return OR_BITS if parent.star else TERNARY
    return ASKED.get(type(parent), ATOM)


def _asked_by_binary(node: cst.CSTNode, parent: cst.BinaryOperation) -> int:
    if isinstance(parent.operator, cst.Power):
        return AWAIT if node is parent.left else SIGN
    own = OF_OPERATOR[type(parent.operator)]
    return own if node is parent.left else own + 1


def _is_call(text: str) -> bool:
    try:
        return isinstance(ast.parse(text, mode="eval").body, ast.Call)
    except SyntaxError:
        return False
