"""Every rewrite writes exactly what its examples say, and leaves its counter-examples alone."""

from __future__ import annotations

import ast

import pytest
from bughunt_mutator.edit import apply
from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import Rewrite, RewriteError, load_rewrites, places, rewrite

REWRITES = list(load_rewrites().values())
EXAMPLES = [(one, example) for one in REWRITES for example in one.examples]
COUNTER = [(one, text) for one in REWRITES for text in one.counterexamples]

BY_EXAMPLE = pytest.mark.parametrize(
    ("one", "example"), EXAMPLES, ids=[f"{one.id}-{one.examples.index(example)}" for one, example in EXAMPLES]
)


def written(one: Rewrite, text: str) -> list[str]:
    """Every text that a rewrite makes of a text."""
    return [apply(text, change.edits) for change in places(text, one.id)]


def test_there_are_at_least_25_that_keep_every_bit() -> None:
    assert sum(one.preserves == "bits" for one in REWRITES) >= 25


@BY_EXAMPLE
def test_an_example_lists_all_results_and_no_others(one: Rewrite, example: Example) -> None:
    assert sorted(written(one, example.before)) == sorted(example.after)


@BY_EXAMPLE
def test_what_an_example_shows_is_python(one: Rewrite, example: Example) -> None:
    same = ast.dump(ast.parse(example.before))
    for after in example.after:
        changed = ast.dump(ast.parse(after)) != same
        assert changed or one.preserves == "prose" or one.id == "number-spelling"


@pytest.mark.parametrize(
    ("one", "text"), COUNTER, ids=[f"{one.id}-not-{one.counterexamples.index(text)}" for one, text in COUNTER]
)
def test_a_counterexample_is_left_alone(one: Rewrite, text: str) -> None:
    ast.parse(text)
    assert written(one, text) == []


def test_a_rewrite_without_examples_is_refused() -> None:
    with pytest.raises(RewriteError, match="no examples"):

        @rewrite("bare", ast.Name)  # type: ignore[arg-type]
        def _bare(*_: object) -> tuple[()]:
            """Nothing."""
            return ()
