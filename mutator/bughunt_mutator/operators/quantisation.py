"""Mistakes in quantisation and in adapters: scales, zero points, rounding and merging."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    axis,
    bare,
    binary,
    enclosing,
    function_of,
    inside,
    last_name,
    loads,
    names_in,
    number,
    operation,
)
from bughunt_mutator.operators._look_meaning import called_in, everywhere, holder, named, plain, says
from bughunt_mutator.operators._look_models import rounds_by_hand
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile

CATEGORY = "distributed-serving-quantisation"
QUANT = (
    "quant",
    "quantize",
    "quantise",
    "quantized",
    "quantised",
    "qparams",
    "int",
    "fake",
    "observer",
    "ste",
)
SCALE = ("scale", "scales", "delta", "step")


def is_zero_point(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a node is part of what becomes the integer that stands for zero."""
    target = holder(f, node)
    if target is not None:
        return named(target, "zp", "zero", "zeros", "zeropoint") and not named(target, "grad")
    home = enclosing(f, node, cst.FunctionDef)
    return home is not None and named(home.name, "zp", "zeropoint", "zero")


def rounding(f: SourceFile, node: cst.CSTNode) -> tuple[cst.BaseExpression, str] | None:
    """What a call rounds, and in which way it is written: `function`, `method` or `builtin`."""
    op = operation(f, node, "round", "rint", "round_")
    if op is not None:
        return op.subject, "function" if op.shift else "method"
    if isinstance(node, cst.Call) and f.text(node.func) == "round" and len(node.args) == 1:
        return node.args[0].value, "builtin"
    return None


def made_integer(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the result of a call is cut down to an integer next."""
    above = f.parent.get(node)
    if isinstance(above, cst.Attribute):
        return above.attr.value in ("int", "long", "to", "astype", "type", "char", "byte")
    call = f.parent.get(above) if isinstance(above, cst.Arg) else None
    return isinstance(call, cst.Call) and f.text(call.func) == "int"


@operator(
    "quant-zero-point-no-round",
    cst.Call,
    category=CATEGORY,
    difficulty=4,
    symptom="Quantised values are off by up to one step, always to the same side.",
    hints=(
        "LOOK: quantise a range of inputs and plot the error; is its mean zero?",
        "WHERE: the integer that stands for zero in `{function}`.",
        "WHAT: which integer is nearest to that number?",
    ),
    repair="Round the zero point to the nearest integer.",
    mechanism=(
        "Cut off instead of rounded, the zero point is up to one step too low. The whole range is shifted by"
        " the rest, so that its upper end is clipped and zero is no longer met exactly."
    ),
    evidence=(
        pull("SonySemiconductorSolutions/mct-quantization-layers", 124),
        pull("pytorch/pytorch", 52290),
    ),
    examples=(
        Example(
            row="quant-zero-point-no-round",
            before="zero_point = int(round(-lo / scale))\n",
            after=("zero_point = int(-lo / scale)\n",),
        ),
        Example(
            before="import torch\nzp = torch.round(qmin - x.amin() / s)\n",
            after=("import torch\nzp = torch.trunc(qmin - x.amin() / s)\n",),
        ),
        Example(
            before="zero = (-lo / scale).round().to(dtype)\n",
            after=("zero = (-lo / scale).to(dtype)\n",),
        ),
    ),
    counterexamples=("q = round(x / scale)\n", "zero_point = 0\n"),
)
def no_round(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    found = rounding(f, node)
    if found is None or not is_zero_point(f, node):
        return
    rounded, way = found
    if made_integer(f, node):
        yield Proposal(edits=(f.replace(node, f.text(rounded)),))
    elif way == "builtin":
        yield Proposal(edits=(f.replace(node.func, "int"),))
    elif isinstance(node.func, cst.Attribute) and (way == "function" or f.spelling("torch") is not None):
        yield Proposal(edits=(f.replace(node.func.attr, "trunc"),))


def bounds(f: SourceFile, node: cst.CSTNode) -> tuple[str, str] | None:
    """Smallest and largest integer of the code, as the function around a node could write them."""
    known = bound_in(f, function_of(f, node)) | bound_in(f, f.module) | {"self"}
    for call in everywhere(f, cst.Call):
        op = operation(f, call, "clamp", "clip", "clamp_")
        given = [each.value for each in call.args[op.shift :]] if op is not None else []
        if len(given) != 2 or is_zero_point(f, call):
            continue
        if all(set(loads(each)) <= known for each in given):
            return f.text(given[0]), f.text(given[1])
    return None


def bound_in(f: SourceFile, home: cst.CSTNode) -> set[str]:
    """The names that a function takes or assigns, or that a module assigns at its top."""
    params = home.params.params if isinstance(home, cst.FunctionDef) else ()
    found = {param.name.value for param in params}
    for line in inside(home, cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is not None and isinstance(pair[0], cst.Name) and function_of(f, line) is home:
            found.add(pair[0].value)
    return found


@operator(
    "quant-zero-point-clamped",
    cst.Call,
    category=CATEGORY,
    difficulty=4,
    symptom="Most tensors survive quantisation; some, far from zero, are destroyed.",
    hints=(
        "LOOK: quantise numbers between ten and eleven, and look at what comes back.",
        "WHERE: the zero point in `{function}`.",
        "WHAT: must the integer that stands for zero be one of the codes?",
    ),
    repair="Leave the zero point where the formula puts it, or widen the range to include zero first.",
    mechanism=(
        "Where all values lie on one side of zero, the zero point lies outside the codes. Forced back inside,"
        " it shifts every value, and most are clipped to the same end of the range."
    ),
    evidence=(issue("mit-han-lab/llm-awq", 193),),
    examples=(
        Example(
            row="quant-zero-point-clamped",
            before=(
                "import torch\n\ndef f(x, lo, s, top):\n    zp = -torch.round(lo / s)\n"
                "    return torch.clamp(torch.round(x / s) + zp, 0, top)\n"
            ),
            after=(
                "import torch\n\ndef f(x, lo, s, top):\n    zp = (-torch.round(lo / s)).clamp(0, top)\n"
                "    return torch.clamp(torch.round(x / s) + zp, 0, top)\n",
            ),
        ),
        Example(
            before=(
                "def f(x, lo, s):\n    zero_point = round(-lo / s)\n"
                "    return (x / s + zero_point).round().clip(0, 255)\n"
            ),
            after=(
                "def f(x, lo, s):\n    zero_point = min(max(round(-lo / s), 0), 255)\n"
                "    return (x / s + zero_point).round().clip(0, 255)\n",
            ),
        ),
    ),
    counterexamples=(
        "def f(lo, s):\n    zp = (-lo / s).round()\n    return zp\n",
        (
            "def f(x, lo, s):\n    zp = (-lo / s).round().clamp(0, 9)\n"
            "    return (x / s + zp).round().clamp(0, 9)\n"
        ),
    ),
)
def zero_point_clamped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    found = rounding(f, node)
    line = f.parent.get(node)
    whole: cst.BaseExpression = node
    while isinstance(line, cst.UnaryOperation | cst.BinaryOperation):
        whole, line = line, f.parent.get(line)
    if found is None or not isinstance(line, cst.Assign) or not is_zero_point(f, node):
        return
    limits = bounds(f, node)
    if limits is None:
        return
    if says(whole, "clamp", "clip", "min", "max") and not says(found[0], "lo", "min", "amin"):
        return
    if found[1] == "builtin":
        yield Proposal(edits=(f.replace(whole, f"min(max({bare(f, whole)}, {limits[0]}), {limits[1]})"),))
    elif f.spelling("numpy") is None or f.spelling("torch") is not None:
        yield Proposal(edits=(f.replace(whole, f"{plain(f, whole)}.clamp({limits[0]}, {limits[1]})"),))
    else:
        yield Proposal(edits=(f.replace(whole, f"{plain(f, whole)}.clip({limits[0]}, {limits[1]})"),))


@operator(
    "quant-clamp-before-round",
    cst.Call,
    category=CATEGORY,
    difficulty=4,
    symptom="A few values, the largest ones, come back with the wrong sign or out of range.",
    hints=(
        "LOOK: quantise the largest and the smallest value of a tensor.",
        "WHERE: the order of the steps in `{function}`.",
        "WHAT: is the number still within the codes when the last step is done?",
    ),
    repair="Round, shift, and only then clamp to the codes.",
    mechanism=(
        "The limits belong to the finished code. Clamped first, a value at the edge is then shifted by the"
        " zero point or wraps in the cast, and leaves the range that the clamp was to guarantee."
    ),
    evidence=(),
    examples=(
        Example(
            row="quant-clamp-before-round",
            before="import torch\nq = torch.clamp(torch.round(x / s) + zp, 0, 255)\n",
            after=("import torch\nq = torch.round(torch.clamp(x / s, 0, 255)) + zp\n",),
        ),
        Example(
            before="q = (x / s + zp).round().clamp(lo, hi)\n",
            after=("q = ((x / s).clamp(lo, hi) + zp).round()\n",),
        ),
        Example(
            before="import torch\nq = (x / s).round().clamp(-128, 127).to(torch.int8)\n",
            after=("import torch\nq = (x / s).round().to(torch.int8).clamp(-128, 127)\n",),
        ),
    ),
    counterexamples=("q = (x / s).round().clamp(lo, hi)\n", "y = x.clamp(0, 1)\n"),
)
def clamp_before_round(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "clamp", "clip")
    if op is None:
        return
    limits = ", ".join(f.text(each) for each in node.args[op.shift :])
    written = f.text(node.func)

    def clamped(inner: cst.BaseExpression) -> str:
        if op.shift:
            return f"{written}({bare(f, inner)}, {limits})"
        return f"{plain(f, inner)}.{op.name}({limits})"

    shifted = binary(op.subject, cst.Add)
    first = rounding(f, shifted[0]) if shifted else None
    if shifted is not None and first is not None:
        rounded = f.replace(first[0], clamped(first[0]))
        text = f.text(op.subject)
        start = f.span(op.subject)[0]
        inner = text[: rounded.start - start] + clamped(first[0]) + text[rounded.end - start :]
        yield Proposal(edits=(f.replace(node, inner[1:-1] if op.subject.lpar else inner),))
        return
    outer = rounding(f, op.subject)
    moved = binary(outer[0], cst.Add) if outer else None
    if outer is not None and moved is not None and outer[1] != "builtin":
        text, start = f.text(op.subject), f.span(op.subject)[0]
        begin, end = f.span(moved[0])
        yield Proposal(
            edits=(f.replace(node, text[: begin - start] + clamped(moved[0]) + text[end - start :]),)
        )
        return
    yield from cast_first(f, node, limits, op.subject, op.shift)


def cast_first(
    f: SourceFile, node: cst.Call, limits: str, subject: cst.BaseExpression, shift: int
) -> Iterator[Proposal]:
    """The cast to a narrow integer in front of the clamp."""
    above = f.parent.get(node)
    cast = f.parent.get(above) if isinstance(above, cst.Attribute) else None
    narrow = isinstance(cast, cst.Call) and f.text(cast).endswith(("int8)", "uint8)", ".char()", ".byte()"))
    if shift == 0 and isinstance(cast, cst.Call) and narrow and rounding(f, subject) is not None:
        tail = f.text(cast)[len(f.text(node)) :]
        yield Proposal(edits=(f.replace(cast, f"{plain(f, subject)}{tail}.clamp({limits})"),))


STRICT = {cst.GreaterThanEqual: ">", cst.LessThanEqual: "<"}


@operator(
    "quant-ste-boundary",
    cst.Comparison,
    category=CATEGORY,
    difficulty=5,
    symptom="Training runs well for a long time; then some values stick to the edge and never come back.",
    hints=(
        "LOOK: compute the gradient for an input that lies exactly on a limit.",
        "WHERE: the mask in `{function}`.",
        "WHAT: does a value on the edge count as inside?",
    ),
    repair="Let gradients pass at the limits themselves.",
    mechanism=(
        "A clamp leaves a value on its limit unchanged, so its slope there is one. With a strict comparison"
        " such values receive no gradient, and many values lie exactly on a limit: zeros after a ReLU, and"
        " everything that was clamped before. They stay there for good."
    ),
    evidence=(pull("pytorch/ao", 4806),),
    examples=(
        Example(
            row="quant-ste-boundary",
            before="def backward(ctx, g):\n    return g * ((x >= lo) & (x <= hi))\n",
            after=(
                "def backward(ctx, g):\n    return g * ((x > lo) & (x <= hi))\n",
                "def backward(ctx, g):\n    return g * ((x >= lo) & (x < hi))\n",
            ),
        ),
        Example(
            before=(
                "class Near(Function):\n    def forward(ctx, x, low):\n        at = x.round()\n"
                "        ctx.save_for_backward((at >= low) & ok)\n"
            ),
            after=(
                "class Near(Function):\n    def forward(ctx, x, low):\n        at = x.round()\n"
                "        ctx.save_for_backward((at > low) & ok)\n",
            ),
        ),
        Example(
            before="inside = (q >= qmin) * (q <= qmax)\n",
            after=("inside = (q > qmin) * (q <= qmax)\n", "inside = (q >= qmin) * (q < qmax)\n"),
        ),
    ),
    counterexamples=("def backward(ctx, g):\n    return g * (x > 0)\n", "ok = (a >= 1) & (a <= 9)\n"),
)
def ste_boundary(f: SourceFile, node: cst.Comparison) -> Iterator[Proposal]:
    if len(node.comparisons) != 1:
        return
    new = STRICT.get(type(node.comparisons[0].operator))
    above = f.parent.get(node)
    joined = isinstance(above, cst.BinaryOperation) and isinstance(above.operator, cst.BitAnd | cst.Multiply)
    if new is None or not joined:
        return
    limited = says(node, "qmin", "qmax", "clip", "quant") or called_in(f, node, "backward", *QUANT)
    limited = limited or rounds_by_hand(f.class_(node))
    if limited:
        sides = f"{f.text(node.left)} {new} {f.text(node.comparisons[0].comparator)}"
        yield Proposal(edits=(f.replace(node, f"({sides})" if node.lpar else sides),))


@operator(
    "quant-wrong-axis",
    cst.Call,
    category=CATEGORY,
    difficulty=3,
    symptom="Accuracy falls by more than the width of the code explains.",
    hints=(
        "LOOK: print the shape of the scales, and the error of each output channel.",
        "WHERE: the axis in `{function}`.",
        "WHAT: which values share one scale?",
    ),
    repair="Give each output channel a scale of its own.",
    mechanism=(
        "Rows of a weight matrix differ in size, and each output has its own sum, so rows are scaled"
        " apart. With a scale for each column, one large row sets the scale of all others, and small rows"
        " are rounded to a few codes."
    ),
    evidence=(),
    examples=(
        Example(
            row="quant-wrong-axis",
            before="scale = w.abs().amax(dim=1, keepdim=True) / 127\n",
            after=("scale = w.abs().amax(dim=0, keepdim=True) / 127\n",),
        ),
        Example(
            before="import torch\nq = torch.quantize_per_channel(w, s, z, axis=0, dtype=torch.qint8)\n",
            after=("import torch\nq = torch.quantize_per_channel(w, s, z, axis=1, dtype=torch.qint8)\n",),
        ),
        Example(
            before=(
                "def quantise(w):\n    top = w.abs().amax(dim=(1, 2, 3), keepdim=True)\n    return w / top\n"
            ),
            after=(
                "def quantise(w):\n    top = w.abs().amax(dim=(0, 2, 3), keepdim=True)\n    return w / top\n",
            ),
        ),
    ),
    counterexamples=("m = x.amax(dim=1, keepdim=True)\n", "scale = w.abs().amax(dim=1) / 127\n"),
)
def wrong_axis(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if last_name(node.func) in ("quantize_per_channel", "fake_quantize_per_channel_affine"):
        along = f.arg(node, "axis", 3)
        if along is not None and number(along.value) == 0:
            yield Proposal(edits=(f.replace(along.value, "1"),))
        return
    op = operation(f, node, "amax", "max", "amin", "min")
    kept = f.arg(node, "keepdim", None) or f.arg(node, "keepdims", None)
    along_each = axis(f, op) if op is not None else None
    if kept is None or along_each is None or not scales(f, node):
        return
    other = {"1": "0", "-1": "0", "0": "1"}.get(f.text(along_each).replace(" ", ""))
    if isinstance(along_each, cst.Tuple) and number(along_each.elements[0].value) == 1:
        other = "(0" + f.text(along_each)[2:]
    if other is not None:
        yield Proposal(edits=(f.replace(along_each, other),))


def scales(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a largest value becomes the scale of a code."""
    numbers = {number(each) for each in inside(f.statement(node), cst.Integer)}
    coded = bool(numbers & {127, 255, 7, 15}) or says(f.statement(node), "qmax", "levels", "bits")
    return called_in(f, node, *QUANT) or (says(holder(f, node), *SCALE) and coded)


@operator(
    "lora-merge-no-scale",
    cst.BinaryOperation,
    category=CATEGORY,
    difficulty=4,
    symptom="The model is good while it is trained, and another one once it is exported.",
    hints=(
        "LOOK: compare the outputs before and after merging on one batch.",
        "WHERE: what `{function}` adds to the weights.",
        "WHAT: how strongly does the adapter count in the forward pass?",
    ),
    repair="Merge the update with the scale that the forward pass gives it.",
    mechanism=(
        "The forward pass adds the low-rank update times a constant. Merged without it, the update counts"
        " too much or too little. Where the constant happens to be one, as it is in many tests, nothing is"
        " to be seen."
    ),
    evidence=(pull("huggingface/peft", 2489), pull("hao-ai-lab/FastVideo", 870)),
    examples=(
        Example(
            row="lora-merge-no-scale",
            before="def merge(self):\n    self.weight.data += self.scaling * (self.B @ self.A)\n",
            after=("def merge(self):\n    self.weight.data += self.B @ self.A\n",),
        ),
        Example(
            before=(
                "def merged_weight(self):\n    return self.w + (self.alpha / self.rank) * self.B @ self.A\n"
            ),
            after=("def merged_weight(self):\n    return self.w + self.B @ self.A\n",),
        ),
        Example(
            before="def get_delta_weight(self):\n    return self.lora_B @ self.lora_A * self.scaling\n",
            after=("def get_delta_weight(self):\n    return self.lora_B @ self.lora_A\n",),
        ),
        Example(
            before=(
                "def change(self):\n    return self.scale * self.up @ self.down\n\n"
                "def fold(layer):\n    layer.weight += layer.change()\n"
            ),
            after=(
                "def change(self):\n    return self.up @ self.down\n\n"
                "def fold(layer):\n    layer.weight += layer.change()\n",
            ),
        ),
    ),
    counterexamples=("def forward(self, x):\n    return self.w(x) + self.scaling * self.B(self.A(x))\n",),
)
def merge_no_scale(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Multiply)
    home = f.function(node)
    if sides is None or home is None or not (says(home.name, *MERGES) or is_merged(f, home)):
        return
    for scale, rest in (sides, sides[::-1]):
        share = says(scale, "scaling", "scale", "alpha", "factor") and not says(scale, "lora", "weight")
        if share and not says(rest, "scaling", "scale", "alpha") and names_in(rest):
            unwrapped = bare(f, rest) if rest.lpar and not isinstance(rest, cst.Tuple) else f.text(rest)
            yield Proposal(edits=(f.replace(node, unwrapped),))
            return


def is_merged(f: SourceFile, home: cst.FunctionDef) -> bool:
    """Whether what a function returns is what another one merges."""
    return any(
        last_name(call.func) == home.name.value
        for other in everywhere(f, cst.FunctionDef)
        if says(other.name, *MERGES)
        for call in inside(other.body, cst.Call)
    )


MERGES = ("merge", "merged", "fold", "folded", "fuse", "fused", "export", "delta", "bake", "absorb")
