"""Layout: whole lines and arguments put in and taken out without disturbing what is around."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

from bughunt_mutator.edit import Edit

if TYPE_CHECKING:
    from bughunt_mutator.source import SourceFile

BLANK_LINES = re.compile(r"(?:[ \t\f]*\r?\n)*")
NEWLINE = re.compile(r"\r\n?|\n")


def indent(file: SourceFile, position: int) -> str:
    """The white space that the line of a position begins with."""
    start = file.source.rfind("\n", 0, position) + 1
    line = file.source[start:position].lstrip("\ufeff")
    return line[: len(line) - len(line.lstrip())]


def lined(file: SourceFile, new: str) -> str:
    """A text with the newlines of the file."""
    return NEWLINE.sub(file.newline, new.rstrip("\r\n"))


def spaced(source: str, start: int, end: int, new: str) -> str:
    """The text with spaces where it would grow together with a word beside it."""
    if start and _is_word(source[start - 1]) and _is_word(new[0], "\"'"):
        new = " " + new
    if end < len(source) and _is_word(source[end]) and _is_word(new[-1]):
        new += " "
    return new


def deletion(file: SourceFile, node: cst.CSTNode) -> Edit:
    """Take a statement away; blank lines above it stay, and so does a suite."""
    siblings = file.siblings(node)
    if isinstance(file.parent.get(node), cst.SimpleStatementLine):
        if len(siblings) == 1:
            return deletion(file, file.parent[node])
        return _deletion_in_line(file, node, siblings)
    if isinstance(file.parent.get(node), cst.SimpleStatementSuite):
        if len(siblings) == 1:
            return file.replace(node, "pass")
        return _deletion_in_line(file, node, siblings)
    start, end = lines(file, node)
    if len(siblings) > 1 or isinstance(file.parent.get(node), cst.Module | cst.If):
        return file.edit(start, end, "")
    code, _ = file.index.span(node)
    last = "" if end == len(file.source) and not file.source.endswith("\n") else file.newline
    return file.edit(start, end, indent(file, code) + "pass" + last)


def _deletion_in_line(file: SourceFile, node: cst.CSTNode, siblings: tuple[cst.CSTNode, ...]) -> Edit:
    if node is siblings[-1]:
        return file.edit(file.span(siblings[-2])[1], file.span(node)[1], "")
    return file.edit(*file.outer[node], "")


def lines(file: SourceFile, statement: cst.CSTNode) -> tuple[int, int]:
    """The lines of a statement and of the comments above it."""
    start, end = file.outer[statement]
    blank = BLANK_LINES.match(file.source, start, end)
    return (blank.end() if blank else start), end


def insertion_before(file: SourceFile, statement: cst.CSTNode, new: str) -> Edit:
    """Lines before a statement, as deep as the statement."""
    start, _ = lines(file, statement)
    code, _ = file.index.span(statement)
    margin = indent(file, code)
    return file.edit(start, start, margin + lined(file, new) + file.newline)


def insertion_after(file: SourceFile, statement: cst.CSTNode, new: str) -> Edit:
    """Lines after a statement, as deep as the statement."""
    code, _ = file.index.span(statement)
    end = file.outer[statement][1]
    whole = indent(file, code) + lined(file, new)
    if end and file.source[end - 1] not in "\r\n":
        return file.edit(end, end, file.newline + whole)
    return file.edit(end, end, whole + file.newline)


def argument_deletion(file: SourceFile, call: cst.Call, arg: cst.Arg) -> Edit:
    """Take an argument away with the comma behind it, or before it if it is the last."""
    place = next(i for i, other in enumerate(call.args) if other is arg)
    if place + 1 < len(call.args):
        return file.edit(file.span(arg)[0], file.span(call.args[place + 1])[0], "")
    start = file.span(call.args[place - 1])[1] if place else file.span(arg)[0]
    return file.edit(start, file.span(arg)[1], "")


def argument_insertion(file: SourceFile, call: cst.Call, new: str) -> Edit:
    """Pass one more argument, after all others."""
    if call.args:
        end = file.span(call.args[-1])[1]
        return file.edit(end, end, f", {new}")
    end = file.index.span(call)[1] - 1
    return file.edit(end, end, new)


def _is_word(character: str, more: str = "") -> bool:
    return character.isalnum() or character == "_" or character in more
