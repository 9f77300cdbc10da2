"""Whether a verdict is ever another one the next time.

    python benchmarks/repeat.py [JUDGEMENTS] [--slug SLUG ...]

The reference, written otherwise, the same with other draws, and mutants of each program are judged in turn,
with every layer and each in fresh workers, until so many judgements were made; without a slug, of the
cheapest programs that train. After each round a line. Exit status 1 if two judgements of one file differ in
outcome, layer, score, or anything that a test, the pinned comparison or a curve has told, but for places in
memory that the program names.
"""

import argparse
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice

import torch
from bughunt_mutator import enumerate_tree, mutated
from proving.rewrites import other_draws

from bughunt import references
from bughunt.judge.case import Files
from bughunt.judge.judge import Case, Judge
from bughunt.judge.verdict import Verdict

PROGRAMS, MUTANTS = 20, 4
SEEDS = [11, 12, 13]
ADDRESS = re.compile(r"0x[0-9a-f]{6,}|\b1[34]\d{13}\b")  # as `repr` and as `id` have it


@dataclass
class Repeated:
    """A file, and every answer that it was ever given."""

    name: str
    files: Files
    case: Case
    answers: set[object] = field(default_factory=set)

    @property
    def is_flaky(self) -> bool:
        return len(self.answers) > 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judgements", nargs="?", type=int, default=1000)
    parser.add_argument("--slug", nargs="*", default=[])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with Judge() as judge:
        every = [one for slug in asked.slug or cheapest() for one in programs(judge, slug)]
        for made, one in enumerate(islice(cycle(every), asked.judgements), 1):
            one.answers.add(told(judge.judge(one.files, one.case, SEEDS)))
            if one.is_flaky:
                print(one.name, *sorted(map(str, one.answers)), sep="\n    ", flush=True)
            if made % len(every) == 0 or made == asked.judgements:
                print(line(made, every), flush=True)
    return int(any(one.is_flaky for one in every))


def cheapest() -> list[str]:
    """Programs that train, by what one training costs."""
    tasks = [references.load(slug).task for slug in references.slugs()]
    in_order = sorted((task for task in tasks if task.trains), key=lambda task: task.cpu_seconds)
    return [task.slug for task in in_order[:PROGRAMS]]


def programs(judge: Judge, slug: str) -> Iterator[Repeated]:
    """A right program and some mutants, beside the reference's own curves."""
    reference = references.load(slug)
    curves = [judge.measure(reference.files, reference.task, seed) for seed in SEEDS]
    case = Case(reference.task, reference.files, reference.test_path, reference_curves=curves)
    right = {**reference.files, "train.py": reference.files["train.py"] + "\n# the end\n"}
    yield Repeated(f"{slug}, right", right, case)
    drawn = other_draws(right, random.Random(0))
    if drawn:
        yield Repeated(f"{slug}, other draws", drawn, case)
    mutants = enumerate_tree(reference.files)
    for one in mutants[:: max(1, len(mutants) // MUTANTS)][:MUTANTS]:
        yield Repeated(f"{slug}, {one.row}", mutated(reference.files, one), case)


def told(verdict: Verdict) -> object:
    """Everything of a verdict but how long it took."""
    tests = tuple((test.name, test.passed, ADDRESS.sub("…", test.detail)) for test in verdict.tests)
    curves = tuple((curve.seed, *curve.values, *curve.metrics) for curve in verdict.curves)
    seen = verdict.differential
    pinned = seen and str((seen.passed, seen.first_step, seen.deviation))
    said = str(verdict.outcome), verdict.layer, verdict.score, ADDRESS.sub("…", verdict.detail)
    return *said, tests, pinned, str(curves)


def line(made: int, every: list[Repeated]) -> str:
    flaky = sum(one.is_flaky for one in every)
    return f"{made} judgements of {len(every)} files: {flaky} flaky"


if __name__ == "__main__":
    sys.exit(main())
