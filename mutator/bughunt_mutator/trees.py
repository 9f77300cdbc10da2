"""Trees: what makes an edited text sound, and different from all others."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from hashlib import blake2b

from bughunt_mutator.edit import Edit, apply
from bughunt_mutator.source import BOM, SourceFile


class Trees:
    """The syntax trees of a file and of its mutants so far, without their docstrings."""

    def __init__(self, file: SourceFile) -> None:
        self.source = file.source
        self.seen = {fingerprint(self.source)}

    def is_new(self, edits: Sequence[Edit]) -> bool:
        """Whether the edits give a tree that is valid, as intended, and not seen before."""
        tree = fingerprint(apply(self.source, edits))
        if tree is None or tree in self.seen:
            return False
        if any(edit.guarded is not None for edit in edits):
            guarded = [_guarded(edit) for edit in edits]
            if fingerprint(apply(self.source, guarded)) != tree:
                return False
        self.seen.add(tree)
        return True


def fingerprint(text: str) -> bytes | None:
    """A digest of what a text means to the compiler; nothing if it does not parse."""
    try:
        tree = ast.parse(text.removeprefix(BOM))
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return blake2b(ast.dump(tree).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _drop_docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> None:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())), *_]:
            node.body = [ast.Pass(), *node.body[1:]]


def _guarded(edit: Edit) -> Edit:
    new = edit.new if edit.guarded is None else edit.guarded
    return Edit(edit.start, edit.end, edit.old, new)
