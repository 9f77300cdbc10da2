"""What a verdict on a right program costs, in CPU seconds of a warm judge and its workers.

    python benchmarks/judge_speed.py [SLUG ...]

For each reference: until the exact verdict is known (the tests that do not train for long, and the pinned
comparison), until the verdict with three curves is known, all of them measured, and what three bare
trainings of the same seeds take. At the end the median of the first, and how many keep to the bounds: one
second for the first, 1.15 times the bare trainings and half a second for the second.
"""

import statistics
import sys
import time
from dataclasses import dataclass, field

import torch

from bughunt import references
from bughunt.judge.case import Case, Files
from bughunt.judge.judge import Judge
from bughunt.judge.program import RemoteProgram
from bughunt.references import Reference
from bughunt.task import Task

SEEDS = [11, 12, 13]
EXACT, SHARE, MORE = 1.0, 1.15, 0.5


class Counting(Judge):
    """A judge that knows what its workers have used."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[RemoteProgram] = []

    def open(self, files: Files, task: Task, device: str | None = None) -> RemoteProgram:
        self.opened.append(super().open(files, task, device))
        return self.opened[-1]

    def seconds(self) -> float:
        """CPU seconds so far: this process, and the workers that have ended."""
        return time.process_time() + sum(program.cpu_seconds or 0.0 for program in self.opened)


@dataclass
class Cost:
    """CPU seconds of one reference."""

    slug: str
    exact: float
    early: int  # tests that the exact verdict rests on
    tests: int
    whole: float
    bare: float
    outcome: str = field(default="")

    @property
    def bound(self) -> float:
        return SHARE * self.bare + MORE


def main(slugs: list[str]) -> int:
    torch.set_num_threads(1)
    costs = []
    with Counting() as judge:
        for slug in slugs or references.slugs():
            costs.append(cost(judge, references.load(slug)))
            one = costs[-1]
            told = f"exact {one.exact:6.2f} ({one.early} of {one.tests} tests)   whole {one.whole:6.2f}"
            print(f"{slug:20} {told}   bare {one.bare:6.2f}   {one.outcome}", flush=True)
    quick, cheap = sum(one.exact <= EXACT for one in costs), sum(one.whole <= one.bound for one in costs)
    print(f"median exact verdict {statistics.median(one.exact for one in costs):.2f} CPU-s")
    print(f"{quick} of {len(costs)} within {EXACT:g} CPU-s; {cheap} within {SHARE} x bare + {MORE} CPU-s")
    return 0


def cost(judge: Counting, reference: Reference) -> Cost:
    """One right program that is not the reference to the letter."""
    task, case = reference.task, Case(reference.task, reference.files, reference.test_path)
    files = {**reference.files, "train.py": reference.files["train.py"] + "\n# the end\n"}
    judge.judge(files, case, SEEDS, curves=False)  # what a warm judge has kept
    marks: dict[str, list[float]] = {"test": []}
    started = judge.seconds()
    verdict = judge.judge(
        files, case, SEEDS, on_event=lambda kind, _: marks.setdefault(kind, []).append(judge.seconds())
    )
    whole = judge.seconds() - started
    exact = marks.get("differential", [started + whole])[-1]
    early = sum(at <= exact for at in marks["test"])
    bare = sum(train(judge, files, task, seed) for seed in SEEDS) if task.trains else 0.0
    return Cost(reference.slug, exact - started, early, len(verdict.tests), whole, bare, str(verdict.outcome))


def train(judge: Counting, files: Files, task: Task, seed: int) -> float:
    """CPU seconds of a training that nobody looks at."""
    started = judge.seconds()
    config = next(iter(task.configurations.values()))
    with judge.open(files, task) as program:
        model = program.build(seed, **config)
        program.train(model, task.data(seed).train, seed, **config).next(10_000)
    return judge.seconds() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
