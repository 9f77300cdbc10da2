"""Every operator writes exactly what its examples say, and leaves its counter-examples alone."""

from __future__ import annotations

import ast
from collections import Counter

import pytest
from bughunt_mutator.edit import apply, revert
from bughunt_mutator.engine import Mutant, enumerate_mutants
from bughunt_mutator.facts import told
from bughunt_mutator.operator import Example, Operator
from bughunt_mutator.registry import load_operators

OPERATORS = sorted(load_operators().values(), key=lambda operator: operator.id)
EXAMPLES = [(operator, example) for operator in OPERATORS for example in operator.examples]
COUNTER = [(operator, text) for operator in OPERATORS for text in operator.counterexamples]

BY_EXAMPLE = pytest.mark.parametrize(
    ("operator", "example"),
    EXAMPLES,
    ids=[f"{operator.id}-{operator.examples.index(example)}" for operator, example in EXAMPLES],
)
BY_OPERATOR = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.id)


def mutants_of(operator: Operator, text: str) -> list[Mutant]:
    """Every mutant that an operator makes of a text, given what its names are where that is said."""
    return enumerate_mutants(text, frozenset({operator.id}), told(text, operator.facts))


def written(operator: Operator, text: str) -> list[str]:
    """Every text that an operator makes of a text."""
    return [mutant.apply(text) for mutant in mutants_of(operator, text)]


@BY_EXAMPLE
def test_an_example_lists_all_mutants_and_no_others(operator: Operator, example: Example) -> None:
    assert sorted(written(operator, example.before)) == sorted(example.after)


@BY_EXAMPLE
def test_taking_the_edits_back_gives_the_same_bytes(operator: Operator, example: Example) -> None:
    for mutant in mutants_of(operator, example.before):
        after = apply(example.before, mutant.edits)
        assert revert(after, mutant.edits).encode() == example.before.encode()


@BY_EXAMPLE
def test_what_an_example_shows_is_python_and_differs(operator: Operator, example: Example) -> None:
    before = ast.dump(ast.parse(example.before))
    for after in example.after:
        assert ast.dump(ast.parse(after)) != before, operator.id


@pytest.mark.parametrize(
    ("operator", "text"),
    COUNTER,
    ids=[f"{operator.id}-{operator.counterexamples.index(text)}" for operator, text in COUNTER],
)
def test_a_counterexample_is_left_alone(operator: Operator, text: str) -> None:
    assert written(operator, text) == []


@BY_OPERATOR
def test_every_row_that_an_operator_claims_has_an_example(operator: Operator) -> None:
    shown = {example.row or operator.rows[0] for example in operator.examples}
    assert set(operator.rows) == shown


@BY_OPERATOR
def test_a_mutant_names_a_row_of_its_operator(operator: Operator) -> None:
    for example in operator.examples:
        for mutant in mutants_of(operator, example.before):
            assert mutant.row in operator.rows
            if example.row and len(example.after) == 1:
                assert mutant.row == example.row


@BY_OPERATOR
def test_hints_go_from_looking_to_place_to_mechanism(operator: Operator) -> None:
    look, where, what = operator.hints
    assert look.startswith("LOOK: ")
    assert where.startswith("WHERE: ")
    assert "{function}" in where
    assert what.startswith("WHAT: ")
    assert what.endswith("?")


@BY_OPERATOR
def test_what_an_operator_gives_for_evidence_can_be_looked_up(operator: Operator) -> None:
    """Folklore has none: nobody is known to have written the mistake down in this form."""
    assert all(address.startswith("https://") for address in operator.evidence)


def test_no_row_is_served_twice_and_no_id_is_taken_twice() -> None:
    rows = Counter(row for operator in OPERATORS for row in operator.rows)
    assert [row for row, count in rows.items() if count > 1] == []
    assert len({operator.id for operator in OPERATORS}) == len(OPERATORS)
