"""Mistakes in who may look at whom: masks that are inverted, added as numbers, or come too late."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    Operation,
    assigned,
    binary,
    definitions,
    function_of,
    keyword,
    mentions,
    number,
    operation,
    value,
)
from bughunt_mutator.operators._look_models import (
    atom,
    inverted,
    is_boolean,
    is_minus_infinity,
    parameters,
    sources,
)
from bughunt_mutator.operators._sources import pull
from bughunt_mutator.source import SourceFile

SDPA = "torch.nn.functional.scaled_dot_product_attention"
PADDING = ("key_padding_mask", "src_key_padding_mask", "tgt_key_padding_mask", "memory_key_padding_mask")


@operator(
    "sdpa-bool-inverted",
    cst.Call,
    category="attention-transformer",
    difficulty=3,
    symptom="The loss is far too good from early on, and what the model writes is useless.",
    hints=(
        "LOOK: change one token and list the positions whose output moves.",
        "WHERE: the truth values that reach the attention in `{function}`.",
        "WHAT: does true stand for what may be seen, or for what is kept out?",
    ),
    repair="Give the attention a mask in the sense that it expects.",
    mechanism=(
        "Some functions read a true entry as visible, others as hidden. With the sense turned"
        " round, each position reads what comes later and nothing of what came before, so training"
        " copies the answer. A row that sees nothing at all gives NaN or zeros."
    ),
    evidence=(pull("rasbt/LLMs-from-scratch", 1062), pull("InseeFrLab/torchTextClassifiers", 92)),
    examples=(
        Example(
            row="sdpa-bool-inverted",
            before="import torch.nn.functional as F\n"
            "y = F.scaled_dot_product_attention(q, k, v, attn_mask=i >= j)\n",
            after=(
                "import torch.nn.functional as F\n"
                "y = F.scaled_dot_product_attention(q, k, v, attn_mask=~(i >= j))\n",
            ),
        ),
        Example(
            before="y, _ = self.attention(x, x, x, key_padding_mask=~alive)\n",
            after=("y, _ = self.attention(x, x, x, key_padding_mask=alive)\n",),
        ),
        Example(
            before="hidden = ones.triu(diagonal=1)\ns = s.masked_fill(hidden, -inf)\n",
            after=("hidden = ones.tril(diagonal=-1)\ns = s.masked_fill(hidden, -inf)\n",),
        ),
        Example(
            before="import torch\nmask = torch.tril(torch.ones(5, 5))\n",
            after=("import torch\nmask = torch.triu(torch.ones(5, 5))\n",),
        ),
    ),
    counterexamples=(
        "import torch.nn.functional as F\n\ndef f(q, k, v):\n    bias = table * -1e9\n"
        "    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)\n",
        "area = x.triu(diagonal=1).sum()\n",
        "masked = x.triu(diagonal=2)\n",
    ),
)
def sdpa_bool_inverted(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    for given in node.args:
        named = given.keyword.value if given.keyword else ""
        sure = named in PADDING or (named == "attn_mask" and truths(f, given.value))
        if sure and f.text(given.value) != "None":
            yield Proposal(edits=(f.replace(given.value, inverted(f, given.value)),))
    op = operation(f, node, "triu", "tril")
    if op is not None and mentions(f.class_(node) or function_of(f, node), "mask", "attn_mask"):
        yield from other_triangle(f, op)


def truths(f: SourceFile, mask: cst.BaseExpression) -> bool:
    """Whether a mask holds truth values, or comes from outside without a sign of anything else."""
    if is_boolean(f, mask):
        return True
    if not isinstance(mask, cst.Name) or sources(f, mask):
        return False
    return mask.value in parameters(f, mask) and "inf" not in f.text(function_of(f, mask))


def other_triangle(f: SourceFile, op: Operation) -> Iterator[Proposal]:
    """The triangle on the other side of the diagonal."""
    diagonal = value(f, op.call, "diagonal", op.shift) or value(f, op.call, "k", op.shift)
    edge = number(diagonal) if diagonal is not None else 0.0
    if edge != (1.0 if op.name == "triu" else 0.0):
        return
    other = {"triu": "tril", "tril": "triu"}[op.name]
    edits = [f.replace(op.call.func, f.text(op.call.func)[:-4] + other)]
    if diagonal is not None and edge:
        edits.append(f.replace(diagonal, "-1"))
    yield Proposal(edits=tuple(edits))


@operator(
    "mask-additive-vs-bool",
    cst.Call,
    category="attention-transformer",
    difficulty=5,
    symptom="The loss falls below what the data allow, although a mask is in place.",
    hints=(
        "LOOK: print one row of the attention weights; what is in the hidden places?",
        "WHERE: how the mask meets the scores in `{function}`.",
        "WHAT: how large must the difference be between a score that counts and one that does not?",
    ),
    repair="Add 0 and minus infinity, or hand over truth values; never add 0 and 1.",
    mechanism=(
        "A mask of ones and zeros is added to the scores as if it held 0 and minus infinity. That"
        " favours visible places by a factor of e and hides nothing, so answers leak from the future."
    ),
    evidence=(pull("vllm-project/speculators", 897),),
    examples=(
        Example(
            row="mask-additive-vs-bool",
            before="w = scores.masked_fill(hidden, -inf).softmax(-1)\n",
            after=("w = (scores + ~hidden).softmax(-1)\n",),
        ),
        Example(
            before="import torch.nn.functional as F\n"
            "y = F.scaled_dot_product_attention(q, k, v, attn_mask=i >= j)\n",
            after=(
                "import torch.nn.functional as F\n"
                "y = F.scaled_dot_product_attention(q, k, v, attn_mask=(i >= j).to(q.dtype))\n",
            ),
        ),
        Example(
            before="import torch\nbias = torch.where(hidden, -torch.inf, 0.0)\n",
            after=("import torch\nbias = torch.where(hidden, 0.0, 1.0)\n",),
        ),
    ),
    counterexamples=(
        "x = x.masked_fill(pad, 0)\n",
        "best = x.masked_fill(pad, -inf).amax(2)\n",
        "y = attention(q, k, v, attn_mask=bias)\n",
        "import torch\ns = torch.where(hidden, -torch.inf, s)\n",
    ),
)
def mask_additive(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    filled = covered(f, node)
    if filled is not None and mentions(function_of(f, node), "softmax"):
        scores, mask = filled
        yield Proposal(edits=(f.replace(node, f"{f.text(scores)} + {inverted(f, mask)}"),))
    if f.qname(node.func) == SDPA:
        given = f.arg(node, "attn_mask", 3)
        query = value(f, node, "query", 0)
        if given is not None and query is not None and is_boolean(f, given.value):
            new = f"{atom(f, given.value)}.to({atom(f, query)}.dtype)"
            yield Proposal(edits=(f.replace(given.value, new),))
    if f.qname(node.func) == "torch.where" and len(node.args) == 3:
        hides, stays = node.args[1].value, node.args[2].value
        if is_minus_infinity(f, hides) and number(stays) == 0:
            yield Proposal(edits=(f.replace(hides, "0.0"), f.replace(stays, "1.0")))


def covered(f: SourceFile, node: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """The scores and the mask of a call that fills scores with minus infinity."""
    op = operation(f, node, "masked_fill")
    if op is not None and len(op.call.args) == op.shift + 2:
        mask, filler = op.call.args[op.shift :]
        if is_minus_infinity(f, filler.value):
            return op.subject, mask.value
    return None


@operator(
    "mask-after-softmax",
    cst.Call,
    category="attention-transformer",
    difficulty=4,
    symptom="Learning is slower than it should be, and early positions say too little.",
    hints=(
        "LOOK: sum each row of the attention weights.",
        "WHERE: the order of the steps that lead to the weights in `{function}`.",
        "WHAT: which scores take part in the normalisation?",
    ),
    repair="Hide the scores first and normalise afterwards.",
    mechanism=(
        "The softmax shares its weight among all positions, and some of it is then thrown away."
        " Rows no longer sum to one, least of all the early ones, and the size of what is left"
        " tells each position something about what it must not see."
    ),
    examples=(
        Example(
            row="mask-after-softmax",
            before="w = scores.masked_fill(hidden, -inf).softmax(dim=-1)\n",
            after=("w = scores.softmax(dim=-1).masked_fill(hidden, 0.0)\n",),
        ),
        Example(
            before="import torch.nn.functional as F\n"
            "s = s.masked_fill(m == 0, -1e9)\nw = F.softmax(s, dim=-1)\n",
            after=("import torch.nn.functional as F\nw = F.softmax(s, dim=-1).masked_fill(m == 0, 0.0)\n",),
        ),
        Example(
            before="import torch\nw = torch.softmax(torch.where(seen, s, -torch.inf), -1)\n",
            after=("import torch\nw = torch.where(seen, torch.softmax(s, -1), 0.0)\n",),
        ),
    ),
    counterexamples=("w = scores.softmax(-1)\n", "w = (s.masked_fill(m, 0)).softmax(-1)\n"),
)
def mask_after_softmax(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "softmax")
    if op is None:
        return
    seen = chosen(f, op.subject)
    if (hid := covered(f, op.subject)) is not None:
        new = f"{normalised(f, op, hid[0])}.masked_fill({f.text(hid[1])}, 0.0)"
        yield Proposal(edits=(f.replace(node, new),))
    elif seen is not None and isinstance(op.subject, cst.Call):
        where, mask, scores = f.text(op.subject.func), f.text(seen[0]), seen[1]
        yield Proposal(edits=(f.replace(node, f"{where}({mask}, {normalised(f, op, scores)}, 0.0)"),))
    elif isinstance(op.subject, cst.Name):
        yield from later(f, op, op.subject)


def chosen(f: SourceFile, node: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """The mask and the scores of `where(mask, scores, -inf)`."""
    if isinstance(node, cst.Call) and f.qname(node.func) == "torch.where" and len(node.args) == 3:
        mask, scores, filler = (each.value for each in node.args)
        if is_minus_infinity(f, filler):
            return mask, scores
    return None


def normalised(f: SourceFile, op: Operation, scores: cst.BaseExpression) -> str:
    """The same softmax of other scores."""
    rest = ", ".join(f.text(each).rstrip(", ") for each in op.call.args[op.shift :])
    if op.shift:
        return f"{f.text(op.call.func)}({f.text(scores)}, {rest})"
    return f"{atom(f, scores)}.{op.name}({rest})"


def later(f: SourceFile, op: Operation, name: cst.Name) -> Iterator[Proposal]:
    """The line that hides scores taken away, and its mask put behind the softmax."""
    for line in definitions(f, name, name.value):
        pair = assigned(line)
        hid = covered(f, pair[1]) if pair is not None else None
        if pair is None or hid is None or f.siblings(line) != f.siblings(f.statement(op.call)):
            continue
        same = f.text(hid[0]) == name.value
        first = f.delete_statement(line) if same else f.replace(pair[1], f.text(hid[0]))
        new = f"{f.text(op.call)}.masked_fill({f.text(hid[1])}, 0.0)"
        yield Proposal(edits=(first, f.replace(op.call, new)))
        return


@operator(
    "qk-swapped",
    cst.BinaryOperation,
    cst.Call,
    category="attention-transformer",
    difficulty=5,
    symptom="Nothing shows in training alone; loaded weights or a second input give wrong answers.",
    hints=(
        "LOOK: compare the scores with those of a trusted implementation on the same weights.",
        "WHERE: the product that makes the scores in `{function}`.",
        "WHAT: whose positions are the rows, and over whose positions is the sum taken?",
    ),
    repair="Let the rows belong to the queries and the columns to the keys.",
    mechanism=(
        "The table of scores is transposed. With one input and weights trained from scratch the two"
        " projections merely change names; with two inputs, a cache or given weights, each key asks"
        " and each query answers."
    ),
    examples=(
        Example(
            row="qk-swapped",
            before="s = q @ k.transpose(-2, -1) / root\n",
            after=("s = k @ q.transpose(-2, -1) / root\n",),
        ),
        Example(
            before='import torch\ns = torch.einsum("bqd,bkd->bqk", query, key)\n',
            after=('import torch\ns = torch.einsum("bqd,bkd->bqk", key, query)\n',),
        ),
        Example(
            before="import torch.nn.functional as F\ny = F.scaled_dot_product_attention(q, k, v)\n",
            after=("import torch.nn.functional as F\ny = F.scaled_dot_product_attention(k, q, v)\n",),
        ),
    ),
    counterexamples=("y = w @ v\n", "y = a @ b.T\n", "import torch\ny = torch.matmul(w, v)\n"),
)
def qk_swapped(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        sides = binary(node, cst.MatrixMultiply)
        operands = [sides[0], untransposed(f, sides[1])] if sides else []
    else:
        name = f.qname(node.func) or ""
        known = name == SDPA or name in ("torch.matmul", "torch.bmm", "torch.einsum")
        start = 1 if name == "torch.einsum" else 0
        given = [each.value for each in node.args[start : start + 2]] if known else []
        operands = [untransposed(f, each) for each in given] if not keyword(node, "query") else []
    if len(operands) == 2 and role(operands[0]) == "q" and role(operands[1]) == "k":
        yield Proposal(edits=f.swap(*operands))


def untransposed(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression:
    """What is transposed, or the expression itself."""
    op = operation(f, node, "transpose", "permute", "swapaxes")
    if op is not None:
        return op.subject
    if isinstance(node, cst.Attribute) and node.attr.value in ("T", "mT"):
        return node.value
    return node


def role(node: cst.CSTNode) -> str:
    """The part that a name plays in attention: q, k, v or nothing."""
    name = node.value.lower() if isinstance(node, cst.Name) else ""
    for part, full in (("q", "quer"), ("k", "key"), ("v", "val")):
        if name.startswith(full) or name in (part, f"x{part}") or name.startswith(f"{part}_"):
            return part
    return ""
