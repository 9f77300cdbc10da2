"""An edit: one stretch of text replaced by another, and how edits are applied and taken back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise


class EditError(ValueError):
    """Edits that overlap one another, or that do not fit the text they are applied to."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters `start` to `end`, which read `old`, become `new`.

    `guarded` is `new` with every doubt about precedence removed; the tree of the spliced text
    must be the tree that `guarded` gives.
    """

    start: int
    end: int
    old: str
    new: str
    guarded: str | None = field(default=None, compare=False, repr=False)

    def shown(self) -> dict[str, int | str]:
        """The four fields that are written to JSON."""
        return {"start": self.start, "end": self.end, "old": self.old, "new": self.new}


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; refuses overlaps and a text that does not read `old`."""
    pieces: list[str] = []
    at = 0
    for edit in in_order(edits):
        if text[edit.start : edit.end] != edit.old:
            raise EditError(f"at {edit.start} the text is not {edit.old!r}; enumerate it again")
        pieces += text[at : edit.start], edit.new
        at = edit.end
    pieces.append(text[at:])
    return "".join(pieces)


def revert(text: str, edits: Iterable[Edit]) -> str:
    """The text as it was before `apply` made these edits."""
    return apply(text, reverse(edits))


def reverse(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """The edits that undo `edits`, with positions in the edited text."""
    undo, shift = [], 0
    for edit in in_order(edits):
        start = edit.start + shift
        undo.append(Edit(start, start + len(edit.new), edit.new, edit.old))
        shift += len(edit.new) - len(edit.old)
    return tuple(undo)


def in_order(edits: Iterable[Edit]) -> list[Edit]:
    """The edits by position; refuses two that touch the same characters or the same gap."""
    ordered = sorted(edits, key=lambda edit: (edit.start, edit.end))
    for one, two in pairwise(ordered):
        if one.end > two.start or (one.start, one.end) == (two.start, two.end):
            raise EditError(f"edits overlap at {two.start}: {one.old!r} and {two.old!r}")
    return ordered
