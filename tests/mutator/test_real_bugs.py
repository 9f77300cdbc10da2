"""Mistakes that are on record in public projects are among those that the operators write."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "real_bugs.py"
SPEC = importlib.util.spec_from_file_location("real_bugs", PATH)
assert SPEC is not None
assert SPEC.loader is not None
real_bugs = importlib.util.module_from_spec(SPEC)
sys.modules["real_bugs"] = real_bugs
SPEC.loader.exec_module(real_bugs)
SAMPLE = real_bugs.mistakes()


@pytest.mark.parametrize("mistake", SAMPLE, ids=lambda mistake: mistake.id)
def test_a_mistake_of_the_sample_is_python_and_is_on_record(mistake) -> None:
    assert ast.dump(ast.parse(mistake.correct)) != ast.dump(ast.parse(mistake.wrong))
    assert mistake.url.startswith("https://github.com/")


def test_most_of_the_sample_is_written_exactly() -> None:
    found = [real_bugs.reproduction(mistake)[0] for mistake in SAMPLE]
    assert found.count(real_bugs.EXACTLY) >= 60
