"""What the behaviour tests say of the versions that people wrote: `tests/verdicts/ground/SLUG.toml`.

    python benchmarks/versions.py [SLUG ...] [--seed N]

Prints a line a version, with the tests that fail. Exit status 1 where a right one fails a test: the test asks
for more than is right. A wrong one that passes all of them is left to the other layers of the judge.
"""

import argparse
import sys
from collections.abc import Iterator

import torch
from proving.ground import HAND_MADE, File, hand_made

from bughunt import references
from bughunt.judge.case import Case
from bughunt.judge.judge import Judge

SHOWN = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--seed", type=int, default=7001)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    refused = 0
    with Judge() as judge:
        for slug in asked.slugs or sorted(path.stem for path in HAND_MADE.glob("*.toml")):
            for version, failed in looked_at(judge, slug, asked.seed):
                told = f"{len(failed)} fail: {', '.join(failed[:SHOWN])}" if failed else "all pass"
                print(f"{slug:20} {'right' if version.right else 'wrong'} {version.name}: {told}", flush=True)
                refused += version.right and bool(failed)
    return int(bool(refused))


def looked_at(judge: Judge, slug: str, seed: int) -> Iterator[tuple[File, list[str]]]:
    """Each version of a program with the tests that it fails."""
    reference = references.load(slug)
    case = Case(reference.task, reference.files, reference.test_path)
    for version in hand_made(reference):
        tests = judge.battery(version.files, case, seed)
        yield version, [test.name for test in tests if not test.passed]


if __name__ == "__main__":
    sys.exit(main())
