"""Mistakes in serving and watching a model: what it is given in use, and what is kept between calls."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    axis,
    binary,
    called,
    enclosing,
    function_of,
    inside,
    last_name,
    names_in,
    neighbours,
    number,
    operation,
)
from bughunt_mutator.operators._look_meaning import (
    base,
    called_in,
    everywhere,
    holder,
    named,
    pieces,
    plain,
    resolved,
    says,
    tidy,
    words,
)
from bughunt_mutator.operators._sources import REASONS, TAXONOMY, issue
from bughunt_mutator.source import SourceFile

CATEGORY = "distributed-serving-quantisation"
SERVES = (
    "predict", "serve", "infer", "inference", "score", "handle", "respond", "answer", "endpoint", "classify",
)  # fmt: skip
PREPARES = (
    "preprocess", "preprocessing", "normalise", "normalize", "standardise", "standardize", "transform",
    "prepare", "scale", "clean", "tokenize", "tokenise", "encode", "features", "featurise", "featurize",
)  # fmt: skip


def serves(f: SourceFile, node: cst.CSTNode) -> cst.FunctionDef | None:
    """The function around a node, if it answers requests."""
    home = f.function(node)
    return home if home is not None and not pieces(home.name.value).isdisjoint(SERVES) else None


def elsewhere(f: SourceFile, home: cst.FunctionDef, key: object) -> bool:
    """Whether a step of preparation is also taken outside the function that serves."""
    for kind in (cst.Call, cst.BinaryOperation):
        for each in everywhere(f, kind):
            other = f.function(each)
            if other is not None and other is not home and preparation(f, each) == key:
                return pieces(other.name.value).isdisjoint(SERVES)
    return False


def preparation(f: SourceFile, node: cst.CSTNode) -> object:
    """What step of preparation a node takes, told by what it uses; nothing if it takes none."""
    if isinstance(node, cst.Call):
        name = last_name(node.func)
        known = not pieces(name).isdisjoint(PREPARES) and f.qname(node.func) is None
        return name if known and name not in ("transforms", "encode_plus") else None
    sides = binary(node, cst.Divide)
    if sides is None:
        return None
    if number(sides[1]) in (255, 256, 127.5, 128):
        return number(sides[1])
    centred = binary(sides[0], cst.Subtract)
    if centred is None or not says(sides[1], "std", "scale", "sigma", "sd", "var", "range", "spread"):
        return None
    if not isinstance(centred[1], cst.Name | cst.Attribute | cst.Subscript):
        return None
    return tuple(sorted(words(centred[1]) | words(sides[1])))


def raw(f: SourceFile, home: cst.FunctionDef, node: cst.CSTNode) -> cst.BaseExpression | None:
    """What a step of preparation is applied to, if that is what the function was called with."""
    if isinstance(node, cst.Call):
        fed = [each.value for each in node.args if comes_in(f, home, each.value)]
        return fed[0] if len(fed) == 1 else None
    sides = binary(node, cst.Divide)
    centred = binary(sides[0], cst.Subtract) if sides is not None else None
    fed_one = centred[0] if centred is not None else sides[0] if sides is not None else None
    return fed_one if fed_one is not None and comes_in(f, home, fed_one) else None


def comes_in(f: SourceFile, home: cst.FunctionDef, node: cst.BaseExpression) -> bool:
    """Whether an expression is what a function was called with, cast at most."""
    root = base(node)
    params = {param.name.value for param in home.params.params}
    if not isinstance(root, cst.Name) or says(
        root, "model", "net", "cfg", "config", "self", "state", "device"
    ):
        return False
    return root.value in params and resolved(f, root) is root


@operator(
    "serve-preproc-skew",
    cst.Call,
    cst.BinaryOperation,
    category=CATEGORY,
    difficulty=3,
    symptom="Training and its own checks are perfect; in use, the answers are poor.",
    hints=(
        "LOOK: print mean and spread of what reaches the first layer, in training and in use.",
        "WHERE: everything that `{function}` does before it asks the model.",
        "WHAT: is a row prepared in the same way on both roads?",
    ),
    repair="Prepare inputs in use exactly as in training, by the same code.",
    mechanism=(
        "The model has learned to read prepared numbers and is handed raw ones. Nothing fails, since the"
        " shapes agree; every answer comes from a region that training never saw. Two copies of one"
        " preparation drift apart sooner or later."
    ),
    evidence=(REASONS, TAXONOMY),
    examples=(
        Example(
            row="serve-preproc-skew",
            before=(
                "def train(m, x):\n    fit(m, (x - m.mean) / m.std)\n\n"
                "def predict(m, x):\n    return m((x - m.mean) / m.std)\n"
            ),
            after=(
                "def train(m, x):\n    fit(m, (x - m.mean) / m.std)\n\ndef predict(m, x):\n    return m(x)\n",
            ),
        ),
        Example(
            before="def train(m, x):\n    fit(m, prepare(x))\n\ndef serve(m, x):\n    return m(prepare(x))\n",
            after=("def train(m, x):\n    fit(m, prepare(x))\n\ndef serve(m, x):\n    return m(x)\n",),
        ),
        Example(
            before="def load(x):\n    return x / 255\n\ndef predict(m, x):\n    return m(x.float() / 255)\n",
            after=("def load(x):\n    return x / 255\n\ndef predict(m, x):\n    return m(x.float())\n",),
        ),
    ),
    counterexamples=(
        "def predict(m, x):\n    return m((x - m.mean) / m.std)\n",
        "def train(m, x):\n    fit(m, prepare(x))\n",
    ),
)
def preproc_skew(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    home = serves(f, node)
    key = preparation(f, node) if home is not None else None
    unprepared = raw(f, home, node) if home is not None and key is not None else None
    if home is None or unprepared is None or not elsewhere(f, home, key):
        return
    if isinstance(f.parent.get(node), cst.Assign) and isinstance(holder(f, node), cst.Tuple):
        return
    given = [arg.value for arg in node.args] if isinstance(node, cst.Call) else []
    others = [each for each in given if each is not unprepared]
    lines = tidy(f, *others)
    if lines is not None:
        yield Proposal(edits=(*lines, f.replace(node, f.text(unprepared))))


def is_key(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression becomes the key under which a result is kept."""
    kept = says(f.module, "cache", "cached", "memo", "store", "stored", "kept")
    target = holder(f, node)
    if target is not None:
        return kept and named(target, "key", "fingerprint", "digest")
    home = enclosing(f, node, cst.FunctionDef)
    returned = enclosing(f, node, cst.Return) is not None
    return kept and returned and home is not None and named(home.name, "key", "fingerprint", "digest")


@operator(
    "stale-feature-cache",
    cst.Tuple,
    cst.List,
    cst.FormattedString,
    category=CATEGORY,
    difficulty=4,
    symptom="A change of the settings has no effect, except on a machine that has never run before.",
    hints=(
        "LOOK: ask twice with different settings, and compare the answers.",
        "WHERE: how `{function}` recognises what it has already computed.",
        "WHAT: does the key name everything that the result depends on?",
    ),
    repair="Put everything that the result depends on into the key.",
    mechanism=(
        "Two requests that differ only in what the key leaves out are taken for the same one, and the second"
        " gets the first one's answer. Experiments are then compared on features of one and the same setting."
    ),
    evidence=(),
    examples=(
        Example(
            row="stale-feature-cache",
            before="def get(cache, user, window):\n    key = (user, window)\n    return cache[key]\n",
            after=("def get(cache, user, window):\n    key = user\n    return cache[key]\n",),
        ),
        Example(
            before='cache_key = f"{name}-{digest(cfg)}"\nx = cache[cache_key]\n',
            after=('cache_key = f"{name}"\nx = cache[cache_key]\n',),
        ),
        Example(
            before="def key_of(name, step):\n    return digest([name, dict(step.settings)])\n\nkept = {}\n",
            after=("def key_of(name, step):\n    return digest([name])\n\nkept = {}\n",),
        ),
        Example(
            before="def cache_key(a, b, c):\n    return hash((a, b, c))\n",
            after=(
                "def cache_key(a, b, c):\n    return hash((a, c))\n",
                "def cache_key(a, b, c):\n    return hash((a, b))\n",
            ),
        ),
    ),
    counterexamples=("key = (user, window)\n", "pair = (a, b)\nx = cache[a]\n"),
)
def stale_cache(f: SourceFile, node: cst.Tuple | cst.List | cst.FormattedString) -> Iterator[Proposal]:
    if not is_key(f, node):
        return
    if isinstance(node, cst.Tuple | cst.List):
        parts = [element.value for element in node.elements]
        for place, part in enumerate(parts):
            lines = tidy(f, part) if place and names_in(part) else None
            if lines is None:
                continue
            left = [f.text(each) for each in parts if each is not part]
            inner = ", ".join(left)
            if isinstance(node, cst.List):
                yield Proposal(edits=(*lines, f.replace(node, f"[{inner}]")))
                continue
            written = f"({inner})" if node.lpar else inner
            yield Proposal(edits=(*lines, f.replace(node, written if len(left) > 1 else inner)))
        return
    shown = [each for each in node.parts if isinstance(each, cst.FormattedStringExpression)]
    for each in shown[1:]:
        lines = tidy(f, each.expression)
        if lines is not None:
            yield Proposal(edits=(*lines, f.edit(*without(f, node, each), "")))


def without(f: SourceFile, node: cst.FormattedString, part: cst.FormattedStringExpression) -> tuple[int, int]:
    """The stretch of a string that shows one part, with the separator in front of it."""
    place = next(i for i, each in enumerate(node.parts) if each is part)
    before = node.parts[place - 1]
    start, end = f.span(part)
    if isinstance(before, cst.FormattedStringText) and len(before.value.strip()) <= 1:
        start = f.span(before)[0]
    return start, end


WATCHES = ("drift", "psi", "shift", "monitor", "anomaly", "baseline", "reference", "alarm", "outlier")


@operator(
    "drift-window-includes-current",
    cst.Subscript,
    cst.SimpleStatementLine,
    cst.Call,
    category=CATEGORY,
    difficulty=4,
    symptom="The alarm hardly ever rings, whatever happens to the data.",
    hints=(
        "LOOK: replace the newest rows by something absurd; how much does the score move?",
        "WHERE: the two sets that `{function}` compares.",
        "WHAT: do they share rows?",
    ),
    repair="Compare the newest rows with rows that came before them.",
    mechanism=(
        "The rows under test are part of what they are tested against. Each change moves the reference along"
        " with it, the difference shrinks by the share of common rows, and a spread that includes the"
        " outliers makes them look ordinary."
    ),
    evidence=(),
    examples=(
        Example(
            row="drift-window-includes-current",
            before="def drift(x, w):\n    past = x[:-w]\n    now = x[-w:]\n    return gap(past, now)\n",
            after=("def drift(x, w):\n    past = x\n    now = x[-w:]\n    return gap(past, now)\n",),
        ),
        Example(
            before="def drift(x, t, w):\n    return gap(x[t - 2 * w : t - w], x[t - w : t])\n",
            after=("def drift(x, t, w):\n    return gap(x[t - 2 * w : t], x[t - w : t])\n",),
        ),
        Example(
            before=(
                "def alarm(reference, row):\n    z = score(reference, row)\n"
                "    reference.append(row)\n    return z > 3\n"
            ),
            after=(
                (
                    "def alarm(reference, row):\n    reference.append(row)\n"
                    "    z = score(reference, row)\n    return z > 3\n"
                ),
            ),
        ),
        Example(
            before=(
                "import numpy as np\n\nclass Monitor:\n    def look(self, rows):\n"
                "        return gap(self.reference, rows)\n"
            ),
            after=(
                "import numpy as np\n\nclass Monitor:\n    def look(self, rows):\n"
                "        return gap(np.concatenate([self.reference, rows]), rows)\n",
            ),
        ),
    ),
    counterexamples=(
        "def split(x, n):\n    return x[:-n], x[-n:]\n",
        "def drift(x, w):\n    return x[:-w]\n",
        "def f(rows, row):\n    z = score(rows, row)\n    rows.append(row)\n",
        "import numpy as np\n\ndef drift(reference, bins):\n    return edges(reference, bins)\n",
    ),
)
def window_overlap(
    f: SourceFile, node: cst.Subscript | cst.SimpleStatementLine | cst.Call
) -> Iterator[Proposal]:
    home = f.function(node)
    if home is None or not (called_in(f, node, *WATCHES) or says(home, *WATCHES)):
        return
    if isinstance(node, cst.SimpleStatementLine):
        yield from kept_early(f, node)
        return
    if isinstance(node, cst.Call):
        yield from mixed_in(f, node)
        return
    mine = window(node)
    for other in inside(home, cst.Subscript):
        theirs = window(other)
        if other is node or mine is None or theirs is None or mine.upper is None or theirs.lower is None:
            continue
        if f.text(other.value) == f.text(node.value) and f.text(mine.upper) == f.text(theirs.lower):
            yield widened(f, node, mine, theirs)
            return


def mixed_in(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    """The newest rows among those that they are compared with."""
    sides = [each.value for each in node.args[:2] if each.keyword is None and not each.star]
    joined = f.spelling("numpy.concatenate") or f.spelling("torch.cat")
    plain_names = all(isinstance(each, cst.Name | cst.Attribute) for each in sides)
    if len(sides) != 2 or joined is None or not plain_names or f.qname(node.func) is not None:
        return
    if named(sides[0], "reference", "baseline", "past", "history") and named(sides[1], *NEWEST):
        both = ", ".join(f.text(each) for each in sides)
        yield Proposal(edits=(f.replace(sides[0], f"{joined}([{both}])"),))


NEWEST = ("window", "current", "now", "new", "newest", "latest", "recent", "live", "points", "rows", "batch")


def window(node: cst.Subscript) -> cst.Slice | None:
    """The stretch of the first axis that a subscript takes, if it takes one."""
    part = node.slice[0].slice
    return part if len(node.slice) == 1 and isinstance(part, cst.Slice) and part.step is None else None


def widened(f: SourceFile, node: cst.Subscript, mine: cst.Slice, theirs: cst.Slice) -> Proposal:
    """One window, up to the end of the other."""
    if theirs.upper is not None and mine.upper is not None:
        return Proposal(edits=(f.replace(mine.upper, f.text(theirs.upper)),))
    if mine.lower is None:
        return Proposal(edits=(f.replace(node, f.text(node.value)),))
    return Proposal(edits=(f.replace(node, f"{f.text(node.value)}[{f.text(mine.lower)}:]"),))


def kept_early(f: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Proposal]:
    """The row added to the reference before it is compared with it."""
    call = called(line)
    if call is None or not isinstance(call.func, cst.Attribute) or not call.args:
        return
    kept, row = call.func.value, call.args[0].value
    if call.func.attr.value not in ("append", "extend", "update", "push", "add"):
        return
    lines, place = neighbours(f, line)
    for other in lines[:place]:
        pair = assigned(other)
        if pair is not None and mentions_both(f, pair[1], kept, row):
            yield Proposal(edits=(f.delete_statement(line), f.insert_before(other, f.text(line).strip())))
            return


def mentions_both(f: SourceFile, node: cst.CSTNode, one: cst.BaseExpression, two: cst.BaseExpression) -> bool:
    """Whether an expression reads both of two others."""
    texts = {f.text(each) for kind in (cst.Name, cst.Attribute) for each in inside(node, kind)}
    return f.text(one) in texts and f.text(two) in texts


FITS = (
    "fit",
    "closure",
    "calibrate",
    "loss",
    "nll",
    "objective",
    "forward",
    "train",
    "tune",
    "distill",
    "sample",
)


@operator(
    "calibration-temp-inverse",
    cst.BinaryOperation,
    category=CATEGORY,
    difficulty=3,
    symptom=(
        "Accuracy is exactly as before, and stated confidence is further from the truth than without "
        "calibration."
    ),
    hints=(
        "LOOK: print the mean confidence before and after, beside the accuracy.",
        "WHERE: what `{function}` does to the logits.",
        "WHAT: do logits grow or shrink with a temperature above one?",
    ),
    repair="Divide the logits by the temperature that was fitted.",
    mechanism=(
        "The temperature was fitted as a divisor. Multiplied instead, an overconfident model is made more"
        " confident still, by the square of what was to be corrected. The order of the classes stays, so"
        " accuracy cannot show it."
    ),
    evidence=(),
    examples=(
        Example(
            row="calibration-temp-inverse",
            before="def calibrated(logits, temperature):\n    return (logits / temperature).softmax(-1)\n",
            after=("def calibrated(logits, temperature):\n    return (logits * temperature).softmax(-1)\n",),
        ),
        Example(
            before="def ece(z, y, T):\n    p = softmax(z / T)\n    return gap(p, y)\n",
            after=("def ece(z, y, T):\n    p = softmax(z * T)\n    return gap(p, y)\n",),
        ),
    ),
    counterexamples=(
        "def sample(logits, temperature):\n    return softmax(logits / temperature)\n",
        "def fit_calibration(logits, temperature):\n    return nll(logits / temperature)\n",
    ),
)
def temp_inverse(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    home = f.function(node)
    if sides is None or home is None or not isinstance(sides[1], cst.Name | cst.Attribute | cst.Call):
        return
    hot = says(sides[1], "temperature", "temp", "t", "tau") and says(
        sides[0], "logits", "logit", "z", "scores"
    )
    fits = not pieces(home.name.value).isdisjoint(FITS)
    if hot and not fits and says(f.module, "calibrated", "calibration", "calibrate", "calibrator", "ece"):
        yield Proposal(edits=(f.replace(node, f"{f.text(sides[0])} * {f.text(sides[1])}"),))


MASKS = ("mask", "masks", "lengths", "lens", "keep", "valid", "pad", "padding")


@operator(
    "dynamic-batch-padding-leak",
    cst.Call,
    cst.BinaryOperation,
    category=CATEGORY,
    difficulty=4,
    symptom="The answer to one request depends on which others happen to arrive with it.",
    hints=(
        "LOOK: ask for one short row alone, and together with a long one.",
        "WHERE: what `{function}` tells the model about the batch.",
        "WHAT: how does the model know which tokens are filling?",
    ),
    repair="Hand the mask of the real tokens to the model, in use as in training.",
    mechanism=(
        "Requests of different lengths are filled up to the longest. Without the mask the filling is read as"
        " text, so that the answer changes with the length of the neighbours. A batch of one, as most tests"
        " have, never shows it."
    ),
    evidence=(issue("jingyaogong/minimind-v", 76),),
    examples=(
        Example(
            row="dynamic-batch-padding-leak",
            before="def serve(model, rows):\n    x, keep = pad(rows)\n    return model(x, mask=keep)\n",
            after=("def serve(model, rows):\n    x, keep = pad(rows)\n    return model(x)\n",),
        ),
        Example(
            before=(
                "def predict(net, ids):\n    mask = ids != 0\n    h = net(ids)\n"
                "    return (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)\n"
            ),
            after=("def predict(net, ids):\n    h = net(ids)\n    return h.mean(1)\n",),
        ),
    ),
    counterexamples=(
        "def train(model, x, keep):\n    return model(x, mask=keep)\n",
        "def serve(model, x):\n    return model(x, scale=2)\n",
        "class M:\n    def forward(self, x, mask):\n        return x * mask\n\n"
        "def serve(model, x, keep):\n    return model(x, mask=keep)\n",
    ),
)
def padding_leak(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if serves(f, node) is None:
        return
    if isinstance(node, cst.BinaryOperation):
        yield from plain_mean(f, node)
        return
    for arg in node.args:
        masked = arg.keyword is not None and not pieces(arg.keyword.value).isdisjoint(MASKS)
        if arg.keyword is None or not masked or f.text(arg.value) == "None" or needed(f, arg.keyword.value):
            continue
        lines = tidy(f, arg.value)
        if lines is not None and len(node.args) > 1:
            yield Proposal(edits=(*lines, f.delete_arg(node, arg)))


def needed(f: SourceFile, name: str) -> bool:
    """Whether some function of the file asks for a parameter that has no default."""
    return any(
        param.name.value == name and param.default is None and function_of(f, param) is not f.module
        for home in everywhere(f, cst.FunctionDef)
        if home.name.value in ("forward", "__call__")
        for param in (*home.params.params, *home.params.kwonly_params)
    )


def plain_mean(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    """The mean over all positions in the place of the mean over the real ones."""
    sides = binary(node, cst.Divide)
    total = operation(f, sides[0], "sum") if sides is not None else None
    factors = binary(total.subject, cst.Multiply) if total is not None else None
    along = axis(f, total) if total is not None else None
    if sides is None or factors is None or along is None or not says(sides[1], *MASKS):
        return
    for mask, values in (factors, factors[::-1]):
        if says(mask, *MASKS) and not says(values, *MASKS):
            lines = tidy(f, mask, sides[1])
            if lines is not None:
                yield Proposal(edits=(*lines, f.replace(node, f"{plain(f, values)}.mean({f.text(along)})")))
            return
