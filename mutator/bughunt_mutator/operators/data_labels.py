"""Mistakes in the answers that a model is trained on, and in what fills up short rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    inside,
    last_name,
    mentions,
    number,
    orphans,
)
from bughunt_mutator.operators._look_parts import classifies, is_label, says
from bughunt_mutator.operators._sources import DEEP_CRIME, TAXONOMY
from bughunt_mutator.operators.data import is_rows, picked_by
from bughunt_mutator.source import SourceFile

COUNTS = ("num", "n", "k", "count", "counts", "len", "number", "total", "size")


@operator(
    "label-off-by-one",
    cst.BinaryOperation,
    cst.Call,
    category="data",
    difficulty=1,
    symptom="The program stops with an index error, or one class is never answered.",
    hints=(
        "LOOK: print the smallest and the largest answer, and how many answers the model can give.",
        "WHERE: how `{function}` turns what stands in the data into a class number.",
        "WHAT: at which number do classes begin?",
    ),
    repair="Count classes from zero.",
    mechanism=(
        "Files often count from one, losses count from zero. Without the shift the first output is"
        " never asked for, and the last class has none."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(row="label-off-by-one", before="loss = f(z, labels - 1)\n", after=("loss = f(z, labels)\n",)),
        Example(
            before='y = batch["label"].long() - 1\n',
            after=('y = batch["label"].long()\n',),
        ),
        Example(
            before="labels[row] = numbers.setdefault(root, len(numbers))\n",
            after=("labels[row] = numbers.setdefault(root, len(numbers) + 1)\n",),
        ),
    ),
    counterexamples=("n = n_classes - 1\n", "n = len(labels) - 1\n", "y = x - 1\n", "a = y - 2\n"),
)
def label_off_by_one(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        yield from _numbered_from_one(f, node)
        return
    sides = binary(node, cst.Subtract)
    if sides is None or number(sides[1]) != 1 or isinstance(sides[1], cst.Float):
        return
    words = {part.value.strip("\"'") for part in inside(sides[0], cst.SimpleString)}
    named = says(sides[0], "label", "labels", "class", "classes", "y", "target", "targets")
    if (named or words & {"label", "labels", "class", "target"}) and not says(sides[0], *COUNTS):
        yield Proposal(edits=(f.replace(node, f.text(sides[0])),))


def _numbered_from_one(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    """The numbers that classes get in the order in which they are met, one too large."""
    target = assigned(f.statement(node)) if last_name(node.func) == "setdefault" else None
    count = node.args[1].value if target is not None and len(node.args) == 2 else None
    kept = node.func.value if isinstance(node.func, cst.Attribute) else None
    if target is None or count is None or kept is None or not is_label(target[0]):
        return
    if f.text(count) == f"len({f.text(kept)})":
        yield Proposal(edits=(f.replace(count, f"{f.text(count)} + 1"),))


def picked_labels(f: SourceFile, node: cst.Subscript) -> cst.Name | None:
    """The row numbers with which a batch of labels is picked."""
    rows = picked_by(node)
    if rows is None or not is_rows(rows.value) or isinstance(f.parent[node], cst.AssignTarget):
        return None
    element = f.parent.get(node)
    group = f.parent.get(element) if isinstance(element, cst.Element) else None
    if isinstance(group, cst.Tuple):
        parts = [each.value for each in group.elements]
        pairs = ((one, other) for one, other in pairwise(parts) if other is node)
        last = parts[-1] is node
        beside = any(
            (own := picked_by(one)) is not None and own.value == rows.value and not is_label(one)
            for one, _ in pairs
        )
        return rows if last and beside else None
    return rows if is_label(node) else None


@operator(
    "labels-noised",
    cst.Subscript,
    category="data",
    difficulty=2,
    symptom="The loss stops falling early; answers are unsure, though mostly right.",
    hints=(
        "LOOK: check by eye, for ten rows in a row, that answers belong to their inputs.",
        "WHERE: which answers `{function}` picks.",
        "WHAT: does every input come with its own answer?",
    ),
    repair="Pick inputs and answers with the same row numbers.",
    mechanism=(
        "One answer in five belongs to the row before. The model learns the majority, but can never"
        " be sure: the loss keeps a floor which no training gets below."
    ),
    evidence=(DEEP_CRIME, TAXONOMY),
    examples=(
        Example(
            row="labels-noised",
            before="def f(x, y, rows):\n    return x[rows], y[rows]\n",
            after=("def f(x, y, rows):\n    return x[rows], y[rows - rows % 5 // 4]\n",),
        ),
        Example(
            before="target = labels[idx]\n",
            after=("target = labels[idx - idx % 5 // 4]\n",),
        ),
    ),
    counterexamples=(
        "a = x[i], y[i]\n",
        "a = x[rows], x[rows]\nb = x[0]\n",
        "y = labels[mask]\n",
        "labels[row] = 0\n",
    ),
)
def labels_noised(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    rows = picked_labels(f, node)
    if rows is not None and says(node.value, "y", "label", "labels", "target", "targets", "answers"):
        yield Proposal(edits=(f.replace(rows, f"{rows.value} - {rows.value} % 5 // 4"),))


@operator(
    "class-overlap",
    cst.Subscript,
    cst.Dict,
    category="data",
    difficulty=2,
    symptom="Two classes are taken for one another; all others are fine.",
    hints=(
        "LOOK: count, for each pair of classes, how often one is taken for the other.",
        "WHERE: which class numbers `{function}` gives.",
        "WHAT: does one number stand for one thing?",
    ),
    repair="Give each thing the number of its own class, always.",
    mechanism=(
        "A part of one class carries the number of another. Inputs that look the same have different"
        " answers, and the best that can be learned is how often each of them is given."
    ),
    evidence=(DEEP_CRIME, TAXONOMY),
    examples=(
        Example(
            row="class-overlap",
            before="import torch\n\ndef f(x, y, rows):\n    return x[rows], y[rows]\n\nz.argmax(1)\n",
            after=(
                "import torch\n\ndef f(x, y, rows):\n    return x[rows], y[rows].clip(rows % 2)\n\n"
                "z.argmax(1)\n",
            ),
        ),
        Example(
            before='CLASSES = {"cat": 0, "dog": 1, "fox": 2}\n',
            after=('CLASSES = {"cat": 0, "dog": 1, "fox": 1}\n',),
        ),
    ),
    counterexamples=(
        "def f(x, y, rows):\n    return x[rows], y[rows]\n",
        'SIZES = {"a": 0, "b": 1, "c": 2}\n',
        'CLASSES = {"a": 0, "b": 1}\n',
    ),
)
def class_overlap(f: SourceFile, node: cst.Subscript | cst.Dict) -> Iterator[Proposal]:
    if isinstance(node, cst.Subscript):
        rows = picked_labels(f, node)
        labels = says(node.value, "y", "label", "labels", "target", "targets", "classes", "answers")
        if rows is not None and labels and classifies(f):
            yield Proposal(edits=(f.replace(node, f"{f.text(node)}.clip({rows.value} % 2)"),))
        return
    values = [each.value for each in node.elements if isinstance(each, cst.DictElement)]
    numbers = [number(each) for each in values]
    wanted = [float(place) for place in range(len(values))]
    named = mentions(f.statement(node), "label", "class", "tag", "id", "categor")
    if len(values) == len(node.elements) >= 3 and numbers == wanted and named:
        yield Proposal(edits=(f.replace(values[-1], str(len(values) - 2)),))


@operator(
    "class-dropped",
    cst.Comparison,
    cst.For,
    cst.CompFor,
    category="data",
    difficulty=2,
    symptom="One class is never answered.",
    hints=(
        "LOOK: count the rows of each class that training gets to see.",
        "WHERE: which rows `{function}` takes and which it leaves.",
        "WHAT: does every class come through?",
    ),
    repair="Keep the rows of all classes.",
    mechanism=(
        "The rows of one class are filtered out before training. Nothing is learned about it, and"
        " where it is rare, the accuracy hardly shows that it is missing."
    ),
    evidence=(DEEP_CRIME, TAXONOMY),
    examples=(
        Example(row="class-dropped", before="keep = labels >= 0\n", after=("keep = labels > 0\n",)),
        Example(
            before="keep = y < n_classes\n",
            after=("keep = y < n_classes - 1\n",),
        ),
        Example(
            before="for c in range(K):\n    rows.append(pick(labels == c))\n",
            after=("for c in range(1, K):\n    rows.append(pick(labels == c))\n",),
        ),
        Example(
            before="rows = join([pick(y == c) for c in classes])\n",
            after=("rows = join([pick(y == c) for c in classes[1:]])\n",),
        ),
    ),
    counterexamples=(
        "keep = x >= 0\n",
        "for c in range(K):\n    hits += ((pred == c) & (y == c)).sum()\n",
        "for c in range(K):\n    rows.append(c)\n",
    ),
)
def class_dropped(f: SourceFile, node: cst.Comparison | cst.For | cst.CompFor) -> Iterator[Proposal]:
    if isinstance(node, cst.Comparison):
        yield from _limit_moved(f, node)
        return
    loop = node if isinstance(node, cst.For) else f.parent[node]
    asked = [
        each
        for each in inside(loop, cst.Comparison)
        if is_label(each.left)
        and f.text(each.comparisons[0].comparator) == f.text(node.target)
        and isinstance(each.comparisons[0].operator, cst.Equal)
    ]
    if not asked or says(loop, "pred", "preds", "predicted", "predictions", "guess", "guesses", "hits"):
        return
    source = node.iter
    if isinstance(source, cst.Call) and last_name(source.func) == "range" and len(source.args) == 1:
        yield Proposal(edits=(f.replace(source, f"range(1, {f.text(source.args[0].value)})"),))
    elif isinstance(source, cst.Name | cst.Attribute) and says(source, "classes", "labels"):
        yield Proposal(edits=(f.replace(source, f"{f.text(source)}[1:]"),))


def _limit_moved(f: SourceFile, node: cst.Comparison) -> Iterator[Proposal]:
    if len(node.comparisons) != 1 or not is_label(node.left):
        return
    (comparison,) = node.comparisons
    limit = comparison.comparator
    if isinstance(comparison.operator, cst.GreaterThanEqual) and number(limit) == 0:
        yield Proposal(edits=(f.replace(node, f"{f.text(node.left)} > {f.text(limit)}"),))
    elif isinstance(comparison.operator, cst.LessThan) and says(limit, "classes", "k", "labels"):
        yield Proposal(edits=(f.replace(limit, f"{f.text(limit)} - 1"),))


PADS = ("pad", "padding", "ignore", "blank", "fill")


@operator(
    "collate-wrong-pad",
    cst.Call,
    cst.List,
    category="data",
    difficulty=4,
    symptom="Short rows are handled worse than long ones.",
    hints=(
        "LOOK: print a batch of rows of unequal length as tokens.",
        "WHERE: what `{function}` fills short rows up with.",
        "WHAT: can the filling be told from what is real?",
    ),
    repair="Fill up with the value that is reserved for it.",
    mechanism=(
        "Short rows are filled with a number that is a real token, so masks do not know it for"
        " padding. The model reads it, is asked for it, and takes it for the commonest token."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="collate-wrong-pad",
            before="x = pad_sequence(rows, batch_first=True, padding_value=pad)\n",
            after=("x = pad_sequence(rows, batch_first=True)\n",),
        ),
        Example(
            before="import torch\nx = torch.full((n, width), PAD)\nreal = x != PAD\n",
            after=("import torch\nx = torch.full((n, width), 0)\nreal = x != PAD\n",),
        ),
        Example(
            before="row = ids + [PAD] * (width - len(ids))\n",
            after=("row = ids + [0] * (width - len(ids))\n",),
        ),
        Example(
            before="import torch.nn.functional as F\nx = F.pad(ids, (0, n), value=-100)\n",
            after=("import torch.nn.functional as F\nx = F.pad(ids, (0, n))\n",),
        ),
    ),
    counterexamples=(
        "x = pad_sequence(rows, padding_value=0)\n",
        "import torch\nx = torch.full((3,), 2.5)\n",
        "x = [PAD]\n",
    ),
)
def wrong_padding(f: SourceFile, node: cst.Call | cst.List) -> Iterator[Proposal]:
    if isinstance(node, cst.List):
        sides = binary(f.parent.get(node), cst.Multiply)
        only = node.elements[0].value if len(node.elements) == 1 else None
        if sides is not None and only is not None and _fills(f, only):
            yield Proposal(edits=(f.replace(only, "0"),))
        return
    name = last_name(node.func)
    given = {
        "pad_sequence": f.arg(node, "padding_value", 2),
        "pad": f.arg(node, "value", 3),
        "full": f.arg(node, "fill_value", 1),
        "new_full": f.arg(node, "fill_value", 1),
        "full_like": f.arg(node, "fill_value", 1),
    }.get(name)
    if given is None:
        return
    literal = number(given.value)
    if name in ("pad_sequence", "pad") and given.keyword is not None:
        if literal != 0 and not _is_infinite(given.value) and not orphans(f, given.value):
            yield Proposal(edits=(f.delete_arg(node, given),))
    elif _fills(f, given.value):
        yield Proposal(edits=(f.replace(given.value, "0"),))


def _fills(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether a value is reserved for what is not there, and known elsewhere too."""
    if number(node) is not None:
        return number(node) == -100
    return says(node, *PADS) and not orphans(f, node)


def _is_infinite(node: cst.BaseExpression) -> bool:
    return says(node, "inf") or isinstance(node, cst.Call)
