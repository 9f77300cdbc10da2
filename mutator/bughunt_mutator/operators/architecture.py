"""Mistakes in what a model is made of and how its parts are connected."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    enclosing,
    in_forward,
    inside,
    names_in,
    operation,
    orphans,
)
from bughunt_mutator.operators._sources import DEEP_CRIME, TAXONOMY, issue, pull
from bughunt_mutator.source import SourceFile

ACTIVATIONS = ("relu", "gelu", "tanh", "silu", "elu", "leaky_relu", "selu")
ACTIVATION_LAYERS = frozenset(
    f"torch.nn.{name}" for name in ("ReLU", "GELU", "Tanh", "SiLU", "ELU", "LeakyReLU")
)


@operator(
    "activation-missing",
    cst.Call,
    category="architecture",
    difficulty=1,
    symptom="The model does no better than a simpler one would.",
    hints=(
        "LOOK: compare with a model of one layer less.",
        "WHERE: what stands between the layers in `{function}`.",
        "WHAT: what can two linear maps in a row do that one cannot?",
    ),
    repair="Put the nonlinearity back between the layers.",
    mechanism="Two linear layers without anything between them are one linear layer.",
    evidence=(DEEP_CRIME, TAXONOMY),
    examples=(
        Example(
            row="activation-missing",
            before="import torch.nn.functional as F\n\ndef forward(self, x):\n"
            "    return F.normalize(self.b(F.gelu(self.a(x))))\n",
            after=(
                "import torch.nn.functional as F\n\ndef forward(self, x):\n"
                "    return F.normalize(self.b(self.a(x)))\n",
            ),
        ),
        Example(
            before="from torch import nn\nnet = nn.Sequential(a, nn.Tanh(), b)\n",
            after=("from torch import nn\nnet = nn.Sequential(a, b)\n",),
        ),
    ),
    counterexamples=(
        "def forward(self, i):\n    return i.sigmoid()\n",
        "import torch.nn.functional as F\n\ndef forward(self, x):\n    return F.gelu(self.a(x))\n",
        "from torch import nn\nself.act = nn.ReLU()\n",
    ),
)
def activation_missing(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, *ACTIVATIONS)
    if op is not None and in_forward(f, node) and not isinstance(op.subject, cst.Name):
        if orphans(f, node.func):
            return
        yield Proposal(edits=(f.replace(node, f.text(op.subject)),))
    above = f.parent.get(node)
    if not isinstance(above, cst.Arg):
        return
    outer = f.parent.get(above)
    if (
        f.qname(node.func) in ACTIVATION_LAYERS
        and isinstance(outer, cst.Call)
        and f.qname(outer.func) == "torch.nn.Sequential"
    ):
        yield Proposal(edits=(f.delete_arg(outer, above),))


@operator(
    "double-activation-before-add",
    cst.BinaryOperation,
    category="architecture",
    difficulty=4,
    symptom="A deep model learns a little worse than it should.",
    hints=(
        "LOOK: print the smallest value on each side of the sum.",
        "WHERE: the sum in `{function}`.",
        "WHAT: can the branch still make a value smaller?",
    ),
    repair="Add first, then apply the nonlinearity.",
    mechanism=(
        "A branch that ends in a ReLU can only add. The stream grows from block to block, and no"
        " block can correct what an earlier one has added."
    ),
    evidence=(issue("kuangliu/pytorch-cifar", 4),),
    examples=(
        Example(
            row="double-activation-before-add",
            before=(
                "import torch.nn.functional as F\n\ndef forward(self, x):\n"
                "    return F.relu(self.norm(self.conv(x)) + self.skip(x))\n"
            ),
            after=(
                "import torch.nn.functional as F\n\ndef forward(self, x):\n"
                "    return F.relu(F.relu(self.norm(self.conv(x))) + self.skip(x))\n",
            ),
        ),
        Example(
            before="def forward(self, x):\n    h = self.f(x)\n    return (h + x).relu()\n",
            after=("def forward(self, x):\n    h = self.f(x)\n    return (h.relu() + x).relu()\n",),
        ),
    ),
    counterexamples=("def forward(self, x):\n    return x + self.f(x)\n",),
)
def double_activation(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    outer = enclosing(f, node, cst.Call)
    op = operation(f, outer, "relu")
    if sides is None or op is None or op.subject is not node or not in_forward(f, node):
        return
    branch = sides[0] if not is_shortcut(f, sides[0]) else sides[1]
    if isinstance(branch, cst.Call | cst.Name):
        text = f.text(branch)
        new = f"{f.text(op.call.func)}({text})" if op.shift else f"{text}.relu()"
        yield Proposal(edits=(f.replace(branch, new),))


def is_shortcut(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether one side of a sum is the way round: an input as it is, or through a shortcut."""
    home = enclosing(f, node, cst.FunctionDef)
    given = {param.name.value for param in home.params.params} if home is not None else set()
    if isinstance(node, cst.Name):
        return node.value in given or node.value in ("shortcut", "skip", "identity", "residual")
    words = ("shortcut", "skip", "downsample", "identity")
    return isinstance(node, cst.Call) and any(word in f.text(node.func) for word in words)


@operator(
    "residual-dropped",
    cst.BinaryOperation,
    category="architecture",
    difficulty=2,
    symptom="The model learns slower, the more so the deeper it is.",
    hints=(
        "LOOK: set all weights of one block to zero; what should come out, and what does?",
        "WHERE: what `{function}` gives back.",
        "WHAT: is there a way round the layers?",
    ),
    repair="Add the input of the block to its output.",
    mechanism=(
        "Without the way round, signals and gradients must pass through all layers. Each block has"
        " to carry on everything that later blocks need, and gradients fade with depth."
    ),
    evidence=(
        "https://github.com/lucidrains/vit-pytorch/commit/81661e3966629fd8dcf3d39839ff661ab2af19ce",
        "https://arxiv.org/abs/1512.03385",
    ),
    examples=(
        Example(
            row="residual-dropped",
            before="def forward(self, x):\n    return x + self.f(self.norm(x))\n",
            after=("def forward(self, x):\n    return self.f(self.norm(x))\n",),
        ),
        Example(
            before="def forward(self, x):\n    h = self.f(x)\n    return (h + self.skip(x)).relu()\n",
            after=("def forward(self, x):\n    h = self.f(x)\n    return h.relu()\n",),
        ),
    ),
    counterexamples=(
        "def forward(self, x):\n    return x + 1\n",
        "def f(x):\n    return x + g(x)\n",
    ),
)
def residual_dropped(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    if sides is None or not in_forward(f, node):
        return
    for way_round, branch in (sides, sides[::-1]):
        computed = isinstance(branch, cst.Call) or (
            isinstance(branch, cst.Name) and not is_shortcut(f, branch)
        )
        if is_shortcut(f, way_round) and computed and not is_shortcut(f, branch):
            yield Proposal(edits=(f.replace(node, f.text(branch)),))
            return


@operator(
    "wrong-input-var",
    cst.Call,
    category="architecture",
    difficulty=5,
    symptom="Nothing shows but a slightly worse result.",
    hints=(
        "LOOK: which parameters receive no gradient, or one from two places?",
        "WHERE: who feeds whom in `{function}`.",
        "WHAT: is each layer used exactly once?",
    ),
    repair="Use the layer that was made for this place.",
    mechanism=(
        "One of two layers of the same kind is used twice, and the other never. Shapes fit, so"
        " nothing complains; one layer serves two masters, and one stays as it was created."
    ),
    evidence=(
        issue("salesforce/decaNLP", 9),
        issue("labmlai/annotated_deep_learning_paper_implementations", 66),
    ),
    examples=(
        Example(
            row="wrong-input-var",
            before=(
                "class B:\n    def __init__(self):\n        self.n1 = Norm(8)\n"
                "        self.n2 = Norm(8)\n\n    def forward(self, x):\n"
                "        return self.g(self.n2(self.f(self.n1(x))))\n"
            ),
            after=(
                "class B:\n    def __init__(self):\n        self.n1 = Norm(8)\n"
                "        self.n2 = Norm(8)\n\n    def forward(self, x):\n"
                "        return self.g(self.n1(self.f(self.n1(x))))\n",
            ),
        ),
    ),
    counterexamples=("def forward(self, x):\n    return self.n2(self.n1(x))\n",),
)
def wrong_input(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    home = f.class_(node)
    if home is None or not in_forward(f, node) or not f.text(node.func).startswith("self."):
        return
    made: dict[str, str] = {}
    for line in inside(home, cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is not None and f.text(pair[0]).startswith("self."):
            made[f.text(pair[0])] = f.text(pair[1])
    mine = f.text(node.func)
    for other, recipe in made.items():
        if other == mine:
            return
        if made.get(mine) == recipe and "(" in recipe and "Dropout" not in recipe:
            yield Proposal(edits=(f.replace(node.func, other),))
            return


@operator(
    "shared-block-alias",
    cst.ListComp,
    cst.GeneratorExp,
    category="architecture",
    difficulty=3,
    symptom="The model behaves like a shallower one, at the same cost.",
    hints=(
        "LOOK: count the parameters, and compare with a count by hand.",
        "WHERE: how `{function}` makes its layers.",
        "WHAT: is each layer an object of its own?",
    ),
    repair="Create a new layer for each place.",
    mechanism=(
        "Multiplying a list repeats references. All places hold the same layer with the same"
        " weights; the model has the depth it should, and the parameters of one layer."
    ),
    evidence=("https://docs.python.org/3/faq/programming.html",),
    examples=(
        Example(
            row="shared-block-alias",
            before="layers = [Block(cfg) for _ in range(n)]\n",
            after=("layers = [Block(cfg)] * n\n",),
        ),
        Example(
            before="body = Sequential(*(Block(8) for _ in range(3)))\n",
            after=("body = Sequential(*([Block(8)] * 3))\n",),
        ),
    ),
    counterexamples=(
        "layers = [Block(i) for i in range(n)]\n",
        "runs = [seeds(x) for _ in range(n)]\n",
    ),
)
def shared_block(f: SourceFile, node: cst.ListComp | cst.GeneratorExp) -> Iterator[Proposal]:
    loop = node.for_in
    if not isinstance(node.elt, cst.Call) or not isinstance(loop.iter, cst.Call):
        return
    name = f.text(node.elt.func).rpartition(".")[2]
    if f.text(loop.iter.func) != "range" or len(loop.iter.args) != 1 or loop.ifs:
        return
    if name[:1].isupper() and not names_in(loop.target) & names_in(node.elt):
        repeated = f"[{f.text(node.elt)}] * {f.text(loop.iter.args[0].value)}"
        above = f.parent.get(node)
        if isinstance(above, cst.Arg) and above.star:
            repeated = f"({repeated})"
        yield Proposal(edits=(f.replace(node, repeated),))


@operator(
    "tied-weights-broken",
    cst.SimpleStatementLine,
    category="architecture",
    difficulty=4,
    symptom="The model is larger than it should be, and starts a little differently.",
    hints=(
        "LOOK: count the parameters; ask whether two of them are the same object.",
        "WHERE: what `{function}` says about which layers belong together.",
        "WHAT: should what is read and what is written share their meaning?",
    ),
    repair="Let both layers use the same weight.",
    mechanism=(
        "Both layers have weights of their own. The input side is trained only by tokens that are"
        " read, the output side by those that are predicted, and neither helps the other."
    ),
    evidence=(pull("karpathy/nanoGPT", 21),),
    examples=(
        Example(
            row="tied-weights-broken",
            before="self.a = 1\nself.head.weight = self.token.weight\n",
            after=("self.a = 1\n",),
        ),
    ),
    counterexamples=("w = self.token.weight\n", "self.head.weight = start\n"),
)
def tied_weights(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    if (
        pair is not None
        and all(f.text(side).endswith(".weight") for side in pair)
        and isinstance(pair[0], cst.Attribute)
        and not orphans(f, node)
    ):
        yield Proposal(edits=(f.delete_statement(node),))
