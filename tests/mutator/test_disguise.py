"""A disguised program behaves as before, and a bug is the same bug under it."""

from __future__ import annotations

import ast
import contextlib
import io
from pathlib import Path

import pytest
from bughunt_mutator import DisguiseError, apply, choose, disguise, enumerate_mutants

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


def printed(text: str) -> str:
    """What a program prints when it runs."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(text, "program", "exec"), {"__name__": "program"})
    return out.getvalue()


@pytest.mark.parametrize("program", TRICKY.values(), ids=TRICKY.keys())
@pytest.mark.parametrize("seed", range(3))
def test_a_renamed_program_prints_the_same(program: str, seed: int) -> None:
    before = printed(program)
    assert before
    assert printed(disguise(program, seed).text) == before


@pytest.mark.parametrize("name", sorted(TRICKY.keys() - {"format strings"}))
def test_something_is_renamed_in_every_program(name: str) -> None:
    assert disguise(TRICKY[name], 1).names


def test_parameters_attributes_imports_and_kept_names_stay() -> None:
    text = TRICKY["keyword parameters"] + TRICKY["class scopes"]
    renamed = {name for _, name in disguise(text, 1, frozenset({"Box"})).names}
    assert renamed.isdisjoint({"values", "weight", "self", "size_", "read", "Box"})
    assert "weights" in renamed


@pytest.mark.parametrize("call", ["locals()", "globals()", "eval('1')", "exec('1')", "vars()"])
def test_a_program_that_looks_at_its_own_names_is_refused(call: str) -> None:
    with pytest.raises(DisguiseError, match=call.partition("(")[0]):
        disguise(f"def f():\n    total = 1\n    return {call}\n", 1)


def test_a_method_called_eval_is_no_reason_to_refuse() -> None:
    assert "eval()" in disguise("def f(model):\n    state = model.eval()\n    return state\n", 1).text


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    text = "".join(TRICKY.values())
    assert disguise(text, 1).text == disguise(text, 1).text
    assert len({disguise(text, seed).text for seed in range(5)}) == 5


def test_names_in_the_shape_legend_of_a_comment_stay() -> None:
    text = "def f(x):\n    b, state = x  # (b, d)\n    return b, state\n"
    assert {name for _, name in disguise(text, 1, frozenset({"f"})).names} == {"state"}


def test_only_names_differ_between_a_program_and_its_disguise() -> None:
    text = "".join(TRICKY.values())
    changed = disguise(text, 1)
    back = {new: old for (_, old), new in changed.names.items()}
    tree = ast.parse(changed.text)
    for node in ast.walk(tree):
        for slot in ("id", "name"):
            if isinstance(name := getattr(node, slot, None), str):
                setattr(node, slot, back.get(name, name))
        if isinstance(node, ast.Nonlocal):
            node.names = [back.get(name, name) for name in node.names]
    assert ast.dump(tree) == ast.dump(ast.parse(text))


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.parent.name)
def test_a_bug_after_the_disguise_is_the_disguise_after_the_bug(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    changed = disguise(text, 1, KEEP)
    assert len(changed.names) > 5
    for mutant in choose(enumerate_mutants(text), 6, 1):
        bug_first = changed.apply_to(mutant.apply(text))
        bug_last = apply(changed.text, changed.carry(text, mutant.edits))
        assert bug_last == bug_first != changed.text


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
    changed = disguise(SMALL, 1, KEEP)
    assert changed.text != SMALL
    (before,) = enumerate_mutants(SMALL, ["zero-grad-missing"])
    (after,) = enumerate_mutants(changed.text, ["zero-grad-missing"])
    assert after.apply(changed.text) == changed.apply_to(before.apply(SMALL))


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.parent.name)
def test_a_missing_zero_grad_is_found_under_every_disguise(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    changed = disguise(text, 2, KEEP)
    only = ["zero-grad-missing"]
    bug_first = [changed.apply_to(m.apply(text)) for m in enumerate_mutants(text, only)]
    assert [m.apply(changed.text) for m in enumerate_mutants(changed.text, only)] == bug_first


def test_a_text_that_already_uses_a_new_name_is_refused() -> None:
    changed = disguise(SMALL, 1, KEEP)
    taken = next(iter(changed.names.values()))
    with pytest.raises(DisguiseError, match=taken):
        changed.apply_to(f"{SMALL}\n{taken} = 1\n")
