"""Mistakes in how the parts of a model are fed: embeddings, tied weights, states, time, experts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    called,
    definitions,
    function_of,
    in_forward,
    inside,
    mentions,
    names_in,
    neighbours,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_models import (
    atom,
    is_target,
    lines_of,
    parameters,
    put,
    released,
    together,
    words,
)
from bughunt_mutator.operators._sources import issue
from bughunt_mutator.operators.init import calls_initialiser, initialises, mentions_init
from bughunt_mutator.source import SourceFile

UNSLOTH = "https://unsloth.ai/blog/gemma-bugs"
MIXTURE = issue("davidmrau/mixture-of-experts", 27)
LOOKUPS = frozenset({"token", "tokens", "emb", "embed", "embedding", "wte"})
TIMES = frozenset({"temb", "time", "timestep", "timesteps", "diffusion", "sigma"})


@operator(
    "embedding-scale-missing",
    cst.BinaryOperation,
    category="architecture",
    difficulty=4,
    symptom="The start is slower than it should be: at first, all tokens look the same.",
    hints=(
        "LOOK: compare the length of a token's vector with that of a position's.",
        "WHERE: what is added up in `{function}`.",
        "WHAT: which of the two terms can still be heard in the sum?",
    ),
    repair="Multiply the embedding by the root of its width.",
    mechanism=(
        "Embeddings start small, positions have entries of order one. Without the factor, the sum"
        " says where a token stands and hardly which one it is, until the embedding has grown."
    ),
    evidence=(UNSLOTH,),
    examples=(
        Example(
            row="embedding-scale-missing",
            before="import math\nx = self.token(t) * math.sqrt(self.channels) + p\ny = math.pi\n",
            after=("import math\nx = self.token(t) + p\ny = math.pi\n",),
        ),
        Example(
            before="def forward(self, t):\n    scale = self.width**0.5\n"
            "    return scale * self.embedding(t)\n",
            after=("def forward(self, t):\n    return self.embedding(t)\n",),
        ),
    ),
    counterexamples=("x = self.head(t) * math.sqrt(4)\n", "x = self.token(t) * mask\n"),
)
def embedding_scale(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Multiply)
    for looked_up, factor in (sides, sides[::-1]) if sides is not None else ():
        call = looked_up if isinstance(looked_up, cst.Call) else None
        if call is None or not words(f.text(call.func)) & {
            "token",
            "tokens",
            "emb",
            "embed",
            "embedding",
            "wte",
        }:
            continue
        origins = [factor, *(pair[1] for line in local(f, factor) if (pair := assigned(line)))]
        rooted = any("sqrt" in f.text(each) or "0.5" in f.text(each) for each in origins)
        gone = released(f, factor)
        if rooted and gone is not None:
            yield Proposal(edits=together(*gone, put(f, node, f.text(looked_up))))
            return


def local(f: SourceFile, node: cst.BaseExpression) -> Iterator[cst.SimpleStatementLine]:
    """Where a plain name is assigned."""
    if isinstance(node, cst.Name):
        yield from definitions(f, node, node.value)


@operator(
    "tie-before-init",
    cst.SimpleStatementLine,
    category="architecture",
    difficulty=5,
    symptom="The first loss is not quite where a fresh model of this kind should start.",
    hints=(
        "LOOK: print the spread of every weight of a fresh model, shared ones included.",
        "WHERE: the order of the last steps in `{function}`.",
        "WHAT: whose start does a weight keep that two layers share?",
    ),
    repair="Initialise first, then let the layers share their weight.",
    mechanism=(
        "The initialisation runs over both owners of the shared weight, and the second has the last"
        " word. Where it fills the weight in place, only its spread and the random numbers after it"
        " change; where it makes a new one, the layers are no longer tied at all."
    ),
    examples=(
        Example(
            row="tie-before-init",
            before="class N:\n    def __init__(self):\n        self.apply(self._init)\n"
            "        self.head.weight = self.token.weight\n",
            after=(
                "class N:\n    def __init__(self):\n        self.head.weight = self.token.weight\n"
                "        self.apply(self._init)\n",
            ),
        ),
    ),
    counterexamples=(
        "self.head.weight = self.token.weight\nself.apply(self._init)\n",
        "self.apply(self._init)\nself.head.bias = shift\n",
    ),
)
def tie_before_init(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    if pair is None or not all(f.text(side).endswith(".weight") for side in pair):
        return
    lines, place = neighbours(f, node)
    for line in lines[:place]:
        if fills_weights(f, line):
            edits = (f.delete_statement(node), f.insert_before(line, f.text(node).strip()))
            yield Proposal(edits=edits)
            return


def fills_weights(f: SourceFile, line: cst.CSTNode) -> bool:
    """Whether a statement initialises a whole model."""
    if isinstance(line, cst.For):
        return initialises(f, line)
    call = called(line)
    if call is None or not call.args:
        return False
    applied = isinstance(call.func, cst.Attribute) and call.func.attr.value == "apply"
    return (applied and mentions_init(f, call)) or calls_initialiser(f, call)


@operator(
    "h-returned-as-c",
    cst.Tuple,
    cst.SimpleStatementLine,
    category="architecture",
    difficulty=5,
    symptom="Results are slightly worse, most of all on long sequences.",
    hints=(
        "LOOK: compare both parts of the state with those of a trusted layer, step by step.",
        "WHERE: what `{function}` carries on.",
        "WHAT: do the two parts of the state mean the same?",
    ),
    repair="Hand on the memory beside the output.",
    mechanism=(
        "The output of a cell is its memory squeezed and gated. Handed on in place of the memory it"
        " fits in shape, but the cell now forgets in every step what it chose not to show."
    ),
    evidence=(issue("salesforce/decaNLP", 9),),
    examples=(
        Example(
            row="h-returned-as-c",
            before="def f(h, c, i):\n    return out, (h[:, i], c[:, i])\n",
            after=("def f(h, c, i):\n    return out, (h[:, i], h[:, i])\n",),
        ),
        Example(
            before="def step(z, cell):\n    hidden = z * cell\n    return hidden, cell\n",
            after=("def step(z, cell):\n    hidden = z * cell\n    return hidden, hidden\n",),
        ),
        Example(
            before="for x in xs:\n    h_new, c_new = cell(x, h, c)\n    c = where(m, c_new, c)\n"
            "    h = where(m, h_new, h)\n    use(c_new)\n",
            after=(
                "for x in xs:\n    h_new, c_new = cell(x, h, c)\n    c = where(m, h_new, c)\n"
                "    h = where(m, h_new, h)\n    use(c_new)\n",
            ),
        ),
    ),
    counterexamples=(
        "h, c = step(x)\n",
        "def f(b, h, c):\n    return b, c\n",
        "def f():\n    c = 2\n    return h, c\n",
        "shape = (h, w)\n",
    ),
)
def h_as_c(f: SourceFile, node: cst.Tuple | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        yield from carried_as_c(f, node)
        return
    if len(node.elements) != 2 or is_target(f, node):
        return
    shown, kept = (element.value for element in node.elements)
    one, two = f.text(shown), f.text(kept)
    if one in as_outputs(two) and one != two and not orphans(f, kept):
        yield Proposal(edits=(f.replace(kept, one),))


def as_outputs(text: str) -> list[str]:
    """A text about the memory of a cell, as one about its output."""
    pairs = (("cell", "hidden"), ("c", "h"))
    return [re.sub(rf"(?<![a-z]){memory}(?![a-z])", output, text) for memory, output in pairs]


def carried_as_c(f: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Proposal]:
    """The new output carried on as the memory, beside a line that carries it on as the output."""
    target, made = assigned(line) or (None, None)
    if not isinstance(target, cst.Name) or made is None:
        return
    fresh = [name for name in inside(made, cst.Name) if name.value != target.value]
    texts = {f.text(other).strip() for other in neighbours(f, line)[0]}
    for place, twin in enumerate(as_outputs(f.text(line).strip())):
        renamed = [name for name in fresh if as_outputs(name.value)[place] != name.value]
        if twin != f.text(line).strip() and twin in texts and len(renamed) == 1 and not orphans(f, *renamed):
            yield Proposal(edits=(f.replace(renamed[0], as_outputs(renamed[0].value)[place]),))
            return


@operator(
    "timestep-embedding-unused",
    cst.BinaryOperation,
    category="architecture",
    difficulty=3,
    symptom="The loss falls to a middling level; what is generated is blurred.",
    hints=(
        "LOOK: give the model the same input at two different times and compare the answers.",
        "WHERE: what comes together in `{function}`.",
        "WHAT: how does the model know how much noise there is?",
    ),
    repair="Add the embedding of the time to the features.",
    mechanism=(
        "How much noise an input holds decides what to take away from it. A model that is not told"
        " answers with an average over all levels, which is too much at one end of the process and"
        " too little at the other."
    ),
    examples=(
        Example(
            row="timestep-embedding-unused",
            before="def forward(self, x, t):\n    temb = self.time(t)\n    h = self.a(x) + temb[:, :, None]\n"
            "    return self.b(h)\n",
            after=("def forward(self, x, t):\n    h = self.a(x)\n    return self.b(h)\n",),
        ),
        Example(
            before="def forward(self, h, t):\n    h = h + self.time_mlp(t)[:, :, None]\n"
            "    return self.b(h)\n",
            after=("def forward(self, h, t):\n    return self.b(h)\n",),
        ),
        Example(
            before="def forward(self, x, t):\n    return self.b(self.a(x) + self.level(code(t, 8)))\n",
            after=("def forward(self, x, t):\n    return self.b(self.a(x))\n",),
        ),
        Example(
            before="def forward(self, x, t):\n    return self.b(self.a(x) + self.time_proj(wave(t)))\n",
            after=("def forward(self, x, t):\n    return self.b(self.a(x))\n",),
        ),
    ),
    counterexamples=(
        "def forward(self, x, t):\n    return self.a(x, t) + self.b(x, t)\n",
        "def forward(self, x, time):\n    return self.token(x) + self.position(time)\n",
        "time = start + wait\n",
    ),
)
def timestep_unused(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    if sides is None or not in_forward(f, node):
        return
    for stays, told in (sides, sides[::-1]):
        if tells_time(f, told) and not tells_time(f, stays) and (gone := released(f, told)) is not None:
            yield Proposal(edits=together(*gone, put(f, node, f.text(stays))))
            return


def tells_time(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether a value is the embedding of a moment."""
    base = node.value if isinstance(node, cst.Subscript) else node
    if mentions(node, "pos"):
        return False
    if isinstance(base, cst.Call):
        moments = {name for name in parameters(f, node) if name == "t" or words(name) & TIMES}
        named = bool(words(f.text(base.func)) & TIMES) and not mentions(base, "norm")
        return named or bool(moments & names_in(base))
    name = base.value if isinstance(base, cst.Name) else ""
    return bool(words(name) & TIMES) or name in ("t_emb", "emb_t", "step_emb")


@operator(
    "lora-scale-no-rank",
    cst.BinaryOperation,
    category="architecture",
    difficulty=3,
    symptom="Adaptation is jumpy, and what worked for one rank fails for another.",
    hints=(
        "LOOK: compare the size of the first update of the output for two different ranks.",
        "WHERE: the factor in front of the low-rank product in `{function}`.",
        "WHAT: how does the size of the product change with the number of terms in it?",
    ),
    repair="Divide alpha by the rank.",
    mechanism=(
        "The product of the two thin matrices sums over the rank. Dividing by the rank keeps its"
        " size, and with it the right learning rate, the same for all ranks; without it, each"
        " update is larger by that factor."
    ),
    evidence=(
        issue("rasbt/LLMs-from-scratch", 821),
        issue("Blaizzy/mlx-vlm", 841),
        issue("Blaizzy/mlx-vlm", 845),
    ),
    examples=(
        Example(
            row="lora-scale-no-rank",
            before="def f(alpha, rank):\n    scale = alpha / rank\n    return scale, rank\n",
            after=("def f(alpha, rank):\n    scale = alpha\n    return scale, rank\n",),
        ),
        Example(
            before="self.scale = cfg.lora_alpha / cfg.r\n",
            after=("self.scale = cfg.lora_alpha\n",),
        ),
    ),
    counterexamples=("x = alpha / n\n", "lr = start / rank\n"),
)
def lora_scale(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is None or not isinstance(sides[1], cst.Name | cst.Attribute | cst.Call):
        return
    ranked = {"rank", "r"} & words(f.text(sides[1]).rpartition(".")[2])
    if mentions(sides[0], "alpha") and ranked and (gone := released(f, sides[1])) is not None:
        yield Proposal(edits=(*gone, f.replace(node, f.text(sides[0]))))


def routes(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the function around a node picks the best of several experts."""
    home = f.function(node)
    calls = inside(home, cst.Call) if home is not None else ()
    return any(operation(f, call, "topk") is not None for call in calls) and mentions(
        f.class_(node) or function_of(f, node), "expert", "gate", "router", "moe"
    )


@operator(
    "moe-renorm-missing",
    cst.BinaryOperation,
    cst.SimpleStatementLine,
    category="architecture",
    difficulty=4,
    symptom="The layer's outputs are too small, most of all when the router is undecided.",
    hints=(
        "LOOK: sum the weights of the experts that are used for one token.",
        "WHERE: what `{function}` does with the weights once the experts are chosen.",
        "WHAT: what became of the share of the experts that were not chosen?",
    ),
    repair="Divide the weights of the chosen experts by their sum.",
    mechanism=(
        "The weights sum to one over all experts, and to less over the chosen ones. What is missing"
        " depends on the token, so outputs shrink by a factor that wanders while the router learns."
    ),
    evidence=(MIXTURE,),
    examples=(
        Example(
            row="moe-renorm-missing",
            before="def forward(self, x):\n    g, i = self.router(x).softmax(-1).topk(2)\n"
            "    g = g / g.sum(-1, keepdim=True)\n    return g, i\n",
            after=(
                "def forward(self, x):\n    g, i = self.router(x).softmax(-1).topk(2)\n    return g, i\n",
            ),
        ),
        Example(
            before="def route(gate, x):\n    best = gate(x).softmax(-1).topk(2)\n"
            "    return best.values / best.values.sum(-1, keepdim=True), best.indices\n",
            after=(
                "def route(gate, x):\n    best = gate(x).softmax(-1).topk(2)\n"
                "    return best.values, best.indices\n",
            ),
        ),
        Example(
            before="def route(gate, x):\n    g, i = gate(x).softmax(-1).topk(2)\n"
            "    g /= g.sum(-1, keepdim=True)\n    return g, i\n",
            after=("def route(gate, x):\n    g, i = gate(x).softmax(-1).topk(2)\n    return g, i\n",),
        ),
    ),
    counterexamples=(
        "def norm(w):\n    return w / w.sum(-1, keepdim=True)\n",
        "def route(gate, x):\n    g, i = gate(x).topk(2)\n    return g / x.sum(-1), i\n",
    ),
)
def moe_renorm(f: SourceFile, node: cst.BinaryOperation | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        line = node.body[0]
        if isinstance(line, cst.AugAssign) and isinstance(line.operator, cst.DivideAssign):
            op = operation(f, line.value, "sum")
            if op is not None and f.text(op.subject) == f.text(line.target) and routes(f, node):
                yield Proposal(edits=(f.delete_statement(node),))
        return
    sides = binary(node, cst.Divide)
    op = operation(f, sides[1], "sum") if sides is not None else None
    if sides is None or op is None or f.text(op.subject) != f.text(sides[0]) or not routes(f, node):
        return
    whole = f.statement(node)
    pair = assigned(whole)
    if pair is not None and pair[1] is node and f.text(pair[0]) == f.text(sides[0]):
        yield Proposal(edits=(f.delete_statement(whole),))
    else:
        yield Proposal(edits=(f.replace(node, f.text(sides[0])),))


@operator(
    "moe-k1-softmax",
    cst.SimpleStatementLine,
    category="architecture",
    difficulty=5,
    symptom="With one expert for each token, the choice of experts never gets better than random.",
    hints=(
        "LOOK: print the gradient of the router after one backward pass.",
        "WHERE: the order of choosing and normalising in `{function}`.",
        "WHAT: what is the softmax of a single number?",
    ),
    repair="Normalise over all experts first, and choose among the probabilities.",
    mechanism=(
        "The softmax of one number is one, whatever the number. The weight of the chosen expert is"
        " then a constant, so the router receives no gradient and keeps sending tokens where it"
        " happened to send them at first."
    ),
    evidence=(MIXTURE,),
    examples=(
        Example(
            row="moe-k1-softmax",
            before="def forward(self, x):\n    p = self.router(x).softmax(dim=-1)\n"
            "    g, i = p.topk(self.k, dim=-1)\n    return g, i\n",
            after=(
                "def forward(self, x):\n    g, i = self.router(x).topk(self.k, dim=-1)\n"
                "    g = g.softmax(dim=-1)\n    return g, i\n",
            ),
        ),
        Example(
            before="def route(gate, x):\n    g, i = gate(x).softmax(-1).topk(1)\n    return g, i\n",
            after=(
                "def route(gate, x):\n    g, i = gate(x).topk(1)\n    g = g.softmax(dim=-1)\n"
                "    return g, i\n",
            ),
        ),
    ),
    counterexamples=(
        "def route(gate, x):\n    g, i = gate(x).topk(1)\n    return g.softmax(-1), i\n",
        "def route(gate, x):\n    g, i = gate(x).softmax(-1).topk(2)\n    g = g / g.sum(-1)\n"
        "    return g, i\n",
    ),
)
def moe_softmax(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    op = operation(f, pair[1], "topk") if pair is not None else None
    if pair is None or op is None or not isinstance(pair[0], cst.Tuple) or not routes(f, node):
        return
    weights = f.text(pair[0].elements[0].value)
    normal = soft(f, op.subject)
    if normal is None or any(renormalises(f, line, weights) for line in lines_of(f, node)):
        return
    scores, gone = normal
    edits = (f.replace(op.subject, scores), f.insert_after(node, f"{weights} = {weights}.softmax(dim=-1)"))
    yield Proposal(edits=(*gone, *edits))


def soft(f: SourceFile, node: cst.BaseExpression) -> tuple[str, tuple[Edit, ...]] | None:
    """The scores behind probabilities, and the edits that take away what is not needed then."""
    if (op := operation(f, node, "softmax")) is not None:
        return f.text(op.subject), ()
    lines = list(local(f, node))
    pair = assigned(lines[0]) if len(lines) == 1 else None
    op = operation(f, pair[1], "softmax") if pair is not None else None
    if op is None:
        return None
    gone = (f.delete_statement(lines[0]),) if orphans(f, node) else ()
    return atom(f, op.subject), gone


def renormalises(f: SourceFile, line: cst.CSTNode, weights: str) -> bool:
    """Whether a statement divides the weights by their sum."""
    text = f.text(line).replace(" ", "")
    return (
        weights in names_in(line)
        and re.search(rf"{re.escape(weights)}/=?{re.escape(weights)}", text) is not None
    )
