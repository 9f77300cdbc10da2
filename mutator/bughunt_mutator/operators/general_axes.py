"""Axes that fit and are wrong; what fits is known from a run."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import Operation, axis, binary, number, operation, value
from bughunt_mutator.operators._look_facts import fits, sizes
from bughunt_mutator.operators._sources import COMMON_MISTAKES, TAXONOMY, issue
from bughunt_mutator.shapes import exchanged
from bughunt_mutator.source import SourceFile

ALONG = (
    *("softmax", "log_softmax", "cumsum", "cumprod", "flip", "argsort", "sum", "mean", "std", "var", "prod"),
    *("amax", "amin", "argmax", "argmin", "logsumexp", "all", "any", "norm", "max", "min", "median"),
)
AVERAGES = ("mean", "std", "var", "sum", "amax", "amin", "max", "min", "logsumexp", "norm")
RESHAPES = ("reshape", "view", "flatten")


@operator(
    "other-axis",
    cst.Call,
    category="tensor-shape",
    difficulty=4,
    symptom="Shapes are right and training runs, but results depend on what they should not depend on.",
    hints=(
        "LOOK: change one entry of the input and see which entries of the result change.",
        "WHERE: the operations along an axis in `{function}`.",
        "WHAT: what do the entries along that axis have in common?",
    ),
    repair="Work along the axis whose entries belong together.",
    mechanism=(
        "Another axis fits as well: the result has the same shape, or one that is stretched to it. What"
        " should be compared within a row is compared across rows, examples or channels."
    ),
    evidence=(TAXONOMY, COMMON_MISTAKES),
    facts={"x": "float32 4 3 5", "s": "float32 6 6", "n": "int 3"},
    examples=(
        Example("y = x.softmax(dim=-1)\n", ("y = x.softmax(dim=-2)\n", "y = x.softmax(dim=-3)\n")),
        Example(
            "y = x - x.mean(1, keepdim=True)\n",
            ("y = x - x.mean(0, keepdim=True)\n", "y = x - x.mean(2, keepdim=True)\n"),
        ),
        Example(
            "import torch\ny = torch.sum(s, dim=1) / n\n", ("import torch\ny = torch.sum(s, dim=0) / n\n",)
        ),
    ),
    counterexamples=(
        "y = x.mean(1)\n",
        "y = x.unsqueeze(1).softmax(2)\n",
        "y = x - x.mean((0, 1))\n",
        "y = s.mean()\n",
    ),
)
def other_axis(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, *ALONG)
    along = axis(f, op) if op is not None else None
    if op is not None and op.name == "norm":
        along = value(f, node, "dim", op.shift + 1)
    found = sizes(f, op.subject) if op is not None else ()
    place = number(along)
    if along is None or place is None or not found:
        return
    rank = len(found[0])
    for other in _others(int(place), rank):
        edit = f.replace(along, str(other))
        if all(shape[other] > 1 for shape in found) and fits(f, edit):
            yield Proposal((edit,), params={"axis": other})


def _others(place: int, rank: int) -> list[int]:
    """All other axes, counted from the end that the first was counted from; the nearest first."""
    known = range(rank) if place >= 0 else range(-rank, 0)
    return sorted((each for each in known if each != place), key=lambda each: (abs(each - place), each))


@operator(
    "axis-forgotten",
    cst.Call,
    category="tensor-shape",
    difficulty=3,
    symptom="Training runs and gets somewhere, with results that are a little too coarse.",
    hints=(
        "LOOK: print the statistics that are used; how many should there be?",
        "WHERE: the reductions in `{function}`.",
        "WHAT: one number for all, or one for each row?",
    ),
    repair="Name the axis, and keep it where the result meets what it was taken from.",
    mechanism=(
        "Without an axis a reduction gives one number for everything, and a single number meets any shape."
        " Rows, channels or examples are treated as if they were one."
    ),
    evidence=(TAXONOMY,),
    facts={"x": "float32 4 3 5"},
    examples=(
        Example("y = x - x.mean(1, keepdim=True)\n", ("y = x - x.mean()\n",)),
        Example(
            "import torch\ny = x / torch.amax(x, dim=-1, keepdim=True)\n",
            ("import torch\ny = x / torch.amax(x)\n",),
        ),
    ),
    counterexamples=("y = x.mean(1)\n", "y = x - x.mean()\n", "y = x - x.mean(0, keepdim=True)[:, :1, :2]\n"),
)
def axis_forgotten(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, *AVERAGES)
    if op is None or axis(f, op) is None or not sizes(f, op.subject) or len(node.args) > op.shift + 2:
        return
    given = f.text(op.subject) if op.shift else ""
    edit = f.replace(node, f"{f.text(node.func)}({given})")
    if fits(f, edit):
        yield Proposal((edit,))


@operator(
    "square-not-turned",
    cst.Call,
    cst.Attribute,
    category="tensor-shape",
    difficulty=4,
    symptom="Nothing complains and something is learned; rows and columns have changed places.",
    hints=(
        "LOOK: put in an array that is not symmetric, and follow one entry.",
        "WHERE: the exchanges of axes in `{function}`.",
        "WHAT: which of the two axes of equal length is which?",
    ),
    repair="Exchange the two axes.",
    mechanism=(
        "Both axes have one length in this program, so the array fits with them exchanged and as it is."
        " With other sizes the mistake would have stopped the program."
    ),
    evidence=(TAXONOMY,),
    facts={"x": "float32 4 3 3", "s": "float32 6 6", "r": "float32 2 6"},
    examples=(
        Example("y = x.transpose(1, 2) * 2\n", ("y = x * 2\n",)),
        Example("y = r @ s.T\n", ("y = r @ s\n",)),
    ),
    counterexamples=("y = r.T\n", "y = x.transpose(0, 1)\n", "y = x.shape\n"),
)
def square_not_turned(f: SourceFile, node: cst.Call | cst.Attribute) -> Iterator[Proposal]:
    subject = turned(f, node)
    if subject is None or not sizes(f, subject):
        return
    edit = f.replace(node, f.text(subject))
    if fits(f, edit):
        yield Proposal((edit,))


def turned(f: SourceFile, node: cst.CSTNode) -> cst.BaseExpression | None:
    """What an expression is with two axes exchanged."""
    if isinstance(node, cst.Attribute) and node.attr.value in ("T", "mT"):
        return node.value
    op = operation(f, node, "transpose", "swapaxes", "permute", "t")
    return op.subject if op is not None else None


@operator(
    "reshaped-without-turning",
    cst.Call,
    category="tensor-shape",
    difficulty=4,
    symptom="It learns, but slower and to a worse plateau than the same model should.",
    hints=(
        "LOOK: fill the input with its own indices and print what comes out.",
        "WHERE: the changes of layout in `{function}`.",
        "WHAT: which entries stand next to each other in memory when the new rows are cut?",
    ),
    repair="Exchange the axes before the new shape is cut.",
    mechanism=(
        "A reshape fills the new shape in the order of memory. Without the exchange of axes before it, the"
        " shape is the same and every row holds pieces of several."
    ),
    evidence=(COMMON_MISTAKES, issue("zhouhaoyi/Informer2020", 59)),
    facts={"x": "float32 4 3 5"},
    examples=(
        Example("y = x.transpose(1, 2).reshape(4, -1)\n", ("y = x.reshape(4, -1)\n",)),
        Example("y = x.permute(0, 2, 1).flatten(1)\n", ("y = x.flatten(1)\n",)),
    ),
    counterexamples=(
        "y = x.transpose(0, 1).flatten(1)\n",
        "y = x.transpose(1, 2)\n",
        "y = x.reshape(4, -1)\n",
    ),
)
def reshaped_without_turning(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, *RESHAPES)
    before = operation(f, op.subject, "transpose", "permute", "swapaxes") if op is not None else None
    if before is None or not sizes(f, before.subject):
        return
    edit = f.replace(before.call, f.text(before.subject))
    if fits(f, edit):
        yield Proposal((edit,))


@operator(
    "cut-for-turned",
    cst.Call,
    category="tensor-shape",
    difficulty=4,
    symptom="Everything fits and the loss falls, but less and less surely than it should.",
    hints=(
        "LOOK: fill the input with its own indices and print what comes out.",
        "WHERE: the change of layout in `{function}`.",
        "WHAT: are two axes exchanged, or is the same memory only cut into other rows?",
    ),
    repair="Exchange the axes; a reshape only renames positions in memory.",
    mechanism=(
        "A reshape to the exchanged sizes has the right shape and the wrong content: values keep their order"
        " in memory, so those of different rows end up in one."
    ),
    evidence=(COMMON_MISTAKES,),
    facts={"x": "float32 4 3 5", "r": "float32 2 6"},
    examples=(
        Example("y = x.transpose(0, 1)\n", ("y = x.reshape(x.shape[1], x.shape[0], -1)\n",)),
        Example("y = r.swapaxes(0, 1) + 1\n", ("y = r.reshape(r.shape[1], -1) + 1\n",)),
    ),
    counterexamples=("y = (x + 1).transpose(0, 1)\n", "y = r.transpose(0, 0)\n"),
)
def cut_for_turned(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "transpose", "swapaxes")
    found = sizes(f, op.subject) if op is not None else ()
    if op is None or not found or not isinstance(op.subject, cst.Name | cst.Attribute):
        return
    ends = [number(each.value) for each in node.args[op.shift :]]
    if len(ends) != 2 or any(end is None or not -len(found[0]) <= end < len(found[0]) for end in ends):
        return
    edit = f.replace(node, _cut(f, op, [int(end or 0) for end in ends], len(found[0])))
    if all(shape != exchanged(shape, int(ends[0] or 0), int(ends[1] or 0)) for shape in found) and fits(
        f, edit
    ):
        yield Proposal((edit,))


def _cut(f: SourceFile, op: Operation, ends: list[int], rank: int) -> str:
    """A reshape to exchanged sizes, the last of them left open."""
    name, order = f.text(op.subject), exchanged(tuple(range(rank)), *ends)
    shape = ", ".join(f"{name}.shape[{place}]" for place in order[:-1])
    return f"{name}.reshape({shape}, -1)"


@operator(
    "table-of-all-pairs",
    cst.BinaryOperation,
    category="tensor-shape",
    difficulty=4,
    symptom="The loss falls to what a constant answer gives, and stays there.",
    hints=(
        "LOOK: print the shape of every intermediate value on a batch of five.",
        "WHERE: both sides of the arithmetic in `{function}`.",
        "WHAT: what does a row give with a column?",
    ),
    repair="Bring both sides to one shape.",
    mechanism=(
        "A column meets a row in a table of all pairs, and its average is a single number all the same."
        " Every value is compared with everybody's partner, so the best answer is the same for all."
    ),
    evidence=(issue("deepset-ai/FARM", 229), issue("thu-ml/tianshou", 40)),
    facts={"p": "float32 6 grad", "t": "float32 6", "d": "float32 6", "x": "float32 4 3"},
    examples=(
        Example("y = ((p - t) ** 2).mean()\n", ("y = ((p[:, None] - t) ** 2).mean()\n",)),
        Example("d = p * t\ny = d.mean()\n", ("d = p[:, None] * t\ny = d.mean()\n",)),
    ),
    counterexamples=("y = p - t\n", "y = (x - x).mean()\n", "y = (p + t).mean()\n", "y = (p - 1).mean()\n"),
)
def table_of_all_pairs(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Subtract, cst.Multiply, cst.Divide)
    if sides is None or not isinstance(sides[0], cst.Name | cst.Call | cst.Attribute | cst.Subscript):
        return
    one, two = sizes(f, sides[0]), sizes(f, sides[1])
    if not one or one != two or any(len(shape) != 1 or shape[0] < 2 for shape in one):
        return
    edit = f.replace(sides[0], f"{f.text(sides[0])}[:, None]")
    if fits(f, edit):
        yield Proposal((edit,))


@operator(
    "size-of-another-axis",
    cst.Call,
    cst.Subscript,
    category="tensor-shape",
    difficulty=3,
    symptom="Numbers are off by a factor that changes with the sizes of the data.",
    hints=(
        "LOOK: run it with twice as many rows; which numbers change that should not?",
        "WHERE: the sizes that `{function}` reads.",
        "WHAT: the number of rows, or the number of columns?",
    ),
    repair="Divide, or count, by the size that is meant.",
    mechanism="Any axis has a size, and as a factor or a bound one size does as well as another.",
    evidence=(),
    facts={"x": "float32 4 3 5", "n": "int 4"},
    examples=(
        Example("y = x.sum() / x.size(0)\n", ("y = x.sum() / x.size(1)\n", "y = x.sum() / x.size(2)\n")),
        Example(
            "y = x.mean() * x.shape[-1] ** 0.5\n",
            ("y = x.mean() * x.shape[-2] ** 0.5\n", "y = x.mean() * x.shape[-3] ** 0.5\n"),
        ),
    ),
    counterexamples=("y = x.view(x.size(0), -1)\n", "y = x.shape\n", "y = n.shape[0]\n"),
)
def size_of_another_axis(f: SourceFile, node: cst.Call | cst.Subscript) -> Iterator[Proposal]:
    subject, place = _sized(f, node)
    found = sizes(f, subject) if subject is not None else ()
    at = number(place)
    if place is None or at is None or not found or not -len(found[0]) <= at < len(found[0]):
        return
    for other in _others(int(at), len(found[0])):
        edit = f.replace(place, str(other))
        if all(shape[other] not in (1, shape[int(at)]) for shape in found) and fits(f, edit):
            yield Proposal((edit,), params={"axis": other})


def _sized(
    f: SourceFile, node: cst.Call | cst.Subscript
) -> tuple[cst.BaseExpression | None, cst.BaseExpression | None]:
    """The array whose size is read, and where the axis is written."""
    if isinstance(node, cst.Call):
        op = operation(f, node, "size")
        return (op.subject, axis(f, op)) if op is not None else (None, None)
    if isinstance(node.value, cst.Attribute) and node.value.attr.value == "shape" and len(node.slice) == 1:
        part = node.slice[0].slice
        return node.value.value, part.value if isinstance(part, cst.Index) else None
    return None, None
