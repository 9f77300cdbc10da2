"""Mistakes in which token a language model is asked for, and in the shape of its nonlinearity."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import inside, keyword, last_name, operation
from bughunt_mutator.operators._look_models import atom, layer
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile

LOSSES = ("cross_entropy", "nll_loss", "criterion", "loss_fn", "token_loss")
ALL_BUT_LAST, ALL_BUT_FIRST = ("[:, :-1]", "[:, 1:]")


def of_tokens(f: SourceFile, node: cst.Call) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Logits and targets as they stand before a loss flattens or exchanges their axes."""
    if last_name(node.func) not in LOSSES or len(node.args) < 2:
        return None
    logits, targets = node.args[0].value, node.args[1].value
    op = operation(f, logits, "flatten", "view", "reshape", "transpose", "permute")
    if op is None or op.shift:
        return None
    if op.name in ("transpose", "permute"):
        return op.subject, targets
    flat = operation(f, targets, "flatten", "view", "reshape")
    return (op.subject, flat.subject) if flat is not None and not flat.shift else None


def shifts_elsewhere(f: SourceFile, node: cst.Call) -> bool:
    """Whether the file pairs tokens with their successors before they reach a loss."""
    texts = {f.text(each) for each in inside(f.module, cst.Subscript)}
    texts -= {f.text(each) for each in inside(node, cst.Subscript)}
    return any(text[: -len("1:]")] + ":-1]" in texts for text in texts if text.endswith(" 1:]"))


@operator(
    "targets-double-shift",
    cst.Call,
    category="attention-transformer",
    difficulty=3,
    symptom="The loss settles on a level that fits the data less well than it should.",
    hints=(
        "LOOK: write down one sentence, and beside each position the token it is asked for.",
        "WHERE: every place that moves targets against inputs, `{function}` among them.",
        "WHAT: how many places further on is the answer?",
    ),
    repair="Shift once: in the data or in the loss.",
    mechanism=(
        "Two parts of the program each take care of the shift, so every position is trained to name"
        " the token after the next. That can be learned, to a worse loss, and its continuations"
        " leave out every other token."
    ),
    evidence=(
        issue("huggingface/transformers", 47394),
        pull("huggingface/transformers", 46898),
        pull("huggingface/transformers", 37830),
        pull("allenai/open-instruct", 1549),
    ),
    examples=(
        Example(
            row="targets-double-shift",
            before="x, y = w[:, :-1], w[:, 1:]\nloss = cross_entropy(z.flatten(0, 1), y.flatten())\n",
            after=(
                "x, y = w[:, :-1], w[:, 1:]\n"
                "loss = cross_entropy(z[:, :-1].flatten(0, 1), y[:, 1:].flatten())\n",
            ),
        ),
        Example(
            before="import torch.nn.functional as F\n"
            "loss = F.cross_entropy(z[:, :-1].reshape(-1, V), y[:, 1:].reshape(-1))\n",
            after=(
                "import torch.nn.functional as F\n"
                "loss = F.cross_entropy(z[:, :-2].reshape(-1, V), y[:, 2:].reshape(-1))\n",
            ),
        ),
    ),
    counterexamples=(
        "loss = cross_entropy(z.flatten(0, 1), y.flatten())\n",
        "x, y = w[:, :-1], w[:, 1:]\nloss = cross_entropy(z, y)\n",
    ),
)
def targets_double_shift(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    pair = of_tokens(f, node)
    if pair is None:
        return
    logits, targets = pair
    shifted = f.text(logits).endswith(ALL_BUT_LAST) and f.text(targets).endswith(ALL_BUT_FIRST)
    if shifted:
        one = f.text(logits).removesuffix("-1]") + "-2]"
        two = f.text(targets).removesuffix("1:]") + "2:]"
        yield Proposal(edits=(f.replace(logits, one), f.replace(targets, two)))
    elif shifts_elsewhere(f, node) and not any(isinstance(each, cst.Subscript) for each in pair):
        one, two = atom(f, logits) + ALL_BUT_LAST, atom(f, targets) + ALL_BUT_FIRST
        yield Proposal(edits=(*contiguous(f, node), f.replace(logits, one), f.replace(targets, two)))


def contiguous(f: SourceFile, node: cst.Call) -> list[Edit]:
    """The edits that let slices be flattened where `view` would refuse."""
    edits = []
    for arg in node.args[:2]:
        op = operation(f, arg.value, "view")
        if op is not None and isinstance(op.call.func, cst.Attribute):
            edits.append(f.replace(op.call.func.attr, "reshape"))
    return edits


@operator(
    "flatten-shift-crosses-rows",
    cst.Call,
    cst.Subscript,
    category="attention-transformer",
    difficulty=5,
    symptom="The loss stays a little above what it should reach; all else looks right.",
    hints=(
        "LOOK: print the last target of one row and the first token of the next.",
        "WHERE: the order of cutting into rows and shifting in `{function}`.",
        "WHAT: what follows the last token of a row once all rows lie end to end?",
    ),
    repair="Shift within each row, and only then lay the rows end to end.",
    mechanism=(
        "Laid end to end, the last token of a row is followed by the first of another, which has"
        " nothing to do with it. One target in each row is noise. The shorter the rows, the more it"
        " weighs, and nothing but the content of the targets shows it."
    ),
    evidence=(pull("huggingface/transformers", 47395),),
    examples=(
        Example(
            row="flatten-shift-crosses-rows",
            before="loss = cross_entropy(z[:, :-1].flatten(0, 1), y[:, 1:].flatten())\n",
            after=("loss = cross_entropy(z.flatten(0, 1)[:-1], y.flatten()[1:])\n",),
        ),
        Example(
            before="import torch\nx, y = w[:, :-1], w[:, 1:]\n",
            after=("import torch\nx, y = w[:, :-1], w[:, :-1].roll(-1)\n",),
        ),
    ),
    counterexamples=("x, y = w[:, :-1], w[:, 1:]\n", "loss = cross_entropy(z.flatten(0, 1), y.flatten())\n"),
)
def flatten_crosses(f: SourceFile, node: cst.Call | cst.Subscript) -> Iterator[Proposal]:
    if isinstance(node, cst.Subscript):
        yield from rolled(f, node)
        return
    pair = of_tokens(f, node)
    if pair is None or not all(isinstance(each, cst.Subscript) for each in pair):
        return
    for each, tail in zip(pair, (ALL_BUT_LAST, ALL_BUT_FIRST), strict=True):
        if not f.text(each).endswith(tail):
            return
    edits = []
    for arg, each, cut in zip(node.args, pair, ("[:-1]", "[1:]"), strict=False):
        if operation(f, arg.value, "transpose", "permute"):
            return
        whole = f.text(arg.value).replace(f.text(each), f.text(each)[: f.text(each).rindex("[")], 1)
        edits.append(f.replace(arg.value, whole + cut))
    yield Proposal(edits=tuple(edits))


def rolled(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    """Targets made by moving all inputs of the batch by one place."""
    text = f.text(node)
    if not text.endswith(", 1:]") or f.spelling("torch") is None:
        return
    inputs = text[: -len("1:]")] + ":-1]"
    if any(f.text(other) == inputs for other in inside(f.statement(node), cst.Subscript)):
        yield Proposal(edits=(f.replace(node, f"{inputs}.roll(-1)"),))


@operator(
    "gelu-variant",
    cst.Call,
    category="attention-transformer",
    difficulty=5,
    symptom="Nothing shows in training; loaded weights give slightly different answers.",
    hints=(
        "LOOK: compare the activations with those of the model that the weights come from.",
        "WHERE: the nonlinearity in `{function}`.",
        "WHAT: is it computed exactly, or by a formula that comes close?",
    ),
    repair="Use the form that the weights were trained with.",
    mechanism=(
        "GELU is written with the error function or with a tanh that comes close to it. The two"
        " differ in the fourth digit: a fresh model learns equally well with either, and a trained"
        " one drifts a little in each layer."
    ),
    evidence=("https://unsloth.ai/blog/gemma-bugs",),
    examples=(
        Example(
            row="gelu-variant",
            before='import torch.nn.functional as F\ny = F.gelu(x, approximate="tanh")\n',
            after=("import torch.nn.functional as F\ny = F.gelu(x)\n",),
        ),
        Example(
            before="from torch import nn\nact = nn.GELU()\n",
            after=('from torch import nn\nact = nn.GELU(approximate="tanh")\n',),
        ),
    ),
    counterexamples=("y = gelu(x)\n", "from torch import nn\nact = nn.GELU\n"),
)
def gelu_variant(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if layer(f, node) != "GELU" and f.qname(node.func) != "torch.nn.functional.gelu":
        return
    given = keyword(node, "approximate")
    if given is None:
        yield Proposal(edits=(f.insert_arg(node, 'approximate="tanh"'),))
    elif "tanh" in f.text(given.value):
        yield Proposal(edits=(f.delete_arg(node, given),))
