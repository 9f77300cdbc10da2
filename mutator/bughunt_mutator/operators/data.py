"""Mistakes in how data are split, ordered, scaled and paired."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    definitions,
    inside,
    last_name,
    loop_of,
    mentions,
    moved_before,
    names_in,
    operation,
    orphans,
)
from bughunt_mutator.operators._sources import DEEP_CHECKER, REASONS, TAXONOMY
from bughunt_mutator.source import SourceFile


def random_order(f: SourceFile, node: cst.CSTNode) -> cst.Call | None:
    """The call of `torch.randperm` or `rng.permutation`, if a node is one."""
    if isinstance(node, cst.Call):
        permutation = last_name(node.func) == "permutation" and len(node.args) == 1
        if f.qname(node.func) == "torch.randperm" or permutation:
            return node
    return None


@operator(
    "labels-permuted-separately",
    cst.Tuple,
    category="data",
    difficulty=2,
    symptom="The loss stays near that of guessing, and held-out answers are at chance.",
    hints=(
        "LOOK: take one batch and check by eye that answers belong to their inputs.",
        "WHERE: how inputs and answers are picked in `{function}`.",
        "WHAT: do both come from the same rows, in the same order?",
    ),
    repair="Pick inputs and answers with the same row numbers.",
    mechanism=(
        "Inputs in one order and answers in another are pairs at random. There is nothing to learn"
        " in them except the share of each answer."
    ),
    evidence=("https://stackoverflow.com/questions/40467990", REASONS, DEEP_CHECKER),
    examples=(
        Example(
            row="labels-permuted-separately",
            before="def f(x, y, rows):\n    return x[rows], y[rows]\n",
            after=("def f(x, y, rows):\n    return x[rows], y[rows.sort().values]\n",),
        ),
        Example(
            before="import torch\no = torch.randperm(5)\nx, y = x[o], y[o]\n",
            after=("import torch\no = torch.randperm(5)\nx, y = x[o], y\n",),
        ),
    ),
    counterexamples=("a = x[i], y[j]\n", "a = x[0], y[0]\n"),
)
def labels_permuted(f: SourceFile, node: cst.Tuple) -> Iterator[Proposal]:
    parts = [element.value for element in node.elements]
    if len(parts) < 2:
        return
    labels = parts[-1]
    if not isinstance(labels, cst.Subscript):
        return
    rows = picked_by(labels)
    if rows is None or not isinstance(parts[-2], cst.Subscript):
        return
    if rows.value not in {name.value for name in inside(parts[0], cst.Name)}:
        return
    if isinstance(f.parent.get(node), cst.Return) and not is_rows(rows.value):
        return
    whole = any(
        random_order(f, line.body[0].value) is not None
        for line in definitions(f, node, rows.value)
        if isinstance(line.body[0], cst.Assign)
    )
    label = f.text(labels.value)
    new = label if whole else f"{label}[{rows.value}.sort().values]"
    yield Proposal(edits=(f.replace(labels, new),))


def is_rows(name: str) -> bool:
    """Whether a name speaks of row numbers."""
    return any(word in name for word in ("row", "idx", "index", "pick", "perm", "order", "batch"))


def picked_by(node: cst.BaseExpression) -> cst.Name | None:
    """The name that an array is indexed with."""
    if isinstance(node, cst.Subscript) and len(node.slice) == 1:
        part = node.slice[0].slice
        if isinstance(part, cst.Index) and isinstance(part.value, cst.Name):
            return part.value
    return None


@operator(
    "no-shuffle-sorted",
    cst.Call,
    category="data",
    difficulty=2,
    symptom="The loss has a pattern that repeats with every pass over the data.",
    hints=(
        "LOOK: print which rows, and which answers, the first batches hold.",
        "WHERE: the order of the rows in `{function}`.",
        "WHAT: is a batch a fair sample of the whole?",
    ),
    repair="Draw a new random order for each pass.",
    mechanism=(
        "Rows in file order make batches that are alike within and differ from each other. The"
        " model chases each batch and forgets the one before."
    ),
    evidence=(REASONS, TAXONOMY),
    examples=(
        Example(
            row="no-shuffle-sorted",
            before="import torch\no = torch.randperm(len(x), generator=g)\n",
            after=("import torch\no = torch.arange(len(x))\n",),
        ),
        Example(
            before="import numpy as np\norder = rng.permutation(len(x))\n",
            after=("import numpy as np\norder = np.arange(len(x))\n",),
        ),
    ),
    counterexamples=("o = randperm(len(x))\n", "v = rng.permutation(x[:, 0])\n"),
)
def no_shuffle(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if (numpy := f.spelling("numpy")) and (dealt := permuted(node)) and not orphans(f, node.func):
        yield Proposal(edits=(f.replace(node, f"{numpy}.arange({f.text(dealt)})"),))
    if f.qname(node.func) == "torch.randperm" and not orphans(f, *node.args[1:]):
        count = f.text(node.args[0].value)
        yield Proposal(edits=(f.replace(node, f"{f.text(node.func)[:-8]}arange({count})"),))


@operator(
    "sampler-with-replacement",
    cst.Call,
    category="data",
    difficulty=5,
    symptom="The curve is slightly worse; nothing else shows.",
    hints=(
        "LOOK: count how often each row is seen during one pass.",
        "WHERE: how `{function}` chooses rows.",
        "WHAT: is every row seen once in each pass?",
    ),
    repair="Use a permutation of the rows.",
    mechanism=(
        "Independent draws see a third of the rows not at all in one pass, and others several"
        " times. The gradient is still unbiased, but noisier."
    ),
    evidence=("https://arxiv.org/abs/1202.4184",),
    examples=(
        Example(
            row="sampler-with-replacement",
            before="import torch\no = torch.randperm(n, generator=g)\n",
            after=("import torch\no = torch.randint(n, (n,), generator=g)\n",),
        ),
        Example(
            before="order = rng.permutation(len(x))\n",
            after=("order = rng.integers(len(x), size=len(x))\n",),
        ),
        Example(
            before="tried = rng.choice(d, size=k, replace=False)\n",
            after=("tried = rng.choice(d, size=k)\n",),
        ),
    ),
    counterexamples=("import torch\no = torch.randint(n, (n,))\n",),
)
def with_replacement(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    once = f.arg(node, "replace", None) if last_name(node.func) == "choice" else None
    if once is not None and f.text(once.value) == "False":
        yield Proposal(edits=(f.delete_arg(node, once),))
    if (dealt := permuted(node)) is not None and isinstance(node.func, cst.Attribute):
        draw, count = f.text(node.func.value), f.text(dealt)
        yield Proposal(edits=(f.replace(node, f"{draw}.integers({count}, size={count})"),))
    if f.qname(node.func) == "torch.randperm":
        first, *others = (f.text(each) for each in node.args)
        given = ", ".join([first, f"({first},)", *others])
        yield Proposal(edits=(f.replace(node, f"{f.text(node.func)[:-8]}randint({given})"),))


def permuted(node: cst.Call) -> cst.BaseExpression | None:
    """How many rows a NumPy generator puts into a random order, where it is given a number."""
    named = isinstance(node.func, cst.Attribute) and node.func.attr.value == "permutation"
    given = node.args[0].value if named and len(node.args) == 1 else None
    counted = isinstance(given, cst.Call) and isinstance(given.func, cst.Name) and given.func.value == "len"
    return given if counted or last_name(given) in ("n", "count", "points", "size") else None


SCALES = frozenset({"mean", "mu", "std", "sd", "sigma", "scale", "shift", "center", "centre"})


def standardised(
    f: SourceFile, node: cst.CSTNode
) -> tuple[cst.BaseExpression, cst.BaseExpression, cst.BaseExpression] | None:
    """`x`, `m` and `s` of `(x - m) / s`, where m and s are named as statistics."""
    quotient = binary(node, cst.Divide)
    difference = binary(quotient[0], cst.Subtract) if quotient else None
    if quotient is None or difference is None:
        return None
    words = (set(re.findall("[a-z]+", f.text(side).lower())) for side in (difference[1], quotient[1]))
    if all(SCALES & said for said in words):
        return difference[0], difference[1], quotient[1]
    return None


def unscaled(f: SourceFile, node: cst.BinaryOperation) -> cst.BaseExpression | None:
    """`x` of `(x - low) / (high - low)`, or of `x / sqrt(variance)` where features are put to scale."""
    quotient = binary(node, cst.Divide)
    if quotient is None:
        return None
    top, bottom = (binary(side, cst.Subtract) for side in quotient)
    if top is not None and bottom is not None and f.text(top[1]) == f.text(bottom[1]):
        return None if mentions(node, "step", "epoch", "warm", "total") else top[0]
    root = operation(f, quotient[1], "sqrt")
    home = f.function(node)
    asked = home is not None and mentions(home.name, "whiten", "standard", "normal")
    spread = root is not None and "var" in f.text(root.subject) and "+" not in f.text(root.subject)
    return quotient[0] if asked and spread else None


@operator(
    "normalise-missing",
    cst.BinaryOperation,
    category="data",
    difficulty=1,
    symptom="The first losses are huge or learning is slow, for no reason in the model.",
    hints=(
        "LOOK: print mean and spread of what the first layer receives.",
        "WHERE: what `{function}` makes of the raw values.",
        "WHAT: on which scale does the model expect its input?",
    ),
    repair="Bring the features to zero mean and unit spread.",
    mechanism=(
        "Weights are drawn for inputs of unit scale. Raw values saturate or swamp the first layer,"
        " and features with large numbers dominate all others."
    ),
    evidence=(TAXONOMY, DEEP_CHECKER),
    examples=(
        Example(
            row="normalise-missing",
            before="def f(x, mean, std):\n    return (x - mean) / std\n",
            after=("def f(x, mean, std):\n    return x\n",),
        ),
        Example(
            before="height = (y - y[0]) / (y[-1] - y[0])\n",
            after=("height = y\n",),
        ),
        Example(
            before="def whiten(m, x):\n    return x / m.variances.sqrt()\n",
            after=("def whiten(m, x):\n    return x\n",),
        ),
    ),
    counterexamples=("y = (x - a) / b\n", "def f(x):\n    std = x.std()\n    return x / std\n"),
)
def normalise_missing(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    rest = unscaled(f, node)
    if rest is not None and not orphans(f, node.right):
        yield Proposal(edits=(f.replace(node, f.text(rest)),))
        return
    found = standardised(f, node)
    if found is not None and not orphans(f, found[1], found[2]):
        yield Proposal(edits=(f.replace(node, f.text(found[0])),))


@operator(
    "mean-std-swapped",
    cst.BinaryOperation,
    category="data",
    difficulty=3,
    symptom="Learning is a little slower than it should be.",
    hints=(
        "LOOK: print mean and spread of what the first layer receives.",
        "WHERE: the arithmetic on raw values in `{function}`.",
        "WHAT: what should mean and spread be afterwards?",
    ),
    repair="Subtract the mean and divide by the spread.",
    mechanism=(
        "With both numbers exchanged the result is neither centred nor of unit scale; where the"
        " two are similar, it is only a little off."
    ),
    evidence=(REASONS, TAXONOMY),
    examples=(
        Example(
            row="mean-std-swapped",
            before="y = (x - mean) / std\n",
            after=("y = (x - std) / mean\n",),
        ),
    ),
    counterexamples=("y = (x - a) / b\n",),
)
def mean_std_swapped(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    found = standardised(f, node)
    if found is not None:
        yield Proposal(edits=f.swap(found[1], found[2]))


@operator(
    "train-test-preproc-mismatch",
    cst.Call,
    category="data",
    difficulty=2,
    symptom="Training goes well, and predictions are bad even on the training rows.",
    hints=(
        "LOOK: print mean and spread of the model's input in training and in use.",
        "WHERE: the way from raw input to answer in `{function}`.",
        "WHAT: does the model see in use what it has seen in training?",
    ),
    repair="Prepare inputs in use exactly as in training.",
    mechanism=(
        "The model has learned on prepared values and is asked about raw ones, which lie far"
        " outside of all that it knows."
    ),
    evidence=(REASONS, DEEP_CHECKER),
    examples=(
        Example(
            row="train-test-preproc-mismatch",
            before=(
                "def scaled(x):\n    return x / 255\n\ndef predict(net, x):\n    return net(scaled(x))\n"
            ),
            after=("def scaled(x):\n    return x / 255\n\ndef predict(net, x):\n    return net(x)\n",),
        ),
        Example(
            before=(
                "def standardise(net, x):\n    return x - net.m\n\n"
                "def predict(net, x):\n    return nearest(standardise(net, x))\n"
            ),
            after=(
                "def standardise(net, x):\n    return x - net.m\n\n"
                "def predict(net, x):\n    return nearest(x)\n",
            ),
        ),
    ),
    counterexamples=("def train(net, x):\n    return net(scaled(x))\n",),
)
def preproc_mismatch(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    home = f.function(node)
    words = ("scale", "normal", "standard", "prepare", "preprocess", "whiten")
    if home is None or home.name.value not in ("predict", "encode", "evaluate"):
        return
    if isinstance(node.func, cst.Name) and any(word in node.func.value for word in words):
        raw = node.args[-1].value
        given = {param.name.value for param in home.params.params}
        if isinstance(raw, cst.Name) and raw.value in given:
            yield Proposal(edits=(f.replace(node, raw.value),))


@operator(
    "same-batch-reused",
    cst.SimpleStatementLine,
    category="data",
    difficulty=2,
    symptom="The training loss falls to nothing in no time; held-out data see none of it.",
    hints=(
        "LOOK: print the first few values of each batch.",
        "WHERE: where `{function}` gets its batches from.",
        "WHAT: how many different rows has the model seen by now?",
    ),
    repair="Take a new batch for each update.",
    mechanism=(
        "One batch is drawn and then used for every update. The model learns it by heart, which"
        " looks like perfect training, and knows nothing else."
    ),
    evidence=(REASONS,),
    examples=(
        Example(
            row="same-batch-reused",
            before="for step in range(9):\n    x, y = next(stream)\n    fit(x, y)\n",
            after=("x, y = next(stream)\nfor step in range(9):\n    fit(x, y)\n",),
        ),
    ),
    counterexamples=(
        "x, y = next(stream)\n",
        "for i in z:\n    x = f(i)\n",
        "for stream in streams:\n    x, y = next(stream)\n    fit(x, y)\n",
        "for s in sequences:\n    row = next(fitting, None)\n    row.append(s)\n",
    ),
)
def same_batch(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair, loop = assigned(node), loop_of(f, node)
    if pair is None or loop is None or f.parent[f.parent[node]] is not loop:
        return
    draws = [
        each for each in inside(pair[1], cst.Call) if last_name(each.func) == "next" and len(each.args) == 1
    ]
    of_this_turn = isinstance(loop, cst.For) and names_in(loop.target) & names_in(pair[1])
    if draws and isinstance(pair[0], cst.Name | cst.Tuple) and not of_this_turn:
        yield Proposal(edits=moved_before(f, node, loop))


@operator(
    "uint8-wrap",
    cst.Call,
    category="numerics-precision",
    difficulty=3,
    symptom="Inputs look plausible, but dark and bright places are mixed up.",
    hints=(
        "LOOK: print smallest and largest value after each step of the preparation.",
        "WHERE: the types of the values in `{function}`.",
        "WHAT: what is 3 - 5 in this type?",
    ),
    repair="Convert to floating point before any arithmetic.",
    mechanism=(
        "Bytes wrap around below 0 and above 255. A difference that should be negative comes out"
        " large, so values on both sides of the mean change places."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="uint8-wrap",
            before="y = x.float() - x.mean_value\n",
            after=("y = x - x.mean_value\n",),
        ),
    ),
    counterexamples=("y = x.float() / 255\n", "y = x - 3\n"),
)
def uint8_wrap(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "float")
    if op is not None and not op.shift and binary(f.parent.get(node), cst.Subtract):
        yield Proposal(edits=(f.replace(node, f.text(op.subject)),))
