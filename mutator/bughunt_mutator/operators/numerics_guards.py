"""Mistakes in what keeps values and gradients finite."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    axis,
    binary,
    descendants,
    function_of,
    inside,
    keyword,
    loads,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_training import atom, reduced, resolved
from bughunt_mutator.source import SourceFile


@operator(
    "where-nan-grad",
    cst.Call,
    category="numerics-precision",
    difficulty=5,
    symptom="The loss is finite, and after one update the parameters are not numbers.",
    hints=(
        "LOOK: print the gradient of the input for an element that is masked out.",
        "WHERE: what `{function}` computes for elements that are not used.",
        "WHAT: what is zero times infinity?",
    ),
    repair="Replace unsafe inputs before the function as well as its results after it.",
    mechanism=(
        "Choosing between two results happens after both were computed. The backward pass goes"
        " through the one that was not chosen too, with a gradient of zero; where the function has"
        " an infinite slope, zero times infinity is not a number. Only a harmless input prevents it."
    ),
    evidence=(),
    examples=(
        Example(
            before="import torch\nsafe = torch.where(m, x, 1.0)\ny = torch.where(m, safe.log(), 0.0)\n",
            after=("import torch\nsafe = x\ny = torch.where(m, safe.log(), 0.0)\n",),
        ),
        Example(
            before="import torch\ny = torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1.0)), 0.0)\n",
            after=("import torch\ny = torch.where(x > 0, torch.sqrt(x), 0.0)\n",),
        ),
        Example(
            before="import torch\ns = x.masked_fill(~m, 1.0)\ny = torch.where(m, 1 / s, 0.0)\n",
            after=("import torch\ns = x\ny = torch.where(m, 1 / s, 0.0)\n",),
        ),
    ),
    counterexamples=(
        "import torch\ny = torch.where(m, x.log(), 0.0)\n",
        "import torch\na = torch.where(m, x, 1.0)\nb = a.log()\n",
    ),
)
def single_guard(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    inner = guard(f, node)
    if inner is None:
        return
    pair = assigned(f.statement(node))
    if pair is not None and pair[1] is node:
        name = f.text(pair[0])
        outer = [call for call in inside(function_of(f, node), cst.Call) if chooses(f, call, name)]
    else:
        calls = [each for each in ancestors(f, node) if isinstance(each, cst.Call)]
        outer = [call for call in calls if chooses(f, call, f.text(node))]
    if outer:
        yield Proposal(edits=(reduced(f, node, inner),))


def guard(f: SourceFile, node: cst.Call) -> cst.BaseExpression | None:
    """The value that an expression replaces by a harmless number where it is not used."""
    op = operation(f, node, "where", "masked_fill")
    if op is None:
        return None
    given = [arg.value for arg in node.args]
    if op.name == "where" and op.shift and len(given) == 3 and number(given[2]):
        return given[1]
    harmless = op.name == "masked_fill" and not op.shift and len(given) == 2 and number(given[1]) == 1
    return op.subject if harmless else None


def chooses(f: SourceFile, call: cst.Call, text: str) -> bool:
    """Whether a call takes a function of this expression or a constant."""
    op = operation(f, call, "where")
    if op is None or not op.shift or len(call.args) != 3:
        return False
    one = call.args[1].value
    used = any(f.text(each) == text for each in descendants(one) if isinstance(each, cst.BaseExpression))
    return used and f.text(one) != text


@operator(
    "variance-cancellation",
    cst.Call,
    cst.BinaryOperation,
    category="numerics-precision",
    difficulty=3,
    symptom="Where values are far from zero, the spread is wrong, or its root is not a number.",
    hints=(
        "LOOK: add ten thousand to the input and compare the variances.",
        "WHERE: the spread in `{function}`.",
        "WHAT: what is left when two large, nearly equal numbers are subtracted?",
    ),
    repair="Subtract the mean first, then square.",
    mechanism=(
        "On paper the mean of the squares less the square of the mean is the variance. In floating"
        " point both are rounded to their own size, and when the mean is large against the spread"
        " the difference consists of rounding errors, which may be negative."
    ),
    evidence=(),
    examples=(
        Example(
            before="m = x.mean(0)\nv = ((x - m) ** 2).mean(0)\n",
            after=("m = x.mean(0)\nv = (x**2).mean(0) - m**2\n",),
        ),
        Example(
            before="v = (x - x.mean(-1, keepdim=True)).pow(2).mean(-1, keepdim=True)\n",
            after=("v = (x**2).mean(-1, keepdim=True) - x.mean(-1, keepdim=True) ** 2\n",),
        ),
        Example(
            before="v = x.var(dim=(0, 2), unbiased=False)\n",
            after=("v = (x**2).mean(dim=(0, 2)) - x.mean(dim=(0, 2)) ** 2\n",),
        ),
        Example(
            before="d = ((x[:, None] - x[None]) ** 2).sum(axis=2)\n",
            after=("d = (x**2).sum(axis=1)[:, None] + (x**2).sum(axis=1) - 2 * x @ x.T\n",),
        ),
        Example(
            before=(
                "import numpy as np\n\ndef f(x):\n    c = x - x.mean(axis=0)\n"
                "    return c.T @ c / (len(x) - 1)\n"
            ),
            after=(
                "import numpy as np\n\ndef f(x):\n"
                "    return (x.T @ x - len(x) * np.outer(x.mean(axis=0), x.mean(axis=0))) / (len(x) - 1)\n",
            ),
        ),
    ),
    counterexamples=(
        "v = ((x - y) ** 2).mean(0)\n",
        "v = x.var(dim=0)\n",
        "m = x.mean(-1, keepdim=True)\nv = ((x - m) ** 2).mean(-1)\n",
    ),
)
def cancelling(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        yield from _uncentred(f, node)
        return
    if (gaps := _expanded(f, node)) is not None:
        yield Proposal(edits=(f.replace(node, gaps),))
        return
    op = operation(f, node, "var", "mean")
    if op is None or op.shift:
        return
    if op.name == "var":
        given = keyword(node, "unbiased", "correction")
        if given is not None and f.text(given.value) in ("False", "0") and axis(f, op) is not None:
            x, rest = atom(f, op.subject), ", ".join(f.text(arg) for arg in node.args if arg is not given)
            new = f"({square(f, op.subject)}).mean({rest}) - {x}.mean({rest}) ** 2"
            yield Proposal(edits=(f.replace(node, new),))
        return
    sides = binary(squared(f, op.subject), cst.Subtract)
    centre = operation(f, resolved(f, sides[1]), "mean") if sides is not None else None
    if sides is None or centre is None or f.text(centre.subject) != f.text(sides[0]):
        return
    rest = ", ".join(f.text(arg) for arg in node.args)
    if rest == ", ".join(f.text(arg) for arg in centre.call.args[centre.shift :]):
        new = f"({square(f, sides[0])}).mean({rest}) - {square(f, sides[1])}"
        yield Proposal(edits=(f.replace(node, new),))


def _expanded(f: SourceFile, node: cst.Call) -> str | None:
    """All squared distances, from the squares and the products: `|a|^2 + |b|^2 - 2ab`."""
    op = operation(f, node, "sum")
    sides = binary(squared(f, op.subject), cst.Subtract) if op is not None and not op.shift else None
    if sides is None or not all(isinstance(side, cst.Subscript) for side in sides):
        return None
    x = f.text(sides[0].value) if isinstance(sides[0], cst.Subscript) else ""
    if [f.text(side) for side in sides] != [f"{x}[:, None]", f"{x}[None]"]:
        return None
    sums = f"({x}**2).sum({f.text(node.args[0]).replace('2', '1')})"
    return f"{sums}[:, None] + {sums} - 2 * {x} @ {x}.T"


def _uncentred(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    """A covariance from products of raw values, less the product of the means."""
    sides = binary(node, cst.Divide)
    product = binary(sides[0], cst.MatrixMultiply) if sides is not None else None
    if sides is None or product is None or not isinstance(product[1], cst.Name):
        return
    centred = resolved(f, product[1])
    parts, name = binary(centred, cst.Subtract), product[1].value
    numpy = f.spelling("numpy")
    if parts is None or numpy is None or f.text(product[0]) != f"{name}.T":
        return
    x, mean = f.text(parts[0]), f.text(parts[1])
    line = f.statement(centred)
    once = loads(function_of(f, node))[name] == 2
    if once and f.text(sides[1]) == f"(len({x}) - 1)" and mean == f"{x}.mean(axis=0)":
        raw = f"({x}.T @ {x} - len({x}) * {numpy}.outer({mean}, {mean})) / (len({x}) - 1)"
        yield Proposal(edits=(f.delete_statement(line), f.replace(node, raw)))


def square(f: SourceFile, node: cst.BaseExpression) -> str:
    """The square of an expression, spaced as a formatter would."""
    return f"{f.text(node)}**2" if isinstance(node, cst.Name) else f"{atom(f, node)} ** 2"


def squared(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression | None:
    """What an expression squares."""
    sides = binary(node, cst.Power)
    if sides is not None:
        return sides[0] if number(sides[1]) == 2 else None
    op = operation(f, node, "pow", "square")
    if op is None or (op.name == "pow" and number(op.call.args[-1].value) != 2):
        return None
    return op.subject


@operator(
    "exp-of-large-ratio",
    cst.Call,
    category="numerics-precision",
    difficulty=4,
    symptom="Once in a while there is a huge spike, and some runs do not recover from it.",
    hints=(
        "LOOK: keep the largest argument of every exponential, over the whole run.",
        "WHERE: the exponentials in `{function}`.",
        "WHAT: how large may the difference of two logarithms become?",
    ),
    repair="Limit the difference before the exponential is taken.",
    mechanism=(
        "Most differences of logarithms are small, and their exponential is near one. A rare large"
        " one becomes a factor of thousands or infinity, and a single example then decides the"
        " whole update."
    ),
    evidence=(),
    examples=(
        Example(
            before="ratio = (new - old).clamp(-20, 20).exp()\n",
            after=("ratio = (new - old).exp()\n",),
        ),
        Example(
            before="import torch\nw = torch.exp(torch.clamp(d, max=4.0)) * a\n",
            after=("import torch\nw = torch.exp(d) * a\n",),
        ),
        Example(
            before="def f(a, b):\n    log_ratio = (a - b).clamp(max=5.0)\n    return log_ratio.exp()\n",
            after=("def f(a, b):\n    log_ratio = a - b\n    return log_ratio.exp()\n",),
        ),
        Example(
            before="import numpy as np\nr = np.exp(np.minimum(z, 50.0))\n",
            after=("import numpy as np\nr = np.exp(z)\n",),
        ),
    ),
    counterexamples=(
        "r = (a - b).exp()\n",
        "r = z.clamp(max=3).log()\n",
        "r = z.clamp(min=0).sqrt().exp()\n",
    ),
)
def unlimited(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "exp")
    limit = operation(f, resolved(f, op.subject), "clamp", "clip", "clamp_max", "minimum") if op else None
    if limit is not None and not orphans(f, *limit.call.args[limit.shift :]):
        yield Proposal(edits=(reduced(f, limit.call, limit.subject),))
