"""Mistakes in which targets count in a loss, and for how much."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    inside,
    last_name,
    mentions,
    neighbours,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_parts import says
from bughunt_mutator.operators._look_training import atom, complement, merged, reduced, retired, words
from bughunt_mutator.operators._sources import DEEP_CHECKER, issue, pull
from bughunt_mutator.source import SourceFile


@operator(
    "labels-all-ignored",
    cst.SimpleStatementLine,
    cst.Call,
    category="loss",
    difficulty=2,
    symptom="The loss is zero or not a number from the first step on, or it is that of filler.",
    hints=(
        "LOOK: count the targets of a batch that take part in the loss.",
        "WHERE: which targets `{function}` takes out.",
        "WHAT: what is left to learn from?",
    ),
    repair="Take out the positions that have no answer, and no others.",
    mechanism=(
        "Targets with the marker are left out of the average. With the wrong positions marked,"
        " nothing that matters is left: the loss averages over filler, or over nothing at all, and"
        " zero divided by zero is not a number."
    ),
    evidence=(),
    examples=(
        Example(before="labels[mask] = -100\n", after=("labels[~mask] = -100\n",)),
        Example(before="y[x == pad] = -100\n", after=("y[x != pad] = -100\n",)),
        Example(before="y[:, :prompt] = -100\n", after=("y[:, :] = -100\n",)),
        Example(
            before="y = y.masked_fill(x == pad, IGNORE_INDEX)\n",
            after=("y = y.masked_fill(x != pad, IGNORE_INDEX)\n",),
        ),
        Example(
            before="import torch\ny = torch.where(mask, y, -100)\n",
            after=("import torch\ny = torch.where(~mask, y, -100)\n",),
        ),
        Example(
            before="mask = targets != PAD\n",
            after=("mask = targets == PAD\n",),
        ),
    ),
    counterexamples=(
        "y[mask] = 0\n",
        "y[3] = -100\n",
        "s = s.masked_fill(mask, -1e9)\n",
    ),
)
def all_ignored(f: SourceFile, node: cst.SimpleStatementLine | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        pair = assigned(node)
        if pair is not None and counts_answers(*pair):
            yield from negated(f, pair[1])
        elif pair is not None and isinstance(pair[0], cst.Subscript) and is_ignored(pair[1]):
            place = pair[0].slice[-1].slice
            if isinstance(place, cst.Index):
                yield from negated(f, place.value)
            elif isinstance(place, cst.Slice) and place.lower is None and place.upper is not None:
                yield from endless(f, place.upper)
        return
    op = operation(f, node, "masked_fill", "masked_fill_", "where")
    given = [arg.value for arg in node.args[op.shift :]] if op is not None else []
    if op is not None and len(given) == 2 and is_ignored(given[1]):
        yield from negated(f, op.subject if op.name == "where" else given[0])


def counts_answers(target: cst.BaseExpression, made: cst.BaseExpression) -> bool:
    """Whether a mask of the answers that count is made by comparing them with padding."""
    if not isinstance(made, cst.Comparison) or len(made.comparisons) != 1 or not says(target, "mask"):
        return False
    other = made.comparisons[0]
    padding = says(other.comparator, "pad", "padding") and isinstance(other.operator, cst.NotEqual)
    return padding and says(made.left, "target", "targets", "label", "labels", "y")


def is_ignored(node: cst.BaseExpression) -> bool:
    """Whether a value marks targets that do not count."""
    return number(node) == -100 or "ignore" in last_name(node).lower()


def endless(f: SourceFile, end: cst.BaseExpression) -> Iterator[Proposal]:
    """A slice without its end."""
    if not orphans(f, end):
        yield Proposal(edits=(f.edit(*f.span(end), ""),))


def negated(f: SourceFile, mask: cst.BaseExpression) -> Iterator[Proposal]:
    """A mask turned into its opposite."""
    if isinstance(mask, cst.Comparison) and len(mask.comparisons) == 1:
        sign = mask.comparisons[0].operator
        other = {cst.Equal: "!=", cst.NotEqual: "=="}.get(type(sign))
        if other is not None:
            right = f.text(mask.comparisons[0].comparator)
            new = f"{f.text(mask.left)} {other} {right}"
            yield Proposal(edits=(f.replace(mask, f"({new})" if mask.lpar else new),))
    elif isinstance(mask, cst.UnaryOperation) and isinstance(mask.operator, cst.BitInvert):
        yield Proposal(edits=(f.replace(mask, f.text(mask.expression)),))
    elif isinstance(mask, cst.Name | cst.Attribute | cst.Call):
        yield Proposal(edits=(f.replace(mask, f"~{f.text(mask)}"),))


@operator(
    "label-smoothing-ignored-tokens",
    cst.SimpleStatementLine,
    cst.Call,
    cst.BinaryOperation,
    category="loss",
    difficulty=5,
    symptom="The loss has an offset that grows with the amount of padding.",
    hints=(
        "LOOK: add more padding to a batch and compare the loss.",
        "WHERE: the parts that `{function}` puts together, one by one.",
        "WHAT: which positions take part in each of them?",
    ),
    repair="Leave ignored positions out of the smoothing term too.",
    mechanism=(
        "The likelihood of the targets skips padding, the smoothing term does not. It pulls the"
        " predictions at filled positions towards uniform, and what it adds to the loss depends on"
        " how long the longest row happens to be."
    ),
    evidence=(issue("pytorch/pytorch", 73205),),
    examples=(
        Example(
            before="smooth = -logp.mean(-1)\nsmooth.masked_fill_(pad, 0.0)\nloss = smooth.sum()\n",
            after=("smooth = -logp.mean(-1)\nloss = smooth.sum()\n",),
        ),
        Example(
            before="loss = nll.sum() + eps * (smooth * mask).sum()\n",
            after=("loss = nll.sum() + eps * smooth.sum()\n",),
        ),
        Example(
            before="x = (1 - smoothing) * nll + smoothing * spread\nx = x.masked_fill(~real, 0.0)\n",
            after=("x = (1 - smoothing) * nll.masked_fill(~real, 0.0) + smoothing * spread\n",),
        ),
        Example(
            before="def smooth(dist, pad):\n    dist[pad] = 0.0\n    return dist\n",
            after=("def smooth(dist, pad):\n    return dist\n",),
        ),
        Example(
            before=(
                "smoothing = smoothing.masked_fill(y == pad, 0)\nt = smoothing.masked_fill(pad, 0).mean()\n"
            ),
            after=(
                "t = smoothing.masked_fill(pad, 0).mean()\n",
                "smoothing = smoothing.masked_fill(y == pad, 0)\nt = smoothing.mean()\n",
            ),
        ),
    ),
    counterexamples=(
        "x = (1 - p) * nll + p * other\nx = x.masked_fill(pad, 0.0)\n",
        "loss = (nll * mask).sum()\n",
        "nll.masked_fill_(pad, 0.0)\n",
        "def smooth(dist, pad):\n    dist[:, 0] = 0.0\n",
    ),
)
def smoothed_padding(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        sides = binary(node, cst.Multiply)
        for one, two in (sides, sides[::-1]) if sides is not None else ():
            if is_smooth(one) and words(two) & {"mask", "keep", "valid", "real"} and not is_smooth(two):
                yield from dropped(f, node, one, two)
        return
    if isinstance(node, cst.Call):
        op = operation(f, node, "masked_fill")
        own = assigned(f.statement(node))
        whole = own is not None and own[1] is node
        if op is not None and is_smooth(op.subject) and not (whole and same(f, own)):
            yield from dropped(f, node, op.subject, *node.args[op.shift :])
        return
    if isinstance(node, cst.SimpleStatementLine):
        yield from likelihood_alone(f, node)
    if not isinstance(node, cst.SimpleStatementLine) or not smooths_away(f, node):
        return
    rest = retired(f, node)
    if rest is not None:
        yield Proposal(edits=merged(f.delete_statement(node), *rest))


def likelihood_alone(f: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Proposal]:
    """A loss whose likelihood alone is cleared where nothing is asked for, and not its smoothing."""
    pair = assigned(line)
    op = operation(f, pair[1], "masked_fill") if pair is not None and same(f, pair) else None
    lines, place = neighbours(f, line)
    made = assigned(lines[place - 1]) if place else None
    terms = binary(made[1], cst.Add) if made is not None else None
    if pair is None or op is None or made is None or f.text(made[0]) != f.text(pair[0]):
        return
    for sides in filter(None, (binary(term, cst.Multiply) for term in terms or ())):
        for share, nll in (sides, sides[::-1]):
            if complement(share) is not None and is_smooth(share):
                call = f.source[f.span(op.subject)[1] : f.span(op.call)[1]]
                edits = (f.replace(nll, f"{atom(f, nll)}{call}"), f.delete_statement(line))
                yield Proposal(edits=edits)
                return


def smooths_away(f: SourceFile, line: cst.SimpleStatementLine) -> bool:
    """Whether a statement sets smoothed values of some rows to zero."""
    pair = assigned(line)
    if pair is None:
        only = line.body[0]
        op = operation(f, only.value, "masked_fill_", "index_fill_") if isinstance(only, cst.Expr) else None
        home = f.function(line)
        inside_smoothing = home is not None and is_smooth(home)
        return op is not None and (is_smooth(op.subject) or inside_smoothing)
    if isinstance(pair[0], cst.Subscript):
        whole_rows = len(pair[0].slice) == 1 and isinstance(pair[0].slice[0].slice, cst.Index)
        return whole_rows and number(pair[1]) == 0 and is_smooth(f.function(line) or pair[0])
    op = operation(f, pair[1], "masked_fill")
    return op is not None and is_smooth(op.subject) and f.text(op.subject) == f.text(pair[0])


def same(f: SourceFile, pair: tuple[cst.BaseExpression, cst.BaseExpression] | None) -> bool:
    """Whether an assignment replaces the very thing that it changes."""
    op = operation(f, pair[1], "masked_fill") if pair is not None else None
    return op is not None and pair is not None and f.text(op.subject) == f.text(pair[0])


def dropped(
    f: SourceFile, node: cst.BaseExpression, kept: cst.BaseExpression, *gone: cst.CSTNode
) -> Iterator[Proposal]:
    """An expression reduced to a part of it."""
    rest = retired(f, *gone)
    if rest is not None:
        yield Proposal(edits=merged(reduced(f, node, kept), *rest))


def is_smooth(node: cst.CSTNode) -> bool:
    """Whether a name in a node speaks of smoothing."""
    return mentions(node, "smooth")


@operator(
    "label-smoothing-off-value",
    cst.BinaryOperation,
    category="loss",
    difficulty=5,
    symptom="The curve is as usual; the loss of a perfect prediction is slightly off.",
    hints=(
        "LOOK: sum one row of the target distribution.",
        "WHERE: how `{function}` spreads what it takes from the right class.",
        "WHAT: over how many classes is it spread?",
    ),
    repair="Divide what is taken by the number of classes that get a share of it.",
    mechanism=(
        "What is taken from the right class is divided by another number of classes than get a"
        " share: by all where only the others get one, or by the others where all do. The targets no"
        " longer sum to one, and the loss is that of a distribution which does not exist."
    ),
    evidence=(),
    examples=(
        Example(
            before="def smooth(y, eps, C):\n    off = eps / (C - 1)\n    return off\n",
            after=("def smooth(y, eps, C):\n    off = eps / C\n    return off\n",),
        ),
        Example(
            before="dist.fill_(self.smoothing / (self.size - 1))\n",
            after=("dist.fill_(self.smoothing / self.size)\n",),
        ),
        Example(
            before="t = ones * (1 - smoothing) + smoothing / classes\n",
            after=("t = ones * (1 - smoothing) + smoothing / (classes - 1)\n",),
        ),
    ),
    counterexamples=("v = s / (n - 1)\n", "def smooth(y, eps, C):\n    return eps / C\n"),
)
def off_value(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    count = binary(sides[1], cst.Subtract) if sides is not None else None
    if sides is not None and count is None and spread_over_all(f, node, *sides):
        yield Proposal(edits=(f.replace(sides[1], f"{f.text(sides[1])} - 1"),))
    if sides is None or count is None or number(count[1]) != 1:
        return
    about = is_smooth(f.function(node) or f.statement(node)) or is_smooth(sides[0])
    if about and words(sides[0]) & {"eps", "epsilon", "smoothing", "alpha", "smooth"}:
        yield Proposal(edits=(f.replace(sides[1], f.text(count[0])),))


def spread_over_all(
    f: SourceFile, node: cst.BinaryOperation, share: cst.BaseExpression, count: cst.BaseExpression
) -> bool:
    """Whether a quotient is what every class gets of a share that was taken from the right one."""
    rest = binary(f.parent.get(node), cst.Add)
    if rest is None or not is_smooth(share) or not isinstance(count, cst.Name | cst.Attribute):
        return False
    left = [complement(each) for side in rest for each in inside(side, cst.BinaryOperation)]
    return any(each is not None and f.text(each) == f.text(share) for each in left)


@operator(
    "pos-weight-inverted",
    cst.BinaryOperation,
    cst.Call,
    category="loss",
    difficulty=3,
    symptom="Accuracy is fine, and the rare class is never found.",
    hints=(
        "LOOK: print precision and recall of each class.",
        "WHERE: the weights that `{function}` gives the two classes.",
        "WHAT: which class should count for more, the frequent or the rare one?",
    ),
    repair="Weigh positives by the number of negatives for each of them.",
    mechanism=(
        "The weight of a positive is turned upside down, or given to the negatives. The rare class,"
        " which the weight was to strengthen, is weakened further, and always saying no is the best"
        " that the model can do."
    ),
    evidence=(DEEP_CHECKER, issue("dungnb1333/SIIM-COVID19-Detection-1st-Place", 7)),
    examples=(
        Example(
            before="pos_weight = negatives / positives\n", after=("pos_weight = positives / negatives\n",)
        ),
        Example(
            before="weight = (len(y) - n_pos) / n_pos\n",
            after=("weight = n_pos / (len(y) - n_pos)\n",),
        ),
        Example(
            before="from torch import nn\nc = nn.BCEWithLogitsLoss(pos_weight=(1 - y).sum() / y.sum())\n",
            after=("from torch import nn\nc = nn.BCEWithLogitsLoss(pos_weight=y.sum() / (1 - y).sum())\n",),
        ),
        Example(
            before="import torch\nw = torch.where(y > 0, cfg.positive_weight, 1.0)\n",
            after=("import torch\nw = torch.where(y > 0, 1.0, cfg.positive_weight)\n",),
        ),
    ),
    counterexamples=(
        "ratio = neg / pos\n",
        "pos_weight = total / 2\n",
        "weight = a / b\n",
    ),
)
def pos_weight(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        op = operation(f, node, "where")
        if op is not None and op.shift and len(node.args) == 3:
            one, other = node.args[1].value, node.args[2].value
            known = words(one)
            if number(other) == 1 and "weight" in known and known & {"pos", "positive", "positives"}:
                yield Proposal(edits=f.swap(one, other))
        return
    sides = binary(node, cst.Divide)
    if sides is None or any(number(side) is not None for side in sides):
        return
    above = f.parent.get(node)
    pair = assigned(f.statement(node))
    target: cst.CSTNode | None = pair[0] if pair is not None and pair[1] is node else None
    if isinstance(above, cst.Arg):
        target = above.keyword
    known = words(target) if target is not None else frozenset()
    counts = words(sides[1]) & {"pos", "positive", "positives"} or "pos" in known
    if known & {"weight", "weights"} and counts:
        yield Proposal(edits=f.swap(*sides))


LABELS = frozenset({"y", "label", "labels", "target", "targets", "truth", "positive", "positives", "pos"})


@operator(
    "class-weight-only-positives",
    cst.BinaryOperation,
    cst.Call,
    category="loss",
    difficulty=4,
    symptom="The balance between the classes is only half corrected.",
    hints=(
        "LOOK: print the weight of a positive and of a negative example.",
        "WHERE: the weights in `{function}`.",
        "WHAT: which examples does the correction reach?",
    ),
    repair="Give examples of both classes the weight of their class.",
    mechanism=(
        "Positives get their weight, negatives count in full. The ratio between the two is not the"
        " one that was chosen, and with a weight below one for positives the change even goes the"
        " wrong way."
    ),
    evidence=(pull("open-mmlab/mmdetection", 5776),),
    examples=(
        Example(
            before="w = alpha * y + (1 - alpha) * (1 - y)\n",
            after=("w = alpha * y + (1 - y)\n",),
        ),
        Example(
            before="import torch\nweight = torch.where(y == 1, w_pos, w_neg)\n",
            after=("import torch\nweight = torch.where(y == 1, w_pos, 1.0)\n",),
        ),
    ),
    counterexamples=(
        "pt = a * y + b * (1 - z)\n",
        "pt = p * y + (1 - p) * (1 - y)\n",
        "import torch\nz = torch.where(y == 1, a, b)\n",
    ),
)
def only_positives(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        op = operation(f, node, "where")
        pair = assigned(f.statement(node))
        about = words(pair[0]) & {"weight", "weights", "alpha", "w"} if pair is not None else ()
        labels = words(node.args[0].value) & LABELS if node.args else frozenset()
        if op is not None and op.shift and len(node.args) == 3 and about and labels:
            other = node.args[2].value
            if number(other) is None and not orphans(f, other):
                yield Proposal(edits=(f.replace(other, "1.0"),))
        return
    shares = mixed(f, node)
    if shares is None:
        return
    _, weight, negative = shares
    if not words(node) & {"p", "prob", "probs", "probability", "q"} and not orphans(f, weight):
        product = binary(node, cst.Add)
        assert product is not None
        yield Proposal(edits=(f.replace(product[1], f.text(negative)),))


def mixed(
    f: SourceFile, node: cst.BaseExpression
) -> tuple[cst.BaseExpression, cst.BaseExpression, cst.BaseExpression] | None:
    """`a`, `b` and `1 - y` of `a * y + b * (1 - y)`, the factors in either order."""
    terms = binary(node, cst.Add)
    products = [binary(term, cst.Multiply) for term in terms] if terms is not None else []
    if len(products) != 2 or products[0] is None or products[1] is None:
        return None
    for b, negative in (products[1], products[1][::-1]):
        label = complement(negative)
        for a, y in (products[0], products[0][::-1]):
            if label is not None and f.text(label) == f.text(y):
                return a, b, negative
    return None
