"""Mistakes in how gradients are made, kept and cleared."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst
import libcst.matchers as m

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.source import SourceFile

ZERO_GRAD = m.SimpleStatementLine(
    body=[m.Expr(value=m.Call(func=m.Attribute(attr=m.Name("zero_grad"))))]
)


@operator(
    "zero-grad-missing",
    cst.SimpleStatementLine,
    rows=("zero-grad-missing",),
    category="autograd",
    difficulty=1,
    symptom="The loss is noisier than it should be and learning gets worse the longer it runs.",
    hints=(
        "Print the norm of the gradient at every step and compare it with the norm on one batch.",
        "Follow what happens to `.grad` from one step to the next in `{function}`.",
        "Gradients of earlier batches are still there when the next one is added.",
    ),
    repair="Clear the gradients once per update, before the backward pass.",
    mechanism=(
        "`backward()` adds to `.grad`; it never replaces it. Without clearing, each update follows"
        " the sum of all gradients so far, which acts like momentum without decay: steps grow and"
        " point to where the loss was falling long ago."
    ),
    evidence=("https://stackoverflow.com/questions/60335387",),
    examples=(
        Example(
            before="opt.zero_grad()\nloss.backward()\nopt.step()\n",
            after=("loss.backward()\nopt.step()\n",),
        ),
        Example(
            before="if first:\n    opt.zero_grad(set_to_none=True)\n",
            after=("if first:\n    pass\n",),
        ),
    ),
    counterexamples=("clear = opt.zero_grad\n", "zero_grad()\n"),
)
def zero_grad_missing(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    if m.matches(node, ZERO_GRAD):
        yield Proposal(edits=(f.delete_statement(node),))
