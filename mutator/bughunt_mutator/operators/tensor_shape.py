"""Mistakes with axes and shapes that broadcasting and reshaping let through."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    Operation,
    assigned,
    axis,
    binary,
    enclosing,
    function_of,
    inside,
    keyword,
    last_name,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._sources import COMMON_MISTAKES, RECIPE, TAXONOMY, issue, pull
from bughunt_mutator.source import SourceFile

LAYOUT = ("reshape", "view", "flatten", "contiguous")
REDUCTIONS = ("sum", "mean", "norm", "max", "amax", "std", "var", "min", "amin")


def squeezed(f: SourceFile, node: cst.CSTNode) -> cst.BaseExpression | None:
    """What `x.squeeze(-1)`, `torch.squeeze(x, 1)` or `x[:, 0]` squeezes."""
    op = operation(f, node, "squeeze")
    if op is not None and number(axis(f, op)) in (1, -1):
        return op.subject
    if isinstance(node, cst.Subscript) and f.text(node).endswith(("[:, 0]", "[..., 0]")):
        return node.value
    return None


def meets(f: SourceFile, node: cst.CSTNode, *operators: type[cst.BaseBinaryOp]) -> bool:
    """Whether a value is a side of such an operation, directly or under the name it is given."""
    above = f.parent.get(node)
    if binary(above, *operators):
        return True
    line = enclosing(f, node, cst.SimpleStatementLine)
    pair = assigned(line) if line is not None else None
    if pair is None or pair[1] is not node or not isinstance(pair[0], cst.Name):
        return False
    return any(
        isinstance(side, cst.Name) and side.value == pair[0].value
        for each in inside(function_of(f, node), cst.BinaryOperation)
        for side in binary(each, *operators) or ()
    )


@operator(
    "bcast-mse-n-vs-n1",
    cst.Call,
    cst.Subscript,
    category="tensor-shape",
    difficulty=3,
    symptom="The loss falls to about the variance of the targets and stays there.",
    hints=(
        "LOOK: print the shape of every intermediate value on a batch of five.",
        "WHERE: both sides of the difference in `{function}`.",
        "WHAT: what does subtracting a row from a column give?",
    ),
    repair="Bring both sides to the same shape before subtracting.",
    mechanism=(
        "A column minus a row is a table of all pairs. Its mean compares every prediction with"
        " every target, and the best answer to that is to predict the average everywhere."
    ),
    evidence=(
        issue("deepset-ai/FARM", 229),
        issue("thu-ml/tianshou", 40),
        issue("jiwei0921/CoNet", 3),
    ),
    examples=(
        Example(
            row="bcast-mse-n-vs-n1",
            before="loss = ((net(x).squeeze(-1) - y) ** 2).mean()\n",
            after=("loss = ((net(x) - y) ** 2).mean()\n",),
        ),
        Example(
            before="value = critic(x)[:, 0]\nadvantage = gains - value\n",
            after=("value = critic(x)\nadvantage = gains - value\n",),
        ),
    ),
    counterexamples=("y = net(x).squeeze(-1)\n", "loss = (net(x).squeeze(0) - y).mean()\n"),
)
def bcast_mse(f: SourceFile, node: cst.Call | cst.Subscript) -> Iterator[Proposal]:
    column = squeezed(f, node)
    if column is not None and meets(f, node, cst.Subtract):
        yield Proposal(edits=(f.replace(node, f.text(column)),))


@operator(
    "bcast-logp-adv-nxn",
    cst.Call,
    cst.Subscript,
    category="tensor-shape",
    difficulty=4,
    symptom="Training runs smoothly and the result hardly gets better than chance.",
    hints=(
        "LOOK: print the shape of both factors, and of their product.",
        "WHERE: the product that is averaged in `{function}`.",
        "WHAT: how many numbers should the product hold for a batch of N?",
    ),
    repair="Bring both factors to the same shape before multiplying.",
    mechanism=(
        "A column times a row pairs every element with every other one. Averaged over all pairs"
        " the weights have nothing to do with what they weigh any more, and the signal cancels."
    ),
    evidence=(
        issue("pytorch/rl", 1243),
        pull("JuliaReinforcementLearning/ReinforcementLearningZoo.jl", 169),
    ),
    examples=(
        Example(
            row="bcast-logp-adv-nxn",
            before="logp = all.gather(1, a).squeeze(-1)\nloss = -(logp * advantage).mean()\n",
            after=("logp = all.gather(1, a)\nloss = -(logp * advantage).mean()\n",),
        ),
    ),
    counterexamples=("logp = all.gather(1, a).squeeze(-1)\n", "z = x.squeeze() * y\n"),
)
def bcast_product(f: SourceFile, node: cst.Call | cst.Subscript) -> Iterator[Proposal]:
    column = squeezed(f, node)
    if column is not None and meets(f, node, cst.Multiply):
        yield Proposal(edits=(f.replace(node, f.text(column)),))


@operator(
    "center-wrong-axis",
    cst.Call,
    category="tensor-shape",
    difficulty=3,
    symptom="Results are a little worse than they should be, on every seed.",
    hints=(
        "LOOK: compute the mean of each column of what comes out.",
        "WHERE: the statistics that `{function}` computes.",
        "WHAT: one statistic for each feature, or one for each row?",
    ),
    repair="Take the statistic over the rows, so that each feature has its own.",
    mechanism=(
        "Statistics taken along the other axis remove what the features of one row have in common"
        " and leave the differences of scale between features, which is what had to go."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="center-wrong-axis",
            before="z = x - x.mean(0, keepdim=True)\n",
            after=("z = x - x.mean(1, keepdim=True)\n",),
        ),
        Example(
            before="import numpy as np\n\ncenter = np.mean(x, axis=0)\nz = x - center\n",
            after=("import numpy as np\n\ncenter = np.mean(x, axis=1, keepdims=True)\nz = x - center\n",),
        ),
        Example(
            before='model["scale"][:] = data.std(axis=0)\n',
            after=('model["scale"][:] = data.std()\n',),
        ),
        Example(
            before="scores = (gains - gains.sum(dim=1, keepdim=True) / n) * alive\n",
            after=("scores = (gains - gains.sum(dim=0, keepdim=True) / n) * alive\n",),
        ),
        Example(
            before="place -= place.mean(axis=0)\n",
            after=("place -= place.mean(axis=1, keepdims=True)\n",),
        ),
    ),
    counterexamples=("m = x.mean(0)\n", "z = x - y.mean()\n"),
)
def center_wrong_axis(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "mean", "std", "sum", "var")
    along = axis(f, op) if op is not None else None
    if op is None or along is None or number(along) not in (0, 1):
        return
    if stored_statistic(f, node) and op.name != "sum":
        yield Proposal(edits=(f.replace(node, f"{reduced(f, op)}"),))
        return
    if not centres(f, op):
        return
    other = f.replace(along, "1" if number(along) == 0 else "0")
    if keyword(node, "keepdim", "keepdims"):
        yield Proposal(edits=(other,))
    elif number(along) == 0:
        word = "keepdims=True" if written_in_numpy(f, op) else "keepdim=True"
        text = f.text(node)
        start = text.rindex("0")
        yield Proposal(edits=(f.replace(node, f"{text[:start]}1, {word}{text[start + 1 :]}"),))


def reduced(f: SourceFile, op: Operation) -> str:
    """The reduction over everything."""
    inner = f.text(op.subject) if op.shift else ""
    return f"{f.text(op.call.func)}({inner})"


def stored_statistic(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a value is written into a slot that was made for it."""
    line = enclosing(f, node, cst.SimpleStatementLine)
    pair = assigned(line) if line is not None else None
    return pair is not None and pair[1] is node and f.text(pair[0]).endswith("[:]")


def written_in_numpy(f: SourceFile, op: Operation) -> bool:
    """Whether the axis is called as NumPy calls it."""
    return bool(op.shift and (f.qname(op.call.func) or "").startswith("numpy")) or bool(
        keyword(op.call, "axis")
    )


def centres(f: SourceFile, op: Operation) -> bool:
    """Whether a statistic of x is taken away from x, at once or under a name."""
    base = f.text(op.subject).strip("()").split(" ")[0]
    line = enclosing(f, op.call, cst.SimpleStatementLine, cst.Return)
    pair = assigned(line) if isinstance(line, cst.SimpleStatementLine) else None
    name = f.text(pair[0]) if pair is not None else ""
    for each in inside(function_of(f, op.call), cst.BinaryOperation):
        sides = binary(each, cst.Subtract)
        if sides is None or f.text(sides[0]) != base:
            continue
        if op.call in tuple(inside(sides[1], cst.Call)) or (name and f.text(sides[1]) == name):
            return True
    line = f.parent.get(op.call)
    return isinstance(line, cst.AugAssign) and (
        isinstance(line.operator, cst.SubtractAssign) and f.text(line.target) == base
    )


@operator(
    "keepdim-dropped-square",
    cst.Call,
    category="tensor-shape",
    difficulty=4,
    symptom="Everything runs; what comes out depends on what else is in the batch.",
    hints=(
        "LOOK: print the shapes on both sides, with all axes of different length.",
        "WHERE: the reduction in `{function}` and what its result meets.",
        "WHAT: along which axis is the smaller one stretched?",
    ),
    repair="Keep the reduced axis, so that each row meets its own statistic.",
    mechanism=(
        "Without the kept axis, the statistic of a row is laid along the columns. Where both axes"
        " happen to have the same length nothing complains, and rows get each other's statistics."
    ),
    evidence=(TAXONOMY, COMMON_MISTAKES),
    examples=(
        Example(
            row="keepdim-dropped-square",
            before="w = w / w.sum(dim=-1, keepdim=True)\n",
            after=("w = w / w.sum(dim=-1)\n",),
        ),
        Example(
            before="best = x.amax(1, True)\nz = x - x.mean(axis=1, keepdims=True)\n",
            after=("best = x.amax(1, True)\nz = x - x.mean(axis=1)\n",),
        ),
    ),
    counterexamples=("s = w.sum(dim=-1)\n", "s = w.sum(dim=-1, keepdim=False)\n"),
)
def keepdim_dropped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, *REDUCTIONS)
    kept = keyword(node, "keepdim", "keepdims")
    if op is not None and kept is not None and f.text(kept.value) == "True":
        yield Proposal(edits=(f.delete_arg(node, kept),))


@operator(
    "view-for-transpose",
    cst.Call,
    category="tensor-shape",
    difficulty=4,
    symptom="It learns, but slower and to a worse plateau than the same model should.",
    hints=(
        "LOOK: fill the input with its own indices and print what comes out.",
        "WHERE: the change of layout in `{function}`.",
        "WHAT: are the axes exchanged, or is the same memory only read in other rows?",
    ),
    repair="Exchange the axes; a reshape only renames positions in memory.",
    mechanism=(
        "`reshape` to the exchanged sizes has the right shape and the wrong content: values keep"
        " their order in memory, so those of different positions end up in one row."
    ),
    evidence=(
        COMMON_MISTAKES,
        issue("zhouhaoyi/Informer2020", 59),
        issue("HHTseng/video-classification", 42),
    ),
    examples=(
        Example(
            row="view-for-transpose",
            before="y = x.transpose(1, 2)\n",
            after=("y = x.reshape(x.size(0), x.size(2), -1)\n",),
        ),
        Example(
            before="import torch\n\ny = torch.permute(x, (0, 2, 1))\n",
            after=("import torch\n\ny = x.reshape(x.size(0), x.size(2), -1)\n",),
        ),
    ),
    counterexamples=("y = f(x).transpose(1, 2)\n", "y = x.transpose(-2, -1)\n"),
)
def view_for_transpose(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "transpose", "permute", "swapaxes")
    following = last_name(f.parent.get(node))
    if op is None or not isinstance(op.subject, cst.Name) or following in LAYOUT:
        return
    given = "".join(f.text(each.value) for each in node.args[op.shift :])
    if "".join(c for c in given if c in "-0123456789") in ("12", "21", "021"):
        x = op.subject.value
        yield Proposal(edits=(f.replace(node, f"{x}.reshape({x}.size(0), {x}.size(2), -1)"),))


@operator(
    "flatten-mixes-batch",
    cst.Call,
    category="tensor-shape",
    difficulty=4,
    symptom="The loss falls very slowly and predictions are no better than guessing.",
    hints=(
        "LOOK: change one row of a batch; which rows of the output change?",
        "WHERE: where `{function}` turns maps into rows.",
        "WHAT: which axis runs fastest in memory when the rows are cut?",
    ),
    repair="Flatten everything but the batch axis, with the batch axis in front.",
    mechanism=(
        "After the batch axis has been moved back, equal pieces of memory hold bits of many"
        " examples. Every row is a mixture, and its label belongs to none of it."
    ),
    evidence=(RECIPE,),
    examples=(
        Example(
            row="flatten-mixes-batch",
            before="y = fc(x.flatten(1))\n",
            after=("y = fc(x.movedim(0, -1).reshape(len(x), -1))\n",),
        ),
        Example(
            before="y = x.view(x.size(0), -1)\n",
            after=("y = x.movedim(0, -1).reshape(x.size(0), -1)\n",),
        ),
    ),
    counterexamples=("y = x.flatten()\n", "y = x.view(-1, 3)\n"),
)
def flatten_mixes_batch(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "flatten", "view", "reshape")
    if op is None or not isinstance(op.subject, cst.Name):
        return
    x, given = op.subject.value, [f.text(each.value) for each in node.args[op.shift :]]
    if op.name == "flatten" and given == ["1"]:
        yield Proposal(edits=(f.replace(node, f"{x}.movedim(0, -1).reshape(len({x}), -1)"),))
    elif given in ([f"{x}.size(0)", "-1"], [f"len({x})", "-1"], ["B", "-1"]):
        yield Proposal(edits=(f.replace(node, f"{x}.movedim(0, -1).reshape({given[0]}, -1)"),))


@operator(
    "unsqueeze-wrong-dim",
    cst.Call,
    cst.Subscript,
    category="tensor-shape",
    difficulty=3,
    symptom="Part of the input has stopped to matter.",
    hints=(
        "LOOK: print the shapes of both sides before they meet, with all sizes different.",
        "WHERE: where `{function}` adds an axis.",
        "WHAT: along which axis should the values be repeated?",
    ),
    repair="Add the new axis where the other side varies.",
    mechanism=(
        "The new axis decides along which direction values are repeated. On the other side of the"
        " axis, each entry meets partners that it does not belong to."
    ),
    evidence=(pull("NeuracoreAI/neuracore", 154),),
    examples=(
        Example(
            row="unsqueeze-wrong-dim",
            before="y = x + pe.unsqueeze(1)\n",
            after=("y = x + pe.unsqueeze(0)\n",),
        ),
        Example(before="y = x * m[:, None]\n", after=("y = x * m[None, :]\n",)),
    ),
    counterexamples=("y = x.unsqueeze(2)\n", "y = m[:, 0]\n"),
)
def unsqueeze_wrong_dim(f: SourceFile, node: cst.Call | cst.Subscript) -> Iterator[Proposal]:
    if isinstance(node, cst.Subscript):
        if f.text(node).endswith("[:, None]"):
            yield Proposal(edits=(f.replace(node, f"{f.text(node.value)}[None, :]"),))
        return
    op = operation(f, node, "unsqueeze")
    along = axis(f, op) if op is not None else None
    if along is not None and number(along) in (0, 1):
        yield Proposal(edits=(f.replace(along, "0" if number(along) == 1 else "1"),))


@operator(
    "repeat-for-repeat-interleave",
    cst.Call,
    category="tensor-shape",
    difficulty=4,
    symptom="The loss falls, but less than it should; some inputs seem to belong to others.",
    hints=(
        "LOOK: run it on rows that are numbered, and print the numbers that come out.",
        "WHERE: where `{function}` makes several copies of each row.",
        "WHAT: in which order do the copies come?",
    ),
    repair="Repeat each row in place, so that copies stand next to each other.",
    mechanism=(
        "Copies of the whole block are laid end to end, as `repeat` does; `repeat_interleave` puts the"
        " copies of each row where it stands. With the wrong one, every copy but a few is paired with"
        " another row's partner."
    ),
    evidence=(issue("Tongjilibo/bert4torch", 1), issue("xiangking/ark-nlp", 47)),
    examples=(
        Example(
            row="repeat-for-repeat-interleave",
            before="y = x.repeat_interleave(k, dim=0)\n",
            after=("y = x.repeat(k, 1)\n",),
        ),
        Example(
            before="import torch\nk = k.repeat_interleave(n, dim=1)\n",
            after=("import torch\nk = torch.cat([k] * n, dim=1)\n",),
        ),
    ),
    counterexamples=("y = x.repeat(k, 1)\n", "y = x.repeat_interleave(k, dim=1)\n"),
)
def repeat_for_interleave(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "repeat_interleave")
    along = axis(f, op) if op is not None else None
    given = keyword(node, "dim") or (node.args[-1] if node.args else None)
    if op is None or given is None or len(node.args) != op.shift + 2:
        return
    count = node.args[op.shift].value
    if (number(along) == 0 or number(given.value) == 0) and not orphans(f, along or given.value):
        yield Proposal(edits=(f.replace(node, f"{f.text(op.subject)}.repeat({f.text(count)}, 1)"),))
        return
    joined = f.spelling("torch.cat")
    if (number(given.value) or 0) > 0 and joined is not None and not op.shift:
        copies = f"[{f.text(op.subject)}] * {f.text(count)}"
        yield Proposal(edits=(f.replace(node, f"{joined}({copies}, dim={f.text(given.value)})"),))


@operator(
    "matmul-missing-T-square",
    cst.BinaryOperation,
    category="tensor-shape",
    difficulty=3,
    symptom="Nothing complains, and results are off as if space had been turned.",
    hints=(
        "LOOK: put a matrix that is not symmetric through it by hand, two by two.",
        "WHERE: the products of matrices in `{function}`.",
        "WHAT: do rows meet columns, or columns columns?",
    ),
    repair="Transpose the second of the two factors again.",
    mechanism=(
        "A square matrix fits either way round. What should lead back to where the first factor came"
        " from turns once more instead. Weights that are learned would make up for it; a matrix that"
        " is computed, loaded or given does not."
    ),
    evidence=(),
    examples=(
        Example(
            row="matmul-missing-T-square",
            before="P = F @ P @ F.T + Q\n",
            after=("P = F @ P @ F + Q\n",),
        ),
        Example(
            before="def root(C):\n    v, U = eigh(C)\n    return (U * v.sqrt()) @ U.mT\n",
            after=("def root(C):\n    v, U = eigh(C)\n    return (U * v.sqrt()) @ U\n",),
        ),
        Example(
            before="class Turn:\n    def __init__(self, d):\n        self.W = qr(randn(d, d))[0]\n\n"
            "    def back(self, z):\n        return z @ self.W.t()\n",
            after=(
                "class Turn:\n    def __init__(self, d):\n        self.W = qr(randn(d, d))[0]\n\n"
                "    def back(self, z):\n        return z @ self.W\n",
            ),
        ),
    ),
    counterexamples=("y = x @ W.T\n", "G = 1 - 2 * x @ x.T\n", "P = F @ P @ F\n"),
)
def transpose_missing(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.MatrixMultiply)
    turned = transposed(sides[1]) if sides is not None else None
    if sides is None or turned is None or not isinstance(turned, cst.Name | cst.Attribute):
        return
    name = f.text(turned)
    factors = binary(sides[0], cst.Multiply)
    first = factors[1] if factors is not None and number(factors[0]) is not None else sides[0]
    around = f.text(first) != name and any(f.text(each) == name for each in inside(first, type(turned)))
    if around or made_square(f, name):
        yield Proposal(edits=(f.replace(sides[1], name),))


def transposed(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """What an expression is the transpose of."""
    if isinstance(node, cst.Attribute) and node.attr.value in ("T", "mT"):
        return node.value
    called = isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and not node.args
    if called and isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        return node.func.value if node.func.attr.value in ("t", "transpose") else None
    return None


def made_square(f: SourceFile, name: str) -> bool:
    """Whether the file makes this matrix with as many rows as columns, and not by learning."""
    for line in inside(f.module, cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is None or f.text(pair[0]) != name or "Parameter" in f.text(pair[1]):
            continue
        for call in inside(pair[1], cst.Call):
            sizes = [f.text(given.value) for given in call.args if given.keyword is None]
            square = len(sizes) == 2 and sizes[0] == sizes[1] and last_name(call.func) in MADE
            if square or last_name(call.func) == "eye":
                return True
    return False


MADE = ("randn", "rand", "zeros", "empty", "standard_normal", "ones")
