"""A disguise: the same program in other words, so that a comparison of texts says little.

Rewrites are made in rounds, small ones first, then names are changed. A seed decides which; they stay clear
of the bugs that are to be written into the program, so that the same ones can be made with them and without.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from bughunt_mutator.edit import Edit, EditError, apply, in_order
from bughunt_mutator.renaming import DisguiseError, Renaming, rename
from bughunt_mutator.rewrite import BLOCKS, NAMES, Change, changes
from bughunt_mutator.source import BOM, SourceFile

RENAMING = "names"  # the id under which the renaming can be left out
WORD = re.compile(r"\w+")
SCALE = float(1 << 64)
TRIES = 12
WIDTH = 110

__all__ = ["RENAMING", "Disguise", "DisguiseError", "disguise"]

Edits = tuple[Edit, ...]


@dataclass(frozen=True)
class Disguise:
    """A program in other words, the bugs in it, and which rewrites were used how often."""

    text: str
    used: Counter[str]
    plain: str = field(repr=False)  # rewritten, under the old names
    bugs: tuple[Edits, ...] = field(repr=False)  # in the plain text
    renaming: Renaming | None = field(repr=False)

    def broken(self, which: Iterable[int] | None = None) -> str:
        """The disguised program with the given bugs in it, by number; with all where none are given."""
        chosen = range(len(self.bugs)) if which is None else which
        text = apply(self.plain, [edit for number in chosen for edit in self.bugs[number]])
        return self.renaming.apply_to(text) if self.renaming else text


def disguise(
    text: str,
    seed: int,
    keep: frozenset[str] = frozenset(),
    bugs: Sequence[Edits] = (),
    leave_out: frozenset[str] = frozenset(),
) -> Disguise:
    """A seed's rewrites of a program, less those to be left out, and new names for what is not to be kept.

    `bugs` are edits of the text, each list one bug; none of them is touched.
    """
    plain, used, moved = text, Counter[str](), tuple(bugs)
    in_order(edit for edits in bugs for edit in edits)
    for turn in range(NAMES, BLOCKS + 1):
        plain, moved = _round(plain, moved, turn, seed, keep, leave_out, used)
    beside = "\n".join(edit.new for edits in moved for edit in edits)
    fresh = frozenset(WORD.findall(plain)) - frozenset(WORD.findall(text))
    if RENAMING in leave_out:
        return Disguise(plain, used, plain, moved, None)
    for attempt in range(TRIES):
        renaming = rename(plain, seed + attempt, keep, beside, fresh)
        made = Disguise(renaming.text, used, plain, moved, renaming)
        if not moved or _parses(made.broken()):
            break
    used[RENAMING] = len(renaming.names)
    return made


def _parses(text: str) -> bool:
    try:
        ast.parse(text.removeprefix(BOM))
    except SyntaxError:
        return False
    return True


def _round(
    text: str,
    bugs: tuple[Edits, ...],
    turn: int,
    seed: int,
    keep: frozenset[str],
    leave_out: frozenset[str],
    used: Counter[str],
) -> tuple[str, tuple[Edits, ...]]:
    """One round of rewrites on a text, and where the bugs are in the result."""
    file = SourceFile(text)
    own = [edit for edits in bugs for edit in edits]
    fixed = keep | {word for edit in own for word in WORD.findall(f"{edit.old} {edit.new}")}
    taken = _Taken(own)
    chosen: list[tuple[str, Change]] = []
    needed, dropped = set(fixed), set[str]()
    for _, id_, change in sorted(_drawn(file, turn, seed, leave_out), key=lambda drawn: drawn[0]):
        words = {word for edit in change.edits for word in WORD.findall(edit.new)}
        if not (change.drops & needed or words & dropped) and taken.admits(change.edits):
            chosen.append((id_, change))
            needed |= words
            dropped |= change.drops
    chosen = _narrow(text, _sound(text, chosen))
    used.update(id_ for id_, _ in chosen)
    edits = [edit for _, change in chosen for edit in change.edits]
    return apply(text, edits), tuple(_shifted(each, edits) for each in bugs)


def _drawn(
    file: SourceFile, turn: int, seed: int, leave_out: frozenset[str]
) -> Iterator[tuple[float, str, Change]]:
    """The places that the seed takes, each with its lot; a place is known by what stands there."""
    seen: Counter[tuple[str, ...]] = Counter()
    for each, scope, change in changes(file, turn, leave_out):
        words = [part for edit in change.edits for part in (edit.old, edit.new)]
        key = (each.id, scope, *words)
        lot = _lot(seed, *key, str(seen[key]))
        seen[key] += 1
        if lot < each.odds:
            yield lot / each.odds, each.id, change


def _lot(seed: int, *key: str) -> float:
    """A number from 0 to 1 that depends on the seed and the key alone."""
    text = "\0".join((str(seed), *key)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") / SCALE


class _Taken:
    """The stretches of a text that are spoken for."""

    def __init__(self, edits: Iterable[Edit]) -> None:
        self._spans = sorted((edit.start, edit.end) for edit in edits)

    def admits(self, edits: Edits) -> bool:
        """Take the stretches of some edits, unless one of them is taken."""
        spans = [(edit.start, edit.end) for edit in edits]
        if any(self._meets(*span) for span in spans):
            return False
        for span in spans:
            self._spans.insert(bisect_left(self._spans, span), span)
        return True

    def _meets(self, start: int, end: int) -> bool:
        """Whether a stretch shares a character or a gap with one that is taken."""
        return any(
            (start < stop and begin < end) or (begin, stop) == (start, end) or begin < start == end < stop
            for begin, stop in self._spans
        )


def _sound(text: str, chosen: list[tuple[str, Change]]) -> list[tuple[str, Change]]:
    """The changes less those whose parentheses turn out wrong where they stand."""
    if _is_sound(text, chosen):
        return chosen
    kept: list[tuple[str, Change]] = []
    for each in chosen:
        if _is_sound(text, [each]):
            kept.append(each)
    while kept and not _is_sound(text, kept):
        kept.pop()
    return kept


def _is_sound(text: str, chosen: Sequence[tuple[str, Change]]) -> bool:
    """Whether the text with the changes parses to the tree that was meant."""
    edits = [edit for _, change in chosen for edit in change.edits]
    guarded = [Edit(e.start, e.end, e.old, e.new if e.guarded is None else e.guarded) for e in edits]
    try:
        one, two = (ast.parse(apply(text, each).removeprefix(BOM)) for each in (edits, guarded))
    except (SyntaxError, EditError):
        return False
    return ast.dump(one) == ast.dump(two)


def _narrow(text: str, chosen: list[tuple[str, Change]]) -> list[tuple[str, Change]]:
    """The changes less those, last drawn first, with which a line gets too long."""
    while (wide := _widening(text, chosen)) is not None:
        chosen = [*chosen[:wide], *chosen[wide + 1 :]]
    return chosen


def _widening(text: str, chosen: Sequence[tuple[str, Change]]) -> int | None:
    """The number of the last change that touches a line which is longer than it may be."""
    edits = in_order(edit for _, change in chosen for edit in change.edits)
    result, shift = apply(text, edits), 0
    wide: set[Edit] = set()
    for edit in edits:
        start = edit.start + shift
        shift += len(edit.new) - len(edit.old)
        first = result.rfind("\n", 0, start) + 1
        last = result.find("\n", start + len(edit.new))
        lines = result[first : last if last >= 0 else len(result)].split("\n")
        if edit.new and max(map(len, lines)) > WIDTH:
            wide.add(edit)
    numbers = [n for n, (_, change) in enumerate(chosen) if wide.intersection(change.edits)]
    return numbers[-1] if numbers else None


def _shifted(bug: Edits, edits: Sequence[Edit]) -> Edits:
    """The bug's edits where its text is after other edits were made."""
    moved = []
    for one in bug:
        by = sum(len(edit.new) - len(edit.old) for edit in edits if edit.end <= one.start)
        moved.append(Edit(one.start + by, one.end + by, one.old, one.new))
    return tuple(moved)
