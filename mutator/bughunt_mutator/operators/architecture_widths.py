"""Mistakes in how wide a layer is and whether it has a bias."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    enclosing,
    inside,
    keyword,
    last_name,
    number,
    orphans,
    value,
)
from bughunt_mutator.operators._look_models import layer
from bughunt_mutator.operators._sources import COMMON_MISTAKES, DEEP_CRIME, TAXONOMY
from bughunt_mutator.operators.architecture_layers import WEIGHTED, is_last_layer
from bughunt_mutator.source import SourceFile

NORMS = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d"})


@operator(
    "width-off",
    cst.BinaryOperation,
    category="architecture",
    difficulty=2,
    symptom="The loss settles a little above where it should.",
    hints=(
        "LOOK: count the parameters of each part and compare with a count by hand.",
        "WHERE: the widths that `{function}` gives its layers.",
        "WHAT: how much room is there between the two layers?",
    ),
    repair="Give the inner layer its full width.",
    mechanism=(
        "The inner layer is as narrow as its surroundings, so each position has a quarter of the"
        " room to compute in. All shapes fit, and only the result is less than it could be."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="width-off",
            before="from torch import nn\n\nclass M:\n    def __init__(self, d):\n"
            "        self.a = nn.Linear(d, 4 * d)\n        self.b = nn.Linear(4 * d, d)\n",
            after=(
                "from torch import nn\n\nclass M:\n    def __init__(self, d):\n"
                "        self.a = nn.Linear(d, d)\n        self.b = nn.Linear(d, d)\n",
            ),
        ),
        Example(
            before="from torch import nn\n\ndef mlp(d):\n    inner = d * 4\n"
            "    return nn.Sequential(nn.Linear(d, inner), nn.Linear(inner, d))\n",
            after=(
                "from torch import nn\n\ndef mlp(d):\n    inner = d\n"
                "    return nn.Sequential(nn.Linear(d, inner), nn.Linear(inner, d))\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch import nn\nself.qkv = nn.Linear(d, 3 * d)\n",
        "inner = 4 * d\n",
    ),
)
def width_off(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Multiply)
    if sides is None:
        return
    factor, width = sides if number(sides[0]) is not None else sides[::-1]
    if (number(factor) or 0) < 2 or not isinstance(width, cst.Name | cst.Attribute):
        return
    pair = assigned(line) if (line := enclosing(f, node, cst.SimpleStatementLine)) is not None else None
    if pair is not None and pair[1] is node:
        if used_both_ways(f, node, f.text(pair[0])):
            yield Proposal(edits=(f.replace(node, f.text(width)),))
        return
    places = used_both_ways(f, node, f.text(node))
    if places and places[0] is node:
        yield Proposal(edits=tuple(f.replace(each, f.text(width)) for each in places))


def used_both_ways(f: SourceFile, node: cst.CSTNode, text: str) -> list[cst.BaseExpression]:
    """Where a width is written, if one layer gives it and another takes it."""
    home = f.class_(node) or f.function(node) or f.module
    takes, gives = [], []
    for call in inside(home, cst.Call):
        if layer(f, call) in WEIGHTED and len(call.args) > 1:
            takes += [call.args[0].value] if f.text(call.args[0].value) == text else []
            gives += [call.args[1].value] if f.text(call.args[1].value) == text else []
    both = sorted((*takes, *gives), key=lambda each: f.span(each)[0])
    written = sum(1 for each in inside(home, cst.BinaryOperation) if f.text(each) == text)
    return both if takes and gives and written in (0, len(both)) else []


@operator(
    "bias-missing",
    cst.Call,
    category="architecture",
    difficulty=3,
    symptom="The result is slightly worse, most of all where some answers are much more common.",
    hints=(
        "LOOK: feed zeros into the last layer; what comes out?",
        "WHERE: the options of the layers in `{function}`.",
        "WHAT: how can the model say that one answer is more common, whatever the input?",
    ),
    repair="Let the layer have a bias.",
    mechanism=(
        "Without a bias, all outputs are equal wherever the features vanish. How common each answer"
        " is has to be squeezed into the weights, which then cannot follow the features freely."
    ),
    evidence=(DEEP_CRIME, TAXONOMY),
    examples=(
        Example(
            row="bias-missing",
            before="from torch import nn\nself.head = nn.Linear(8, 3)\n",
            after=("from torch import nn\nself.head = nn.Linear(8, 3, bias=False)\n",),
        ),
        Example(
            before="from torch import nn\nnet = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))\n",
            after=(
                "from torch import nn\n"
                "net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1, bias=False))\n",
            ),
        ),
        Example(
            before="import torch.nn.functional as F\ny = F.linear(x, w, b)\n",
            after=("import torch.nn.functional as F\ny = F.linear(x, w)\n",),
        ),
    ),
    counterexamples=(
        "from torch import nn\nself.head = nn.Linear(8, 3, bias=False)\n",
        "from torch import nn\nself.body = nn.Linear(8, 3)\n",
        "from torch import nn\nself.head = nn.Linear(8, 3)\nnn.init.zeros_(self.head.bias)\n",
    ),
)
def bias_missing(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) == "torch.nn.functional.linear" and len(node.args) == 3:
        if not orphans(f, node.args[2].value):
            yield Proposal(edits=(f.delete_arg(node, node.args[2]),))
        return
    if layer(f, node) != "Linear" or value(f, node, "bias", 2) is not None:
        return
    above = f.parent.get(node)
    chain = f.parent.get(above) if isinstance(above, cst.Arg) else None
    pair = assigned(f.statement(node))
    if isinstance(chain, cst.Call) and layer(f, chain) == "Sequential":
        if len(chain.args) < 3 or chain.args[-1] is not above:
            return
    elif (
        pair is None
        or pair[1] is not node
        or not is_last_layer(f, pair[0])
        or f"{last_name(pair[0])}.bias" in f.source
    ):
        return
    yield Proposal(edits=(f.insert_arg(node, "bias=False"),))


@operator(
    "bias-with-bn",
    cst.Call,
    category="architecture",
    difficulty=5,
    symptom="Nothing shows but some parameters that never do anything.",
    hints=(
        "LOOK: list the gradient norm of every parameter; whose is zero?",
        "WHERE: the layers in front of the normalisation in `{function}`.",
        "WHAT: what is left of a constant once the mean has been subtracted?",
    ),
    repair="Leave the bias out where a batch normalisation follows.",
    mechanism=(
        "The normalisation takes away the mean of the batch, and with it whatever constant was"
        " added before. The bias has no effect and no gradient; it only takes up memory, and weight"
        " decay draws it to zero."
    ),
    evidence=(COMMON_MISTAKES,),
    examples=(
        Example(
            row="bias-with-bn",
            before="from torch import nn\n"
            "net = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())\n",
            after=(
                "from torch import nn\n"
                "net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU())\n",
            ),
        ),
        Example(
            before="from torch import nn\n\nclass B:\n    def __init__(self):\n"
            "        self.conv = nn.Conv2d(1, 8, 3, bias=False)\n        self.norm = nn.BatchNorm2d(8)\n",
            after=(
                "from torch import nn\n\nclass B:\n    def __init__(self):\n"
                "        self.conv = nn.Conv2d(1, 8, 3)\n        self.norm = nn.BatchNorm2d(8)\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch import nn\nself.qkv = nn.Linear(8, 24, bias=False)\n",
        "from torch import nn\nnet = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8))\n",
    ),
)
def bias_with_bn(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    given = keyword(node, "bias")
    if layer(f, node) not in WEIGHTED or given is None or f.text(given.value) != "False":
        return
    home = enclosing(f, node, cst.Call) or f.class_(node)
    if home is not None and any(layer(f, call) in NORMS for call in inside(home, cst.Call)):
        yield Proposal(edits=(f.delete_arg(node, given),))
