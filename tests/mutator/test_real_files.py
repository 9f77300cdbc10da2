"""The mutator takes any real Python file as it is, and refuses what is none in one line."""

from __future__ import annotations

import ast
import sysconfig
import time
import warnings
from functools import cache
from pathlib import Path
from random import Random

import click
import numpy
import pytest
import sklearn
import torch
from bughunt_mutator import SourceError, SourceFile, apply, enumerate_mutants, revert
from hypothesis import given, settings
from hypothesis import strategies as st

HOMES = [Path(module.__file__).parent for module in (torch, numpy, sklearn, click) if module.__file__]
STDLIB = Path(sysconfig.get_paths()["stdlib"])
SIZE = 12_000
FRAMES = {
    "as it is": lambda text: text,
    "windows": lambda text: text.replace("\n", "\r\n"),
    "no final newline": lambda text: text.rstrip("\n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "form feed": lambda text: "\x0c\n" + text,
}


@cache
def files() -> list[Path]:
    """The installed files of a bearable size, a few hundred of each package, drawn by a seed."""
    found = []
    for home in (*HOMES, STDLIB):
        pattern = "*.py" if home == STDLIB else "**/*.py"
        here = sorted(path for path in home.glob(pattern) if 500 < path.stat().st_size < SIZE)
        found += Random(5).sample(here, min(len(here), 60))
    return found


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8")


@settings(max_examples=30)
@given(st.deferred(lambda: st.sampled_from(files())), st.sampled_from(sorted(FRAMES)))
def test_every_mutant_of_a_real_file_parses_differs_and_can_be_taken_back(path: Path, frame: str) -> None:
    text = FRAMES[frame](text_of(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = ast.dump(ast.parse(text.removeprefix("\ufeff")))
        seen = {before}
        for mutant in enumerate_mutants(text):
            changed = mutant.apply(text)
            tree = ast.dump(ast.parse(changed.removeprefix("\ufeff")))
            assert tree not in seen, mutant
            seen.add(tree)
            assert revert(changed, mutant.edits).encode() == text.encode()


@settings(max_examples=12)
@given(st.deferred(lambda: st.sampled_from(files())), st.randoms(use_true_random=False))
def test_statements_of_a_real_file_are_taken_out_and_put_back(path: Path, rng: Random) -> None:
    text = text_of(path)
    file = SourceFile(text)
    statements = [node for node in file.order if type(node).__name__ == "SimpleStatementLine"]
    for node in rng.sample(statements, min(5, len(statements))):
        edit = file.delete_statement(node)
        changed = apply(text, [edit])
        ast.parse(changed.removeprefix("\ufeff"))
        assert revert(changed, [edit]) == text


def test_a_long_real_file_is_enumerated_in_seconds() -> None:
    text = text_of(Path(torch.nn.functional.__file__ or ""))
    assert text.count("\n") > 5000
    start = time.process_time()
    mutants = enumerate_mutants(text)
    assert time.process_time() - start < 20
    assert len({mutant.operator for mutant in mutants}) > 10


NESTED = {
    "parentheses": "x = " + "(" * 5000 + "1" + ")" * 5000,
    "lists": "x = " + "[" * 100_000 + "]" * 100_000,
    "a sum": "x = " + "+".join(["a"] * 5000),
    "attributes": "x = a" + ".b" * 100_000,
    "signs": "x = " + "-" * 100_000 + "a",
    "lambdas": "x = " + "lambda:" * 300 + "1",
    "elifs": "if a:\n  pass\n" + "elif b:\n  pass\n" * 2000,
    "blocks": "".join(" " * depth + "if a:\n" for depth in range(300)) + " " * 300 + "pass\n",
}
BAD = {
    "python 2": ("x = 1\nprint 'two'\n", "line 2"),
    "an open bracket": ("x = 1\n\ny = (\n", "line 3"),
    "bytes": ("x = 1\ny = '\0'\n", "line 2"),
    "latin letters": ("x = 1\n# \udce9\n", "line 2"),
    "fifty thousand lines": ("x = 1\n" * 50_000, "line 20,001"),
    "one long line": ("x = [" + "1, " * 1_000_000 + "]\n", "line 1"),
    **{name: (text, "line") for name, text in NESTED.items()},
}


@pytest.mark.parametrize(("text", "place"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_mutated_is_refused_at_once_in_one_line_with_the_place(text: str, place: str) -> None:
    start = time.process_time()
    with pytest.raises(SourceError) as refused:
        SourceFile(text)
    assert time.process_time() - start < 3
    assert str(refused.value).startswith(place)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "# only a comment", "\x0c", "    \n"])
def test_a_file_without_code_has_no_mutants(text: str) -> None:
    assert enumerate_mutants(text) == []


def test_a_file_with_the_line_ends_of_the_first_macintosh_is_refused() -> None:
    with pytest.raises(SourceError, match="line 2: the parser does not give"):
        SourceFile("x = 1\ry = 2\r")
