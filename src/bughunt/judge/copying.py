"""Where a program's text comes from: how much of it was changed, and whether it was pasted.

A challenge is a reference in disguise, so an honest repair keeps the disguise's names. A text with the
reference's structure and without those names was not made from what was handed out.
"""

import ast
import difflib
from collections import Counter
from collections.abc import Mapping, Sequence

from bughunt.judge.verdict import Change

Files = Mapping[str, str]
FEWEST_NAMES = 3  # a disguise of fewer tells nothing
KEPT, ALIKE = 0.5, 0.9  # shares of names and of lines


def change(handed_out: Files, files: Files, repaired: Files) -> Change:
    """How many lines differ from the program handed out, beside the known repair."""
    return Change(_distance(handed_out, files), _distance(handed_out, repaired))


def pasted(files: Files, handed_out: Files, reference: Files) -> bool:
    """Whether a program is the reference's text under other names than the disguise gave it."""
    covers = names(handed_out) - names(reference)
    if len(covers) < FEWEST_NAMES:
        return False
    kept = len(covers & names(files)) / len(covers)
    return kept < KEPT and alike(files, reference) >= ALIKE


def names(files: Files) -> set[str]:
    """Every name that the files bind or read, attributes apart."""
    found: set[str] = set()
    for tree in _trees(files):
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
    return found


def alike(one: Files, other: Files) -> float:
    """The share of lines that two programs have in common when every name is the same name."""
    mine, theirs = (Counter(_lines(files, nameless=True)) for files in (one, other))
    return 2 * (mine & theirs).total() / max(1, mine.total() + theirs.total())


def _distance(before: Files, after: Files) -> int:
    blocks = difflib.SequenceMatcher(None, _lines(before), _lines(after), autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for tag, a, b, c, d in blocks if tag != "equal")


def _lines(files: Files, *, nameless: bool = False) -> Sequence[str]:
    trees = [_Nameless().visit(tree) if nameless else tree for tree in _trees(files)]
    return [line.strip() for tree in trees for line in ast.unparse(tree).splitlines() if line.strip()]


def _trees(files: Files) -> list[ast.Module]:
    trees = [ast.parse(text) for _, text in sorted(files.items())]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                node.body = node.body[1:] or [ast.Pass()]
    return trees


class _Nameless(ast.NodeTransformer):
    """Every name becomes the same one; attributes and keywords stay."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("_", node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        self.generic_visit(node)
        return ast.arg("_", node.annotation)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.name = "_"
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.name = "_"
        return node
