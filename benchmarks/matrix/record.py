"""What is known of each program and its mutants, kept as lines of a file a program."""

import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from bughunt_mutator import Mutant

FINDINGS = Path(__file__).parents[1] / "measured"
REASONS = FINDINGS / "survivors.toml"
WANTED = 0.9  # of the mutants that behave differently, killed


def place(mutant: Mutant, files: Collection[str]) -> str:
    """The file that a mutant is about."""
    return mutant.path if mutant.path in files else "train.py"


def change(mutant: Mutant) -> str:
    """The beginning of what stands there, and of what is put in its place."""
    old = " / ".join(edit.old.strip() for edit in mutant.edits)
    new = " / ".join(edit.new.strip() for edit in mutant.edits)
    return f"{old[:60]} -> {new[:60]}"


@cache
def reasons(slug: str) -> Mapping[str, str]:
    """Why nothing should tell some mutants of a program from it, by the names of their fates."""
    said: Mapping[str, str] = tomllib.loads(REASONS.read_text(encoding="utf-8")).get(slug, {})
    return said


def is_excused(slug: str, mutant: Mutant, files: Collection[str]) -> bool:
    return name(place(mutant, files), mutant.operator, change(mutant)) in reasons(slug)


def name(path: str, operator: str, what: str) -> str:
    """What a reason in `survivors.toml` is given for; a line number would not last."""
    return f"{path} {operator}: {what}"


@dataclass(frozen=True)
class Health:
    """A program as it should be."""

    key: str  # of program, task and tests
    lines: int
    cpu_seconds: float
    check_seconds: float  # CPU of one training and all tests, the judge's own part included
    target: Sequence[float] | None
    tests: int
    passed: bool
    operators: int
    proposals: int
    curves: Sequence[Sequence[float]]
    metrics: Sequence[float]


@dataclass(frozen=True)
class Fate:
    """What became of one mutant."""

    mutant: str  # key of the program, its task and the mutated text
    tests: str  # key of the tests that have run
    where: str
    operator: str
    change: str
    test: str = ""  # the first that fails
    curve: str | None = None  # visible, deceptive or silent, where it was measured
    equal: bool | None = None  # to the reference over the pinned steps, where that was looked at

    @property
    def looks(self) -> bool:
        """Whether its curve gives it away."""
        return self.curve in ("visible", "deceptive")

    @property
    def survives(self) -> bool:
        return not self.test and not self.looks and not self.equal

    @property
    def name(self) -> str:
        return name(self.where.partition(":")[0], self.operator, self.change)


@dataclass
class Record:
    """What is known of one program and its mutants; the file is rewritten with every finding."""

    slug: str
    health: Health | None = None
    fates: dict[str, Fate] = field(default_factory=dict)

    @classmethod
    def read(cls, slug: str) -> "Record":
        found = cls(slug)
        for line in found.path.read_text(encoding="utf-8").splitlines() if found.path.exists() else ():
            fields = json.loads(line)
            if "mutant" in fields:
                found.fates[fields["mutant"]] = Fate(**fields)
            else:
                found.health = Health(**fields)
        return found

    @property
    def path(self) -> Path:
        return FINDINGS / f"{self.slug}.jsonl"

    def write(self) -> None:
        fates = sorted(self.fates.values(), key=lambda fate: (fate.where, fate.mutant))
        facts = [asdict(self.health)] if self.health else []
        facts += [asdict(fate) for fate in fates]
        text = "".join(json.dumps(fact, separators=(",", ":")) + "\n" for fact in facts)
        FINDINGS.mkdir(exist_ok=True)
        self.path.write_text(text, encoding="utf-8")

    @property
    def reasons(self) -> dict[str, str]:
        """Why survivors survive, by name."""
        said = reasons(self.slug)
        return {name: said[name] for name in (fate.name for fate in self.survivors) if name in said}

    @property
    def survivors(self) -> list[Fate]:
        return [fate for fate in self.fates.values() if fate.survives]

    @property
    def share(self) -> float:
        """Of the mutants that behave differently those that are killed."""
        different = [fate for fate in self.fates.values() if not fate.equal and fate.name not in self.reasons]
        return sum(not fate.survives for fate in different) / len(different) if different else 1.0
