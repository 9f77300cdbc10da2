"""Judging many programs for a bug set: in worker processes, remembered on disk."""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Self

import platformdirs

from bughunt import __version__, references
from bughunt.bugsets import facts, proof
from bughunt.files import write_bytes
from bughunt.judge.judge import Case, Judge
from bughunt.judge.program import ProgramError


@dataclass(frozen=True)
class Job:
    """One program to look at: which of its sides, and on which seeds."""

    reference: str
    configuration: str
    files: Mapping[str, str]
    tests: bool = False
    differential: bool = False
    curve_seeds: Sequence[int] = ()
    seed: int = 0
    fingerprint: bool = False
    facts: int = 0  # `facts.FORMAT` where they are wanted

    def key(self) -> str:
        reference = references.load(self.reference)
        task = (reference.folder / "task.py").read_text(encoding="utf-8")
        tests = reference.test_path.read_text(encoding="utf-8") if self.tests else ""
        judge = [__version__, dict(reference.files), tests, task]
        asked = {name: value for name, value in asdict(self).items() if name != "facts" or value}
        text = json.dumps([judge, asked], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Finding:
    """What was seen of one job."""

    error: str = ""
    passed: Sequence[str] = ()
    failed: Sequence[str] = ()
    equal: bool | None = None
    steps: Sequence[int] = ()
    values: Sequence[Sequence[float]] = ()
    metrics: Sequence[float] = ()
    reported: Sequence[Sequence[float]] = field(default_factory=tuple)
    fingerprint: str = ""
    facts: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # by file


class Evaluator:
    """A pool of judging processes, started when first needed and kept until the end."""

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, jobs: Sequence[Job]) -> list[Finding]:
        """The findings in the order of the jobs; those already on disk are not run again."""
        known = {index: finding for index, job in enumerate(jobs) if (finding := _recall(job))}
        missing = [index for index in range(len(jobs)) if index not in known]
        running = {self._submit(jobs[index]): index for index in missing}
        for future in as_completed(running):
            index = running[future]
            known[index] = future.result()
            _remember(jobs[index], known[index])
        return [known[index] for index in range(len(jobs))]

    def _submit(self, job: Job) -> Future[Finding]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"), _start)
        return self._pool.submit(_run, job)


_judge: Judge | None = None


def _start() -> None:
    global _judge
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    _judge = Judge().__enter__()


def _end_with_the_command() -> None:
    """However the command ends, this process does too, and with it the judge's."""
    command = parent_process()
    if command is not None:
        connection.wait([command.sentinel])
        os._exit(1)


def _run(job: Job) -> Finding:
    assert _judge is not None
    return look(_judge, job)


def look(judge: Judge, job: Job) -> Finding:
    """One job, here and now."""
    reference = references.load(job.reference)
    task, found = reference.task, dict[str, Any]()
    try:
        if job.differential:
            found["equal"] = judge.differential(
                job.files, reference.files, task, job.seed, job.configuration
            ).passed
        if job.curve_seeds:
            curves = [judge.measure(job.files, task, s, job.configuration) for s in job.curve_seeds]
            found["steps"] = list(curves[0].steps)
            found["values"] = [rounded(curve.values) for curve in curves]
            found["metrics"] = rounded([curve.metrics[-1] for curve in curves])
            found["reported"] = [list(curve.reported) for curve in curves]
        if job.tests:
            results = judge.battery(job.files, _case(reference), job.seed)
            found["passed"] = [result.name for result in results if result.passed]
            found["failed"] = [result.name for result in results if not result.passed]
        if job.fingerprint:
            found["fingerprint"] = proof.fingerprint(judge, job.files, reference, job.seed)
        if job.facts:
            found["facts"] = facts.record(judge, job.files, reference, job.seed)
    except ProgramError as error:
        found["error"] = str(error)
    return Finding(**found)


def _case(reference: references.Reference) -> Case:
    return Case(reference.task, reference.files, reference.test_path)


def rounded(values: Iterable[float]) -> list[float]:
    """Six significant digits: enough for a plot and a score, and the same text on equal machines."""
    return [float(f"{value:.6g}") for value in values]


def _cache() -> Path:
    return Path(platformdirs.user_cache_dir("bughunt", appauthor=False)) / "findings"


def _recall(job: Job) -> Finding | None:
    try:
        return Finding(**json.loads((_cache() / job.key()).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _remember(job: Job, finding: Finding) -> None:
    write_bytes(_cache() / job.key(), json.dumps(asdict(finding)).encode(), mode=0o600)
