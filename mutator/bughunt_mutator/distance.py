"""The distance between two texts of a program: what a comparison of them would show."""

from __future__ import annotations

import ast
from difflib import SequenceMatcher

from bughunt_mutator.source import BOM

DESCRIBED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def differing(text: str, reference: str) -> float:
    """The share of a text's lines, 0 to 1, that a line-by-line comparison with another does not find there.

    Both are normalised first: parsed, without docstrings, and printed anew, so that comments, blank lines,
    line breaks, quotes and redundant parentheses do not count. Names do, and so does the place of a line: one
    that moved past others differs, as it does for `diff`.
    """
    lines, others = normalised(text), normalised(reference)
    blocks = SequenceMatcher(None, others, lines, autojunk=False).get_matching_blocks()
    return 1 - sum(block.size for block in blocks) / max(1, len(lines))


def normalised(text: str) -> list[str]:
    """The lines of a program as the standard library prints them, docstrings left out."""
    tree = ast.parse(text.removeprefix(BOM))
    for node in ast.walk(tree):
        if isinstance(node, DESCRIBED) and ast.get_docstring(node, clean=False) is not None:
            node.body = [ast.Pass(), *node.body[1:]]
    return ast.unparse(tree).splitlines()
