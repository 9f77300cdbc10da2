"""What the operators reach: rows of the catalogue, sites on the references, and how many mutants are silent.

Run: python benchmarks/coverage.py [--sample N] [--tries N] [--steps N]

A mutant is *silent* when it runs the first steps of its program in a forked worker without an exception.
It is a *candidate* for a challenge when it is silent and the program then reports, or is measured to do,
something else than before; the small programs of the tests are asked before the references. Programs that do
not train are judged by their behaviour tests: a candidate passes others than before.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import random
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from bughunt_mutator import Mutant, enumerate_mutants, load_operators
from bughunt_mutator.rows import load_rows

from bughunt import references
from bughunt.judge.judge import Case, Judge, syntax_error
from bughunt.judge.program import ProgramError

PROGRAMS = Path(__file__).parents[1] / "tests" / "mutator" / "programs"
WANTED_ROWS, WANTED_SILENT = 250, 0.8
PATIENCE = 30  # seconds for a small program
Said = Sequence[object] | None  # what a program says over its first steps; nothing if it stops
Site = tuple[str, Mutant]
Item = TypeVar("Item")


@dataclass
class Looks:
    """Programs looked at in workers of one judge."""

    judge: Judge
    steps: int
    known: dict[tuple[str, str], Said] = field(default_factory=dict)

    def said(self, slug: str, key: str, text: str) -> Said:
        """Losses and measurements of the first steps, or the names of the tests that pass."""
        if (slug, key) not in self.known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.known[slug, key] = self._look(slug, text)
        return self.known[slug, key]

    def _look(self, slug: str, text: str) -> Said:
        reference = references.load(slug)
        files = {**reference.files, "train.py": text}
        try:
            if reference.task.trains:
                curve = self.judge.measure(files, reference.task, 0, steps=self.steps)
                return [*curve.values, *curve.reported]
            case = Case(reference.task, reference.files, reference.test_path)
            return [each.name for each in self.judge.battery(files, case, 0) if each.passed] or None
        except ProgramError:
            return None

    def mutant(self, site: Site) -> Said:
        """What a mutant says."""
        slug, mutant = site
        return self.said(slug, mutant.key, mutant.apply(source(slug)))

    def is_candidate(self, site: Site) -> bool:
        """Whether a mutant runs, and says something else than its program."""
        return differs_silently(self.mutant(site), self.said(site[0], "", source(site[0])))


def main() -> int:
    """Print the tables; fails below what is wanted."""
    asked = options()
    sites = sites_on_references()
    unparsable = sum(bool(syntax_error({"m.py": m.apply(source(slug))})) for slug, m in sites)
    print(f"{len(load_operators())} operators; {len(sites)} sites on {len(references.slugs())} references")
    print(f"unparsable: {unparsable} of {len(sites)}", flush=True)
    with Judge() as judge:
        looks = Looks(judge, asked.steps)
        silent = silence(looks, sites, asked.sample)
        shipping = candidates(looks, sites, asked.tries) if asked.tries else {}
    table(sites, shipping)
    if not asked.tries:
        return 0 if silent and not unparsable else 1
    on_references = sum(where in references.slugs() for where in shipping.values())
    print(f"rows with a shipping candidate: {len(shipping)} ({on_references} found on a reference)")
    print(f"without: {', '.join(row for row in load_rows() if row not in shipping) or 'none'}")
    return 0 if silent and len(shipping) >= WANTED_ROWS and not unparsable else 1


def silence(looks: Looks, sites: Sequence[Site], count: int) -> bool:
    """Whether enough of a sample of the proposals run; says how many, and which do not."""
    sample = random.Random(0).sample(sites, min(count, len(sites)))
    loud = [site for site in progress(sample, "sample") if looks.mutant(site) is None]
    silent = len(sample) - len(loud)
    print(f"silent: {silent} of {len(sample)} sampled, {silent / max(1, len(sample)):.0%}")
    for slug, mutant in loud:
        print(f"  loud: {slug} line {mutant.line} {mutant.row}")
    sys.stdout.flush()
    return silent >= WANTED_SILENT * len(sample)


def options() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sample", type=int, default=150, help="proposals whose silence is tried")
    parser.add_argument(
        "--tries", type=int, default=3, help="sites on references tried for each row; 0: none"
    )
    parser.add_argument("--steps", type=int, default=3, help="steps that a program runs")
    return parser.parse_args()


@cache
def source(slug: str) -> str:
    """The text of a reference program."""
    return references.load(slug).files["train.py"]


def sites_on_references() -> list[Site]:
    """Every proposal on the first file of every reference."""
    return [(slug, mutant) for slug in references.slugs() for mutant in enumerate_mutants(source(slug))]


def candidates(looks: Looks, sites: Sequence[Site], tries: int) -> dict[str, str]:
    """For each row that has one, the program of the first candidate; small programs are asked first."""
    found: dict[str, str] = {}
    for path in progress(sorted(PROGRAMS.glob("*.py")), "small programs"):
        text = path.read_text(encoding="utf-8")
        for mutant in enumerate_mutants(text):
            if mutant.row not in found and differs_silently(run_small(mutant.apply(text)), intact(path)):
                found[mutant.row] = path.stem
    by_row: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        by_row[site[1].row].append(site)
    for row in progress([row for row in load_rows() if row not in found], "rows"):
        ranked = sorted(by_row[row], key=lambda site: references.load(site[0]).task.cpu_seconds)
        at = next((site[0] for site in ranked[:tries] if looks.is_candidate(site)), None)
        if at is not None:
            found[row] = at
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


def table(sites: Sequence[Site], shipping: Mapping[str, str]) -> None:
    """One line a category."""
    print(f"{'category':<36}{'rows':>6}{'operators':>11}{'sites':>8}{'with a site':>13}{'candidates':>12}")
    reached = {mutant.row for _, mutant in sites}
    operators = load_operators().values()
    for category in sorted({operator.category for operator in operators}):
        own = {operator.id for operator in operators if operator.category == category}
        rows = [row.id for row in load_rows().values() if row.category == category]
        counts = (
            len(rows),
            len(own),
            sum(mutant.operator in own for _, mutant in sites),
            sum(row in reached for row in rows),
            sum(row in shipping for row in rows),
        )
        print(f"{category:<36}{counts[0]:>6}{counts[1]:>11}{counts[2]:>8}{counts[3]:>13}{counts[4]:>12}")


def progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items, and on a terminal how many are done."""
    for place, item in enumerate(items):
        if sys.stderr.isatty():
            print(f"\r{what} {place + 1}/{len(items)} ", end="", file=sys.stderr)
        yield item


if __name__ == "__main__":
    sys.exit(main())
