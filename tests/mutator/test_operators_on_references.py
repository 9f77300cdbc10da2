"""What the operators make of the reference programs is fit to be given to a player."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import pytest
from bughunt_mutator.edit import revert
from bughunt_mutator.engine import Mutant, enumerate_mutants

REFERENCES = Path(__file__).parents[2] / "src" / "bughunt" / "references"
PROGRAMS = sorted(REFERENCES.glob("*/train.py"))
BY_PROGRAM = pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.parent.name)


@cache
def mutants_of(program: Path) -> list[Mutant]:
    return enumerate_mutants(program.read_text())


@BY_PROGRAM
def test_a_program_gives_several_operators_something_to_do(program: Path) -> None:
    files = [
        path for path in program.parent.glob("*.py") if not path.name.startswith(("__", "task", "test_"))
    ]
    assert len({mutant.operator for path in files for mutant in mutants_of(path)}) >= 8


@BY_PROGRAM
def test_a_mutant_compiles_without_a_warning(program: Path) -> None:
    text = program.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mutant in mutants_of(program):
            compile(mutant.apply(text), mutant.operator, "exec")


@BY_PROGRAM
def test_a_mutant_can_be_taken_back(program: Path) -> None:
    text = program.read_text()
    for mutant in mutants_of(program):
        assert revert(mutant.apply(text), mutant.edits) == text


@BY_PROGRAM
def test_a_linter_sees_no_name_that_a_mutant_has_orphaned(program: Path, tmp_path: Path) -> None:
    text = program.read_text()
    for mutant in mutants_of(program):
        (tmp_path / f"{mutant.operator}-{mutant.key}.py").write_text(mutant.apply(text))
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache"]
    ruff = subprocess.run(
        [*command, "--select", "F", "--output-format", "json", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = [(Path(each["filename"]).stem, each["message"]) for each in json.loads(ruff.stdout)]
    assert found == []
