"""Mistakes in what is minimised."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import assigned, axis, keyword, method_line, operation, orphans
from bughunt_mutator.operators._sources import COMMON_MISTAKES, DEEP_CHECKER, issue
from bughunt_mutator.operators.loss_targets import counts_answers
from bughunt_mutator.source import SourceFile


@operator(
    "double-softmax",
    cst.Call,
    category="loss",
    difficulty=1,
    symptom="The loss stops falling far above zero, although the answers are mostly right.",
    hints=(
        "LOOK: what is the lowest loss that any output could reach?",
        "WHERE: what `{function}` hands to the loss.",
        "WHAT: does the loss expect logits or probabilities?",
    ),
    repair="Give the loss the logits.",
    mechanism=(
        "Cross-entropy applies a softmax itself. Of numbers between 0 and 1 it makes an almost"
        " uniform distribution, so even a perfect answer keeps a large loss and a tiny gradient."
    ),
    evidence=(COMMON_MISTAKES, issue("ariecattan/SciCo", 2), DEEP_CHECKER),
    examples=(
        Example(
            row="double-softmax",
            before="import torch.nn.functional as F\nloss = F.cross_entropy(net(x), y)\n",
            after=("import torch.nn.functional as F\nloss = F.cross_entropy(net(x).softmax(-1), y)\n",),
        ),
    ),
    counterexamples=("loss = cross_entropy(net(x), y)\n",),
)
def double_softmax(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) == "torch.nn.functional.cross_entropy" and node.args:
        logits = node.args[0].value
        if isinstance(logits, cst.Name | cst.Call):
            yield Proposal(edits=(f.replace(logits, f"{f.text(logits)}.softmax(-1)"),))


@operator(
    "loss-sign",
    cst.SimpleStatementLine,
    category="loss",
    difficulty=1,
    symptom="The longer it trains, the worse it gets.",
    hints=(
        "LOOK: the loss on one batch, before and after one small update on it.",
        "WHERE: what `{function}` sends backward.",
        "WHAT: does the update go down the slope or up?",
    ),
    repair="Minimise the loss, not its negative.",
    mechanism="The gradient of the negative loss points up the slope, and each update follows it.",
    evidence=(DEEP_CHECKER,),
    examples=(Example(row="loss-sign", before="loss.backward()\n", after=("(-loss).backward()\n",)),),
    counterexamples=("(a + b).backward()\n", "loss.backward\n"),
)
def loss_sign(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    name = method_line(f, node, "backward")
    if name is not None and name.isidentifier():
        text = f.text(node).strip()
        yield Proposal(edits=(f.replace(node, f"(-{name}){text[len(name) :]}"),))


@operator(
    "reduction-sum",
    cst.Call,
    category="loss",
    difficulty=2,
    symptom="The loss is on another scale than usual, and the run is less stable.",
    hints=(
        "LOOK: compute the loss for a batch and for its first half.",
        "WHERE: how `{function}` makes one number of many.",
        "WHAT: should the gradient grow with the size of the batch?",
    ),
    repair="Average the loss over the batch.",
    mechanism=(
        "Summed, loss and gradient grow with the number of examples, which multiplies the step"
        " size of plain SGD. Adam and clipping hide it, and only the printed value is strange."
    ),
    evidence=(DEEP_CHECKER, "https://stackoverflow.com/questions/43611745"),
    examples=(
        Example(
            row="reduction-sum",
            before="import torch.nn.functional as F\nloss = F.cross_entropy(z, y)\n",
            after=('import torch.nn.functional as F\nloss = F.cross_entropy(z, y, reduction="sum")\n',),
        ),
        Example(
            before='from torch.nn.functional import mse_loss\nloss = mse_loss(z, y, reduction="mean")\n',
            after=('from torch.nn.functional import mse_loss\nloss = mse_loss(z, y, reduction="sum")\n',),
        ),
    ),
    counterexamples=(
        'import torch.nn.functional as F\nloss = F.cross_entropy(z, y, reduction="sum")\n',
        "loss = cross_entropy(z, y)\n",
    ),
)
def reduction_sum(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    qualified = f.qname(node.func) or ""
    known = ("cross_entropy", "mse_loss", "nll_loss", "l1_loss", "smooth_l1_loss")
    if qualified.removeprefix("torch.nn.functional.") not in known:
        return
    given = keyword(node, "reduction")
    if given is None:
        yield Proposal(edits=(f.insert_arg(node, 'reduction="sum"'),))
    elif f.text(given.value).strip("\"'") == "mean":
        yield Proposal(edits=(f.replace(given.value, '"sum"'),))


@operator(
    "mean-over-wrong-axis",
    cst.Call,
    category="loss",
    difficulty=4,
    symptom="The terms of the loss are out of balance.",
    hints=(
        "LOOK: compute each term for one example, and for the same example twice.",
        "WHERE: the order of sum and mean in `{function}`.",
        "WHAT: what is summed within an example, and what is averaged over examples?",
    ),
    repair="Sum within each example, then average over the examples.",
    mechanism=(
        "Averaging within and summing over examples divides the term by its dimension and"
        " multiplies it by the batch size, which changes its weight against the other terms."
    ),
    evidence=(issue("podgorskiy/VAE", 1), issue("orybkin/sigma-vae-tensorflow", 2)),
    examples=(
        Example(
            row="mean-over-wrong-axis",
            before="loss = error.sum(dim=-1).mean()\n",
            after=("loss = error.mean(dim=-1).sum()\n",),
        ),
    ),
    counterexamples=("loss = error.sum().mean()\n", "loss = error.sum(-1)\n"),
)
def mean_over_wrong_axis(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    outer = operation(f, node, "mean")
    inner = operation(f, outer.subject, "sum") if outer is not None else None
    if outer is None or inner is None or outer.shift or inner.shift or node.args:
        return
    if axis(f, inner) is not None:
        assert isinstance(node.func, cst.Attribute)
        assert isinstance(inner.call.func, cst.Attribute)
        yield Proposal(edits=(f.replace(inner.call.func.attr, "mean"), f.replace(node.func.attr, "sum")))


@operator(
    "ignore-index-dropped",
    cst.Comparison,
    cst.Call,
    category="loss",
    difficulty=2,
    symptom="The loss looks better than it should, and real answers are worse.",
    hints=(
        "LOOK: split the loss by kind of target.",
        "WHERE: which positions count in `{function}`.",
        "WHAT: does filler take part in the average?",
    ),
    repair="Leave the filler out of the loss.",
    mechanism=(
        "Filler is easy to predict. Counted in, it lowers the average and takes over the gradient,"
        " the more the longer the padding."
    ),
    evidence=(issue("lukas-blecher/LaTeX-OCR", 305), issue("lucidrains/DALLE-pytorch", 57)),
    examples=(
        Example(
            row="ignore-index-dropped",
            before="import torch.nn.functional as F\nloss = F.cross_entropy(z, y, ignore_index=0)\n",
            after=("import torch.nn.functional as F\nloss = F.cross_entropy(z, y)\n",),
        ),
        Example(
            before="import torch\nmask = labels != PAD\n",
            after=("import torch\nmask = torch.ones_like(labels, dtype=torch.bool)\n",),
        ),
    ),
    counterexamples=("loss = score(z, y, ignore=0)\n",),
)
def ignore_index_dropped(f: SourceFile, node: cst.Call | cst.Comparison) -> Iterator[Proposal]:
    if isinstance(node, cst.Comparison):
        pair, torch = assigned(f.statement(node)), f.spelling("torch")
        if not torch or pair is None or orphans(f, node.comparisons[0].comparator):
            return
        if pair[1] is node and counts_answers(*pair):
            every = f"{torch}.ones_like({f.text(node.left)}, dtype={torch}.bool)"
            yield Proposal(edits=(f.replace(node, every),))
        return
    given = keyword(node, "ignore_index")
    if given is not None and not orphans(f, given):
        yield Proposal(edits=(f.delete_arg(node, given),))
