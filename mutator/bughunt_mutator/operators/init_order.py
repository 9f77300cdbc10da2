"""Mistakes in when weights are set, from which numbers, and in what must start at zero."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    called,
    enclosing,
    function_of,
    inside,
    keyword,
    last_name,
    loads,
    mentions,
    names_in,
    neighbours,
    value,
)
from bughunt_mutator.operators._look_models import lines_of, parameters, released, sources, together, words
from bughunt_mutator.operators._sources import RECIPE, issue
from bughunt_mutator.operators.architecture_parts import fills_weights
from bughunt_mutator.operators.init import random_init
from bughunt_mutator.source import SourceFile

FANS = {"fan_in": "fan_out", "fan_out": "fan_in"}


@operator(
    "init-fan-swapped",
    cst.Call,
    cst.SimpleStatementLine,
    category="init",
    difficulty=5,
    symptom="Almost nothing shows; layers that widen or narrow start louder or quieter than others.",
    hints=(
        "LOOK: print the spread of what each layer of a fresh model puts out.",
        "WHERE: the number of connections in `{function}`.",
        "WHAT: over how many terms does one output sum?",
    ),
    repair="Scale by the number of inputs of a unit.",
    mechanism=(
        "An output sums over the inputs of its unit, so their number decides its spread. Counted the"
        " other way, a layer that widens shrinks the signal and one that narrows enlarges it; where"
        " both numbers are equal nothing changes."
    ),
    examples=(
        Example(
            row="init-fan-swapped",
            before='from torch import nn\nnn.init.kaiming_normal_(w, mode="fan_in")\n',
            after=('from torch import nn\nnn.init.kaiming_normal_(w, mode="fan_out")\n',),
        ),
        Example(
            before="from torch import nn\nnn.init.kaiming_uniform_(w)\n",
            after=('from torch import nn\nnn.init.kaiming_uniform_(w, mode="fan_out")\n',),
        ),
        Example(
            before="import torch\n\ndef conv(inputs, outputs):\n    fan = inputs * 9\n"
            "    return torch.randn(outputs, inputs, 3, 3) / fan\n",
            after=(
                "import torch\n\ndef conv(inputs, outputs):\n    fan = outputs * 9\n"
                "    return torch.randn(outputs, inputs, 3, 3) / fan\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch import nn\nnn.init.xavier_normal_(w)\n",
        "fan = inputs * 9\n",
        "import torch\n\ndef f(n):\n    fan = n * 9\n    return torch.randn(n, n) / fan\n",
    ),
)
def fan_swapped(f: SourceFile, node: cst.Call | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        yield from counted_outputs(f, node)
    elif random_init(f, node).startswith("kaiming"):
        mode = value(f, node, "mode", 2)
        if mode is None:
            yield Proposal(edits=(f.insert_arg(node, 'mode="fan_out"'),))
        elif isinstance(mode, cst.SimpleString) and mode.evaluated_value in FANS:
            known = str(mode.evaluated_value)
            yield Proposal(edits=(f.replace(mode, f.text(mode).replace(known, FANS[known])),))


def counted_outputs(f: SourceFile, line: cst.SimpleStatementLine) -> Iterator[Proposal]:
    """The number of outputs in the place of that of inputs."""
    pair = assigned(line)
    if pair is None or "fan" not in words(f.text(pair[0])):
        return
    for call in inside(function_of(f, line), cst.Call):
        if last_name(call.func) not in ("randn", "empty", "normal", "standard_normal") or len(call.args) < 2:
            continue
        sizes = [f.text(each.value) for each in call.args[:2]]
        counted = [each for each in inside(pair[1], cst.Name) if each.value in sizes]
        if len(counted) == 1 and len(set(sizes)) == 2:
            other = next(size for size in sizes if size != counted[0].value)
            if other.isidentifier():
                yield Proposal(edits=(f.replace(counted[0], other),))
                return


@operator(
    "init-twice-consumes-rng",
    cst.SimpleStatementLine,
    cst.For,
    category="init",
    difficulty=2,
    symptom="The loss starts as if the model had never learned, or set up, anything.",
    hints=(
        "LOOK: compare the weights just before the first update with those that were loaded or set.",
        "WHERE: everything that `{function}` does to the weights, in order.",
        "WHAT: who writes to them last?",
    ),
    repair="Initialise once, before anything is loaded, shared or set on purpose.",
    mechanism=(
        "The initialisation runs again over weights that had been loaded or set with care, and"
        " replaces them by random numbers. It also draws from the random state once more, so that"
        " everything random afterwards is different too."
    ),
    evidence=(issue("facebookresearch/ParlAI", 347), issue("huggingface/transformers", 17877)),
    examples=(
        Example(
            row="init-twice-consumes-rng",
            before="class N:\n    def __init__(self):\n        self.apply(self._init)\n"
            "        self.head.weight = self.token.weight\n",
            after=(
                "class N:\n    def __init__(self):\n        self.apply(self._init)\n"
                "        self.head.weight = self.token.weight\n        self.apply(self._init)\n",
            ),
        ),
        Example(
            before="from torch import nn\n\n\ndef start(net):\n    nn.init.ones_(net.w)\n\n\n"
            "def build():\n    net = make()\n    start(net)\n    return net\n\n\n"
            "def restore(net, state):\n    net.load_state_dict(state)\n",
            after=(
                "from torch import nn\n\n\ndef start(net):\n    nn.init.ones_(net.w)\n\n\n"
                "def build():\n    net = make()\n    start(net)\n    return net\n\n\n"
                "def restore(net, state):\n    net.load_state_dict(state)\n    start(net)\n",
            ),
        ),
    ),
    counterexamples=(
        "net.apply(init)\n",
        "net.load_state_dict(state)\n",
        "from torch import nn\nfor w in (a, b):\n    nn.init.normal_(w)\nnn.init.zeros_(c)\n",
    ),
)
def init_twice(f: SourceFile, node: cst.SimpleStatementLine | cst.For) -> Iterator[Proposal]:
    if fills_weights(f, node) and (not isinstance(node, cst.For) or is_thorough(node)):
        lines, place = neighbours(f, node)
        settled = [line for line in lines[place + 1 :] if sets_on_purpose(f, line)]
        if settled:
            yield Proposal(edits=(f.insert_after(settled[-1], again(f, node)),))
    call = called(node)
    if call is None or last_name(call.func) != "load_state_dict":
        return
    for line in inside(f.module, cst.SimpleStatementLine):
        elsewhere = fills_weights(f, line) and function_of(f, line) is not function_of(f, node)
        if elsewhere and available(f, line, node) and loaded(f, call) in names_in(line):
            yield Proposal(edits=(f.insert_after(node, again(f, line)),))
            return


def is_thorough(node: cst.For) -> bool:
    """Whether a loop runs over all of a model."""
    walks = {"parameters", "named_parameters", "modules", "named_modules"}
    return isinstance(node.iter, cst.Call) and last_name(node.iter.func) in walks


def again(f: SourceFile, node: cst.CSTNode) -> str:
    """The text of a statement."""
    return f.text(node).strip()


def loaded(f: SourceFile, call: cst.Call) -> str:
    """The name of the model that a state is loaded into."""
    return f.text(call.func).rpartition(".")[0]


def available(f: SourceFile, line: cst.CSTNode, place: cst.CSTNode) -> bool:
    """Whether all that a statement reads has the same name at another place."""
    top = {each.name.value for each in f.module.body if isinstance(each, cst.FunctionDef | cst.ClassDef)}
    here = {*parameters(f, place), *top, *f.aliases.table}
    for other in lines_of(f, place):
        pair = assigned(other)
        here |= names_in(pair[0]) if pair is not None and f.span(other)[0] < f.span(place)[0] else set()
    return set(loads(line)) <= here


def sets_on_purpose(f: SourceFile, line: cst.CSTNode) -> bool:
    """Whether a statement loads, shares or sets weights."""
    call = called(line)
    if call is not None:
        name = last_name(call.func)
        own = name in ("load_state_dict", "copy_", "fill_", "zero_") and "weight" in f.text(line)
        given = (f.qname(call.func) or "").startswith("torch.nn.init.")
        return own or given or name == "load_state_dict"
    pair = assigned(line)
    return pair is not None and isinstance(pair[0], cst.Attribute) and f.text(pair[0]).endswith(".weight")


@operator(
    "head-bias-prior-missing",
    cst.SimpleStatementLine,
    cst.With,
    category="init",
    difficulty=3,
    symptom="The first steps are spent on a steep fall that has nothing to do with the input.",
    hints=(
        "LOOK: compare the first loss with that of always answering with the average.",
        "WHERE: the start of the last layer in `{function}`.",
        "WHAT: what does a fresh model believe about how common each answer is?",
    ),
    repair="Start the bias of the last layer at the log-odds of the answers.",
    mechanism=(
        "How common each answer is can be known before training. Without it in the bias, the first"
        " updates only learn that number; with rare answers, the gradient of the many easy examples"
        " drowns everything else for a while."
    ),
    evidence=(RECIPE,),
    examples=(
        Example(
            row="head-bias-prior-missing",
            before="from torch import nn\n\nhead = nn.Linear(2, 1)\n"
            "nn.init.constant_(head.bias, log(p / (1 - p)))\n",
            after=("from torch import nn\n\nhead = nn.Linear(2, 1)\n",),
        ),
        Example(
            before="def build(net, share):\n    odds = share.logit()\n"
            "    net.out.bias.data.fill_(odds)\n    return net\n",
            after=("def build(net, share):\n    return net\n",),
        ),
    ),
    counterexamples=("from torch import nn\nnn.init.zeros_(self.head.bias)\n", "x = head.bias.log()\n"),
)
def no_prior(f: SourceFile, node: cst.SimpleStatementLine | cst.With) -> Iterator[Proposal]:
    if isinstance(node, cst.With):
        inner = node.body.body
        single = len(inner) == 1 and isinstance(inner[0], cst.SimpleStatementLine)
        if single and mentions(node.items[0], "no_grad") and sets_prior(f, inner[0]):
            yield from gone_with_sources(f, node)
    elif sets_prior(f, node) and not under_no_grad_alone(f, node):
        yield from gone_with_sources(f, node)


def gone_with_sources(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    """A statement taken away with what only it reads."""
    edits: tuple[Edit, ...] | None = released(f, node)
    if edits is not None:
        yield Proposal(edits=together(*edits, f.delete_statement(node)))


def under_no_grad_alone(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a statement is all that stands under `no_grad`."""
    above = enclosing(f, node, cst.With)
    return above is not None and len(above.body.body) == 1 and mentions(above.items[0], "no_grad")


def sets_prior(f: SourceFile, line: cst.CSTNode) -> bool:
    """Whether a statement sets the bias of a layer to what is known of the answers."""
    call, pair = called(line), assigned(line)
    if call is not None and (f.qname(call.func) or "").startswith("torch.nn.init.") and len(call.args) > 1:
        bias, start = call.args[0].value, call.args[1].value
    elif call is not None and isinstance(call.func, cst.Attribute) and call.args:
        if call.func.attr.value not in ("fill_", "copy_"):
            return False
        bias, start = call.func.value, call.args[0].value
    elif pair is not None:
        bias, start = pair
    else:
        return False
    said = " ".join(f.text(each) for each in (start, *sources(f, start)))
    known = {"log", "logit", "odds", "prior", "share", "frequency", "rate", "freq", "mean"}
    return ".bias" in f.text(bias) and bool(words(said) & known)


@operator(
    "lora-b-not-zero",
    cst.Call,
    category="init",
    difficulty=3,
    symptom="Adaptation starts from a worse place than the model it adapts.",
    hints=(
        "LOOK: compare the outputs of the fresh adapter with those of the model alone.",
        "WHERE: the two thin matrices in `{function}`.",
        "WHAT: what should the adapter add before it has learned anything?",
    ),
    repair="Start one of the two matrices at zero.",
    mechanism=(
        "With one matrix at zero, the product is zero and the adapted model begins as the model it"
        " adapts. With both at random, noise is added to every layer, and the first steps go into"
        " repairing what was right before."
    ),
    evidence=(issue("Blaizzy/mlx-vlm", 841),),
    examples=(
        Example(
            row="lora-b-not-zero",
            before="from torch import nn\n\nclass Lora:\n    def __init__(self):\n"
            "        nn.init.normal_(self.a, std=0.1)\n        nn.init.zeros_(self.b)\n",
            after=(
                "from torch import nn\n\nclass Lora:\n    def __init__(self):\n"
                "        nn.init.normal_(self.a, std=0.1)\n        nn.init.normal_(self.b, std=0.1)\n",
            ),
        ),
        Example(
            before="import torch\nfrom torch import nn\n\nclass Beside:\n    def __init__(self, n, rank):\n"
            "        self.down = nn.Parameter(torch.rand(rank, n))\n"
            "        self.up = nn.Parameter(torch.zeros(n, rank))\n",
            after=(
                "import torch\nfrom torch import nn\n\nclass Beside:\n    def __init__(self, n, rank):\n"
                "        self.down = nn.Parameter(torch.rand(rank, n))\n"
                "        self.up = nn.Parameter(torch.randn(n, rank))\n",
            ),
        ),
        Example(
            before="import torch\nfrom torch import nn\n\nclass Adapter:\n    def __init__(self, n, rank):\n"
            "        self.up = nn.Parameter(torch.zeros(n, rank))\n",
            after=(
                "import torch\nfrom torch import nn\n\nclass Adapter:\n    def __init__(self, n, rank):\n"
                "        self.up = nn.Parameter(torch.randn(n, rank))\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch import nn\n\nclass Net:\n    def __init__(self):\n        nn.init.zeros_(self.b)\n",
        "import torch\nfrom torch import nn\n\nclass Net:\n    def __init__(self, n, rank):\n"
        "        self.a = nn.Parameter(torch.zeros(n, rank))\n",
        "import torch\nfrom torch import nn\n\nclass Lora:\n    def __init__(self):\n"
        "        self.bias = nn.Parameter(torch.zeros(3))\n",
    ),
)
def lora_b(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    home = f.class_(node) or f.function(node)
    if home is None or not is_adapter(f, home):
        return
    if f.qname(node.func) == "torch.nn.init.zeros_" and len(node.args) == 1:
        if "bias" not in f.text(node) and isinstance(node.func, cst.Attribute):
            yield Proposal(edits=(f.replace(node, like_the_other(f, home, node)),))
    elif f.qname(node.func) == "torch.zeros" and len(node.args) > 1:
        outer = enclosing(f, node, cst.Call)
        if outer is not None and last_name(outer.func) == "Parameter" and not keyword(node, "dtype"):
            yield Proposal(edits=(f.replace(node.func, f.text(node.func)[: -len("zeros")] + "randn"),))


def is_adapter(f: SourceFile, home: cst.CSTNode) -> bool:
    """Whether a class or a function is about low-rank adaptation."""
    thin = [
        call
        for call in inside(home, cst.Call)
        if last_name(call.func) == "Parameter" and "rank" in words(f.text(call))
    ]
    return len(thin) == 2 or "lora" in f.text(home).lower() or "adapter" in f.text(home).lower()


def like_the_other(f: SourceFile, home: cst.CSTNode, node: cst.Call) -> str:
    """The zeros replaced by what the other matrix is filled with."""
    target = f.text(node.args[0].value)
    for call in inside(home, cst.Call):
        if random_init(f, call):
            rest = [f.text(each).rstrip(", ") for each in call.args[1:]]
            return f"{f.text(call.func)}({', '.join([target, *rest])})"
    return f"{f.text(node.func)[: -len('zeros_')]}kaiming_uniform_({target})"
