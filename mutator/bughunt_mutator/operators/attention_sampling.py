"""Mistakes in how the next token is drawn from what a model says."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    function_of,
    inside,
    last_name,
    loads,
    number,
    operation,
    value,
)
from bughunt_mutator.operators._look_models import atom, sources, words
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile

SAMPLING = frozenset({
    "sample", "sampling", "sampled", "sampler", "generate", "generation", "decode", "multinomial",
    "categorical", "gumbel", "temperature", "temp", "nucleus", "topp",
})  # fmt: skip
CHOOSING = frozenset({"next", "draw", "pick", "choose", "probabilities"})
ROUTING = frozenset({"expert", "experts", "gate", "gates", "router", "routing", "moe", "recall", "hits"})
LOOSER: dict[type[cst.BaseCompOp], str] = {cst.LessThan: "<=", cst.GreaterThanEqual: ">"}
SHIFTS = (("[..., 1:]", "[..., :-1]"), ("[:, 1:]", "[:, :-1]"), ("[1:]", "[:-1]"))


def draws_tokens(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a function chooses among the answers of a model."""
    known = words(" ".join(loads(function_of(f, node))))
    home = f.function(node)
    known |= words(home.name.value) if home is not None else frozenset()
    return bool(known & SAMPLING) and not known & ROUTING


def compared(node: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseCompOp, cst.BaseExpression] | None:
    """Both sides of a comparison with one operator."""
    if isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        return node.left, node.comparisons[0].operator, node.comparisons[0].comparator
    return None


@operator(
    "top-p-excludes-crossing",
    cst.Comparison,
    cst.SimpleStatementLine,
    category="attention-transformer",
    difficulty=3,
    symptom="Samples are a little too tame; a token that is nearly certain can become impossible.",
    hints=(
        "LOOK: take probabilities 0.6, 0.3, 0.1 and a threshold of 0.5; which tokens are left?",
        "WHERE: the comparison with the threshold in `{function}`.",
        "WHAT: is the token that takes the sum over the threshold in or out?",
    ),
    repair="Keep a token if the sum of those before it is still below the threshold.",
    mechanism=(
        "The nucleus is the smallest set whose probabilities reach the threshold, so the token that"
        " crosses it belongs to the set. Left out, the set always falls short, and it is empty when"
        " the first token alone is above the threshold."
    ),
    evidence=(
        pull("Biohub/esm", 360),
        issue("rasbt/reasoning-from-scratch", 164),
        pull("fishaudio/fish-speech", 1171),
    ),
    examples=(
        Example(
            row="top-p-excludes-crossing",
            before="keep = (p.cumsum(-1) - p) < top_p\n",
            after=("keep = p.cumsum(-1) <= top_p\n",),
        ),
        Example(
            before="def f(p, top_p):\n    total = p.cumsum(-1)\n"
            "    drop = total - p > top_p\n    return drop\n",
            after=(
                "def f(p, top_p):\n    total = p.cumsum(-1)\n    drop = total > top_p\n    return drop\n",
            ),
        ),
        Example(
            before="drop = p.cumsum(-1) > top_p\ndrop[..., 1:] = drop[..., :-1].clone()\ndrop[..., 0] = 0\n",
            after=("drop = p.cumsum(-1) > top_p\ndrop[..., 0] = 0\n",),
        ),
    ),
    counterexamples=("keep = p.cumsum(-1) < n\n", "x[..., 1:] = x[..., :-1].clone()\n", "a = b - c < d\n"),
)
def top_p_excludes(f: SourceFile, node: cst.Comparison | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        if is_shifted_nucleus(f, node):
            yield Proposal(edits=(f.delete_statement(node),))
        return
    sides = compared(node)
    before = binary(sides[0], cst.Subtract) if sides is not None else None
    if sides is None or before is None or not is_running_sum(f, before[0]):
        return
    sign = {cst.LessThan: "<=", cst.LessThanEqual: "<=", cst.GreaterThan: ">", cst.GreaterThanEqual: ">"}
    if type(sides[1]) in sign:
        new = f"{f.text(before[0])} {sign[type(sides[1])]} {f.text(sides[2])}"
        yield Proposal(edits=(f.replace(node, new),))


def is_running_sum(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether a value is a cumulative sum."""
    return any(
        last_name(call.func) == "cumsum"
        for each in (node, *sources(f, node))
        for call in inside(each, cst.Call)
    )


def is_shifted_nucleus(f: SourceFile, line: cst.SimpleStatementLine) -> bool:
    """Whether a statement moves the set of dropped tokens by one place."""
    pair = assigned(line)
    if pair is None or not isinstance(pair[0], cst.Subscript):
        return False
    name = pair[0].value
    for late, early in SHIFTS:
        if f.text(pair[0]) == f.text(name) + late and f.text(pair[1]).startswith(f.text(name) + early):
            origins = sources(f, name)
            return any(isinstance(each, cst.Comparison) and is_running_sum(f, each.left) for each in origins)
    return False


@operator(
    "top-k-off-by-one",
    cst.Comparison,
    cst.Call,
    category="attention-transformer",
    difficulty=2,
    symptom="Samples come from a slightly different set than was asked for.",
    hints=(
        "LOOK: ask for the one best token many times; is the answer always the same?",
        "WHERE: the border between kept and dropped in `{function}`.",
        "WHAT: how many tokens are left when k is one?",
    ),
    repair="Keep exactly k tokens.",
    mechanism=(
        "Ranks start at zero and the k-th best score is itself among the best, so each border has a"
        " side on which it counts one too many or too few. The effect is small for a large k, and"
        " for k of one it changes greedy decoding into something else."
    ),
    evidence=(issue("kingoflolz/mesh-transformer-jax", 164),),
    examples=(
        Example(
            row="top-k-off-by-one",
            before="def sample(s, top_k):\n    best = s.topk(top_k).values\n"
            "    return s.masked_fill(s < best[..., -1:], -inf)\n",
            after=(
                "def sample(s, top_k):\n    best = s.topk(top_k + 1).values\n"
                "    return s.masked_fill(s < best[..., -1:], -inf)\n",
                "def sample(s, top_k):\n    best = s.topk(top_k).values\n"
                "    return s.masked_fill(s <= best[..., -1:], -inf)\n",
            ),
        ),
        Example(
            before="def sample(s, rank, k):\n    return s.masked_fill(rank >= k, -inf)\n",
            after=("def sample(s, rank, k):\n    return s.masked_fill(rank > k, -inf)\n",),
        ),
    ),
    counterexamples=(
        "def route(gates, k):\n    return gates.topk(k)\n",
        "def sample(x, n):\n    return x < n\n",
    ),
)
def top_k_off(f: SourceFile, node: cst.Comparison | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        op = operation(f, node, "topk")
        count = value(f, node, "k", op.shift) if op is not None else None
        if count is not None and draws_tokens(f, node):
            exact = number(count)
            new = f"{f.text(count)} + 1" if exact is None else str(int(exact) + 1)
            yield Proposal(edits=(f.replace(count, new),))
        return
    sides = compared(node)
    if sides is None or type(sides[1]) not in LOOSER:
        return
    ranked = bool(words(f.text(sides[0])) & {"rank", "ranks"}) and "k" in words(f.text(sides[2]))
    border = ranked or (isinstance(sides[1], cst.LessThan) and is_kth_best(f, sides[2]))
    if border and draws_tokens(f, node):
        new = f"{f.text(sides[0])} {LOOSER[type(sides[1])]} {f.text(sides[2])}"
        yield Proposal(edits=(f.replace(node, new),))


def is_kth_best(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether a value is the last of the best ones."""
    for each in (node, *sources(f, node)):
        if isinstance(each, cst.Subscript) and "-1" in f.text(each).replace(f.text(each.value), "", 1):
            base = each.value.value if isinstance(each.value, cst.Attribute) else each.value
            if from_top_k(f, each.value) or from_top_k(f, base):
                return True
    return False


def from_top_k(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether a value comes out of a search for the best."""
    if any(
        operation(f, call, "topk") for each in (node, *sources(f, node)) for call in inside(each, cst.Call)
    ):
        return True
    for line in inside(function_of(f, node), cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is not None and isinstance(pair[0], cst.Tuple) and operation(f, pair[1], "topk"):
            return f.text(pair[0].elements[0].value) == f.text(node)
    return False


@operator(
    "temperature-multiplied",
    cst.BinaryOperation,
    cst.AugAssign,
    category="attention-transformer",
    difficulty=2,
    symptom="The dial for variety works backwards: turned down, samples get wilder.",
    hints=(
        "LOOK: draw many tokens at a temperature of 0.5 and of 2 and compare the entropies.",
        "WHERE: how the temperature enters `{function}`.",
        "WHAT: do the gaps between logits grow or shrink as it gets colder?",
    ),
    repair="Divide the logits by the temperature.",
    mechanism=(
        "Division by a small temperature widens the gaps between logits and makes the choice sharper."
        " Multiplication does the reverse. At a temperature of one both agree, which is where most"
        " people try it first."
    ),
    evidence=(pull("sgl-project/sglang-jax", 1563),),
    examples=(
        Example(
            row="temperature-multiplied",
            before="def sample(logits, temperature):\n    return draw((logits / temperature).softmax(-1))\n",
            after=(
                "def sample(logits, temperature):\n    return draw((logits * temperature).softmax(-1))\n",
            ),
        ),
        Example(
            before="def sample(logits, cfg):\n    logits /= cfg.temperature\n    return logits\n",
            after=("def sample(logits, cfg):\n    logits *= cfg.temperature\n    return logits\n",),
        ),
    ),
    counterexamples=(
        "def loss(a, b, temperature):\n    return cross_entropy(a @ b.T / temperature)\n",
        "def sample(x, n):\n    return x / n\n",
    ),
)
def temperature_multiplied(f: SourceFile, node: cst.BinaryOperation | cst.AugAssign) -> Iterator[Proposal]:
    divides = isinstance(node.operator, cst.Divide | cst.DivideAssign)
    divisor = node.right if isinstance(node, cst.BinaryOperation) else node.value
    warm = {"temperature", "temp", "tau"} & words(f.text(divisor))
    if not divides or not warm or not draws_tokens(f, node):
        return
    home = f.function(node)
    asked = home is not None and bool(words(home.name.value) & (SAMPLING | CHOOSING))
    if asked or drawing(f, node):
        if isinstance(node, cst.BinaryOperation):
            new = f"{f.text(node.left)} * {atom(f, node.right)}"
            yield Proposal(edits=(f.replace(node, new),))
        else:
            yield Proposal(edits=(f.replace(node, f"{f.text(node.target)} *= {f.text(node.value)}"),))


def drawing(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a token is drawn in the function around a node."""
    calls = {last_name(call.func).lower() for call in inside(function_of(f, node), cst.Call)}
    return bool(calls & {"multinomial", "categorical", "argmax", "sample"})
