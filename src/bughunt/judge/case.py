"""What a program is held against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bughunt.judge.verdict import Curve
from bughunt.task import Task

Files = Mapping[str, str]
OnEvent = Callable[[str, object], None]  # "test" TestResult, "probe" (seed, step, value), ...


@dataclass(frozen=True)
class Case:
    """The reference, its tests and curves, and what the challenge is."""

    task: Task
    reference_files: Files
    test_path: Path
    configuration: str = "default"
    fail_to_pass: Sequence[str] = ()
    pass_to_pass: Sequence[str] = ()
    reference_curves: Sequence[Curve] = ()
    broken_curves: Sequence[Curve] = ()
    label: str = "visible"  # visible, deceptive, silent
    handed_out: Files = field(default_factory=dict)  # the broken program as the player got it
    repaired: Files = field(default_factory=dict)  # the shortest known repair of it
    bugs: Sequence[Sequence[str]] = ()  # where there are several: the tests that each one alone fails
    ranked: bool = False  # a pasted reference is told from a repair

    @property
    def names(self) -> list[str] | None:
        """The tests that count; all of the file where none are named."""
        return [*self.fail_to_pass, *self.pass_to_pass] or None
