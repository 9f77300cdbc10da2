"""What the proving ground has found so far: one line of JSON a finding, in a file that is kept with the code.

A finding names by hashes all that it rests on: the program, its reference with task and tests, and for a
verdict the modules of the judge that had a say. Those of another reference or judge are stale: they are
passed over, and dropped when the file is next written whole.
"""

import ast
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
JUDGE = ROOT / "src" / "bughunt" / "judge"
DECIDING = (
    "battery",
    "comparison",
    "curves",
    "decision",
    "differential",
    "familiar",
    "hearing",
    "lending",
    "mapping",
    "models",
    "pinning",
)
RARELY = ("moments",)  # asked: a layer of its own
MEASURED = ROOT / "benchmarks" / "measured" / "verdicts.jsonl"


def digest(*parts: Any) -> str:
    """Sixteen hexadecimal digits of whatever JSON can write."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def judge_digest(layers: tuple[str, ...] = ()) -> str:
    """Of the modules that decide where these layers have a say, without comments, docstrings and layout."""
    names = (*DECIDING, *(name for name in RARELY if name in layers))
    return digest(*(_bare((JUDGE / f"{name}.py").read_text(encoding="utf-8")) for name in names))


def is_of_this_judge(finding: Mapping[str, Any]) -> bool:
    """Whether the judge would come to it again; what is no verdict does not rest on it."""
    return "judge" not in finding or finding["judge"] == judge_digest(tuple(finding["layers"]))


def _bare(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


class Ledger:
    """The findings of one file, by their keys; several processes may append to it."""

    def __init__(self, path: Path = MEASURED) -> None:
        self.path = path
        self._known = {line["key"]: line for line in self._lines()}

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._known.values())

    def get(self, key: str) -> Mapping[str, Any] | None:
        line = self._known.get(key)
        return line if line and is_of_this_judge(line) else None

    def put(self, key: str, finding: Mapping[str, Any]) -> None:
        """Add a finding, on the disk too."""
        line = {"key": key, **finding}
        self._known[key] = line
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, sort_keys=True) + "\n")

    def fresh(self, rests_on: Collection[str]) -> list[Mapping[str, Any]]:
        """The findings on references as they are, and of this judge where a verdict is among them."""
        return [line for line in self._known.values() if line["of"] in rests_on and is_of_this_judge(line)]

    def write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """These findings and no others, sorted so that a change shows as one."""
        ordered = sorted(lines, key=lambda line: (line["reference"], "outcome" in line, line["key"]))
        text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in ordered)
        self.path.write_text(text, encoding="utf-8")

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(text)
            except ValueError:  # the end of a run that was killed while it wrote
                continue
