"""How much of each reference program a disguise changes, what it costs to make and to prove.

Run: python benchmarks/disguise.py [--no-proof] [--seeds N] [SLUG ...]

Columns: normalised lines; the least share of them, over the seeds, that a comparison with the reference finds
changed, and with another seed's disguise; kinds of rewrite and rewrites made; CPU milliseconds to build; CPU
seconds of the proof and what it left out. Fails below 40 % or above half a second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from bughunt_mutator import TreeDisguise, differing, disguise_tree, load_rewrites
from bughunt_mutator.distance import normalised

from bughunt import references
from bughunt.bugsets import proof
from bughunt.judge.judge import Judge
from bughunt.judge.program import RemoteProgram
from bughunt.references import Reference
from bughunt.task import Task

LEAST = 0.40
SLOWEST_BUILD, SLOWEST_PROOF = 0.5, 2.0
SEEDS = 4


@dataclass(frozen=True)
class Row:
    """What was measured of one reference."""

    slug: str
    lines: int
    reference: float
    others: float
    kinds: int
    rewrites: int
    build: float
    proof: float | None
    left_out: frozenset[str]

    def __str__(self) -> str:
        shares = f"{self.reference:5.0%} {self.others:6.0%}"
        cost = "     -" if self.proof is None else f"{self.proof:6.2f}"
        counts = f"{self.kinds:6} {self.rewrites:9} {1000 * self.build:6.0f}"
        text = f"{self.slug:20} {self.lines:5} {shares} {counts} {cost}  {', '.join(sorted(self.left_out))}"
        return text.rstrip()


def main() -> int:
    """Print a row for each reference; 1 if one falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slugs", nargs="*")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--no-proof", action="store_true")
    asked = parser.parse_args()
    print(f"{len(load_rewrites())} rewrites")
    print("program              lines   ref  other  kinds  rewrites  build  proof  left out")
    rows = []
    with Counting() as judge:
        for slug in asked.slugs or references.slugs():
            rows.append(measure(references.load(slug), asked.seeds, None if asked.no_proof else judge))
            print(rows[-1], flush=True)
    print(f"median build {1000 * statistics.median(row.build for row in rows):.0f} ms")
    proofs = [row.proof for row in rows if row.proof is not None]
    if proofs:
        print(f"median proof {statistics.median(proofs):.2f} CPU s")
    short = [row.slug for row in rows if min(row.reference, row.others) < LEAST]
    slow = statistics.median(row.build for row in rows) > SLOWEST_BUILD
    slow = slow or (bool(proofs) and statistics.median(proofs) > SLOWEST_PROOF)
    print(f"below {LEAST:.0%}: {', '.join(short) or 'none'}")
    return 1 if short or slow else 0


def measure(reference: Reference, seeds: int, judge: Counting | None) -> Row:
    """Several disguises of one reference."""
    keep = proof.kept(reference.task)
    made, build = [], []
    for seed in range(seeds):
        start = time.process_time()
        made.append(disguise_tree(reference.files, seed, keep))
        build.append(time.process_time() - start)
    cost, left_out = None, frozenset[str]()
    if judge is not None:
        costs: list[float] = []

        def take(files: Mapping[str, str]) -> str:
            start = judge.cpu_seconds()
            found = proof.fingerprint(judge, files, reference, 0)
            costs.append(judge.cpu_seconds() - start)
            return found

        settled = [proof.settle(reference, (), seed, take) for seed in range(seeds)]
        cost = statistics.median(costs)
        left_out = frozenset().union(*(_left_out(one, two) for one, two in zip(made, settled, strict=True)))
    return Row(
        reference.slug,
        sum(len(text.splitlines()) for text in reference.files.values()),
        min(share(one.files, reference.files) for one in made),
        min(share(one.files, two.files) for one, two in pairwise(made)),
        len({id_ for one in made for id_ in one.used}),
        sum(sum(one.used.values()) for one in made) // len(made),
        statistics.median(build),
        cost,
        left_out,
    )


def share(files: Mapping[str, str], others: Mapping[str, str]) -> float:
    """The share of lines that differ over all files of a program."""
    weights = {path: len(normalised(text)) for path, text in files.items()}
    changed = sum(weights[path] * differing(files[path], others[path]) for path in files)
    return changed / sum(weights.values())


class Counting(Judge):
    """A judge that remembers the workers it started, for what they used."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[RemoteProgram] = []

    def open(self, files: Mapping[str, str], task: Task, device: str | None = None) -> RemoteProgram:
        self.opened.append(super().open(files, task, device))
        return self.opened[-1]

    def cpu_seconds(self) -> float:
        """CPU seconds so far: of this process and of the workers that have ended."""
        return time.process_time() + sum(program.cpu_seconds or 0.0 for program in self.opened)


def _left_out(made: TreeDisguise, settled: TreeDisguise | None) -> frozenset[str]:
    return frozenset(made.used) - frozenset(settled.used) if settled else frozenset({"everything"})


if __name__ == "__main__":
    sys.exit(main())
