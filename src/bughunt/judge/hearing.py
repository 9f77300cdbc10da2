"""One judgement: the evidence as it comes in, and when there is enough of it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from bughunt.judge.case import Case, Files, OnEvent
from bughunt.judge.comparison import Comparison, compare, same_training, stands_still
from bughunt.judge.copying import change, pasted
from bughunt.judge.curves import measure, trained
from bughunt.judge.decision import SEEDS_WITHOUT_PINNING, Evidence, decide, score, settled
from bughunt.judge.lending import Lender, Loan
from bughunt.judge.pinning import subseed
from bughunt.judge.program import ProgramError, RemoteProgram
from bughunt.judge.verdict import Change, Curve, Differential, Outcome, TestResult, Verdict
from bughunt.task import Model

if TYPE_CHECKING:
    from bughunt.judge.judge import Judge

PIN_SEEDS = 2
READABLE = 400_000  # characters of a program

OUTCOMES = {
    "contract": Outcome.CONTRACT,
    "timeout": Outcome.TIMEOUT,
    "infra": Outcome.INFRA,
}  # any other failure is the program's own: ERROR


class Hearing:
    """Collects evidence on one program, cheapest first, and decides."""

    def __init__(
        self,
        judge: "Judge",
        files: Files,
        case: Case,
        seeds: Sequence[int],
        tell: OnEvent,
        *,
        device: str,
        stop_early: bool,
    ) -> None:
        self._judge, self._files, self._case = judge, files, case
        self._seeds, self._tell = list(seeds), tell
        self._device, self._stop_early = device, stop_early
        self._tests: list[TestResult] = []
        self._lender: Lender | None = None
        self._differentials: list[Differential] = []
        self._moments: bool | None = None
        self._curves: list[Curve] = []
        self._stopped = ""
        self._output = ""

    def verdict(self, *, tests: bool, curves: bool) -> Verdict:
        """Everything asked for, in order of what it costs."""
        trains = self._case.task.trains
        self._rehearse()
        if tests:
            self._run_tests()
        if tests and trains:
            self._compare_pinned()
        with ExitStack() as stack:  # the program of the first curve stays for the tests that borrow it
            if trains and curves:
                self._measure_first(stack)
            if tests:
                self._run_waiting_tests()
        if tests and trains and curves and self._moments_could_decide():
            parted = max(one.first_step or 1 for one in self._differentials)
            self._moments = self._judge.equal_moments(
                self._files, self._case, self._seeds[0], parted=parted, device=self._device
            )
        if trains and curves:
            self._measure_others()
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
            output=error.output or self._output,
            layer="syntax" if error.kind == "syntax" else "run",
        )

    @contextmanager
    def _opened(self) -> Iterator[RemoteProgram]:
        """The program in a fresh worker, and in the end all that it has printed there."""
        program = self._judge.open(self._files, self._case.task, self._device)
        try:
            with program:
                yield program
        finally:
            self._output = program.output

    def _rehearse(self) -> None:
        """Every part of the contract once, so that what does not run is told in seconds."""
        task, seed = self._case.task, self._seeds[0]
        config = task.configurations[self._case.configuration]
        with self._opened() as program:
            if not task.trains:
                return
            data = task.data(seed)
            model = program.build(seed, **config)
            program.parameters(model)  # what is no model is told here
            run = program.train(model, data.train, seed, **config)
            if not run.next(1):
                raise ProgramError("contract", "train ends before its first update")
            measure(program, task, model, data.held_out)

    def _run_tests(self) -> None:
        """All that do not train for long."""
        task = self._case.task
        if task.trains:
            config = dict(task.configurations[self._case.configuration])
            self._lender = Lender(task, self._seeds[0], config)
        self._tests = self._battery(self._case.names)

    def _run_waiting_tests(self) -> None:
        """Those that do, on the training of the first curve where that is the one they ask for."""
        lender = self._lender
        if lender is None or not lender.waiting:
            return
        names, lender.waiting, lender.early = list(lender.waiting), [], False
        self._tests += self._battery(names)

    def _battery(self, names: Sequence[str] | None) -> list[TestResult]:
        results = self._judge.battery(
            self._files,
            self._case,
            self._seeds[0],
            device=self._device,
            only=names,
            on_event=self._tell,
            lender=self._lender,
        )
        self._forgive({test.name for test in results if not test.passed} & {*self._case.pass_to_pass})
        return results

    def _forgive(self, lost: set[str]) -> None:
        """What the handed out program fails on this seed too is to repair and has not been lost."""
        case = self._case
        if not lost or not case.handed_out:
            return
        before = self._judge.battery(
            case.handed_out, case, self._seeds[0], device=self._device, only=sorted(lost)
        )
        never = {test.name for test in before if not test.passed}
        self._case = replace(
            case,
            fail_to_pass=[*case.fail_to_pass, *sorted(never)],
            pass_to_pass=[name for name in case.pass_to_pass if name not in never],
        )

    def _compare_pinned(self) -> None:
        case = self._case
        for seed in self._seeds[:PIN_SEEDS]:
            one = self._judge.differential(
                self._files, case.reference_files, case.task, seed, case.configuration, device=self._device
            )
            self._differentials.append(one)
            self._tell("differential", one)

    def _moments_could_decide(self) -> bool:
        """The tests say yes, the differential found answers equal and single draws not, if not by luck."""
        return (
            self._evidence().share == 1
            and bool(self._case.reference_curves)
            and any(not one.passed for one in self._differentials)
            and all(one.comparable and one.repeats for one in self._differentials)
            and all(one.first_step != 0 for one in self._differentials)
        )

    def _measure_first(self, stack: ExitStack) -> None:
        program = stack.enter_context(self._opened())
        model = self._measure(program, self._seeds[0])
        if self._lender:
            named = self._judge.named(program, self._files, self._case, self._device)
            self._lender.loan = Loan(named, model, self._curves[0].reported)

    def _measure_others(self) -> None:
        for seed in self._other_seeds():
            if self._stop_early and (why := settled(self._evidence())):
                self._stopped = why
                return
            with self._opened() as program:
                self._measure(program, seed)

    def _measure(self, program: RemoteProgram, seed: int) -> Model:
        model, curve = trained(
            program,
            self._case.task,
            seed,
            self._case.configuration,
            on_probe=lambda *probe: self._tell("probe", probe),
        )
        self._curves.append(curve)
        self._tell("curve", curve)
        return model

    def _other_seeds(self) -> Iterator[int]:
        """The rest of those given, then more as long as they are wanted: seeds that the reference has run."""
        yield from self._seeds[1:]
        first = self._seeds[0]
        known = {curve.seed for curve in self._case.reference_curves}.difference(self._seeds)
        spare = sorted(known, key=lambda seed: subseed(first, "more", seed))
        missing = range(SEEDS_WITHOUT_PINNING - len(self._seeds) - len(spare))
        for seed in spare + [subseed(first, "more", index) for index in missing]:
            if not self._evidence().wants_more_curves:
                return
            yield seed

    def _decide(self) -> Verdict:
        evidence = self._evidence()
        outcome, layer = decide(evidence)
        if outcome is Outcome.SOLVED and self._pasted():
            outcome, layer = Outcome.FLAGGED, "text"
        return Verdict(
            outcome,
            score(outcome, evidence.share, evidence.recovery),
            tests=self._tests,
            curves=self._curves,
            differential=_decisive(self._differentials),
            recovery=evidence.recovery,
            output=self._output,
            layer=layer,
            layers=evidence.layers,
            stopped=self._stopped,
            repaired=[evidence.passes(names) for names in self._case.bugs],
            change=self._change(),
        )

    def _pasted(self) -> bool:
        case = self._case
        if case.ranked and self._too_long:
            return True  # for a person to say
        try:
            return case.ranked and pasted(self._files, case.handed_out, case.reference_files)
        except RecursionError:
            return False

    @property
    def _too_long(self) -> bool:
        """Whether reading the files here, where no limits hold, would be a burden."""
        return sum(map(len, self._files.values())) > READABLE

    def _change(self) -> Change | None:
        case = self._case
        if not case.handed_out or not case.repaired or self._too_long:
            return None
        try:
            return change(case.handed_out, self._files, case.repaired)
        except RecursionError:  # it compiled, and is too deep for a walk all the same
            return None

    def _evidence(self) -> Evidence:
        return Evidence(
            self._tests,
            self._case.fail_to_pass,
            self._case.pass_to_pass,
            self._differentials,
            self._moments,
            comparison=self._comparison(),
            trains=self._case.task.trains,
        )

    def _comparison(self) -> Comparison | None:
        case = self._case
        if not self._curves or not case.reference_curves:
            return None
        broken = () if case.label == "silent" else case.broken_curves
        seen = compare(self._curves, case.reference_curves, broken, case.task)
        known = self._curves, case.reference_curves
        return replace(seen, same=same_training(*known), still=stands_still(*known))


def _decisive(differentials: Sequence[Differential]) -> Differential | None:
    """The first that did not pass, else the last."""
    failed = [one for one in differentials if not one.passed]
    candidates = failed or list(differentials[-1:])
    return candidates[0] if candidates else None
