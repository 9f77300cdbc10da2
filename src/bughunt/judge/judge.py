"""The judge: from a program's files to a verdict.

Cheapest first: syntax, a rehearsal, the behaviour tests, the pinned differential, the curves, and the moments
where a repair draws its random numbers differently.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from bughunt.judge.battery import run_battery
from bughunt.judge.curves import Comparison, compare, measure, train_and_measure
from bughunt.judge.decision import SEEDS_WITHOUT_PINNING, Evidence, decide, score
from bughunt.judge.differential import pinned_differential
from bughunt.judge.limits import Limits
from bughunt.judge.moments import equal_moments
from bughunt.judge.pinning import subseed
from bughunt.judge.program import ProgramError, RemoteProgram, open_program
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.verdict import Curve, Differential, Outcome, TestResult, Verdict
from bughunt.judge.zygote import Launcher, Zygote
from bughunt.task import Task

Files = Mapping[str, str]
OnEvent = Callable[[str, object], None]  # "test" TestResult, "probe" (seed, step, value), ...
PIN_SEEDS = 2

OUTCOMES = {
    "contract": Outcome.CONTRACT,
    "timeout": Outcome.TIMEOUT,
    "infra": Outcome.INFRA,
}  # any other failure is the program's own: ERROR


@dataclass(frozen=True)
class Case:
    """What a program is held against."""

    task: Task
    reference_files: Files
    test_path: Path
    configuration: str = "default"
    fail_to_pass: Sequence[str] = ()
    pass_to_pass: Sequence[str] = ()
    reference_curves: Sequence[Curve] = ()
    broken_curves: Sequence[Curve] = ()
    label: str = "visible"  # visible, deceptive, silent

    @property
    def names(self) -> list[str] | None:
        """The tests that count; all of the file where none are named."""
        return [*self.fail_to_pass, *self.pass_to_pass] or None


class Judge:
    """Judges programs, each run in a fresh worker of one warm parent."""

    def __init__(
        self,
        *,
        device: str = "cpu",
        limits: Limits | None = None,
        tier: Tier | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        self._device, self._limits, self._tier = device, limits, tier
        self._launcher = launcher  # instead of a zygote of its own; closed with the judge all the same
        self._stack = ExitStack()

    def __enter__(self) -> Self:
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
        on_event: OnEvent | None = None,
    ) -> Verdict:
        """The verdict on one program; whatever the program does, there is one."""
        begun = time.monotonic()
        if mistake := syntax_error(files):
            return Verdict(Outcome.ERROR, 0.0, detail=mistake, layer="syntax")
        hearing = _Hearing(self, files, case, seeds, device, on_event or _nobody)
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
                task,
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
    ) -> list[TestResult]:
        """The behaviour tests on one program."""
        tell = on_event or _nobody
        return run_battery(
            lambda: self.open(files, case.task, device),
            case.task,
            case.test_path,
            seed,
            only=only,
            on_test=lambda result: tell("test", result),
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
        with (
            self.open(reference_files, task, device) as reference,
            self.open(files, task, device) as candidate,
        ):
            where = device or self._device
            return pinned_differential(candidate, reference, task, seed, configuration, device=where)

    def equal_moments(self, files: Files, case: Case, seed: int, *, device: str | None = None) -> bool:
        """Whether a program's first steps are the reference's on average over random draws."""
        with (
            self.open(case.reference_files, case.task, device) as reference,
            self.open(files, case.task, device) as candidate,
        ):
            return equal_moments(candidate, reference, case.task, seed, case.configuration)

    def open(self, files: Files, task: Task, device: str | None = None) -> RemoteProgram:
        """A program in a fresh worker."""
        return open_program(
            self._zygote,
            files,
            device=device or self._device,
            limits=self._limits,
            rng=task.rng,
        )


class _Hearing:
    """One judgement: the evidence as it comes in."""

    def __init__(
        self,
        judge: Judge,
        files: Files,
        case: Case,
        seeds: Sequence[int],
        device: str | None,
        tell: OnEvent,
    ) -> None:
        self._judge, self._files, self._case = judge, files, case
        self._seeds, self._device, self._tell = list(seeds), device, tell
        self._trains = case.task.trains
        self._tests: list[TestResult] = []
        self._differentials: list[Differential] = []
        self._curves: list[Curve] = []
        self._output = ""

    def verdict(self, *, tests: bool, curves: bool) -> Verdict:
        if self._trains:
            self._rehearse()
        if tests:
            self._tests = self._judge.battery(
                self._files,
                self._case,
                self._seeds[0],
                device=self._device,
                only=self._case.names,
                on_event=self._tell,
            )
        if tests and self._trains:
            self._compare_pinned()
        if curves and self._trains:
            self._measure_curves()
        return self._decide()

    def failure(self, error: ProgramError) -> Verdict:
        """The verdict on a program that did not get through."""
        detail = f"{error.place}: {error.message}" if error.place else error.message
        return Verdict(
            OUTCOMES.get(error.kind, Outcome.ERROR),
            0.0,
            tests=self._tests,
            curves=self._curves,
            differential=_decisive(self._differentials),
            detail=detail,
            output=self._output,
            layer="run",
        )

    def _rehearse(self) -> None:
        """Every part of the contract once, so that what does not run is told in seconds."""
        task, seed = self._case.task, self._seeds[0]
        config = task.configurations[self._case.configuration]
        with self._judge.open(self._files, task, self._device) as program:
            try:
                data = task.data(seed)
                model = program.build(seed, **config)
                run = program.train(model, data.train, seed, **config)
                if not run.next(1):
                    message = "train ends before its first update"
                    raise ProgramError("contract", message)
                measure(program, task, model, data.held_out)
            finally:
                self._output = program.output

    def _compare_pinned(self) -> None:
        for seed in self._seeds[:PIN_SEEDS]:
            one = self._judge.differential(
                self._files,
                self._case.reference_files,
                self._case.task,
                seed,
                self._case.configuration,
                device=self._device,
            )
            self._differentials.append(one)
            self._tell("differential", one)

    def _measure_curves(self) -> None:
        for seed in self._curve_seeds():
            with self._judge.open(self._files, self._case.task, self._device) as program:
                try:
                    curve = train_and_measure(
                        program,
                        self._case.task,
                        seed,
                        self._case.configuration,
                        on_probe=lambda *probe: self._tell("probe", probe),
                    )
                finally:
                    self._output = program.output
            self._curves.append(curve)
            self._tell("curve", curve)

    def _curve_seeds(self) -> list[int]:
        """The given seeds, and more where curves have to stand in for the pinned comparison."""
        evidence = self._evidence()
        pinned = bool(self._differentials) and all(one.passed for one in self._differentials)
        if evidence.share < 1 or pinned or len(self._seeds) >= SEEDS_WITHOUT_PINNING:
            return self._seeds
        more = range(SEEDS_WITHOUT_PINNING - len(self._seeds))
        return self._seeds + [subseed(self._seeds[0], "more", index) for index in more]

    def _decide(self) -> Verdict:
        evidence = self._evidence()
        if self._moments_could_decide(evidence):
            moments = self._judge.equal_moments(self._files, self._case, self._seeds[0], device=self._device)
            evidence = replace(evidence, moments=moments)
        outcome, layer = decide(evidence)
        return Verdict(
            outcome,
            score(outcome, evidence.share, evidence.recovery),
            tests=self._tests,
            curves=self._curves,
            differential=_decisive(self._differentials),
            recovery=evidence.recovery,
            output=self._output,
            layer=layer,
        )

    def _moments_could_decide(self, evidence: Evidence) -> bool:
        """Tests and curves say yes, the differential found answers equal and single draws not."""
        return (
            evidence.share == 1
            and evidence.comparison is not None
            and evidence.comparison.agrees
            and bool(self._differentials)
            and all(one.comparable and not one.passed for one in self._differentials)
            and all(one.first_step != 0 for one in self._differentials)
        )

    def _evidence(self) -> Evidence:
        return Evidence(
            self._tests,
            self._case.fail_to_pass,
            self._case.pass_to_pass,
            self._differentials,
            comparison=self._comparison(),
            trains=self._trains,
        )

    def _comparison(self) -> Comparison | None:
        if not self._curves or not self._case.reference_curves:
            return None
        silent = self._case.label == "silent"
        broken = () if silent else self._case.broken_curves
        return compare(self._curves, self._case.reference_curves, broken, self._case.task)


def syntax_error(files: Files) -> str:
    """The first mistake that keeps a file from being read, or nothing; no worker is needed."""
    for path, text in sorted(files.items()):
        if not path.endswith(".py"):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(text, path, "exec", dont_inherit=True)
        except SyntaxError as error:
            return f"{path} line {error.lineno or 1}: {type(error).__name__}: {error.msg}"
        except (ValueError, RecursionError, MemoryError) as error:
            return f"{path}: {type(error).__name__}: {error}"
    return ""


def _decisive(differentials: Sequence[Differential]) -> Differential | None:
    """The first that did not pass, else the last."""
    failed = [one for one in differentials if not one.passed]
    candidates = failed or list(differentials[-1:])
    return candidates[0] if candidates else None


def _nobody(kind: str, payload: object) -> None:
    """Nobody listens."""
