"""Mistakes in moving averages of weights."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    binary,
    function_of,
    inside,
    keyword,
    last_name,
    number,
    orphans,
)
from bughunt_mutator.operators._look_training import averaging, merged, reduced, retired, words
from bughunt_mutator.operators._sources import issue
from bughunt_mutator.operators.optimiser import power_of_decay
from bughunt_mutator.source import SourceFile


@operator(
    "ema-decay-inverted",
    cst.Call,
    category="optimiser",
    difficulty=3,
    symptom="The averaged model is as restless as the one it averages.",
    hints=(
        "LOOK: plot one weight and its average over time.",
        "WHERE: the two shares in `{function}`.",
        "WHAT: how much of the past does one update keep?",
    ),
    repair="Keep most of the average, and add a little of the new value.",
    mechanism=(
        "With the shares exchanged, the average keeps almost nothing of its past. It is a copy of"
        " the latest weights with their noise, and evaluating it gains nothing."
    ),
    evidence=("https://arxiv.org/abs/1703.01780", issue("huggingface/pytorch-image-models", 1182)),
    examples=(
        Example(
            row="ema-decay-inverted",
            before="slow.mul_(decay).add_(fast, alpha=1 - decay)\n",
            after=("slow.mul_(1 - decay).add_(fast, alpha=decay)\n",),
        ),
        Example(before="slow.lerp_(fast, 1 - d)\n", after=("slow.lerp_(fast, d)\n",)),
    ),
    counterexamples=("m.mul_(b).add_(grad, alpha=1 - b)\n", "x.lerp_(y, d)\n"),
)
def ema_inverted(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if "grad" in f.text(node) or not isinstance(node.func, cst.Attribute):
        return
    if node.func.attr.value == "lerp_" and len(node.args) == 2:
        sides = binary(node.args[1].value, cst.Subtract)
        if sides is not None and number(sides[0]) == 1:
            yield Proposal(edits=(f.replace(node.args[1].value, f.text(sides[1])),))
    alpha, inner = keyword(node, "alpha"), node.func.value
    if alpha is None or not isinstance(inner, cst.Call) or last_name(inner.func) != "mul_":
        return
    kept, sides = inner.args[0].value, binary(alpha.value, cst.Subtract)
    if sides is not None and f.text(sides[1]) == f.text(kept):
        yield Proposal(edits=f.swap(kept, alpha.value))


@operator(
    "ema-buffers-skipped",
    cst.For,
    category="optimiser",
    difficulty=3,
    symptom="The model that is trained does well; its average is useless in evaluation.",
    hints=(
        "LOOK: compare everything that the two models store, entry by entry.",
        "WHERE: what `{function}` brings from one model to the other.",
        "WHAT: what does a model remember of the data besides its weights?",
    ),
    repair="Take the buffers over as well.",
    mechanism=(
        "Running statistics are buffers and no parameters. If only parameters are averaged, the"
        " average keeps the statistics it was created with, and in evaluation it normalises the"
        " activations of trained weights as if they were those of fresh ones."
    ),
    evidence=(
        issue("CuriousAI/mean-teacher", 9),
        issue("FlyreelAI/sesemi", 36),
        issue("YU1ut/MixMatch-pytorch", 16),
    ),
    examples=(
        Example(
            before=(
                "def f(ema, net):\n    for a, b in zip(ema.parameters(), net.parameters()):\n"
                "        a.lerp_(b, 0.1)\n"
                "    for a, b in zip(ema.buffers(), net.buffers()):\n        a.copy_(b)\n"
            ),
            after=(
                "def f(ema, net):\n    for a, b in zip(ema.parameters(), net.parameters()):\n"
                "        a.lerp_(b, 0.1)\n",
            ),
        ),
        Example(
            before=(
                "@torch.no_grad()\ndef update(self, net):\n    for n, v in net.state_dict().items():\n"
                "        self.shadow[n].lerp_(v, 0.1)\n"
            ),
            after=(
                "@torch.no_grad()\ndef update(self, net):\n    for n, v in net.named_parameters():\n"
                "        self.shadow[n].lerp_(v, 0.1)\n",
            ),
        ),
        Example(
            before=(
                "@torch.no_grad()\ndef f(ema, net):\n"
                "    for a, b in zip(ema.state_dict().values(), net.state_dict().values()):\n"
                "        a.lerp_(b, 0.1)\n"
            ),
            after=(
                "@torch.no_grad()\ndef f(ema, net):\n"
                "    for a, b in zip(ema.parameters(), net.parameters()):\n"
                "        a.lerp_(b, 0.1)\n",
            ),
        ),
    ),
    counterexamples=(
        "for a, b in zip(one.buffers(), two.buffers()):\n    a.copy_(b)\n",
        "def f(ema):\n    for b in ema.buffers():\n        print(b)\n",
        "def save(net):\n    for n, v in net.state_dict().items():\n        write(n, v)\n",
    ),
)
def buffers_skipped(f: SourceFile, node: cst.For) -> Iterator[Proposal]:
    if not averaging(f, node):
        return
    if iterators(node, "buffers", "named_buffers"):
        if copies(node) and (rest := retired(f, node)) is not None:
            yield Proposal(edits=merged(f.delete_statement(node), *rest))
        return
    edits = []
    for call in inside(node.iter, cst.Call):
        name = last_name(call.func)
        inner = call.func.value if isinstance(call.func, cst.Attribute) else None
        kind = {"items": "named_parameters", "values": "parameters"}.get(name)
        if kind is None or not isinstance(inner, cst.Call) or last_name(inner.func) != "state_dict":
            continue
        if isinstance(inner.func, cst.Attribute):
            edits.append(f.replace(call, f"{f.text(inner.func.value)}.{kind}()"))
    if edits and without_gradients(f, node):
        yield Proposal(edits=tuple(edits))


def iterators(loop: cst.For, *names: str) -> list[cst.Attribute]:
    """Where a loop asks models for what they consist of."""
    calls = (call.func for call in inside(loop.iter, cst.Call))
    return [func for func in calls if isinstance(func, cst.Attribute) and func.attr.value in names]


def copies(loop: cst.For) -> bool:
    """Whether a loop takes values over as they are."""
    return any(last_name(call.func) == "copy_" for call in inside(loop.body, cst.Call)) or any(
        isinstance(each.targets[0].target, cst.Attribute | cst.Subscript)
        for each in inside(loop.body, cst.Assign)
    )


def without_gradients(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether changes in place are made outside the graph."""
    return bool(words(function_of(f, node)) & {"no", "inference", "data", "detach"})


@operator(
    "ema-wrong-iterator",
    cst.For,
    category="optimiser",
    difficulty=4,
    symptom="The average follows the weights too closely, or its statistics are those of a fresh model.",
    hints=(
        "LOOK: compare everything that the two models store, entry by entry.",
        "WHERE: what each of the loops in `{function}` runs over.",
        "WHAT: what is seen twice, and what is never seen?",
    ),
    repair="Let the second loop run over the buffers.",
    mechanism=(
        "Both loops run over the parameters. The second overwrites the average with the latest"
        " values, so there is nothing left of it, and the buffers, which were the reason for a"
        " second loop, stay as they were at the start."
    ),
    evidence=(issue("lucidrains/ema-pytorch", 8),),
    examples=(
        Example(
            before=(
                "def f(ema, net):\n    for a, b in zip(ema.buffers(), net.buffers()):\n        a.copy_(b)\n"
            ),
            after=(
                "def f(ema, net):\n    for a, b in zip(ema.parameters(), net.parameters()):\n"
                "        a.copy_(b)\n",
            ),
        ),
        Example(
            before=(
                "def f(ema, net):\n    own = dict(ema.named_buffers())\n"
                "    for n, b in net.named_buffers():\n"
                "        own[n].copy_(b)\n"
            ),
            after=(
                "def f(ema, net):\n    own = dict(ema.named_parameters())\n"
                "    for n, b in net.named_parameters():\n"
                "        own[n].copy_(b)\n",
            ),
        ),
    ),
    counterexamples=(
        "for b in net.buffers():\n    b.zero_()\n",
        "def f(ema, net):\n    for a, b in zip(ema.parameters(), net.parameters()):\n        a.copy_(b)\n",
    ),
)
def wrong_iterator(f: SourceFile, node: cst.For) -> Iterator[Proposal]:
    asked = iterators(node, "buffers", "named_buffers")
    if not asked or not averaging(f, node) or not copies(node):
        return
    if next(inside(node.body, cst.For), None) is not None:
        return
    own = (call for call in inside(function_of(f, node), cst.Call) if last_name(call.func) == "named_buffers")
    names = {id(func): func for func in asked}
    if any(func.attr.value == "named_buffers" for func in asked):
        names |= {id(call.func): call.func for call in own if isinstance(call.func, cst.Attribute)}
    kind = {"buffers": "parameters", "named_buffers": "named_parameters"}
    yield Proposal(edits=tuple(f.replace(func.attr, kind[func.attr.value]) for func in names.values()))


@operator(
    "ema-no-debias",
    cst.Call,
    cst.BinaryOperation,
    category="optimiser",
    difficulty=4,
    symptom="Early in the run the average is far behind; by the end it has caught up.",
    hints=(
        "LOOK: plot a value and its average over the first hundred updates.",
        "WHERE: how much `{function}` lets one update count.",
        "WHAT: what does an average consist of when it has seen only three values?",
    ),
    repair="Let the first updates count for more, or divide by the share that has been filled.",
    mechanism=(
        "An average with a long memory starts from values that mean nothing, and keeps most of them"
        " for as long as its memory lasts. The correction that made the first updates count in full"
        " is gone, so what is read early says more about the start than about what came."
    ),
    evidence=(issue("huggingface/pytorch-image-models", 1182),),
    examples=(
        Example(
            before="def ema(t):\n    return min(decay, (1 + t) / (10 + t))\n",
            after=("def ema(t):\n    return decay\n",),
        ),
        Example(
            before=(
                "class Average:\n    def read(self):\n        return self.sum / (1 - self.decay**self.n)\n"
            ),
            after=("class Average:\n    def read(self):\n        return self.sum\n",),
        ),
        Example(
            before=(
                "class Ema:\n    def update(self):\n"
                "        d = min(1 - 1 / (self.n + 1), self.decay)\n        move(d)\n"
            ),
            after=("class Ema:\n    def update(self):\n        d = self.decay\n        move(d)\n",),
        ),
        Example(
            before="total = fade * total + x\nweight = fade * weight + 1\ny = total / weight\n",
            after=("total = fade * total + x\nweight = fade * weight + 1\ny = total * (1 - fade)\n",),
        ),
    ),
    counterexamples=(
        "d = min(decay, 0.5)\n",
        "total = a * total + x\nn = n + 1\ny = total / n\n",
        "y = m / (1 - b**t)\n",
        "def ema(t):\n    return min(decay, t)\n",
    ),
)
def no_debias(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation) and (both := binary(node, cst.Divide)) is not None:
        kept = [faded(f, node, f.text(side)) for side in both]
        if kept[0] is not None and kept[1] is not None and kept[0][0] == kept[1][0] and kept[1][1] == "1":
            yield Proposal(edits=(f.replace(node, f"{f.text(both[0])} * (1 - {kept[0][0]})"),))
            return
    if not averaging(f, node):
        return
    if isinstance(node, cst.BinaryOperation):
        sides = binary(node, cst.Divide)
        if sides is not None and power_of_decay(sides[1]) and not orphans(f, sides[1]):
            yield Proposal(edits=(reduced(f, node, sides[0]),))
        return
    if f.text(node.func) != "min" or len(node.args) != 2:
        return
    for given, other in (node.args, node.args[::-1]):
        grows = any(binary(part, cst.Divide) for part in inside(other.value, cst.BinaryOperation))
        steady = isinstance(given.value, cst.Name | cst.Attribute) and words(given.value) & {
            "decay",
            "momentum",
            "beta",
        }
        if steady and grows and number(other.value) is None and not orphans(f, other.value):
            yield Proposal(edits=(f.replace(node, f.text(given.value)),))
            return


def faded(f: SourceFile, node: cst.CSTNode, name: str) -> tuple[str, str] | None:
    """The factor and the addition of `name = factor * name + addition`."""
    for line in inside(function_of(f, node), cst.Assign):
        terms = binary(line.value, cst.Add) if f.text(line.targets[0].target) == name else None
        product = binary(terms[0], cst.Multiply) if terms is not None else None
        if terms is not None and product is not None and f.text(product[1]) == name:
            return f.text(product[0]), f.text(terms[1])
    return None
