"""Mistakes in decoding with a cache of keys and values."""

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
    mentions,
    names_in,
    neighbours,
    number,
)
from bughunt_mutator.operators._look_models import parameters, released, sources, words
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.operators.attention_masks import covered, role
from bughunt_mutator.operators.attention_positions import is_rotation
from bughunt_mutator.source import SourceFile

COUNTERS = frozenset(
    {"offset", "pos", "position", "past", "start", "cur", "length", "lengths", "seen", "filled", "used"}
)
CACHES = frozenset({"cache", "past", "kv", "caches", "kvcache"})
WRITES = frozenset({"update", "append", "extend", "write", "put", "push", "store", "add"})


def counts_positions(node: cst.CSTNode) -> bool:
    """Whether a name says that it counts what a cache already holds."""
    return isinstance(node, cst.Name | cst.Attribute) and bool(words(last_name(node)) & COUNTERS)


def about_a_cache(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the function or the class around a node has to do with a cache."""
    return mentions(function_of(f, node), "cache", "past") or mentions(f.class_(node) or node, "cache")


@operator(
    "kv-cache-offset",
    cst.AugAssign,
    cst.Assign,
    cst.Call,
    category="attention-transformer",
    difficulty=4,
    symptom="The curve is as it should be; what is written step by step goes astray.",
    hints=(
        "LOOK: feed a sentence at once and token by token, and compare the logits.",
        "WHERE: the number of the position that `{function}` works at.",
        "WHAT: how many tokens came before the ones that are read now?",
    ),
    repair="Count exactly the tokens that the cache holds.",
    mechanism=(
        "With a cache, a model sees only the new tokens and must be told where they stand. A wrong"
        " count gives them the positions of others. Training reads whole sentences from position"
        " zero, so it never notices."
    ),
    evidence=(pull("skyzh/tiny-llm", 46), pull("huggingface/nanoVLM", 71)),
    examples=(
        Example(
            row="kv-cache-offset",
            before="def generate(net, prompt, cache):\n    offset = 0\n    for _ in range(9):\n"
            "        step(net, offset)\n        offset += 1\n",
            after=(
                "def generate(net, prompt, cache):\n    offset = 0\n    for _ in range(9):\n"
                "        step(net, offset)\n        offset += prompt.size(-1)\n",
            ),
        ),
        Example(
            before="class Cache:\n    def update(self, k):\n        self.length += k.size(2)\n",
            after=("class Cache:\n    def update(self, k):\n        self.length += 1\n",),
        ),
        Example(
            before="class Cache:\n    def advance(self, n):\n        self.lengths = self.lengths + n\n",
            after=("class Cache:\n    def advance(self, n):\n        self.lengths = self.lengths + 1\n",),
        ),
        Example(
            before="import torch\n\ndef f(x, cache):\n    past = cache.length\n"
            "    return pos(torch.arange(past, past + x.size(1)))\n",
            after=(
                "import torch\n\ndef f(x, cache):\n    return pos(torch.arange(x.size(1)))\n",
                "import torch\n\ndef f(x, cache):\n    past = cache.length\n"
                "    return pos(torch.arange(past, past + x.size(1)) - 1)\n",
            ),
        ),
    ),
    counterexamples=(
        "for step in range(9):\n    offset += 1\n",
        "def f(cache, n):\n    total += n\n",
        "import torch\nx = torch.arange(a, a + 3)\n",
    ),
)
def kv_cache_offset(f: SourceFile, node: cst.AugAssign | cst.Assign | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.AugAssign):
        if isinstance(node.operator, cst.AddAssign) and counts_positions(node.target):
            yield from miscounted(f, node.value)
    elif isinstance(node, cst.Assign):
        target, sides = node.targets[0].target, binary(node.value, cst.Add)
        if sides is not None and counts_positions(target) and f.text(sides[0]) == f.text(target):
            yield from miscounted(f, sides[1])
    elif f.qname(node.func) == "torch.arange" and about_a_cache(f, node):
        yield from misplaced(f, node)


def miscounted(f: SourceFile, count: cst.BaseExpression) -> Iterator[Proposal]:
    """One token counted as a whole prompt, or a whole prompt as one token."""
    if not about_a_cache(f, count):
        return
    if number(count) == 1:
        known = sorted(name for name in names_in(function_of(f, count)) if "prompt" in words(name))
        for name in known:
            new = name if words(name) & {"len", "length", "size"} else f"{name}.size(-1)"
            yield Proposal(edits=(f.replace(count, new),))
            return
    elif number(count) is None and (not isinstance(count, cst.Name) or released(f, count) == ()):
        yield Proposal(edits=(f.replace(count, "1"),))


def misplaced(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    """Positions that start again at zero, or one too early."""
    above = f.parent.get(node)
    if len(node.args) >= 2 and not node.args[1].keyword:
        start, end = node.args[0].value, node.args[1].value
        sides = binary(end, cst.Add)
        if sides is None or not counts_positions(start) or f.text(sides[0]) != f.text(start):
            return
        gone = released(f, start, sides[0])
        if gone is not None:
            edits = (f.delete_arg(node, node.args[0]), f.replace(end, f.text(sides[1])))
            yield Proposal(edits=(*gone, *edits))
        if not isinstance(above, cst.BinaryOperation):
            yield Proposal(edits=(f.replace(node, f"{f.text(node)} - 1"),))
    elif (sum_ := binary(above, cst.Add)) is not None:
        other = next(each for each in sum_ if each is not node)
        if counts_positions(other) and (gone := released(f, other)) is not None and above is not None:
            yield Proposal(edits=(*gone, f.replace(above, f.text(node))))


@operator(
    "kv-prefill-unmasked",
    cst.Call,
    category="attention-transformer",
    difficulty=5,
    symptom="Training is right; continuations of a long prompt are worse than they should be.",
    hints=(
        "LOOK: read a prompt with an empty cache and without one, and compare the states.",
        "WHERE: when `{function}` hides anything.",
        "WHAT: how many tokens does the first call with a cache bring at once?",
    ),
    repair="Hide later positions whenever several tokens are read at once, cache or no cache.",
    mechanism=(
        "A single new token may look at everything before it, so it seems that a cache makes the"
        " mask unnecessary. But the prompt is read in one go, and without a mask its early tokens"
        " see later ones: the cache is filled with states that training never produced."
    ),
    evidence=(pull("Mikyx-1/TinyLLM", 18),),
    examples=(
        Example(
            row="kv-prefill-unmasked",
            before="def f(s, m, cache=None):\n    s = s.masked_fill(m, -inf)\n    return s.softmax(-1)\n",
            after=(
                "def f(s, m, cache=None):\n    s = s.masked_fill(m, -inf) if cache is None else s\n"
                "    return s.softmax(-1)\n",
            ),
        ),
        Example(
            before="import torch.nn.functional as F\n\ndef f(q, k, v, past_kv):\n"
            "    return F.scaled_dot_product_attention(q, k, v, is_causal=True)\n",
            after=(
                "import torch.nn.functional as F\n\ndef f(q, k, v, past_kv):\n"
                "    return F.scaled_dot_product_attention(q, k, v, is_causal=past_kv is None)\n",
            ),
        ),
        Example(
            before="import torch.nn.functional as F\n\ndef f(q, k, v, m, cache):\n"
            "    return F.scaled_dot_product_attention(q, k, v, attn_mask=m)\n",
            after=(
                "import torch.nn.functional as F\n\ndef f(q, k, v, m, cache):\n"
                "    return F.scaled_dot_product_attention(q, k, v,"
                " attn_mask=m if cache is None else None)\n",
            ),
        ),
    ),
    counterexamples=(
        "def f(s, m):\n    return s.masked_fill(m, -inf)\n",
        "def f(s, m, cache):\n    return s.masked_fill(m, 0)\n",
    ),
)
def kv_prefill_unmasked(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    cache = next((name for name in parameters(f, node) if words(name) & CACHES), None)
    if cache is None:
        return
    hid = covered(f, node)
    if hid is not None:
        new = f"{f.text(node)} if {cache} is None else {f.text(hid[0])}"
        yield Proposal(edits=(f.replace(node, new),))
    for name, given in (("is_causal", f"{cache} is None"), ("attn_mask", None)):
        arg = f.arg(node, name, None)
        if arg is not None and not isinstance(arg.value, cst.IfExp) and cache not in names_in(arg.value):
            always = given or f"{f.text(arg.value)} if {cache} is None else None"
            if name == "attn_mask" or f.text(arg.value) == "True":
                yield Proposal(edits=(f.replace(arg.value, always),))


@operator(
    "kv-rope-after-update",
    cst.SimpleStatementLine,
    category="attention-transformer",
    difficulty=5,
    symptom="Training is right; what is written step by step repeats itself.",
    hints=(
        "LOOK: print the position that each query is given while writing token by token.",
        "WHERE: the moment at which `{function}` asks the cache how long it is.",
        "WHAT: has the cache already taken in the tokens that are about to be placed?",
    ),
    repair="Ask for the length before the new keys are stored.",
    mechanism=(
        "Storing keys makes the cache longer. Asked afterwards, it answers with the place behind"
        " the new tokens, so queries are turned too far and every distance comes out wrong, while"
        " the stored keys are right."
    ),
    evidence=(pull("ml-explore/mlx-lm", 1396), issue("ml-explore/mlx-lm", 1699)),
    examples=(
        Example(
            row="kv-rope-after-update",
            before="start = cache.length\nk, v = cache.update(k, v)\nq = turn(q, start)\n",
            after=("k, v = cache.update(k, v)\nstart = cache.length\nq = turn(q, start)\n",),
        ),
        Example(
            before="def f(q, k, v, cache):\n    start = cache.offset\n    q = rope(q, start)\n"
            "    k = rope(k, start)\n    k, v = cache.update(k, v)\n    return q @ k.mT @ v\n",
            after=(
                "def f(q, k, v, cache):\n    start = cache.offset\n    k = rope(k, start)\n"
                "    k, v = cache.update(k, v)\n    q = rope(q, cache.offset)\n    return q @ k.mT @ v\n",
            ),
        ),
        Example(
            before="q, k = rope(q, cache.offset), rope(k, cache.offset)\nk, v = cache.update(k, v)\n",
            after=("k = rope(k, cache.offset)\nk, v = cache.update(k, v)\nq = rope(q, cache.offset)\n",),
        ),
    ),
    counterexamples=(
        "start = table.length\ntable.update(k)\n",
        "k, v = cache.update(k, v)\nq = rope(q, cache.offset)\n",
    ),
)
def kv_rope_after_update(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    lines, place = neighbours(f, node)
    store = next(((line, r) for line in lines[place + 1 :] if (r := written_cache(f, line))), None)
    if pair is None or store is None:
        return
    line, cache = store
    if reads_length(f, pair[1], cache) and isinstance(pair[0], cst.Name):
        between = lines[place + 1 : next(i for i, each in enumerate(lines) if each is line) + 1]
        if not any(pair[0].value in names_in(each) for each in between):
            yield Proposal(edits=(f.delete_statement(node), f.insert_after(line, f.text(node).strip())))
    elif (late := late_query(f, pair, cache)) is not None:
        query, key = late
        first = f.delete_statement(node) if key is None else f.replace(node, f"k = {key}")
        yield Proposal(edits=(first, f.insert_after(line, f"q = {query}")))


def written_cache(f: SourceFile, line: cst.CSTNode) -> str:
    """The cache that a statement stores keys in."""
    simple = not isinstance(line, cst.BaseCompoundStatement)
    for call in inside(line, cst.Call) if simple else ():
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in WRITES and call.args:
            cache = f.text(call.func.value)
            if words(cache) & CACHES:
                return cache
    return ""


def reads_length(f: SourceFile, node: cst.BaseExpression, cache: str) -> bool:
    """Whether an expression asks a cache for its length."""
    text = f.text(node)
    if text == f"len({cache})":
        return True
    bare = isinstance(node, cst.Call) and not node.args
    name = node.func if isinstance(node, cst.Call) and bare else node
    return text.startswith(f"{cache}.") and isinstance(name, cst.Attribute) and counts_positions(name)


def late_query(
    f: SourceFile, pair: tuple[cst.BaseExpression, cst.BaseExpression], cache: str
) -> tuple[str, str | None] | None:
    """The rotation of the queries as it reads after the update, and that of the keys."""
    targets = [e.value for e in pair[0].elements] if isinstance(pair[0], cst.Tuple) else [pair[0]]
    values = [e.value for e in pair[1].elements] if isinstance(pair[1], cst.Tuple) else [pair[1]]
    names = [f.text(each) for each in targets]
    if names not in (["q"], ["q", "k"]) or len(values) != len(names):
        return None
    call = values[0]
    if not isinstance(call, cst.Call) or not is_rotation(f, call) or role(call.args[0].value) != "q":
        return None
    given, fresh = [], False
    for arg in call.args:
        text = f.text(arg).rstrip(", ")
        for origin in (arg.value, *sources(f, arg.value)):
            if reads_length(f, origin, cache):
                text, fresh = f.text(origin), True
        given.append(text)
    key = f.text(values[1]) if len(values) == 2 else None
    return (f"{f.text(call.func)}({', '.join(given)})", key) if fresh else None
