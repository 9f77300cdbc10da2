"""Mistakes in arithmetic that is right on paper."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    axis,
    binary,
    function_of,
    inside,
    last_name,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_meaning import base, plain, resolved
from bughunt_mutator.operators._sources import TAXONOMY, issue
from bughunt_mutator.source import SourceFile


@operator(
    "integer-division",
    cst.BinaryOperation,
    category="numerics-precision",
    difficulty=2,
    symptom="Something that should change smoothly moves in jumps, or not at all.",
    hints=(
        "LOOK: plot the value over all steps.",
        "WHERE: the quotients in `{function}`.",
        "WHAT: which values can this quotient have?",
    ),
    repair="Divide without rounding.",
    mechanism="Rounded down, a share of something is zero until it is complete.",
    evidence=(TAXONOMY, "https://peps.python.org/pep-0238/"),
    examples=(
        Example(
            row="integer-division",
            before="def f(step, n):\n    return (step + 1) / n\n",
            after=("def f(step, n):\n    return (step + 1) // n\n",),
        ),
    ),
    counterexamples=("def f(x, n):\n    return x / n\n",),
)
def integer_division(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is not None and isinstance(sides[1], cst.Name | cst.Attribute | cst.BinaryOperation):
        numerator = f.text(sides[0])
        if "step" in numerator and not any(word in numerator for word in ("pi", "lr", "rate")):
            yield Proposal(edits=(f.replace(node, f"{numerator} // {f.text(sides[1])}"),))


@operator(
    "log-no-eps",
    cst.Call,
    category="numerics-precision",
    difficulty=2,
    symptom="Once in a while the loss is infinite, and nothing is right after that.",
    hints=(
        "LOOK: stop at the first value that is not finite, and print what went into it.",
        "WHERE: the logarithms in `{function}`.",
        "WHAT: which inputs can occur?",
    ),
    repair="Keep the argument of the logarithm away from zero.",
    mechanism="A probability can be exactly zero in floating point, and its logarithm is infinite.",
    evidence=("https://doi.org/10.1145/3213846.3213866",),
    examples=(
        Example(
            row="log-no-eps",
            before="y = (p + eps).log()\n",
            after=("y = p.log()\n",),
        ),
        Example(
            before="import torch\ny = torch.log(p.clamp(min=1e-9))\n",
            after=("import torch\ny = torch.log(p)\n",),
        ),
        Example(
            before="import numpy as np\nTINY = 1e-12\ny = np.log(p + TINY) + TINY\n",
            after=("import numpy as np\nTINY = 1e-12\ny = np.log(p) + TINY\n",),
        ),
    ),
    counterexamples=("y = (p + q).log()\n", "y = p.log()\n"),
)
def log_no_eps(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "log", "log2")
    if op is not None and (bare := unguarded(f, op.subject)) is not None:
        yield Proposal(edits=(f.replace(op.subject, f.text(bare)),))


def unguarded(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression | None:
    """What a small constant or a lower bound keeps away from zero."""
    sides = binary(node, cst.Add)
    if sides is not None:
        said = last_name(sides[1]).lower()
        small = "eps" in said or said == "tiny" or 0 < (number(sides[1]) or 1) < 1e-3
        return sides[0] if small else None
    op = operation(f, node, "clamp", "clamp_min")
    return op.subject if op is not None else None


@operator(
    "sqrt-grad-at-zero",
    cst.Call,
    category="numerics-precision",
    difficulty=3,
    symptom="At some step everything turns into something that is not a number.",
    hints=(
        "LOOK: run with anomaly detection, and print what went into the operation it names.",
        "WHERE: the roots in `{function}`.",
        "WHAT: how steep is this function at zero?",
    ),
    repair="Keep the argument of the root away from zero.",
    mechanism="The slope of a root at zero is infinite; times a gradient of zero it is not a number.",
    evidence=(issue("keras-team/keras-io", 624),),
    examples=(
        Example(
            row="sqrt-grad-at-zero",
            before="y = x / (v + eps).sqrt()\nz = (v + 1e-5).rsqrt()\n",
            after=(
                "y = x / v.sqrt()\nz = (v + 1e-5).rsqrt()\n",
                "y = x / (v + eps).sqrt()\nz = v.rsqrt()\n",
            ),
        ),
    ),
    counterexamples=("y = v.sqrt()\n",),
)
def sqrt_at_zero(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "sqrt", "rsqrt")
    if op is not None and (bare := unguarded(f, op.subject)) is not None:
        yield Proposal(edits=(f.replace(op.subject, f.text(bare)),))


@operator(
    "softmax-no-max",
    cst.Call,
    category="numerics-precision",
    difficulty=1,
    symptom="Large inputs give results that are not numbers.",
    hints=(
        "LOOK: add a thousand to all inputs.",
        "WHERE: the exponentials in `{function}`.",
        "WHAT: how large may the argument of an exponential be?",
    ),
    repair="Subtract the largest value first.",
    mechanism="The exponential of 89 does not fit into a float32; infinity over infinity follows.",
    evidence=("https://stackoverflow.com/questions/40192728",),
    examples=(
        Example(
            row="softmax-no-max",
            before="e = (x - x.amax(-1, keepdim=True)).exp()\n",
            after=("e = x.exp()\n",),
        ),
        Example(
            before="import numpy as np\nw = np.exp(-p * (gaps - gaps.min()))\n",
            after=("import numpy as np\nw = np.exp(-p * gaps)\n",),
        ),
    ),
    counterexamples=("e = (x - y).exp()\n",),
)
def softmax_no_max(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "exp")
    for shift in inside(op.subject, cst.BinaryOperation) if op is not None else ():
        sides = binary(shift, cst.Subtract)
        if sides is None:
            continue
        at_once = operation(f, sides[1], "max", "amax") is not None
        if at_once or (is_extreme(f, sides[1], sides[0]) and not added_back(f, sides[1])):
            yield Proposal(edits=(f.replace(shift, f.text(sides[0])),))


def is_extreme(f: SourceFile, node: cst.BaseExpression, of: cst.BaseExpression) -> bool:
    """Whether an expression is the largest or the smallest of the values that another holds."""
    op = operation(f, resolved(f, base(node)), "max", "amax", "min", "amin")
    direct = operation(f, node, "min", "amin")
    op = direct or op
    return op is not None and f.text(op.subject) == f.text(of) and not orphans(f, node)


def added_back(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether what is taken off before an exponential is put back after a logarithm."""
    name = f.text(base(node))
    sums = (binary(each, cst.Add) for each in inside(function_of(f, node), cst.BinaryOperation))
    return any(name in (f.text(sides[0]), f.text(sides[1])) for sides in sums if sides is not None)


@operator(
    "logsumexp-naive",
    cst.Call,
    category="numerics-precision",
    difficulty=2,
    symptom="Late in the run, results turn into something that is not a number.",
    hints=(
        "LOOK: print the largest input at each step.",
        "WHERE: the sum in `{function}`.",
        "WHAT: does every intermediate value fit into its type?",
    ),
    repair="Use `logsumexp`.",
    mechanism="The sum of exponentials overflows although its logarithm is small.",
    evidence=("https://doi.org/10.1093/imanum/draa038",),
    examples=(
        Example(
            row="logsumexp-naive",
            before="z = x.logsumexp(dim=1)\n",
            after=("z = x.exp().sum(dim=1).log()\n",),
        ),
        Example(
            before="z = (x + y).logsumexp(-1, keepdim=True)\n",
            after=("z = (x + y).exp().sum(-1, keepdim=True).log()\n",),
        ),
        Example(
            before="import torch\nz = torch.logsumexp(x, dim=1) + torch.pi\n",
            after=("import torch\nz = x.exp().sum(dim=1).log() + torch.pi\n",),
        ),
    ),
    counterexamples=("z = x.sum(dim=1).log()\n",),
)
def naive_logsumexp(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "logsumexp")
    if op is not None and axis(f, op) is not None and not (op.shift and orphans(f, node.func)):
        rest = ", ".join(f.text(each).rstrip(", ") for each in node.args[op.shift :])
        yield Proposal(edits=(f.replace(node, f"{plain(f, op.subject)}.exp().sum({rest}).log()"),))
