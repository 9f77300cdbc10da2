"""A disguised program reads as if written so: a linter finds nothing new, and prose stays true."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from bughunt_mutator import disguise

ROOT = Path(__file__).parents[2]
REFERENCES = sorted((ROOT / "src/bughunt/references").glob("*/train.py"))
KEEP = frozenset({"Config", "build", "train", "predict"})
SHAPE = re.compile(r"\[[^\]]*\b[A-Z]\b[^\]]*\]")


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str, str]]:
    """Name, text and disguise of every third reference."""
    texts = [(path.parent.name, path.read_text(encoding="utf-8")) for path in REFERENCES[::3]]
    return [(name, text, disguise(text, 5, KEEP).text) for name, text in texts]


def findings(folder: Path) -> Counter[tuple[str, str]]:
    """How often ruff finds each thing in each file, with the rules that a player's editor may have on."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,B,E7,E501,PL,RUF"]
    command += [
        "--ignore",
        "PLR2004,PLR09,RUF005",
        "--line-length",
        "110",
        "--output-format",
        "json",
        "--exit-zero",
    ]
    done = subprocess.run([*command, str(folder)], capture_output=True, check=True)
    return Counter((Path(item["filename"]).name, item["code"]) for item in json.loads(done.stdout))


def test_a_linter_finds_nothing_new(pairs: list[tuple[str, str, str]], tmp_path: Path) -> None:
    for name, text, changed in pairs:
        for kind, content in (("plain", text), ("changed", changed)):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"{name}.py").write_text(content, encoding="utf-8")
    assert findings(tmp_path / "changed") - findings(tmp_path / "plain") == Counter()


def test_shapes_in_comments_are_all_still_there_or_went_with_their_statement(
    pairs: list[tuple[str, str, str]],
) -> None:
    for _, text, changed in pairs:
        assert Counter(SHAPE.findall(comments(changed))) <= Counter(SHAPE.findall(comments(text)))


def comments(text: str) -> str:
    return "\n".join(line.partition("#")[2] for line in text.splitlines())


def test_blank_lines_and_indents_are_those_of_a_formatter(pairs: list[tuple[str, str, str]]) -> None:
    """What ruff's formatter would change in the disguise is what it would change in the original."""
    for name, text, changed in pairs:
        assert changes(changed) <= changes(text) + 4, name


def changes(text: str) -> int:
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "110", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    ours, theirs = text.splitlines(), done.stdout.splitlines()
    return sum((Counter(ours) - Counter(theirs)).values())


def test_no_docstring_is_lost(pairs: list[tuple[str, str, str]]) -> None:
    for _, text, changed in pairs:
        assert described(changed) == described(text)


def described(text: str) -> int:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    return sum(
        ast.get_docstring(node) is not None for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)
    )
