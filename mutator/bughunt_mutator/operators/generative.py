"""Mistakes in variational autoencoders."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    axis,
    binary,
    function_of,
    inside,
    keyword,
    last_name,
    number,
    operation,
)
from bughunt_mutator.operators._look_parts import draws
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile

VAE = "https://arxiv.org/abs/1312.6114"


def is_divergence(node: cst.CSTNode) -> bool:
    """Whether an expression adds a square, an exponential and a log-variance."""
    calls = {last_name(call.func) for call in inside(node, cst.Call)}
    square = bool(calls & {"square", "pow"}) or any(
        binary(each, cst.Power) for each in inside(node, cst.BinaryOperation)
    )
    return square and bool(calls & {"exp", "expm1"})


@operator(
    "vae-kl-sign",
    cst.BinaryOperation,
    category="generative",
    difficulty=1,
    symptom="The loss falls without end, below anything that is possible.",
    hints=(
        "LOOK: plot the terms of the loss one by one; which values can each of them have?",
        "WHERE: the formula in `{function}`.",
        "WHAT: can a distance be negative?",
    ),
    repair="Give the divergence the sign that makes it positive.",
    mechanism="Clouds are rewarded for being far from the prior, and there is no end to that.",
    evidence=(VAE,),
    examples=(
        Example(
            row="vae-kl-sign",
            before="kl = 0.5 * (mu.square() + lv.exp() - 1 - lv)\n",
            after=("kl = -0.5 * (mu.square() + lv.exp() - 1 - lv)\n",),
        ),
        Example(
            before="kl = -0.5 * (1 + lv - mu**2 - lv.exp()).sum()\n",
            after=("kl = 0.5 * (1 + lv - mu**2 - lv.exp()).sum()\n",),
        ),
    ),
    counterexamples=("y = 0.5 * x.exp()\n",),
)
def kl_sign(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Multiply)
    if sides is not None and number(sides[0]) in (0.5, -0.5) and is_divergence(sides[1]):
        new = "-0.5" if number(sides[0]) == 0.5 else "0.5"
        yield Proposal(edits=(f.replace(sides[0], new),))


@operator(
    "vae-mean-for-sum",
    cst.Call,
    rows=("vae-kl-mean-dims", "vae-recon-mean-kl-sum"),
    category="generative",
    difficulty=4,
    symptom="One side of the bargain wins: samples are poor, or all images look alike.",
    hints=(
        "LOOK: compute both terms for one image, and compare with values by hand.",
        "WHERE: how `{function}` makes one number for each image.",
        "WHAT: is the log-probability of many independent values their sum or their mean?",
    ),
    repair="Sum each term over the dimensions of one image.",
    mechanism=(
        "Both terms are sums over dimensions. A mean in one of them divides it by the number of"
        " its dimensions, which is the same as a wrong weight between the two."
    ),
    evidence=(
        issue("pytorch/examples", 290),
        issue("podgorskiy/VAE", 1),
        pull("zdebruine/MMVAE", 19),
    ),
    examples=(
        Example(
            row="vae-kl-mean-dims",
            before="kl = (mu.square() + lv.exp() - 1 - lv).sum(dim=-1)\n",
            after=("kl = (mu.square() + lv.exp() - 1 - lv).mean(dim=-1)\n",),
        ),
        Example(
            row="vae-recon-mean-kl-sum",
            before=(
                "import torch.nn.functional as F\n"
                'e = F.binary_cross_entropy(z, x, reduction="none")\nr = e.sum(dim=-1)\n'
            ),
            after=(
                "import torch.nn.functional as F\n"
                'e = F.binary_cross_entropy(z, x, reduction="none")\nr = e.mean(dim=-1)\n',
            ),
        ),
        Example(
            before="each = mu**2 + lv.exp() - 1 - lv\nkl = each.sum(1)\n",
            after=("each = mu**2 + lv.exp() - 1 - lv\nkl = each.mean(1)\n",),
        ),
    ),
    counterexamples=("y = x.exp().sum(dim=-1)\n", "kl = (mu**2 + lv.exp()).sum()\n"),
)
def mean_for_sum(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "sum")
    if op is None or op.shift or axis(f, op) is None or not isinstance(node.func, cst.Attribute):
        return
    made: cst.CSTNode = op.subject
    if isinstance(made, cst.Name):
        lines = inside(f.function(node) or f.module, cst.SimpleStatementLine)
        pairs = [pair for line in lines if (pair := assigned(line)) is not None]
        made = next((value for target, value in pairs if f.text(target) == made.value), made)
    row = ""
    if is_divergence(made):
        row = "vae-kl-mean-dims"
    elif isinstance(made, cst.Call) and "binary_cross_entropy" in f.text(made.func):
        row = "vae-recon-mean-kl-sum" if keyword(made, "reduction") else ""
    if row:
        yield Proposal(edits=(f.replace(node.func.attr, "mean"),), row=row)


@operator(
    "vae-std-is-var",
    cst.Call,
    category="generative",
    difficulty=4,
    symptom="The model learns, but its samples are noisier or duller than they should be.",
    hints=(
        "LOOK: draw many codes for one image; compare their spread with what was asked for.",
        "WHERE: how `{function}` gets from log-variance to noise.",
        "WHAT: how is a standard deviation made from the logarithm of a variance?",
    ),
    repair="Halve the log-variance before the exponential.",
    mechanism=(
        "The noise is scaled by the variance. The encoder learns to make up for that, but then the"
        " divergence is computed for another cloud than the one that is drawn from."
    ),
    evidence=(
        issue("rachtsingh/ibp_vae", 3),
        issue("keras-team/keras", 3283),
        pull("keras-team/keras", 9972),
    ),
    examples=(
        Example(
            row="vae-std-is-var",
            before="import torch\ns = torch.exp(0.5 * lv)\nt = (lv / 2).exp()\n",
            after=(
                "import torch\ns = torch.exp(lv)\nt = (lv / 2).exp()\n",
                "import torch\ns = torch.exp(0.5 * lv)\nt = lv.exp()\n",
            ),
        ),
        Example(
            before=(
                "import numpy as np\n\ndef sample(rng, C):\n    L = np.linalg.cholesky(C)\n"
                "    return L @ rng.normal(size=len(C))\n"
            ),
            after=(
                "import numpy as np\n\ndef sample(rng, C):\n    L = C\n"
                "    return L @ rng.normal(size=len(C))\n",
            ),
        ),
    ),
    counterexamples=("s = lv.exp()\n", "s = (3 * lv).exp()\n"),
)
def std_is_var(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    root = f.qname(node.func) in ("torch.linalg.cholesky", "numpy.linalg.cholesky")
    if root and len(node.args) == 1 and draws(function_of(f, node)):
        yield Proposal(edits=(f.replace(node, f.text(node.args[0].value)),))
    op = operation(f, node, "exp")
    if op is None:
        return
    product, quotient = binary(op.subject, cst.Multiply), binary(op.subject, cst.Divide)
    if product is not None and number(product[0]) == 0.5:
        yield Proposal(edits=(f.replace(op.subject, f.text(product[1])),))
    if quotient is not None and number(quotient[1]) == 2:
        yield Proposal(edits=(f.replace(op.subject, f.text(quotient[0])),))


@operator(
    "vae-z-detached",
    cst.BinaryOperation,
    category="generative",
    difficulty=3,
    symptom="All images come back as nearly the same one.",
    hints=(
        "LOOK: backpropagate the reconstruction alone, and list who receives a gradient.",
        "WHERE: the code that `{function}` hands on.",
        "WHAT: who tells the encoder which codes are useful?",
    ),
    repair="Let gradients flow through the code into mean and deviation.",
    mechanism=(
        "The encoder hears only from the divergence, which is content when all clouds equal the"
        " prior. Codes then carry nothing, and the decoder draws the mean image."
    ),
    evidence=(VAE,),
    examples=(
        Example(
            row="vae-z-detached",
            before="import torch\ne = torch.randn_like(s)\nz = mu + s * e\n",
            after=("import torch\ne = torch.randn_like(s)\nz = (mu + s * e).detach()\n",),
        ),
    ),
    counterexamples=("z = mu + s * e\n",),
)
def z_detached(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    factors = binary(sides[1], cst.Multiply) if sides else None
    if factors is None:
        return
    noise = {
        f.text(pair[0])
        for line in inside(f.function(node) or f.module, cst.SimpleStatementLine)
        if (pair := assigned(line)) is not None and "randn" in f.text(pair[1])
    }
    if any(f.text(factor) in noise or "randn" in f.text(factor) for factor in factors):
        yield Proposal(edits=(f.replace(node, f"({f.text(node)}).detach()"),))
