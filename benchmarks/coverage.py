"""What the operators reach: sites on the references, and the rows that yield a challenge.

Run: python benchmarks/coverage.py [--tries N] [--sample N] [--minutes N] [--write docs/coverage.md]

A row *ships* where a mutant of it, on a reference program, fails some behaviour tests and passes some. Of
a sample of all proposals it is said how many are *silent*: they run on. Cheap programs are asked first.
What has been found is remembered, so a run that was interrupted, or that had but so many minutes, goes on
where it was.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bughunt_mutator import Mutant, enumerate_tree, load_operators, mutated

from bughunt import references
from bughunt.bugsets.evaluate import Evaluator, Finding, Job
from bughunt.bugsets.generate import facts_of
from bughunt.judge.reading import syntax_error

WANTED_ROWS, WANTED_SILENT = 250, 0.8
BATCH = 8  # mutants tried at a time
HEAD = ("category", "operators", "rows", "sites", "on references", "tried", "ship")
Site = tuple[str, Mutant]


def main() -> int:
    """Print the table; fails below what is wanted."""
    asked = options()
    with Evaluator(asked.workers) as evaluate:
        sites = sites_on_references(evaluate)
        unparsable = sum(bool(syntax_error(program_of(site))) for site in sites)
        print(f"{len(load_operators())} operators, {len(sites)} sites, {unparsable} unparsable", flush=True)
        silent = silence(sites, asked.sample, evaluate)
        tried = attempts(sites, asked.tries, asked.minutes, evaluate)
    ships = {row: slug for row, slug in tried.items() if slug}
    text = page(sites, tried, silent)
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


def silence(sites: Sequence[Site], count: int, evaluate: Evaluator) -> float:
    """The share of a sample of the proposals that run on; NaN of none."""
    sample = random.Random(0).sample(list(sites), min(count, len(sites)))
    if not sample:
        return float("nan")
    looks = evaluate([running(site) for site in sample])
    loud = [(site, look) for site, look in zip(sample, looks, strict=True) if not runs(look)]
    for (slug, mutant), look in loud:
        print(f"  loud: {slug} line {mutant.line} {mutant.row}: {look.error[:80]}")
    share = 1 - len(loud) / len(sample)
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


# The page


def page(sites: Sequence[Site], tried: Mapping[str, str], silent: float) -> str:
    """The table in Markdown, with what it means and how to make it anew."""
    lines = [list(map(str, row)) for row in (*table(sites, tried), total(sites, tried))]
    head = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    parts = [
        "# What the operators reach",
        "<!-- Written by `python benchmarks/coverage.py --write docs/coverage.md`. -->",
        EXPLAINED,
        "\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)]),
        *(
            [f"Of a sample of all proposals {silent:.0%} are silent: the program runs on."]
            if silent >= 0
            else []
        ),
        f"Tried without a challenge so far: {', '.join(row for row in tried if not tried[row]) or 'none'}.",
    ]
    return "\n\n".join(parts) + "\n"


EXPLAINED = """A *row* is one mistake: of the catalogue, or of a general operator that stands beside it.
*Sites* are the proposals on the reference programs, *on references* the rows that have one
there; for every row of the catalogue a test shows on a small program that it is felt
(`tests/mutator/test_rows.py`). *Tried* are the rows of which a mutant was judged on a
reference so far. A row *ships* where that mutant fails some of the behaviour tests and
passes some, which is what a challenge needs first; cheap programs are tried first, a few
sites for each row."""


def table(sites: Sequence[Site], tried: Mapping[str, str]) -> Iterator[tuple[str | int, ...]]:
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
            sum(mutant.operator in ids for _, mutant in sites),
            sum(row in reached for row in rows),
            sum(row in tried for row in rows),
            sum(bool(tried.get(row)) for row in rows),
        )


def total(sites: Sequence[Site], tried: Mapping[str, str]) -> tuple[str | int, ...]:
    """The sums of all columns."""
    rows = list(table(sites, tried))
    return ("all", *(sum(int(row[column]) for row in rows) for column in range(1, len(HEAD))))


if __name__ == "__main__":
    sys.exit(main())
