"""Mistakes in losses for rare classes and overlapping regions."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    bare,
    binary,
    function_of,
    inside,
    last_name,
    mentions,
    operation,
)
from bughunt_mutator.operators._look_training import atom, complement, factors, reduced, words
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile

OVERLAPS = ("dice", "iou", "jaccard", "tversky", "overlap")


def is_gamma(node: cst.CSTNode | None) -> bool:
    """Whether a name is that of the focusing parameter."""
    return last_name(node).lower() in ("gamma", "focus", "focusing", "focal_gamma")


def raised(f: SourceFile, node: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Base and exponent of a power."""
    sides = binary(node, cst.Power)
    op = operation(f, node, "pow") if sides is None else None
    if op is not None and len(op.call.args) > op.shift:
        return op.subject, op.call.args[op.shift].value
    return sides


@operator(
    "focal-gamma-multiply",
    cst.BinaryOperation,
    cst.Call,
    category="loss",
    difficulty=3,
    symptom="Easy examples still make up most of the loss.",
    hints=(
        "LOOK: plot the weight of an example against the probability of its right answer.",
        "WHERE: the focusing term in `{function}`.",
        "WHAT: how fast should the weight fall when an example becomes easy?",
    ),
    repair="Raise the weight to the power of gamma.",
    mechanism=(
        "Times gamma the weight is a straight line: an example that is nearly right still counts in"
        " proportion to what it lacks, and hard ones even more than once. Only the power pushes the"
        " thousands of easy examples down far enough for the few hard ones to be heard."
    ),
    evidence=(issue("fudannlp16/focal-loss", 2),),
    examples=(
        Example(
            before="loss = (1 - p) ** gamma * ce\n",
            after=("loss = (1 - p) * gamma * ce\n",),
        ),
        Example(
            before="w = (1 - pt).pow(self.gamma)\n",
            after=("w = (1 - pt) * self.gamma\n",),
        ),
    ),
    counterexamples=("d = gamma**t\n", "w = (1 - p) ** 2\n"),
)
def times_gamma(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    power = raised(f, node)
    if power is not None and is_gamma(power[1]):
        yield Proposal(edits=(f.replace(node, f"{atom(f, power[0])} * {f.text(power[1])}"),))


@operator(
    "focal-neg-term",
    cst.BinaryOperation,
    cst.Call,
    category="loss",
    difficulty=4,
    symptom="The loss is made of easy negatives, and positives are hardly learnt.",
    hints=(
        "LOOK: compute the weight of a negative that is answered rightly with great confidence.",
        "WHERE: the term of the negatives in `{function}`.",
        "WHAT: for a negative, which probability says that it is easy?",
    ),
    repair="Weigh negatives by the power of the probability that they are given.",
    mechanism=(
        "For a negative the error is the probability itself, not what is missing to one. With the"
        " weight of the positives, a background example that is right beyond doubt counts in full,"
        " and there are so many of them that nothing else is heard."
    ),
    evidence=(issue("yqyao/SSD_Pytorch", 32),),
    examples=(
        Example(
            before="neg = -(p ** gamma) * (1 - p).log()\n",
            after=("neg = -((1 - p) ** gamma) * (1 - p).log()\n",),
        ),
        Example(
            before="import torch\nn = a * p.pow(gamma) * torch.log(1 - p + eps)\n",
            after=("import torch\nn = a * (1 - p).pow(gamma) * torch.log(1 - p + eps)\n",),
        ),
        Example(
            before=(
                "import torch\ndef f(p, y, gamma):\n    pt = torch.where(y == 1, p, 1 - p)\n"
                "    return (1 - pt) ** gamma\n"
            ),
            after=("import torch\ndef f(p, y, gamma):\n    pt = p\n    return (1 - pt) ** gamma\n",),
        ),
        Example(
            before=(
                "def f(z, y, gamma):\n    missed = z.sigmoid() * (1 - y) + (-z).sigmoid() * y\n"
                "    return missed**gamma\n"
            ),
            after=("def f(z, y, gamma):\n    missed = (-z).sigmoid()\n    return missed**gamma\n",),
        ),
        Example(
            before="def f(p, y, gamma):\n    pt = p * y + (1 - p) * (1 - y)\n    return (1 - pt) ** gamma\n",
            after=("def f(p, y, gamma):\n    pt = p\n    return (1 - pt) ** gamma\n",),
        ),
    ),
    counterexamples=(
        "pos = (1 - p) ** gamma * p.log()\n",
        "pt = p * y + (1 - p) * (1 - y)\n",
        "neg = p**2 * (1 - p).log()\n",
    ),
)
def easy_negatives(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    whole = probability_of_truth(f, node) or missed_by_positives(f, node)
    if whole is not None:
        home = function_of(f, node)
        if any(is_gamma(each) for each in inside(home, cst.Name)):
            yield Proposal(edits=(reduced(f, node, whole),))
        return
    if not isinstance(node, cst.BinaryOperation) or binary(f.parent.get(node), cst.Multiply):
        return
    parts = [unsigned(part) for part in factors(node)]
    bases = [power[0] for part in parts if (power := raised(f, part)) is not None and is_gamma(power[1])]
    logs = [op for part in parts if (op := operation(f, part, "log")) is not None]
    for base in bases:
        if isinstance(base, cst.Name) and any(of_complement(f, op.subject, base.value) for op in logs):
            yield Proposal(edits=(f.replace(base, f"1 - {base.value}"),))


def unsigned(node: cst.BaseExpression) -> cst.BaseExpression:
    """An expression without a minus in front of it."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        return node.expression
    return node


def of_complement(f: SourceFile, node: cst.BaseExpression, name: str) -> bool:
    """Whether an expression is one minus this name, guarded or not."""
    found = [complement(each) for each in inside(node, cst.BinaryOperation)]
    return any(each is not None and f.text(each) == name for each in found)


def missed_by_positives(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression | None:
    """The error of positives, in a sum that is `sigmoid(-z)` for them and `sigmoid(z)` for negatives."""
    terms = binary(node, cst.Add)
    for yes, no in (terms, terms[::-1]) if terms is not None else ():
        first, second = binary(yes, cst.Multiply), binary(no, cst.Multiply)
        if first is None or second is None:
            continue
        for miss, label in (first, first[::-1]):
            for other, rest in (second, second[::-1]):
                inverse = complement(rest)
                if inverse is None or f.text(inverse) != f.text(label):
                    continue
                ops = [operation(f, each, "sigmoid") for each in (miss, other)]
                if ops[0] and ops[1] and bare(f, ops[0].subject) == f"-{f.text(ops[1].subject)}":
                    return miss
    return None


def probability_of_truth(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression | None:
    """The `p` of an expression that is `p` for positives and `1 - p` for negatives."""
    op = operation(f, node, "where")
    if op is not None and op.shift and len(op.call.args) == 3:
        one, other = op.call.args[1].value, complement(op.call.args[2].value)
        return one if other is not None and f.text(other) == f.text(one) else None
    terms = binary(node, cst.Add)
    first, second = (binary(term, cst.Multiply) for term in terms) if terms is not None else (None, None)
    if first is None or second is None:
        return None
    inverse = [complement(part) for part in second]
    pair = [f.text(part) for part in inverse if part is not None]
    if len(pair) != 2 or sorted(pair) != sorted(f.text(part) for part in first):
        return None
    likely = [part for part in first if words(part) & {"p", "prob", "probs", "q", "probability"}]
    return likely[0] if len(likely) == 1 else None


@operator(
    "dice-missing-one-minus",
    cst.BinaryOperation,
    category="loss",
    difficulty=1,
    symptom="The loss falls to zero, and so does the overlap.",
    hints=(
        "LOOK: compute the loss for a prediction that is the truth itself.",
        "WHERE: what `{function}` returns.",
        "WHAT: is a large overlap good or bad, and what does the optimiser make of it?",
    ),
    repair="Minimise one minus the overlap.",
    mechanism=(
        "The overlap is a score: more is better. Handed to the optimiser as it is, it is made as"
        " small as possible, and predictions move away from the truth."
    ),
    evidence=(pull("sraashis/easytorch", 38),),
    examples=(
        Example(
            before="def loss(p, y):\n    dice = score(p, y)\n    return 1 - dice.mean()\n",
            after=("def loss(p, y):\n    dice = score(p, y)\n    return dice.mean()\n",),
        ),
        Example(
            before="def dice_loss(a, b, c):\n    return 1 - (2 * a + 1) / (b + c + 1)\n",
            after=("def dice_loss(a, b, c):\n    return (2 * a + 1) / (b + c + 1)\n",),
        ),
    ),
    counterexamples=("q = 1 - p\n", "def dice_loss(p):\n    q = 1 - p\n    return q\n"),
)
def score_as_loss(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    score = complement(node)
    if score is not None and is_overlap(f, score):
        yield Proposal(edits=(reduced(f, node, score),))


def is_overlap(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression says how far two regions agree."""
    if mentions(node, *OVERLAPS):
        return True
    home = f.function(node)
    quotients = (binary(each, cst.Divide) for each in inside(node, cst.BinaryOperation))
    return home is not None and mentions(home.name, *OVERLAPS) and any(quotients)


@operator(
    "dice-sum-over-batch",
    cst.Call,
    category="loss",
    difficulty=2,
    symptom="The score is above one, or the loss below zero.",
    hints=(
        "LOOK: compute the value for a batch of one, and of two equal examples.",
        "WHERE: how `{function}` puts the examples of a batch together.",
        "WHAT: between which bounds should the result lie?",
    ),
    repair="Average over the batch.",
    mechanism=(
        "Each example has an overlap between zero and one; their sum grows with the batch. One"
        " minus the sum is negative, gradients are as many times too large as there are examples,"
        " and a number that is compared between batches of different sizes means nothing."
    ),
    evidence=(issue("faustomilletari/VNet", 13),),
    examples=(
        Example(
            before="loss = 1 - dice.mean()\n",
            after=("loss = 1 - dice.sum()\n",),
        ),
        Example(
            before="import torch\ndef dice_loss(i, u):\n    return 1 - torch.mean(2 * i / u)\n",
            after=("import torch\ndef dice_loss(i, u):\n    return 1 - torch.sum(2 * i / u)\n",),
        ),
    ),
    counterexamples=("loss = ce.mean()\n", "d = dice.mean(dim=1)\n"),
)
def summed_overlap(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "mean")
    if op is None or len(node.args) != op.shift or not is_overlap(f, op.subject):
        return
    if isinstance(node.func, cst.Attribute):
        yield Proposal(edits=(f.replace(node.func.attr, "sum"),))
