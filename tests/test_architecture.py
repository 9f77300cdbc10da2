"""Who may import what outside our own packages (the direction inside is import-linter's)."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JUDGES_SIDE = {"__init__", "task", "test_behaviour"}
PROGRAMS = sorted(
    path
    for path in ROOT.glob("src/bughunt/references/*/*.py")
    if path.stem not in JUDGES_SIDE and (path.parent / "train.py").exists()
)
MUTATOR = sorted(ROOT.glob("mutator/**/*.py"))


def imported(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_program_imports_torch_numpy_and_the_standard_library_alone(path):
    beside = {other.stem for other in path.parent.glob("*.py")} - JUDGES_SIDE
    assert not set(imported(path)) - {"torch", "numpy"} - sys.stdlib_module_names - beside


@pytest.mark.parametrize("path", MUTATOR, ids=lambda path: path.stem)
def test_the_mutator_imports_libcst_and_the_standard_library_alone(path):
    assert not set(imported(path)) - {"libcst", "bughunt_mutator"} - sys.stdlib_module_names


def test_torch_is_known_in_few_places():
    """The programs, the judge, the writers of data and of TensorBoard runs, and the doctor."""
    package = ROOT / "src" / "bughunt"
    knowing = {path.relative_to(package) for path in package.rglob("*.py") if "torch" in set(imported(path))}
    assert {path.parts[0] for path in knowing} <= {"references", "judge", "play", "show", "cli"}
    assert {path.name for path in knowing if path.parts[0] == "cli"} <= {"machine.py"}
