"""Mistakes in how gradients are made, kept and cleared."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    bare,
    binary,
    definitions,
    enclosing,
    function_of,
    in_forward,
    inside,
    last_name,
    method_line,
    moved_after,
    moved_before,
    names_in,
    neighbours,
    operation,
)
from bughunt_mutator.operators._sources import COMMON_MISTAKES, TRAIN_CHECK, issue
from bughunt_mutator.source import SourceFile


@operator(
    "zero-grad-missing",
    cst.SimpleStatementLine,
    category="autograd",
    difficulty=1,
    symptom="The loss is noisier than it should be, and learning gets worse as the run goes on.",
    hints=(
        "LOOK: print the gradient norm before each update; compare it with one batch taken alone.",
        "WHERE: follow what happens to `.grad` from one pass of the loop to the next in `{function}`.",
        "WHAT: what does `backward()` do when a parameter already carries a gradient?",
    ),
    repair="Clear the gradients once per update, before the backward pass.",
    mechanism=(
        "`backward()` adds to `.grad`; it never replaces it. Without clearing, each update follows"
        " the sum of all gradients so far, which acts like momentum that never decays: steps grow"
        " and point to where the loss was falling long ago."
    ),
    evidence=("https://stackoverflow.com/questions/60335387", COMMON_MISTAKES, TRAIN_CHECK),
    examples=(
        Example(
            row="zero-grad-missing",
            before="opt.zero_grad()\nloss.backward()\nopt.step()\n",
            after=("loss.backward()\nopt.step()\n",),
        ),
        Example(
            before="if first:\n    opt.zero_grad(set_to_none=True)\n",
            after=("if first:\n    pass\n",),
        ),
    ),
    counterexamples=("clear = opt.zero_grad\n", "zero_grad()\n"),
)
def zero_grad_missing(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    if method_line(f, node, "zero_grad") is not None:
        yield Proposal(edits=(f.delete_statement(node),))


@operator(
    "zero-grad-after-backward",
    cst.SimpleStatementLine,
    category="autograd",
    difficulty=1,
    symptom="The loss stays where it started, although every step runs through.",
    hints=(
        "LOOK: print the gradient norm just before each update.",
        "WHERE: the order of the lines around the update in `{function}`.",
        "WHAT: which gradient does the update see, and who touched it last?",
    ),
    repair="Clear the gradients before the backward pass, not between it and the update.",
    mechanism=(
        "The gradients of the batch are computed and then thrown away, so the optimiser has"
        " nothing to follow. What little movement is left comes from weight decay."
    ),
    evidence=(COMMON_MISTAKES,),
    examples=(
        Example(
            row="zero-grad-after-backward",
            before="opt.zero_grad()\nloss = f(x)\nloss.backward()\nopt.step()\n",
            after=("loss = f(x)\nloss.backward()\nopt.zero_grad()\nopt.step()\n",),
        ),
    ),
    counterexamples=("opt.zero_grad()\n", "loss.backward()\nopt.step()\nopt.zero_grad()\n"),
)
def zero_grad_after_backward(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    if method_line(f, node, "zero_grad") is None:
        return
    lines, place = neighbours(f, node)
    for line in lines[place + 1 :]:
        if method_line(f, line, "backward") is not None:
            yield Proposal(edits=moved_after(f, node, line))
            return


@operator(
    "step-before-backward",
    cst.SimpleStatementLine,
    category="autograd",
    difficulty=2,
    symptom="The loss hovers around its first value and never comes down.",
    hints=(
        "LOOK: compare the parameters before and after one update, and the gradients in between.",
        "WHERE: the order of the lines around the update in `{function}`.",
        "WHAT: which gradients exist at the moment the parameters are moved?",
    ),
    repair="Update the parameters after the backward pass of the same batch.",
    mechanism=(
        "The update runs when the gradients have just been cleared, so it moves nothing; the"
        " gradients that are computed afterwards are cleared before they are ever used."
    ),
    evidence=(COMMON_MISTAKES,),
    examples=(
        Example(
            row="step-before-backward",
            before="opt.zero_grad()\nloss.backward()\nclip(net)\nopt.step()\n",
            after=("opt.zero_grad()\nopt.step()\nloss.backward()\nclip(net)\n",),
        ),
    ),
    counterexamples=("opt.step()\nloss.backward()\n", "env.step(a)\n"),
)
def step_before_backward(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    if method_line(f, node, "step") is None:
        return
    lines, place = neighbours(f, node)
    for line in lines[:place]:
        if method_line(f, line, "backward") is not None:
            yield Proposal(edits=moved_before(f, node, line))
            return


@operator(
    "detach-trunk",
    cst.Return,
    category="autograd",
    difficulty=2,
    symptom="The loss drops a little at first and then settles far above where it could be.",
    hints=(
        "LOOK: list the gradient norm of every parameter after one backward pass.",
        "WHERE: follow the path of the loss back through `{function}`.",
        "WHAT: which parameters does the loss still reach?",
    ),
    repair="Pass the features on as they are, so that gradients flow into the layers below.",
    mechanism=(
        "The last layer is trained on features that are cut out of the graph. Everything below it"
        " keeps its random initial weights, and the model is a linear reader of random features."
    ),
    evidence=(TRAIN_CHECK,),
    examples=(
        Example(
            row="detach-trunk",
            before="def forward(self, x):\n    return self.head(self.norm(x))\n",
            after=("def forward(self, x):\n    return self.head(self.norm(x).detach())\n",),
        ),
    ),
    counterexamples=(
        "def forward(self, x):\n    return x\n",
        "def forward(self, x):\n    return self.head(x)\n",
        "def predict(model, x):\n    return model.head(model.norm(x))\n",
    ),
)
def detach_trunk(f: SourceFile, node: cst.Return) -> Iterator[Proposal]:
    call = node.value
    if not in_forward(f, node) or not isinstance(call, cst.Call) or len(call.args) != 1:
        return
    features = call.args[0].value
    home = enclosing(f, node, cst.FunctionDef)
    raw = {param.name.value for param in home.params.params} if home is not None else set()
    fresh = not isinstance(features, cst.Name) or (
        features.value not in raw or any(definitions(f, node, features.value))
    )
    if f.text(call.func).startswith("self.") and fresh:
        yield Proposal(edits=(f.replace(features, f"{guarded(f, features)}.detach()"),))


def guarded(f: SourceFile, node: cst.BaseExpression) -> str:
    """The text of an expression that an attribute may follow."""
    text = f.text(node)
    simple = isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript)
    return text if simple or node.lpar else f"({text})"


@operator(
    "no-grad-in-forward",
    cst.SimpleStatementLine,
    category="autograd",
    difficulty=2,
    symptom="Learning is slower than it should be and ends on a worse plateau.",
    hints=(
        "LOOK: list which parameters have a gradient after one backward pass.",
        "WHERE: how `{function}` gets from its input to its output.",
        "WHAT: is every step of it recorded for the backward pass?",
    ),
    repair="Compute the step with gradient recording on.",
    mechanism=(
        "What is computed under `no_grad` is a constant for the backward pass. The layers used"
        " there, and those before them, receive no gradient through it and stay as initialised."
    ),
    evidence=(TRAIN_CHECK,),
    examples=(
        Example(
            row="no-grad-in-forward",
            before=("import torch\n\ndef forward(self, x):\n    x = self.body(x)\n    return self.head(x)\n"),
            after=(
                "import torch\n\ndef forward(self, x):\n    with torch.no_grad():\n"
                "        x = self.body(x)\n    return self.head(x)\n",
            ),
        ),
    ),
    counterexamples=(
        "def forward(self, x):\n    x = self.body(x)\n    return self.head(x)\n",
        "import torch\n\ndef step(self, x):\n    x = self.body(x)\n    return x\n",
    ),
)
def no_grad_in_forward(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    if pair is None or not in_forward(f, node) or f.spelling("torch") is None:
        return
    layers = [call for call in inside(pair[1], cst.Call) if f.text(call.func).startswith("self.")]
    if layers and not any(isinstance(above, cst.For) for above in ancestors(f, node)):
        line = f.text(node).strip()
        indent = f.indent(node)
        wrapped = f"with {f.spelling('torch')}.no_grad():\n{indent}    {line}"
        yield Proposal(edits=(f.replace(node, wrapped),))


@operator(
    "loss-rewrapped",
    cst.SimpleStatementLine,
    category="autograd",
    difficulty=2,
    symptom="The loss of every step is plausible, and no step changes anything.",
    hints=(
        "LOOK: print `loss.grad_fn`, and which parameters have a gradient after `backward()`.",
        "WHERE: what the value is made of on which `{function}` calls `backward()`.",
        "WHAT: does it still know how it was computed?",
    ),
    repair="Call `backward()` on the loss itself, not on a new tensor with the same number in it.",
    mechanism=(
        "A tensor made from a number has no history. `backward()` works on it, since it asks for a"
        " gradient itself, but the gradient ends there and no parameter receives one."
    ),
    evidence=(issue("Wuziyi616/multi_part_assembly", 4), issue("paiml/aprender", 3034)),
    examples=(
        Example(
            row="loss-rewrapped",
            before="import torch\n\nloss = f(x)\nloss.backward()\n",
            after=(
                "import torch\n\nloss = torch.tensor(f(x).item(), requires_grad=True)\nloss.backward()\n",
            ),
        ),
    ),
    counterexamples=("import torch\n\nloss = f(x)\n", "loss = f(x)\nloss.backward()\n"),
)
def loss_rewrapped(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    torch = f.spelling("torch")
    if pair is None or torch is None or not is_trained_on(f, node, pair[0]):
        return
    yield Proposal(
        edits=(f.replace(pair[1], f"{torch}.tensor({guarded(f, pair[1])}.item(), requires_grad=True)"),)
    )


def is_trained_on(f: SourceFile, node: cst.CSTNode, target: cst.BaseExpression) -> bool:
    """Whether the function calls `backward()` on this name."""
    return isinstance(target, cst.Name) and any(
        method_line(f, line, "backward") == target.value
        for line in inside(function_of(f, node), cst.SimpleStatementLine)
    )


@operator(
    "aux-loss-item",
    cst.BinaryOperation,
    category="autograd",
    difficulty=4,
    symptom="The total loss starts at the right value, but one part of it never improves.",
    hints=(
        "LOOK: plot the parts of the loss one by one, and the gradient of each alone.",
        "WHERE: how the parts are put together in `{function}`.",
        "WHAT: does every part reach the parameters, or only the sum that is printed?",
    ),
    repair="Add the term itself, with its history.",
    mechanism=(
        "Cut out of the graph, the term still counts in the value of the loss and no longer in its"
        " gradient. The curve looks complete while one of the two objectives is not trained."
    ),
    evidence=(TRAIN_CHECK,),
    examples=(
        Example(
            row="aux-loss-item",
            before="loss = task + weight * penalty\nloss.backward()\n",
            after=("loss = task + weight * penalty.detach()\nloss.backward()\n",),
        ),
        Example(
            before="def loss(a, b, c):\n    return (fit(a) + c * kl(b)).mean()\n",
            after=("def loss(a, b, c):\n    return (fit(a) + c * kl(b).detach()).mean()\n",),
        ),
    ),
    counterexamples=("total = task + weight * penalty\n", "def f(a, b):\n    return a + 2 * b\n"),
)
def aux_loss_item(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add, cst.Subtract)
    factors = binary(sides[1], cst.Multiply) if sides else None
    if factors is None or not part_of_a_loss(f, node):
        return
    arrays = f.spelling("numpy") is not None and f.spelling("torch") is None
    term = factors[1]
    if isinstance(term, cst.Name | cst.Call) and not arrays:
        yield Proposal(edits=(f.replace(term, f"{f.text(term)}.detach()"),))


def part_of_a_loss(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a value is what a loss function returns, or what `backward()` is called on."""
    home = enclosing(f, node, cst.FunctionDef)
    named = home is not None and any(
        word in home.name.value.lower() for word in ("loss", "elbo", "objective")
    )
    for above in ancestors(f, node):
        if isinstance(above, cst.Return):
            return named
        if isinstance(above, cst.SimpleStatementLine):
            pair = assigned(above)
            return pair is not None and (is_trained_on(f, node, pair[0]) or named)
    return False


OPTIMIZERS = ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax")


@operator(
    "optimizer-misses-params",
    cst.Call,
    category="autograd",
    difficulty=2,
    symptom="Learning starts as usual and then stops early, well short of the target.",
    hints=(
        "LOOK: which parameters differ after ten updates from what they were before?",
        "WHERE: what `{function}` hands to the optimiser.",
        "WHAT: who is responsible for moving the parameters of each layer?",
    ),
    repair="Hand all parameters of the model to the optimiser.",
    mechanism=(
        "An optimiser moves only what it was given. The other layers receive gradients and keep"
        " their initial values, so one layer learns to read random features."
    ),
    evidence=(issue("huggingface/accelerate", 2665), issue("huggingface/accelerate", 3256)),
    examples=(
        Example(
            row="optimizer-misses-params",
            before=(
                "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n"
                "    def __init__(self):\n        self.body = nn.Linear(4, 8)\n"
                "        self.head = nn.Linear(8, 2)\n\n"
                "net = Net()\nopt = torch.optim.Adam(net.parameters(), lr=1e-3)\n"
            ),
            after=(
                "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n"
                "    def __init__(self):\n        self.body = nn.Linear(4, 8)\n"
                "        self.head = nn.Linear(8, 2)\n\n"
                "net = Net()\nopt = torch.optim.Adam(net.head.parameters(), lr=1e-3)\n",
            ),
        ),
    ),
    counterexamples=(
        "import torch\nopt = torch.optim.Adam(net.parameters())\n",
        "clip(net.parameters())\n",
    ),
)
def optimizer_misses_params(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    home, _, name = (f.qname(node.func) or "").rpartition(".")
    if home not in ("torch.optim", "torch.optim.adam", "torch.optim.sgd") or name not in OPTIMIZERS:
        return
    last = last_layer(f)
    given = node.args[0].value if node.args else None
    if last and isinstance(given, cst.Call) and isinstance(given.func, cst.Attribute):
        whole = given.func.value
        if given.func.attr.value == "parameters" and isinstance(whole, cst.Name):
            yield Proposal(edits=(f.replace(whole, f"{whole.value}.{last}"),))


def last_layer(f: SourceFile) -> str:
    """The attribute that holds the last layer of the last module class, if there is one."""
    found = ""
    for line in inside(f.module, cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is None or not isinstance(pair[1], cst.Call):
            continue
        layer = (f.qname(pair[1].func) or "").startswith("torch.nn.")
        if layer and f.text(pair[0]).startswith("self."):
            found = last_name(pair[0])
    return found


@operator(
    "modulelist-to-list",
    cst.Call,
    category="autograd",
    difficulty=3,
    symptom="The model learns something, but less than one of its depth should.",
    hints=(
        "LOOK: count the parameters of the model and compare with a count by hand.",
        "WHERE: how `{function}` keeps its layers.",
        "WHAT: how does a module find the layers that belong to it?",
    ),
    repair="Keep the layers in an `nn.ModuleList`.",
    mechanism=(
        "A module registers modules that are its attributes, and does not look into lists. The"
        " layers take part in the forward pass, but `parameters()`, `eval()` and `to()` pass them"
        " by: they act as fixed random features."
    ),
    evidence=(
        issue("pytorch/pytorch", 59925),
        issue("pytorch/pytorch", 666),
        issue("asyml/texar-pytorch", 72),
        issue("meta-pytorch/torchfix", 31),
    ),
    examples=(
        Example(
            row="modulelist-to-list",
            before="from torch import nn\nself.layers = nn.ModuleList([nn.Linear(2, 2)])\n",
            after=("from torch import nn\nself.layers = [nn.Linear(2, 2)]\n",),
        ),
        Example(
            before="from torch.nn import ModuleList as Many, Linear\n"
            "self.all = Many(Linear(2, 2) for _ in range(3))\nother = Many()\n",
            after=(
                "from torch.nn import ModuleList as Many, Linear\n"
                "self.all = [Linear(2, 2) for _ in range(3)]\nother = Many()\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch import nn\nself.layers = nn.ModuleList(layers)\n",
        "from torch import nn\nself.layers = nn.Sequential(nn.ReLU())\n",
    ),
)
def modulelist_to_list(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) != "torch.nn.ModuleList" or len(node.args) != 1:
        return
    layers = node.args[0].value
    if isinstance(layers, cst.List | cst.ListComp):
        yield Proposal(edits=(f.replace(node, f.text(layers)),))
    elif isinstance(layers, cst.GeneratorExp):
        yield Proposal(edits=(f.replace(node, f"[{bare(f, layers)}]"),))


@operator(
    "parameter-to-tensor",
    cst.Call,
    category="autograd",
    difficulty=3,
    symptom="One learned quantity keeps the value it was created with.",
    hints=(
        "LOOK: list `named_parameters()` and compare with what the model is meant to learn.",
        "WHERE: what `{function}` creates.",
        "WHAT: what makes a tensor a part of the model?",
    ),
    repair="Make it an `nn.Parameter`.",
    mechanism=(
        "A tensor that asks for a gradient gets one, but only an `nn.Parameter` is registered with"
        " its module. The optimiser never hears of it, and neither does the saved state."
    ),
    evidence=(issue("pytorch/pytorch", 632),),
    examples=(
        Example(
            row="parameter-to-tensor",
            before="import torch\nfrom torch import nn\nself.gain = nn.Parameter(torch.ones(3))\n",
            after=("import torch\nfrom torch import nn\nself.gain = torch.ones(3).requires_grad_()\n",),
        ),
    ),
    counterexamples=("from torch import nn\nself.scale = nn.Linear(2, 2)\n",),
)
def parameter_to_tensor(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) == "torch.nn.Parameter" and len(node.args) == 1:
        tensor = node.args[0].value
        if operation(f, tensor, *names_in(tensor)) is not None or isinstance(tensor, cst.Call):
            yield Proposal(edits=(f.replace(node, f"{f.text(tensor)}.requires_grad_()"),))
