"""How many different mutants of one program are written a second, beside plain string splicing.

Run: python benchmarks/mutants.py [PROGRAM]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from time import perf_counter

from bughunt_mutator import Edit, EditError, Mutant, enumerate_mutants, load_operators
from bughunt_mutator.edit import in_order

ROOT = Path(__file__).parents[1]
LINES = 150
TARGET = 20_000
WANTED = 60_000
ROUNDS = 5


def main() -> int:
    """Print mutants a second for both ways of writing them; fails below the target."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else _program()
    text = path.read_text(encoding="utf-8")
    load_operators()
    start = perf_counter()
    mutants = enumerate_mutants(text)
    enumerated = perf_counter() - start
    packs = list(_packs(mutants))
    print(f"{path.parent.name}: {text.count(chr(10))} lines, {len(mutants)} proposals")
    print(f"parse, index, find and check every proposal: {enumerated:.2f} s, once")
    print(f"texts made of one or several proposals: {len(packs)}")
    rate, distinct = _measure(lambda: [pack.apply(text) for pack in packs])
    print(f"Mutant.apply       {rate:>10,.0f} distinct mutants/s  ({distinct} distinct)")
    pieces = [_spliced(pack.edits) for pack in packs]
    plain, distinct = _measure(lambda: [_splice(text, piece) for piece in pieces])
    print(f"plain str splicing {plain:>10,.0f} distinct mutants/s  ({distinct} distinct)")
    print(f"ratio {plain / rate:.2f}; target {TARGET:,} a second")
    return 0 if rate >= TARGET else 1


def _program() -> Path:
    """The reference whose length is nearest to 150 lines."""
    found = sorted((ROOT / "src/bughunt/references").glob("*/train.py"))
    return min(found, key=lambda path: abs(path.read_text("utf-8").count("\n") - LINES))


def _packs(mutants: Sequence[Mutant]) -> Iterator[Mutant]:
    """Mutants, then pairs, then threes of mutants that do not touch the same text."""
    count = 0
    for size in (1, 2, 3):
        for chosen in combinations(mutants, size):
            edits = tuple(edit for mutant in chosen for edit in mutant.edits)
            try:
                in_order(edits)
            except EditError:
                continue
            first = chosen[0]
            yield Mutant(first.key, first.operator, first.row, first.line, first.scope, edits)
            if (count := count + 1) == WANTED:
                return


def _measure(write: Callable[[], list[str]]) -> tuple[float, int]:
    """Different texts a second in the best of a few rounds, and how many there are."""
    best = float("inf")
    texts: list[str] = []
    for _ in range(ROUNDS):
        start = perf_counter()
        texts = write()
        best = min(best, perf_counter() - start)
    distinct = len(set(texts))
    return distinct / best, distinct


def _spliced(edits: Sequence[Edit]) -> list[tuple[int, int, str]]:
    return [(edit.start, edit.end, edit.new) for edit in sorted(edits, key=lambda e: -e.start)]


def _splice(text: str, pieces: list[tuple[int, int, str]]) -> str:
    for start, end, new in pieces:
        text = text[:start] + new + text[end:]
    return text


if __name__ == "__main__":
    sys.exit(main())
