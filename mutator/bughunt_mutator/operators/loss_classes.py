"""Mistakes in losses that compare scores with classes."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    function_of,
    inside,
    keyword,
    mentions,
    names_in,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_training import atom, made_by, reduced, resolved, words
from bughunt_mutator.operators._sources import DEEP_CHECKER, DEEP_CRIME, issue
from bughunt_mutator.source import SourceFile

FUNCTIONAL = "torch.nn.functional."
GRADLESS = ("no_grad", "inference_mode", "evaluate", "predict")


def is_loss(f: SourceFile, node: cst.Call, function: str, module: str) -> bool:
    """Whether a call computes a loss, as a function or through an object made from a class."""
    if f.qname(node.func) == FUNCTIONAL + function:
        return True
    if isinstance(node.func, cst.Call):
        return f.qname(node.func.func) == f"torch.nn.{module}"
    return made_by(f, node, f.text(node.func)) == f"torch.nn.{module}"


def picked_by_hand(f: SourceFile, node: cst.Call) -> bool:
    """Whether a loss picks the entries of the right classes from what a call makes, and negates them."""
    pair, home = assigned(f.statement(node)), f.function(node)
    if pair is None or pair[1] is not node or home is None or not mentions(home.name, "loss", "nll"):
        return False
    picks = [operation(f, call, "gather") for call in inside(home, cst.Call)]
    negated = any(isinstance(each.operator, cst.Minus) for each in inside(home, cst.UnaryOperation))
    chances = [operation(f, call, "exp") for call in inside(home, cst.Call)]
    if any(op is not None and f.text(op.subject) == f.text(pair[0]) for op in chances):
        return False
    return negated and any(op is not None and f.text(op.subject) == f.text(pair[0]) for op in picks)


@operator(
    "nll-without-logsoftmax",
    cst.Call,
    category="loss",
    difficulty=1,
    symptom="The loss becomes negative and falls without end, while the answers get no better.",
    hints=(
        "LOOK: what is the lowest value that this loss should be able to take?",
        "WHERE: what `{function}` hands to the loss.",
        "WHAT: which numbers does this loss pick out, and what keeps them from growing?",
    ),
    repair="Give the loss log-probabilities.",
    mechanism=(
        "The negative log-likelihood only picks the entry of the right class and changes its sign."
        " Among log-probabilities the entries compete, since their exponentials sum to one. Raw"
        " scores do not: all of them can grow together, for ever, and the loss calls that progress."
    ),
    evidence=("https://stackoverflow.com/questions/53813636", DEEP_CHECKER),
    examples=(
        Example(
            before="import torch.nn.functional as F\nloss = F.nll_loss(F.log_softmax(z, dim=-1), y)\n",
            after=("import torch.nn.functional as F\nloss = F.nll_loss(z, y)\n",),
        ),
        Example(
            before="from torch import nn\nloss = nn.NLLLoss()(net(x).log_softmax(1), y)\n",
            after=("from torch import nn\nloss = nn.NLLLoss()(net(x), y)\n",),
        ),
        Example(
            before="from torch import nn\nnet = nn.Sequential(a, nn.LogSoftmax(dim=1))\nc = nn.NLLLoss()\n",
            after=("from torch import nn\nnet = nn.Sequential(a)\nc = nn.NLLLoss()\n",),
        ),
        Example(
            before="def loss(z, y):\n    logp = z.log_softmax(-1)\n    return -logp.gather(1, y).mean()\n",
            after=("def loss(z, y):\n    logp = z\n    return -logp.gather(1, y).mean()\n",),
        ),
        Example(
            before=(
                "from torch.nn.functional import nll_loss\nlogp = z.log_softmax(-1)\nv = nll_loss(logp, y)\n"
            ),
            after=("from torch.nn.functional import nll_loss\nlogp = z\nv = nll_loss(logp, y)\n",),
        ),
    ),
    counterexamples=(
        "import torch.nn.functional as F\nloss = F.cross_entropy(F.log_softmax(z, 1), y)\n",
        "from torch import nn\nnet = nn.Sequential(a, nn.LogSoftmax(dim=1))\n",
        "y = x.log_softmax(-1)\n",
        "def chance(z, y):\n    logp = z.log_softmax(-1)\n    return logp.gather(1, y).sum()\n",
        "def loss(z, a, gain):\n    logp = z.log_softmax(-1)\n    entropy = -(logp.exp() * logp).sum()\n"
        "    return -(logp.gather(1, a) * gain).mean() - entropy\n",
    ),
)
def raw_likelihood(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    written = operation(f, node, "log_softmax")
    if written is not None and picked_by_hand(f, node) and not orphans(f, written.call.func):
        yield Proposal(edits=(reduced(f, node, written.subject),))
        return
    if f.qname(node.func) == "torch.nn.Sequential" and ("NLLLoss" in f.source or "nll_loss" in f.source):
        for arg in node.args[1:]:
            if isinstance(arg.value, cst.Call) and f.qname(arg.value.func) == "torch.nn.LogSoftmax":
                yield Proposal(edits=(f.delete_arg(node, arg),))
        return
    if not node.args or not is_loss(f, node, "nll_loss", "NLLLoss"):
        return
    op = operation(f, resolved(f, node.args[0].value), "log_softmax")
    if op is not None and not orphans(f, op.call.func):
        yield Proposal(edits=(reduced(f, op.call, op.subject),))


@operator(
    "double-sigmoid",
    cst.Call,
    category="loss",
    difficulty=2,
    symptom="The loss stops falling well above zero, although almost all answers are right.",
    hints=(
        "LOOK: what is the lowest loss that any output could reach, for each of the two answers?",
        "WHERE: what `{function}` hands to the loss.",
        "WHAT: does the loss expect scores or probabilities?",
    ),
    repair="Give the loss the raw scores.",
    mechanism=(
        "The loss applies a sigmoid itself. Of a number between 0 and 1 it makes one between 0.5"
        " and 0.73, so that a clear no cannot be expressed at all. The loss has a floor, and the"
        " gradients near it are small."
    ),
    evidence=(issue("Hsuxu/Loss_ToolBox-PyTorch", 12),),
    examples=(
        Example(
            before="import torch.nn.functional as F\nloss = F.binary_cross_entropy_with_logits(net(x), y)\n",
            after=(
                "import torch.nn.functional as F\n"
                "loss = F.binary_cross_entropy_with_logits(net(x).sigmoid(), y)\n",
            ),
        ),
        Example(
            before="from torch import nn\nbce = nn.BCEWithLogitsLoss()\nloss = bce(a - b, y)\n",
            after=("from torch import nn\nbce = nn.BCEWithLogitsLoss()\nloss = bce((a - b).sigmoid(), y)\n",),
        ),
    ),
    counterexamples=(
        "from torch import nn\nbce = nn.BCELoss()\nloss = bce(p, y)\n",
        "import torch.nn.functional as F\nloss = F.binary_cross_entropy_with_logits(z.sigmoid(), y)\n",
        "loss = binary_cross_entropy_with_logits(z, y)\n",
    ),
)
def double_sigmoid(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if len(node.args) < 2 or node.args[0].star:
        return
    if is_loss(f, node, "binary_cross_entropy_with_logits", "BCEWithLogitsLoss"):
        scores = node.args[0].value
        if operation(f, scores, "sigmoid") is None:
            yield Proposal(edits=(f.replace(scores, f"{atom(f, scores)}.sigmoid()"),))


@operator(
    "ce-to-mse",
    cst.Call,
    category="loss",
    difficulty=2,
    symptom="It learns, but slowly at first, and confident mistakes are hardly corrected.",
    hints=(
        "LOOK: compute the gradient for an example that is answered wrongly with great confidence.",
        "WHERE: how `{function}` measures the distance between answer and truth.",
        "WHAT: which loss fits probabilities of classes?",
    ),
    repair="Use the cross-entropy of the logits.",
    mechanism=(
        "The squared error of probabilities is bounded, and flat where the softmax is saturated. An"
        " answer that is wrong and sure of itself receives almost no gradient, where cross-entropy"
        " would pull on it hardest."
    ),
    evidence=(DEEP_CRIME, DEEP_CHECKER),
    examples=(
        Example(
            before="from torch.nn import functional as F\nloss = F.cross_entropy(logits, y)\n",
            after=(
                "from torch.nn import functional as F\n"
                "loss = F.mse_loss(logits.softmax(-1), F.one_hot(y, logits.size(-1)).float())\n",
            ),
        ),
        Example(
            before="from torch.nn import functional as F\ndef f():\n    return F.cross_entropy(net(x), y)\n",
            after=(
                "from torch.nn import functional as F\ndef f():\n    probs = net(x).softmax(-1)\n"
                "    return F.mse_loss(probs, F.one_hot(y, probs.size(-1)).float())\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch.nn import functional as F\nloss = F.cross_entropy(z, y, ignore_index=0)\n",
        "from torch.nn import functional as F\nloss = F.cross_entropy(z.transpose(1, 2), y)\n",
        "from torch.nn.functional import cross_entropy\nloss = cross_entropy(z, y)\n",
        "from torch.nn import functional as F\n@torch.no_grad()\ndef f(z, y):\n"
        "    return F.cross_entropy(z, y)\n",
    ),
)
def squared_error(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    spelled = f.spelling("torch.nn.functional")
    if f.qname(node.func) != FUNCTIONAL + "cross_entropy" or spelled is None or len(node.args) != 2:
        return
    scores, labels = (arg.value for arg in node.args)
    if any(arg.keyword or arg.star for arg in node.args) or measures_only(f, node):
        return
    if words(scores) & {"transpose", "permute", "mt"}:
        return
    name, line = f.text(scores), f.statement(node)
    before: tuple[Edit, ...] = ()
    probabilities = f"{name}.softmax(-1)"
    if not isinstance(scores, cst.Name):
        name = fresh(f, node, "probs", "likelihoods", "chances")
        if not isinstance(line, cst.SimpleStatementLine) or not name:
            return
        before = (f.insert_before(line, f"{name} = {atom(f, scores)}.softmax(-1)"),)
        probabilities = name
    truth = f"{spelled}.one_hot({f.text(labels)}, {name}.size(-1)).float()"
    new = f"{spelled}.mse_loss({probabilities}, {truth})"
    yield Proposal(edits=(*before, f.replace(node, new)))


def measures_only(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a function computes numbers that nobody takes gradients of."""
    home = f.function(node)
    if home is None:
        return False
    return any(mentions(each, *GRADLESS) for each in (home.name, *home.decorators))


def fresh(f: SourceFile, node: cst.CSTNode, *names: str) -> str:
    """The first of some names that the function has no use for; empty if there is none."""
    taken = names_in(function_of(f, node))
    return next((name for name in names if name not in taken), "")


@operator(
    "hinge-margin-sign",
    cst.BinaryOperation,
    category="loss",
    difficulty=2,
    symptom="The loss falls, and the answers are wrong more often than by chance.",
    hints=(
        "LOOK: compute the loss of an example that is right by a wide margin.",
        "WHERE: the margin in `{function}`.",
        "WHAT: for which sign of label times score should the loss be zero?",
    ),
    repair="Subtract label times score from the margin.",
    mechanism=(
        "With the sign turned, an example costs nothing when its score lies far on the wrong side."
        " The model is rewarded for being wrong by at least the margin, and it learns that well."
    ),
    evidence=(),
    examples=(
        Example(
            before="loss = (1 - y * f).clamp(min=0).mean()\n",
            after=("loss = (1 + y * f).clamp(min=0).mean()\n",),
        ),
        Example(
            before="import numpy as np\nloss = np.maximum(0, 1 - y * (x @ w)).mean()\n",
            after=("import numpy as np\nloss = np.maximum(0, 1 + y * (x @ w)).mean()\n",),
        ),
        Example(
            before="import torch.nn.functional as F\nd = F.relu(1.0 - real).mean()\n",
            after=("import torch.nn.functional as F\nd = F.relu(1.0 + real).mean()\n",),
        ),
    ),
    counterexamples=("q = (1 - p).clamp(min=1e-6)\n", "y = (x - 1).relu()\n", "y = 1 - y * f\n"),
)
def margin_sign(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Subtract)
    if sides is None or not (number(sides[0]) == 1 or "margin" in words(sides[0])):
        return
    if cut_at_zero(f, node):
        yield Proposal(edits=(f.replace(node, f"{f.text(sides[0])} + {f.text(sides[1])}"),))


def cut_at_zero(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether what is below zero of an expression does not count."""
    above = f.parent.get(node)
    call = f.parent.get(above) if isinstance(above, cst.Attribute | cst.Arg) else None
    op = operation(f, call, "clamp", "clamp_min", "clip", "relu", "maximum", "clamp_")
    if op is None:
        return False
    if op.name == "relu":
        return op.subject is node
    others = [arg.value for arg in op.call.args if arg.value is not node and arg.value is not op.subject]
    zero = [each for each in (op.subject, *others) if number(each) == 0]
    upper = keyword(op.call, "max") is not None
    return bool(zero) and not upper and len(others) <= 1
