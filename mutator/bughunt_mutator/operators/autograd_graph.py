"""Mistakes in what the backward pass reaches: cut, frozen, replaced, overwritten or kept too long."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    binary,
    function_of,
    in_forward,
    inside,
    last_name,
    loop_of,
    mentions,
    names_in,
    number,
    operation,
)
from bughunt_mutator.operators._look_meaning import tidy
from bughunt_mutator.operators._look_models import is_boolean, layer, put, rounds_by_hand, words
from bughunt_mutator.operators._sources import DEEP_CHECKER, TAXONOMY, issue, pull
from bughunt_mutator.operators.architecture import is_shortcut
from bughunt_mutator.operators.autograd import guarded
from bughunt_mutator.source import SourceFile

PENALTIES = ("loss", "penal", "reg", "decay", "lam", "l1", "l2", "ridge")
ARITHMETIC: dict[type[cst.BaseBinaryOp], str] = {cst.Add: "+=", cst.Subtract: "-=", cst.Multiply: "*="}
DISTANCES = ("mse_loss", "smooth_l1_loss", "l1_loss", "cosine_similarity", "huber_loss")


@operator(
    "reg-term-data",
    cst.Call,
    cst.BinaryOperation,
    category="autograd",
    difficulty=4,
    symptom="Training fits better than it should, held-out results are worse; weights grow freely.",
    hints=(
        "LOOK: take the gradient of the penalty alone.",
        "WHERE: what the penalty in `{function}` is computed from.",
        "WHAT: does the backward pass know that these numbers are the weights?",
    ),
    repair="Compute the penalty from the parameters themselves.",
    mechanism=(
        "`.data` is the same numbers without their history. The penalty has the right value, so the"
        " printed loss is right, but it is a constant for the backward pass and pulls at nothing."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="reg-term-data",
            before="loss = fit + lam * sum(p.pow(2).sum() for p in net.parameters())\n",
            after=("loss = fit + lam * sum(p.data.pow(2).sum() for p in net.parameters())\n",),
        ),
        Example(
            before="def penalty(layer):\n    return (layer.weight**2).sum()\n",
            after=("def penalty(layer):\n    return (layer.weight.data**2).sum()\n",),
        ),
        Example(
            before="def loss(net, x):\n    return fit + c * net.embed(x).pow(2).sum()\n",
            after=("def loss(net, x):\n    return fit + c * net.embed(x).data.pow(2).sum()\n",),
        ),
        Example(
            before="loss = fit + lam * net.head.weight.abs().sum()\n",
            after=("loss = fit + lam * net.head.weight.data.abs().sum()\n",),
        ),
    ),
    counterexamples=(
        "size = sum(p.pow(2).sum() for p in net.parameters())\n",
        "loss = (x - y).pow(2).sum()\n",
        "loss = model(x).pow(2).sum()\n",
        "norm = sum(p.grad.pow(2).sum() for p in net.parameters()) + lam\n",
    ),
)
def reg_term_data(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    op = operation(f, node, "pow", "square", "abs", "norm")
    power = binary(node, cst.Power)
    weight = op.subject if op is not None else power[0] if power is not None else None
    known = isinstance(weight, cst.Name | cst.Attribute | cst.Call) and is_weight(f, weight)
    if known and weight is not None and in_penalty(f, node):
        yield Proposal(edits=(f.replace(weight, f"{f.text(weight)}.data"),))


def is_weight(f: SourceFile, node: cst.Name | cst.Attribute | cst.Call) -> bool:
    """Whether an expression is a parameter: a weight by name, rows of a table, or one of `parameters()`."""
    if isinstance(node, cst.Call):
        return last_name(node.func) in ("embed", "embedding", "embeddings")
    if isinstance(node, cst.Attribute):
        return node.attr.value == "weight"
    for above in ancestors(f, node):
        loop = above.for_in if isinstance(above, cst.GeneratorExp | cst.ListComp) else above
        if isinstance(loop, cst.CompFor | cst.For) and node.value in names_in(loop.target):
            return "parameters()" in f.text(loop.iter)
    return False


def in_penalty(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a value becomes part of what is minimised."""
    home = f.function(node)
    line = f.statement(node)
    return mentions(line, *PENALTIES) or (home is not None and mentions(home.name, *PENALTIES))


@operator(
    "inplace-relu-shortcut",
    cst.Call,
    category="autograd",
    difficulty=5,
    symptom="A deep model learns a little worse than it should, or stops in the backward pass.",
    hints=(
        "LOOK: compare the input of a block before and after the block has run.",
        "WHERE: the first nonlinearity of `{function}`.",
        "WHAT: who else still needs the values that it overwrites?",
    ),
    repair="Let the nonlinearity write to a tensor of its own.",
    mechanism=(
        "The nonlinearity overwrites its input, and the way round the layers is that very input."
        " The sum then adds a clipped copy instead of the original, unless the backward pass finds"
        " out that something it needs has changed."
    ),
    evidence=(
        issue("rosinality/vq-vae-2-pytorch", 60),
        pull("iduta/iresnet", 2),
        issue("pytorch/pytorch", 5687),
    ),
    examples=(
        Example(
            row="inplace-relu-shortcut",
            before="from torch import nn\n\nclass B:\n    def __init__(self):\n"
            "        self.f = nn.Sequential(nn.ReLU(), nn.Linear(4, 4))\n\n"
            "    def forward(self, x):\n        return x + self.f(x)\n",
            after=(
                "from torch import nn\n\nclass B:\n    def __init__(self):\n"
                "        self.f = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4))\n\n"
                "    def forward(self, x):\n        return x + self.f(x)\n",
            ),
        ),
        Example(
            before="import torch.nn.functional as F\n\ndef forward(self, x):\n    h = self.a(F.relu(x))\n"
            "    return h + x\n",
            after=(
                "import torch.nn.functional as F\n\ndef forward(self, x):\n"
                "    h = self.a(F.relu(x, inplace=True))\n"
                "    return h + x\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch import nn\nself.f = nn.Sequential(nn.ReLU(), nn.Linear(4, 4))\n",
        "def forward(self, x):\n    return self.a(x.relu())\n",
    ),
)
def inplace_relu(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if layer(f, node) == "ReLU" and not node.args:
        if adds_input(f, node):
            yield Proposal(edits=(f.insert_arg(node, "inplace=True"),))
        return
    op = operation(f, node, "relu")
    if op is None or not in_forward(f, node) or not isinstance(op.subject, cst.Name):
        return
    if not is_added_later(f, node, op.subject.value):
        return
    if op.shift and (f.qname(node.func) or "").startswith("torch.nn.functional"):
        yield Proposal(edits=(f.insert_arg(node, "inplace=True"),))
    elif not op.shift:
        yield Proposal(edits=(f.replace(node, f"{op.subject.value}.relu_()"),))


def adds_input(f: SourceFile, node: cst.Call) -> bool:
    """Whether a layer begins a branch whose result is added to the input of its module."""
    home, pair = f.class_(node), assigned(f.statement(node))
    above = f.parent.get(node)
    chain = f.parent.get(above) if isinstance(above, cst.Arg) else None
    if chain is not None and not (isinstance(chain, cst.Call) and chain.args[0] is above):
        return False
    if home is None or pair is None:
        return False
    branch = f.text(pair[0])
    for sum_ in inside(home, cst.BinaryOperation):
        sides = binary(sum_, cst.Add)
        for way_round, other in (sides, sides[::-1]) if sides is not None else ():
            called_on = f"{branch}({f.text(way_round)})"
            if isinstance(way_round, cst.Name) and called_on in f.text(other):
                return True
    return False


def is_added_later(f: SourceFile, node: cst.Call, name: str) -> bool:
    """Whether a value is still needed, as the way round, after a call has read it."""
    return any(
        name in (f.text(side), f.text(side).rpartition("(")[2].rstrip(")"))
        and (isinstance(side, cst.Name) or is_shortcut(f, side))
        and f.span(sum_)[1] > f.span(node)[1]
        for sum_ in inside(function_of(f, node), cst.BinaryOperation)
        for side in binary(sum_, cst.Add) or ()
    )


@operator(
    "inplace-add-breaks-grad",
    cst.SimpleStatementLine,
    category="autograd",
    difficulty=2,
    symptom="The backward pass stops with an error, or the caller's tensor has changed.",
    hints=(
        "LOOK: read in the error which operation's result was modified, and by what.",
        "WHERE: the lines of `{function}` that change a tensor instead of making a new one.",
        "WHAT: who else holds on to the old values?",
    ),
    repair="Make a new tensor for the result.",
    mechanism=(
        "The backward pass of some operations needs their results, and keeps them. Overwriting such"
        " a tensor is noticed by its version counter; where nobody keeps it, the change goes"
        " through, and whoever passed the tensor in finds it altered."
    ),
    evidence=(issue("osmr/imgclsmob", 13),),
    examples=(
        Example(
            row="inplace-add-breaks-grad",
            before="def forward(self, x):\n    h = self.a(x).sigmoid()\n    h = h + self.b(x)\n"
            "    return h\n",
            after=("def forward(self, x):\n    h = self.a(x).sigmoid()\n    h += self.b(x)\n    return h\n",),
        ),
        Example(
            before="def forward(self, x):\n    x = x * self.gain\n    return x\n",
            after=("def forward(self, x):\n    x *= self.gain\n    return x\n",),
        ),
    ),
    counterexamples=(
        "def forward(self, x):\n    n = n + 1\n    return x\n",
        "def step(x):\n    x = x + b\n",
        "def forward(self, x):\n    x = b + x\n    return x\n",
    ),
)
def inplace_add(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    if pair is None or not in_forward(f, node):
        return
    target, sum_ = pair
    if not isinstance(sum_, cst.BinaryOperation):
        return
    sign = ARITHMETIC.get(type(sum_.operator))
    if sign is None or f.text(sum_.left) != f.text(target) or sum_.lpar:
        return
    if isinstance(target, cst.Name) and number(sum_.right) is None:
        new = f.text(sum_.right)
        yield Proposal(edits=(f.replace(node, f"{target.value} {sign} {new}"),))


@operator(
    "ste-removed",
    cst.BinaryOperation,
    cst.Return,
    category="autograd",
    difficulty=3,
    symptom="The part of the model before the rounding stays as it was created.",
    hints=(
        "LOOK: list the gradient norm of every parameter after one backward pass.",
        "WHERE: the step of `{function}` that has no useful derivative.",
        "WHAT: what is the slope of a staircase?",
    ),
    repair="Pass the rounded values forward and the gradient straight through.",
    mechanism=(
        "Rounding and nearest-neighbour search are flat almost everywhere, so their derivative is"
        " zero. A trick lets the gradient through: adding the rounding error as a constant, or a"
        " backward pass of one's own. Without it the outputs are the same, and the gradient stops."
    ),
    evidence=(pull("pytorch/ao", 4806), issue("Oneflow-Inc/oneflow", 8649)),
    examples=(
        Example(
            row="ste-removed",
            before="def f(x):\n    q = x.round()\n    return x + (q - x).detach()\n",
            after=("def f(x):\n    q = x.round()\n    return q\n",),
        ),
        Example(before="y = x - (x - near(x)).detach()\n", after=("y = near(x)\n",)),
        Example(before="q = near(x)\nq = x + (q - x).detach()\n", after=("q = near(x)\n",)),
        Example(before="y = hard.detach() + soft - soft.detach()\n", after=("y = hard.detach()\n",)),
        Example(
            before=(
                "import torch\n\nclass Near(torch.autograd.Function):\n    def forward(ctx, x):\n"
                "        return x.round()\n\n    def backward(ctx, g):\n"
                "        (inside,) = ctx.saved_tensors\n        return g * inside, None\n"
            ),
            after=(
                "import torch\n\nclass Near(torch.autograd.Function):\n    def forward(ctx, x):\n"
                "        return x.round()\n\n    def backward(ctx, g):\n"
                "        return torch.zeros_like(g), None\n",
            ),
        ),
    ),
    counterexamples=(
        "y = x + (q - z).detach()\n",
        "y = x + q.detach()\n",
        "import torch\n\nclass Bend(torch.autograd.Function):\n    def forward(ctx, x):\n"
        "        return x.relu()\n\n    def backward(ctx, g):\n        return g\n",
    ),
)
def ste_removed(f: SourceFile, node: cst.BinaryOperation | cst.Return) -> Iterator[Proposal]:
    if isinstance(node, cst.Return):
        yield from staircase(f, node)
        return
    sides = binary(node, cst.Add, cst.Subtract)
    if sides is None:
        return
    x, cut = f.text(sides[0]), operation(f, sides[1], "detach")
    difference = binary(cut.subject, cst.Subtract) if cut is not None else None
    if difference is not None:
        added = isinstance(node.operator, cst.Add)
        rounded, same = difference if added else difference[::-1]
        if f.text(same) == x:
            yield Proposal(edits=(put(f, node, f.text(rounded)),))
    elif cut is not None and isinstance(node.operator, cst.Subtract):
        terms = binary(sides[0], cst.Add)
        if terms is not None and f.text(cut.subject) in (f.text(each) for each in terms):
            stays = next(each for each in terms if f.text(each) != f.text(cut.subject))
            yield Proposal(edits=(put(f, node, f.text(stays)),))


def staircase(f: SourceFile, node: cst.Return) -> Iterator[Proposal]:
    """The derivative that a rounding really has, in the place of the one that it was given."""
    home, value = f.function(node), node.value
    passed = value.elements[0].value if isinstance(value, cst.Tuple) else value
    zeros = f.spelling("torch.zeros_like")
    if home is None or home.name.value != "backward" or not rounds_by_hand(f.class_(node)):
        return
    if zeros is None or passed is None or len(home.params.params) != 2:
        return
    lines = tidy(f, passed)
    if lines is not None:
        yield Proposal(edits=(*lines, f.replace(passed, f"{zeros}({home.params.params[1].name.value})")))


@operator(
    "stopgrad-wrong-side",
    cst.Call,
    cst.BinaryOperation,
    category="autograd",
    difficulty=5,
    symptom="The loss falls as usual; one side drifts, or both meet where nothing is said.",
    hints=(
        "LOOK: take the gradient of this term alone; which parameters does it reach?",
        "WHERE: where `{function}` cuts the graph.",
        "WHAT: which of the two is meant to move towards the other?",
    ),
    repair="Cut the side that is meant to stay where it is.",
    mechanism=(
        "The value of a distance is the same whichever side is cut, and so is the printed loss. But"
        " the gradient goes to the other side: what should be a fixed target now runs after what"
        " should be trained."
    ),
    examples=(
        Example(
            row="stopgrad-wrong-side",
            before="import torch.nn.functional as F\nloss = F.mse_loss(z, e.detach())\n",
            after=("import torch.nn.functional as F\nloss = F.mse_loss(z.detach(), e)\n",),
        ),
        Example(
            before="commit = (z.detach() - e).pow(2).mean()\n",
            after=("commit = (z - e.detach()).pow(2).mean()\n",),
        ),
    ),
    counterexamples=("y = (a - b.detach())\n", "import torch.nn.functional as F\nd = F.mse_loss(a, b)\n"),
)
def stopgrad_side(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        if last_name(node.func) not in DISTANCES or len(node.args) < 2:
            return
        sides = [node.args[0].value, node.args[1].value]
    else:
        difference = binary(node, cst.Subtract)
        if difference is None or not is_squared(f, node):
            return
        sides = list(difference)
    cuts = [operation(f, each, "detach") for each in sides]
    if (cuts[0] is None) == (cuts[1] is None):
        return
    edits = []
    for side, cut in zip(sides, cuts, strict=True):
        new = f.text(cut.subject) if cut is not None else f"{guarded(f, side)}.detach()"
        edits.append(f.replace(side, new))
    yield Proposal(edits=tuple(edits))


def is_squared(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a difference is squared, or its size taken, at once."""
    above = f.parent.get(node)
    if isinstance(above, cst.Attribute):
        return above.attr.value in ("pow", "square", "abs", "norm")
    return isinstance(above, cst.BinaryOperation) and isinstance(above.operator, cst.Power)


@operator(
    "custom-backward-sign",
    cst.Return,
    cst.AugAssign,
    category="autograd",
    difficulty=3,
    symptom="The loss does not come down, or one layer works against the others.",
    hints=(
        "LOOK: compare the gradient with finite differences on a tiny input.",
        "WHERE: the hand-written derivative in `{function}`.",
        "WHAT: does the output rise or fall when the input rises a little?",
    ),
    repair="Return the derivative of what the forward pass computes.",
    mechanism=(
        "Nobody checks that a hand-written backward pass fits its forward pass. With the sign turned,"
        " or with the mask turned round, every parameter behind it climbs instead of descending, or"
        " learns from exactly the inputs that had no effect."
    ),
    evidence=(TAXONOMY, DEEP_CHECKER),
    examples=(
        Example(
            row="custom-backward-sign",
            before="def backward(ctx, grad):\n    inside = ctx.inside\n    return grad * inside, None\n",
            after=(
                "def backward(ctx, grad):\n    inside = ctx.inside\n    return -grad * inside, None\n",
                "def backward(ctx, grad):\n    inside = ctx.inside\n    return grad * (1 - inside), None\n",
            ),
        ),
        Example(
            before="def relu_backward(grad, x):\n    return grad * (x > 0)\n",
            after=(
                "def relu_backward(grad, x):\n    return -grad * (x > 0)\n",
                "def relu_backward(grad, x):\n    return grad * ~(x > 0)\n",
            ),
        ),
        Example(
            before="def backward():\n    self.grad += out.grad * other.data\n",
            after=("def backward():\n    self.grad -= out.grad * other.data\n",),
        ),
    ),
    counterexamples=("def forward(ctx, x):\n    return x * 2\n", "def backward(self):\n    return None\n"),
)
def custom_backward(f: SourceFile, node: cst.Return | cst.AugAssign) -> Iterator[Proposal]:
    home = f.function(node)
    if home is None or "backward" not in words(home.name.value):
        return
    if isinstance(node, cst.AugAssign):
        if isinstance(node.operator, cst.AddAssign) and "grad" in words(f.text(node.target)):
            line = f"{f.text(node.target)} -= {f.text(node.value)}"
            yield Proposal(edits=(f.replace(node, line),))
        return
    value = node.value.elements[0].value if isinstance(node.value, cst.Tuple) else node.value
    if isinstance(value, cst.BinaryOperation | cst.Call | cst.Name) and mentions(
        value, "grad", "upstream", "dout", "dy"
    ):
        yield Proposal(edits=(f.replace(value, negative(f, value)),))
        yield from other_side(f, value)


def negative(f: SourceFile, node: cst.BaseExpression) -> str:
    """The expression with its sign turned."""
    tight = isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply | cst.Divide)
    return f"-{f.text(node)}" if tight and not node.lpar else f"-{guarded(f, node)}"


def other_side(f: SourceFile, value: cst.BaseExpression) -> Iterator[Proposal]:
    """The gradient of exactly the inputs that had no effect."""
    sides = binary(value, cst.Multiply)
    mask = sides[1] if sides is not None else None
    if isinstance(mask, cst.Comparison) or (isinstance(mask, cst.Name) and is_boolean(f, mask)):
        yield Proposal(edits=(f.replace(mask, f"~{guarded(f, mask)}"),))
    elif isinstance(mask, cst.Name) and words(mask.value) & {"mask", "inside", "alive", "keep", "active"}:
        yield Proposal(edits=(f.replace(mask, f"(1 - {mask.value})"),))


@operator(
    "hidden-graph-retained",
    cst.SimpleStatementLine,
    category="autograd",
    difficulty=2,
    symptom="Each step takes longer and more memory than the one before.",
    hints=(
        "LOOK: time the steps; count the nodes of the graph behind the loss.",
        "WHERE: what `{function}` carries from one window to the next.",
        "WHAT: how far back does the backward pass of a late window go?",
    ),
    repair="Cut the state off its past when a new window begins.",
    mechanism=(
        "The state carries its whole history along. Every backward pass walks through all windows"
        " since the beginning, which must all be kept in memory; an option that keeps graphs alive"
        " turns the error that would have told into a slow leak."
    ),
    evidence=(issue("pytorch/pytorch", 2198), issue("pytorch/pytorch", 2769)),
    examples=(
        Example(
            row="hidden-graph-retained",
            before="for x in windows:\n    h = h.detach()\n    h = cell(x, h)\n    loss(h).backward()\n",
            after=("for x in windows:\n    h = cell(x, h)\n    loss(h).backward(retain_graph=True)\n",),
        ),
        Example(
            before="for x in xs:\n    h = repackage_hidden(h)\n    y, h = net(x, h)\n    f(y).backward()\n",
            after=("for x in xs:\n    y, h = net(x, h)\n    f(y).backward(retain_graph=True)\n",),
        ),
        Example(
            before="for x in xs:\n    y, s = net(x, s)\n    value = f(y)\n    value.backward()\n"
            "    s = tuple(each.detach() for each in s)\n",
            after=(
                "for x in xs:\n    y, s = net(x, s)\n    value = f(y)\n"
                "    value.backward(retain_graph=True)\n",
            ),
        ),
    ),
    counterexamples=("h = h.detach()\nloss.backward()\n", "for x in xs:\n    h = h.detach()\n"),
)
def graph_retained(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair, loop = assigned(node), loop_of(f, node)
    if pair is None or loop is None or not cuts_itself(f, pair):
        return
    for call in inside(loop.body, cst.Call):
        if last_name(call.func) == "backward" and not call.args:
            edits = (f.delete_statement(node), f.insert_arg(call, "retain_graph=True"))
            yield Proposal(edits=edits)
            return


def cuts_itself(f: SourceFile, pair: tuple[cst.BaseExpression, cst.BaseExpression]) -> bool:
    """Whether a value is replaced by itself without its history."""
    target, value = f.text(pair[0]), pair[1]
    op = operation(f, value, "detach")
    if op is not None:
        return f.text(op.subject) == target
    if isinstance(value, cst.Call) and words(last_name(value.func)) & {"detach", "detached", "repackage"}:
        return len(value.args) == 1 and f.text(value.args[0].value) == target
    for each in inside(value, cst.GeneratorExp):
        inner = operation(f, each.elt, "detach")
        if inner is not None and f.text(each.for_in.iter) == target:
            return True
    return False
