"""Mistakes in recurrent cells and in sequences of different length."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    inside,
    keyword,
    last_name,
    mentions,
    orphans,
)
from bughunt_mutator.operators._look_meaning import resolved, tidy
from bughunt_mutator.operators._sources import issue
from bughunt_mutator.source import SourceFile

LSTM_PAPER = "https://doi.org/10.1162/neco.1997.9.8.1735"


@operator(
    "pad-mask-ignored",
    cst.Call,
    category="attention-transformer",
    difficulty=4,
    symptom="Answers depend on how long the other rows of the batch are.",
    hints=(
        "LOOK: append filler to a row and compare the answers.",
        "WHERE: what happens in `{function}` once a row is over.",
        "WHAT: does filler change what has been read?",
    ),
    repair="Keep the old state where the row is over.",
    mechanism=(
        "Filler is read like content. The longer the filler, the more it overwrites, so short rows"
        " suffer, and the answer depends on the longest row of the batch."
    ),
    evidence=(issue("jingyaogong/minimind-v", 76), issue("MaximumEntropy/Seq2Seq-PyTorch", 6)),
    examples=(
        Example(
            row="pad-mask-ignored",
            before="import torch\nh = torch.where(alive, h_new, h)\nc = torch.where(a, 1, -1)\n",
            after=("import torch\nh = h_new\nc = torch.where(a, 1, -1)\n",),
        ),
    ),
    counterexamples=(
        "import torch\nh = torch.where(a, b, c)\n",
        "import torch\nball = torch.where(down, fresh, ball)\n",
    ),
)
def pad_ignored(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) != "torch.where" or len(node.args) != 3:
        return
    pair = assigned(f.statement(node))
    if pair is None or pair[1] is not node or f.text(pair[0]) != f.text(node.args[2].value):
        return
    real = mentions(node.args[0], "alive", "mask", "valid", "pad", "length", "real", "active", "inside")
    if real and not orphans(f, node.args[0]):
        yield Proposal(edits=(f.replace(node, f.text(node.args[1].value)),))


@operator(
    "last-step-is-padding",
    cst.Subscript,
    category="rnn-sequence",
    difficulty=3,
    symptom="Long rows are answered well, short ones badly.",
    hints=(
        "LOOK: split the accuracy by the length of the row.",
        "WHERE: which step `{function}` reads the answer from.",
        "WHAT: where does a short row end?",
    ),
    repair="Read the answer at the last step of each row.",
    mechanism="For all but the longest row, the last step of the batch is filler.",
    evidence=(issue("ray-project/ray", 21392),),
    examples=(
        Example(
            row="last-step-is-padding",
            before="import torch\nh = out[torch.arange(B), lengths - 1]\n",
            after=("import torch\nh = out[:, -1]\n",),
        ),
        Example(
            before="def f(x, lengths):\n    rows = torch.arange(len(x), device=x.device)\n"
            "    return x[rows, lengths - 1]\n",
            after=("def f(x, lengths):\n    return x[:, -1]\n",),
        ),
    ),
    counterexamples=("h = out[rows, 3]\n", "h = out[rows, lengths - 1]\n"),
)
def last_step(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    if len(node.slice) != 2 or "len" not in f.text(node.slice[1]) or not f.text(node).endswith("- 1]"):
        return
    rows = node.slice[0].slice
    index = rows.value if isinstance(rows, cst.Index) else None
    lines = tidy(f, index) if isinstance(index, cst.Name) else ()
    if index is not None and lines is not None and "arange" in f.text(resolved(f, index)):
        yield Proposal(edits=(*lines, f.replace(node, f"{f.text(node.value)}[:, -1]")))


@operator(
    "lstm-gate-order",
    cst.Assign,
    category="rnn-sequence",
    difficulty=5,
    symptom="The layer learns, but disagrees with every other one given the same weights.",
    hints=(
        "LOOK: copy the weights into a trusted layer and compare the outputs.",
        "WHERE: how `{function}` divides what it has computed.",
        "WHAT: which quarter belongs to which gate?",
    ),
    repair="Divide in the order in which the parameters are laid out.",
    mechanism=(
        "The gates are exchanged. Trained from scratch the layer can still learn, but whatever was"
        " set up for one gate, such as its bias, now acts on another."
    ),
    evidence=(LSTM_PAPER, "https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html"),
    examples=(
        Example(
            row="lstm-gate-order",
            before="i, f, g, o = z.chunk(4, -1)\n",
            after=("f, i, g, o = z.chunk(4, -1)\n", "i, f, o, g = z.chunk(4, -1)\n"),
        ),
    ),
    counterexamples=("a, b = z.chunk(2)\n", "a, b, c, d = z\n"),
)
def gate_order(f: SourceFile, node: cst.Assign) -> Iterator[Proposal]:
    parts = node.targets[0].target
    if not isinstance(parts, cst.Tuple) or len(parts.elements) != 4:
        return
    if isinstance(node.value, cst.Call) and last_name(node.value.func) in ("chunk", "split"):
        names = [element.value for element in parts.elements]
        yield Proposal(edits=f.swap(names[0], names[1]))
        yield Proposal(edits=f.swap(names[2], names[3]))


@operator(
    "cell-update-sign",
    cst.BinaryOperation,
    category="rnn-sequence",
    difficulty=5,
    symptom="The layer learns, but disagrees with every other one given the same weights.",
    hints=(
        "LOOK: copy the weights into a trusted layer and compare the outputs.",
        "WHERE: what is remembered in `{function}`.",
        "WHAT: does the candidate join the memory or leave it?",
    ),
    repair="Add the gated candidate to what is kept.",
    mechanism=(
        "The candidate is taken away instead of added. Training can make up for it by turning its"
        " sign, so only a comparison shows it."
    ),
    evidence=(LSTM_PAPER,),
    examples=(
        Example(
            row="cell-update-sign",
            before="c = f.sigmoid() * c + i.sigmoid() * g.tanh()\n",
            after=("c = f.sigmoid() * c - i.sigmoid() * g.tanh()\n",),
        ),
    ),
    counterexamples=("c = a * b + d * e\n",),
)
def cell_sign(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    if sides is None or not all(binary(side, cst.Multiply) for side in sides):
        return
    gated = {last_name(call.func) for call in inside(node, cst.Call)}
    if {"sigmoid", "tanh"} <= gated:
        new = f"{f.text(sides[0])} - {f.text(sides[1])}"
        yield Proposal(edits=(f.replace(node, new),))


@operator(
    "batch-first-mismatch",
    cst.Call,
    category="rnn-sequence",
    difficulty=2,
    symptom="The answer for one row depends on the other rows of the batch.",
    hints=(
        "LOOK: change one row of a batch; which answers change?",
        "WHERE: how `{function}` reads its input.",
        "WHAT: which axis does the layer take for time?",
    ),
    repair="Tell the layer that the batch comes first.",
    mechanism="The layer takes the batch for time, and carries its state from one row to the next.",
    evidence=(issue("pytorch/pytorch", 1538), issue("HHTseng/video-classification", 42)),
    examples=(
        Example(
            row="batch-first-mismatch",
            before="from torch import nn\nr = nn.LSTM(3, 4, batch_first=True)\n",
            after=("from torch import nn\nr = nn.LSTM(3, 4)\n",),
        ),
    ),
    counterexamples=("from torch import nn\nr = nn.LSTM(3, 4)\n",),
)
def batch_first(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    given = keyword(node, "batch_first")
    if (
        given is not None
        and f.text(given.value) == "True"
        and ((f.qname(node.func) or "").startswith("torch.nn."))
    ):
        yield Proposal(edits=(f.delete_arg(node, given),))
