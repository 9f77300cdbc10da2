"""Mistakes in what a metric counts, and what it divides by."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    axis,
    bare,
    binary,
    function_of,
    in_forward,
    inside,
    keyword,
    last_name,
    loop_of,
    number,
    operation,
)
from bughunt_mutator.operators._look_parts import calls, closed, defined, says, summed
from bughunt_mutator.operators._sources import TAXONOMY, issue
from bughunt_mutator.source import SourceFile

BATCH_SIZES = ("batch", "batch_size", "batchsize", "bs", "eval_batch", "eval_batch_size")


@operator(
    "metric-fixed-batchsize",
    cst.Call,
    cst.Subscript,
    category="eval-metrics",
    difficulty=3,
    symptom="The metric comes out a little better or worse than it is, and the size of batches matters.",
    hints=(
        "LOOK: compute the metric with batches of 1, of 7 and of everything.",
        "WHERE: what each batch counts for in `{function}`.",
        "WHAT: how many rows does the last batch hold?",
    ),
    repair="Count the rows that a batch has.",
    mechanism=(
        "Each batch counts as a full one. The last one is usually shorter, so its rows weigh more"
        " than others, or the total is divided by more rows than there are."
    ),
    evidence=(issue("mitmul/chainer-cifar10", 1),),
    examples=(
        Example(
            row="metric-fixed-batchsize",
            before="def f(data, batch_size):\n    for x, y in data:\n        total += loss(x, y) * len(y)\n",
            after=(
                "def f(data, batch_size):\n    for x, y in data:\n        total += loss(x, y) * batch_size\n",
            ),
        ),
        Example(
            before=(
                "for x, y in zip(xs.split(cfg.rows), ys.split(cfg.rows)):\n"
                '    total += ce(net(x), y, reduction="sum").item()\n'
            ),
            after=(
                "for x, y in zip(xs.split(cfg.rows), ys.split(cfg.rows)):\n"
                "    total += ce(net(x), y).item() * cfg.rows\n",
            ),
        ),
        Example(
            before="for x, y in chunks(data, cfg.batch):\n    n += y.size(0)\n    m += y.shape[0]\n",
            after=(
                "for x, y in chunks(data, cfg.batch):\n    n += cfg.batch\n    m += y.shape[0]\n",
                "for x, y in chunks(data, cfg.batch):\n    n += y.size(0)\n    m += cfg.batch\n",
            ),
        ),
    ),
    counterexamples=(
        "for x, y in data:\n    n += len(y)\n",
        "def f(y, batch_size):\n    n = len(y)\n",
        "for x in data:\n    n += f(len(x), batch_size)\n",
    ),
)
def fixed_batch_size(f: SourceFile, node: cst.Call | cst.Subscript) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        yield from _full_batches(f, node)
    if not _counts_rows(f, node) or loop_of(f, node) is None:
        return
    above = f.parent.get(node)
    if binary(above, cst.Multiply) is not None:
        above = f.parent.get(above) if above is not None else None
    if not isinstance(above, cst.AugAssign) or not isinstance(above.operator, cst.AddAssign):
        return
    home = function_of(f, node)
    for each in (*inside(home, cst.Attribute), *inside(home, cst.Name)):
        whole = f.parent.get(each)
        if isinstance(whole, cst.Attribute) and whole.attr is each:
            continue
        if last_name(each).lower() in BATCH_SIZES and _is_size(each):
            read = each.name if isinstance(each, cst.Param) else each
            yield Proposal(edits=(f.replace(node, f.text(read)),))
            return


def _full_batches(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    """The mean loss of a batch times the size of a full one, instead of the sum over its rows."""
    reduction, loop = keyword(node, "reduction"), loop_of(f, node)
    item = f.parent.get(f.parent[node])
    line = f.parent.get(item) if item is not None else None
    added = isinstance(line, cst.AugAssign) and isinstance(line.operator, cst.AddAssign)
    if reduction is None or "sum" not in f.text(reduction.value) or not isinstance(loop, cst.For):
        return
    sizes = [call.args[0].value for call in calls(loop.iter, "split") if len(call.args) == 1]
    if added and isinstance(item, cst.Call) and operation(f, item, "item") and sizes:
        end = f.span(item)[1]
        edits = (f.delete_arg(node, reduction), f.edit(end, end, f" * {f.text(sizes[0])}"))
        yield Proposal(edits=edits)


def _counts_rows(f: SourceFile, node: cst.Call | cst.Subscript) -> bool:
    """Whether a node is `len(x)`, `x.size(0)` or `x.shape[0]`."""
    if isinstance(node, cst.Subscript):
        return last_name(node.value) == "shape" and f.text(node).endswith("[0]")
    if isinstance(node.func, cst.Name):
        return node.func.value == "len" and len(node.args) == 1
    return last_name(node.func) == "size" and len(node.args) == 1 and number(node.args[0].value) == 0


def _is_size(node: cst.CSTNode) -> bool:
    """Whether what is called as batch sizes are is a number of rows, not the rows."""
    if last_name(node).lower() != "batch":
        return True
    return isinstance(node, cst.Attribute) and last_name(node.value).lower() in (
        "cfg", "config", "args", "self", "hp", "hparams", "opt", "conf",
    )  # fmt: skip


@operator(
    "threshold-on-logits",
    cst.Comparison,
    category="eval-metrics",
    difficulty=3,
    symptom="The loss is fine, but too few things are found, and those with great certainty.",
    hints=(
        "LOOK: print smallest and largest of the values that are compared.",
        "WHERE: the decision in `{function}`.",
        "WHAT: on which scale is one half the middle?",
    ),
    repair="Compare probabilities with one half, or logits with zero.",
    mechanism=(
        "A logit of one half is a probability of 0.62. The line is drawn too high: what lies between"
        " is refused, so there are fewer false alarms and more misses than there should be."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="threshold-on-logits",
            before="import torch\npred = torch.sigmoid(z) > 0.5\n",
            after=("import torch\npred = z > 0.5\n",),
        ),
        Example(before="hits = (logits > 0).sum()\n", after=("hits = (logits > 0.5).sum()\n",)),
        Example(
            before="def f(net, x):\n    p = net(x).sigmoid()\n    return p >= 0.5\n",
            after=("def f(net, x):\n    p = net(x)\n    return p >= 0.5\n",),
        ),
    ),
    counterexamples=("keep = x > 0\n", "keep = p > 0.5\n", "flag = z.sigmoid() > other\n"),
)
def threshold_on_logits(f: SourceFile, node: cst.Comparison) -> Iterator[Proposal]:
    if len(node.comparisons) != 1:
        return
    (comparison,) = node.comparisons
    if not isinstance(comparison.operator, cst.GreaterThan | cst.GreaterThanEqual):
        return
    limit = number(comparison.comparator)
    if limit == 0 and says(node.left, "logit", "logits") and not isinstance(node.left, cst.Call):
        yield Proposal(edits=(f.replace(comparison.comparator, "0.5"),))
    if limit is None or not 0 < limit < 1:
        return
    squashed: cst.BaseExpression = node.left
    if isinstance(squashed, cst.Name):
        made = defined(f, node, squashed.value)
        squashed = made if made is not None else squashed
    op = operation(f, squashed, "sigmoid", "expit")
    if op is not None:
        yield Proposal(edits=(f.replace(squashed, f.text(op.subject)),))


@operator(
    "argmax-wrong-dim",
    cst.Call,
    category="eval-metrics",
    difficulty=1,
    symptom="The loss falls as it should, while the accuracy stays at that of guessing, or it stops.",
    hints=(
        "LOOK: print the shapes of answers and of what they are compared with.",
        "WHERE: the choice in `{function}`.",
        "WHAT: along which axis do the classes compete?",
    ),
    repair="Choose along the axis of the classes.",
    mechanism=(
        "The choice is made among the rows of the batch: for each class, the row that has most of"
        " it. Numbers of rows are then compared with numbers of classes."
    ),
    evidence=("https://stackoverflow.com/questions/62354952", "https://stackoverflow.com/questions/56841451"),
    examples=(
        Example(row="argmax-wrong-dim", before="p = z.argmax(dim=1)\n", after=("p = z.argmax(dim=0)\n",)),
        Example(
            before="import numpy as np\np = np.argmax(z, axis=-1)\n",
            after=("import numpy as np\np = np.argmax(z, axis=-2)\n",),
        ),
        Example(before="p = z.max(1)[1]\n", after=("p = z.max(0)[1]\n",)),
        Example(before="p = z.topk(5, dim=1).indices\n", after=("p = z.topk(5, dim=0).indices\n",)),
    ),
    counterexamples=("p = z.argmax()\n", "p = z.argmax(dim=0)\n", "m = z.max(1).values\n"),
)
def argmax_wrong_dim(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "argmax", "max", "topk")
    if op is None or in_forward(f, node):
        return
    given = keyword(node, "dim", "axis")
    along = given.value if given is not None else (axis(f, op) if op.name != "topk" else None)
    other = {1.0: "0", -1.0: "-2"}.get(number(along) or 0.0)
    if along is None or other is None:
        return
    if op.name == "argmax" or _takes_indices(f, node):
        yield Proposal(edits=(f.replace(along, other),))


def _takes_indices(f: SourceFile, node: cst.Call) -> bool:
    above = f.parent.get(node)
    if isinstance(above, cst.Attribute):
        return above.attr.value == "indices"
    return isinstance(above, cst.Subscript) and f.text(above).endswith("[1]")


@operator(
    "perplexity-mean-exp",
    cst.Call,
    category="eval-metrics",
    difficulty=3,
    symptom="The perplexity is higher than the loss suggests.",
    hints=(
        "LOOK: compute the perplexity by hand from the mean loss.",
        "WHERE: the arithmetic in `{function}`.",
        "WHAT: is the exponential of a mean the mean of exponentials?",
    ),
    repair="Take the mean of the losses first, then its exponential.",
    mechanism=(
        "The exponential makes large losses much larger, so a few hard rows decide the mean. By"
        " Jensen's inequality the result is never smaller than the true perplexity."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="perplexity-mean-exp",
            before="import torch\nppl = torch.exp(nll.mean())\n",
            after=("import torch\nppl = torch.exp(nll).mean()\n",),
        ),
        Example(before="ppl = losses.mean().exp()\n", after=("ppl = losses.exp().mean()\n",)),
        Example(
            before="import math\nppl = math.exp(sum(losses) / len(losses))\n",
            after=("import math\nppl = sum(math.exp(each) for each in losses) / len(losses)\n",),
        ),
        Example(
            before="import numpy as np\nppl = np.exp(np.mean(losses))\n",
            after=("import numpy as np\nppl = np.mean(np.exp(losses))\n",),
        ),
        Example(
            before=(
                "import math\nfor x, y in data:\n    total += nll(x, y).item() * len(y)\n"
                "ppl = math.exp(total / n)\n"
            ),
            after=(
                "import math\nfor x, y in data:\n    total += math.exp(nll(x, y).item()) * len(y)\n"
                "ppl = total / n\n",
            ),
        ),
        Example(
            before=(
                "import math\nfor losses, mask in data:\n    total += (losses * mask).sum().item()\n"
                "ppl = math.exp(total / n)\n"
            ),
            after=(
                "import math\nfor losses, mask in data:\n    total += (losses.exp() * mask).sum().item()\n"
                "ppl = total / n\n",
            ),
        ),
    ),
    counterexamples=(
        "y = torch.exp(x)\n",
        "import math\nz = math.exp(a / b)\n",
        "y = x.exp().mean()\n",
        "import math\nfor x in data:\n    total += x.sum().item()\ny = math.exp(total / n) + math.pi\n",
    ),
)
def perplexity(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) == "math.exp" and len(node.args) == 1:
        yield from _exp_of_quotient(f, node)
        return
    op = operation(f, node, "exp")
    mean = operation(f, op.subject, "mean") if op is not None else None
    if op is None or mean is None or len(mean.call.args) != mean.shift:
        return
    losses = f.text(mean.subject)
    if op.shift and mean.shift:
        yield Proposal(edits=(f.replace(node, f"{f.text(mean.call.func)}({f.text(node.func)}({losses}))"),))
    elif op.shift:
        yield Proposal(edits=(f.replace(node, f"{f.text(node.func)}({losses}).mean()"),))
    elif not mean.shift:
        yield Proposal(edits=(f.replace(node, f"{losses}.exp().mean()"),))


def _exp_of_quotient(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    exp = f.text(node.func)
    sides = binary(node.args[0].value, cst.Divide)
    if sides is None:
        return
    if isinstance(sides[0], cst.Call) and last_name(sides[0].func) == "sum" and len(sides[0].args) == 1:
        each = f"sum({exp}(each) for each in {f.text(sides[0].args[0].value)})"
        yield Proposal(edits=(f.replace(node, f"{each} / {f.text(sides[1])}"),))
        return
    for line in inside(function_of(f, node), cst.AugAssign):
        if f.text(line.target) != f.text(sides[0]) or loop_of(f, line) is None:
            continue
        factors = binary(line.value, cst.Multiply) or (line.value,)
        for factor in factors:
            if (
                operation(f, factor, "item")
                and not any(calls(factor, "sum"))
                and "reduction" not in f.text(factor)
            ):
                mean = f.replace(node, bare(f, node.args[0].value))
                yield Proposal(edits=(mean, f.replace(factor, f"{exp}({f.text(factor)})")))
                return
        losses = _summed_losses(f, line.value)
        if losses is not None:
            mean = f.replace(node, bare(f, node.args[0].value))
            yield Proposal(edits=(mean, f.replace(losses, f"{closed(f.text(losses))}.exp()")))
            return


def _summed_losses(f: SourceFile, value: cst.BaseExpression) -> cst.BaseExpression | None:
    """The losses of `losses.sum().item()`, with or without a mask beside them."""
    item = operation(f, value, "item")
    total = operation(f, item.subject, "sum") if item is not None else None
    if total is None or total.shift or total.call.args:
        return None
    parts = binary(total.subject, cst.Multiply) or (total.subject,)
    named = [part for part in parts if says(part, "loss", "losses", "nll", "surprise", "entropy")]
    return named[0] if len(named) == 1 else None


PER_CLASS = (
    "tp", "fp", "fn", "hits", "support", "confusion", "class", "classes", "counts", "true", "correct",
    "predicted", "actual", "recall", "precision", "recalls", "precisions", "diag", "diagonal",
)  # fmt: skip


@operator(
    "macro-vs-micro",
    cst.Call,
    cst.Arg,
    category="eval-metrics",
    difficulty=3,
    symptom="The metric looks good although rare classes are hardly ever right.",
    hints=(
        "LOOK: print the metric for each class, and how many rows each class has.",
        "WHERE: how `{function}` makes one number of many.",
        "WHAT: does a class with few rows count as much as one with many?",
    ),
    repair="Compute the metric for each class, then take the mean.",
    mechanism=(
        "Counts of all classes are thrown together before dividing, so that large classes decide. A"
        " model that neglects small ones gets nearly full marks."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="macro-vs-micro",
            before="recall = (tp / support).mean()\n",
            after=("recall = tp.sum() / support.sum()\n",),
        ),
        Example(
            before="def f(tp, fp):\n    precision = tp / (tp + fp)\n    return precision.mean()\n",
            after=(
                "def f(tp, fp):\n    precision = tp / (tp + fp)\n"
                "    return (precision * (tp + fp)).sum() / (tp + fp).sum()\n",
            ),
        ),
        Example(
            before="import numpy as np\nr = np.mean(np.diag(c) / support)\n",
            after=("import numpy as np\nr = np.sum(np.diag(c)) / np.sum(support)\n",),
        ),
        Example(
            before='s = f1_score(y, p, average="macro")\n', after=('s = f1_score(y, p, average="micro")\n',)
        ),
        Example(before='s = f1_score(table, "macro")\n', after=('s = f1_score(table, "micro")\n',)),
    ),
    counterexamples=(
        "m = (a / b).mean()\n",
        "m = (tp / support).mean(0)\n",
        's = f1_score(y, p, average="micro")\n',
        's = show(table, "macro")\n',
    ),
)
def macro_vs_micro(f: SourceFile, node: cst.Call | cst.Arg) -> Iterator[Proposal]:
    if isinstance(node, cst.Arg):
        call = f.parent.get(node)
        by_place = isinstance(call, cst.Call) and says(call.func, "f", "fbeta", "score", *PER_CLASS)
        if by_place if node.keyword is None else node.keyword.value == "average":
            new = {'"macro"': '"micro"', "'macro'": "'micro'"}.get(f.text(node.value))
            if new is not None:
                yield Proposal(edits=(f.replace(node.value, new),))
        return
    op = operation(f, node, "mean")
    if op is None or len(node.args) != op.shift or not says(op.subject, *PER_CLASS):
        return
    sides = binary(op.subject, cst.Divide)
    if sides is not None and not isinstance(sides[0], cst.Integer | cst.Float):
        if op.shift:
            total = f.text(node.func)[: -len("mean")] + "sum"
            new = f"{total}({bare(f, sides[0])}) / {total}({bare(f, sides[1])})"
        else:
            new = f"{closed(f.text(sides[0]))}.sum() / {closed(bare(f, sides[1]))}.sum()"
        yield Proposal(edits=(f.replace(node, new),))
    elif isinstance(op.subject, cst.Name) and not op.shift:
        name = op.subject.value
        quotient = binary(defined(f, node, name), cst.Divide)
        if quotient is not None and says(quotient[0], *PER_CLASS):
            weight = closed(bare(f, quotient[1]))
            yield Proposal(edits=(f.replace(node, f"({name} * {weight}).sum() / {weight}.sum()"),))


OVERLAP = ("inter", "intersection", "intersections", "union", "unions", "overlap", "dice")


@operator(
    "iou-metric-averaged",
    cst.BinaryOperation,
    category="eval-metrics",
    difficulty=4,
    symptom="The metric changes with the size of the batches, and small regions count too much.",
    hints=(
        "LOOK: compute the metric with all rows in one batch, and with one row in each.",
        "WHERE: what `{function}` adds up, and when it divides.",
        "WHAT: is a mean of ratios the ratio of sums?",
    ),
    repair="Add up both counts over all rows, and divide once.",
    mechanism=(
        "A ratio is taken for each part, and the ratios are averaged. A part with few pixels then"
        " counts as much as one with many, and the result is not the share that it claims to be."
    ),
    evidence=(issue("ganslate-team/ganslate", 74),),
    examples=(
        Example(
            row="iou-metric-averaged",
            before="iou = inter.sum() / union.sum()\n",
            after=("iou = (inter / union).mean()\n",),
        ),
        Example(
            before=(
                "def f(data):\n    inter = union = 0\n    for a, b in data:\n        inter += (a & b).sum()\n"
                "        union += (a | b).sum()\n    return inter / union\n"
            ),
            after=(
                "def f(data):\n    inter = union = 0\n    for a, b in data:\n"
                "        inter += (a & b).sum() / (a | b).sum()\n"
                "        union += 1\n    return inter / union\n",
            ),
        ),
    ),
    counterexamples=("x = a.sum() / b.sum()\n", "iou = inter / union\n"),
)
def iou_averaged(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is None or not (says(sides[0], *OVERLAP) or says(sides[1], *OVERLAP)):
        return
    over, under = (summed(f, side) for side in sides)
    if over is not None and under is not None:
        yield Proposal(edits=(f.replace(node, f"({closed(over)} / {closed(under)}).mean()"),))
        return
    added = [_added(f, node, side) for side in sides]
    if added[0] is not None and added[1] is not None:
        ratio = f"{f.text(added[0])} / {closed(f.text(added[1]))}"
        yield Proposal(edits=(f.replace(added[0], ratio), _counted(f, added[1])))


def _counted(f: SourceFile, value: cst.BaseExpression) -> Edit:
    return f.replace(value, "1")


def _added(f: SourceFile, node: cst.CSTNode, total: cst.BaseExpression) -> cst.BaseExpression | None:
    """What a loop of the function adds to a total, if it does so in one place."""
    found = [
        line.value
        for line in inside(function_of(f, node), cst.AugAssign)
        if f.text(line.target) == f.text(total)
        and isinstance(line.operator, cst.AddAssign)
        and loop_of(f, line) is not None
        and line.value not in (node,)
    ]
    return found[0] if len(found) == 1 and isinstance(total, cst.Name) else None


SCORES = (
    "score", "scores", "prob", "probs", "probability", "probabilities", "logit", "logits", "margin",
    "margins", "confidence",
)  # fmt: skip
RANKING = ("auc", "auroc", "roc_auc_score", "roc_auc", "roc_curve", "average_precision_score", "rank_auc")


@operator(
    "auc-from-labels",
    cst.Call,
    category="eval-metrics",
    difficulty=3,
    symptom="The measure is lower than that of the same model elsewhere, and takes few different values.",
    hints=(
        "LOOK: multiply all scores by ten; which measures of rank may change?",
        "WHERE: what `{function}` hands to the measure.",
        "WHAT: how many different ranks are there?",
    ),
    repair="Measure the order of the scores, not of the decisions.",
    mechanism=(
        "The area under the curve says how well scores order the rows. Decisions know two ranks"
        " only, so the curve has one corner, and the area is that of a single threshold."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="auc-from-labels",
            before="a = roc_auc_score(y, probs)\n",
            after=("a = roc_auc_score(y, (probs > 0.5) * 1.0)\n",),
        ),
        Example(
            before="a = auc(logits, y)\n",
            after=("a = auc((logits > 0) * 1.0, y)\n",),
        ),
    ),
    counterexamples=("a = auc(fpr, tpr)\n", "b = accuracy(y, probs)\n", "a = auc(y, scores > 0.5)\n"),
)
def auc_from_labels(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if last_name(node.func).lower() not in RANKING:
        return
    for given in node.args:
        plain = isinstance(given.value, cst.Name | cst.Attribute | cst.Subscript)
        if plain and says(given.value, *SCORES):
            limit = "0" if says(given.value, "logit", "logits", "margin", "margins") else "0.5"
            new = f"({f.text(given.value)} > {limit}) * 1.0"
            yield Proposal(edits=(f.replace(given.value, new),))
