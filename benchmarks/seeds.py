"""Whether a behaviour test depends on its seed by luck: every reference has to pass on every seed.

    python benchmarks/seeds.py [SLUG ...] [--seeds N] [--minutes N]

Runs all behaviour tests of each reference on N seeds, cheap programs first. Exit status 1 where one fails.
"""

import argparse
import sys
import time

import torch

from bughunt import references
from bughunt.judge.case import Case
from bughunt.judge.judge import Judge

FIRST = 7001


def main() -> int:
    """Print a line a program, with the seeds on which a test fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--seeds", type=int, default=40, help="luck of one in 40 shows")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no more is begun")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    until, unlucky = time.monotonic() + 60 * asked.minutes, 0
    slugs = asked.slugs or sorted(references.slugs(), key=lambda slug: references.load(slug).task.cpu_seconds)
    with Judge() as judge:
        for slug in slugs:
            if time.monotonic() > until:
                break
            lost = failing(judge, slug, range(FIRST, FIRST + asked.seeds))
            told = "; ".join(f"{name} on {', '.join(map(str, seeds))}" for name, seeds in lost.items())
            print(f"{slug:20} {told or 'passes'}", flush=True)
            unlucky += bool(lost)
    return int(bool(unlucky))


def failing(judge: Judge, slug: str, seeds: range) -> dict[str, list[int]]:
    """The tests of a reference that it fails, each with the seeds."""
    reference = references.load(slug)
    case = Case(reference.task, reference.files, reference.test_path)
    lost: dict[str, list[int]] = {}
    for seed in seeds:
        for test in judge.battery(reference.files, case, seed):
            if not test.passed:
                lost.setdefault(test.name, []).append(seed)
    return lost


if __name__ == "__main__":
    sys.exit(main())
