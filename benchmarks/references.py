"""What the behaviour tests and curves of each reference program are worth, measured by its mutants.

For each program: lines, CPU seconds, target, spread over seeds, tests; then of a sample of mutants how many
behave differently, how many of those the curve tells apart, how many the tests alone, and which survive. The
pinned differential only says whether a mutant behaves differently at all; it kills none. Findings are
remembered, so that an interrupted run goes on where it stopped.

Run: python benchmarks/references.py [SLUG ...] [--mutants 40] [--seeds 5] [--workers 2] [--json FILE]
"""

import argparse
import hashlib
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bughunt_mutator.engine import Mutant
from bughunt_mutator.tree import enumerate_tree, mutated

from bughunt import references
from bughunt.bugsets import symptom
from bughunt.bugsets.evaluate import Evaluator, Finding, Job
from bughunt.bugsets.measure import measure
from bughunt.judge.judge import Judge

CURVES = 3  # seeds of a mutant's curve
WANTED = 0.9  # of the mutants that behave differently, killed


@dataclass
class Row:
    """One program's line of the table."""

    program: str
    lines: int
    cpu_seconds: float
    target: Sequence[float] | None
    reached: Sequence[float]
    deviation: float
    tests: int
    operators: int
    proposals: int
    sampled: int = 0
    equivalent: int = 0
    by_curve: int = 0
    by_test_only: int = 0
    survivors: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the mutants that behave differently those that are killed."""
        killed = self.by_curve + self.by_test_only
        return killed / (killed + len(self.survivors)) if killed or self.survivors else 1.0


def main(words: Sequence[str]) -> int:
    """Print the table; fails where a program falls short."""
    chosen = _parser().parse_args(words)
    rows = []
    with Judge() as judge, Evaluator(chosen.workers) as evaluate:
        for slug in chosen.slugs or references.slugs():
            row = look_at(slug, judge, evaluate, chosen.mutants, chosen.seeds)
            rows.append(row)
            print("\n".join(_shown(row)), flush=True)
            if chosen.json:
                chosen.json.write_text(json.dumps([asdict(one) for one in rows], indent=1), encoding="utf-8")
    short = [row.program for row in rows if row.share < WANTED]
    print(f"{len(rows) - len(short)} of {len(rows)} programs: {WANTED:.0%} or more killed")
    return 1 if short else 0


def look_at(slug: str, judge: Judge, evaluate: Evaluator, count: int, seeds: int) -> Row:
    """Measure one program and a sample of its mutants."""
    reference = references.load(slug)
    report, task = measure(judge, slug), reference.task
    healthy = _curves(slug, reference.files, range(seeds), evaluate) if task.trains else Finding()
    mutants = enumerate_tree(reference.files)
    row = Row(
        program=slug,
        lines=sum(text.count("\n") for text in reference.files.values()),
        cpu_seconds=report["cpu_seconds"],
        target=report["band"],
        reached=(min(healthy.metrics), max(healthy.metrics)) if healthy.metrics else (),
        deviation=statistics.pstdev(healthy.metrics) if healthy.metrics else 0.0,
        tests=report["tests"]["total"],
        operators=len({mutant.operator for mutant in mutants}),
        proposals=len(mutants),
    )
    for mutant in sample(mutants, count):
        _judge(row, mutant, reference, healthy, evaluate)
    return row


def sample(mutants: Sequence[Mutant], count: int) -> list[Mutant]:
    """One of each operator, then a second of each, and so on; which, a hash of the key decides."""
    by_operator = defaultdict(list)
    for mutant in sorted(mutants, key=lambda one: hashlib.sha256(one.key.encode()).digest()):
        by_operator[mutant.operator].append(mutant)
    turns = [(place, found) for some in by_operator.values() for place, found in enumerate(some)]
    return [found for _, found in sorted(turns, key=lambda turn: turn[0])][:count]


def _judge(
    row: Row, mutant: Mutant, reference: references.Reference, healthy: Finding, evaluate: Evaluator
) -> None:
    """Count a mutant: killed by its curve, else by a test, else a survivor if it differs at all."""
    files, task = mutated(reference.files, mutant), reference.task
    (tested,) = evaluate([Job(row.program, _first(reference), files, tests=True)])
    row.sampled += 1
    killed = bool(tested.error or tested.failed)
    if not task.trains:
        row.by_test_only += killed
        if not killed:
            row.survivors.append(_named(mutant, reference.files, "no test tells it apart"))
        return
    ran = _curves(row.program, files, range(CURVES), evaluate)
    label = "visible" if ran.error else symptom.label(healthy.values, ran.values, task.scale)
    if label != "silent":
        row.by_curve += 1
    elif killed:
        row.by_test_only += 1
    elif _equal(row.program, files, reference, evaluate):
        row.equivalent += 1
    else:
        row.survivors.append(_named(mutant, reference.files, "differs over pinned steps, looks as healthy"))


def _curves(slug: str, files: Mapping[str, str], seeds: Sequence[int], evaluate: Evaluator) -> Finding:
    """The curves of some seeds, one job each, so that both cores have work."""
    configuration = _first(references.load(slug))
    found = evaluate([Job(slug, configuration, files, curve_seeds=(seed,)) for seed in seeds])
    error = next((one.error for one in found if one.error), "")
    values = [line for one in found for line in one.values]
    return Finding(error=error, values=values, metrics=[metric for one in found for metric in one.metrics])


def _equal(slug: str, files: Mapping[str, str], reference: references.Reference, evaluate: Evaluator) -> bool:
    """Whether the first steps are those of the reference, in every configuration and from three seeds."""
    jobs = [
        Job(slug, configuration, files, differential=True, seed=seed)
        for configuration in reference.task.configurations
        for seed in range(3)
    ]
    return all(one.equal for one in evaluate(jobs))


def _first(reference: references.Reference) -> str:
    return next(iter(reference.task.configurations))


def _named(mutant: Mutant, files: Mapping[str, str], why: str) -> str:
    path = mutant.path if mutant.path in files else "train.py"
    old = " / ".join(edit.old.strip() for edit in mutant.edits)
    new = " / ".join(edit.new.strip() for edit in mutant.edits)
    return f"{path}:{mutant.line} {mutant.operator}: {old[:60]!r} -> {new[:60]!r} ({why})"


def _shown(row: Row) -> Iterator[str]:
    target = "-" if row.target is None else f"{row.target[0]:g} to {row.target[1]:g}"
    reached = f"{row.reached[0]:.3f} to {row.reached[1]:.3f}" if row.reached else "-"
    yield (
        f"{row.program}: {row.lines} lines, {row.cpu_seconds:.2f} CPU s, target {target}, reached {reached} "
        f"(deviation {row.deviation:.3f}), {row.tests} tests"
    )
    yield (
        f"  {row.operators} operators, {row.proposals} mutants, {row.sampled} sampled: "
        f"{row.by_curve} by curve, {row.by_test_only} by test only, {row.equivalent} equal, "
        f"{len(row.survivors)} survive ({row.share:.0%} killed)"
    )
    yield from (f"    {survivor}" for survivor in row.survivors)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--mutants", type=int, default=40, help="sampled of each program")
    parser.add_argument("--seeds", type=int, default=5, help="of the program's own curves")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the table there")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
