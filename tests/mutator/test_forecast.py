"""What edits are said to do to shapes is what they do when the program is run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

import pytest
import torch
from bughunt_mutator import (
    Edit,
    Example,
    Facts,
    Operator,
    SourceFile,
    enumerate_mutants,
    instrument,
    load_operators,
)
from bughunt_mutator.facts import Seen, parsed
from bughunt_mutator.forecast import Outcome

from bughunt.bugsets import recorder

HEAD = """import torch
from torch.nn import functional as F

torch.manual_seed(0)
x = torch.randn(4, 3, 5, requires_grad=True)
y = torch.randn(4, 3, 5)
row = torch.randn(5)
square = torch.randn(3, 3)
labels = torch.tensor([0, 2, 1, 1])


def work(x, y, row, square, labels):
"""
TAIL = "\n\nanswer = work(x, y, row, square, labels)\nagain = work(x[:2], y[:2], row, square, labels[:2])\n"

CASES = (
    ("an axis of another length", "return x.mean(1, keepdim=True) + y", "(1,", "(2,", Outcome.FITS),
    ("an axis that there is not", "return x.mean(2)", "2", "3", Outcome.MISFIT),
    ("the same axis from behind", "return x.softmax(dim=-1)", "-1", "2", Outcome.SAME),
    ("another axis of equal shape", "return x.softmax(dim=-1)", "-1", "-2", Outcome.FITS),
    ("an axis that is not kept", "return x - x.mean(2, keepdim=True)", ", keepdim=True", "", Outcome.MISFIT),
    ("a detach without gradient", "return y.exp() * 2", "y.exp()", "y.exp().detach()", Outcome.SAME),
    ("a detach with gradient", "return x.exp() * 2", "x.exp()", "x.exp().detach()", Outcome.FITS),
    ("a cast to what it is", "return x.float() * 2", "x.float()", "x", Outcome.SAME),
    ("a transpose of a square", "return x.mT @ square @ square.T", "square.T", "square", Outcome.FITS),
    ("a transpose of no square", "return x @ y.mT", "y.mT", "y", Outcome.MISFIT),
    ("a view for a transpose", "return x.mT", "mT", "reshape(-1, 5, 3)", Outcome.FITS),
    ("a view that does not fit", "return x.view(-1, 15)", "15", "7", Outcome.MISFIT),
    ("sizes that are read off", "return x.view(len(x), -1)", "len(x)", "x.size(1)", Outcome.OTHER),
    (
        "a change that is followed to a misfit",
        "m = x.mean(1, keepdim=True)\n    d = x - m\n    return d.exp()",
        ", keepdim=True",
        "",
        Outcome.MISFIT,
    ),
    (
        "a change that is followed until it is gone",
        "m = x.mean((1, 2), keepdim=True)\n    d = x - m\n    return d.exp()",
        "(1, 2)",
        "(0, 1, 2)",
        Outcome.FITS,
    ),
    (
        "a table of all pairs",
        "p = x[:, 0, 0]\n    d = p - y[:, 0, 0]\n    return (d**2).mean()",
        "p -",
        "p[:, None] -",
        Outcome.FITS,
    ),
    ("a shape that is handed on", "p = x[:, 0]\n    return p", "0", "0, 0", Outcome.OTHER),
    ("what nobody knows", "return F.nll_loss(x[:, 0], labels)", "labels", "sorted(labels)", Outcome.UNKNOWN),
    ("a call with shapes of before", "return F.mse_loss(x, y)", "(x, y)", "(y * 2, x)", Outcome.FITS),
    (
        "a slot that is too small",
        "out = torch.zeros(3, 5)\n    out[0] = row\n    return out",
        "= row",
        "= out[:, 0]",
        Outcome.MISFIT,
    ),
    ("a loss of many numbers", "return (x - y).mean().item()", ".mean()", "", Outcome.MISFIT),
    ("things put side by side", "return torch.cat([x, y], 1)", "1)", "0)", Outcome.OTHER),
    ("things that do not fit", "return torch.cat([x, y[:, :1]], 1)", " 1)", " 0)", Outcome.MISFIT),
)  # fmt: skip


def run(text: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(text, "program", "exec", dont_inherit=True), names)
    return names


@pytest.fixture
def facts_of(monkeypatch: pytest.MonkeyPatch):
    """Facts of a text, by running it beside the recorder that a worker has."""

    def record(text: str) -> Facts:
        spec = importlib.util.spec_from_file_location("watch", recorder.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, "watch", module)
        made = instrument(text, "watch")
        assert made is not None
        run(made.text)
        words = ("kind", "shape", "dtype", "grad", "value")
        return parsed(
            {
                "start": made.spans[number][0],
                "end": made.spans[number][1],
                "seen": [dict(zip(words, fact, strict=True)) for fact in found],
                "order": order if len(found) > 1 else [],
            }
            for number, found, order in module.facts()
        )

    return record


@pytest.mark.parametrize(
    ("body", "old", "new", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_an_edit_does_what_was_forecast(facts_of, body: str, old: str, new: str, wanted: Outcome) -> None:
    text = f"{HEAD}    {body}{TAIL}"
    start = text.index(old, len(HEAD))
    edit = Edit(start, start + len(old), old, new)
    file = SourceFile(text, facts_of(text))
    assert file.forecast is not None
    assert file.forecast.of([edit]) is wanted
    edited = text[:start] + new + text[start + len(old) :]
    before = run(text)["answer"]
    if wanted is Outcome.MISFIT:
        with pytest.raises((RuntimeError, IndexError)):
            run(edited)
    elif wanted is Outcome.SAME:
        assert torch.equal(torch.as_tensor(run(edited)["answer"]), torch.as_tensor(before))
    elif wanted is Outcome.FITS:
        after = torch.as_tensor(run(edited)["answer"])
        assert after.shape == torch.as_tensor(before).shape


def test_an_intact_text_computes_nothing_new(facts_of) -> None:
    text = f"{HEAD}    z = x * 2\n    return z.mean(1){TAIL}"
    start = text.index("z = x")
    file = SourceFile(text, facts_of(text))
    assert file.forecast is not None
    assert file.forecast.of([Edit(start, start + 1, "z", "z")]) is Outcome.FITS


def test_without_facts_nothing_is_forecast_and_nothing_dropped() -> None:
    text = "y = x - x.mean(1, keepdim=True)\n"
    assert SourceFile(text).forecast is None
    assert {mutant.operator for mutant in enumerate_mutants(text)} >= {"keepdim-dropped-square"}


def test_with_facts_a_mutant_that_would_stop_is_not_proposed(facts_of) -> None:
    body = "w = x - x.mean({axis}, keepdim=True)\n    return w"
    kept = {}
    for axis in ("1", "2"):
        text = f"{HEAD}    {body.format(axis=axis)}{TAIL.replace('x[:2], y[:2]', 'x[:3, :, :3], y')}"
        only = frozenset({"keepdim-dropped-square"})
        kept[axis] = [len(enumerate_mutants(text, only)), len(enumerate_mutants(text, only, facts_of(text)))]
    assert kept == {"1": [1, 0], "2": [1, 0]}


def test_facts_of_another_text_are_no_help_and_no_harm() -> None:
    text = "y = x - x.mean(1, keepdim=True)\n"
    stale: Facts = {(900, 903): Seen()}
    assert enumerate_mutants(text, facts=stale) == enumerate_mutants(text)


NEED_A_RUN = [
    (operator, example)
    for operator in sorted(load_operators().values(), key=lambda operator: operator.id)
    for example in operator.examples
    if operator.facts and "def " not in example.before
]
HELPERS = """import torch
from torch.nn import functional as F

def attend(q, k):
    return q.softmax(0) @ k.T

"""


@pytest.mark.parametrize(
    ("operator", "example"), NEED_A_RUN, ids=[f"{o.id}-{o.examples.index(e)}" for o, e in NEED_A_RUN]
)
def test_what_is_proposed_after_a_run_runs_and_gives_another_value(
    operator: Operator, example: Example
) -> None:
    """The values of the examples are drawn at random with the shapes that their operator tells."""
    for after in example.after:
        found = []
        for text in (example.before, after):
            names = {**values(operator.facts)}
            exec(HELPERS + text, names)
            found.append(names["y"])
        assert found[0].shape == found[1].shape
        changed = not torch.allclose(found[0], found[1], equal_nan=True)
        assert changed or operator.id == "term-detached"  # which shows in the gradients alone


def values(facts: Mapping[str, str]) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    found: dict[str, object] = {}
    for name, word in facts.items():
        dtype, *rest = word.split()
        if dtype == "int":
            found[name] = int(rest[0])
        elif name.isidentifier():
            sizes = [int(each) for each in rest if each != "grad"]
            drawn = torch.randn(sizes, generator=generator)
            found[name] = drawn.requires_grad_() if "grad" in rest else drawn
    return found


def test_what_two_operators_write_is_the_one_of_the_catalogue(facts_of) -> None:
    text = f"{HEAD}    return x.softmax(dim=-1){TAIL}"
    found = enumerate_mutants(text, {"other-axis", "softmax-wrong-dim"}, facts_of(text))
    written = {mutant.edits[0].new: mutant.operator for mutant in found}
    assert written == {"-2": "softmax-wrong-dim", "-3": "other-axis"}
