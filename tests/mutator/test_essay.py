"""Each operator is explained, on the screen and on pages that follow from the operators."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bughunt_mutator.essay import essay, is_folklore, pages, rows_of
from bughunt_mutator.operator import Operator
from bughunt_mutator.registry import load_operators

PAGES = Path(__file__).parents[2] / "docs" / "operators"
SECTIONS = ("Why people make it", "How it shows", "What happens", "How to find it", "How to repair it")
OWN = {id_: operator for id_, operator in load_operators().items() if rows_of(operator)}
BY_OPERATOR = pytest.mark.parametrize("operator", OWN.values(), ids=list(OWN))


@BY_OPERATOR
def test_an_essay_says_everything_there_is_to_know(operator: Operator) -> None:
    text = essay(operator)
    for section in SECTIONS:
        assert f"**{section}.** " in text
    assert f"difficulty {operator.difficulty}" in text
    for row in rows_of(operator):
        assert row.text in text
        assert row.slip in text
        assert row.shows in text
        assert not row.deepcrime or re.search(rf"DeepCrime\]\([^)]*\) .*{row.deepcrime}", text)
    for address in operator.evidence:
        assert f"<{address}>" in text


@BY_OPERATOR
def test_an_example_is_shown_for_each_row(operator: Operator) -> None:
    shown = re.findall(r"```diff\n(.*?)\n```", essay(operator), flags=re.DOTALL)
    assert len(shown) == len(operator.rows)
    for text in shown:
        assert re.search(r"^[+-]", text, flags=re.MULTILINE)


@BY_OPERATOR
def test_what_nobody_has_reported_is_called_folklore(operator: Operator) -> None:
    documented = any(row.documented for row in rows_of(operator))
    assert operator.evidence or not documented
    assert is_folklore(operator) is not documented
    assert ("**Folklore.**" in essay(operator)) is not documented
    assert ("**Where it happened.**" in essay(operator)) is documented


def test_the_pages_are_those_that_the_operators_give() -> None:
    """`bughunt operators docs docs/operators` writes them anew."""
    on_disk = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert on_disk == pages(load_operators())


def test_the_index_leads_to_every_operator() -> None:
    found = pages(load_operators())
    for id_, operator in load_operators().items():
        assert f"[{id_}]({operator.category}.md#{id_.lower()})" in found["index.md"]
        assert f"\n## {id_}\n" in found[f"{operator.category}.md"]
