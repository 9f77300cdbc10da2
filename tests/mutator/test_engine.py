"""The engine lists sound, different mutants with keys that outlive changes around them."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import libcst as cst
import pytest
from bughunt_mutator import (
    Edit,
    Example,
    Mutant,
    OperatorError,
    Proposal,
    SourceFile,
    choose,
    enumerate_mutants,
    load_operators,
    registry,
    revert,
)
from bughunt_mutator.operator import operator
from hypothesis import given
from hypothesis import strategies as st

PROGRAM = """import torch
import torch.nn.functional as F


def train(model, data, cfg, rng):
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(cfg.steps):
        inputs, labels = data[step]
        loss = F.cross_entropy(model(inputs), labels)
        # clear what the last batch left
        opt.zero_grad()
        loss.backward()
        opt.step()
        yield loss.item()


def warm(model, opt, loss):
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
FRAMES = {
    "windows": lambda text: text.replace("\n", "\r\n"),
    "tabs": lambda text: text.replace("    ", "\t"),
    "no final newline": lambda text: text.rstrip("\n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "beyond ascii": lambda text: "größe = '🐛'  # 変数\n" + text,
    "form feed": lambda text: "\x0c\n" + text,
}
WORDS = {
    "category": "test",
    "difficulty": 1,
    "symptom": "s",
    "hints": ("look", "where", "what"),
    "repair": "r",
    "mechanism": "m",
    "examples": (Example("a + b\n", ("a - b\n",)),),
    "counterexamples": ("a\n",),
}


@pytest.fixture
def registry_as_before() -> Iterator[None]:
    """Operators that a test registers are gone after it."""
    load_operators()
    before = dict(registry.OPERATORS)
    yield
    registry.OPERATORS.clear()
    registry.OPERATORS.update(before)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_applying_and_reverting_gives_the_same_bytes(frame) -> None:
    text = frame(PROGRAM)
    mutants = enumerate_mutants(text)
    assert [m for m in mutants if m.operator == "zero-grad-missing"]
    for mutant in mutants:
        changed = mutant.apply(text)
        ast.parse(changed.removeprefix("\ufeff"))
        assert revert(changed, mutant.edits).encode() == text.encode()


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_the_layout_of_a_file_changes_no_sites(frame) -> None:
    plain = [(m.operator, m.scope) for m in enumerate_mutants(PROGRAM)]
    framed = [(m.operator, m.scope) for m in enumerate_mutants(frame(PROGRAM))]
    assert sorted(plain) == sorted(framed)


def test_no_two_mutants_of_a_file_have_one_tree_and_none_has_the_tree_of_the_file() -> None:
    trees = [ast.dump(ast.parse(m.apply(PROGRAM))) for m in enumerate_mutants(PROGRAM)]
    assert len({*trees, ast.dump(ast.parse(PROGRAM))}) == len(trees) + 1


def test_keys_are_different_and_mutants_stand_in_the_order_of_the_file() -> None:
    mutants = enumerate_mutants(PROGRAM)
    assert len({m.key for m in mutants}) == len(mutants)
    places = [(m.edits[0].start, m.operator) for m in mutants]
    assert places == sorted(places)


@given(st.lists(st.sampled_from(["", "# moved", "X = 1", "import os", "'''text'''"]), max_size=4))
def test_keys_stay_when_lines_are_inserted_above(lines: list[str]) -> None:
    moved = "".join(f"{line}\n" for line in lines) + PROGRAM
    shift = len(lines)
    before = {(m.key, m.line + shift) for m in enumerate_mutants(PROGRAM, ["zero-grad-missing"])}
    assert before == {(m.key, m.line) for m in enumerate_mutants(moved, ["zero-grad-missing"])}


def test_keys_and_texts_are_the_same_in_processes_with_other_hash_seeds() -> None:
    code = (
        "import json, sys\n"
        "from bughunt_mutator import choose, disguise, enumerate_mutants\n"
        "text = sys.stdin.read()\n"
        "mutants = enumerate_mutants(text)\n"
        "print(json.dumps([[m.key, m.line, m.apply(text)] for m in mutants]))\n"
        "print(json.dumps([m.key for m in choose(mutants, 5, 3)]))\n"
        "print(json.dumps(disguise(text, 7, frozenset({'train'})).text))\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            input=PROGRAM,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "4242")
    ]
    assert outputs[0] == outputs[1]
    assert json.loads(outputs[0].splitlines()[0])[0][0] == enumerate_mutants(PROGRAM)[0].key


def test_a_deleted_line_is_numbered_by_its_code_and_not_by_its_comment() -> None:
    lines = [m.line for m in enumerate_mutants(PROGRAM, ["zero-grad-missing"])]
    assert lines == [11, 18]
    assert all("zero_grad" in PROGRAM.splitlines()[line - 1] for line in lines)


def test_a_site_knows_its_scope_and_function() -> None:
    first, second = enumerate_mutants(PROGRAM, ["zero-grad-missing"])
    assert (first.scope, second.function) == ("train", "warm")


@pytest.mark.usefixtures("registry_as_before")
def test_a_proposal_whose_text_means_something_else_is_dropped() -> None:
    @operator("careless", cst.Name, **WORDS)
    def careless(f: SourceFile, node: cst.Name) -> Iterator[Proposal]:
        yield Proposal((Edit(*f.span(node), node.value, "a + b", "(a + b)"),))

    got = [m.apply("x * y\n") for m in enumerate_mutants("x * y\n", ["careless"])]
    assert got == []
    got = [m.apply("x\n") for m in enumerate_mutants("x\n", ["careless"])]
    assert got == ["a + b\n"]


@pytest.mark.usefixtures("registry_as_before")
def test_proposals_that_do_not_parse_or_change_nothing_or_repeat_are_dropped() -> None:
    @operator("busy", cst.Name, **WORDS)
    def busy(f: SourceFile, node: cst.Name) -> Iterator[Proposal]:
        for new in ("1 +", node.value, f"({node.value})", "z", "(z)"):
            yield Proposal((Edit(*f.span(node), node.value, new),))

    assert [m.apply("x\n") for m in enumerate_mutants("x\n", ["busy"])] == ["z\n"]


@pytest.mark.usefixtures("registry_as_before")
def test_a_change_of_a_docstring_is_no_mutant() -> None:
    @operator("wordy", cst.SimpleString, **WORDS)
    def wordy(f: SourceFile, node: cst.SimpleString) -> Iterator[Proposal]:
        yield Proposal((f.replace(node, "'other'"),))

    text = "def f():\n    'doc'\n    return 'value'\n"
    assert [m.apply(text) for m in enumerate_mutants(text, ["wordy"])] == [
        "def f():\n    'doc'\n    return 'other'\n"
    ]


@pytest.mark.usefixtures("registry_as_before")
def test_a_proposal_for_a_row_that_is_not_listed_is_an_error() -> None:
    @operator("stray", cst.Name, **WORDS)
    def stray(f: SourceFile, node: cst.Name) -> Iterator[Proposal]:
        yield Proposal((f.replace(node, "z"),), row="elsewhere")

    with pytest.raises(OperatorError, match="add it to rows"):
        enumerate_mutants("x\n", ["stray"])


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(KeyError, match="no-such-thing"):
        enumerate_mutants("x\n", ["no-such-thing"])


def mutant(operator_id: str, nth: int) -> Mutant:
    return Mutant(f"{operator_id}{nth}", operator_id, operator_id, 1, "<module>", ())


MANY = [mutant(name, nth) for name, count in (("a", 9), ("b", 2), ("c", 1)) for nth in range(count)]


@given(st.integers(), st.permutations(MANY))
def test_a_seed_chooses_the_same_in_any_order_and_every_operator_first(
    seed: int, shuffled: list[Mutant]
) -> None:
    chosen = choose(shuffled, 5, seed)
    assert chosen == choose(MANY, 5, seed)
    assert {m.operator for m in chosen[:3]} == {"a", "b", "c"}
    assert choose(MANY, 3, seed) == chosen[:3]


def test_seeds_choose_differently() -> None:
    assert len({choose(MANY, 1, seed)[0].key for seed in range(40)}) > 6
