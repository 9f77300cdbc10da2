"""Mistakes in losses that pull some pairs together and push others apart."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    axis,
    binary,
    called,
    function_of,
    inside,
    last_name,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_training import is_temperature, merged, reduced, resolved, retired, words
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile

NEAR = frozenset({"pos", "positive", "positives", "ap", "near"})
FAR = frozenset({"neg", "negative", "negatives", "an", "far"})
PAIRS = frozenset(
    {"contrastive", "contrast", "nce", "infonce", "xent", "nt", "triplet", "margin", "anchor", "anchors"}
    | {
        "sim",
        "similarity",
        "similarities",
        "temperature",
        "tau",
        "clip",
        "siamese",
        "embedding",
        "embeddings",
    }
)


def side(node: cst.CSTNode) -> str:
    """Whether an expression speaks of pairs that belong together, or of those that do not."""
    known = words(node)
    if known & NEAR and not known & FAR:
        return "near"
    return "far" if known & FAR and not known & NEAR else ""


@operator(
    "triplet-swapped",
    cst.BinaryOperation,
    cst.Call,
    category="loss",
    difficulty=2,
    symptom="The loss falls, and the nearest neighbours are the wrong ones.",
    hints=(
        "LOOK: compute the loss for a positive that equals the anchor and a negative far away.",
        "WHERE: the two distances in `{function}`.",
        "WHAT: which of them should become small?",
    ),
    repair="Subtract the distance to the negative from the distance to the positive.",
    mechanism=(
        "The roles of the two are exchanged: what belongs together is pushed apart until the margin"
        " is reached, and what does not is drawn in. The loss goes to zero with the space turned"
        " inside out."
    ),
    evidence=(),
    examples=(
        Example(
            before="loss = (pos_dist - neg_dist + margin).clamp(min=0)\n",
            after=("loss = (neg_dist - pos_dist + margin).clamp(min=0)\n",),
        ),
        Example(
            before="def triplet(near, far, margin):\n    return (near - far + margin).relu()\n",
            after=("def triplet(near, far, margin):\n    return (far - near + margin).relu()\n",),
        ),
        Example(
            before=(
                "def triplet(a, positive, negative):\n"
                "    return relu(d(a, positive) - d(a, negative) + 0.2)\n"
            ),
            after=(
                "def triplet(a, positive, negative):\n"
                "    return relu(d(a, negative) - d(a, positive) + 0.2)\n",
            ),
        ),
        Example(
            before="import torch.nn.functional as F\nloss = F.triplet_margin_loss(a, p, n, margin=1)\n",
            after=("import torch.nn.functional as F\nloss = F.triplet_margin_loss(a, n, p, margin=1)\n",),
        ),
    ),
    counterexamples=("d = pos - neg\n", "loss = (a - b + margin).relu()\n"),
)
def swapped(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        known = f.qname(node.func) == "torch.nn.functional.triplet_margin_loss"
        if known and len(node.args) > 2 and not any(arg.keyword or arg.star for arg in node.args[:3]):
            yield Proposal(edits=f.swap(node.args[1].value, node.args[2].value))
        return
    sides = binary(node, cst.Subtract)
    if sides is None or not words(function_of(f, node)) & {"margin", "triplet", "alpha"}:
        return
    if isinstance(f.parent.get(node), cst.BinaryOperation) and {side(each) for each in sides} == {
        "near",
        "far",
    }:
        yield Proposal(edits=f.swap(*sides))


def marks_itself(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression marks the pairs of each example with itself."""
    made = resolved(f, node)
    calls = {last_name(call.func) for call in inside(made, cst.Call)}
    return bool(calls & {"eye", "diag", "eye_like"} or words(node) & {"eye", "diag", "diagonal", "self"})


@operator(
    "contrastive-self-not-masked",
    cst.SimpleStatementLine,
    cst.Call,
    cst.BinaryOperation,
    category="loss",
    difficulty=5,
    symptom="The loss has a floor that it should not have, and learns a little less.",
    hints=(
        "LOOK: print one row of the similarities, with the place of the largest.",
        "WHERE: what each example is compared with in `{function}`.",
        "WHAT: which comparison is won before any training?",
    ),
    repair="Take the comparison of an example with itself out of the sum.",
    mechanism=(
        "Every example resembles itself most. Among the candidates, that comparison has the largest"
        " weight and cannot be improved, so it drowns the others: the loss cannot get low, and real"
        " negatives receive only what is left of the gradient."
    ),
    evidence=(issue("Lightning-Universe/lightning-bolts", 695),),
    examples=(
        Example(
            before=(
                "import torch\ndef f(sim):\n    own = torch.eye(len(sim), dtype=torch.bool)\n"
                "    sim = sim.masked_fill(own, -torch.inf)\n    return torch.logsumexp(sim, 1)\n"
            ),
            after=("import torch\ndef f(sim):\n    return torch.logsumexp(sim, 1)\n",),
        ),
        Example(
            before="import torch\ny = ce(z.masked_fill(torch.eye(n).bool(), -1e9), t)\nu = torch.ones(3)\n",
            after=("import torch\ny = ce(z, t)\nu = torch.ones(3)\n",),
        ),
        Example(
            before="sim.fill_diagonal_(-1e9)\nloss = ce(sim, y)\n",
            after=("loss = ce(sim, y)\n",),
        ),
        Example(
            before="import torch\ndef f(x):\n    e = x.exp() * (1 - torch.eye(9))\n    return e, torch.pi\n",
            after=("import torch\ndef f(x):\n    e = x.exp()\n    return e, torch.pi\n",),
        ),
    ),
    counterexamples=(
        "x = x.masked_fill(pad, -1e9)\n",
        "import torch\na = torch.eye(3) * 2\n",
        "w.fill_diagonal_(1.0)\n",
    ),
)
def self_compared(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        if clears_itself(f, node) and (rest := retired(f, *gone_with(node))) is not None:
            yield Proposal(edits=merged(f.delete_statement(node), *rest))
        return
    kept, mask = None, None
    if isinstance(node, cst.Call):
        op = operation(f, node, "masked_fill")
        pair = assigned(f.statement(node))
        whole = pair is not None and pair[1] is node and op is not None
        if op is not None and len(node.args) > op.shift and very_low(f, node.args[-1].value):
            kept, mask = op.subject, node.args[op.shift].value
        if whole and pair is not None and op is not None and f.text(pair[0]) == f.text(op.subject):
            return
    elif isinstance(node, cst.BinaryOperation):
        sides = binary(node, cst.Multiply)
        inverted = sides is not None and isinstance(sides[1], cst.UnaryOperation | cst.BinaryOperation)
        if sides is not None and inverted and operation(f, sides[0], "exp"):
            kept, mask = sides
    if (
        kept is not None
        and mask is not None
        and isinstance(node, cst.BaseExpression)
        and marks_itself(f, mask)
    ):
        rest = retired(f, mask)
        if rest is not None:
            yield Proposal(edits=merged(reduced(f, node, kept), *rest))


def clears_itself(f: SourceFile, line: cst.SimpleStatementLine) -> bool:
    """Whether a statement takes comparisons with itself out of a matrix and does no more."""
    call, pair = called(line), assigned(line)
    if pair is not None:
        op = operation(f, pair[1], "masked_fill")
        if op is None or f.text(op.subject) != f.text(pair[0]):
            return False
    else:
        op = operation(f, call, "masked_fill_", "fill_diagonal_")
    if op is None or not op.call.args or not very_low(f, op.call.args[-1].value):
        return False
    return op.name == "fill_diagonal_" or marks_itself(f, op.call.args[op.shift].value)


def gone_with(line: cst.SimpleStatementLine) -> tuple[cst.CSTNode, ...]:
    """What nobody reads any more without a statement that masks in place."""
    pair = assigned(line)
    call = pair[1] if pair is not None else called(line)
    return tuple(arg for arg in call.args) if isinstance(call, cst.Call) and call.args else (line,)


def very_low(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether a value makes a similarity count for nothing."""
    return (number(node) or 0) < -100 or "inf" in f.text(node) or "finfo" in f.text(node)


@operator(
    "contrastive-no-normalise",
    cst.Call,
    cst.BinaryOperation,
    cst.SimpleStatementLine,
    category="loss",
    difficulty=3,
    symptom="The scale of the loss drifts, and neighbours are found less reliably.",
    hints=(
        "LOOK: print the lengths of the embeddings over time.",
        "WHERE: what `{function}` compares.",
        "WHAT: should a longer vector be more similar to everything?",
    ),
    repair="Scale every embedding to length one before comparing.",
    mechanism=(
        "The product of two vectors grows with their lengths. Without a common length the model"
        " lowers the loss by making vectors longer, and a temperature that was chosen for values"
        " between -1 and 1 makes the softmax almost one-hot."
    ),
    evidence=(pull("RElbers/info-nce-pytorch", 17),),
    examples=(
        Example(
            before=(
                "from torch.nn import functional as F\nz = F.normalize(net(x), dim=-1)\n"
                "sim = z @ F.relu(z).mT\n"
            ),
            after=("from torch.nn import functional as F\nz = net(x)\nsim = z @ F.relu(z).mT\n",),
        ),
        Example(
            before="def nce(z, tau):\n    z = z / z.norm(dim=1, keepdim=True)\n    return z @ z.T / tau\n",
            after=("def nce(z, tau):\n    return z @ z.T / tau\n",),
        ),
        Example(
            before=(
                "from torch.nn import functional as F\na = F.normalize(a)\n"
                "sim = F.relu(a @ F.normalize(b).T)\n"
            ),
            after=(
                "from torch.nn import functional as F\nsim = F.relu(a @ F.normalize(b).T)\n",
                "from torch.nn import functional as F\na = F.normalize(a)\nsim = F.relu(a @ b.T)\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch.nn import functional as F\nw = F.normalize(w)\n",
        "d = x / x.norm()\n",
        "z = normalize(z)\nsim = z @ z.T\n",
    ),
)
def any_length(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    value = node
    if isinstance(node, cst.SimpleStatementLine):
        pair = assigned(node)
        value = pair[1] if pair is not None else node
        bare = unscaled(f, value)
        if pair is None or bare is None or f.text(bare) != f.text(pair[0]):
            return
        if not orphans(f, *removed_names(value)):
            yield Proposal(edits=(f.delete_statement(node),))
        return
    bare = unscaled(f, value)
    own = assigned(f.statement(node)) if bare is not None else None
    if bare is None or (own is not None and own[1] is node and f.text(own[0]) == f.text(bare)):
        return
    if isinstance(value, cst.BaseExpression) and not orphans(f, *removed_names(value)):
        yield Proposal(edits=(reduced(f, value, bare),))


def removed_names(node: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
    """What a normalisation refers to besides its operand."""
    return (node.func, *node.args[1:]) if isinstance(node, cst.Call) else (node,)


def unscaled(f: SourceFile, node: cst.CSTNode) -> cst.BaseExpression | None:
    """What an expression scales to length one, in a program that compares pairs."""
    if isinstance(node, cst.Call):
        if f.qname(node.func) != "torch.nn.functional.normalize" or not node.args:
            return None
        found = node.args[0].value
    else:
        sides = binary(node, cst.Divide)
        op = operation(f, sides[1], "norm") if sides is not None else None
        if sides is None or op is None or axis(f, op) is None or f.text(op.subject) != f.text(sides[0]):
            return None
        found = sides[0]
    return found if words(f.module) & PAIRS else None


def is_similarity(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression says how alike two things are."""
    made = resolved(f, node)
    products = any(binary(each, cst.MatrixMultiply) for each in inside(made, cst.BinaryOperation))
    calls = {last_name(call.func) for call in inside(made, cst.Call)}
    named = words(node) & {"sim", "similarity", "similarities", "cos", "cosine"} or side(node)
    return bool(products or calls & {"matmul", "mm", "einsum", "cosine_similarity", "bmm"} or named)


@operator(
    "infonce-temp-multiplied",
    cst.BinaryOperation,
    category="loss",
    difficulty=2,
    symptom="The loss stays close to that of guessing among all candidates.",
    hints=(
        "LOOK: print the range of the numbers that go into the softmax.",
        "WHERE: the similarities in `{function}`.",
        "WHAT: does a small temperature make differences larger or smaller?",
    ),
    repair="Divide the similarities by the temperature.",
    mechanism=(
        "Similarities lie between -1 and 1. Divided by a small temperature they can express"
        " certainty; multiplied by it they are all nearly zero, the softmax is uniform whatever the"
        " embeddings are, and the gradient is tiny."
    ),
    evidence=(),
    examples=(
        Example(before="logits = z @ z.T / temperature\n", after=("logits = z @ z.T * temperature\n",)),
        Example(
            before="def f(a, b, tau):\n    sim = a.matmul(b.T)\n    return ce(sim / tau, y)\n",
            after=("def f(a, b, tau):\n    sim = a.matmul(b.T)\n    return ce(sim * tau, y)\n",),
        ),
        Example(
            before="p = (cosine / self.temperature).exp()\n",
            after=("p = (cosine * self.temperature).exp()\n",),
        ),
    ),
    counterexamples=("p = (logits / temperature).softmax(-1)\n", "s = q @ k.T / scale\n"),
)
def multiplied(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is not None and is_temperature(sides[1]) and is_similarity(f, sides[0]):
        yield Proposal(edits=(f.replace(node, f"{f.text(sides[0])} * {f.text(sides[1])}"),))


@operator(
    "infonce-temp-neg-only",
    cst.BinaryOperation,
    category="loss",
    difficulty=4,
    symptom="The right candidate is at a disadvantage, and the loss is too large from the start.",
    hints=(
        "LOOK: compute the loss where all similarities are the same.",
        "WHERE: the scores of the candidates in `{function}`.",
        "WHAT: are all of them on the same scale?",
    ),
    repair="Divide the similarities of all candidates by the temperature.",
    mechanism=(
        "Negatives are multiplied by one over the temperature, and the positive is not. A negative"
        " that is half as similar still wins, so the loss is about scales and no longer about which"
        " candidate is most alike."
    ),
    evidence=(pull("RElbers/info-nce-pytorch", 17),),
    examples=(
        Example(
            before="import torch\nlogits = torch.cat([pos, neg], dim=1) / tau\n",
            after=("import torch\nlogits = torch.cat([pos, neg / tau], dim=1)\n",),
        ),
        Example(
            before="pos = (a * b).sum(-1) / T\nneg = a @ c.T / T\n",
            after=("pos = (a * b).sum(-1)\nneg = a @ c.T / T\n",),
        ),
        Example(
            before=(
                "import torch\ndef f(pos, neg, tau):\n    logits = torch.cat((pos, neg), 1)\n"
                "    return ce(logits / tau, y)\n"
            ),
            after=(
                "import torch\ndef f(pos, neg, tau):\n    logits = torch.cat((pos, neg / tau), 1)\n"
                "    return ce(logits, y)\n",
            ),
        ),
    ),
    counterexamples=("sim = z @ z.T / tau\n", "pos = (a * b).sum(-1) / tau\n"),
)
def negatives_only(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is None or not is_temperature(sides[1]):
        return
    joined = operation(f, resolved(f, sides[0]), "cat", "concat", "hstack", "concatenate")
    scale = f.text(sides[1])
    if joined is not None and isinstance(joined.subject, cst.List | cst.Tuple):
        parts = [element.value for element in joined.subject.elements]
        far = [part for part in parts if side(part) == "far"]
        if len(far) == 1 and any(side(part) == "near" for part in parts):
            inner = f.replace(far[0], f"{f.text(far[0])} / {scale}")
            if joined.call is not sides[0]:
                yield Proposal(edits=(inner, reduced(f, node, sides[0])))
            else:
                tail = f.edit(f.span(sides[0])[1], f.span(sides[1])[1], "")
                yield Proposal(edits=(inner, tail))
        return
    if about(f, node) == "near" and any(about(f, each) == "far" for each in scaled_by(f, node, scale)):
        yield Proposal(edits=(reduced(f, node, sides[0]),))


def about(f: SourceFile, node: cst.BinaryOperation) -> str:
    """Which kind of pairs a quotient belongs to, by its own names or by the name it is given."""
    own = side(node.left)
    pair = assigned(f.statement(node))
    return own or (side(pair[0]) if pair is not None else "")


def scaled_by(f: SourceFile, node: cst.CSTNode, scale: str) -> Iterator[cst.BinaryOperation]:
    """The quotients of a function that have this divisor."""
    for each in inside(function_of(f, node), cst.BinaryOperation):
        sides = binary(each, cst.Divide)
        if sides is not None and f.text(sides[1]) == scale:
            yield each
