"""Mistakes in what half precision can hold."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    called,
    function_of,
    inside,
    last_name,
    mentions,
    method_line,
    names_in,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_training import maker, reduced, statements, words
from bughunt_mutator.operators._sources import GEMMA_BUGS, issue, pull
from bughunt_mutator.source import SourceFile

HALVES = frozenset({"half", "float16", "fp16", "autocast"})


@operator(
    "fp16-mask-constant",
    cst.Attribute,
    category="numerics-precision",
    difficulty=2,
    symptom="In half precision it stops with an error about a value that does not fit, or gives no numbers.",
    hints=(
        "LOOK: print the range of the data type that the scores have.",
        "WHERE: the constant in `{function}` that is to win over everything.",
        "WHAT: can this type hold it?",
    ),
    repair="Ask the type of the scores for its lowest value.",
    mechanism=(
        "The largest number in half precision is 65504. A constant of minus a billion, which is safe"
        " in single precision, does not fit: it is refused, or becomes infinite, and a row in which"
        " everything is masked turns into something that is not a number."
    ),
    evidence=(
        issue("NVIDIA/apex", 93),
        issue("facebookresearch/fairseq", 3575),
        issue("bentrevett/pytorch-seq2seq", 191),
        pull("pytorch/benchmark", 794),
    ),
    examples=(
        Example(
            before="import torch\ns = torch.where(hidden, torch.finfo(s.dtype).min, s)\n",
            after=("import torch\ns = torch.where(hidden, -1e9, s)\n",),
        ),
        Example(
            before="import torch\nlow = -torch.finfo(x.dtype).max\ny = torch.where(m, x, low)\n",
            after=("import torch\nlow = -1e9\ny = torch.where(m, x, low)\n",),
        ),
    ),
    counterexamples=("import torch\ne = torch.finfo(x.dtype).eps\n", "low = finfo(x.dtype).min\n"),
)
def fixed_constant(f: SourceFile, node: cst.Attribute) -> Iterator[Proposal]:
    if not isinstance(node.value, cst.Call) or f.qname(node.value.func) != "torch.finfo":
        return
    above = f.parent.get(node)
    minus = isinstance(above, cst.UnaryOperation) and isinstance(above.operator, cst.Minus)
    if orphans(f, node):
        return
    if node.attr.value == "min":
        yield Proposal(edits=(f.replace(node, "-1e9"),))
    elif node.attr.value == "max" and minus:
        yield Proposal(edits=(f.replace(node, "1e9"),))


@operator(
    "eps-underflow-half",
    cst.Arg,
    cst.Param,
    cst.AnnAssign,
    cst.Assign,
    cst.BinaryOperation,
    category="numerics-precision",
    difficulty=3,
    symptom="In half precision a row of zeros gives something that is not a number.",
    hints=(
        "LOOK: convert every constant to the data type it is used in, and print it.",
        "WHERE: what protects the division in `{function}`.",
        "WHAT: which is the smallest number above zero in this type?",
    ),
    repair="Use a constant that half precision can represent.",
    mechanism=(
        "Below six hundred-millionths half precision knows only zero. The constant that should keep"
        " a divisor away from zero is rounded to zero itself, and the protection is there in the"
        " text alone."
    ),
    evidence=(),
    examples=(
        Example(
            before="y = x.half() / (n + 1e-5)\n",
            after=("y = x.half() / (n + 1e-8)\n",),
        ),
        Example(
            before="def norm(x, eps=1e-6):\n    return x.half() / (x.norm() + eps)\n",
            after=("def norm(x, eps=1e-8):\n    return x.half() / (x.norm() + eps)\n",),
        ),
        Example(
            before="import torch\neps = 1e-4\nx = x.to(torch.float16)\n",
            after=("import torch\neps = 1e-8\nx = x.to(torch.float16)\n",),
        ),
        Example(
            before="y = F.normalize(x.half(), eps=1e-5)\n",
            after=("y = F.normalize(x.half(), eps=1e-8)\n",),
        ),
    ),
    counterexamples=(
        "y = x / (n + 1e-5)\n",
        "loss = HalfSquaredError(x / (n + 1e-5))\n",
        "y = x.half() / (n + 0.5)\n",
        "lr = 1e-4\nx = x.half()\n",
    ),
)
def vanishing_eps(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    constant = small_constant(node)
    if constant is not None and 6e-8 < (number(constant) or 0) <= 1e-3 and names_in(f.module) & HALVES:
        yield Proposal(edits=(f.replace(constant, "1e-8"),))


def small_constant(node: cst.CSTNode) -> cst.BaseExpression | None:
    """The number that something is protected with: what is called eps, or is added to a divisor."""
    if isinstance(node, cst.BinaryOperation):
        return node.right if isinstance(node.operator, cst.Add) else None
    if isinstance(node, cst.Assign):
        return node.value if "eps" in last_name(node.targets[0].target).lower() else None
    if isinstance(node, cst.Param):
        return node.default if "eps" in node.name.value else None
    assert isinstance(node, cst.Arg | cst.AnnAssign)
    name = node.keyword if isinstance(node, cst.Arg) else node.target
    return node.value if "eps" in last_name(name).lower() else None


def widened(f: SourceFile, node: cst.Call) -> cst.BaseExpression | None:
    """What a call converts to single precision."""
    op = operation(f, node, "float", "to")
    if op is None or op.shift:
        return None
    given = [f.text(arg.value) for arg in node.args]
    if (op.name == "float" and not given) or given == ["torch.float32"]:
        return op.subject
    return None


def kept_narrow(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    """A conversion to single precision taken away, with its statement where it did no more."""
    bare = widened(f, node)
    if bare is None:
        return
    line = f.statement(node)
    pair = assigned(line)
    if pair is not None and pair[1] is node and f.text(pair[0]) == f.text(bare):
        yield Proposal(edits=(f.delete_statement(line),))
    elif not orphans(f, *node.args):
        yield Proposal(edits=(reduced(f, node, bare),))


@operator(
    "norm-in-half",
    cst.Call,
    category="numerics-precision",
    difficulty=5,
    symptom="In half precision results drift away from those in single precision, layer by layer.",
    hints=(
        "LOOK: compare a layer's output in half and in single precision, for large inputs.",
        "WHERE: the data types along the way through `{function}`.",
        "WHAT: which intermediate value is much larger than what goes in and comes out?",
    ),
    repair="Compute the statistics in single precision and convert the result back.",
    mechanism=(
        "Squares are summed in a type with three digits and a largest value of 65504. Values of a"
        " few hundred overflow when squared, and small contributions to a long sum are rounded away,"
        " so that every layer is divided by a slightly wrong number."
    ),
    evidence=(GEMMA_BUGS,),
    examples=(
        Example(
            before=(
                "class RMSNorm:\n    def forward(self, x):\n        y = x.float()\n"
                "        return (y * y.pow(2).mean(-1).rsqrt()).to(x.dtype)\n"
            ),
            after=(
                "class RMSNorm:\n    def forward(self, x):\n        y = x\n"
                "        return (y * y.pow(2).mean(-1).rsqrt()).to(x.dtype)\n",
            ),
        ),
        Example(
            before=(
                "import torch\ndef norm(x):\n    x = x.to(torch.float32)\n"
                "    return x / x.norm() * torch.pi\n"
            ),
            after=("import torch\ndef norm(x):\n    return x / x.norm() * torch.pi\n",),
        ),
        Example(
            before=(
                "class Norm:\n    def forward(self, x):\n        return self.scale(x.float()).type_as(x)\n"
            ),
            after=("class Norm:\n    def forward(self, x):\n        return self.scale(x).type_as(x)\n",),
        ),
    ),
    counterexamples=(
        "def score(x):\n    return x.float().mean()\n",
        "class Norm:\n    def f(self, x):\n        return x\n",
    ),
)
def narrow_norm(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    homes = (f.function(node), f.class_(node))
    if any(mentions(home.name, "norm") for home in homes if home is not None):
        yield from kept_narrow(f, node)


@operator(
    "iou-in-half",
    cst.Call,
    category="numerics-precision",
    difficulty=4,
    symptom="Some overlaps are above one or not numbers, and a loss built on them is negative.",
    hints=(
        "LOOK: print the areas, and the overlap of a large box with itself, in both precisions.",
        "WHERE: the data types in `{function}`.",
        "WHAT: how large can the area of a box in an image be?",
    ),
    repair="Compute areas and overlaps in single precision.",
    mechanism=(
        "A box of 300 by 300 pixels has an area that half precision cannot hold, and smaller areas"
        " are rounded to multiples of 16 or 32. The quotient of two such numbers may exceed one, and"
        " a cross-entropy that takes it for a probability becomes negative."
    ),
    evidence=(pull("Megvii-BaseDetection/YOLOX", 1592),),
    examples=(
        Example(
            before="def box_iou(a, b):\n    a, b = a.float(), b.to(c)\n    return overlap(a, b)\n",
            after=("def box_iou(a, b):\n    a, b = a, b.to(c)\n    return overlap(a, b)\n",),
        ),
        Example(
            before="def iou(a, b):\n    a = a.float()\n    return overlap(a, b)\n",
            after=("def iou(a, b):\n    return overlap(a, b)\n",),
        ),
        Example(
            before="cost = -pairwise_iou(boxes.float(), truth).log()\n",
            after=("cost = -pairwise_iou(boxes, truth).log()\n",),
        ),
    ),
    counterexamples=("def area(a):\n    return a.float()\n", "def iou(a):\n    return (a > 0).float()\n"),
)
def narrow_iou(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    above = f.parent.get(node)
    call = f.parent.get(above) if isinstance(above, cst.Arg) else None
    home = f.function(node)
    about = call.func if isinstance(call, cst.Call) else None
    named = [each for each in (about, home.name if home is not None else None) if each is not None]
    bare = widened(f, node)
    if isinstance(bare, cst.Name | cst.Attribute | cst.Subscript) and any(
        words(each) & {"iou"} for each in named
    ):
        yield from kept_narrow(f, node)


@operator(
    "scaler-update-missing",
    cst.SimpleStatementLine,
    category="numerics-precision",
    difficulty=3,
    symptom="In mixed precision nothing is learnt after the first gradient that is too large.",
    hints=(
        "LOOK: print the scale at every step, and whether the step was made.",
        "WHERE: what `{function}` does after the update.",
        "WHAT: who makes the scale smaller when it was too large?",
    ),
    repair="Let the scaler adjust its scale after every step.",
    mechanism=(
        "Steps whose scaled gradients overflow are left out, and the scale should then be halved."
        " If nobody asks for that, the scale stays: when it is too large every step is left out, and"
        " when it is too small, small gradients are lost."
    ),
    evidence=(pull("neosr-project/neosr", 9),),
    examples=(
        Example(
            before="scaler.scale(loss).backward()\nscaler.step(opt)\nscaler.update()\n",
            after=("scaler.scale(loss).backward()\nscaler.step(opt)\nscaler.update(scaler.get_scale())\n",),
        ),
        Example(
            before=("class Scale:\n    pass\n\ndef f():\n    s = Scale()\n    s.step(opt)\n    s.update()\n"),
            after=("class Scale:\n    pass\n\ndef f():\n    s = Scale()\n    s.step(opt)\n",),
        ),
    ),
    counterexamples=("bar.update()\n", "opt.step()\naverage.update(net)\n", "env.step(a)\nenv.update()\n"),
)
def frozen_scale(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    name, call = method_line(f, node, "update"), called(node)
    if name is None or call is None or call.args:
        return
    if not any(method_line(f, line, "step") == name for line in statements(function_of(f, node))):
        return
    made = maker(f, node, name)
    classes = {each.name.value for each in inside(f.module, cst.ClassDef)}
    if made is not None and last_name(made.func) in classes:
        yield Proposal(edits=(f.delete_statement(node),))
    elif "scaler" in name.lower() or (made is not None and last_name(made.func) == "GradScaler"):
        yield Proposal(edits=(f.insert_arg(call, f"{name}.get_scale()"),))
