"""Mistakes in the layers of a model: swapped, doubled, left out, too narrow, without a bias."""

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
    last_name,
    loop_of,
    mentions,
    names_in,
    number,
    operation,
)
from bughunt_mutator.operators._look_models import appended, atom, layer, sources, words
from bughunt_mutator.operators._sources import DEEP_CRIME, RL_MUTANTS, TAXONOMY
from bughunt_mutator.operators.architecture import is_shortcut
from bughunt_mutator.source import SourceFile

MUTATION = "https://arxiv.org/abs/1805.05206"
SMOOTH = ("relu", "gelu", "silu", "elu", "leaky_relu", "selu")
SMOOTH_LAYERS = frozenset({"ReLU", "GELU", "SiLU", "ELU", "LeakyReLU", "SELU", "Tanh"})
WEIGHTED = frozenset({"Linear", "Conv1d", "Conv2d", "Conv3d"})
LAST = frozenset({"head", "out", "output", "final", "classifier", "fc", "readout", "last", "score"})


@operator(
    "activation-swap",
    cst.Call,
    category="architecture",
    difficulty=1,
    symptom="Learning is slow, the more so the more layers there are.",
    hints=(
        "LOOK: print the gradient norm of each layer; how does it change from the last to the first?",
        "WHERE: the nonlinearity in `{function}`.",
        "WHAT: how steep is it at its steepest?",
    ),
    repair="Use the nonlinearity that the model was designed with.",
    mechanism=(
        "A sigmoid has a slope of at most a quarter and is flat on both sides. Every layer shrinks"
        " the gradient at least fourfold, and since all outputs are positive, the inputs of the"
        " next layer are off centre too."
    ),
    evidence=(DEEP_CRIME, RL_MUTANTS),
    examples=(
        Example(
            row="activation-swap",
            before="import torch.nn.functional as F\n\ndef forward(self, x):\n"
            "    return self.b(F.relu(self.a(x)))\n",
            after=(
                "import torch.nn.functional as F\n\ndef forward(self, x):\n"
                "    return self.b(F.sigmoid(self.a(x)))\n",
            ),
        ),
        Example(
            before="from torch import nn\nnet = nn.Sequential(a, nn.LeakyReLU(0.1), b)\n",
            after=("from torch import nn\nnet = nn.Sequential(a, nn.Sigmoid(), b)\n",),
        ),
        Example(before="h = (x @ w).relu()\n", after=("h = (x @ w).sigmoid()\n",)),
        Example(
            before="import numpy as np\nh = np.maximum(x @ w, 0)\n",
            after=("import numpy as np\nh = 1 / (1 + np.exp(-(x @ w)))\n",),
        ),
    ),
    counterexamples=(
        "y = x.tanh()\n",
        "import numpy as np\nm = np.maximum(a, b)\n",
        "import numpy as np\nd = np.maximum(s - 2 * x @ c.T, 0)\n",
        "y = relu(x)\n",
    ),
)
def activation_swap(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if layer(f, node) in SMOOTH_LAYERS:
        whole = f.text(node.func).removesuffix(layer(f, node)) + "Sigmoid()"
        if not isinstance(node.func, cst.Name):
            yield Proposal(edits=(f.replace(node, whole),))
        return
    op = operation(f, node, *SMOOTH)
    if op is not None and isinstance(node.func, cst.Attribute):
        new = f"{f.text(node.func.value)}.sigmoid({f.text(op.subject) if op.shift else ''})"
        yield Proposal(edits=(f.replace(node, new),))
    elif f.qname(node.func) == "numpy.maximum" and len(node.args) == 2:
        zero, x = sorted((each.value for each in node.args), key=lambda each: number(each) != 0)
        if number(zero) == 0 and isinstance(node.func, cst.Attribute) and is_weighted_sum(f, x):
            new = f"1 / (1 + {f.text(node.func.value)}.exp(-{atom(f, x)}))"
            yield Proposal(edits=(f.replace(node, new),))


def is_weighted_sum(f: SourceFile, x: cst.BaseExpression) -> bool:
    """Whether a value is what a layer has computed, or is passed to a function named after ReLU."""
    home = f.function(x)
    if home is not None and isinstance(x, cst.Name) and "relu" in home.name.value.lower():
        return True
    origins = (x, *sources(f, x))
    return any(
        isinstance(each, cst.BinaryOperation)
        and isinstance(each.operator, cst.MatrixMultiply | cst.Add)
        and any(isinstance(part.operator, cst.MatrixMultiply) for part in inside(each, cst.BinaryOperation))
        for each in origins
    )


@operator(
    "output-activation",
    cst.Return,
    cst.Call,
    category="architecture",
    difficulty=2,
    symptom="The loss stops early; a whole part of the possible answers never comes up.",
    hints=(
        "LOOK: print the smallest and the largest output of the model.",
        "WHERE: the very last step of `{function}`.",
        "WHAT: which answers can the model still give?",
    ),
    repair="Leave the outputs of the last layer as they are.",
    mechanism=(
        "A nonlinearity behind the last layer cuts the range of the answers. After a ReLU nothing"
        " is negative, and an output that was pushed below zero has no gradient left to come back."
    ),
    evidence=("https://stackoverflow.com/questions/48251943", DEEP_CRIME),
    examples=(
        Example(
            row="output-activation",
            before="def forward(self, x):\n    h = self.body(x)\n    return self.head(h)\n",
            after=("def forward(self, x):\n    h = self.body(x)\n    return self.head(h).relu()\n",),
        ),
        Example(
            before="from torch import nn\nnet = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))\n",
            after=(
                "from torch import nn\n"
                "net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1), nn.ReLU())\n",
            ),
        ),
    ),
    counterexamples=(
        "def forward(self, x):\n    return self.body(x)\n",
        "def predict(self, x):\n    return self.head(x)\n",
        "from torch import nn\nnet = nn.Sequential(nn.Linear(2, 8), nn.ReLU())\n",
    ),
)
def output_activation(f: SourceFile, node: cst.Return | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Return):
        call = node.value
        if in_forward(f, node) and isinstance(call, cst.Call) and is_last_layer(f, call.func):
            yield Proposal(edits=(f.replace(call, f"{f.text(call)}.relu()"),))
    elif layer(f, node) == "Sequential" and len(node.args) > 2:
        kinds = [layer(f, each.value) for each in node.args]
        if kinds[-1] == "Linear" and set(kinds) & SMOOTH_LAYERS:
            make = f.text(node.func).removesuffix("Sequential")
            if make:
                yield Proposal(edits=(appended(f, node, f"{make}ReLU()"),))


def is_last_layer(f: SourceFile, func: cst.BaseExpression) -> bool:
    """Whether what is called is the layer that gives the answers."""
    own = isinstance(func, cst.Attribute) and f.text(func.value) == "self"
    return own and bool(words(last_name(func)) & LAST)


@operator(
    "residual-doubled",
    cst.BinaryOperation,
    cst.AugAssign,
    category="architecture",
    difficulty=2,
    symptom="The loss starts high or blows up, the more so the deeper the model.",
    hints=(
        "LOOK: print the spread of the stream after each block of a fresh model.",
        "WHERE: the sum in `{function}`.",
        "WHAT: by which factor does one block enlarge what merely passes by?",
    ),
    repair="Add the input of the block once.",
    mechanism=(
        "The way round counts twice, so the stream doubles in every block: 2 to the power of the"
        " depth at the end. What a block adds is soon too small to be noticed beside it."
    ),
    examples=(
        Example(
            row="residual-doubled",
            before="def forward(self, x):\n    return x + self.f(self.norm(x))\n",
            after=("def forward(self, x):\n    return x + x + self.f(self.norm(x))\n",),
        ),
        Example(
            before="def forward(self, x):\n    h = self.f(x)\n    return (h + self.skip(x)).relu()\n",
            after=(
                "def forward(self, x):\n    h = self.f(x)\n"
                "    return (h + self.skip(x) + self.skip(x)).relu()\n",
            ),
        ),
        Example(
            before="def forward(self, x):\n    x += self.f(x)\n    return x\n",
            after=("def forward(self, x):\n    x += x + self.f(x)\n    return x\n",),
        ),
    ),
    counterexamples=(
        "def forward(self, x):\n    return x + 1\n",
        "def forward(self, s, mask):\n    w = self.f(s)\n    return w + mask\n",
        "y = x + f(x)\n",
    ),
)
def residual_doubled(f: SourceFile, node: cst.BinaryOperation | cst.AugAssign) -> Iterator[Proposal]:
    if not in_forward(f, node):
        return
    if isinstance(node, cst.AugAssign):
        adds = isinstance(node.operator, cst.AddAssign) and is_shortcut(f, node.target)
        if adds and isinstance(node.value, cst.Call) and f.text(node.value.func).startswith("self."):
            new = f"{f.text(node.target)} + {f.text(node.value)}"
            yield Proposal(edits=(f.replace(node.value, new),))
        return
    sides = binary(node, cst.Add)
    if sides is None or enclosing(f, node, cst.Subscript) or mentions(node, "mask", "pos", "detach"):
        return
    for way_round, branch in (sides, sides[::-1]):
        computed = isinstance(branch, cst.Call) or (
            isinstance(branch, cst.Name) and not is_shortcut(f, branch)
        )
        if goes_round(f, node, way_round, branch) and computed and not is_shortcut(f, branch):
            twice = [f.text(each) for side in sides for each in (side, side)[: 1 + (side is way_round)]]
            yield Proposal(edits=(f.replace(node, " + ".join(twice)),))
            return


def goes_round(f: SourceFile, node: cst.CSTNode, side: cst.CSTNode, branch: cst.CSTNode) -> bool:
    """Whether one side of a sum is the value that the other side was computed from."""
    pair = assigned(f.statement(node))
    updated = pair is not None and isinstance(side, cst.Name) and f.text(pair[0]) == side.value
    return is_shortcut(f, side) or (updated and f.text(side) in names_in(branch))


def made_in_a_row(f: SourceFile, node: cst.CSTNode) -> cst.BaseExpression | None:
    """How many layers a comprehension makes."""
    if not isinstance(node, cst.ListComp | cst.GeneratorExp) or not isinstance(node.elt, cst.Call):
        return None
    loop = node.for_in
    counted = isinstance(loop.iter, cst.Call) and f.text(loop.iter.func) == "range"
    if counted and isinstance(loop.iter, cst.Call) and len(loop.iter.args) == 1 and not loop.ifs:
        return loop.iter.args[0].value if last_name(node.elt.func)[:1].isupper() else None
    return None


def is_square(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a layer gives as many numbers as it takes."""
    if layer(f, node) not in WEIGHTED or not isinstance(node, cst.Call) or len(node.args) < 2:
        return False
    return f.text(node.args[0].value) == f.text(node.args[1].value)


@operator(
    "layer-removed",
    cst.ListComp,
    cst.GeneratorExp,
    cst.For,
    cst.Call,
    category="architecture",
    difficulty=2,
    symptom="The model stops a little short of what one of its size should reach.",
    hints=(
        "LOOK: print the output shape of every layer while one batch passes through.",
        "WHERE: how many layers `{function}` passes through.",
        "WHAT: is it the number that was asked for?",
    ),
    repair="Use all layers.",
    mechanism=(
        "One layer fewer is made, or one is made and never used. What is left still learns, just"
        " less; on an easy task the difference is smaller than that between two seeds."
    ),
    evidence=(MUTATION, TAXONOMY),
    examples=(
        Example(
            row="layer-removed",
            before="self.blocks = ModuleList([Block(cfg) for _ in range(cfg.layers)])\n",
            after=("self.blocks = ModuleList([Block(cfg) for _ in range(cfg.layers - 1)])\n",),
        ),
        Example(
            before="def forward(self, x):\n    for block in self.blocks:\n        x = block(x)\n"
            "    return x\n",
            after=(
                "def forward(self, x):\n    for block in self.blocks[:-1]:\n        x = block(x)\n"
                "    return x\n",
            ),
        ),
        Example(
            before="from torch import nn\n"
            "net = nn.Sequential(nn.Linear(3, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 2))\n",
            after=(
                "from torch import nn\nnet = nn.Sequential(nn.Linear(3, n), nn.ReLU(), nn.Linear(n, 2))\n",
            ),
        ),
    ),
    counterexamples=(
        "rows = [f(i) for i in range(n)]\n",
        "for block in self.blocks:\n    print(block)\n",
        "from torch import nn\nnet = nn.Sequential(nn.Linear(3, n), nn.ReLU())\n",
    ),
)
def layer_removed(
    f: SourceFile, node: cst.ListComp | cst.GeneratorExp | cst.For | cst.Call
) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        if layer(f, node) == "Sequential":
            yield from shortened(f, node)
        return
    if isinstance(node, cst.For):
        if in_forward(f, node) and passes_through(f, node):
            yield Proposal(edits=(f.replace(node.iter, f"{f.text(node.iter)}[:-1]"),))
        return
    count = made_in_a_row(f, node)
    if count is not None and number(count) != 1:
        exact = number(count)
        new = f"{f.text(count)} - 1" if exact is None else str(int(exact) - 1)
        yield Proposal(edits=(f.replace(count, new),))


def passes_through(f: SourceFile, node: cst.For) -> bool:
    """Whether a loop sends a value through layers of its module, one after the other."""
    own = isinstance(node.iter, cst.Attribute) and f.text(node.iter).startswith("self.")
    return own and isinstance(node.target, cst.Name) and any(chained(f, node))


def chained(f: SourceFile, node: cst.For) -> Iterator[cst.Call]:
    """The calls `x = block(x, ...)` of a loop over blocks."""
    for line in inside(node.body, cst.SimpleStatementLine):
        pair = assigned(line)
        call = pair[1] if pair is not None else None
        if pair is None or not isinstance(call, cst.Call) or not call.args:
            continue
        layer_ = isinstance(call.func, cst.Name) and f.text(call.func) == f.text(node.target)
        if layer_ and f.text(call.args[0].value) == f.text(pair[0]):
            yield call


def shortened(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    """A chain without one square layer and the nonlinearity behind it."""
    kinds = [layer(f, each.value) for each in node.args]
    for place in range(1, len(node.args) - 1):
        one, other = node.args[place : place + 2]
        if is_square(f, one.value) and kinds[place + 1] in SMOOTH_LAYERS and node.args[-1] is not other:
            start, end = f.span(one)[0], f.span(node.args[place + 2])[0]
            yield Proposal(edits=(f.edit(start, end, ""),))


@operator(
    "layer-duplicated",
    cst.Call,
    category="architecture",
    difficulty=4,
    symptom="The model is slower than it should be and learns no better, or a little worse.",
    hints=(
        "LOOK: count how often each layer is called while one batch passes through.",
        "WHERE: the way through the layers in `{function}`.",
        "WHAT: is each layer used exactly once?",
    ),
    repair="Apply each layer once.",
    mechanism=(
        "Every block is applied twice with the same weights. It must be right as its own input and"
        " as its own output, which ties its hands, and gradients of both passes are added up."
    ),
    evidence=(MUTATION,),
    examples=(
        Example(
            row="layer-duplicated",
            before="def forward(self, x):\n    for block in self.blocks:\n        x = block(x)\n"
            "    return x\n",
            after=(
                "def forward(self, x):\n    for block in self.blocks:\n        x = block(block(x))\n"
                "    return x\n",
            ),
        ),
        Example(
            before="from torch import nn\n\nclass N:\n    def __init__(self):\n"
            "        self.b = nn.Linear(8, 8)\n\n"
            "    def forward(self, x):\n        return self.b(x).relu()\n",
            after=(
                "from torch import nn\n\nclass N:\n    def __init__(self):\n"
                "        self.b = nn.Linear(8, 8)\n\n"
                "    def forward(self, x):\n        return self.b(self.b(x)).relu()\n",
            ),
        ),
    ),
    counterexamples=(
        "for f in stages:\n    x = f(x)\n",
        "def forward(self, x):\n    return self.b(x)\n",
    ),
)
def layer_duplicated(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if not in_forward(f, node) or not node.args:
        return
    loop = loop_of(f, node)
    again = isinstance(loop, cst.For) and passes_through(f, loop) and node in tuple(chained(f, loop))
    if again or (len(node.args) == 1 and is_square_layer(f, node.func)):
        inner = node.args[0].value
        new = f"{f.text(node.func)}({f.text(inner)}{f.text(node)[len_until(f, node, inner) :]}"
        yield Proposal(edits=(f.replace(inner, new),))


def len_until(f: SourceFile, node: cst.Call, inner: cst.BaseExpression) -> int:
    """Where in the text of a call what follows its first argument begins."""
    return f.span(inner)[1] - f.span(node)[0]


def is_square_layer(f: SourceFile, func: cst.BaseExpression) -> bool:
    """Whether an attribute of `self` was made as a square layer."""
    home = f.class_(func)
    if home is None or not f.text(func).startswith("self."):
        return False
    return any(
        pair is not None and f.text(pair[0]) == f.text(func) and is_square(f, pair[1])
        for line in inside(home, cst.SimpleStatementLine)
        for pair in (assigned(line),)
    )
