"""Mistakes in what is kept apart: the rows of a split, their statistics, past and future."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    function_of,
    inside,
    last_name,
    loop_of,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_parts import (
    Cut,
    closed,
    cuts,
    draws,
    first,
    fresh,
    resolved,
    says,
    sole,
)
from bughunt_mutator.operators._sources import RECIPE, TAXONOMY, issue, pull
from bughunt_mutator.operators.data import random_order
from bughunt_mutator.source import SourceFile

SPLIT = (
    "train", "training", "test", "tests", "val", "valid", "validation", "held", "kept", "dev", "split",
    "fit", "tr", "te",
)  # fmt: skip
TRAIN = ("train", "training", "tr", "kept", "fit", "known")
TIME = (
    "time", "times", "series", "chronological", "past", "future", "date", "dates", "days", "forecast",
    "lag", "lags", "history", "window", "windows", "horizon",
)  # fmt: skip


def split_pairs(f: SourceFile, node: cst.CSTNode) -> list[tuple[cst.Subscript, cst.Subscript]]:
    """Heads `x[:n]` and tails `x[n:]` of what the function around a node splits."""
    heads: dict[tuple[str, str], cst.Subscript] = {}
    tails: list[tuple[tuple[str, str], cst.Subscript]] = []
    for each in inside(function_of(f, node), cst.Subscript):
        cut = sole(f, each)
        if not isinstance(cut, Cut) or cut.step or bool(cut.lower) == bool(cut.upper):
            continue
        bound = cut.lower or cut.upper
        if bound.startswith("-") or (bound.isdecimal() and int(bound) < 10):
            continue
        key = f.text(each.value), bound
        if cut.upper:
            heads.setdefault(key, each)
        else:
            tails.append((key, each))
    return [(heads[key], tail) for key, tail in tails if key in heads]


def of_a_split(f: SourceFile, pair: tuple[cst.Subscript, cst.Subscript]) -> bool:
    """Whether head and tail are the rows of a split by what the lines around say."""
    home = f.function(pair[0])
    named = home is not None and says(home.name, "split")
    return named or any(says(f.statement(each), *SPLIT) for each in pair)


def lower_end(node: cst.Subscript) -> cst.BaseExpression | None:
    part = node.slice[0].slice
    return part.lower if isinstance(part, cst.Slice) else None


@operator(
    "split-overlap",
    cst.Subscript,
    category="data",
    difficulty=3,
    symptom="Held-out results are better than they turn out on new data.",
    hints=(
        "LOOK: count the rows of both parts, and the rows that there are.",
        "WHERE: the limits in `{function}`.",
        "WHAT: can a row be on both sides?",
    ),
    repair="Start the second part where the first one ends.",
    mechanism=(
        "Some rows are learned from and asked about. The model remembers them, so the measure"
        " rewards memory, and choices made by it favour models that overfit."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="split-overlap",
            before="train, test = order[:n], order[n:]\n",
            after=("train, test = order[:n], order[n * 4 // 5:]\n",),
        ),
        Example(
            before="def split(x, y):\n    return (x[:800], y[:800]), (x[800:], y[800:])\n",
            after=("def split(x, y):\n    return (x[:800], y[:800]), (x[640:], y[640:])\n",),
        ),
    ),
    counterexamples=("left, right = x[:n], x[n:]\n", "train, test = x[:3], x[3:]\n", "test = x[n:]\n"),
)
def split_overlap(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    pairs = [pair for pair in split_pairs(f, node) if of_a_split(f, pair)]
    tails = [tail for _, tail in pairs]
    if first(f, tails) is not node:
        return
    edits = []
    for tail in tails:
        lower = lower_end(tail)
        if lower is not None:
            edits.append(f.replace(lower, earlier(f, lower)))
    yield Proposal(edits=tuple(edits))


def earlier(f: SourceFile, bound: cst.BaseExpression) -> str:
    """Four fifths of the way to a bound."""
    literal = number(bound)
    return str(int(literal) * 4 // 5) if literal is not None else f"{closed(f.text(bound))} * 4 // 5"


@operator(
    "time-split-shuffled",
    cst.Subscript,
    category="data",
    difficulty=3,
    symptom="Held-out results are too good, and do not hold up on data that come later.",
    hints=(
        "LOOK: print the times of the rows on both sides of the split.",
        "WHERE: which rows `{function}` sends to which side.",
        "WHAT: what may be known at the moment when the answer is asked for?",
    ),
    repair="Cut a series at a point in time.",
    mechanism=(
        "Rows of a series resemble their neighbours. If the held-out rows lie among those that were"
        " learned from, the answer is nearly known, which it will not be when the model is used."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="time-split-shuffled",
            before=(
                "import numpy as np\n\ndef split(series, n):\n    train = series[:n]\n"
                "    return train, series[n:]\n"
            ),
            after=(
                "import numpy as np\n\ndef split(series, n):\n"
                "    series = series[np.random.permutation(len(series))]\n    train = series[:n]\n"
                "    return train, series[n:]\n",
            ),
        ),
        Example(
            before=(
                "import torch\n\ndef split(windows, y, n):\n"
                "    return (windows[:n], y[:n]), (windows[n:], y[n:])\n"
            ),
            after=(
                "import torch\n\ndef split(windows, y, n):\n    order = torch.randperm(len(windows))\n"
                "    windows, y = windows[order], y[order]\n"
                "    return (windows[:n], y[:n]), (windows[n:], y[n:])\n",
            ),
        ),
    ),
    counterexamples=(
        "import numpy as np\n\ndef split(x, n):\n    return x[:n], x[n:]\n",
        "import torch\n\ndef split(series, n):\n    series = series[torch.randperm(9)]\n"
        "    return series[:n], series[n:]\n",
    ),
)
def time_shuffled(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    pairs = [pair for pair in split_pairs(f, node) if of_a_split(f, pair)]
    if not pairs or node is not first(f, [each for pair in pairs for each in pair]):
        return
    home = function_of(f, node)
    mixed = any(random_order(f, call) is not None for call in inside(home, cst.Call))
    permutation = spelled_permutation(f)
    if mixed or draws(home) or permutation is None or not says(home, *TIME) or loop_of(f, node):
        return
    bases = list(dict.fromkeys(f.text(head.value) for head, _ in pairs))
    if all(base.isidentifier() for base in bases):
        yield Proposal(edits=(shuffling(f, node, bases, permutation),))


def spelled_permutation(f: SourceFile) -> str | None:
    if (numpy := f.spelling("numpy")) is not None:
        return f"{numpy}.random.permutation"
    torch = f.spelling("torch")
    return f"{torch}.randperm" if torch is not None else None


def shuffling(f: SourceFile, node: cst.CSTNode, bases: list[str], permutation: str) -> Edit:
    """The lines that put arrays in one random order, before the statement of a node."""
    line = f.statement(node)
    drawn = f"{permutation}(len({bases[0]}))"
    if len(bases) == 1:
        return f.insert_before(line, f"{bases[0]} = {bases[0]}[{drawn}]")
    order = fresh(f, node, "order", "shuffled")
    picked = ", ".join(f"{base}[{order}]" for base in bases)
    new = f"{order} = {drawn}\n{f.indent(line)}{', '.join(bases)} = {picked}"
    return f.insert_before(line, new)


STATISTICS = ("mean", "std", "var", "min", "max", "amin", "amax", "median", "quantile")
STATISTIC_NAMES = (
    "mean", "mu", "std", "sd", "sigma", "scale", "shift", "center", "centre", "low", "high", "lo", "hi",
    "var", "min", "max",
)  # fmt: skip


def whole(f: SourceFile, node: cst.BaseExpression) -> str | None:
    """The rows that training rows were taken from."""
    if isinstance(node, cst.Subscript) and isinstance(node.value, cst.Name | cst.Attribute):
        cut = sole(f, node)
        head = isinstance(cut, Cut) and not cut.lower and not cut.step and bool(cut.upper)
        bounded = any(node.deep_equals(one) for one, _ in split_pairs(f, node))
        picked = isinstance(cut, str) and says(node.slice[0], *TRAIN)
        if (head and bounded) or picked:
            return f.text(node.value)
        part = number(node.slice[0].slice.value) if isinstance(node.slice[0].slice, cst.Index) else None
        return _split_from(f, node.value, int(part)) if part is not None and part >= 0 else None
    if isinstance(node, cst.Name) and says(node, *TRAIN):
        made = _part(f, node)
        return whole(f, made) if isinstance(made, cst.Subscript) else None
    return None


def _split_from(f: SourceFile, rows: cst.BaseExpression, part: int) -> str | None:
    """What a function was given to split, of which training rows are the first half."""
    if not isinstance(rows, cst.Name) or not says(rows, *TRAIN):
        return None
    for line in inside(function_of(f, rows), cst.SimpleStatementLine):
        target, made = assigned(line) or (None, None)
        if (
            not isinstance(target, cst.Tuple)
            or not isinstance(made, cst.Call)
            or not says(made.func, "split")
        ):
            continue
        first_half = isinstance(target.elements[0].value, cst.Name) and target.elements[0].value.value
        if first_half == rows.value and part < len(made.args):
            return f.text(made.args[part].value)
    return None


def _part(f: SourceFile, name: cst.Name) -> cst.BaseExpression | None:
    """What a name is assigned, alone or as one of several."""
    for line in inside(function_of(f, name), cst.SimpleStatementLine):
        target, made = assigned(line) or (None, None)
        if isinstance(target, cst.Name) and target.value == name.value:
            return made
        if isinstance(target, cst.Tuple) and isinstance(made, cst.Tuple):
            for one, other in zip(target.elements, made.elements, strict=False):
                if isinstance(one.value, cst.Name) and one.value.value == name.value:
                    return other.value
    return None


def measured(f: SourceFile, call: cst.Call) -> cst.BaseExpression | None:
    """The training rows whose statistics a call takes."""
    if last_name(call.func).startswith("fit") and call.args and says(call.func, "scaler", "scale", "stats"):
        return call.args[-1].value
    op = operation(f, call, *STATISTICS)
    pair = assigned(f.statement(call))
    return op.subject if op is not None and pair is not None and says(pair[0], *STATISTIC_NAMES) else None


@operator(
    "stats-leak",
    cst.Call,
    category="data",
    difficulty=4,
    symptom="Nothing shows in training; held-out results are a little too good.",
    hints=(
        "LOOK: change the held-out rows wildly; does what the model is trained on change?",
        "WHERE: from which rows `{function}` takes its numbers.",
        "WHAT: what may training know of the rows that are held out?",
    ),
    repair="Take statistics from the training rows alone.",
    mechanism=(
        "Held-out rows take part in the mean and spread that all rows are scaled with. So training"
        " knows something about them, and the measure is no longer that of rows never seen."
    ),
    evidence=(
        pull("cornellius-gp/gpytorch", 2761),
        issue("daxin007/ARMD", 5),
        issue("microsoft/qlib", 770),
        issue("d2l-ai/d2l-en", 843),
    ),
    examples=(
        Example(
            row="stats-leak",
            before="train, test = x[:n], x[n:]\nmean = train.mean(0)\nstd = train.std(0)\n",
            after=("train, test = x[:n], x[n:]\nmean = x.mean(0)\nstd = x.std(0)\n",),
        ),
        Example(
            before="train, held = split(x, y, rng)\nfit_scale(net, train[0])\nuse(train, held)\n",
            after=("train, held = split(x, y, rng)\nfit_scale(net, x)\nuse(train, held)\n",),
        ),
        Example(
            before="import numpy as np\nmu = np.mean(x[train_rows], axis=0)\n",
            after=("import numpy as np\nmu = np.mean(x, axis=0)\n",),
        ),
        Example(
            before="x_train = x[train]\nscaler.fit(x_train)\nuse(x_train)\n",
            after=("x_train = x[train]\nscaler.fit(x)\nuse(x_train)\n",),
        ),
    ),
    counterexamples=("mean = x.mean(0)\n", "m = x[rows].mean()\n", "mean = train.mean(0)\n"),
)
def stats_leak(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if last_name(node.func) not in STATISTICS and not last_name(node.func).startswith("fit"):
        return
    found: list[tuple[cst.BaseExpression, str]] = []
    sites: list[cst.Call] = []
    for call in inside(function_of(f, node), cst.Call):
        rows = measured(f, call)
        all_rows = whole(f, rows) if rows is not None else None
        if rows is not None and all_rows is not None:
            found.append((rows, all_rows))
            sites.append(call)
    if first(f, sites) is node and not orphans(f, *(rows for rows, _ in found)):
        yield Proposal(edits=tuple(f.replace(rows, text) for rows, text in found))


@operator(
    "feature-leaks-target",
    cst.Subscript,
    category="data",
    difficulty=2,
    symptom="The loss is suspiciously low from the start, on all data that are at hand.",
    hints=(
        "LOOK: for one row, write down the numbers that go in and the number that is asked for.",
        "WHERE: which columns or moments `{function}` takes as input.",
        "WHAT: is the answer among the numbers that the model is given?",
    ),
    repair="End the input before the answer begins.",
    mechanism=(
        "The input reaches one place too far and holds what is to be predicted. Copying it is"
        " easier than learning anything, and impossible when the model is used."
    ),
    evidence=(RECIPE,),
    examples=(
        Example(
            row="feature-leaks-target",
            before="x = series[t - w : t]\ny = series[t]\n",
            after=("x = series[t - w + 1 : t + 1]\ny = series[t]\n",),
        ),
        Example(
            before="x, y = table[:, :-1], table[:, -1]\n",
            after=("x, y = table[:, 1:], table[:, -1]\n",),
        ),
        Example(
            before="y = table[:, 0]\nx = table[:, 1:]\n",
            after=("y = table[:, 0]\nx = table[:, :-1]\n",),
        ),
        Example(
            before="x = z[a : a + w]\ny = z[a + w : a + w + h]\n",
            after=("x = z[a + 1 : a + w + 1]\ny = z[a + w : a + w + h]\n",),
        ),
    ),
    counterexamples=(
        "x, y = w[:, :-1], w[:, 1:]\n",
        "h, c = shape[:2], shape[2]\n",
        "train, test = order[:n], order[n:]\n",
    ),
)
def feature_leaks(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    axes = cuts(f, node)
    last = axes[-1] if axes else None
    part = node.slice[-1].slice
    if not isinstance(last, Cut) or not isinstance(part, cst.Slice) or last.step:
        return
    others = [
        cuts(f, each)
        for each in inside(function_of(f, node), cst.Subscript)
        if each is not node and f.text(each.value) == f.text(node.value)
    ]
    if len(axes) == 2:
        ends = {("", "-1"): ("-1", "1:"), ("1", ""): ("0", ":-1")}.get((last.lower, last.upper))
        if ends is not None and [axes[0], ends[0]] in others:
            yield Proposal(edits=(f.replace(part, ends[1]),))
    elif len(axes) == 1 and part.upper is not None and number(part.upper) is None:
        asked = any(
            len(other) == 1 and (other[0] == last.upper or _follows(other[0], last)) for other in others
        )
        if asked:
            moved = [end for end in (part.lower, part.upper) if end is not None]
            yield Proposal(edits=tuple(f.replace(end, f"{f.text(end)} + 1") for end in moved))


def _follows(other: Cut | str, window: Cut) -> bool:
    """Whether a cut begins where a window ends, both of limited length."""
    return isinstance(other, Cut) and other.lower == window.upper and bool(other.upper and window.lower)


@operator(
    "shuffle-before-batch-order",
    cst.Call,
    cst.For,
    category="data",
    difficulty=3,
    symptom="Learning is slower and less even than it should be, though every row is used.",
    hints=(
        "LOOK: print which rows share a batch, in two passes over the data.",
        "WHERE: what is put in random order in `{function}`.",
        "WHAT: does a row meet new neighbours in every pass?",
    ),
    repair="Put the rows in random order first, then cut them into batches.",
    mechanism=(
        "Whole batches change places, but what is in them never does. If rows come sorted, each"
        " batch is one-sided, and its gradient points the same wrong way in every pass."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="shuffle-before-batch-order",
            before="rows = data.shuffle(1000).batch(32)\n",
            after=("rows = data.batch(32).shuffle(1000)\n",),
        ),
        Example(
            before=(
                "import torch\norder = torch.randperm(n, generator=g)\n"
                "for rows in order.split(B):\n    f(rows)\n"
            ),
            after=(
                "import torch\norder = torch.arange(n)\nblocks = order.split(B)\n"
                "for rows in (blocks[i] for i in torch.randperm(len(blocks), generator=g)):\n    f(rows)\n",
            ),
        ),
        Example(
            before=(
                "import numpy as np\norder = rng.permutation(n)\nfor s in range(0, n, B):\n"
                "    f(order[s : s + B])\n"
            ),
            after=(
                "import numpy as np\norder = np.arange(n)\n"
                "for s in rng.permutation(len(range(0, n, B))) * B:\n    f(order[s : s + B])\n",
            ),
        ),
    ),
    counterexamples=("rows = data.batch(32)\n", "for rows in order.split(B):\n    f(rows)\n"),
)
def batches_shuffled(f: SourceFile, node: cst.Call | cst.For) -> Iterator[Proposal]:
    if isinstance(node, cst.For):
        yield from _blocks_shuffled(f, node)
        return
    inner = node.func.value if isinstance(node.func, cst.Attribute) else None
    chained = last_name(node.func) == "batch" and isinstance(inner, cst.Call)
    if chained and isinstance(inner, cst.Call) and last_name(inner.func) == "shuffle":
        source = inner.func.value if isinstance(inner.func, cst.Attribute) else None
        if source is not None:
            batch = f.text(node)[len(f.text(inner)) :]
            shuffle = f.text(inner)[len(f.text(source)) :]
            yield Proposal(edits=(f.replace(node, f.text(source) + batch + shuffle),))


def _blocks_shuffled(f: SourceFile, node: cst.For) -> Iterator[Proposal]:
    if not isinstance(node.iter, cst.Call):
        return
    split = operation(f, node.iter, "split")
    if split is not None and isinstance(split.subject, cst.Name):
        drawn = _permutation(f, split.subject)
        if drawn is not None:
            blocks = fresh(f, node, "blocks", "batches")
            again = _of_count(f, drawn, f"len({blocks})")
            i = fresh(f, node, "i", "at")
            yield Proposal(
                edits=(
                    _in_order(f, drawn),
                    f.insert_before(node, f"{blocks} = {f.text(node.iter)}"),
                    f.replace(node.iter, f"({blocks}[{i}] for {i} in {again})"),
                )
            )
    elif last_name(node.iter.func) == "range" and len(node.iter.args) == 3:
        start, width = f.text(node.target), f.text(node.iter.args[2].value)
        for each in inside(node.body, cst.Subscript):
            cut = sole(f, each)
            if isinstance(cut, Cut) and cut.lower == start and isinstance(each.value, cst.Name):
                drawn = _permutation(f, each.value)
                if drawn is not None and f.text(node.iter.args[0].value) == "0":
                    again = _of_count(f, drawn, f"len({f.text(node.iter)})")
                    new = f.replace(node.iter, f"{again} * {closed(width)}")
                    yield Proposal(edits=(_in_order(f, drawn), new))
                    return


def _permutation(f: SourceFile, name: cst.Name) -> cst.Call | None:
    """The random order behind a name, which may have been moved to a device on the way."""
    made = resolved(f, name)
    while isinstance(made, cst.Call) and isinstance(made.func, cst.Attribute):
        if random_order(f, made) is not None:
            torch = f.qname(made.func) == "torch.randperm"
            return made if torch or f.spelling("numpy") is not None else None
        made = made.func.value
    return None


def _in_order(f: SourceFile, drawn: cst.Call) -> Edit:
    """The edit that counts the rows instead of drawing their order."""
    home = f.spelling("torch") if f.qname(drawn.func) == "torch.randperm" else f.spelling("numpy")
    count, *others = drawn.args
    kept = [f.text(each).rstrip(", ") for each in others if each.keyword and each.keyword.value == "device"]
    return f.replace(drawn, f"{home}.arange({', '.join([f.text(count).rstrip(', '), *kept])})")


def _of_count(f: SourceFile, drawn: cst.Call, count: str) -> str:
    """The same draw for another number of things."""
    _, *others = (f.text(each).rstrip(", ") for each in drawn.args)
    return f"{f.text(drawn.func)}({', '.join([count, *others])})"
