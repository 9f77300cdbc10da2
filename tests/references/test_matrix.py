"""What is said of the references' mutants is what was found, and found by the rules."""

import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from bughunt_mutator.tree import enumerate_tree

from bughunt import references

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from matrix.record import REASONS, Fate, Record  # noqa: E402
from matrix.table import document  # noqa: E402

from references import sample  # isort: skip # noqa: E402

REASON = tomllib.loads(REASONS.read_text(encoding="utf-8"))
FATE = Fate("key", "tests", "train.py:3", "made-up", "a -> b")


def test_the_page_says_what_was_found() -> None:
    records = [Record.read(slug) for slug in references.slugs()]
    assert (ROOT / "docs" / "references.md").read_text(encoding="utf-8") == document(records)


@pytest.mark.parametrize("slug", REASON)
def test_a_reason_is_given_for_what_no_test_tells_apart(slug: str) -> None:
    untold = {fate.name for fate in Record.read(slug).fates.values() if not fate.test}
    assert all(name in untold and reason for name, reason in REASON[slug].items())


def test_of_the_mutants_that_behave_differently_the_killed_ones_count() -> None:
    fates = [
        replace(FATE, test="test_it"),
        replace(FATE, curve="visible"),
        replace(FATE, curve="silent", equal=True),
        replace(FATE, curve="silent", equal=False),
        replace(FATE, curve="deceptive"),
        replace(FATE, change="with no reason"),
    ]
    record = Record("made-up", fates={str(number): fate for number, fate in enumerate(fates)})
    assert len(record.survivors) == 2
    assert record.share == pytest.approx(3 / 5)


def test_a_sample_has_one_of_every_operator_first() -> None:
    mutants = enumerate_tree(references.load("trainer-loop").files)
    operators = {mutant.operator for mutant in mutants}
    picked = sample(mutants, len(operators))
    assert {mutant.operator for mutant in picked} == operators
    assert sample(list(reversed(mutants)), 20) == picked[:20]
