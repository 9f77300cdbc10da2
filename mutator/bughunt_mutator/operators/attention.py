"""Mistakes in attention, masks, positions and the targets of language models."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    axis,
    binary,
    function_of,
    inside,
    last_name,
    mentions,
    number,
    operation,
    orphans,
    value,
)
from bughunt_mutator.operators._sources import RECIPE, issue, pull
from bughunt_mutator.source import SourceFile


@operator(
    "causal-mask-missing",
    cst.Call,
    category="attention-transformer",
    difficulty=2,
    symptom="The loss falls below what is possible, and the model's own continuations are poor.",
    hints=(
        "LOOK: change a late token; which outputs change?",
        "WHERE: who may look at whom in `{function}`.",
        "WHAT: could the model have seen what it is asked for?",
    ),
    repair="Hide later positions before the softmax.",
    mechanism=(
        "Every position sees the whole sentence, its own answer included. Copying is easier than"
        " predicting, so that is what is learned; in use there is nothing to copy."
    ),
    evidence=(
        issue("huggingface/transformers", 48745),
        issue("facebookresearch/xformers", 103),
        RECIPE,
    ),
    examples=(
        Example(
            row="causal-mask-missing",
            before="a = s.masked_fill(self.mask, -inf).softmax(-1)\n",
            after=("a = s.softmax(-1)\n",),
        ),
        Example(
            before="import torch.nn.functional as F\n"
            "y = F.scaled_dot_product_attention(q, k, v, is_causal=True)\n",
            after=("import torch.nn.functional as F\ny = F.scaled_dot_product_attention(q, k, v)\n",),
        ),
    ),
    counterexamples=("x = x.masked_fill(pad, 0)\n",),
)
def causal_mask_missing(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "masked_fill")
    if op is not None and len(node.args) == op.shift + 2:
        mask, filler = node.args[op.shift :]
        if "inf" in f.text(filler.value):
            yield from hidden(f, node, op.subject, mask.value)
    causal = f.arg(node, "is_causal", None)
    if causal is not None and f.text(causal.value) == "True":
        yield Proposal(edits=(f.delete_arg(node, causal),))


def hidden(
    f: SourceFile, node: cst.Call, scores: cst.BaseExpression, mask: cst.BaseExpression
) -> Iterator[Proposal]:
    """The scores as they are, without the lines that made a mask nobody needs now."""
    plain = f.replace(node, f.text(scores))
    if not orphans(f, mask):
        yield Proposal(edits=(plain,))
        return
    for line in inside(function_of(f, node), cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is not None and f.text(pair[0]) == f.text(mask) and not orphans(f, pair[1]):
            yield Proposal(edits=(f.delete_statement(line), plain))
            return


@operator(
    "causal-mask-off-by-one",
    cst.Call,
    category="attention-transformer",
    difficulty=3,
    symptom="The loss goes to zero; what the model writes on its own makes no sense.",
    hints=(
        "LOOK: change the token at one position; from which output on do things change?",
        "WHERE: the edge of the triangle in `{function}`.",
        "WHAT: may a position see the one that comes next?",
    ),
    repair="Hide everything that comes after the position itself.",
    mechanism=(
        "Each position sees one token too many, and that is exactly the one it is asked for."
        " Copying it solves the training task completely and is no use afterwards."
    ),
    evidence=(issue("huggingface/transformers", 48745), RECIPE),
    examples=(
        Example(
            row="causal-mask-off-by-one",
            before="import torch\nm = ones.triu(diagonal=1)\nn = torch.tril(ones)\n",
            after=(
                "import torch\nm = ones.triu(diagonal=2)\nn = torch.tril(ones)\n",
                "import torch\nm = ones.triu(diagonal=1)\nn = torch.tril(ones, diagonal=1)\n",
            ),
        ),
    ),
    counterexamples=("m = ones.triu(diagonal=k)\n", "triu(1)\n"),
)
def causal_mask_off(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "triu", "tril")
    if op is None:
        return
    diagonal = value(f, node, "diagonal", op.shift) or value(f, node, "k", op.shift)
    if diagonal is None:
        if op.name == "tril":
            yield Proposal(edits=(f.insert_arg(node, "diagonal=1"),))
    elif (edge := number(diagonal)) is not None:
        yield Proposal(edits=(f.replace(diagonal, str(int(edge) + 1)),))


def is_scores(node: cst.CSTNode) -> bool:
    """Whether an expression is a product of queries and keys."""
    return bool(binary(node, cst.MatrixMultiply)) or (
        isinstance(node, cst.Call) and last_name(node.func) in ("matmul", "einsum", "bmm")
    )


@operator(
    "sqrt-dk-missing",
    cst.BinaryOperation,
    category="attention-transformer",
    difficulty=3,
    symptom="Attention is sharper than it should be in a fresh model.",
    hints=(
        "LOOK: print the entropy of the attention weights of a fresh model.",
        "WHERE: the scores in `{function}`.",
        "WHAT: how does the spread of a dot product grow with the length of its vectors?",
    ),
    repair="Divide the scores by the root of the length of a key.",
    mechanism=(
        "A dot product of long random vectors is large. The softmax of large numbers is nearly"
        " one-hot, and passes hardly any gradient to all the others."
    ),
    evidence=(pull("mlc-ai/mlc-llm", 3426), "https://arxiv.org/abs/1706.03762"),
    examples=(
        Example(
            row="sqrt-dk-missing",
            before="def f(q, k, root):\n    return q @ k.mT / root\n",
            after=("def f(q, k, root):\n    return q @ k.mT\n",),
        ),
    ),
    counterexamples=(
        "y = a * b / root\n",
        "y = q @ k\n",
        "means = shares.T @ x / counts[:, None]\n",
        "spread = c.T @ c / (len(x) - 1)\n",
    ),
)
def sqrt_dk_missing(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide, cst.Multiply)
    if sides is None or not is_scores(sides[0]) or counts(f, sides[1]):
        return
    if not orphans(f, sides[1]):
        yield Proposal(edits=(f.replace(node, f.text(sides[0])),))


def counts(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression counts things or indexes them, as an average divides by."""
    return "len(" in f.text(node) or any(True for _ in inside(node, cst.Subscript))


@operator(
    "sqrt-d-model",
    cst.Call,
    category="attention-transformer",
    difficulty=4,
    symptom="Attention is blunter than it should be, most of all early on.",
    hints=(
        "LOOK: print the spread of the attention scores of a fresh model.",
        "WHERE: the scale in `{function}`.",
        "WHAT: how long are the vectors whose dot product is taken?",
    ),
    repair="Scale by the length of one head's key.",
    mechanism=(
        "The scale belongs to the vectors that are multiplied, which are those of one head. With"
        " more heads' worth of channels, scores are too small and attention is nearly uniform."
    ),
    evidence=(
        issue("aladdinpersson/Machine-Learning-Collection", 65),
        pull("omihub777/ViT-CIFAR", 12),
    ),
    examples=(
        Example(
            row="sqrt-d-model",
            before="import math\ns = q @ k.mT / math.sqrt(K)\n",
            after=("import math\ns = q @ k.mT / math.sqrt(q.size(1) * K)\n",),
        ),
    ),
    counterexamples=("import math\ns = a * b / math.sqrt(K)\n",),
)
def sqrt_d_model(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    sides = binary(f.parent.get(node), cst.Divide)
    if f.qname(node.func) != "math.sqrt" or sides is None or sides[1] is not node:
        return
    product = binary(sides[0], cst.MatrixMultiply)
    if product is not None and isinstance(product[0], cst.Name):
        width = node.args[0].value
        new = f"{product[0].value}.size(1) * {f.text(width)}"
        yield Proposal(edits=(f.replace(width, new),))


@operator(
    "softmax-wrong-dim",
    cst.Call,
    category="attention-transformer",
    difficulty=3,
    symptom="It learns, but worse; results depend on what they should not depend on.",
    hints=(
        "LOOK: sum the weights along each axis; along which one is the sum one?",
        "WHERE: the normalisation in `{function}`.",
        "WHAT: what should one row of weights share out?",
    ),
    repair="Normalise over the axis that is summed over afterwards.",
    mechanism=(
        "Along the other axis, weights of different rows compete with each other, and those of one"
        " row no longer sum to one. In attention, later positions influence earlier ones."
    ),
    evidence=(issue("DEEP-PolyU/KEQA_WSDM19", 2),),
    examples=(
        Example(
            row="softmax-wrong-dim",
            before="a = scores.softmax(dim=-1)\n",
            after=("a = scores.softmax(dim=-2)\n",),
        ),
        Example(
            before="from torch.nn.functional import softmax as s\na = s(x, 1)\n",
            after=("from torch.nn.functional import softmax as s\na = s(x, 0)\n",),
        ),
    ),
    counterexamples=("a = softmax(x, -1)\n", "a = x.softmax(dim=axis)\n"),
)
def softmax_wrong_dim(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "softmax", "log_softmax")
    along = axis(f, op) if op is not None else None
    other = {-1: "-2", 1: "0", 2: "1", 3: "2"}.get(int(number(along) or 0))
    if along is not None and other is not None:
        yield Proposal(edits=(f.replace(along, other),))


@operator(
    "heads-view-no-transpose",
    cst.Call,
    category="attention-transformer",
    difficulty=4,
    symptom="The loss falls too far, and held-out sentences are continued badly.",
    hints=(
        "LOOK: change a late token; which outputs change?",
        "WHERE: how `{function}` splits channels into heads.",
        "WHAT: which numbers end up together in one head?",
    ),
    repair="Split the channels where they are, then exchange the axes.",
    mechanism=(
        "Cut directly into the final shape, each head gets a stretch of time instead of a share of"
        " the channels. Positions are mixed, and a causal mask no longer protects the future."
    ),
    evidence=(issue("zhouhaoyi/Informer2020", 59),),
    examples=(
        Example(
            row="heads-view-no-transpose",
            before="q = x.view(B, T, H, K).transpose(1, 2)\n",
            after=("q = x.view(B, H, T, K)\n",),
        ),
        Example(
            before="q, k, v = x.view(B, T, 3, H, -1).permute(2, 0, 3, 1, 4)\n",
            after=("q, k, v = x.view(B, T, 3, H, -1).reshape(3, B, H, T, -1)\n",),
        ),
    ),
    counterexamples=("q = x.view(B, T, C).transpose(1, 2)\n",),
)
def heads_view(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "transpose", "permute")
    inner = operation(f, op.subject, "view", "reshape") if op is not None else None
    if op is None or inner is None or inner.shift:
        return
    sizes = [f.text(each.value) for each in inner.call.args]
    order = [f.text(each.value) for each in node.args[op.shift :]]
    if len(sizes) == 4 and order == ["1", "2"]:
        B, T, H, K = sizes
        new = f"{f.text(inner.call.func)}({B}, {H}, {T}, {K})"
        yield Proposal(edits=(f.replace(node, new),))
    elif len(sizes) == 5 and order == ["2", "0", "3", "1", "4"]:
        shape = ", ".join(sizes[int(place)] for place in order)
        yield Proposal(edits=(f.replace(node, f"{f.text(op.subject)}.reshape({shape})"),))


@operator(
    "heads-merge-no-transpose",
    cst.Call,
    category="attention-transformer",
    difficulty=4,
    symptom="The loss falls below what is possible.",
    hints=(
        "LOOK: change a late token; which outputs change?",
        "WHERE: how `{function}` puts the heads together again.",
        "WHAT: which numbers become the channels of one position?",
    ),
    repair="Bring the heads next to the channels before merging them.",
    mechanism=(
        "Merged as they lie, the channels of one position come from one head at several positions."
        " Time is scrambled after the mask has done its work, and answers leak back."
    ),
    evidence=(issue("zhouhaoyi/Informer2020", 59), issue("HHTseng/video-classification", 42)),
    examples=(
        Example(
            row="heads-merge-no-transpose",
            before="y = (a @ v).transpose(1, 2).reshape(B, T, C)\n",
            after=("y = (a @ v).reshape(B, T, C)\n",),
        ),
        Example(
            before="y = g.transpose(1, 2).contiguous().view(B, T, -1)\n",
            after=("y = g.contiguous().view(B, T, -1)\n",),
        ),
    ),
    counterexamples=("y = g.transpose(1, 2)\n", "y = g.transpose(0, 1).reshape(T, B, C)\n"),
)
def heads_merge(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "transpose")
    if op is None or [f.text(each.value) for each in node.args[op.shift :]] != ["1", "2"]:
        return
    following = f.parent.get(node)
    text = f.text(f.parent[following]) if isinstance(following, cst.Attribute) else ""
    tail = text.removeprefix(f.text(node))
    if tail.startswith((".reshape(", ".contiguous(")):
        yield Proposal(edits=(f.replace(node, f.text(op.subject)),))


@operator(
    "value-from-key",
    cst.BinaryOperation,
    category="attention-transformer",
    difficulty=4,
    symptom="It learns, but a part of the model has no effect.",
    hints=(
        "LOOK: which rows of the projection receive no gradient?",
        "WHERE: the three roles in `{function}`.",
        "WHAT: what is looked for, and what is brought back?",
    ),
    repair="Gather the values.",
    mechanism=(
        "What is brought back is what was compared. Keys must then serve two purposes, and the"
        " value projection is never used."
    ),
    evidence=("https://arxiv.org/abs/1706.03762",),
    examples=(
        Example(
            row="value-from-key",
            before="def f(q, k, v):\n    w = (q @ k.mT).softmax(-1)\n    return w @ v\n",
            after=("def f(q, k, v):\n    w = (q @ k.mT).softmax(-1)\n    return w @ k\n",),
        ),
    ),
    counterexamples=("def f(a, v):\n    return a @ v\n",),
)
def value_from_key(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.MatrixMultiply)
    key = {"v": "k", "value": "key", "values": "keys"}.get(last_name(sides[1]) if sides else "")
    home = f.function(node)
    if sides is None or key is None or home is None or orphans(f, sides[1]):
        return
    if mentions(home, key) and isinstance(sides[1], cst.Name):
        yield Proposal(edits=(f.replace(sides[1], key),))


@operator(
    "pos-enc-single-index",
    cst.Call,
    category="attention-transformer",
    difficulty=4,
    symptom="The order of the input does not matter to the model.",
    hints=(
        "LOOK: shuffle the input; does the output change?",
        "WHERE: what `{function}` adds to the tokens.",
        "WHAT: does each position get something of its own?",
    ),
    repair="Look up one vector for each position.",
    mechanism=(
        "One vector is added to all positions. It shifts everything alike, so that the model knows"
        " which tokens there are, and nothing about where they stand."
    ),
    evidence=(issue("DiffPoseTalk/DiffPoseTalk", 20),),
    examples=(
        Example(
            row="pos-enc-single-index",
            before="import torch\nt = torch.arange(x.size(1), device=x.device)\ny = self.position(t)\n",
            after=("import torch\nt = torch.tensor(x.size(1) - 1, device=x.device)\ny = self.position(t)\n",),
        ),
    ),
    counterexamples=("import torch\nt = torch.arange(9)\ny = x[t]\n",),
)
def single_position(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if not is_time(f, node):
        return
    count = node.args[0].value
    yield Proposal(
        edits=(
            f.replace(node.func, f.text(node.func)[:-6] + "tensor"),
            f.replace(count, f"{f.text(count)} - 1"),
        )
    )


def is_time(f: SourceFile, node: cst.Call) -> bool:
    """Whether a call counts the positions that are then looked up."""
    if f.qname(node.func) != "torch.arange" or not node.args or node.args[0].keyword:
        return False
    line = f.statement(node)
    pair = assigned(line)
    name = f.text(pair[0]) if pair is not None and pair[1] is node else f.text(node)
    return any(
        "pos" in f.text(call.func).lower() and call.args and f.text(call.args[0].value) == name
        for call in inside(function_of(f, node), cst.Call)
    )


@operator(
    "pos-enc-batch-axis",
    cst.Call,
    category="attention-transformer",
    difficulty=3,
    symptom="Order does not matter to the model, but the place in the batch does.",
    hints=(
        "LOOK: put the same row at two places of a batch and compare the answers.",
        "WHERE: what `{function}` counts.",
        "WHAT: which axis is time?",
    ),
    repair="Count along the time axis.",
    mechanism=(
        "Rows of the batch are numbered instead of positions. All tokens of a row get the same"
        " number, and the number says nothing."
    ),
    evidence=(issue("songyangco/GETNext", 2), issue("tanjimin/C.Origami", 42)),
    examples=(
        Example(
            row="pos-enc-batch-axis",
            before="import torch\ny = self.pos(torch.arange(x.size(1)))\n",
            after=("import torch\ny = self.pos(torch.arange(x.size(0))[:, None])\n",),
        ),
    ),
    counterexamples=("import torch\ny = self.pos(torch.arange(9))\n",),
)
def batch_positions(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if is_time(f, node) and f.text(node.args[0].value).endswith((".size(1)", ".shape[1]")):
        counted = f.text(node)
        for one, other in ((".size(1)", ".size(0)"), (".shape[1]", ".shape[0]")):
            counted = counted.replace(one, other, 1)
        yield Proposal(edits=(f.replace(node, f"{counted}[:, None]"),))


@operator(
    "targets-unshifted",
    cst.Subscript,
    category="attention-transformer",
    difficulty=1,
    symptom="The loss goes to zero within a few steps.",
    hints=(
        "LOOK: print one input and one target side by side.",
        "WHERE: what `{function}` pairs with what.",
        "WHAT: is the answer part of the question?",
    ),
    repair="Pair each token with the one after it.",
    mechanism="The model is asked for the token that it is given. Copying it is all there is to do.",
    evidence=(issue("Project-MONAI/GenerativeModels", 314), pull("ayaka14732/bart-base-jax", 6)),
    examples=(
        Example(
            row="targets-unshifted",
            before="x, y = w[:, :-1], w[:, 1:]\n",
            after=("x, y = w[:, :-1], w[:, :-1]\n",),
        ),
    ),
    counterexamples=(
        "y = w[:, 1:]\n",
        "x, y = w[:, :-1], v[:, 1:]\n",
        "rises = x[1:] > x[:-1]\n",
        "gaps = x[1:] - x[:-1]\n",
    ),
)
def targets_unshifted(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    text = f.text(node)
    if not text.endswith((", 1:]", "[1:]")) or isinstance(
        f.parent[node], cst.Comparison | cst.ComparisonTarget | cst.BinaryOperation
    ):
        return
    inputs = text[: -len("1:]")] + ":-1]"
    for other in inside(f.statement(node), cst.Subscript):
        if f.text(other) == inputs:
            yield Proposal(edits=(f.replace(node, inputs),))
            return
