"""Mistakes in models that give a density or a code: flows and vector quantisation."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import binary
from bughunt_mutator.operators._look_meaning import plain, resolved, says, tidy
from bughunt_mutator.source import SourceFile

VOLUME = ("determinant", "logdet", "logdets", "det", "dets", "ldj", "sldj", "logabsdet", "ladj", "jacobian")
DENSITY = ("prior", "prob", "probs", "logp", "logprob", "logpz", "ll", "nll", "likelihood", "density", "logq")
WEIGHT = ("beta", "commit", "commitment", "cost", "weight")


def is_volume(node: cst.CSTNode) -> bool:
    """Whether an expression is the logarithm of how a map changes volumes."""
    return says(node, *VOLUME)


def is_density(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression is a log-density, and no change of volume."""
    return not is_volume(node) and (says(node, *DENSITY) or says(resolved(f, node), *DENSITY))


@operator(
    "flow-logdet-sign",
    cst.BinaryOperation,
    cst.AugAssign,
    category="generative",
    difficulty=3,
    symptom="The likelihood improves without end, while the samples look nothing like the data.",
    hints=(
        "LOOK: integrate the model's density on a grid; is the total one?",
        "WHERE: the terms that `{function}` puts together.",
        "WHAT: what happens to a density when a map stretches space?",
    ),
    repair="Add the log-determinant of the map from data to the base with a plus.",
    mechanism=(
        "The term pays for stretching. With the sign turned round, squeezing all data onto one point is"
        " rewarded twice, by the base density and by the volume, and there is no end to that."
    ),
    evidence=(),
    examples=(
        Example(
            row="flow-logdet-sign",
            before=(
                "def log_prob(x):\n    z, logdet = flow(x)\n    return prior.log_prob(z).sum(-1) + logdet\n"
            ),
            after=(
                "def log_prob(x):\n    z, logdet = flow(x)\n    return prior.log_prob(z).sum(-1) - logdet\n",
            ),
        ),
        Example(
            before="loss = -(log_det + log_pz_prior).mean()\n",
            after=("loss = -(-log_det + log_pz_prior).mean()\n",),
        ),
        Example(before="log_prob += log_det\n", after=("log_prob -= log_det\n",)),
        Example(before="log_q = base_log_prob - ldj\n", after=("log_q = base_log_prob + ldj\n",)),
        Example(
            before="def log_normal(x, c):\n    return -0.5 * (c + log_determinant + x**2)\n",
            after=("def log_normal(x, c):\n    return -0.5 * (c - log_determinant + x**2)\n",),
        ),
    ),
    counterexamples=("log_det = log_det + layer_log_det\n", "logdet += s.sum(-1)\n"),
)
def logdet_sign(f: SourceFile, node: cst.BinaryOperation | cst.AugAssign) -> Iterator[Proposal]:
    if isinstance(node, cst.AugAssign):
        sign = {cst.AddAssign: "-=", cst.SubtractAssign: "+="}.get(type(node.operator))
        if sign and is_volume(node.value) and is_density(f, node.target):
            yield Proposal(edits=(f.replace(node, f"{f.text(node.target)} {sign} {f.text(node.value)}"),))
        return
    sides = binary(node, cst.Add, cst.Subtract)
    if sides is None:
        return
    home = f.function(node)
    written = home is not None and says(home.name, "log") and says(home.name, "normal", "gaussian", "density")
    if written and is_volume(sides[1]) and not is_volume(sides[0]):
        sign = "-" if isinstance(node.operator, cst.Add) else "+"
        yield Proposal(edits=(f.replace(node, f"{f.text(sides[0])} {sign} {f.text(sides[1])}"),))
        return
    adds = isinstance(node.operator, cst.Add)
    if is_volume(sides[1]) and is_density(f, sides[0]):
        sign = "-" if adds else "+"
        yield Proposal(edits=(f.replace(node, f"{f.text(sides[0])} {sign} {f.text(sides[1])}"),))
    elif adds and is_volume(sides[0]) and is_density(f, sides[1]) and plain(f, sides[0])[0] != "(":
        yield Proposal(edits=(f.replace(sides[0], f"-{f.text(sides[0])}"),))


@operator(
    "vq-commit-missing",
    cst.BinaryOperation,
    category="generative",
    difficulty=4,
    symptom="Reconstructions start well and then get worse while the encoder's outputs keep growing.",
    hints=(
        "LOOK: plot the norm of the encoder's output and its distance to the nearest code.",
        "WHERE: the terms of the loss in `{function}`.",
        "WHAT: what holds the encoder near the codes?",
    ),
    repair="Add the weighted distance from the encoder's output to its code, with the code held fixed.",
    mechanism=(
        "Codes run after the encoder's outputs, but nothing makes the encoder stay. Outputs wander and"
        " grow faster than codes follow, assignments flicker, and the decoder is fed codes that no longer"
        " stand for what the encoder saw."
    ),
    evidence=(),
    examples=(
        Example(
            row="vq-commit-missing",
            before=(
                "import torch.nn.functional as F\n\ndef loss(z, q, beta):\n"
                "    return F.mse_loss(q, z.detach()) + beta * F.mse_loss(z, q.detach())\n"
            ),
            after=(
                "import torch.nn.functional as F\n\ndef loss(z, q, beta):\n"
                "    return F.mse_loss(q, z.detach())\n",
            ),
        ),
        Example(
            before=(
                "def loss(self, z, q):\n    commit = (z - q.detach()).pow(2).mean()\n"
                "    book = (q - z.detach()).pow(2).mean()\n    return book + self.cost * commit\n"
            ),
            after=("def loss(self, z, q):\n    book = (q - z.detach()).pow(2).mean()\n    return book\n",),
        ),
    ),
    counterexamples=("loss = a + beta * b\n", "y = q + beta * x.detach()\n"),
)
def commit_missing(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    if sides is None:
        return
    for rest, term in (sides, sides[::-1]):
        factors = binary(term, cst.Multiply)
        if factors is None:
            continue
        for weight, distance in (factors, factors[::-1]):
            if says(weight, *WEIGHT) and not says(weight, "mse") and is_commitment(f, distance):
                lines = tidy(f, term)
                if lines is not None:
                    yield Proposal(edits=(*lines, f.replace(node, f.text(rest))))
                return


def is_commitment(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression is a mean square distance to something held fixed."""
    made = resolved(f, node)
    distance = says(made, "mse", "square", "pow", "norm") or bool(f.text(made).count("**"))
    return distance and says(made, "detach", "sg", "stop", "data")
