"""Mistakes in which parameters are moved: frozen by accident, or unknown to the optimiser."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import assigned, last_name, moved_before, names_in, neighbours
from bughunt_mutator.operators._sources import TRAIN_CHECK, issue
from bughunt_mutator.operators.autograd import OPTIMIZERS
from bughunt_mutator.source import SourceFile


@operator(
    "freeze-too-much",
    cst.If,
    cst.For,
    cst.SimpleStatementLine,
    category="autograd",
    difficulty=2,
    symptom="The loss barely moves.",
    hints=(
        "LOOK: list the names of the parameters that still ask for a gradient.",
        "WHERE: how `{function}` decides what stays as it is.",
        "WHAT: which parameters are meant to learn?",
    ),
    repair="Freeze only what is meant to stay.",
    mechanism=(
        "The condition catches far more than it should, and at most biases and the like still learn."
        " They can shift and scale features a little, which is all that may move the loss."
    ),
    evidence=(TRAIN_CHECK,),
    examples=(
        Example(
            row="freeze-too-much",
            before="for n, p in net.named_parameters():\n"
            '    if "body" in n:\n        p.requires_grad = False\n',
            after=(
                "for n, p in net.named_parameters():\n"
                '    if "bias" not in n:\n        p.requires_grad = False\n',
            ),
        ),
        Example(
            before="for p in net.body.parameters():\n    p.requires_grad_(False)\n",
            after=(
                'for p in (p for n, p in net.named_parameters() if "bias" not in n):\n'
                "    p.requires_grad_(False)\n",
            ),
        ),
        Example(
            before="for layer in net.layers:\n    layer.base.requires_grad_(False)\n",
            after=(
                'for layer in (p for n, p in net.named_parameters() if "bias" not in n):\n'
                "    layer.requires_grad_(False)\n",
            ),
        ),
        Example(
            before='for name, p in net.named_parameters():\n    p.requires_grad = "lora" in name\n',
            after=('for name, p in net.named_parameters():\n    p.requires_grad = "bias" in name\n',),
        ),
    ),
    counterexamples=(
        "for p in net.parameters():\n    p.requires_grad = False\n",
        'if "body" in n:\n    p.grad = None\n',
    ),
)
def freeze_too_much(f: SourceFile, node: cst.If | cst.For | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.If):
        name = name_tested(f, node.test)
        if name and node.orelse is None and freezes(f, node.body):
            yield Proposal(edits=(f.replace(node.test, f'"bias" not in {name}'),))
    elif isinstance(node, cst.For):
        yield from whole_model(f, node)
    else:
        pair = assigned(node)
        if pair is not None and last_name(pair[0]) == "requires_grad" and (name := name_tested(f, pair[1])):
            yield Proposal(edits=(f.replace(pair[1], f'"bias" in {name}'),))


def name_tested(f: SourceFile, test: cst.BaseExpression) -> str:
    """The name in which a condition looks for a part."""
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        return name_tested(f, test.expression)
    if isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
        part = test.comparisons[0]
        if isinstance(part.operator, cst.In | cst.NotIn) and isinstance(test.left, cst.SimpleString):
            return f.text(part.comparator) if isinstance(part.comparator, cst.Name) else ""
    method = test.func if isinstance(test, cst.Call) else None
    if isinstance(method, cst.Attribute) and method.attr.value in ("startswith", "endswith"):
        return method.value.value if isinstance(method.value, cst.Name) else ""
    return ""


def freezes(f: SourceFile, body: cst.BaseSuite) -> bool:
    """Whether a suite does nothing but freeze a parameter."""
    text = f.text(body).strip().replace(" ", "")
    return text.endswith((".requires_grad=False", ".requires_grad_(False)")) and "\n" not in text


def whole_model(f: SourceFile, node: cst.For) -> Iterator[Proposal]:
    """A loop over one part that becomes one over all parts."""
    call = node.iter
    if isinstance(call, cst.Attribute):
        yield from all_layers(f, node, call)
    if not isinstance(call, cst.Call) or last_name(call.func) != "parameters" or not freezes(f, node.body):
        return
    part = call.func.value if isinstance(call.func, cst.Attribute) else None
    if isinstance(part, cst.Attribute) and isinstance(node.target, cst.Name):
        p, n = node.target.value, "n" if node.target.value != "n" else "name"
        model = f.text(part.value)
        new = f'({p} for {n}, {p} in {model}.named_parameters() if "bias" not in {n})'
        yield Proposal(edits=(f.replace(call, new),))


def all_layers(f: SourceFile, node: cst.For, layers: cst.Attribute) -> Iterator[Proposal]:
    """A loop that freezes one part of each layer and becomes one over all parameters."""
    if not isinstance(node.target, cst.Name) or not freezes(f, node.body):
        return
    each = node.target.value
    frozen = f.text(node.body).strip()
    part = frozen.partition(".requires_grad")[0]
    if not part.startswith(f"{each}.") or not isinstance(node.body, cst.IndentedBlock):
        return
    every = f'(p for n, p in {f.text(layers.value)}.named_parameters() if "bias" not in n)'
    line = node.body.body[0]
    yield Proposal(edits=(f.replace(layers, every), f.replace(line, each + frozen.removeprefix(part))))


@operator(
    "optimizer-before-layer-swap",
    cst.SimpleStatementLine,
    category="autograd",
    difficulty=3,
    symptom="The loss stays flat, or falls only as far as the old layers can bring it.",
    hints=(
        "LOOK: compare the parameters of the model with those that the optimiser holds, by identity.",
        "WHERE: the order in which `{function}` sets things up.",
        "WHAT: which layer did the optimiser get to know?",
    ),
    repair="Create the optimiser when the model has its final layers.",
    mechanism=(
        "An optimiser keeps the parameters it was given. A layer that is put in afterwards brings"
        " new ones, which get gradients and are moved by nobody, while the optimiser looks after a"
        " layer that is no longer there."
    ),
    evidence=(issue("huggingface/accelerate", 3256),),
    examples=(
        Example(
            row="optimizer-before-layer-swap",
            before="import torch\nnet.fc = Linear(8, 3)\nnet.eval()\n"
            "opt = torch.optim.SGD(net.parameters(), lr=0.1)\n",
            after=(
                "import torch\nopt = torch.optim.SGD(net.parameters(), lr=0.1)\nnet.fc = Linear(8, 3)\n"
                "net.eval()\n",
            ),
        ),
    ),
    counterexamples=(
        "import torch\nother.fc = Linear(8, 3)\nopt = torch.optim.SGD(net.parameters(), lr=0.1)\n",
        "import torch\nopt = torch.optim.SGD(net.parameters(), lr=0.1)\nnet.fc = Linear(8, 3)\n",
    ),
)
def optimizer_first(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    call = pair[1] if pair is not None else None
    if not isinstance(call, cst.Call) or last_name(call.func) not in OPTIMIZERS or not call.args:
        return
    lines, place = neighbours(f, node)
    for line in lines[:place]:
        swap = assigned(line)
        if swap is None or not isinstance(swap[0], cst.Attribute) or not isinstance(swap[1], cst.Call):
            continue
        model = swap[0].value
        between = {
            name
            for other in lines[lines.index(line) : place]
            if (made := assigned(other)) is not None and isinstance(made[0], cst.Name)
            for name in names_in(made[0])
        }
        trained = isinstance(model, cst.Name) and model.value in names_in(call.args[0].value)
        if trained and not between & names_in(call) and last_name(swap[1].func)[:1].isupper():
            yield Proposal(edits=moved_before(f, node, line))
            return
