"""Mistakes of a neighbour that looks right, made in public projects: another function, layer or test."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.index import inside
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import axis, binary, last_name, neighbours, number, operation
from bughunt_mutator.operators._look_meaning import everywhere, pieces
from bughunt_mutator.operators._sources import commit
from bughunt_mutator.source import SourceFile

UNDOING = ("un", "de", "inverse", "unmerge", "denormalize", "unnormalize", "decode")


@operator(
    "real-look-alike",
    cst.Call,
    cst.Comparison,
    category="architecture",
    difficulty=4,
    symptom="Everything runs; some inputs are treated as if a step were another one.",
    hints=(
        "LOOK: try every call on an input small enough to know the answer.",
        "WHERE: the calls in `{function}`.",
        "WHAT: does the call do what its name makes one believe?",
    ),
    repair="Call the one that is meant.",
    mechanism=(
        "Two calls with like names take the same arguments and return the same shape: a set has no"
        " order, splitting from the left cuts elsewhere, a dict has keys and no attributes, a"
        " transposition of two axes mirrors the image that a permutation would turn."
    ),
    evidence=(
        commit("lucidrains/DALLE2-pytorch", "09534119a188925fd82e6e1dc93e41d25625ebe5"),
        commit("ultralytics/yolov5", "a82dce7faa5d13d6f9c342f04aaaa3b5de80d749"),
        commit("huggingface/peft", "c1478213acb7e0214d0041615dfdfa121a643e21"),
        commit("vwxyzjn/cleanrl", "7dc0baef5fa3ad2227ce6c63cc5447173287bbbe"),
        commit("lucidrains/denoising-diffusion-pytorch", "840d3ffd3b64276250faec2ec612e13847f69894"),
        commit("lucidrains/denoising-diffusion-pytorch", "7b51e30da7710cbd277ad32455377b431ab3a968"),
        commit("lucidrains/vit-pytorch", "950c901b80e08be700425b396718852a31f28097"),
    ),
    examples=(
        Example("p = list(net.parameters())\n", ("p = set(net.parameters())\n",)),
        Example("stem = path.rsplit('.', 1)[0]\n", ("stem = path.split('.', 1)[0]\n",)),
        Example("y = net(x.permute(0, 3, 1, 2))\n", ("y = net(x.transpose(1, 3))\n",)),
        Example("if 'mask' in inputs:\n    f()\n", ("if hasattr(inputs, 'mask'):\n    f()\n",)),
        Example(
            "from torch import nn\n\nnorm = nn.GroupNorm(1, dim)\n",
            ("from torch import nn\n\nnorm = nn.InstanceNorm2d(dim)\n",),
        ),
        Example(
            "from torch import nn\n\nself.head = nn.Linear(dim, num_classes)\n",
            ("from torch import nn\n\nself.head = nn.LayerNorm(dim)\n",),
        ),
        Example(
            "import torch.nn.functional as F\nq = F.normalize(q, dim=-1)\n",
            ("import torch.nn.functional as F\nq = F.normalize(q, dim=1)\n",),
        ),
    ),
    counterexamples=("p = list(rows)\n", "a = s.rsplit()\n", "if 'a' in 'abc':\n    f()\n"),
)
def look_alike(f: SourceFile, node: cst.Call | cst.Comparison) -> Iterator[Proposal]:
    if isinstance(node, cst.Comparison):
        target = node.comparisons[0]
        keyed = isinstance(node.left, cst.SimpleString) and isinstance(target.operator, cst.In)
        if keyed and len(node.comparisons) == 1 and isinstance(target.comparator, cst.Name):
            yield Proposal((f.replace(node, f"hasattr({target.comparator.value}, {f.text(node.left)})"),))
        return
    if (new := _neighbour(f, node)) is not None:
        yield Proposal((f.replace(node, new),))


def _neighbour(f: SourceFile, node: cst.Call) -> str | None:
    name, given = f.qname(node.func) or "", [f.text(arg.value) for arg in node.args]
    if f.text(node.func) == "list" and len(given) == 1 and given[0].endswith(".parameters()"):
        return f"set({given[0]})"
    if isinstance(node.func, cst.Attribute) and not name:
        subject = f.text(node.func.value)
        if node.func.attr.value == "rsplit" and len(given) == 2:
            return f"{subject}.split({', '.join(given)})"
        if node.func.attr.value == "permute" and given == ["0", "3", "1", "2"]:
            return f"{subject}.transpose(1, 3)"
    if name == "torch.nn.GroupNorm" and given[:1] == ["1"] and len(given) == 2:
        return f"{f.text(node.func).removesuffix('GroupNorm')}InstanceNorm2d({given[1]})"
    if name == "torch.nn.Linear" and len(given) == 2 and pieces(given[1]) & {"classes", "labels"}:
        return f"{f.text(node.func).removesuffix('Linear')}LayerNorm({given[0]})"
    along = axis(f, op) if name.endswith(".normalize") and (op := operation(f, node, "normalize")) else None
    if along is not None and number(along) == -1:
        return f.text(node)[: -len("-1)")] + "1)" if f.text(node).endswith("-1)") else None
    return None


@operator(
    "real-not-undone",
    cst.Call,
    category="generative",
    difficulty=3,
    symptom="Training is right; what comes out at the end has the wrong range or is done twice.",
    hints=(
        "LOOK: do the step and undo it, on numbers that you know.",
        "WHERE: the last steps of `{function}`.",
        "WHAT: is the step undone, or done once more?",
    ),
    repair="Call the inverse.",
    mechanism="The step and its inverse have one signature, so doing it again passes for undoing it.",
    evidence=(
        commit("lucidrains/denoising-diffusion-pytorch", "cae9f4a71ff9ee234a9bc542335b7a987b79aa55"),
        commit("huggingface/peft", "a61925a47d26e27c6e04a65b474a3f5e746f89d3"),
    ),
    examples=(
        Example(
            "def scale(x):\n    return x * 2\n\n\ndef unscale(x):\n    return x / 2\n\n\ny = unscale(z)\n",
            ("def scale(x):\n    return x * 2\n\n\ndef unscale(x):\n    return x / 2\n\n\ny = scale(z)\n",),
        ),
        Example(
            "import torch\n\n\ndef unmerge(w, s):\n    return torch.div(w, s)\n",
            ("import torch\n\n\ndef unmerge(w, s):\n    return torch.mul(w, s)\n",),
        ),
    ),
    counterexamples=("y = unscale(z)\n", "import torch\n\n\ndef merge(w, s):\n    return torch.div(w, s)\n"),
)
def not_undone(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    name, home = last_name(node.func), f.function(node)
    known = {each.name.value for each in everywhere(f, cst.FunctionDef)}
    for prefix in ("un", "de", "inverse_"):
        done = name.removeprefix(prefix)
        if isinstance(node.func, cst.Name) and name.startswith(prefix) and {name, done} <= known:
            yield Proposal((f.replace(node.func, done),))
    undoing = home is not None and (
        home.name.value.startswith("un") or not pieces(home.name.value).isdisjoint(UNDOING)
    )
    if undoing and f.qname(node.func) == "torch.div":
        yield Proposal((f.replace(node.func, f.text(node.func).replace("div", "mul")),))


@operator(
    "real-flag-on-module",
    cst.For,
    category="autograd",
    difficulty=3,
    symptom="Weights that should stand still are trained.",
    hints=(
        "LOOK: compare the weights before and after a step; which of them moved?",
        "WHERE: where `{function}` says what is trained.",
        "WHAT: whose attribute is set?",
    ),
    repair="Set the flag of each parameter, or call `requires_grad_`.",
    mechanism="A module takes any attribute. Its parameters know nothing of it, and are trained on.",
    evidence=(commit("allenai/allennlp", "9a0e01fae76fd40211c3499a791d334a8f48da9c"),),
    examples=(
        Example(
            "for p in net.parameters():\n    p.requires_grad = on\n",
            ("net.requires_grad = on\n",),
        ),
    ),
    counterexamples=("for p in net.parameters():\n    p.grad = None\n",),
)
def flag_on_module(f: SourceFile, node: cst.For) -> Iterator[Proposal]:
    text = f.text(node.iter)
    flags = list(inside(node.body, cst.Assign))
    if not text.endswith(".parameters()") or len(flags) != 1 or len(node.body.body) != 1:
        return
    target = flags[0].targets[0].target
    if last_name(target) == "requires_grad" and isinstance(node.target, cst.Name):
        module = text.removesuffix(".parameters()")
        yield Proposal((f.replace(node, f"{module}.requires_grad = {f.text(flags[0].value)}"),))


@operator(
    "real-condition-wrong",
    cst.BooleanOperation,
    cst.Comparison,
    category="data",
    difficulty=3,
    symptom="A branch is taken where it should not be, or never.",
    hints=(
        "LOOK: count how often each branch of `{function}` is taken.",
        "WHERE: the conditions in `{function}`.",
        "WHAT: for which inputs is the condition true?",
    ),
    repair="Ask what is meant.",
    mechanism="The condition is nearly right, and for most inputs it says the same.",
    evidence=(
        commit("allenai/allennlp", "daed8359330f483405e306f8a1bf74fb1031907e"),
        commit("lucidrains/vit-pytorch", "96f66d275489ac11f25e585a99c4da1f0d781d35"),
        commit("ultralytics/yolov5", "3974d725b60308b46298b5f0a4cc4bb2c4b7807b"),
    ),
    examples=(
        Example("if k == 'a' and v != '':\n    f()\n", ("if k == 'a' or v != '':\n    f()\n",)),
        Example(
            "def f(seq, lengths):\n    return seq[None, :] < lengths[:, None]\n",
            ("def f(seq, lengths):\n    return lengths[:, None] <= seq[None, :]\n",),
        ),
        Example("if i - last >= n:\n    step()\n", ("if i % n == 0:\n    step()\n",)),
    ),
    counterexamples=("if a and b:\n    f()\n", "y = a < b\n", "if i >= n:\n    f()\n"),
)
def condition_wrong(f: SourceFile, node: cst.BooleanOperation | cst.Comparison) -> Iterator[Proposal]:
    if isinstance(node, cst.BooleanOperation):
        compared = isinstance(node.left, cst.Comparison) and isinstance(node.right, cst.Comparison)
        if compared and isinstance(node.operator, cst.And) and isinstance(f.parent[node], cst.If):
            yield Proposal((f.replace(node, f"{f.text(node.left)} or {f.text(node.right)}"),))
        return
    target, sides = node.comparisons[0], binary(node.left, cst.Subtract)
    if len(node.comparisons) != 1:
        return
    right = f.text(target.comparator)
    if isinstance(target.operator, cst.LessThan) and "None" in f.text(node.left) and "None" in right:
        yield Proposal((f.replace(node, f"{right} <= {f.text(node.left)}"),))
    elif (
        sides is not None
        and isinstance(target.operator, cst.GreaterThanEqual)
        and "last" in pieces(last_name(sides[1]))
        and isinstance(f.parent[node], cst.If)
    ):
        yield Proposal((f.replace(node, f"{f.text(sides[0])} % {right} == 0"),))


@operator(
    "real-moved-inside",
    cst.If,
    cst.SimpleStatementLine,
    category="rl",
    difficulty=4,
    symptom="A step that should be taken now and then is taken too seldom or too often.",
    hints=(
        "LOOK: count how often every step is taken in a hundred turns.",
        "WHERE: how deep the lines of `{function}` stand.",
        "WHAT: inside which loop or condition does the step belong?",
    ),
    repair="Move the step out again.",
    mechanism=(
        "One level deeper, the step waits for the condition above it as well, or is taken on every turn"
        " of the loop below. No name changes and nothing fails."
    ),
    evidence=(
        commit("vwxyzjn/cleanrl", "c515aefc57b4510c8225d4b3bb0dac9663f01749"),
        commit("vwxyzjn/cleanrl", "aa4a44b0c83592ee15dc3f5162179f07a53e37a5"),
    ),
    examples=(
        Example(
            "if i % a == 0:\n    f()\nif i % b == 0:\n    g()\n",
            ("if i % a == 0:\n    f()\n    if i % b == 0:\n        g()\n",),
        ),
        Example(
            "for e in r:\n    old = net.state_dict()\n    for x in d:\n        f(x)\n",
            ("for e in r:\n    for x in d:\n        old = net.state_dict()\n        f(x)\n",),
        ),
    ),
    counterexamples=("if a:\n    f()\nif b:\n    g()\n", "old = net.state_dict()\nf(old)\n"),
)
def moved_inside(f: SourceFile, node: cst.If | cst.SimpleStatementLine) -> Iterator[Proposal]:
    lines, place = neighbours(f, node)
    if isinstance(node, cst.If):
        above = lines[place - 1] if place else None
        if isinstance(above, cst.If) and all(_is_now_and_then(each) for each in (above, node)):
            yield Proposal(_deeper(f, node, above))
        return
    below = lines[place + 1] if place + 1 < len(lines) else None
    if (
        isinstance(below, cst.For)
        and isinstance(f.parent.get(f.parent[node]), cst.For)
        and ".state_dict()" in f.text(node)
        and isinstance(below.body, cst.IndentedBlock)
    ):
        yield Proposal((f.delete_statement(node), f.insert_before(below.body.body[0], f.text(node).strip())))


def _is_now_and_then(node: cst.If) -> bool:
    """Whether a condition is true once in so many turns."""
    sides = binary(node.test.left, cst.Modulo) if isinstance(node.test, cst.Comparison) else None
    return sides is not None and node.orelse is None and isinstance(node.body, cst.IndentedBlock)


def _deeper(f: SourceFile, node: cst.If, above: cst.If) -> tuple[Edit, Edit]:
    last = above.body.body[-1]
    step = f.indent(last)[len(f.indent(above)) :]
    text = f.text(node).strip("\r\n").replace("\n", "\n" + step)
    return f.delete_statement(node), f.insert_after(last, text.lstrip())
