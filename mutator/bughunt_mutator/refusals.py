"""Refusals: texts that are no Python file, or one too large to look at, told with the place."""

from __future__ import annotations

import ast
import re
import warnings

MAX_LINES = 20_000
MAX_LENGTH = 2_000_000
MAX_DEPTH = 120  # nested expressions and blocks; of 2,500 installed files none passes 90
NEWLINE = re.compile(r"\r\n?|\n")


class SourceError(ValueError):
    """A text that is not a Python file, or not one that can be looked at."""


def refuse(text: str) -> None:
    """Raise SourceError for a text that would not be parsed, in one line with the place."""
    if (nul := text.find("\0")) >= 0:
        raise SourceError(f"line {line_of(text, nul)}: a zero byte, so this is no text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SourceError(f"line {line_of(text, error.start)}: this is not UTF-8 text") from None
    if len(text) > MAX_LENGTH:
        raise SourceError(f"line {line_of(text, MAX_LENGTH)}: over {MAX_LENGTH:,} characters; split the file")
    if (lines := len(NEWLINE.findall(text))) > MAX_LINES:
        raise SourceError(f"line {MAX_LINES + 1:,}: {lines:,} lines are over {MAX_LINES:,}; split the file")
    _refuse_tree(text)


def line_of(text: str, position: int) -> int:
    """The line of a position, from 1, however lines end."""
    return len(NEWLINE.findall(text, 0, position)) + 1


def _refuse_tree(text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            level: list[ast.AST] = [ast.parse(text.removeprefix("\ufeff"))]
    except SyntaxError as error:
        column = f", column {error.offset}" if error.offset else ""
        raise SourceError(f"line {error.lineno or 1}{column}: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise SourceError(f"line {_deepest(text)}: nested too deeply; split the expression") from None
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    line = next((node.lineno for node in level if isinstance(node, ast.expr | ast.stmt)), 1)
    raise SourceError(f"line {line}: nested deeper than {MAX_DEPTH} levels; split the expression")


def _deepest(text: str) -> int:
    """The longest line: what the parser gives up on has no other address."""
    lines = NEWLINE.split(text)
    return max(range(len(lines)), key=lambda at: len(lines[at])) + 1
