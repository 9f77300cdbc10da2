"""Prose: comments and docstrings in other words and other places, as true as before."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import BLOCKS, Change, rewrite
from bughunt_mutator.rewrites.look import WIDTH, span_of_lines
from bughunt_mutator.source import SourceFile

OTHER = {
    "at once": "together", "becomes": "turns into", "begins with": "starts with", "biggest": "largest",
    "largest": "biggest", "entire": "whole", "every": "each", "gives": "yields", "in turn": "one by one",
    "instead of": "rather than", "rather than": "instead of", "keeps": "retains", "makes": "builds",
    "picks": "chooses", "so that": "such that", "starts with": "begins with", "starts": "begins",
}  # fmt: skip
PHRASE = re.compile(r"\b(" + "|".join(sorted(OTHER, key=len, reverse=True)) + r")\b")


@rewrite(
    "prose-reworded",
    cst.Comment,
    cst.SimpleString,
    turn=BLOCKS,
    preserves="prose",
    examples=(
        Example("x = 1  # one for every row\n", ("x = 1  # one for each row\n",)),
        Example(
            'def f():\n    """What picks the largest."""\n',
            (
                'def f():\n    """What chooses the largest."""\n',
                'def f():\n    """What picks the biggest."""\n',
            ),
        ),
    ),
    counterexamples=('x = "for every row"\n', "x = 1  # noqa\n"),
)
def prose_reworded(file: SourceFile, node: cst.CSTNode) -> Iterator[Change]:
    """A word of a comment or docstring exchanged for one that says the same."""
    if isinstance(node, cst.SimpleString) and not isinstance(file.parent[node], cst.Expr):
        return
    start, _ = file.index.span(node)
    for match in PHRASE.finditer(file.text(node)):
        at = start + match.start()
        line = file.source[file.source.rfind("\n", 0, at) + 1 :].split("\n", 1)[0]
        new = OTHER[match[0]]
        if len(line) + len(new) - len(match[0]) <= WIDTH + 8:
            yield Change((file.edit(at, start + match.end(), new),))


@rewrite(
    "comment-moved",
    cst.SimpleStatementLine,
    turn=BLOCKS,
    preserves="prose",
    odds=0.35,
    examples=(Example("a = 1\nx = f(a)  # the first\n", ("a = 1\n# the first\nx = f(a)\n",)),),
    counterexamples=("x = 1\n", "# above\nx = 1\n", "x = 1  # noqa: E501\n", "x = g(x)  # [B, T]\n"),
)
def comment_moved(file: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Change]:
    """A remark behind a statement, put above it; shapes stay beside what they describe."""
    comment = line.trailing_whitespace.comment
    if comment is None or re.match(r"#\s*(noqa|type:|\[|fmt:|pragma)", comment.value) or line.leading_lines:
        return
    start = span_of_lines(file, line)[0]
    text, end = file.index.span(line)[1], file.index.span(comment)[1]
    yield Change(
        (
            file.edit(start, start, f"{file.indent(line)}{comment.value}{file.newline}"),
            file.edit(text, end, ""),
        )
    )
