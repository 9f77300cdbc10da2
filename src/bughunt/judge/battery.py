"""The behaviour tests: pytest in this process, the program in another."""

import atexit
import contextlib
import itertools
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import pytest

from bughunt.judge.lending import Lender, PutOffError, borrowing
from bughunt.judge.program import ProgramError
from bughunt.judge.verdict import TestResult
from bughunt.judge.wording import in_words
from bughunt.task import Program, Task

OpenProgram = Callable[[], AbstractContextManager[Program]]
OnTest = Callable[[TestResult], None]
START = 0  # every test finds the program's global random state at the same place
DETAIL = 200  # characters kept of a message
UNWANTED = (
    "cacheprovider",
    "terminal",
    "faulthandler",
    "unraisableexception",
    "threadexception",
    "logging",
    "doctest",
    "junitxml",
    "pastebin",
    "stepwise",
    "unittest",
    "debugging",
    "setuponly",
    "setupplan",
)
ENVIRONMENT = re.compile(r"PYTEST_(ADDOPTS|PLUGINS|XDIST.*|THEME.*)")


def run_battery(
    open_program: OpenProgram,
    task: Task,
    path_of_test_behaviour: Path,
    seed: int,
    *,
    only: Sequence[str] | None = None,
    on_test: OnTest | None = None,
    lender: Lender | None = None,
) -> list[TestResult]:
    """Run the tests of one file; a test that does not run has not passed.

    The tests share one program as long as they pass: opening one costs more than most tests. What does not
    pass after others is run again, each test on a program of its own, and that is what counts. With a
    `lender` trainings are borrowed; the tests that are put off are in its `waiting`, not among the results.
    """
    path = Path(path_of_test_behaviour).resolve()
    with _Shared(open_program, lender) as shared:
        together = _Battery(shared.program, task, seed, only, on_test, on_failure=shared.renew)
        together.run(path)
    if lender:
        lender.waiting += together.put_off
    if not together.doubtful:
        return together.results()
    alone = _Battery(open_program, task, seed, together.doubtful, on_test)
    alone.run(path)
    return together.results(alone)


class _Shared:
    """One program for many tests, opened when first needed."""

    def __init__(self, open_program: OpenProgram, lender: Lender | None) -> None:
        self._open_program, self._lender = open_program, lender
        self._stack = contextlib.ExitStack()
        self._program: Program | None = None
        self._is_fresh = False  # nobody has used it before this test

    def __enter__(self) -> "_Shared":
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    @contextlib.contextmanager
    def program(self) -> Iterator[Program]:
        """The program, for one test."""
        self._is_fresh = self._program is None
        if self._program is None:
            self._program = self._stack.enter_context(self._open_program())
        yield borrowing(self._program, self._lender) if self._lender else self._program

    def renew(self) -> bool:
        """The next test gets a fresh one; whether the last one had one of its own, and nothing borrowed."""
        alone = self._is_fresh and not (self._lender and self._lender.loan)
        self._close()
        self._program = None
        return alone

    def _close(self) -> None:
        self._stack.close()
        if self._lender:
            self._lender.made.clear()


class _Battery:
    """A pytest plugin: the fixtures, the choice of tests, and what came of each."""

    def __init__(
        self,
        open_program: OpenProgram,
        task: Task,
        seed: int,
        only: Sequence[str] | None,
        on_test: OnTest | None,
        on_failure: Callable[[], bool] | None = None,
    ) -> None:
        self._open, self._task, self._seed = open_program, task, seed
        self._only, self._on_test, self._on_failure = only, on_test, on_failure
        self._results: dict[str, TestResult] = {}
        self._final: set[str] = set()  # what comes of them cannot be due to the tests before
        self._out_of_time = False
        self._infrastructure: ProgramError | None = None
        self.collected: list[str] = []
        self.put_off: list[str] = []

    def run(self, path: Path) -> None:
        """The tests of a file, in this very process."""
        switches = [word for plugin in UNWANTED for word in ("-p", f"no:{plugin}")]
        # The folder itself: from the root of the file system on, every folder on the way would be searched.
        folder = ["--rootdir", str(path.parent), "--confcutdir", str(path.parent)]
        place = ["-c", os.devnull, *folder, "--noconftest", "--import-mode=importlib"]
        with _own_environment(path):
            pytest.main([str(path), *place, *switches, "--capture=sys"], plugins=[self])
        if self._infrastructure:
            raise self._infrastructure
        if not self.collected:
            raise ProgramError("infra", f"no behaviour test was collected from {path.name}")

    @pytest.fixture(name="program")
    def program(self) -> Iterator[Program]:
        with self._open() as program:
            program.seed(START)
            yield program

    @pytest.fixture(name="task")
    def task(self) -> Task:
        return self._task

    @pytest.fixture(name="seed")
    def seed(self) -> int:
        return self._seed

    def pytest_configure(self, config: pytest.Config) -> None:
        config.option.tbstyle = "native"  # nobody reads the trace

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._only is not None:
            items[:] = [item for item in items if item.name in self._only]
        self.collected = [item.name for item in items]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._note(item, call, report)
        return report

    def _note(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, PutOffError):
            self.put_off.append(item.name)
            return
        if isinstance(error, ProgramError):
            self._note_failure_of_the_program(item, error)
        if report.when == "setup" and report.passed:
            return
        if report.when == "teardown" and (report.passed or item.name in self._results):
            return
        if item.name not in self._results:
            passed = report.when == "call" and report.passed and not hasattr(report, "wasxfail")
            self._keep(TestResult(item.name, passed, "" if passed else explain(error)))

    def _note_failure_of_the_program(self, item: pytest.Item, error: ProgramError) -> None:
        if error.kind == "infra":
            self._infrastructure = error
            item.session.shouldstop = "the judge failed"
        if error.kind == "timeout":
            self._out_of_time = True
            item.session.shouldstop = "out of time"

    def _keep(self, result: TestResult) -> None:
        self._results[result.name] = result
        if not result.passed and self._on_failure:
            was_alone = self._on_failure()
            if self._out_of_time or not was_alone:
                return
        self._final.add(result.name)
        if self._on_test:
            self._on_test(result)

    @property
    def doubtful(self) -> list[str]:
        """What was to run and of which nothing final is known."""
        return [name for name in self.collected if name not in self._final.union(self.put_off)]

    def results(self, again: "_Battery | None" = None) -> list[TestResult]:
        """One result for each test asked for, in the order asked for or of the file."""
        asked = self.collected if self._only is None else self._only
        names = [name for name in asked if name not in self.put_off]
        last = again or self
        why = "not run: an earlier test ran out of time" if last._out_of_time else "not run"
        final = {name: self._results[name] for name in self._final}
        known = {**final, **last._results}
        return [known.get(name, TestResult(name, False, why)) for name in names]


def explain(error: BaseException | None) -> str:
    """What a test says of its failure, in one line."""
    if error is None:
        return "skipped"
    if isinstance(error, ProgramError):
        text = f"{error.place}: {error.message}" if error.place else error.message
    elif isinstance(error, AssertionError):
        text = str(error) or "the assertion does not hold"
    elif isinstance(error, pytest.skip.Exception):
        text = f"skipped: {error.msg}"
    else:
        text = f"{type(error).__name__}: {error}"
    said = [part.strip() for part in text.splitlines() if part.strip()]
    own = list(itertools.takewhile(lambda part: not part.startswith("assert "), said))
    line = "; ".join(own) or in_words("; ".join(said)) or type(error).__name__
    return line if len(line) <= DETAIL else line[: DETAIL - 1] + "…"


@contextlib.contextmanager
def _own_environment(path: Path) -> Iterator[None]:
    """Neither the user's pytest settings nor an outer pytest run reach the tests, nor the other way."""
    before, modules = dict(os.environ), set(sys.modules)
    bytecode, prefix = sys.dont_write_bytecode, sys.pycache_prefix
    for name in list(os.environ):
        if ENVIRONMENT.fullmatch(name):
            del os.environ[name]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode, sys.pycache_prefix = False, _compiled()  # what pytest makes of the tests
    try:
        yield
    finally:
        sys.dont_write_bytecode, sys.pycache_prefix = bytecode, prefix
        os.environ.clear()
        os.environ.update(before)
        for name in set(sys.modules) - modules:
            if getattr(sys.modules[name], "__file__", None) == str(path):
                del sys.modules[name]


@cache
def _compiled() -> str:
    """Where this process keeps compiled tests, beside nobody's sources."""
    folder = tempfile.mkdtemp(prefix="bughunt-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
