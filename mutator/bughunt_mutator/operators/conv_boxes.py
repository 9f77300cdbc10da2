"""Mistakes in the geometry of boxes: their overlap, their formats, the choice among them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    binary,
    function_of,
    inside,
    keyword,
    last_name,
    number,
    operation,
)
from bughunt_mutator.operators._look_parts import is_number, opposite, says
from bughunt_mutator.operators._sources import TAXONOMY, issue, pull
from bughunt_mutator.source import SourceFile

BOXES = ("iou", "giou", "diou", "inter", "intersection", "overlap", "union", "jaccard")


def overlaps(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the function around a node computes how much boxes overlap."""
    return says(function_of(f, node), *BOXES)


def floored(f: SourceFile, node: cst.CSTNode | None) -> cst.BaseExpression | None:
    """What an expression lets not fall below zero: `x.clamp(min=0)`, `maximum(x, 0)`, `relu(x)`."""
    op = operation(f, node, "clamp", "clip", "clamp_min", "maximum", "relu")
    if op is not None:
        low = f.arg(op.call, "min", op.shift) or f.arg(op.call, "a_min", op.shift)
        zero = low is not None and is_number(low.value, 0) and f.arg(op.call, "max", op.shift + 1) is None
        return op.subject if zero or op.name == "relu" else None
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "max":
        sides = [each.value for each in node.args]
        for one, other in (sides, sides[::-1]) if len(sides) == 2 else ():
            if is_number(one, 0):
                return other
    return None


@operator(
    "iou-no-clamp",
    cst.Call,
    category="conv",
    difficulty=3,
    symptom="Boxes that are far apart count as overlapping; now and then a loss is not a number.",
    hints=(
        "LOOK: compute the overlap of two boxes in opposite corners.",
        "WHERE: the width and the height in `{function}`.",
        "WHAT: what is the product of two negative lengths?",
    ),
    repair="Take zero for a width or a height below zero.",
    mechanism=(
        "For boxes that do not meet, the shared width and height come out negative. Their product is"
        " positive again, so the farther two boxes are apart, the more they seem to share."
    ),
    evidence=(pull("LongxingTan/tfyolo", 4), issue("mystic123/tensorflow-yolo-v3", 84)),
    examples=(
        Example(
            row="iou-no-clamp",
            before="def iou(a, b):\n    inter = (right - left).clamp(min=0) * h\n",
            after=("def iou(a, b):\n    inter = (right - left) * h\n",),
        ),
        Example(
            before="import numpy as np\n\ndef iou(a, b):\n    w = np.maximum(0, x2 - x1)\n",
            after=("import numpy as np\n\ndef iou(a, b):\n    w = x2 - x1\n",),
        ),
        Example(
            before="def overlap(a, b):\n    return max(0, x2 - x1) * h\n",
            after=("def overlap(a, b):\n    return (x2 - x1) * h\n",),
        ),
    ),
    counterexamples=(
        "def f(a, b):\n    return (a - b).clamp(min=0)\n",
        "def iou(a, b):\n    return x.clamp(min=0, max=1)\n",
    ),
)
def iou_no_clamp(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if not overlaps(f, node):
        return
    inner = floored(f, node)
    op = operation(f, node, "maximum")
    if inner is None and op is not None and op.shift and is_number(op.subject, 0):
        other = f.arg(node, None, 1)
        inner = other.value if other is not None else None
    if inner is None and op is not None and op.shift and len(node.args) == 2:
        inner = op.subject if is_number(node.args[1].value, 0) else None
    if inner is not None and binary(inner, cst.Subtract) is not None:
        yield Proposal(edits=(f.replace(node, f.text(inner)),))


@operator(
    "iou-max-for-min",
    cst.Call,
    category="conv",
    difficulty=3,
    symptom="Overlaps are wrong everywhere, often larger than one.",
    hints=(
        "LOOK: compute the overlap of a box with one that it contains, by hand as well.",
        "WHERE: the corners of the shared part in `{function}`.",
        "WHAT: where does the shared part end if one box ends earlier?",
    ),
    repair="Let the shared part end where the first of both boxes ends.",
    mechanism=(
        "The shared part begins where the later box begins and ends where the earlier one ends. Taken"
        " the other way, the hull of both boxes is measured on that side."
    ),
    evidence=(issue("YunYang1994/tensorflow-yolov3", 10),),
    examples=(
        Example(
            row="iou-max-for-min",
            before="import torch\n\ndef iou(a, b):\n    right = torch.minimum(a[2], b[2])\n",
            after=("import torch\n\ndef iou(a, b):\n    right = torch.maximum(a[2], b[2])\n",),
        ),
        Example(
            before="def overlap(a, b):\n    x2 = min(a[2], b[2])\n",
            after=("def overlap(a, b):\n    x2 = max(a[2], b[2])\n",),
        ),
    ),
    counterexamples=(
        "def overlap(a, b):\n    return min(a, 1)\n",
        "import torch\n\ndef f(a, b):\n    return torch.minimum(a, b)\n",
        "def iou(a):\n    return a.min(0)\n",
    ),
)
def max_for_min(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    name = last_name(node.func)
    other = {"min": "max", "minimum": "maximum"}.get(name)
    if other is None or len(node.args) != 2 or not overlaps(f, node):
        return
    if any(each.keyword is not None or number(each.value) is not None for each in node.args):
        return
    if isinstance(node.func, cst.Name) and node.func.value == "min":
        yield Proposal(edits=(f.replace(node.func, other),))
    elif isinstance(node.func, cst.Attribute) and (f.qname(node.func) or "").startswith(("torch.", "numpy.")):
        yield Proposal(edits=(f.replace(node.func.attr, other),))


@operator(
    "iou-plus-one",
    cst.BinaryOperation,
    category="conv",
    difficulty=4,
    symptom="Small boxes overlap more, or less, than they should; large ones are fine.",
    hints=(
        "LOOK: compute the overlap of a box with itself, for boxes of one pixel and of a hundred.",
        "WHERE: each length in `{function}`.",
        "WHAT: are corners places on a line, or numbers of pixels?",
    ),
    repair="Measure all lengths in the same way.",
    mechanism=(
        "If corners number pixels, both ends count and a length is one more than the difference; if"
        " they are coordinates, it is the difference. One length of the other kind spoils the ratio."
    ),
    evidence=(issue("facebookresearch/maskrcnn-benchmark", 1020),),
    examples=(
        Example(
            row="iou-plus-one",
            before="def iou(a, b):\n    area = (a[2] - a[0]) * (a[3] - a[1])\n",
            after=(
                "def iou(a, b):\n    area = (a[2] - a[0] + 1) * (a[3] - a[1])\n",
                "def iou(a, b):\n    area = (a[2] - a[0]) * (a[3] - a[1] + 1)\n",
            ),
        ),
        Example(
            before="def iou(a, b):\n    shared = (rb - lt).clamp(min=0)\n",
            after=("def iou(a, b):\n    shared = (rb - lt + 1).clamp(min=0)\n",),
        ),
    ),
    counterexamples=(
        "def iou(a, b):\n    union = area_a + area_b - inter\n",
        "def f(a):\n    return (a[2] - a[0]) * (a[3] - a[1])\n",
    ),
)
def iou_plus_one(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Subtract)
    if sides is None or not overlaps(f, node) or number(sides[1]) is not None:
        return
    above = f.parent.get(node)
    call = above if isinstance(above, cst.Call) else f.parent.get(above) if above is not None else None
    length = binary(above, cst.Multiply) is not None or floored(f, call) is node
    if length:
        new = f"{f.text(sides[0])} - {f.text(sides[1])} + 1"
        yield Proposal(edits=(f.replace(node, f"({new})" if node.lpar else new),))


FORMATS = re.compile(
    "(xyxy|xywh|cxcywh|corners?|cent(er|re)s?(_size)?|ltrb|ltwh|tlbr)_?(to|2)_?"
    "(xyxy|xywh|cxcywh|corners?|cent(er|re)s?(_size)?|ltrb|ltwh|tlbr)"
    "|(to|as|into)_(xyxy|xywh|cxcywh|corners|cent(er|re)s?|ltrb|ltwh|tlbr)"
)


@operator(
    "box-format-mixed",
    cst.Call,
    cst.BinaryOperation,
    category="conv",
    difficulty=3,
    symptom="Boxes are of about the right size and at the wrong place; the loss keeps a floor.",
    hints=(
        "LOOK: draw one box by hand from its four numbers, in every function that it passes.",
        "WHERE: what the four numbers mean in `{function}`.",
        "WHAT: corners, or a centre and a size?",
    ),
    repair="Convert boxes to the format that the next function expects.",
    mechanism=(
        "Four numbers fit any format, so nothing complains. Read as corners, a centre and a size"
        " make a box that lies elsewhere, and overlaps with the wrong ones."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="box-format-mixed",
            before="o = iou(xywh_to_xyxy(boxes), truth)\n",
            after=("o = iou(boxes, truth)\n",),
        ),
        Example(
            before="def corners(cx, w):\n    return cx - w / 2, cx + w / 2\n",
            after=("def corners(cx, w):\n    return cx, cx + w\n",),
        ),
        Example(
            before="def f(b):\n    half = b[:, 2:] / 2\n    return cat([b[:, :2] - half, b[:, :2] + half])\n",
            after=("def f(b):\n    half = b[:, 2:] / 2\n    return cat([b[:, :2], b[:, :2] + 2 * half])\n",),
        ),
    ),
    counterexamples=("o = iou(scale(boxes), truth)\n", "y = x - w / 2\n", "lo, hi = m - s / 2, m + s / 2\n"),
)
def format_mixed(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        if FORMATS.fullmatch(last_name(node.func)) and len(node.args) == 1:
            given = node.args[0]
            if given.keyword is None and not given.star and not _is_definition(f, node):
                yield Proposal(edits=(f.replace(node, f.text(given.value)),))
        return
    low = _half(f, node, cst.Subtract)
    home = function_of(f, node)
    if low is None or not says(home, "box", "boxes", "cx", "cy", "corners", "xyxy", "xywh", "b"):
        return
    for other in inside(home, cst.BinaryOperation):
        high = _half(f, other, cst.Add)
        if high is not None and high[0] == low[0] and high[1] == low[1]:
            edits: tuple[Edit, ...] = (
                f.replace(node, low[0]),
                f.replace(other, f"{high[0]} + {high[2]}"),
            )
            yield Proposal(edits=edits)
            return


def _is_definition(f: SourceFile, node: cst.Call) -> bool:
    """Whether a conversion is used within another conversion."""
    home = f.function(node)
    return home is not None and FORMATS.fullmatch(home.name.value) is not None


def _half(
    f: SourceFile, node: cst.BinaryOperation, sign: type[cst.BaseBinaryOp]
) -> tuple[str, str, str] | None:
    """The centre of `centre - size / 2`, the half and the whole size as written."""
    sides = binary(node, sign)
    if sides is None:
        return None
    text = f.text(sides[1])
    quotient = binary(sides[1], cst.Divide)
    if quotient is not None and number(quotient[1]) == 2:
        return f.text(sides[0]), text, f.text(quotient[0])
    product = binary(sides[1], cst.Multiply)
    for one, other in (product, product[::-1]) if product is not None else ():
        if number(one) == 0.5:
            return f.text(sides[0]), text, f.text(other)
    if isinstance(sides[1], cst.Name) and "half" in sides[1].value:
        return f.text(sides[0]), text, f"2 * {text}"
    return None


@operator(
    "nms-ascending",
    cst.Call,
    cst.Subscript,
    category="conv",
    difficulty=2,
    symptom="The boxes that are left are the least certain ones.",
    hints=(
        "LOOK: print the scores of the boxes in the order in which they are visited.",
        "WHERE: the order in `{function}`.",
        "WHAT: which of two boxes that overlap should stay?",
    ),
    repair="Visit the boxes from the highest score to the lowest.",
    mechanism=(
        "Each box that is visited removes those that it overlaps. Visited from the lowest score"
        " upwards, poor boxes remove good ones, and every object keeps its worst box."
    ),
    evidence=(),
    examples=(
        Example(
            row="nms-ascending",
            before="def nms(boxes, scores):\n    order = scores.argsort(descending=True)\n",
            after=("def nms(boxes, scores):\n    order = scores.argsort()\n",),
        ),
        Example(
            before="import numpy as np\n\ndef nms(b, s):\n    order = np.argsort(-s)\n",
            after=("import numpy as np\n\ndef nms(b, s):\n    order = np.argsort(s)\n",),
        ),
        Example(
            before="def suppress(b, s):\n    order = s.argsort()[::-1]\n",
            after=("def suppress(b, s):\n    order = s.argsort()\n",),
        ),
        Example(
            before="def nms(boxes):\n    boxes = sorted(boxes, key=score, reverse=True)\n",
            after=("def nms(boxes):\n    boxes = sorted(boxes, key=score)\n",),
        ),
    ),
    counterexamples=(
        "def rank(s):\n    return s.argsort(descending=True)\n",
        "def nms(s):\n    return s.argsort()\n",
    ),
)
def nms_ascending(f: SourceFile, node: cst.Call | cst.Subscript) -> Iterator[Proposal]:
    home = function_of(f, node)
    if not (
        says(home, "nms", "suppress", "suppression") or (says(home, "keep", "kept") and overlaps(f, node))
    ):
        return
    if isinstance(node, cst.Subscript):
        reversed_ = [f.text(part.slice) for part in node.slice] == ["::-1"]
        if reversed_ and operation(f, node.value, "argsort"):
            yield Proposal(edits=(f.replace(node, f.text(node.value)),))
        return
    if last_name(node.func) not in ("argsort", "sort", "sorted"):
        return
    given = keyword(node, "descending", "reverse")
    if given is not None:
        if last_name(given.value) == "True":
            yield Proposal(edits=(f.delete_arg(node, given),))
        return
    positive = opposite(node.args[0].value) if node.args else None
    if positive is not None:
        yield Proposal(edits=(f.replace(node.args[0].value, f.text(positive)),))
