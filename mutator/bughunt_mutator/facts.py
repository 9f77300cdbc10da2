"""Facts: what each expression of a program was when the program ran, as plain data.

A fact is looked up by the span of its expression, in characters of the text and without parentheses around
it. Whoever runs a program writes them (see `instrument`); the mutator only reads them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]

ARRAYS = ("tensor", "array")
BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that an expression was seen to be.

    `kind` is `tensor`, `array` or the name of a type; `shape` is None for what has none, and where it varied
    too much to be noted. `value` is that of an int, or of a tuple of them.
    """

    kind: str
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    grad: bool = False
    value: int | tuple[int, ...] | None = None

    @property
    def is_array(self) -> bool:
        """Whether it is an array whose shape is known."""
        return self.kind in ARRAYS and self.shape is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """All that an expression was seen to be; `order` says which of them it was, time after time.

    Where it was one thing only, and beyond the times that were counted, there is no order.
    """

    facts: tuple[Fact, ...] = ()
    order: tuple[int, ...] = ()


Facts: TypeAlias = Mapping[Span, Seen]

NOTHING: Facts = {}


def plain(facts: Facts) -> list[dict[str, object]]:
    """Facts as they are written to JSON."""
    return [
        {"start": start, "end": end, "seen": [asdict(fact) for fact in seen.facts], "order": [*seen.order]}
        for (start, end), seen in sorted(facts.items())
    ]


def parsed(noted: Iterable[Mapping[str, object]]) -> Facts:
    """Facts as `plain` has written them; ValueError where it has not."""
    try:
        return {(_int(each["start"]), _int(each["end"])): _seen(each) for each in noted}
    except (KeyError, TypeError) as error:
        raise ValueError(f"these are no facts: {error}") from error


def _seen(noted: Mapping[str, object]) -> Seen:
    facts = tuple(_fact(each) for each in _list(noted["seen"]))
    order = tuple(_int(each) for each in _list(noted["order"]))
    if any(not 0 <= each < len(facts) for each in order):
        raise TypeError(f"{order} is no order of {len(facts)} facts")
    return Seen(facts, order)


def _fact(noted: object) -> Fact:
    if not isinstance(noted, Mapping):
        raise TypeError(f"{noted!r} is no fact")
    shape, value = noted["shape"], noted["value"]
    return Fact(
        kind=str(noted["kind"]),
        shape=None if shape is None else tuple(map(_int, _list(shape))),
        dtype=str(noted["dtype"]),
        grad=noted["grad"] is True,
        value=tuple(map(_int, value)) if isinstance(value, list | tuple) else _optional(value),
    )


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number")
    return value


def _optional(value: object) -> int | None:
    return None if value is None else _int(value)


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is no list")
    return value


def told(text: str, words: Mapping[str, str]) -> Facts:
    """Facts in short, by the text of expressions: `{"x": "float32 4 3 grad", "n": "int 4"}`."""
    places = Places(text)
    found: dict[Span, Seen] = {}
    for node in ast.walk(places.tree):
        if not isinstance(node, ast.expr) or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            continue
        if (word := words.get(ast.unparse(node))) is not None:
            found[places.span(node)] = Seen((_told(word),))
    return found


def _told(word: str) -> Fact:
    dtype, *rest = word.split()
    if dtype == "int":
        return Fact("int", value=int(rest[0]))
    sizes = tuple(int(each) for each in rest if each != "grad")
    return Fact("tensor", sizes, dtype, "grad" in rest)


class Places:
    """The syntax tree of a text, and where its nodes stand, in characters."""

    def __init__(self, text: str) -> None:
        self.start = len(BOM) if text.startswith(BOM) else 0
        self.text = text
        self.tree = ast.parse(text[self.start :])
        self.lines = _lines(text[self.start :])
        self.begins = [self.start, *(self.start + end for end in accumulate(map(len, self.lines)))]

    def span(self, node: ast.expr | ast.stmt) -> Span:
        """First and last character of a node."""
        return self.at(node.lineno, node.col_offset), self.at(
            node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        )

    def at(self, line: int, column: int) -> int:
        """A line from 1 and a column in bytes as a place in the text."""
        written = self.lines[line - 1]
        if not written.isascii():
            column = len(written.encode("utf-8", "surrogatepass")[:column].decode("utf-8", "surrogatepass"))
        return self.begins[line - 1] + column


def _lines(text: str) -> list[str]:
    """Lines as the parser counts them: a form feed ends none."""
    return list(_cut(text))


def _cut(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        ends = [at for at in (text.find("\n", start), text.find("\r", start)) if at >= 0]
        end = min(ends, default=len(text) - 1)
        if text[end : end + 2] == "\r\n":
            end += 1
        yield text[start : end + 1]
        start = end + 1
    yield ""
