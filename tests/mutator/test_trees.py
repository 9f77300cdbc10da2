"""What a mutant means is decided from the lines around it exactly as it would be from the whole file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from random import Random

import pytest
from bughunt_mutator import Edit, EditError, SourceFile, apply
from bughunt_mutator.trees import Trees

TEXT = '''"""Doc."""
import os; import sys

@decorate
# why
class A(B):
    """Doc."""
    x = 1

    # above
    @property
    def f(self):
        """Only a word."""
        return self.x


def g(a, b=(1,
            2)):
    # first
    a()
    a()
    if a: b()
    elif b:
        for i in a:
            b(i)
            b(i)
        else:
            c()
    else:
        try:
            return a
        except E as e:
            raise
        finally:
            pass
    match a:
        case [1, *_]:
            pass
    return """x
y"""
# end
'''
LAYOUTS = {
    "unix": TEXT,
    "windows": TEXT.replace("\n", "\r\n"),
    "tabs": TEXT.replace("    ", "\t"),
    "byte order mark": "\ufeff" + TEXT,
    "no final newline": TEXT.removesuffix("\n# end\n"),
}
PIECES = [
    "",
    "pass",
    "\n",
    "\r\n",
    "    ",
    "x",
    "b(i)",
    "(",
    ")",
    ":",
    "if 1:",
    "else:",
    "#",
    '"""',
    "\\",
    "\\\n",
    ";",
]


def edits_of(text: str, seed: int, count: int) -> Iterator[Edit]:
    """Cuts of a text at its line ends and words, replaced by pieces that may or may not fit."""
    rng = Random(seed)
    ends = [0, *(at + 1 for at, sign in enumerate(text) if sign == "\n"), len(text)]
    for _ in range(count):
        start = rng.choice(ends) if rng.random() < 0.6 else rng.randrange(len(text) + 1)
        later = [end for end in ends if end >= start][:4]
        end = rng.choice([*later, min(start + rng.randrange(9), len(text))])
        new = "".join(rng.choice(PIECES) for _ in range(rng.randrange(4)))
        if rng.random() < 0.3:
            new = text[rng.choice(ends) : end] or new
        if text.startswith("\ufeff") and start == 0:
            continue
        yield Edit(start, end, text[start:end], new)


def whole(text: str) -> str | None:
    """The tree of a whole text without its docstrings; nothing if it does not parse."""
    try:
        tree = ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(body, list):
            match body:
                case [ast.Expr(value=ast.Constant(value=str())), *_]:
                    body[0] = ast.Pass()
    return ast.dump(tree)


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_mutant_is_new_exactly_if_its_whole_tree_is(text: str) -> None:
    trees, seen, judged = Trees(SourceFile(text)), {whole(text)}, 0
    for edit in edits_of(text, 1, 600):
        expected = whole(apply(text, [edit]))
        new = expected is not None and expected not in seen
        assert trees.is_new([edit]) == new, edit
        seen.add(expected)
        judged += new
    assert judged > 40


def test_several_edits_are_judged_together() -> None:
    trees, seen, pairs = Trees(SourceFile(TEXT)), {whole(TEXT)}, 0
    edits = list(edits_of(TEXT, 2, 1600))
    for one, two in zip(edits[::2], edits[1::2], strict=True):
        try:
            expected = whole(apply(TEXT, [one, two]))
        except EditError:
            continue
        new = expected is not None and expected not in seen
        assert trees.is_new([one, two]) == new, (one, two)
        seen.add(expected)
        pairs += new
    assert pairs > 30
