"""Mistakes of sign, limit, count and constant that were made in public projects."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.index import inside
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import binary, enclosing, names_in, number, operation
from bughunt_mutator.operators._look_meaning import pieces, says
from bughunt_mutator.operators._sources import commit
from bughunt_mutator.source import SourceFile

PENALTY = ("kl", "penalty", "entropy", "divergence", "regulariser", "regularizer", "decay", "cost")


@operator(
    "real-limit-turned",
    cst.Call,
    category="loss",
    difficulty=4,
    symptom="Training works and is a little worse: what was to be held back is let through.",
    hints=(
        "LOOK: print the smallest and the largest value before and after the limit.",
        "WHERE: the limits in `{function}`.",
        "WHAT: is the value to stay below the limit or above it?",
    ),
    repair="Limit the other side.",
    mechanism=(
        "The smaller of two is taken for the larger, so the careful choice becomes the careless one:"
        " small weights are raised instead of large ones cut, and the optimistic loss is kept."
    ),
    evidence=(
        commit("lucidrains/denoising-diffusion-pytorch", "ecd45821bcc515bdb9d8c40454a51777e4a55eac"),
        commit("vwxyzjn/cleanrl", "d6fd21b4657343c79d3ba7e35754c959e6e1f848"),
    ),
    examples=(
        Example("y = snr.clamp(max=cap)\n", ("y = snr.clamp(min=cap)\n",)),
        Example(
            "import torch\nloss = torch.max(a, b)\n",
            ("import torch\nloss = torch.min(a, b)\n",),
        ),
    ),
    counterexamples=("y = x.clamp(min=0, max=1)\n", "import torch\ny = torch.max(a, 1)\n", "y = x.max()\n"),
)
def limit_turned(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "clamp", "clip", "clamp_")
    given = [arg for arg in node.args[op.shift :] if op is not None] if op is not None else []
    if len(given) == 1 and given[0].keyword is not None and given[0].keyword.value in ("min", "max"):
        if number(given[0].value) != 0:
            yield Proposal((f.replace(given[0].keyword, _other(given[0].keyword.value)),))
        return
    name = f.qname(node.func) or ""
    if name not in ("torch.max", "torch.min", "torch.maximum", "torch.minimum"):
        return
    if len(node.args) == 2 and all(not arg.keyword and number(arg.value) is None for arg in node.args):
        new = f.text(node.func).replace("max", "\0").replace("min", "max").replace("\0", "min")
        yield Proposal((f.replace(node.func, new),))


def _other(name: str) -> str:
    return "min" if name == "max" else "max"


@operator(
    "real-sign-turned",
    cst.BinaryOperation,
    category="loss",
    difficulty=3,
    symptom="Training runs, and moves away from what it should approach.",
    hints=(
        "LOOK: put small numbers into the formula of `{function}` and compute it by hand.",
        "WHERE: the differences in `{function}`.",
        "WHAT: what is taken from what?",
    ),
    repair="Turn the difference round.",
    mechanism="A penalty that is added is a reward, and a difference the other way round has the wrong sign.",
    evidence=(
        commit("lucidrains/denoising-diffusion-pytorch", "37334ae82467197ba3df194cae3a85332f5736be"),
        commit("pytorch/rl", "96c30032231c1667429d6abf2a703a16006dd0fb"),
    ),
    examples=(
        Example("r = reward - c * kl\n", ("r = reward + c * kl\n",)),
        Example("e = (a * x - y) / b\n", ("e = (y - a * x) / b\n",)),
    ),
    counterexamples=("d = a - b\n", "z = (x - mean) / std\n"),
)
def sign_turned(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Subtract)
    if sides is None:
        return
    above = f.parent[node]
    if says(sides[1], *PENALTY) and binary(sides[1], cst.Multiply) is not None:
        yield Proposal((f.replace(node.operator, "+" if f.text(node.operator).strip() == "-" else " + "),))
    elif (
        isinstance(above, cst.BinaryOperation)
        and isinstance(above.operator, cst.Divide)
        and above.left is node
        and binary(sides[0], cst.Multiply) is not None
    ):
        yield Proposal(f.swap(*sides))


@operator(
    "real-one-less",
    cst.For,
    cst.Comparison,
    category="generative",
    difficulty=4,
    symptom="Results are nearly right: the first or the last step is missing.",
    hints=(
        "LOOK: count the turns of every loop, and print the first and the last.",
        "WHERE: the loops of `{function}`.",
        "WHAT: is the first one done, and the last?",
    ),
    repair="Go through all of them.",
    mechanism="One step of many is left out, or treated as its neighbour; the others hide it.",
    evidence=(
        commit("lucidrains/denoising-diffusion-pytorch", "b87ea2778111f40ba74fa2b7508c0d70a7628d2f"),
        commit("lucidrains/denoising-diffusion-pytorch", "844e557dfbad35ed8abd8e9b2aa461db12b615f4"),
        commit("lucidrains/perceiver-pytorch", "3010a29f6245c447530c0282b100eb3dbf7986e7"),
        commit("ultralytics/yolov5", "8ebf569d14aca4f0e5b1f730501ac73644d71ae0"),
    ),
    examples=(
        Example(
            "for i in range(num_steps):\n    x = f(x, i)\n",
            ("for i in range(num_steps - 1):\n    x = f(x, i)\n",),
        ),
        Example(
            "for a in reversed(sizes):\n    ups.append(a)\n",
            ("for a in reversed(sizes[1:]):\n    ups.append(a)\n",),
        ),
        Example(
            "for i in range(3):\n    shared = i > 0 and tie\n",
            ("for i in range(3):\n    shared = i > 1 and tie\n",),
        ),
        Example(
            "for j, g in enumerate(groups):\n    rate = 0.1 if j == 0 else 0\n",
            ("for j, g in enumerate(groups):\n    rate = 0.1 if j == 2 else 0\n",),
        ),
    ),
    counterexamples=("for i in range(10):\n    x = f(x)\n", "if i > 0:\n    x = 1\n"),
)
def one_less(f: SourceFile, node: cst.For | cst.Comparison) -> Iterator[Proposal]:
    if isinstance(node, cst.Comparison):
        yield from _wrong_turn(f, node)
        return
    call = node.iter
    if not isinstance(call, cst.Call) or len(call.args) != 1 or call.args[0].star:
        return
    what = call.args[0].value
    if f.text(call.func) == "range" and says(what, "steps", "timesteps", "layers", "depth"):
        if not isinstance(what, cst.BinaryOperation) and isinstance(node.target, cst.Name):
            yield Proposal((f.replace(what, f"{f.text(what)} - 1"),))
    elif f.text(call.func) == "reversed" and isinstance(what, cst.Name) and "append" in names_in(node.body):
        yield Proposal((f.replace(what, f"{what.value}[1:]"),))


def _wrong_turn(f: SourceFile, node: cst.Comparison) -> Iterator[Proposal]:
    loop = enclosing(f, node, cst.For, cst.FunctionDef)
    if not isinstance(loop, cst.For) or len(node.comparisons) != 1 or not isinstance(node.left, cst.Name):
        return
    target = node.comparisons[0]
    if node.left.value not in names_in(loop.target) or number(target.comparator) != 0:
        return
    if isinstance(target.operator, cst.GreaterThan):
        yield Proposal((f.replace(target.comparator, "1"),))
    elif isinstance(target.operator, cst.Equal) and isinstance(f.parent[node], cst.IfExp):
        yield Proposal((f.replace(target.comparator, "2"),))


@operator(
    "real-constant-wrong",
    cst.Call,
    cst.Param,
    cst.BinaryOperation,
    cst.Tuple,
    category="numerics-precision",
    difficulty=4,
    symptom="Training runs, and something is off by a steady factor.",
    hints=(
        "LOOK: compare the numbers that `{function}` makes with those of the paper.",
        "WHERE: the constants in `{function}`.",
        "WHAT: does the constant belong to this scale, this model and this formula?",
    ),
    repair="Write the constant that belongs here.",
    mechanism=(
        "A number that is right elsewhere is used here: the epsilon of another model, frequencies"
        " that begin an octave higher, an exponent that is undone twice, statistics of another range."
    ),
    evidence=(
        commit("lucidrains/vit-pytorch", "4c293283636e5992826f450f1a045b9f83d9f5d1"),
        commit("lucidrains/DALLE2-pytorch", "1a81670718652541f5040db73b1dbbf7565f1129"),
        commit("pytorch/torchtune", "f61060062009f1093ce8c1c1b51f7c85530a1e4c"),
        commit("mosaicml/composer", "cab93211cc3a7b5c043ad30d9cc682373d6da52c"),
        commit("huggingface/peft", "c9b19bb8f33c84ae26609df1b5fb3720ca4089e6"),
        commit("vwxyzjn/cleanrl", "023eaea1a87fe404ba01790e42dc0f9be4ef472a"),
    ),
    examples=(
        Example(
            "import torch\ns = torch.logspace(0.0, m, n)\n",
            ("import torch\ns = torch.logspace(1.0, m, n)\n",),
        ),
        Example("def f(x, eps=1e-5):\n    return x + eps\n", ("def f(x, eps=1e-6):\n    return x + eps\n",)),
        Example(
            "import torch\nb = torch.linspace(lo**0.5, hi**0.5, n)\n",
            ("import torch\nb = torch.linspace(lo**2, hi**2, n)\n",),
        ),
        Example("MEAN = (0.4 * 255, 0.5 * 255)\n", ("MEAN = (0.4, 0.5)\n",)),
        Example(
            "from torch import nn\n\nnn.init.zeros_(self.lora_E)\n",
            ("from torch import nn\n\nnn.init.normal_(self.lora_E)\n",),
        ),
        Example(
            "import torch\nn = torch.normal(0, a.action_scale)\n",
            ("import torch\nn = torch.normal(a.action_bias, a.action_scale)\n",),
        ),
    ),
    counterexamples=("def f(x, p=0.5):\n    return x\n", "y = x**0.5\n", "t = (1, 2)\n"),
)
def constant_wrong(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        yield from _wrong_argument(f, node)
    elif isinstance(node, cst.Param):
        if "eps" in pieces(node.name.value) and isinstance(node.default, cst.Float):
            other = {"1e-5": "1e-6", "1e-6": "1e-5", "1e-8": "1e-5"}.get(node.default.value)
            if other is not None:
                yield Proposal((f.replace(node.default, other),))
    elif isinstance(node, cst.Tuple):
        scaled = [binary(each.value, cst.Multiply) for each in node.elements]
        pairs = [pair for pair in scaled if pair is not None and number(pair[1]) == 255]
        if node.elements and len(pairs) == len(node.elements):
            edits = (
                f.replace(each.value, f.text(pair[0]))
                for each, pair in zip(node.elements, pairs, strict=True)
            )
            yield Proposal(tuple(edits))


def _wrong_argument(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    name = (f.qname(node.func) or "").removeprefix("torch.")
    first = node.args[0].value if node.args else None
    if name == "logspace" and number(first) == 0 and first is not None:
        yield Proposal((f.replace(first, "1.0"),))
    elif name == "linspace":
        powers = [binary(arg.value, cst.Power) for arg in node.args[:2]]
        roots = [pair[1] for pair in powers if pair is not None and number(pair[1]) == 0.5]
        if len(roots) == 2:
            yield Proposal(tuple(f.replace(root, "2") for root in roots))
    elif name == "nn.init.zeros_" and first is not None and says(first, "lora", "adapter", "gamma"):
        yield Proposal((f.replace(node.func, f.text(node.func).replace("zeros_", "normal_")),))
    elif name == "normal" and number(first) == 0 and first is not None and len(node.args) > 1:
        scale = next((each for each in _attributes(node) if each.attr.value.endswith("_scale")), None)
        if scale is not None:
            yield Proposal((f.replace(first, f.text(scale).removesuffix("_scale") + "_bias"),))


def _attributes(node: cst.Call) -> Iterator[cst.Attribute]:

    yield from inside(node, cst.Attribute)
