"""Mistakes of order, brackets and shape that were made in public projects."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import assigned, binary, last_name, names_in, number, operation
from bughunt_mutator.operators._look_meaning import complement, pieces
from bughunt_mutator.operators._sources import commit
from bughunt_mutator.source import SourceFile

GROUPED = re.compile(r"\((\w+) (\w+)\)")


@operator(
    "real-order-swapped",
    cst.BinaryOperation,
    cst.SimpleString,
    cst.ListComp,
    cst.Dict,
    category="tensor-shape",
    difficulty=4,
    symptom="Shapes are right, training runs, and the result is worse than it should be.",
    hints=(
        "LOOK: number the entries and see in which order they come out.",
        "WHERE: what stands in a certain order in `{function}`.",
        "WHAT: which of the two comes first?",
    ),
    repair="Put the two in the right order.",
    mechanism=(
        "The two can be exchanged without a complaint: shares of a mixture, ends of a range, factors"
        " of an axis, loops of a comprehension, entries of a table."
    ),
    evidence=(
        commit("lucidrains/vit-pytorch", "dc6622c05ceda769ea69cdf0adc60c6f5539c201"),
        commit("lucidrains/vit-pytorch", "825a9484d165065a544032b729ef00e5654afe8c"),
        commit("lucidrains/denoising-diffusion-pytorch", "a19331aa595ae46ce5c13d376d7f1b0d237db6cc"),
        commit("pytorch/rl", "93ba865c2ed285fb89f0278cbe754927ac78c1d9"),
        commit("pytorch/torchtune", "371bb0bc8c62a8a000838f25a528de1fd12db0e7"),
    ),
    examples=(
        Example("y = a * (1 - w) + b * w\n", ("y = a * w + b * (1 - w)\n",)),
        Example("y = (x - lo) / (hi - lo)\n", ("y = (x - hi) / (lo - hi)\n",)),
        Example(
            "y = rearrange(x, 'b (h p) c -> b h p c')\n", ("y = rearrange(x, 'b (p h) c -> b h p c')\n",)
        ),
        Example(
            "y = [p for p in ps for _ in range(n)]\n",
            ("y = [p for _ in range(n) for p in ps]\n",),
        ),
        Example(
            "M = {'a.weight': 'b.scale', 'c.weight': 'd.scale'}\n",
            ("M = {'a.weight': 'd.scale', 'c.weight': 'b.scale'}\n",),
        ),
    ),
    counterexamples=(
        "y = a * w + b * v\n",
        "y = (x - lo) / (hi - low)\n",
        "y = [p for p in ps for q in p]\n",
        "M = {'a': 'b', 'c': 'd'}\n",
    ),
)
def order_swapped(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        yield from _swapped_shares(f, node)
        yield from _swapped_ends(f, node)
    elif isinstance(node, cst.SimpleString):
        call = f.parent[f.parent[node]]
        if (
            isinstance(call, cst.Call)
            and last_name(call.func) == "rearrange"
            and "->" in node.value
            and (group := GROUPED.search(node.value)) is not None
        ):
            new = f"{node.value[: group.start()]}({group[2]} {group[1]}){node.value[group.end() :]}"
            yield Proposal((f.replace(node, new),))
    elif isinstance(node, cst.ListComp):
        yield from _swapped_loops(f, node)
    elif isinstance(node, cst.Dict) and len(node.elements) > 1:
        one, two = (each.value for each in node.elements[:2])
        if all(isinstance(each, cst.SimpleString) and "." in each.value for each in (one, two)):
            yield Proposal(f.swap(one, two))


def _swapped_shares(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    products = [binary(side, cst.Multiply) for side in binary(node, cst.Add) or ()]
    if len(products) == 2 and products[0] is not None and products[1] is not None:
        (_, one), (_, two) = products[0], products[1]
        share = complement(one) or complement(two)
        if share is not None and f.text(share) in (f.text(one), f.text(two)):
            yield Proposal(f.swap(one, two))


def _swapped_ends(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    parts = [binary(side, cst.Subtract) for side in binary(node, cst.Divide) or ()]
    if len(parts) == 2 and parts[0] is not None and parts[1] is not None:
        (_, start), (end, base) = parts[0], parts[1]
        if f.text(start) == f.text(base):
            yield Proposal((f.replace(start, f.text(end)), *f.swap(end, base)))


def _swapped_loops(f: SourceFile, node: cst.ListComp) -> Iterator[Proposal]:
    outer, inner = node.for_in, node.for_in.inner_for_in
    if inner is None or inner.inner_for_in is not None or outer.ifs or inner.ifs:
        return
    if names_in(outer.target).isdisjoint(names_in(inner.iter)):
        one, two = (f"for {f.text(each.target)} in {f.text(each.iter)}" for each in (outer, inner))
        start, end = f.span(outer.target)[0] - len("for "), f.span(inner.iter)[1]
        yield Proposal((f.edit(start, end, f"{two} {one}"),))


@operator(
    "real-bracket-moved",
    cst.BinaryOperation,
    category="rl",
    difficulty=4,
    symptom="Learning runs, and values are a little too high or too coarse.",
    hints=(
        "LOOK: put small numbers into the formula of `{function}` and compute it by hand.",
        "WHERE: the brackets in `{function}`.",
        "WHAT: what does the last factor, or the cast, apply to?",
    ),
    repair="Close the bracket before the last factor.",
    mechanism="A bracket that closes later lets a factor reach one term instead of both.",
    evidence=(
        commit("vwxyzjn/cleanrl", "1ed80620842b4cdeb1edc07e12825dff18091da9"),
        commit("codertimo/BERT-pytorch", "6521dfeaddd3ab171e8cbf946a4aab13e1985127"),
    ),
    examples=(
        Example("y = g * (a + b) * alive\n", ("y = g * (a + b * alive)\n",)),
        Example("y = x.float() * c\n", ("y = (x * c).float()\n",)),
    ),
    counterexamples=("y = g * (a + b)\n", "y = a + b * c\n"),
)
def bracket_moved(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    product = binary(node, cst.Multiply)
    if product is None:
        return
    left, right = product
    inner = binary(left, cst.Multiply)
    total = inner[1] if inner is not None else None
    if (
        isinstance(right, cst.Name)
        and binary(total, cst.Add) is not None
        and total is not None
        and total.lpar
    ):
        end = f.span(total)[1]
        yield Proposal((f.edit(end - 1, f.span(node)[1], f" * {f.text(right)})"),))
    if (
        isinstance(left, cst.Call)
        and last_name(left.func) == "float"
        and not left.args
        and isinstance(left.func, cst.Attribute)
    ):
        yield Proposal((f.replace(node, f"({f.text(left.func.value)} * {f.text(right)}).float()"),))


@operator(
    "real-axis-lost",
    cst.Call,
    cst.BinaryOperation,
    cst.Subscript,
    category="tensor-shape",
    difficulty=4,
    symptom="Nothing fails, and examples of one batch are mixed up or share what each should have.",
    hints=(
        "LOOK: compute one example by itself and in a batch; do the results agree?",
        "WHERE: the shapes in `{function}`.",
        "WHAT: along which axis is a smaller tensor repeated?",
    ),
    repair="Keep the axis.",
    mechanism="With one axis less, the tensor is repeated along the wrong one, and shapes still fit.",
    evidence=(
        commit("vwxyzjn/cleanrl", "0fceeefbd99fa23abd15f48dbd984d7eb0b124ee"),
        commit("vwxyzjn/cleanrl", "331cb390a903f3f005094020cf11233aafbfc2c7"),
        commit("pytorch/ignite", "cfb1b3a0683ca1e6334cc832e9371ab34418bbbf"),
        commit("lucidrains/vit-pytorch", "3f2cbc6e23b935224b57915a2b0e1a21eb60c5a6"),
    ),
    examples=(
        Example(
            "import torch\nn = torch.randn_like(actions)\n",
            ("import torch\nn = torch.randn_like(actions[0])\n",),
        ),
        Example("y = cm / cm.sum(dim=1).unsqueeze(dim=1)\n", ("y = cm / cm.sum(dim=1)\n",)),
        Example(
            "import torch\nlow_q = torch.min(q1, q2)\n",
            ("import torch\nlow_q = torch.min(q1, q2).view(-1)\n",),
        ),
        Example(
            "m = m[:, None, :, None] * m[:, None, None, :]\n",
            ("m = m[:, :, None] * m[:, None, :]\n",),
        ),
        Example("m = self.mask[:, :, :n, :k]\n", ("m = self.mask[:, :, n - 1, k - 1]\n",)),
    ),
    counterexamples=("import torch\nn = torch.randn(3)\n", "y = x.unsqueeze(1)\n", "m = x[:, :, :n, :k]\n"),
)
def axis_lost(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        yield from _lost_in_call(f, node)
    elif isinstance(node, cst.Subscript):
        cuts = [part.slice for part in node.slice]
        ends = [each.upper for each in cuts[-2:] if isinstance(each, cst.Slice) and each.lower is None]
        if (
            len(cuts) == 4
            and len(ends) == 2
            and "mask" in pieces(last_name(node.value))
            and all(end is not None for end in ends)
        ):
            edits = [
                f.replace(cut, f"{f.text(end)} - 1")
                for cut, end in zip(cuts[-2:], ends, strict=True)
                if end is not None
            ]
            yield Proposal(tuple(edits))
    elif (sides := binary(node, cst.Multiply)) is not None:
        texts = [f.text(side) for side in sides]
        ends_of = ("[:, None, :, None]", "[:, None, None, :]")
        if all(text.endswith(end) for text, end in zip(texts, ends_of, strict=True)):
            one, two = (text.removesuffix(end) for text, end in zip(texts, ends_of, strict=True))
            yield Proposal((f.replace(node, f"{one}[:, :, None] * {two}[:, None, :]"),))


def _lost_in_call(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    name = f.qname(node.func)
    if name in ("torch.randn_like", "torch.rand_like") and isinstance(node.args[0].value, cst.Name):
        yield Proposal((f.replace(node.args[0].value, f"{node.args[0].value.value}[0]"),))
    elif name == "torch.min" and len(node.args) == 2 and number(node.args[1].value) is None:
        line = f.statement(node)
        pair = assigned(line)
        if pair is not None and pair[1] is node and "q" in pieces(last_name(pair[0])):
            yield Proposal((f.replace(node, f"{f.text(node)}.view(-1)"),))
    elif (op := operation(f, node, "unsqueeze")) is not None and isinstance(op.subject, cst.Call):
        above = f.parent[node]
        if last_name(op.subject.func) in ("sum", "mean", "norm") and isinstance(above, cst.BinaryOperation):
            yield Proposal((f.replace(node, f.text(op.subject)),))
