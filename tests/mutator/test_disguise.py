"""A disguised program behaves as before, and a bug is the same bug under it."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bughunt_mutator import Edit, EditError, choose, differing, disguise, enumerate_mutants
from bughunt_mutator.distance import normalised
from bughunt_mutator.renaming import DisguiseError, rename
from bughunt_mutator.rewrite import load_rewrites

ROOT = Path(__file__).parents[2]
REFERENCES = sorted((ROOT / "src/bughunt/references").glob("*/train.py"))
KEEP = frozenset({"Config", "build", "train", "predict"})
TRICKY = {
    "closures": """
def counter(start):
    total = start
    def add(amount):
        nonlocal total
        total += amount
        return total
    return add
add = counter(3)
print(add(4), add(amount=5))
""",
    "comprehensions": """
def table(rows):
    width = max(len(row) for row in rows)
    index = {key: value for value, key in enumerate(sorted(rows[0]))}
    pairs = [(row, cell) for row in rows for cell in row if cell in index]
    return width, index, pairs, [width := n for n in range(3)], width
print(table(["ab", "cab"]))
""",
    "class scopes": """
def value():
    return "outer"
class Box:
    value = value()
    size = 2
    def read(self, scale=1):
        size = self.size * scale
        state = [size for size in range(size)]
        return size, state, self.value
print(Box().read(), Box().read(scale=3))
""",
    "format strings": """
def show(count):
    total, step = count * 2, 3
    return f"{total=} {step:>{count}} {total!r:{step}}"
print(show(4))
""",
    "globals": """
best = 0
def update(score):
    global best
    previous = best
    best = max(best, score)
    return previous
print(update(3), update(2), best)
""",
    "exceptions and with": """
import contextlib
def attempt(values):
    result = []
    with contextlib.suppress(KeyError) as state:
        try:
            result.append(values[5])
        except IndexError as error:
            message = str(error)
            result.append(message)
        for item in values:
            result.append(item)
        else:
            del item
    return result, state
print(attempt([1, 2]))
""",
    "helpers by name": """
def rows():
    return 1
def scores():
    return 2
print([globals_free() for globals_free in (rows, scores)], {"rows": rows}["rows"]())
""",
    "matching": """
def kind(item):
    match item:
        case [first, *rest] if rest:
            total = first
            return total, rest
        case {"key": value, **others}:
            return value, others
        case int(value) | str(value):
            return value
print(kind([1, 2]), kind({"key": 3, "x": 4}), kind(5))
""",
    "keyword parameters": """
def scale(values, *, weight=2):
    weights = [weight * value for value in values]
    make = lambda value, weight=weight: value * weight
    return weights, make(3)
print(scale(values=[1, 2], weight=5))
""",
}

ARRAYS = """
import torch
from torch import Tensor
from torch.nn import functional as F


def weights(scores: Tensor, mask: Tensor) -> Tensor:
    hidden = scores.masked_fill(~mask, -torch.inf)
    return F.softmax(hidden, dim=-1)


def spread(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=0, keepdim=True)
    return (centred**2).sum(dim=0) / (x.size(0) - 1)


def picked(x: Tensor, many: int) -> list[float]:
    total = 0
    found = []
    for row in x:
        found.append(row.max().item())
    for i in range(many):
        total += i
    if many == 3:
        found = found[:1]
    else:
        found = [value + total for value in found]
    return found


torch.manual_seed(0)
data = torch.randn(5, 4)
print(weights(data, data > 0).tolist(), spread(data).tolist(), picked(data, many=2))
print((data @ data.T).view(-1)[:3].tolist(), data.transpose(0, 1).reshape(2, -1).tolist())
"""


def printed(text: str) -> str:
    """What a program prints when it runs."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(text, "program", "exec"), {"__name__": "program"})
    return out.getvalue()


@pytest.mark.parametrize("program", [*TRICKY.values(), ARRAYS], ids=[*TRICKY.keys(), "arrays"])
@pytest.mark.parametrize("seed", range(4))
def test_a_disguised_program_prints_the_same(program: str, seed: int) -> None:
    before = printed(program)
    assert before
    assert printed(disguise(program, seed).text) == before


@pytest.mark.parametrize("name", sorted(TRICKY.keys() - {"format strings"}))
def test_something_is_renamed_in_every_program(name: str) -> None:
    assert rename(TRICKY[name], 1).names


def test_names_that_others_use_stay() -> None:
    text = TRICKY["keyword parameters"] + TRICKY["class scopes"]
    renamed = {name for _, name in rename(text, 1, frozenset({"Box"})).names}
    assert renamed.isdisjoint({"values", "weight", "self", "size_", "read", "Box"})
    assert "weights" in renamed


def test_parameters_that_are_passed_by_position_are_renamed_and_those_of_kept_functions_are_not() -> None:
    text = "def helper(rows):\n    return rows\n\n\ndef train(data):\n    return helper(data)\n"
    assert {name for _, name in rename(text, 1, frozenset({"train"})).names} == {"helper", "rows"}


@pytest.mark.parametrize("call", ["locals()", "globals()", "eval('1')", "exec('1')", "vars()"])
def test_a_program_that_looks_at_its_own_names_is_refused(call: str) -> None:
    with pytest.raises(DisguiseError, match=call.partition("(")[0]):
        disguise(f"def f():\n    total = 1\n    return {call}\n", 1)


def test_a_method_called_eval_is_no_reason_to_refuse() -> None:
    assert "eval()" in rename("def f(model):\n    state = model.eval()\n    return state\n", 1).text


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    text = "".join(TRICKY.values())
    assert disguise(text, 1).text == disguise(text, 1).text
    assert len({disguise(text, seed).text for seed in range(5)}) == 5


def test_the_bytes_do_not_depend_on_the_order_of_sets() -> None:
    code = "import sys; from bughunt_mutator import disguise; print(disguise(sys.stdin.read(), 3).text)"
    texts = set()
    for salt in ("0", "1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": salt, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, input=ARRAYS, env=environment, capture_output=True, text=True, check=True
        )
        texts.add(done.stdout)
    assert len(texts) == 1


def test_names_in_the_shape_legend_of_a_comment_stay() -> None:
    text = "def f(x):\n    b, state = x  # (b, d)\n    return b, state\n"
    assert {name for _, name in rename(text, 1, frozenset({"f"})).names} == {"state"}


def test_only_names_differ_between_a_program_and_its_renaming() -> None:
    text = "".join(TRICKY.values())
    changed = rename(text, 1)
    back = {new: old for (_, old), new in changed.names.items()}
    tree = ast.parse(changed.text)
    for node in ast.walk(tree):
        for slot in ("id", "name", "arg"):
            if isinstance(name := getattr(node, slot, None), str):
                setattr(node, slot, back.get(name, name))
        if isinstance(node, ast.Nonlocal):
            node.names = [back.get(name, name) for name in node.names]
    assert ast.dump(tree) == ast.dump(ast.parse(text))


def test_a_rewrite_that_is_left_out_is_not_made() -> None:
    everything = frozenset({*load_rewrites(), "names"})
    assert disguise(ARRAYS, 1, leave_out=everything).text == ARRAYS
    assert "extract-temporary" in disguise(ARRAYS, 1).used
    left = disguise(ARRAYS, 1, leave_out=frozenset({"extract-temporary"}))
    assert "extract-temporary" not in left.used


# The distance


def test_the_distance_counts_the_lines_that_a_comparison_does_not_find() -> None:
    """By hand: of four lines the second has another name, so a quarter differs."""
    one = "a = 1\nb = 2\nc = 3\nd = 4\n"
    assert differing(one.replace("b", "e"), one) == 0.25
    assert differing(one, one) == 0
    assert differing("x = 9\n", one) == 1


def test_the_distance_does_not_see_comments_layout_quotes_and_docstrings() -> None:
    one = 'def f(a, b):\n    """Says one thing."""\n    return g(a, "b")  # so\n'
    two = "# above\ndef f(\n    a,\n    b,\n):\n    '''Says another.'''\n\n    return (g(a, 'b'))\n"
    assert normalised(one) == normalised(two)
    assert differing(one, two) == 0


def test_a_line_that_moved_past_others_differs_as_it_does_for_diff() -> None:
    assert differing("b = 2\nc = 3\na = 1\n", "a = 1\nb = 2\nc = 3\n") == pytest.approx(1 / 3)


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.parent.name)
def test_two_fifths_of_every_reference_change_and_lines_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    one, two = (disguise(text, seed, KEEP).text for seed in (1, 2))
    assert differing(one, text) >= 0.4
    assert differing(two, one) >= 0.4
    assert max(map(len, one.splitlines())) <= max(110, *map(len, text.splitlines()))


# Bugs in a disguise


@pytest.mark.parametrize("path", REFERENCES[::6], ids=lambda path: path.parent.name)
def test_a_bug_keeps_its_edits_under_the_disguise(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for mutant in choose(enumerate_mutants(text), 2, 1):
        made = disguise(text, 1, KEEP, [mutant.edits])
        assert made.broken([]) == made.text != made.broken()
        assert [(e.old, e.new) for e in made.bugs[0]] == [(e.old, e.new) for e in mutant.edits]
        assert differing(made.broken(), mutant.apply(text)) >= 0.4


SMALL = """
def train(model, opt, data):
    for batch in data:
        loss = model(batch)
        opt.zero_grad()
        loss.backward()
        opt.step()
        yield loss
"""


def test_an_operator_finds_the_same_bug_in_the_disguised_program() -> None:
    (before,) = enumerate_mutants(SMALL, ["zero-grad-missing"])
    made = disguise(SMALL, 1, KEEP, [before.edits])
    assert made.text != SMALL
    (after,) = enumerate_mutants(made.text, ["zero-grad-missing"])
    assert after.apply(made.text) == made.broken()


def test_each_of_two_bugs_can_be_had_alone() -> None:
    one, two = (enumerate_mutants(SMALL, [id_])[0] for id_ in ("zero-grad-missing", "loss-sign"))
    made = disguise(SMALL, 1, KEEP, [one.edits, two.edits])
    assert "zero_grad" not in made.broken([0])
    assert "zero_grad" in made.broken([1])
    assert made.broken([0, 1]) == made.broken()
    assert len({made.text, made.broken([0]), made.broken([1]), made.broken()}) == 4


def test_bugs_that_overlap_are_refused() -> None:
    with pytest.raises(EditError):
        disguise("x = 1\n", 1, bugs=[(Edit(4, 5, "1", "2"),), (Edit(4, 5, "1", "3"),)])


def test_a_bug_that_needs_an_import_keeps_it() -> None:
    text = "import torch\nfrom torch import Tensor\n\n\ndef f(x: Tensor) -> Tensor:\n    return x + 1\n"
    at = text.index("x + 1")
    bug = (Edit(at, at + 5, "x + 1", "Tensor([1.0])"),)
    assert any("import Tensor" not in disguise(text, seed, KEEP).text for seed in range(8))
    assert all("import Tensor" in disguise(text, seed, KEEP, [bug]).broken() for seed in range(8))
