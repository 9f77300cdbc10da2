"""Mistakes in written-out normalisation layers."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    Operation,
    axis,
    binary,
    inside,
    keyword,
    mentions,
    number,
    operation,
    value,
)
from bughunt_mutator.operators._look_training import atom, is_small, merged, reduced, retired, words
from bughunt_mutator.operators._sources import DEEP_CHECKER, GEMMA_BUGS, issue, pull
from bughunt_mutator.source import SourceFile

SPREADS = frozenset({"var", "variance", "ms", "rms", "std", "sigma", "square", "squares", "pow"})


def in_norm(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a node is part of a normalisation, by the name of what it stands in."""
    homes = (f.function(node), f.class_(node))
    return any(mentions(home.name, "norm") for home in homes if home is not None)


@operator(
    "bn-eval-uses-batch",
    cst.If,
    cst.Call,
    category="norm-regularisation",
    difficulty=3,
    symptom="In evaluation the answer for a row depends on the rows beside it.",
    hints=(
        "LOOK: ask for one row alone, and then among others; compare the two answers.",
        "WHERE: which statistics `{function}` uses in which mode.",
        "WHAT: what should a batch of one be normalised with?",
    ),
    repair="Use the running statistics in evaluation.",
    mechanism=(
        "Statistics of the batch make a row's result depend on its neighbours, which is what"
        " training is about and evaluation must avoid. Small or sorted batches are answered badly,"
        " and a batch of one has no spread at all."
    ),
    evidence=(DEEP_CHECKER,),
    examples=(
        Example(
            before=(
                "class BatchNorm:\n    def forward(self, x):\n        if self.training:\n"
                "            mean = x.mean(0)\n            self.keep(mean)\n"
                "        else:\n            mean = self.running_mean\n        return x - mean\n"
            ),
            after=(
                "class BatchNorm:\n    def forward(self, x):\n        mean = x.mean(0)\n"
                "        self.keep(mean)\n        return x - mean\n",
            ),
        ),
        Example(
            before="import torch.nn.functional as F\ny = F.batch_norm(x, m, v, training=self.training)\n",
            after=("import torch.nn.functional as F\ny = F.batch_norm(x, m, v, training=True)\n",),
        ),
        Example(
            before="from torch import nn\nnorm = nn.BatchNorm1d(8)\n",
            after=("from torch import nn\nnorm = nn.BatchNorm1d(8, track_running_stats=False)\n",),
        ),
    ),
    counterexamples=(
        "class Net:\n    def forward(self, x):\n        if self.training:\n"
        "            x = drop(x)\n        else:\n            x = 2 * x\n",
        "from torch import nn\nnorm = nn.LayerNorm(8)\n",
        "import torch.nn.functional as F\ny = F.dropout(x, training=self.training)\n",
    ),
)
def always_batch(f: SourceFile, node: cst.If | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.If):
        lines = [f.text(line).strip() for line in node.body.body]
        plain = not any("\n" in line for line in lines)
        if plain and f.text(node.test) == "self.training" and "running" in words(node.orelse or node.test):
            joined = f"{f.newline}{f.indent(node)}".join(lines)
            yield Proposal(edits=(f.replace(node, joined),))
        return
    name = f.qname(node.func) or ""
    if name.startswith("torch.nn.BatchNorm") and node.args:
        kept = value(f, node, "track_running_stats", 4)
        if kept is not None:
            yield Proposal(edits=(f.replace(kept, "False"),))
        elif not any(arg.star for arg in node.args):
            yield Proposal(edits=(f.insert_arg(node, "track_running_stats=False"),))
    elif name == "torch.nn.functional.batch_norm":
        mode = value(f, node, "training", 5)
        if mode is not None and f.text(mode) != "True":
            yield Proposal(edits=(f.replace(mode, "True"),))


@operator(
    "bn-biased-running-var",
    cst.BinaryOperation,
    cst.Call,
    category="norm-regularisation",
    difficulty=5,
    symptom="Training is right; evaluation differs from a trusted layer's in the second or third digit.",
    hints=(
        "LOOK: feed one small batch and compare the stored variance with a trusted layer's.",
        "WHERE: what `{function}` keeps of a batch.",
        "WHAT: is a batch all there is, or a sample of something larger?",
    ),
    repair="Store the variance with N - 1 in the denominator.",
    mechanism=(
        "Within the batch the sum of squares is divided by N; what is stored stands for all data,"
        " and is estimated with N - 1. Without the correction the stored spread is too small by one"
        " part in N, which shows where batches, or the maps in them, are small."
    ),
    evidence=(issue("pytorch/pytorch", 19916),),
    examples=(
        Example(
            before="def keep(self, var, n):\n    self.running_var.lerp_(var * n / (n - 1), 0.1)\n",
            after=("def keep(self, var, n):\n    self.running_var.lerp_(var, 0.1)\n",),
        ),
        Example(
            before="self.running_var = 0.9 * self.running_var + 0.1 * var * (n / (n - 1))\n",
            after=("self.running_var = 0.9 * self.running_var + 0.1 * var\n",),
        ),
        Example(
            before="self.running_var.lerp_(x.var(0, unbiased=True), 0.1)\n",
            after=("self.running_var.lerp_(x.var(0, unbiased=False), 0.1)\n",),
        ),
        Example(
            before="self.running_var.lerp_(x.var(0), 0.1)\n",
            after=("self.running_var.lerp_(x.var(0, unbiased=False), 0.1)\n",),
        ),
        Example(
            before="def covariance(x):\n    c = x - x.mean(0)\n    return c.T @ c / (len(x) - 1)\n",
            after=("def covariance(x):\n    c = x - x.mean(0)\n    return c.T @ c / len(x)\n",),
        ),
    ),
    counterexamples=(
        "v = var * n / (n - 1)\n",
        "self.running_var.lerp_(x.var(0, unbiased=False), 0.1)\n",
        "self.running_mean.lerp_(x.mean(0), 0.1)\n",
    ),
)
def biased_running(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation) and (count := sample_size(f, node)) is not None:
        yield Proposal(edits=(f.replace(node.right, f.text(count)),))
        return
    if "running_var" not in f.text(f.statement(node)):
        return
    if isinstance(node, cst.BinaryOperation):
        kept = without_correction(f, node)
        rest = retired(f, node.right) if kept is not None else None
        if kept is not None and rest is not None:
            yield Proposal(edits=merged(reduced(f, node, kept), *rest))
        return
    op = operation(f, node, "var")
    if op is None:
        return
    given = keyword(node, "unbiased", "correction")
    if given is None and sum(arg.keyword is None for arg in node.args) <= op.shift + 1:
        yield Proposal(edits=(f.insert_arg(node, "unbiased=False"),))
    if given is None:
        return
    if f.text(given.value) in ("True", "1"):
        yield Proposal(edits=(f.replace(given.value, "False" if f.text(given.value) == "True" else "0"),))


def sample_size(f: SourceFile, node: cst.BinaryOperation) -> cst.BaseExpression | None:
    """`len(x)` of a sum of squares over `len(x) - 1`: the spread of all there is, from a sample."""
    sides = binary(node, cst.Divide)
    less = binary(sides[1], cst.Subtract) if sides is not None else None
    if sides is None or less is None or number(less[1]) != 1 or not f.text(less[0]).startswith("len("):
        return None
    squares = binary(sides[0], cst.MatrixMultiply, cst.Power) or mentions(sides[0], "value", "eig", "square")
    return less[0] if squares else None


def without_correction(f: SourceFile, node: cst.BinaryOperation) -> cst.BaseExpression | None:
    """The `v` of `v * n / (n - 1)` or `v * (n / (n - 1))`."""
    if (sides := binary(node, cst.Divide)) is not None:
        product, less = binary(sides[0], cst.Multiply), binary(sides[1], cst.Subtract)
        if product is not None and less is not None and f.text(product[1]) == f.text(less[0]):
            return product[0]
    if (sides := binary(node, cst.Multiply)) is not None:
        quotient = binary(sides[1], cst.Divide)
        less = binary(quotient[1], cst.Subtract) if quotient is not None else None
        if quotient is not None and less is not None and f.text(quotient[0]) == f.text(less[0]):
            return sides[0]
    return None


def guarded_spread(f: SourceFile, node: cst.BaseExpression) -> tuple[cst.BaseExpression, ...] | None:
    """Variance and constant of `variance + eps`."""
    sides = binary(node, cst.Add)
    if sides is None or not is_small(f, sides[1]):
        return None
    return sides if words(sides[0]) & SPREADS or in_norm(f, node) else None


@operator(
    "ln-eps-outside",
    cst.Call,
    cst.BinaryOperation,
    category="norm-regularisation",
    difficulty=4,
    symptom="Results differ from a trusted layer's where a row hardly varies.",
    hints=(
        "LOOK: feed rows whose values differ by a thousandth and compare with a trusted layer.",
        "WHERE: the denominator in `{function}`.",
        "WHAT: on which scale is the small constant: that of the variance or that of its root?",
    ),
    repair="Add the constant to the variance, under the root.",
    mechanism=(
        "Under the root a constant of 1e-5 limits the divisor to about 0.003; outside it is a"
        " hundred times weaker. Rows that are nearly constant are blown up, and for a constant row"
        " the slope of the root is infinite."
    ),
    evidence=(
        issue("hyunwoongko/transformer", 7),
        pull("hkproj/pytorch-transformer", 31),
        issue("tracel-ai/burn", 2185),
    ),
    examples=(
        Example(
            before="import torch\ny = x / torch.sqrt(var + self.eps)\n",
            after=("import torch\ny = x / (torch.sqrt(var) + self.eps)\n",),
        ),
        Example(before="y = x * (var + 1e-5).rsqrt()\n", after=("y = x / (var.sqrt() + 1e-5)\n",)),
        Example(before="y = x / (variance + eps) ** 0.5\n", after=("y = x / (variance**0.5 + eps)\n",)),
    ),
    counterexamples=("y = (x + eps).sqrt()\n", "y = x / (var.sqrt() + eps)\n"),
)
def eps_outside(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        yield from rewritten_binary(f, node)
        return
    op = operation(f, node, "sqrt")
    sides = guarded_spread(f, op.subject) if op is not None else None
    if op is not None and sides is not None:
        yield Proposal(edits=(f.replace(node, f"{root(f, op, sides[0])} + {f.text(sides[1])}"),))


def rewritten_binary(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    """A root that is written as a power, or as the factor of a product."""
    power = binary(node, cst.Power)
    if power is not None and number(power[1]) == 0.5:
        sides = guarded_spread(f, power[0])
        if sides is not None:
            yield Proposal(edits=(f.replace(node, f"{atom(f, sides[0])}**0.5 + {f.text(sides[1])}"),))
        return
    product = binary(node, cst.Multiply)
    op = operation(f, product[1], "rsqrt") if product is not None else None
    sides = guarded_spread(f, op.subject) if op is not None else None
    if product is not None and op is not None and sides is not None:
        new = f"{f.text(product[0])} / ({root(f, op, sides[0])} + {f.text(sides[1])})"
        yield Proposal(edits=(f.replace(node, new),))


def root(f: SourceFile, op: Operation, node: cst.BaseExpression) -> str:
    """The square root of an expression, in the style of an operation."""
    if op.shift:
        return f"{f.text(op.call.func).removesuffix(op.name)}sqrt({f.text(node)})"
    return f"{atom(f, node)}.sqrt()"


@operator(
    "ln-power-typo",
    cst.BinaryOperation,
    cst.Call,
    category="norm-regularisation",
    difficulty=3,
    symptom="It learns, but the scale of the activations depends on what comes in.",
    hints=(
        "LOOK: multiply the input of the layer by ten and compare what comes out.",
        "WHERE: the exponents in `{function}`.",
        "WHAT: which power of the variance has the unit of the values themselves?",
    ),
    repair="Divide by the root of the variance.",
    mechanism=(
        "Values are divided by the square of their variance instead of its root. A spread of two"
        " becomes an eighth and one of a half becomes eight: differences in scale are reversed and"
        " magnified where they were to be removed."
    ),
    evidence=(issue("131250208/TPlinker-joint-extraction", 37),),
    examples=(
        Example(before="std = (var + eps) ** 0.5\n", after=("std = (var + eps) ** 2\n",)),
        Example(before="y = x * (ms + 1e-6).pow(-0.5)\n", after=("y = x * (ms + 1e-6).pow(-2)\n",)),
        Example(
            before="import torch\nstd = torch.sqrt(variance + self.eps)\n",
            after=("import torch\nstd = torch.square(variance + self.eps)\n",),
        ),
    ),
    counterexamples=("y = d ** 0.5\n", "y = (var + eps) ** 2\n"),
)
def wrong_power(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    sides = binary(node, cst.Power)
    if isinstance(node, cst.Call):
        op = operation(f, node, "pow", "sqrt")
        if op is not None and op.name == "sqrt":
            if guarded_spread(f, op.subject) is not None and isinstance(node.func, cst.Attribute):
                yield Proposal(edits=(f.replace(node.func.attr, "square"),))
            return
        sides = (op.subject, node.args[op.shift].value) if op and len(node.args) > op.shift else None
    new = {0.5: "2", -0.5: "-2"}.get(number(sides[1]) or 0) if sides is not None else None
    if sides is not None and new is not None and guarded_spread(f, sides[0]) is not None:
        yield Proposal(edits=(f.replace(sides[1], new),))


@operator(
    "ln-wrong-axes",
    cst.FunctionDef,
    cst.Call,
    category="norm-regularisation",
    difficulty=4,
    symptom="Positions know of each other where they should not.",
    hints=(
        "LOOK: change one position of the input; which positions of the output change?",
        "WHERE: the statistics in `{function}`.",
        "WHAT: which numbers are normalised together?",
    ),
    repair="Normalise each position by itself, over its channels.",
    mechanism=(
        "Mean and spread are taken over all positions of an example. Every position then sees a"
        " little of all the others, later ones included, and the result for a token depends on how"
        " long its sequence is and on what fills it up."
    ),
    evidence=(
        pull("Qualcomm-AI-research/geometric-algebra-transformer", 8),
        pull("OpenNMT/OpenNMT-tf", 6),
    ),
    examples=(
        Example(
            before=(
                "class LayerNorm:\n    def forward(self, x):\n        m = x.mean(-1, keepdim=True)\n"
                "        v = x.var(dim=-1, keepdim=True)\n        return (x - m) / v.sqrt()\n"
            ),
            after=(
                "class LayerNorm:\n    def forward(self, x):\n"
                "        m = x.mean(tuple(range(1, x.ndim)), keepdim=True)\n"
                "        v = x.var(dim=tuple(range(1, x.ndim)), keepdim=True)\n"
                "        return (x - m) / v.sqrt()\n",
            ),
        ),
        Example(
            before="import torch.nn.functional as F\ny = F.layer_norm(x, x.shape[-1:])\n",
            after=("import torch.nn.functional as F\ny = F.layer_norm(x, x.shape[1:])\n",),
        ),
    ),
    counterexamples=(
        "def score(x):\n    return x.mean(-1, keepdim=True)\n",
        "def norm(x):\n    return x - x.mean(-1)\n",
        "import torch.nn.functional as F\ny = F.layer_norm(x, (c,), w, b)\n",
    ),
)
def wrong_axes(f: SourceFile, node: cst.FunctionDef | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        known = f.qname(node.func) == "torch.nn.functional.layer_norm" and len(node.args) == 2
        shape = value(f, node, "normalized_shape", 1) if known else None
        if shape is not None and isinstance(node.args[0].value, cst.Name):
            yield Proposal(edits=(f.replace(shape, f"{node.args[0].value.value}.shape[1:]"),))
        return
    if not in_norm(f, node) or not node.params.params:
        return
    x = [param.name.value for param in node.params.params if param.name.value != "self"][:1]
    edits = []
    for call in inside(node.body, cst.Call):
        op = operation(f, call, "mean", "var", "std", "var_mean")
        along = axis(f, op) if op is not None else None
        kept = keyword(call, "keepdim", "keepdims")
        if along is not None and kept is not None and number(along) == -1 and x:
            edits.append(f.replace(along, f"tuple(range(1, {x[0]}.ndim))"))
    if edits:
        yield Proposal(edits=tuple(edits))


@operator(
    "rmsnorm-weight-plus-one",
    cst.BinaryOperation,
    category="norm-regularisation",
    difficulty=3,
    symptom="A fresh model gives the same answer to everything, and learns little or nothing.",
    hints=(
        "LOOK: print the output of the first normalisation of a fresh model.",
        "WHERE: the gain in `{function}`.",
        "WHAT: which value of the parameter means: leave the scale as it is?",
    ),
    repair="Multiply by one plus the parameter.",
    mechanism=(
        "The parameter is stored as a difference from one and starts at zero. Used as the gain"
        " itself it multiplies everything by zero, what lies behind sees nothing, and what lies"
        " before receives no gradient."
    ),
    evidence=(GEMMA_BUGS,),
    examples=(
        Example(
            before=(
                "class RMSNorm:\n    def forward(self, x):\n        return self.norm(x) * (1 + self.weight)\n"
            ),
            after=("class RMSNorm:\n    def forward(self, x):\n        return self.norm(x) * self.weight\n",),
        ),
        Example(
            before="class Norm:\n    def forward(self, x):\n        return (self.gain + 1.0) * x\n",
            after=("class Norm:\n    def forward(self, x):\n        return self.gain * x\n",),
        ),
    ),
    counterexamples=(
        "class Norm:\n    def forward(self, x):\n        return x * self.weight\n",
        "class Block:\n    def forward(self, x):\n        return x * (1 + self.weight)\n",
    ),
)
def no_plus_one(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    if sides is None or binary(f.parent.get(node), cst.Multiply) is None or not in_norm(f, node):
        return
    for one, gain in (sides, sides[::-1]):
        if number(one) == 1 and words(gain) & {"weight", "gain", "scale", "gamma", "g", "w"}:
            yield Proposal(edits=(f.replace(node, f.text(gain)),))
