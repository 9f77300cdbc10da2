"""An operator is registered only with all the words that a player will read about it."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst
import pytest
from bughunt_mutator import Example, OperatorError, Proposal, SourceFile, load_operators, registry
from bughunt_mutator.operator import operator

WORDS = {
    "category": "test",
    "difficulty": 2,
    "symptom": "The loss stands still.",
    "hints": ("Look at the loss.", "Look into `{function}`.", "The sign is wrong."),
    "repair": "Turn the sign.",
    "mechanism": "It climbs.",
    "examples": (Example("a - b\n", ("a + b\n",)),),
    "counterexamples": ("a\n",),
}


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    load_operators()
    before = dict(registry.OPERATORS)
    yield
    registry.OPERATORS.clear()
    registry.OPERATORS.update(before)


def find(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    yield Proposal((f.replace(node, "x"),))


def test_a_complete_operator_is_registered_under_its_id() -> None:
    made = operator("sign-turned", cst.Name, **WORDS)(find)
    assert load_operators()["sign-turned"] is made
    assert made.rows == ("sign-turned",)


@pytest.mark.parametrize(
    "missing", ["symptom", "hints", "repair", "mechanism", "examples", "counterexamples"]
)
def test_an_operator_that_lacks_words_is_refused_with_the_remedy(missing: str) -> None:
    words = {name: value for name, value in WORDS.items() if name != missing}
    with pytest.raises(OperatorError, match=f"sign-turned has no {missing}; give it one"):
        operator("sign-turned", cst.Name, **words)(find)
    assert "sign-turned" not in registry.OPERATORS


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hints": ("only one",)}, "give three"),
        ({"difficulty": 6}, "choose 1 to 5"),
        ({"category": ""}, "has no category"),
        ({"examples": (Example("a\n", ()),)}, "changes nothing"),
        ({"examples": (Example("a\n", ("b\n", "a\n")),)}, "changes nothing"),
        ({"examples": (Example("a\n", ("b\n",), row="elsewhere"),)}, "add it to rows"),
    ],
)
def test_an_operator_with_wrong_words_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(OperatorError, match=says):
        operator("sign-turned", cst.Name, **{**WORDS, **wrong})(find)


def test_an_operator_that_looks_at_no_nodes_is_refused() -> None:
    with pytest.raises(OperatorError, match="has no nodes"):
        operator("sign-turned", **WORDS)(find)


def test_an_id_is_given_once() -> None:
    operator("sign-turned", cst.Name, **WORDS)(find)
    with pytest.raises(ValueError, match="two operators sign-turned"):
        operator("sign-turned", cst.Name, **WORDS)(find)


def test_hints_name_the_function() -> None:
    made = operator("sign-turned", cst.Name, **WORDS)(find)
    assert made.hints_in("train")[1] == "Look into `train`."
