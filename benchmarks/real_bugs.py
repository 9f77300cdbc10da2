"""How many documented mistakes the operators write: exactly, at the same site, or not at all.

Each line of `real_bugs.jsonl` has the address of a public commit that repaired a mistake, and the fact in a
few lines of our own: correct, and with the mistake. No code of those projects is in it.

Run: python benchmarks/real_bugs.py
"""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

from bughunt_mutator import EditError, Mutant, apply, enumerate_mutants
from bughunt_mutator.edit import in_order

SAMPLE = Path(__file__).with_suffix(".jsonl")
EXACTLY, SAME_SITE, NOT_AT_ALL = "exactly", "same site", "not at all"
WANTED = 60


@dataclass(frozen=True)
class Mistake:
    """One documented mistake: where it is on record, and what it comes to."""

    id: str
    url: str
    family: str
    correct: str
    wrong: str


def main() -> int:
    """Print the table by family, then every mistake; fails below the target."""
    found = [(mistake, *reproduction(mistake)) for mistake in mistakes()]
    counts = Counter((mistake.family, how) for mistake, how, _ in found)
    heads = (EXACTLY, SAME_SITE, NOT_AT_ALL)
    print(f"{'family':18}" + "".join(f"{head:>12}" for head in heads))
    for family in sorted({mistake.family for mistake, _, _ in found}):
        print(f"{family:18}" + "".join(f"{counts[family, head]:12}" for head in heads))
    totals = Counter(how for _, how, _ in found)
    print(f"{'all':18}" + "".join(f"{totals[head]:12}" for head in heads) + "\n")
    for mistake, how, operators in found:
        print(f"{how:11} {mistake.id:22} {', '.join(operators)}")
    return 0 if totals[EXACTLY] + totals[SAME_SITE] >= WANTED else 1


def mistakes() -> list[Mistake]:
    """The sample."""
    return [Mistake(**json.loads(line)) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


def reproduction(mistake: Mistake) -> tuple[str, list[str]]:
    """How close the operators come, and which of them do."""
    mutants = enumerate_mutants(mistake.correct)
    wanted = _tree(mistake.wrong)
    exact = [
        "+".join(sorted({mutant.operator for mutant in some}))
        for some in _packs(mutants)
        if _tree(apply(mistake.correct, [edit for mutant in some for edit in mutant.edits])) == wanted
    ]
    if exact:
        return EXACTLY, sorted(set(exact), key=lambda name: (name.count("+"), name))[:3]
    start, end = _changed(mistake.correct, mistake.wrong)
    near = {
        mutant.operator
        for mutant in mutants
        if any(edit.start < max(end, start + 1) and edit.end > start for edit in mutant.edits)
        and all(end_ - start_ <= 3 * max(end - start, 20) for start_, end_ in _spans(mutant))
    }
    return (SAME_SITE, sorted(near)) if near else (NOT_AT_ALL, [])


def _packs(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, ...]]:
    """Each mutant, and each two that do not touch the same text."""
    yield from ((mutant,) for mutant in mutants)
    for one, two in combinations(mutants, 2):
        try:
            in_order([*one.edits, *two.edits])
        except EditError:
            continue
        yield one, two


def _spans(mutant: Mutant) -> list[tuple[int, int]]:
    return [(edit.start, edit.end) for edit in mutant.edits]


def _changed(one: str, other: str) -> tuple[int, int]:
    """The stretch of a text outside which another text is the same."""
    matching = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    changed = [(start, end) for tag, start, end, _, _ in matching if tag != "equal"]
    return changed[0][0], changed[-1][1]


def _tree(text: str) -> str:
    return ast.dump(ast.parse(text))


if __name__ == "__main__":
    sys.exit(main())
