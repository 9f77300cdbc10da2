"""Arrays of one shape taken for one another, and gradients that stop; what fits is known from a run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from bughunt_mutator.index import inside
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import binary, enclosing, last_name, orphans
from bughunt_mutator.operators._look_facts import arrays, tracked
from bughunt_mutator.operators._look_parts import names_of
from bughunt_mutator.operators._sources import TAXONOMY, commit
from bughunt_mutator.source import SourceFile

EITHER_WAY = (
    *("add", "mul", "maximum", "minimum", "eq", "ne", "equal", "allclose", "hypot", "dist", "logaddexp"),
    *(
        "mse_loss",
        "l1_loss",
        "smooth_l1_loss",
        "huber_loss",
        "cosine_similarity",
        "logical_and",
        "logical_or",
    ),
)


@operator(
    "term-detached",
    cst.BinaryOperation,
    category="autograd",
    difficulty=4,
    symptom="The loss falls, but one part of the model hardly learns.",
    hints=(
        "LOOK: compare the gradient of each part with a finite difference.",
        "WHERE: the sums and products in `{function}`.",
        "WHAT: through which of the two sides does a gradient flow back?",
    ),
    repair="Let the gradient through both sides.",
    mechanism=(
        "Values are the same with and without the gradient. What is only reached through the side that is"
        " cut off gets no gradient from here, and everything else goes on learning."
    ),
    evidence=(TAXONOMY,),
    facts={
        "a": "float32 4 3 grad",
        "b": "float32 4 3 grad",
        "c": "float32 4 3",
        "s": "float32 grad",
        "a[0, 0]": "float32 grad",
    },
    examples=(
        Example("y = (a * b).sum()\n", ("y = (a.detach() * b).sum()\n", "y = (a * b.detach()).sum()\n")),
        Example("y = s + a[0, 0]\n", ("y = s.detach() + a[0, 0]\n", "y = s + a[0, 0].detach()\n")),
    ),
    counterexamples=("y = a * c\n", "y = b.detach() + a.detach()\n", "y = a * 2\n"),
)
def term_detached(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add, cst.Subtract, cst.Multiply, cst.Divide)
    if sides is None or not all(tracked(f, side) for side in sides):
        return
    for side in sides:
        if isinstance(side, cst.Name | cst.Call | cst.Subscript | cst.Attribute) and not side.lpar:
            yield Proposal((f.replace(side, f"{f.text(side)}.detach()"),))


@operator(
    "arguments-of-one-shape",
    cst.Call,
    category="architecture",
    difficulty=3,
    symptom="Everything runs, and something is learned that is not what was asked for.",
    hints=(
        "LOOK: call it with two arguments that are easy to tell apart, and look at the result.",
        "WHERE: the calls with several arrays in `{function}`.",
        "WHAT: in which order does it take them?",
    ),
    repair="Pass the arguments in the order in which they are taken, or by their names.",
    mechanism=(
        "Both arguments have one shape and one type, so either order is accepted. What the one is for is"
        " done to the other."
    ),
    evidence=(TAXONOMY, commit("vwxyzjn/cleanrl", "8fc7114720056c35df4f31e501cda1407b5fafdc")),
    facts={"q": "float32 4 3 grad", "k": "float32 4 3 grad", "i": "int64 4 3", "w": "float32 3 3"},
    examples=(
        Example("y = attend(q, k)\n", ("y = attend(k, q)\n",)),
        Example("import torch\ny = torch.sub(q, k)\n", ("import torch\ny = torch.sub(k, q)\n",)),
    ),
    counterexamples=(
        "y = attend(q, i)\n",
        "y = attend(q, w)\n",
        "y = q.maximum(k)\n",
        "y = torch.add(q, k)\n",
    ),
)
def arguments_of_one_shape(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if last_name(node.func) in EITHER_WAY or any(each.star for each in node.args):
        return
    plain = [each.value for each in node.args if each.keyword is None]
    for one, two in pairwise(plain):
        alike = arrays(f, one) and _forms(f, one) == _forms(f, two)
        if alike and f.text(one) != f.text(two):
            yield Proposal(f.swap(one, two))


def _forms(f: SourceFile, node: cst.CSTNode) -> list[tuple[object, ...]]:
    """What an array can be told by from outside."""
    return [(fact.kind, fact.shape, fact.dtype) for fact in arrays(f, node)]


@operator(
    "name-of-one-shape",
    cst.Name,
    category="architecture",
    difficulty=4,
    symptom="It runs and learns, and one of its inputs makes less of a difference than it should.",
    hints=(
        "LOOK: change one value at a time and see whether the result follows.",
        "WHERE: the names in `{function}`.",
        "WHAT: which of the arrays of this shape is meant here?",
    ),
    repair="Use the array that is meant.",
    mechanism=(
        "Another array at hand has the same shape and type. It is used in the place of the right one, which"
        " is then used once less than it should."
    ),
    evidence=(
        commit("lucidrains/vit-pytorch", "918869571ccb6a1f6c9d9313786edfe16b6f22e0"),
        commit("codertimo/BERT-pytorch", "ae094c8840af2fda010294c8f0e8b69f4875d2ea"),
    ),
    facts={"x": "float32 4 3 grad", "h": "float32 4 3 grad", "t": "int64 4 3", "v": "float32 4 5"},
    examples=(
        Example(
            "def mix(x, t):\n    h = norm(x)\n    x = x + mlp(h)\n    return x + out(h)\n",
            (
                "def mix(x, t):\n    h = norm(x)\n    x = x + mlp(x)\n    return x + out(h)\n",
                "def mix(x, t):\n    h = norm(x)\n    x = x + mlp(h)\n    return h + out(h)\n",
                "def mix(x, t):\n    h = norm(x)\n    x = x + mlp(h)\n    return x + out(x)\n",
            ),
        ),
    ),
    counterexamples=(
        "def mix(x, t):\n    return x + emb(t)\n",
        "def mix(x, v):\n    return norm(x) @ v\n",
        "def mix(x):\n    h = norm(x)\n    return h\n",
    ),
)
def name_of_one_shape(f: SourceFile, node: cst.Name) -> Iterator[Proposal]:
    home, above = enclosing(f, node, cst.FunctionDef), f.parent.get(node)
    if home is None or not arrays(f, node) or isinstance(above, cst.Attribute) or orphans(f, node):
        return
    beside = binary(above, cst.Add, cst.Subtract, cst.Multiply, cst.Divide) or ()
    taken = {node.value, *(f.text(side) for side in beside), *_looped(home)}
    form, start = _forms(f, node), f.span(node)[0]
    for other in inside(home, cst.Name):
        if f.span(other)[0] < start and other.value not in taken and _forms(f, other) == form:
            yield Proposal((f.replace(node, other.value),))
            return


def _looped(home: cst.FunctionDef) -> Iterator[str]:
    """The names that comprehensions bind, which mean nothing outside."""
    for each in inside(home, cst.CompFor):
        yield from names_of(each.target)
