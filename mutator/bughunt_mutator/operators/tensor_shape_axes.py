"""Mistakes in which axis, which slice and which letter an operation works on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    axis,
    binary,
    last_name,
    names_in,
    number,
    operation,
    value,
)
from bughunt_mutator.operators._look_parts import resolved
from bughunt_mutator.operators._sources import TAXONOMY
from bughunt_mutator.source import SourceFile


@operator(
    "squeeze-all",
    cst.Call,
    category="tensor-shape",
    difficulty=2,
    symptom="Everything works until, once in a while, a batch goes wrong or the program stops.",
    hints=(
        "LOOK: run it on a batch of one.",
        "WHERE: what `{function}` does to the shape.",
        "WHAT: how many axes of length one can there be?",
    ),
    repair="Name the axis that is to be removed.",
    mechanism=(
        "Without an axis, every axis of length one goes, the batch axis included when the last"
        " batch of an epoch holds a single row. The result then has one axis too few and is"
        " stretched or refused at the next step."
    ),
    evidence=("https://stackoverflow.com/questions/47267612", TAXONOMY),
    examples=(
        Example(row="squeeze-all", before="y = net(x).squeeze(-1)\n", after=("y = net(x).squeeze()\n",)),
        Example(
            before="import torch\ny = torch.squeeze(x, dim=1)\n",
            after=("import torch\ny = torch.squeeze(x)\n",),
        ),
        Example(
            before="import numpy as np\ny = np.squeeze(x, axis=-1)\n",
            after=("import numpy as np\ny = np.squeeze(x)\n",),
        ),
    ),
    counterexamples=("y = x.squeeze()\n", "y = x.unsqueeze(-1)\n"),
)
def squeeze_all(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "squeeze")
    if op is not None and len(node.args) == op.shift + 1:
        yield Proposal(edits=(f.delete_arg(node, node.args[op.shift]),))


@operator(
    "index-off-by-one-slice",
    cst.Subscript,
    category="tensor-shape",
    difficulty=4,
    symptom="Training looks better than it should, or a little worse; later use disappoints.",
    hints=(
        "LOOK: change the entry at one step; from which step on do the results change?",
        "WHERE: the slices in `{function}`.",
        "WHAT: does the slice end before the present step or with it?",
    ),
    repair="Let the slice hold the steps before the present one, and all of them.",
    mechanism=(
        "The window is moved by one place: the first step is lost and the present one comes in. If"
        " the present step is the answer, the answer leaks; otherwise something is merely missing."
        " Lengths are the same, so no shape gives it away."
    ),
    evidence=("https://stackoverflow.com/questions/49304817", TAXONOMY),
    examples=(
        Example(
            row="index-off-by-one-slice",
            before="for t in range(9):\n    y[t] = f(h[:, :t])\n",
            after=("for t in range(9):\n    y[t] = f(h[:, 1 : t + 1])\n",),
        ),
        Example(
            before="out = [step(past[:i]) for i in range(1, n)]\n",
            after=("out = [step(past[1 : i + 1]) for i in range(1, n)]\n",),
        ),
        Example(
            before="import numpy as np\ny = np.sort(gaps, axis=1)[:, k - 1]\n",
            after=("import numpy as np\ny = np.sort(gaps, axis=1)[:, k]\n",),
        ),
        Example(
            before="import numpy as np\nlargest = np.argsort(-values)[:count]\n",
            after=("import numpy as np\nlargest = np.argsort(-values)[1 : count + 1]\n",),
        ),
    ),
    counterexamples=("y = h[:, :T]\n", "for t in range(9):\n    y = h[:, t:]\n", "x = h[:, :-1]\n"),
)
def slice_moved(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    if (moved := _other_rank(f, node)) is not None:
        yield moved
        return
    counters = counted_by(f, node)
    for part in node.slice:
        cut = part.slice
        if not isinstance(cut, cst.Slice) or cut.lower is not None or cut.step is not None:
            continue
        if isinstance(cut.upper, cst.Name) and cut.upper.value in counters:
            yield Proposal(edits=(f.replace(cut, f"1 : {cut.upper.value} + 1"),))
            return


ORDERED = ("sort", "argsort", "sorted", "svd", "eigh", "topk")


def _other_rank(f: SourceFile, node: cst.Subscript) -> Proposal | None:
    """The k-th of what is in order, or the first k of it, one place too far."""
    ranked = resolved(f, node.value)
    if not (isinstance(ranked, cst.Call) and last_name(ranked.func) in ORDERED):
        return None
    last = node.slice[-1].slice
    if isinstance(last, cst.Index):
        sides = binary(last.value, cst.Subtract)
        if sides is not None and isinstance(sides[0], cst.Name) and number(sides[1]) == 1:
            return Proposal(edits=(f.replace(last.value, f.text(sides[0])),))
    begins = isinstance(last, cst.Slice) and last.lower is None and last.step is None
    if begins and isinstance(last, cst.Slice) and isinstance(last.upper, cst.Name):
        return Proposal(edits=(f.replace(last, f"1 : {last.upper.value} + 1"),))
    return None


def counted_by(f: SourceFile, node: cst.CSTNode) -> frozenset[str]:
    """The variables of the loops and comprehensions around a node, within its function."""
    found: set[str] = set()
    for above in ancestors(f, node):
        if isinstance(above, cst.For):
            found |= names_in(above.target)
        elif isinstance(above, cst.ListComp | cst.GeneratorExp):
            found |= names_in(above.for_in.target)
        elif isinstance(above, cst.FunctionDef):
            break
    return frozenset(found)


@operator(
    "gather-wrong-dim",
    cst.Call,
    category="tensor-shape",
    difficulty=3,
    symptom="The program stops, or values of one row are credited to another.",
    hints=(
        "LOOK: fill the table with its own row numbers and see which rows are picked.",
        "WHERE: the look-up in `{function}`.",
        "WHAT: do the indices count rows or columns?",
    ),
    repair="Look up along the axis that the indices count.",
    mechanism=(
        "Along the other axis, an index picks a row instead of a column. If the table has enough"
        " rows nothing complains, and every example gets a value of some other example."
    ),
    examples=(
        Example(
            row="gather-wrong-dim",
            before="q = net(x).gather(1, a)\n",
            after=("q = net(x).gather(0, a)\n",),
        ),
        Example(
            before="import torch\np = torch.gather(table, dim=-1, index=i)\n",
            after=("import torch\np = torch.gather(table, dim=-2, index=i)\n",),
        ),
        Example(
            before="import numpy as np\np = np.take_along_axis(table, i, axis=1)\n",
            after=("import numpy as np\np = np.take_along_axis(table, i, axis=0)\n",),
        ),
    ),
    counterexamples=("q = x.gather(axes, a)\n", "q = x.gather(0, a)\n"),
)
def gather_dim(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "gather")
    along = axis(f, op) if op is not None else None
    if f.qname(node.func) == "numpy.take_along_axis":
        along = value(f, node, "axis", 2)
    other = {1: "0", 2: "1", -1: "-2", -2: "-1"}.get(int(number(along) or 0))
    if along is not None and other is not None:
        yield Proposal(edits=(f.replace(along, other),))


@operator(
    "cat-dim-wrong",
    cst.Call,
    category="tensor-shape",
    difficulty=3,
    symptom="One of two inputs makes no difference, or rows answer for each other.",
    hints=(
        "LOOK: replace the second input by zeros; does the output change, and for which rows?",
        "WHERE: where `{function}` puts its inputs together.",
        "WHAT: do the inputs end up side by side or one below the other?",
    ),
    repair="Put the inputs side by side, along the axis of the features.",
    mechanism=(
        "Laid one below the other, the inputs make twice as many rows. Whatever then brings the"
        " shape back in order drops one input, or cuts rows out of two examples each."
    ),
    examples=(
        Example(
            row="cat-dim-wrong",
            before="import torch\ny = torch.cat([a, b], dim=-1)\n",
            after=("import torch\ny = torch.cat([a, b], dim=0).reshape(len(a), -1)\n",),
        ),
        Example(
            before="import torch\ny = torch.cat((first, x), 1)\n",
            after=(
                "import torch\ny = torch.cat((first, x), 0)[: len(first)]\n",
                "import torch\ny = torch.cat((first, x), 0).reshape(len(first), -1)\n",
            ),
        ),
        Example(
            before="import numpy as np\ny = np.concatenate([a, b], axis=-1)\n",
            after=("import numpy as np\ny = np.concatenate([a, b], axis=0).reshape(len(a), -1)\n",),
        ),
    ),
    counterexamples=("import torch\ny = torch.cat([a, b])\n", "import torch\ny = torch.cat(parts, -1)\n"),
)
def cat_dim(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) not in ("torch.cat", "torch.concat", "numpy.concatenate"):
        return
    parts, along = node.args[0].value if node.args else None, value(f, node, "dim", 1)
    along = along or value(f, node, "axis", 1)
    elements = parts.elements if isinstance(parts, cst.List | cst.Tuple) else ()
    first = elements[0].value if len(elements) == 2 else None
    if along is None or number(along) not in (-1, 1) or not isinstance(first, cst.Name):
        return
    text, (start, end) = f.text(node), f.span(along)
    at = f.span(node)[0]
    stacked = f"{text[: start - at]}0{text[end - at :]}"
    if number(along) == 1:
        yield Proposal(edits=(f.replace(node, f"{stacked}[: len({first.value})]"),))
    yield Proposal(edits=(f.replace(node, f"{stacked}.reshape(len({first.value}), -1)"),))


@operator(
    "einsum-letters-swapped",
    cst.Call,
    category="tensor-shape",
    difficulty=4,
    symptom="The loss is higher than it should be; rows and columns seem to have changed places.",
    hints=(
        "LOOK: compute one entry by hand with sizes that are all different.",
        "WHERE: the letters in `{function}`.",
        "WHAT: which letter of the result counts rows, and which columns?",
    ),
    repair="Name the axes of the result in the order in which they are used.",
    mechanism=(
        "The result is transposed. As long as both axes have the same length every shape fits, and"
        " what should be read along a row is read along a column."
    ),
    examples=(
        Example(
            row="einsum-letters-swapped",
            before='import torch\ns = torch.einsum("bhqd,bhkd->bhqk", q, k)\n',
            after=('import torch\ns = torch.einsum("bhqd,bhkd->bhkq", q, k)\n',),
        ),
        Example(
            before="import numpy as np\ny = np.einsum('ij, jk -> ik', a, b)\n",
            after=("import numpy as np\ny = np.einsum('ij, jk -> ki', a, b)\n",),
        ),
    ),
    counterexamples=(
        'import torch\ns = torch.einsum("bd,bd->b", q, k)\n',
        'import torch\ns = torch.einsum("b...,b...", q, k)\n',
    ),
)
def einsum_swapped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    letters = node.args[0].value if node.args else None
    if f.qname(node.func) not in ("torch.einsum", "numpy.einsum") or not isinstance(
        letters, cst.SimpleString
    ):
        return
    text = f.text(letters)
    swapped = re.sub(r"(->.*)([A-Za-z])( ?)([A-Za-z])(\W*)$", r"\1\4\3\2\5", text)
    if swapped != text:
        yield Proposal(edits=(f.replace(letters, swapped),))
