"""Mistakes in dropout, weight decay, and limits on the size of weights."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    inside,
    last_name,
    mentions,
    moved_before,
    neighbours,
    number,
    operation,
)
from bughunt_mutator.operators._look_training import averaging, made_by, reduced, retired, words
from bughunt_mutator.operators._sources import DEEP_CHECKER, DEEP_CRIME, pull
from bughunt_mutator.source import SourceFile

ACTIVATIONS = frozenset({"relu", "gelu", "tanh", "silu", "elu", "leaky_relu", "sigmoid", "relu_", "selu"})


@operator(
    "dropout-no-rescale",
    cst.BinaryOperation,
    category="norm-regularisation",
    difficulty=3,
    symptom="Training is as expected; in evaluation all activations are too large.",
    hints=(
        "LOOK: compare the mean activation of a layer in training and in evaluation mode.",
        "WHERE: what `{function}` does to the units that survive.",
        "WHAT: what is the expected value of a unit that is zero now and then?",
    ),
    repair="Divide what is kept by the share that is kept.",
    mechanism=(
        "With a share p of the units at zero, the sum that reaches the next layer is smaller by that"
        " share. If survivors are not scaled up for it in training, the next layer gets used to the"
        " smaller sum and meets a larger one in evaluation, where nothing is dropped."
    ),
    evidence=(),
    examples=(
        Example(
            before="def dropout(x, mask, p):\n    return x * mask / (1 - p)\n",
            after=("def dropout(x, mask, p):\n    return x * mask\n",),
        ),
        Example(
            before="mask = (rand(n) < keep_prob) / keep_prob\n",
            after=("mask = rand(n) < keep_prob\n",),
        ),
        Example(
            before="class Dropout:\n    def forward(self, x):\n        return x * keep / (1 - self.p)\n",
            after=("class Dropout:\n    def forward(self, x):\n        return x * keep\n",),
        ),
    ),
    counterexamples=("m = m / (1 - b1)\n", "y = x * mask / n\n", "y = odds / (1 - p)\n"),
)
def not_rescaled(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is None:
        return
    homes = [home for home in (f.function(node), f.class_(node)) if home is not None]
    about = any(mentions(home.name, "drop") for home in homes)
    masks = bool(words(sides[0]) & {"mask", "rand", "bernoulli", "kept", "random"})
    less = binary(sides[1], cst.Subtract)
    rest = less is not None and number(less[0]) == 1 and words(less[1]) & {"p", "drop", "dropout", "rate"}
    share = mentions(sides[1], "keep_prob", "keep_rate", "p_keep") or (
        about and last_name(sides[1]) == "keep"
    )
    if (rest and about) or (share and masks) or (rest and masks and mentions(node, "drop")):
        gone = retired(f, sides[1])
        if gone is not None:
            yield Proposal(edits=(reduced(f, node, sides[0]), *gone))


def is_batch_norm(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression is, or is made from, a batch normalisation."""
    if isinstance(node, cst.Call):
        return (f.qname(node.func) or "").startswith("torch.nn.BatchNorm")
    made = made_by(f, node, f.text(node))
    return made.startswith("torch.nn.BatchNorm") or bool(words(node) & {"bn", "batchnorm"})


def is_dropout(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression is, or is made from, a dropout layer."""
    if isinstance(node, cst.Call):
        return (f.qname(node.func) or "").startswith("torch.nn.Dropout")
    return made_by(f, node, f.text(node)).startswith("torch.nn.Dropout") or "drop" in last_name(node).lower()


@operator(
    "dropout-before-bn",
    cst.Call,
    cst.SimpleStatementLine,
    category="norm-regularisation",
    difficulty=4,
    symptom="Training is as expected; evaluation is a little worse than it should be.",
    hints=(
        "LOOK: compare the stored variance of a layer with the one measured in evaluation mode.",
        "WHERE: the order of the layers in `{function}`.",
        "WHAT: how does dropping units change the spread of what comes next?",
    ),
    repair="Drop units behind the normalisation.",
    mechanism=(
        "Scaling up the survivors of dropout keeps the mean of a unit and increases its variance."
        " The normalisation behind it stores the larger variance, and in evaluation, where nothing"
        " is dropped, divides by a spread that is no longer there."
    ),
    evidence=("https://arxiv.org/abs/1801.05134",),
    examples=(
        Example(
            before="from torch import nn\nn = nn.Sequential(nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))\n",
            after=(
                "from torch import nn\nn = nn.Sequential(nn.Dropout(0.2), nn.ReLU(), nn.BatchNorm1d(8))\n",
            ),
        ),
        Example(
            before="def forward(self, x):\n    return self.drop(self.bn(self.fc(x)).relu())\n",
            after=("def forward(self, x):\n    return self.bn(self.drop(self.fc(x))).relu()\n",),
        ),
        Example(
            before="x = self.bn(x)\nx = F.relu(x)\nx = self.dropout(x)\n",
            after=("x = self.dropout(x)\nx = self.bn(x)\nx = F.relu(x)\n",),
        ),
    ),
    counterexamples=(
        "from torch import nn\nn = nn.Sequential(nn.LayerNorm(8), nn.Dropout(0.2))\n",
        "from torch import nn\nn = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Dropout(0.2))\n",
        "y = self.drop(self.norm(x))\n",
    ),
)
def dropped_first(f: SourceFile, node: cst.Call | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        yield from lines_swapped(f, node)
        return
    if f.qname(node.func) == "torch.nn.Sequential":
        yield from layers_swapped(f, node)
        return
    if len(node.args) != 1 or not isinstance(node.func, cst.Attribute) or not is_dropout(f, node.func):
        return
    inner = node.args[0].value
    norm = through_activations(f, inner)
    if norm is not None and is_batch_norm(f, norm.func):
        operand = norm.args[0].value
        start, (low, high) = f.span(inner)[0], f.span(operand)
        text = f.text(inner)
        dropped = f"{f.text(node.func)}({f.text(operand)})"
        yield Proposal(edits=(f.replace(node, text[: low - start] + dropped + text[high - start :]),))


def through_activations(f: SourceFile, node: cst.BaseExpression) -> cst.Call | None:
    """The call of a layer of the model below any activation functions."""
    op = operation(f, node, *ACTIVATIONS)
    if op is not None:
        return through_activations(f, op.subject)
    return node if isinstance(node, cst.Call) and len(node.args) == 1 else None


def layers_swapped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    """The layers of a sequence, with a dropout in the place of the normalisation before it."""
    for place, arg in enumerate(node.args):
        for later in node.args[place + 1 :] if is_batch_norm(f, arg.value) else ():
            if is_dropout(f, later.value):
                yield Proposal(edits=f.swap(arg.value, later.value))
                break
            name = (f.qname(later.value.func) or "") if isinstance(later.value, cst.Call) else ""
            if name.rpartition(".")[2].lower() not in ACTIVATIONS | {"leakyrelu"}:
                break


def lines_swapped(f: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Proposal]:
    """`x = dropout(x)`, put before the `x = norm(x)` that precedes it."""
    if not is_dropout(f, layer_of(f, line) or line):
        return
    lines, place = neighbours(f, line)
    for above in reversed(lines[max(0, place - 2) : place]):
        layer = layer_of(f, above)
        if layer is None:
            return
        if is_batch_norm(f, layer):
            yield Proposal(edits=moved_before(f, line, above))
            return


def layer_of(f: SourceFile, line: cst.CSTNode) -> cst.BaseExpression | None:
    """The `layer` of a statement `x = layer(x)`."""
    pair = assigned(line)
    if pair is None or not isinstance(pair[1], cst.Call) or len(pair[1].args) != 1:
        return None
    return pair[1].func if f.text(pair[0]) == f.text(pair[1].args[0].value) else None


@operator(
    "wd-too-strong",
    cst.Arg,
    cst.AnnAssign,
    category="norm-regularisation",
    difficulty=1,
    symptom="The loss stays high, in training as in evaluation.",
    hints=(
        "LOOK: plot the norm of the weights over time.",
        "WHERE: the numbers that `{function}` begins with.",
        "WHAT: which pull on the weights is stronger: that of the loss or that of the decay?",
    ),
    repair="Use a decay that is small beside the gradients of the loss.",
    mechanism=(
        "At every step the weights lose more by the decay than the gradients give them. They settle"
        " near zero, and the model can express little more than a constant."
    ),
    evidence=(DEEP_CRIME, DEEP_CHECKER),
    examples=(
        Example(
            before="import torch\no = torch.optim.SGD(ps, lr=0.1, weight_decay=1e-3)\n",
            after=("import torch\no = torch.optim.SGD(ps, lr=0.1, weight_decay=0.5)\n",),
        ),
        Example(
            before="class Config:\n    weight_decay: float = 0.1\n",
            after=("class Config:\n    weight_decay: float = 5.0\n",),
        ),
    ),
    counterexamples=(
        "o = SGD(ps, weight_decay=0.0)\n",
        "class Config:\n    weight_decay: float = 0.0\n",
        "o = SGD(ps, weight_decay=wd)\n",
    ),
)
def too_strong(f: SourceFile, node: cst.Arg | cst.AnnAssign) -> Iterator[Proposal]:
    name = last_name(node.keyword if isinstance(node, cst.Arg) else node.target)
    rate = number(node.value)
    if name in ("weight_decay", "wd", "decay_weight") and node.value is not None and 0 < (rate or 0) <= 0.2:
        new = "0.5" if (rate or 0) < 0.05 else f"{(rate or 0) * 50:.1f}"
        yield Proposal(edits=(f.replace(node.value, new),))


@operator(
    "spectral-norm-ema",
    cst.If,
    cst.For,
    category="norm-regularisation",
    difficulty=5,
    symptom="The trained model is fine; its average answers with numbers of the wrong size.",
    hints=(
        "LOOK: print the length of every stored vector of the averaged model.",
        "WHERE: what `{function}` does with entries that are not trained.",
        "WHAT: is the average of two unit vectors a unit vector?",
    ),
    repair="Take the vectors of the power iteration over as they are.",
    mechanism=(
        "Spectral normalisation keeps a pair of unit vectors, and divides the weight by the size it"
        " measures along them. An average of such vectors is shorter than one and fits no weight, so"
        " the measured size is too small and the normalised weight too large."
    ),
    evidence=(pull("NCAR/miles-credit", 394),),
    examples=(
        Example(
            before=(
                "def update(ema, net):\n    for n, v in net.state_dict().items():\n"
                '        if n.endswith(("_u", "_v")):\n            ema[n].copy_(v)\n'
                "        else:\n            ema[n].lerp_(v, 0.1)\n"
            ),
            after=(
                "def update(ema, net):\n    for n, v in net.state_dict().items():\n"
                "        ema[n].lerp_(v, 0.1)\n",
            ),
        ),
        Example(
            before=(
                "from nn.utils import spectral_norm\ndef update(ema, net):\n"
                "    for a, b in zip(ema.parameters(), net.parameters()):\n        a.lerp_(b, 0.1)\n"
                "    for a, b in zip(ema.buffers(), net.buffers()):\n        a.copy_(b)\n"
            ),
            after=(
                "from nn.utils import spectral_norm\ndef update(ema, net):\n"
                "    for a, b in zip(ema.parameters(), net.parameters()):\n        a.lerp_(b, 0.1)\n"
                "    for a, b in zip(ema.buffers(), net.buffers()):\n        a.lerp_(b, 0.1)\n",
            ),
        ),
    ),
    counterexamples=(
        (
            "def update(ema, net):\n    for a, b in zip(ema.parameters(), net.parameters()):\n"
            "        a.lerp_(b, 0.1)\n    for a, b in zip(ema.buffers(), net.buffers()):\n"
            "        a.copy_(b)\n"
        ),
        'def show(n):\n    if n.endswith("_u"):\n        a()\n    else:\n        b()\n',
    ),
)
def averaged_vectors(f: SourceFile, node: cst.If | cst.For) -> Iterator[Proposal]:
    if not averaging(f, node):
        return
    if isinstance(node, cst.If):
        kept = only_line(node.body)
        other = only_line(node.orelse.body) if isinstance(node.orelse, cst.Else) else None
        if kept is not None and other is not None and names_vectors(node.test) and "copy_" in f.text(kept):
            yield Proposal(edits=(f.replace(node, f.text(other).strip()),))
        return
    lines, place = neighbours(f, node)
    copying = only_line(node.body)
    if "spectral_norm" not in f.source or copying is None or "copy_" not in f.text(copying):
        return
    for line in lines[:place]:
        averages = only_line(line.body) if isinstance(line, cst.For) else None
        same = isinstance(line, cst.For) and f.text(line.target) == f.text(node.target)
        if averages is not None and same and "buffers" in f.text(node.iter):
            yield Proposal(edits=(f.replace(copying, f.text(averages).strip()),))
            return


def only_line(suite: cst.BaseSuite) -> cst.SimpleStatementLine | None:
    """The statement of a suite that has no other."""
    only = suite.body[0] if len(suite.body) == 1 else None
    return only if isinstance(only, cst.SimpleStatementLine) else None


def names_vectors(test: cst.BaseExpression) -> bool:
    """Whether a condition asks for the vectors of spectral normalisation."""
    texts = [str(each.evaluated_value) for each in inside(test, cst.SimpleString)]
    return any(text.endswith(("_u", "_v")) or text in ("u", "v", ".u", ".v") for text in texts)
