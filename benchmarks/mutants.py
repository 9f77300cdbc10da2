"""How many different mutants of one program are written a second, beside plain splicing and other tools.

Run: python benchmarks/mutants.py [PROGRAM]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from time import process_time
from typing import TypeVar

from bughunt_mutator import Edit, EditError, Mutant, SourceFile, enumerate_mutants, load_operators
from bughunt_mutator.edit import in_order
from bughunt_mutator.trees import Trees

ROOT = Path(__file__).parents[1]
LINES = 150
TARGET = 60_000
GATED = 5_000
PARSED = 60  # ms of CPU for 300 lines
WANTED = 20_000
ROUNDS = 5

Result = TypeVar("Result")


def main() -> int:
    """Print mutants a CPU second for all ways of making them; fails below the targets."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else _program()
    text = path.read_text(encoding="utf-8")
    load_operators()
    parsed = min(_seconds(lambda: SourceFile(text))[0] for _ in range(ROUNDS))
    enumerated, mutants = _seconds(lambda: enumerate_mutants(text))
    packs = list(_packs(mutants))
    lines = text.count("\n")
    print(f"{path.parent.name}: {lines} lines, {len(mutants)} proposals, CPU seconds throughout")
    print(f"parse and index {1000 * parsed:.0f} ms, {300_000 * parsed / lines:.0f} ms for 300 lines")
    print(f"parse, index, find and check every proposal: {enumerated:.2f} s, once")
    print(f"texts made of one or several proposals: {len(packs)}")
    rate, distinct = _measure(lambda: [pack.apply(text) for pack in packs])
    print(f"{'Mutant.apply':20}{rate:>10,.0f} distinct mutants/s  ({distinct} distinct)")
    pieces = [_spliced(pack.edits) for pack in packs]
    plain, distinct = _measure(lambda: [_splice(text, piece) for piece in pieces])
    print(f"{'plain str splicing':20}{plain:>10,.0f} distinct mutants/s  ({distinct} distinct)")
    gated = _gated(text, mutants)
    print(f"{'with the syntax gate':20}{gated:>10,.0f} distinct mutants/s")
    for name, other in (("mutmut", _mutmut), ("cosmic-ray", _cosmic_ray)):
        print(f"{name:20}{other(text)}")
    print(f"targets: {TARGET:,} and, with the gate, {GATED:,} a second; {PARSED} ms for 300 lines")
    met = rate >= TARGET and gated >= GATED and 300_000 * parsed / lines <= PARSED
    return 0 if met else 1


def _gated(text: str, mutants: Sequence[Mutant]) -> float:
    """Mutants a second that are written, parsed where they differ and found to be new."""
    file, best = SourceFile(text), 0.0
    for _ in range(ROUNDS):
        trees = Trees(file)
        seconds, new = _seconds(lambda trees=trees: [m.apply(text) for m in mutants if trees.is_new(m.edits)])
        best = max(best, len(set(new)) / seconds)
    return best


def _mutmut(text: str) -> str:
    """What mutmut makes of the text: all its mutants in one file, as it writes them."""
    try:
        from mutmut.mutation.file_mutation import mutate_file_contents
    except ImportError as error:
        return f"skipped: {error}; python -m pip install mutmut"
    seconds, made = _seconds(lambda: mutate_file_contents("program.py", text))
    return f"{len(made.mutant_names) / seconds:>10,.0f} mutants/s  ({len(made.mutant_names)} in one file)"


def _cosmic_ray(text: str) -> str:
    """What cosmic-ray makes of the text: the first mutants of each of its operators, one text each."""
    try:
        from cosmic_ray.mutating import MutationVisitor
        from cosmic_ray.plugins import get_operator, operator_names
    except ImportError as error:
        return f"skipped: {error}; python -m pip install cosmic-ray"

    def some() -> list[str]:
        found = []
        for name in sorted(operator_names()):
            try:
                made = MutationVisitor.mutate_code(text, get_operator(name)(), 0)
            except TypeError:  # an operator that wants arguments of its own
                continue
            found += [made] if made else []
        return found

    seconds, made = _seconds(some)
    return f"{len(set(made)) / seconds:>10,.0f} mutants/s  ({len(set(made))} distinct)"


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
    rounds = [_seconds(write) for _ in range(ROUNDS)]
    distinct = len(set(rounds[0][1]))
    return distinct / min(seconds for seconds, _ in rounds), distinct


def _seconds(work: Callable[[], Result]) -> tuple[float, Result]:
    """CPU seconds of a piece of work, and what it gives."""
    start = process_time()
    result = work()
    return process_time() - start, result


def _spliced(edits: Sequence[Edit]) -> list[tuple[int, int, str]]:
    return [(edit.start, edit.end, edit.new) for edit in sorted(edits, key=lambda e: -e.start)]


def _splice(text: str, pieces: list[tuple[int, int, str]]) -> str:
    for start, end, new in pieces:
        text = text[:start] + new + text[end:]
    return text


if __name__ == "__main__":
    sys.exit(main())
