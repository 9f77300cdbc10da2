"""The judge: from a program's files to a verdict.

Cheapest first: a rehearsal, the behaviour tests, the pinned differential, the moments where a repair
draws its random numbers differently, and the curves, as many as can still change the outcome.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Self

import numpy as np
import torch

from bughunt.judge.archive import Archive
from bughunt.judge.battery import run_battery
from bughunt.judge.case import Case, Files, OnEvent
from bughunt.judge.curves import train_and_measure
from bughunt.judge.differential import pinned_differential
from bughunt.judge.familiar import familiar
from bughunt.judge.hearing import Hearing
from bughunt.judge.keeper import Keeper
from bughunt.judge.lending import Lender
from bughunt.judge.limits import Limits
from bughunt.judge.memory import remembering
from bughunt.judge.moments import equal_moments
from bughunt.judge.program import ProgramError, RemoteProgram, open_program
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.verdict import Curve, Differential, Outcome, TestResult, Verdict
from bughunt.judge.zygote import Launcher, Zygote
from bughunt.task import Program, Task

__all__ = ["Case", "Files", "Judge", "OnEvent"]


class Judge:
    """Judges programs, each run in a fresh worker of one warm parent."""

    def __init__(
        self,
        *,
        device: str = "cpu",
        limits: Limits | None = None,
        tier: Tier | None = None,
        launcher: Launcher | None = None,
        archive: Archive | None = None,
    ) -> None:
        self._device, self._limits, self._tier = device, limits, tier
        self._launcher = launcher  # instead of a zygote of its own; closed with the judge all the same
        self._stack = ExitStack()
        self._keeper = Keeper(self.open, archive or Archive())

    def __enter__(self) -> Self:
        torch.set_num_threads(1)  # the oracles of the tests run here; two threads on a busy machine wait
        self._zygote = self._launcher or Zygote(self._device, self._tier)
        self._stack.callback(self._zygote.close)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def judge(
        self,
        files: Files,
        case: Case,
        seeds: Sequence[int],
        *,
        device: str | None = None,
        tests: bool = True,
        curves: bool = True,
        stop_early: bool = True,
        on_event: OnEvent | None = None,
    ) -> Verdict:
        """The verdict on one program; whatever the program does, there is one.

        With `stop_early` no more curves are measured once they cannot change the outcome.
        """
        begun = time.monotonic()
        case, where = replace(case, task=remembering(case.task)), device or self._device
        try:
            if curves:
                case = replace(case, reference_curves=self._keeper.curves(case, where))
        except ProgramError as error:
            return Verdict(Outcome.INFRA, 0.0, detail=f"the reference fails: {error}", layer="run")
        hearing = Hearing(self, files, case, seeds, on_event or _nobody, device=where, stop_early=stop_early)
        try:
            verdict = hearing.verdict(tests=tests, curves=curves)
        except ProgramError as error:
            verdict = hearing.failure(error)
        return replace(verdict, seconds=time.monotonic() - begun)

    def measure(
        self,
        files: Files,
        task: Task,
        seed: int,
        configuration: str = "default",
        *,
        device: str | None = None,
        steps: int | None = None,
        on_event: OnEvent | None = None,
    ) -> Curve:
        """One curve of one program."""
        tell = on_event or _nobody
        with self.open(files, task, device) as program:
            return train_and_measure(
                program,
                remembering(task),
                seed,
                configuration,
                steps=steps,
                on_probe=lambda *probe: tell("probe", probe),
            )

    def battery(
        self,
        files: Files,
        case: Case,
        seed: int,
        *,
        device: str | None = None,
        only: Sequence[str] | None = None,
        on_event: OnEvent | None = None,
        lender: Lender | None = None,
    ) -> list[TestResult]:
        """The behaviour tests on one program."""
        tell = on_event or _nobody
        if lender is None and case.task.trains:
            lender = Lender(case.task, seed, case.task.configurations[case.configuration], early=False)
        return run_battery(
            lambda: self._familiar(files, case, device),
            remembering(case.task),
            case.test_path,
            seed,
            only=only,
            on_test=lambda result: tell("test", result),
            lender=lender,
        )

    def differential(
        self,
        files: Files,
        reference_files: Files,
        task: Task,
        seed: int,
        configuration: str = "default",
        *,
        device: str | None = None,
    ) -> Differential:
        """One program beside another that is known to be right."""
        where, task = device or self._device, remembering(task)
        ours = self._keeper.yardstick(reference_files, task, seed, configuration, where)
        with self.open(files, task, where) as candidate:
            return pinned_differential(candidate, ours, task, seed, configuration, device=where)

    def equal_moments(
        self, files: Files, case: Case, seed: int, *, parted: int = 1, device: str | None = None
    ) -> bool:
        """Whether a program's first steps, the one among them at which single runs part, are the reference's
        on average over random draws.
        """
        with (
            self.open(case.reference_files, case.task, device) as reference,
            self.open(files, case.task, device) as candidate,
            np.errstate(over="ignore", invalid="ignore"),  # a candidate may have diverged
        ):
            where = (remembering(case.task), seed, case.configuration)
            return equal_moments(candidate, reference, *where, parted=parted)

    @contextmanager
    def _familiar(self, files: Files, case: Case, device: str | None) -> Iterator[Program]:
        """A program in a fresh worker, as tests want it."""
        with self.open(files, case.task, device) as program:
            yield self.named(program, files, case, device)

    def named(self, program: Program, files: Files, case: Case, device: str | None = None) -> Program:
        """A program with its tensors under the names that the tests were written for."""
        if not case.task.trains or files == case.reference_files:
            return program
        where = device or self._device
        return familiar(
            program, self._keeper.names(case.reference_files, case.task, case.configuration, where)
        )

    def open(self, files: Files, task: Task, device: str | None = None) -> RemoteProgram:
        """A program in a fresh worker."""
        return open_program(
            self._zygote,
            files,
            device=device or self._device,
            limits=self._limits,
            rng=task.rng,
        )


def _nobody(kind: str, payload: object) -> None:
    """Nobody listens."""
