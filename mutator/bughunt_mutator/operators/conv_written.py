"""Mistakes in convolutions and pooling that are written out by hand."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    function_of,
    inside,
    mentions,
    names_in,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_parts import resolved, says
from bughunt_mutator.operators._sources import TAXONOMY
from bughunt_mutator.source import SourceFile

BACKWARD = ("backward", "grad", "gradient", "bwd", "vjp", "back", "backprop")
KERNELS = ("w", "weight", "weights", "kernel", "kernels", "filter", "filters")


def goes_back(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the function around a node computes gradients by hand."""
    home = f.function(node)
    return home is not None and says(home.name, *BACKWARD)


@operator(
    "pool-argmax-backward",
    cst.Comparison,
    cst.Call,
    category="conv",
    difficulty=4,
    symptom="It learns more slowly than it should, as if details were smeared.",
    hints=(
        "LOOK: compare the gradient with finite differences on a tiny map.",
        "WHERE: where the gradient goes in `{function}`.",
        "WHAT: if a value that was not the largest changes a little, what happens to the output?",
    ),
    repair="Send the gradient to the value that was the largest.",
    mechanism=(
        "Only the largest value of a window reaches the output, so only it can have a gradient. Here"
        " the others get one as well, and are changed for something they had no part in."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="pool-argmax-backward",
            before="def pool_backward(x, top, g):\n    return (x == top) * g\n",
            after=("def pool_backward(x, top, g):\n    return (x <= top) * g\n",),
        ),
        Example(
            before=(
                "import numpy as np\n\ndef pool_grad(dx, where, g):\n"
                "    np.put_along_axis(dx, where[..., None], g[..., None], axis=-1)\n    return dx\n"
            ),
            after=(
                "import numpy as np\n\ndef pool_grad(dx, where, g):\n    dx += g[..., None]\n    return dx\n",
            ),
        ),
        Example(
            before=(
                "def largest(x):\n    top = x.max(1)\n    winners = x == top\n\n    def pull(g):\n"
                "        return g * winners\n\n    return top, pull\n"
            ),
            after=(
                "def largest(x):\n    top = x.max(1)\n    winners = x <= top\n\n    def pull(g):\n"
                "        return g * winners\n\n    return top, pull\n",
            ),
        ),
        Example(
            before="def pool_backward(dx, where, g):\n    dx.scatter_(2, where, g)\n    return dx\n",
            after=("def pool_backward(dx, where, g):\n    dx.add_(g)\n    return dx\n",),
        ),
    ),
    counterexamples=(
        "def pool(x, top):\n    return (x == top) * 1\n",
        "def relu_backward(x, g):\n    return (x == 0) * g\n",
    ),
)
def pool_spreads(f: SourceFile, node: cst.Comparison | cst.Call) -> Iterator[Proposal]:
    pools = goes_back(f, node) and mentions(function_of(f, node), "pool", "window", "patches")
    if not pools and not marks_winners(f, node):
        return
    if isinstance(node, cst.Comparison):
        (comparison, *others) = node.comparisons
        plain = not others and number(comparison.comparator) is None
        if plain and isinstance(comparison.operator, cst.Equal):
            new = f"{f.text(node.left)} <= {f.text(comparison.comparator)}"
            yield Proposal(edits=(f.replace(node, new),))
        return
    if not isinstance(f.parent.get(node), cst.Expr):
        return
    given = [each.value for each in node.args]
    if f.qname(node.func) == "numpy.put_along_axis" and len(given) >= 3 and not orphans(f, given[1]):
        line = f.parent[node]
        yield Proposal(edits=(f.edit(*f.span(line), f"{f.text(given[0])} += {f.text(given[2])}"),))
    scattering = isinstance(node.func, cst.Attribute) and node.func.attr.value in ("scatter_", "scatter_add_")
    if scattering and isinstance(node.func, cst.Attribute) and len(given) == 3 and not orphans(f, given[1]):
        new = f"{f.text(node.func.value)}.add_({f.text(given[2])})"
        yield Proposal(edits=(f.replace(node, new),))


def marks_winners(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a comparison with the largest value is kept for a backward pass inside its function."""
    pair = assigned(f.statement(node))
    if not isinstance(node, cst.Comparison) or pair is None or pair[1] is not node:
        return False
    if not isinstance(pair[0], cst.Name):
        return False
    largest = resolved(f, node.comparisons[0].comparator)
    pulls = [home for home in inside(function_of(f, node), cst.FunctionDef) if home is not f.function(node)]
    kept = any(pair[0].value in names_in(home.body) for home in pulls)
    return kept and operation(f, largest, "max", "amax") is not None


@operator(
    "conv-backward-no-flip",
    cst.Call,
    cst.Subscript,
    cst.AugAssign,
    category="conv",
    difficulty=4,
    symptom="It learns more slowly than it should; a gradient check fails for the input only.",
    hints=(
        "LOOK: compare the gradient of the input with finite differences, for a lopsided kernel.",
        "WHERE: the kernel that `{function}` uses on the way back.",
        "WHAT: a pixel to the left of an output went through which tap?",
    ),
    repair="Send each gradient back through the tap that its pixel went through.",
    mechanism=(
        "What a pixel passed on through the right tap comes back to it from the right. Sliding the"
        " kernel over the gradients therefore needs it mirrored, and handing them out tap by tap needs"
        " it as it is. Here left and right are exchanged; symmetric kernels hide the slip."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="conv-backward-no-flip",
            before="def conv_backward(g, w):\n    return slide(g, w.flip(2, 3))\n",
            after=("def conv_backward(g, w):\n    return slide(g, w)\n",),
        ),
        Example(
            before="def grad_input(g, kernel):\n    return slide(g, kernel[:, :, ::-1, ::-1])\n",
            after=("def grad_input(g, kernel):\n    return slide(g, kernel)\n",),
        ),
        Example(
            before="import numpy as np\n\ndef backward(g, w):\n    return slide(g, np.rot90(w, 2))\n",
            after=("import numpy as np\n\ndef backward(g, w):\n    return slide(g, w)\n",),
        ),
        Example(
            before=(
                "def conv_back(dx, parts, R):\n    for i in range(R):\n        for j in range(R):\n"
                "            dx[:, i : i + 9, j : j + 9] += parts[..., i, j]\n"
            ),
            after=(
                "def conv_back(dx, parts, R):\n    for i in range(R):\n        for j in range(R):\n"
                "            dx[:, i : i + 9, j : j + 9] += parts[..., R - 1 - i, R - 1 - j]\n",
            ),
        ),
    ),
    counterexamples=(
        "def augment(x):\n    return x.flip(2, 3)\n",
        "def backward(g, x):\n    return x[::-1]\n",
        "def back(y, x, R):\n    for i in range(R):\n        for j in range(R):\n"
        "            y[i, j] += x[i, j]\n",
    ),
)
def kernel_unflipped(f: SourceFile, node: cst.Call | cst.Subscript | cst.AugAssign) -> Iterator[Proposal]:
    if not goes_back(f, node):
        return
    if isinstance(node, cst.AugAssign):
        yield from _taps_exchanged(f, node)
        return
    if isinstance(node, cst.Subscript):
        parts = [each.slice for each in node.slice]
        steps = [number(part.step) for part in parts if isinstance(part, cst.Slice)]
        if steps.count(-1) >= 1 and len(steps) == len(parts) and says(node.value, *KERNELS):
            yield Proposal(edits=(f.replace(node, f.text(node.value)),))
        return
    op = operation(f, node, "flip", "rot90", "flipud", "fliplr")
    if op is not None and says(op.subject, *KERNELS) and not _inner_flip(f, node):
        yield Proposal(edits=(f.replace(node, f.text(op.subject)),))


def _taps_exchanged(f: SourceFile, node: cst.AugAssign) -> Iterator[Proposal]:
    """Gradients that are handed out tap by tap, each from the tap on the other side."""
    sizes = {}
    for loop in ancestors(f, node):
        over = loop.iter if isinstance(loop, cst.For) else None
        counts = isinstance(over, cst.Call) and f.text(over.func) == "range" and len(over.args) == 1
        if counts and isinstance(loop, cst.For) and isinstance(over, cst.Call):
            sizes[f.text(loop.target)] = f.text(over.args[0].value)
    if not isinstance(node.value, cst.Subscript) or not isinstance(node.target, cst.Subscript):
        return
    taps = [
        part.slice.value
        for part in node.value.slice
        if isinstance(part.slice, cst.Index) and f.text(part.slice.value) in sizes
    ]
    starts = [part.slice.lower for part in node.target.slice if isinstance(part.slice, cst.Slice)]
    laid = {f.text(start) for start in starts if start is not None}
    if len(taps) == 2 and {f.text(tap) for tap in taps} <= laid:
        yield Proposal(
            edits=tuple(f.replace(tap, f"{sizes[f.text(tap)]} - 1 - {f.text(tap)}") for tap in taps)
        )


def _inner_flip(f: SourceFile, node: cst.Call) -> bool:
    """Whether the flipped kernel is flipped once more, along another axis."""
    return operation(f, f.parent.get(f.parent[node]), "flip", "flipud", "fliplr") is not None


@operator(
    "im2col-order",
    cst.Call,
    category="conv",
    difficulty=4,
    symptom="It learns well, yet results differ from those of a library with the same weights.",
    hints=(
        "LOOK: compare with the library's convolution, for several channels and a kernel of size 3.",
        "WHERE: in which order `{function}` lays out a patch.",
        "WHAT: does channel or place change faster on both sides of the product?",
    ),
    repair="Lay out patches and kernels in the same order.",
    mechanism=(
        "Patches list all places of a channel before the next channel, and kernels do it the other"
        " way. Weights meet the wrong pixels; training gets used to it, loaded weights do not."
    ),
    evidence=(),
    examples=(
        Example(
            row="im2col-order",
            before="def f(x, w):\n    cols = unfold(x)\n    return w.flatten(1) @ cols\n",
            after=(
                "def f(x, w):\n    cols = unfold(x)\n    return w.permute(0, 2, 3, 1).flatten(1) @ cols\n",
            ),
        ),
        Example(
            before="def conv(x, weight):\n    return weight.view(O, -1) @ im2col(x)\n",
            after=(
                "def conv(x, weight):\n    return weight.permute(0, 2, 3, 1).reshape(O, -1) @ im2col(x)\n",
            ),
        ),
        Example(
            before="def f(patches):\n    return patches.transpose(0, 4, 5, 1, 2, 3).reshape(n * h * w, -1)\n",
            after=(
                "def f(patches):\n    return patches.transpose(0, 4, 5, 2, 3, 1).reshape(n * h * w, -1)\n",
            ),
        ),
    ),
    counterexamples=(
        "def f(x, w):\n    return w.flatten(1) @ x\n",
        "def f(q):\n    return q.permute(2, 0, 3, 1, 4)\n",
    ),
)
def im2col_order(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "flatten", "view", "reshape")
    if op is not None and not op.shift and says(op.subject, *KERNELS):
        given = [f.text(each.value) for each in node.args]
        rows = given == ["1"] if op.name == "flatten" else len(given) == 2 and given[1] == "-1"
        if rows and mentions(function_of(f, node), "unfold", "im2col", "cols", "columns", "patches"):
            numpy = op.name == "reshape" and f.spelling("torch") is None and f.spelling("numpy") is not None
            order = "transpose(0, 2, 3, 1)" if numpy else "permute(0, 2, 3, 1)"
            name = "flatten" if op.name == "flatten" else "reshape"
            new = f"{f.text(op.subject)}.{order}.{name}({', '.join(given)})"
            yield Proposal(edits=(f.replace(node, new),))
    if op is not None and op.name in ("reshape", "view") and not op.shift:
        yield from _patches_turned(f, op.subject)


def _patches_turned(f: SourceFile, node: cst.BaseExpression) -> Iterator[Proposal]:
    """Move the channels of six axes, of which the last three are those of a patch, to the end."""
    moved = operation(f, node, "transpose", "permute")
    if moved is None:
        return
    axes = [each.value for each in moved.call.args[moved.shift :]]
    if len(axes) == 1 and isinstance(axes[0], cst.Tuple):
        axes = [element.value for element in axes[0].elements]
    known = len(axes) == 6 and all(number(each) is not None for each in axes)
    if known and mentions(function_of(f, node), "unfold", "im2col", "cols", "columns", "patches", "windows"):
        C, height, width = (f.text(each) for each in axes[3:])
        new = (height, width, C)
        yield Proposal(edits=tuple(f.replace(old, text) for old, text in zip(axes[3:], new, strict=True)))
