"""The page on security promises what a test tries, and nothing else."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
COVERED = PAGE.partition("\n## Covered\n")[2].partition("\n## ")[0]
ROWS = [line for line in COVERED.splitlines() if line.startswith("| ")][1:]


def names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_what_is_said_to_be_covered_has_a_test(row: str) -> None:
    found = re.search(r"`(tests/[\w/]+\.py)::(test_\w+)` \|$", row)
    assert found, "a line without the name of its test"
    assert found[2] in names(ROOT / found[1])


def test_the_page_says_what_is_covered_and_what_is_not() -> None:
    assert len(ROWS) > 20
    missing = PAGE.partition("\n## Not covered\n")[2].partition("\n## ")[0]
    assert len(re.findall(r"^- \*\*", missing, re.MULTILINE)) >= 5
