"""Mistakes in losses that share work out among the parts of a model."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import assigned, axis, function_of, operation
from bughunt_mutator.operators._look_training import resolved, statements
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile


@operator(
    "moe-aux-constant",
    cst.Call,
    category="loss",
    difficulty=5,
    symptom="The balancing term is the same at every step, and some experts get no work.",
    hints=(
        "LOOK: compute the gradient of the balancing term with respect to the router.",
        "WHERE: what the term is made from in `{function}`.",
        "WHAT: what do the shares of the chosen experts add up to, whoever is chosen?",
    ),
    repair="Compute the mean probability of each expert from the softmax over all experts.",
    mechanism=(
        "Shares that were normalised among the chosen experts always sum to one; with a single"
        " choice each of them is one. They say nothing about how close the choice was, so the term"
        " has no gradient that could move it, and the router collapses onto a few experts."
    ),
    evidence=(
        issue("huggingface/transformers", 28093),
        issue("davidmrau/mixture-of-experts", 27),
        pull("huggingface/transformers", 43775),
    ),
    examples=(
        Example(
            before=(
                "import torch\ndef route(x, k):\n    probs = gate(x).softmax(dim=-1)\n"
                "    top, chosen = probs.topk(k, dim=-1)\n"
                "    aux = (load(chosen) * probs.mean(dim=0)).sum()\n    return top, aux\n"
            ),
            after=(
                "import torch\ndef route(x, k):\n    probs = gate(x).softmax(dim=-1)\n"
                "    top, chosen = probs.topk(k, dim=-1)\n"
                "    aux = (load(chosen) * torch.zeros_like(probs).scatter(-1, chosen,"
                " top / top.sum(-1, keepdim=True)).mean(dim=0)).sum()\n    return top, aux\n",
            ),
        ),
        Example(
            before=(
                "import torch.nn.functional as F\ndef route(x):\n    p = F.softmax(gate(x), -1)\n"
                "    i = p.argmax(-1)\n    return i, F.one_hot(i, 8).float().mean(0) @ p.mean(0)\n"
            ),
            after=(
                "import torch.nn.functional as F\ndef route(x):\n    p = F.softmax(gate(x), -1)\n"
                "    i = p.argmax(-1)\n"
                "    return i, F.one_hot(i, 8).float().mean(0) @ F.one_hot(i, p.size(-1)).float().mean(0)\n",
            ),
        ),
    ),
    counterexamples=(
        "def f(x):\n    p = x.softmax(-1)\n    return p.mean(0)\n",
        "def f(x, k):\n    t, i = x.topk(k)\n    return x.mean(0)\n",
    ),
)
def constant_aux(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "mean")
    if (
        op is None
        or op.shift
        or not isinstance(op.subject, cst.Name)
        or axis_text(f, node) not in ("0", "(0, 1)")
    ):
        return
    if operation(f, resolved(f, op.subject), "softmax") is None:
        return
    shares = chosen_shares(f, op.subject)
    if shares:
        yield Proposal(edits=(f.replace(op.subject, shares),))


def axis_text(f: SourceFile, node: cst.Call) -> str:
    """The axis of a method call, as written."""
    op = operation(f, node, "mean")
    along = axis(f, op) if op is not None else None
    return f.text(along) if along is not None else ""


def chosen_shares(f: SourceFile, name: cst.Name) -> str:
    """The shares of the chosen experts alone, as an expression; empty where none are chosen."""
    for line in statements(function_of(f, name)):
        pair = assigned(line)
        op = operation(f, pair[1], "topk", "max", "argmax") if pair is not None else None
        if pair is None or op is None or f.text(op.subject) != name.value:
            continue
        if isinstance(pair[0], cst.Tuple) and len(pair[0].elements) == 2 and op.name == "topk":
            top, chosen = (f.text(element.value) for element in pair[0].elements)
            torch = f.spelling("torch")
            if torch is not None and "_" not in (top, chosen):
                share = f"{top} / {top}.sum(-1, keepdim=True)"
                return f"{torch}.zeros_like({name.value}).scatter(-1, {chosen}, {share})"
        one_hot = f.spelling("torch.nn.functional.one_hot")
        if isinstance(pair[0], cst.Name) and op.name == "argmax" and one_hot is not None:
            return f"{one_hot}({pair[0].value}, {name.value}.size(-1)).float()"
    return ""
