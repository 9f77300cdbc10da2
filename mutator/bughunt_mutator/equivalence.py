"""Equivalence: whether two spellings of a statement compute the same, given what its expressions were."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

from bughunt_mutator.facts import ARRAYS, Fact
from bughunt_mutator.operations import ALONG, LIBRARIES, REDUCING

CASTS = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "bool": "bool",
}
COUNTED = (ALONG | REDUCING) - {"norm", "vector_norm"}  # operations whose first argument is an axis


def same(
    one: ast.stmt, two: ast.stmt, seen: Callable[[ast.expr], tuple[Fact, ...]], aliases: Mapping[str, str]
) -> bool:
    """Whether two statements differ in nothing but the names of axes and in calls that change nothing."""
    plain = ast.dump(one)
    normal = [ast.dump(_Normal(seen, aliases).visit(ast.parse(ast.unparse(each)))) for each in (one, two)]
    return normal[0] == normal[1] and plain != ast.dump(two)


class _Normal(ast.NodeTransformer):
    """Axes are counted from the front, and what gives its operand back is left out."""

    def __init__(self, seen: Callable[[ast.expr], tuple[Fact, ...]], aliases: Mapping[str, str]) -> None:
        self._seen, self._aliases = seen, aliases

    def visit_Call(self, node: ast.Call) -> ast.AST:
        operand, name, method = self._operand(node)
        seen = self._seen(operand) if operand is not None else ()
        self.generic_visit(node)
        if not seen or any(fact.kind not in ARRAYS for fact in seen):
            return node
        if method and not node.args and not node.keywords and isinstance(node.func, ast.Attribute):
            if name == "detach" and not any(fact.grad for fact in seen):
                return node.func.value
            if name in CASTS and all(fact.dtype == CASTS[name] for fact in seen):
                return node.func.value
        ranks = {len(fact.shape) if fact.shape is not None else -1 for fact in seen}
        if len(ranks) == 1 and (rank := ranks.pop()) > 0 and name in COUNTED:
            self._count_from_front(node, rank, 0 if method else 1)
        return node

    def _operand(self, node: ast.Call) -> tuple[ast.expr | None, str, bool]:
        if not isinstance(node.func, ast.Attribute):
            return None, "", False
        home = node.func.value
        if isinstance(home, ast.Name) and home.id in self._aliases:
            known = self._aliases[home.id] in LIBRARIES and node.args
            return (node.args[0] if known else None), node.func.attr, False
        return home, node.func.attr, True

    def _count_from_front(self, node: ast.Call, rank: int, first: int) -> None:
        """Write axes that are plain numbers without a sign."""
        for place, given in enumerate(node.args):
            if place == first and (number := _number(given)) is not None and -rank <= number < rank:
                node.args[place] = ast.Constant(number % rank)
        for word in node.keywords:
            number = _number(word.value)
            if word.arg in ("dim", "axis") and number is not None and -rank <= number < rank:
                word.arg, word.value = "dim", ast.Constant(number % rank)


def _number(node: ast.expr) -> int | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand)
        return None if inner is None else -inner
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    return None
