"""What the behaviour tests and curves of each reference program are worth, measured by its mutants.

For each program: lines, CPU seconds, target, spread over seeds, tests; then of a sample of mutants how many
the tests kill, how many the curve tells apart, how many begin exactly as the reference does, and which
survive. The pinned differential only says whether a mutant behaves differently at all; it kills none.

Findings are lines of `measured/SLUG.jsonl`, each keyed by the text it is about: what has changed since is
measured again, what is missing is measured next, programs that cost least first. `measured/survivors.toml`
says of survivors why nothing tells them from the reference.

Run: python benchmarks/references.py [SLUG ...] [--mutants 40] [--curves] [--again] [--minutes N]
     python benchmarks/references.py --table      writes docs/references.md from what is known
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from bughunt_mutator.engine import Mutant
from bughunt_mutator.tree import enumerate_tree, mutated
from matrix.record import WANTED, Fate, Health, Record, change, place
from matrix.table import document

from bughunt import references
from bughunt.bugsets import symptom
from bughunt.bugsets.evaluate import rounded
from bughunt.bugsets.measure import measure
from bughunt.judge.judge import Case, Judge
from bughunt.judge.limits import Limits
from bughunt.judge.program import ProgramError, RemoteProgram
from bughunt.references import Reference
from bughunt.task import Task

TABLE = Path(__file__).parents[1] / "docs" / "references.md"
HEALTHY, SICK = 5, 3  # seeds of a program's own curves and of a mutant's
AT_ONCE = 6  # tests between two looks at whether one has failed
LIMITS = Limits(cpu_seconds=90, reply_seconds=30)


class Meter(Judge):
    """A judge that counts the CPU seconds of the programs it opens."""

    def __init__(self) -> None:
        super().__init__(limits=LIMITS)
        self._opened: list[RemoteProgram] = []
        self._begun = time.process_time()

    def open(self, *words: Any, **more: Any) -> RemoteProgram:
        self._opened.append(super().open(*words, **more))
        return self._opened[-1]

    def reset(self) -> None:
        self._opened.clear()
        self._begun = time.process_time()

    def seconds(self) -> float:
        """CPU seconds of this process and of the closed programs since the last reset."""
        programs = sum(program.cpu_seconds or 0.0 for program in self._opened)
        return programs + time.process_time() - self._begun


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def task_text(reference: Reference) -> str:
    return (reference.folder / "task.py").read_text(encoding="utf-8")


def tests_key(reference: Reference) -> str:
    return digest(reference.test_path.read_text(encoding="utf-8"))


def health_key(reference: Reference) -> str:
    return digest(dict(reference.files), task_text(reference), tests_key(reference))


def fate_key(reference: Reference, mutant: Mutant) -> str:
    return digest(dict(reference.files), task_text(reference), mutated(reference.files, mutant))


def main(words: Sequence[str]) -> int:
    """Measure what is missing, or tell what is known; fails where a program falls short."""
    chosen = _parser().parse_args(words)
    if chosen.table:
        TABLE.write_text(document([Record.read(slug) for slug in references.slugs()]), encoding="utf-8")
        return 0
    end = time.monotonic() + 60 * chosen.minutes
    slugs = sorted(
        chosen.slugs or references.slugs(), key=lambda slug: references.load(slug).task.cpu_seconds
    )
    short = []
    with Meter() as judge:
        for slug in slugs:
            record = look_at(slug, judge, chosen, end)
            if time.monotonic() > end:
                break
            print("\n".join(_shown(record)), flush=True)
            short += [slug] if record.share < WANTED else []
    print(f"below {WANTED:.0%}: {', '.join(short) or 'none'}")
    return 1 if short else 0


def look_at(slug: str, judge: Meter, chosen: argparse.Namespace, end: float) -> Record:
    """Measure what is missing of one program and of a sample of its mutants."""
    reference, record = references.load(slug), Record.read(slug)
    known = record.health is not None and record.health.key == health_key(reference)
    if known and not chosen.mutants and not chosen.again:
        return record
    mutants = enumerate_tree(reference.files)
    if record.health is None or not known:
        record.health = _health(judge, reference)
    elif chosen.again:
        record.health = _again(judge, reference, record.health)
    operators = {mutant.operator for mutant in mutants}
    record.health = replace(record.health, operators=len(operators), proposals=len(mutants))
    current = {fate_key(reference, mutant) for mutant in mutants}
    record.fates = {key: fate for key, fate in record.fates.items() if key in current}
    picked = sorted(sample(mutants, chosen.mutants), key=lambda one: _is_killed(record, reference, one))
    record.write()
    for stage in (_tested, _watched):
        for mutant in picked:
            if time.monotonic() > end:
                return record
            key = fate_key(reference, mutant)
            before = record.fates.get(key) or _unknown(reference, mutant)
            record.fates[key] = stage(judge, reference, mutant, before, record, chosen.curves)
            if record.fates[key] != before:
                record.write()
    return record


def _is_killed(record: Record, reference: Reference, mutant: Mutant) -> bool:
    """By what was known before; others come first."""
    fate = record.fates.get(fate_key(reference, mutant))
    return bool(fate and fate.test)


def sample(mutants: Sequence[Mutant], count: int) -> list[Mutant]:
    """One of each operator, then a second of each, and so on; which, a hash of the key decides."""
    by_operator = defaultdict(list)
    for mutant in sorted(mutants, key=lambda one: hashlib.sha256(one.key.encode()).digest()):
        by_operator[mutant.operator].append(mutant)
    turns = [(place, found) for some in by_operator.values() for place, found in enumerate(some)]
    return [found for _, found in sorted(turns, key=lambda turn: turn[0])][:count]


def _health(judge: Meter, reference: Reference) -> Health:
    judge.reset()
    report = measure(judge, reference.slug)
    seconds = judge.seconds()
    return Health(
        key=health_key(reference),
        lines=sum(text.count("\n") for text in reference.files.values()),
        cpu_seconds=report["cpu_seconds"],
        check_seconds=round(seconds, 2),
        target=report["band"],
        tests=report["tests"]["total"],
        passed=report["ok"],
        operators=0,
        proposals=0,
        curves=(),
        metrics=(),
    )


def _again(judge: Meter, reference: Reference, before: Health) -> Health:
    """The same program on a quieter machine, and the curves that nobody had asked for."""
    now = replace(_health(judge, reference), curves=before.curves, metrics=before.metrics)
    return now if now.curves else _with_curves(judge, reference, now)


def _with_curves(judge: Judge, reference: Reference, health: Health) -> Health:
    values, metrics = _curves(judge, reference.files, reference.task, HEALTHY)
    return replace(health, curves=values, metrics=metrics)


def _curves(
    judge: Judge, files: Mapping[str, str], task: Task, seeds: int
) -> tuple[list[list[float]], list[float]]:
    if not task.trains:
        return [], []
    first = next(iter(task.configurations))
    found = [judge.measure(files, task, seed, first) for seed in range(seeds)]
    return [rounded(curve.values) for curve in found], rounded([curve.metrics[-1] for curve in found])


def _unknown(reference: Reference, mutant: Mutant) -> Fate:
    return Fate(
        mutant=fate_key(reference, mutant),
        tests="",
        where=f"{place(mutant, reference.files)}:{mutant.line}",
        operator=mutant.operator,
        change=change(mutant),
    )


def _tested(
    judge: Judge, reference: Reference, mutant: Mutant, fate: Fate, record: Record, _curves: bool
) -> Fate:
    """A mutant's fate after it has met tests that it had not met."""
    now = tests_key(reference)
    if fate.tests == now:
        return fate
    test = _killer(judge, reference, mutated(reference.files, mutant), fate.test, record)
    return replace(fate, tests=now, test=test)


def _watched(
    judge: Judge, reference: Reference, mutant: Mutant, fate: Fate, record: Record, curves: bool
) -> Fate:
    """A mutant's fate after its curve has been looked at, and what that leaves open."""
    files = mutated(reference.files, mutant)
    if not reference.task.trains:
        return fate
    if fate.curve is None and (curves or not fate.test):
        fate = replace(fate, curve=_label(judge, reference, files, record))
    if fate.equal is None and fate.survives:
        fate = replace(fate, equal=_equal(judge, reference, files))
    return fate


def _killer(judge: Judge, reference: Reference, files: Mapping[str, str], last: str, record: Record) -> str:
    """The first test that fails; those come first that have killed most so far."""
    case = Case(reference.task, reference.files, reference.test_path)
    kills = Counter(fate.test for fate in record.fates.values())
    names = sorted(_names(reference.test_path), key=lambda name: -kills[name])
    if last in names and any(not one.passed for one in judge.battery(files, case, 0, only=[last])):
        return last
    for start in range(0, len(names), AT_ONCE):
        for result in judge.battery(files, case, 0, only=names[start : start + AT_ONCE]):
            if not result.passed:
                return result.name
    return ""


class _Collector:
    """A pytest plugin that only takes down names."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.names = [item.name for item in session.items]


@cache
def _names(path: Path) -> list[str]:
    """Of all tests of a program."""
    found = _Collector()
    alone = ["-c", os.devnull, "--rootdir", path.anchor, "--noconftest", "--import-mode=importlib"]
    quiet = ["--collect-only", "-p", "no:terminal", "-p", "no:cacheprovider"]
    pytest.main([str(path), *alone, *quiet], plugins=[found])
    return found.names


def _label(judge: Judge, reference: Reference, files: Mapping[str, str], record: Record) -> str:
    """How a mutant's curve looks beside those of the reference, which are measured when first asked for."""
    assert record.health is not None
    if not record.health.curves:
        record.health = _with_curves(judge, reference, record.health)
    try:
        values, _ = _curves(judge, files, reference.task, SICK)
    except ProgramError:
        return "visible"
    return symptom.label(record.health.curves, values, reference.task.scale)


def _equal(judge: Judge, reference: Reference, files: Mapping[str, str]) -> bool:
    """Whether the first steps are those of the reference, in every configuration and from three seeds."""
    return all(
        judge.differential(files, reference.files, reference.task, seed, configuration).passed
        for configuration in reference.task.configurations
        for seed in range(3)
    )


def _shown(record: Record) -> Iterator[str]:
    health = record.health
    assert health is not None
    yield (
        f"{record.slug}: {health.lines} lines, {health.cpu_seconds:.2f} CPU s, checked in "
        f"{health.check_seconds:.1f}, {health.tests} tests{'' if health.passed else ' NOT ALL PASS'}; "
        f"{len(record.fates)} mutants, {record.share:.0%} killed"
    )
    yield from (
        f"    {fate.where} {fate.name}" for fate in record.survivors if fate.name not in record.reasons
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--mutants", type=int, default=40, help="sampled of each program")
    parser.add_argument("--curves", action="store_true", help="also of the mutants that a test has killed")
    parser.add_argument("--again", action="store_true", help="time programs anew that are known")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no more is begun")
    parser.add_argument("--table", action="store_true", help="write docs/references.md")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
