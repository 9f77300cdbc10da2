"""What the operators reach: rows, sites on the references, and the rows that yield a challenge.

Run: python benchmarks/coverage.py [--tries N] [--sample N] [--minutes N] [--write docs/coverage.md]

A row is *felt* where a mutant of it, on a small program of the tests, runs to its end and gives other
values. It *ships* where a mutant of it, on a reference program, fails some behaviour tests and passes
some. Of a sample of all proposals it is said how many are *silent*: they run on. Cheap programs are asked
first. What has been found is remembered, so a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import random
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

from bughunt_mutator import Mutant, enumerate_mutants, enumerate_tree, load_operators, mutated
from bughunt_mutator.rows import load_rows

from bughunt import references
from bughunt.bugsets.evaluate import Evaluator, Finding, Job
from bughunt.bugsets.generate import facts_of
from bughunt.judge.judge import syntax_error

PROGRAMS = Path(__file__).parents[1] / "tests" / "mutator" / "programs"
WANTED_ROWS, WANTED_SILENT = 250, 0.8
PATIENCE = 30  # seconds for a small program
BATCH = 8  # mutants tried at a time
HEAD = ("category", "operators", "rows", "felt", "sites", "on references", "tried", "ship")
Said = Sequence[object] | None  # what a small program says; nothing if it stops
Site = tuple[str, Mutant]


def main() -> int:
    """Print the table; fails below what is wanted."""
    asked = options()
    with Evaluator(asked.workers) as evaluate:
        sites = sites_on_references(evaluate)
        unparsable = sum(bool(syntax_error(program_of(site))) for site in sites)
        print(f"{len(load_operators())} operators, {len(sites)} sites, {unparsable} unparsable", flush=True)
        felt = rows_felt()
        print(f"{len(felt)} rows are felt on small programs", flush=True)
        silent = silence(sites, asked.sample, evaluate)
        tried = attempts(sites, asked.tries, asked.minutes, evaluate)
    ships = {row: slug for row, slug in tried.items() if slug}
    text = page(sites, felt, tried, silent)
    print(text)
    if asked.write:
        asked.write.write_text(text, encoding="utf-8")
    return 0 if silent >= WANTED_SILENT and len(ships) >= WANTED_ROWS and not unparsable else 1


def options() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sample", type=int, default=60, help="proposals whose silence is tried")
    parser.add_argument("--tries", type=int, default=3, help="sites tried for each row")
    parser.add_argument("--minutes", type=float, default=600, help="for the sites that are tried")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", type=Path, help="the page to write")
    return parser.parse_args()


def sites_on_references(evaluate: Evaluator) -> list[Site]:
    """Every proposal on every reference, those that need facts among them."""
    found = []
    for slug in references.slugs():
        reference = references.load(slug)
        known = facts_of(reference, evaluate, print)
        found += [(slug, mutant) for mutant in enumerate_tree(reference.files, None, known)]
    return found


def program_of(site: Site) -> dict[str, str]:
    """The files of a mutant."""
    slug, mutant = site
    return mutated(references.load(slug).files, mutant)


# On references


def silence(sites: Sequence[Site], count: int, evaluate: Evaluator) -> float:
    """The share of a sample of the proposals that run on."""
    sample = random.Random(0).sample(list(sites), min(count, len(sites)))
    looks = evaluate([running(site) for site in sample])
    loud = [(site, look) for site, look in zip(sample, looks, strict=True) if not runs(look)]
    for (slug, mutant), look in loud:
        print(f"  loud: {slug} line {mutant.line} {mutant.row}: {look.error[:80]}")
    share = 1 - len(loud) / max(1, len(sample))
    print(f"silent: {share:.0%} of {len(sample)} sampled", flush=True)
    return share


def running(site: Site) -> Job:
    """A program that trains runs for a few steps in all of its configurations, of another the tests run."""
    trains = references.load(site[0]).task.trains
    return Job(site[0], "default", program_of(site), tests=not trains, fingerprint=trains)


def runs(look: Finding) -> bool:
    """Whether a program was not stopped."""
    return not look.error and bool(look.fingerprint or look.passed)


def attempts(sites: Sequence[Site], tries: int, minutes: float, evaluate: Evaluator) -> dict[str, str]:
    """For each row that was tried the program of a mutant that makes a challenge; empty where none did."""
    by_row: dict[str, list[Site]] = defaultdict(list)
    for site in sorted(sites, key=lambda site: (cost(site[0]), site[0], site[1].key)):
        by_row[site[1].row].append(site)
    found: dict[str, str] = {}
    until = time.monotonic() + 60 * minutes
    for attempt in range(tries):
        open_ = [row for row in by_row if not found.get(row) and len(by_row[row]) > attempt]
        rounds = sorted((by_row[row][attempt] for row in open_), key=lambda site: cost(site[0]))
        for start in range(0, len(rounds), BATCH):
            if time.monotonic() > until:
                return found
            batch = rounds[start : start + BATCH]
            looks = evaluate([Job(slug, "default", program_of((slug, m)), tests=True) for slug, m in batch])
            found |= {
                m.row: slug if is_challenge(look) else ""
                for (slug, m), look in zip(batch, looks, strict=True)
            }
            print(f"\rtry {attempt + 1}: {start + len(batch)} of {len(rounds)} ", end="", file=sys.stderr)
    return found


def cost(slug: str) -> float:
    """What a program costs to be tested, roughly."""
    return references.load(slug).task.cpu_seconds


def is_challenge(look: Finding) -> bool:
    """Whether tests tell a program from its reference, and not all of them do."""
    return bool(look.failed and look.passed) and not look.error


# On small programs


def rows_felt() -> dict[str, str]:
    """For each row that has one, the small program that a mutant of it changes."""
    catalogue = {id_ for id_, operator in load_operators().items() if set(operator.rows) & set(load_rows())}
    found: dict[str, str] = {}
    for path in sorted(PROGRAMS.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        tried: dict[str, int] = defaultdict(int)
        for mutant in enumerate_mutants(text, catalogue):
            if mutant.row in found or tried[mutant.row] == 3:
                continue
            tried[mutant.row] += 1
            if differs_silently(run_small(mutant.apply(text)), intact(path)):
                found[mutant.row] = path.stem
    return found


@cache
def intact(path: Path) -> Said:
    """What a small program says as it is."""
    return run_small(path.read_text(encoding="utf-8"))


def run_small(text: str) -> Said:
    """What `fingerprint()` gives in a forked process; nothing if it stops or takes too long."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(text, theirs))
    process.start()
    theirs.close()
    said = None
    with contextlib.suppress(EOFError):
        said = ours.recv() if ours.poll(PATIENCE) else None
    process.kill()
    process.join()
    return said


def _answer(text: str, pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115 - the traceback of a mutant that stops
    names: dict[str, object] = {"__name__": "program"}
    exec(compile(text, "program", "exec"), names)
    run = names["fingerprint"]
    assert callable(run)
    pipe.send(list(flat(run())))


def flat(value: object) -> Iterator[object]:
    """The numbers and words in nested containers."""
    if isinstance(value, dict):
        value = list(value.items())
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        for each in value:
            yield from flat(each)
    else:
        yield value


def differs_silently(one: Said, other: Said) -> bool:
    """Whether a program runs and says something else than another, beyond rounding."""
    if one is None or other is None:
        return False
    return len(one) != len(other) or not all(_near(a, b) for a, b in zip(one, other, strict=True))


def _near(one: object, other: object) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return one == other or abs(one - other) <= 1e-9 + 1e-6 * abs(other)
    return one == other


# The page


def page(sites: Sequence[Site], felt: Mapping[str, str], tried: Mapping[str, str], silent: float) -> str:
    """The table in Markdown, with what it means and how to make it anew."""
    lines = [list(map(str, row)) for row in (*table(sites, felt, tried), total(sites, felt, tried))]
    head = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lacking = [row for row in load_rows() if row not in felt and not tried.get(row)]
    parts = [
        "# What the operators reach",
        "<!-- Written by `python benchmarks/coverage.py --write docs/coverage.md`. -->",
        EXPLAINED,
        "\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)]),
        f"Of a sample of all proposals {silent:.0%} are silent: the program runs on.",
        f"Rows of the catalogue that were neither felt nor shipped: {', '.join(lacking) or 'none'}.",
    ]
    return "\n\n".join(parts) + "\n"


EXPLAINED = """A *row* is one mistake: of the catalogue, or of a general operator that stands beside it. It
is *felt* where a mutant of it changes what a small program of the tests
(`tests/mutator/programs/`) computes and does not stop it. *Sites* are the proposals on the
reference programs, *on references* the rows that have one. *Tried* are the rows of which a
mutant was judged there. A row *ships* where that mutant fails some of the behaviour tests
and passes some, which is what a challenge needs first; cheap programs are tried first, a
few sites for each row."""


def table(
    sites: Sequence[Site], felt: Mapping[str, str], tried: Mapping[str, str]
) -> Iterator[tuple[str | int, ...]]:
    """One row a category."""
    operators = load_operators().values()
    reached = {mutant.row for _, mutant in sites}
    for category in sorted({operator.category for operator in operators}):
        own = [operator for operator in operators if operator.category == category]
        ids, rows = {each.id for each in own}, [row for each in own for row in each.rows]
        yield (
            category,
            len(own),
            len(rows),
            sum(row in felt for row in rows),
            sum(mutant.operator in ids for _, mutant in sites),
            sum(row in reached for row in rows),
            sum(row in tried for row in rows),
            sum(bool(tried.get(row)) for row in rows),
        )


def total(sites: Sequence[Site], felt: Mapping[str, str], tried: Mapping[str, str]) -> tuple[str | int, ...]:
    """The sums of all columns."""
    rows = list(table(sites, felt, tried))
    return ("all", *(sum(int(row[column]) for row in rows) for column in range(1, len(HEAD))))


if __name__ == "__main__":
    sys.exit(main())
