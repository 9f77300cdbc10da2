"""What a verdict on a right program costs, in CPU seconds of a warm judge and its workers.

    python benchmarks/judge_speed.py [SLUG ...] [--write docs/judge-speed.md]

For each reference: until the exact verdict is known (the tests that do not train for long, and the pinned
comparison), until the whole is known, with as many curves as the judge wants and with three of them, and what
three bare trainings of the same seeds take. At the end the median of the first, and how many keep to the
bounds: one second for the first, 1.15 times the bare trainings and half a second for the others.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bughunt import references
from bughunt.judge.case import Case, Files
from bughunt.judge.judge import Judge
from bughunt.judge.program import RemoteProgram
from bughunt.judge.verdict import Curve
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

    def cost(self, of: Callable[[], object]) -> float:
        """CPU seconds of one call."""
        started = self.seconds()
        of()
        return self.seconds() - started


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one reference."""

    slug: str
    trains: bool
    exact: float
    early: int  # tests that the exact verdict rests on
    tests: int
    settled: float  # until the judge was certain
    curves: int  # that it took
    whole: float  # with three curves in any case
    bare: float
    outcome: str

    @property
    def bound(self) -> float:
        return SHARE * self.bare + MORE


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--write", type=Path, help="the page to write")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    costs = []
    with Counting() as judge:
        for slug in asked.slugs or references.slugs():
            costs.append(cost(judge, references.load(slug)))
            print(line(costs[-1]), flush=True)
    text = page(costs)
    print(text.rpartition("\n\n")[2])
    if asked.write:
        asked.write.write_text(text, encoding="utf-8")
    return 0


def cost(judge: Counting, reference: Reference) -> Cost:
    """One right program that is not the reference to the letter."""
    task, case = reference.task, Case(reference.task, reference.files, reference.test_path)
    files = {**reference.files, "train.py": reference.files["train.py"] + "\n# the end\n"}
    judge.judge(files, case, SEEDS, curves=False)  # what a warm judge has kept
    curves: list[Curve] = []
    each = [
        judge.cost(lambda seed=seed: curves.append(judge.measure(files, task, seed)))
        for seed in SEEDS
        if task.trains
    ]
    known = Case(task, reference.files, reference.test_path, reference_curves=curves)
    judge.judge({"train.py": "("}, known, SEEDS)  # no program: a warm judge knows that the curves hold here
    marks: dict[str, list[float]] = {"test": [], "curve": []}
    started = judge.seconds()
    verdict = judge.judge(
        files, known, SEEDS, on_event=lambda kind, _: marks.setdefault(kind, []).append(judge.seconds())
    )
    settled = judge.seconds() - started
    exact = marks.get("differential", [started + settled])[-1]
    return Cost(
        reference.slug,
        task.trains,
        exact - started,
        sum(at <= exact for at in marks["test"]),
        len(verdict.tests),
        settled,
        len(marks["curve"]),
        settled + sum(each[len(marks["curve"]) :]),
        sum(judge.cost(lambda seed=seed: train(judge, files, task, seed)) for seed in SEEDS if task.trains),
        str(verdict.outcome),
    )


def train(judge: Counting, files: Files, task: Task, seed: int) -> None:
    """A training that nobody looks at."""
    config = next(iter(task.configurations.values()))
    with judge.open(files, task) as program:
        model = program.build(seed, **config)
        program.train(model, task.data(seed).train, seed, **config).next(10_000)


def page(costs: Sequence[Cost]) -> str:
    """The table in Markdown, and its sums."""
    return "\n".join([HEAD, *map(line, costs), "", *sums(costs), ""])


HEAD = """\
# What a verdict costs

Generated by `python benchmarks/judge_speed.py --write docs/judge-speed.md`: CPU seconds of a warm judge
and its workers, for a program that is right and not the reference to the letter.

- *exact*: until the tests that do not train for long and the pinned comparison are known; *of tests*: how
  many of all that are.
- *settled*: until the judge is certain, and after how many curves. *three*: with three curves in any case.
- *bare*: the floor, three trainings of the same seeds that nobody looks at.

What else runs on the machine makes all seconds longer; the ratios to the floor of the same run remain.

| program | exact | of tests | settled | curves | three | bare | verdict |
|---|--:|--:|--:|--:|--:|--:|---|"""


def line(one: Cost) -> str:
    """A row of the table."""
    seconds = f"{one.settled:.2f} | {one.curves} | {one.whole:.2f} | {one.bare:.2f}"
    return f"| {one.slug} | {one.exact:.2f} | {one.early} of {one.tests} | {seconds} | {one.outcome} |"


def sums(costs: Sequence[Cost]) -> Iterator[str]:
    """How many keep to the bounds."""
    trains = [one for one in costs if one.trains]
    for name, some in (("all", costs), ("those that train", trains)):
        median = statistics.median([one.exact for one in some] or [0.0])
        quick = sum(one.exact <= EXACT for one in some)
        yield f"- Exact verdict, {name}: median {median:.2f}; {quick} of {len(some)} within {EXACT:g}."
    for name, took in (
        ("Settled", [one.settled for one in trains]),
        ("Settled, after the exact verdict", [one.settled - one.exact for one in trains]),
        ("Three curves", [one.whole for one in trains]),
    ):
        cheap = sum(seconds <= one.bound for seconds, one in zip(took, trains, strict=True))
        floor = sum(took) / max(sum(one.bare for one in trains), 1e-9)
        yield f"- {name}: {cheap} of {len(trains)} within {SHARE} x bare + {MORE}; {floor:.2f} x bare in all."


if __name__ == "__main__":
    sys.exit(main())
