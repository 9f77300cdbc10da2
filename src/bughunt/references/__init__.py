"""Correct programs, one a folder: the targets of mutation and the yardsticks of the judge."""

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bughunt.errors import UsageError
from bughunt.task import Task

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Reference:
    """A correct program with the judge's side of it."""

    slug: str
    folder: Path
    files: Mapping[str, str]  # path -> text, as the worker gets it
    task: Task
    test_path: Path


def slugs() -> list[str]:
    """The names of all reference programs, sorted."""
    return sorted(path.parent.name.replace("_", "-") for path in ROOT.glob("*/task.py"))


@cache
def load(slug: str) -> Reference:
    """One reference program; UsageError when there is none of that name."""
    if slug not in slugs():
        near = difflib.get_close_matches(slug, slugs(), n=2)
        remedy = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(slugs())}"
        raise UsageError(f"no reference program '{slug}'", remedy)
    name = slug.replace("-", "_")
    folder = ROOT / name
    module = importlib.import_module(f"bughunt.references.{name}.task")
    return Reference(slug, folder, read_program(folder), module.TASK, folder / "test_behaviour.py")


def read_program(folder: Path) -> dict[str, str]:
    """The program's own files: all modules of the folder but the judge's side."""
    found = {path.name for path in folder.glob("*.py")} - {"__init__.py", "task.py"}
    files = {}
    for name in sorted(name for name in found if not name.startswith("test_")):
        with open(folder / name, encoding="utf-8", newline="") as file:
            files[name] = file.read()
    return files


def listing() -> list[dict[str, Any]]:
    """What `bughunt references` says of each program."""
    return [_row(load(slug).task) for slug in slugs()]


def _row(task: Task) -> dict[str, Any]:
    return {
        "slug": task.slug,
        "title": task.title,
        "topics": list(task.topics),
        "categories": list(task.categories),
        "cpu_seconds": task.cpu_seconds,
        "kind": task.kind,
    }
