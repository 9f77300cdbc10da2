"""Whether a verdict is ever another one the next time.

    python benchmarks/repeat.py [JUDGEMENTS] [--slug SLUG]

The reference and mutants of a program are judged in turn by the cheap route (tests and pinned comparison)
until so many judgements were made, each in fresh workers. Exit status 1 if two judgements of one file
differ in outcome, layer, score or any test.
"""

import argparse
import sys
from collections import defaultdict
from itertools import cycle, islice

import torch
from bughunt_mutator import enumerate_tree, mutated

from bughunt import references
from bughunt.judge.judge import Case, Judge
from bughunt.judge.verdict import Verdict

FILES = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judgements", nargs="?", type=int, default=1000)
    parser.add_argument("--slug", default="linear-models")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    reference = references.load(asked.slug)
    mutants = enumerate_tree(reference.files)
    step = max(1, len(mutants) // (FILES - 1))
    programs = [reference.files, *(mutated(reference.files, one) for one in mutants[::step][: FILES - 1])]
    case = Case(reference.task, reference.files, reference.test_path)
    seen: dict[int, set[object]] = defaultdict(set)
    with Judge() as judge:
        for index in islice(cycle(range(len(programs))), asked.judgements):
            verdict = judge.judge(programs[index], case, [11, 12], curves=False)
            seen[index].add(told(verdict))
    flaky = [index for index, answers in seen.items() if len(answers) > 1]
    print(f"{asked.judgements} judgements of {len(seen)} files of {asked.slug}: {len(flaky)} flaky")
    for index in flaky:
        print(*sorted(map(str, seen[index])), sep="\n")
    return int(bool(flaky))


def told(verdict: Verdict) -> object:
    """Everything of a verdict but how long it took."""
    seen = verdict.differential
    tests = tuple((test.name, test.passed, test.detail) for test in verdict.tests)
    return verdict.outcome, verdict.layer, verdict.score, tests, seen and (seen.first_step, seen.deviation)


if __name__ == "__main__":
    sys.exit(main())
