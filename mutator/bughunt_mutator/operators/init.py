"""Mistakes in how a model starts out."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    binary,
    called,
    enclosing,
    inside,
    last_name,
    number,
    orphans,
    value,
)
from bughunt_mutator.operators._sources import (
    DEEP_CHECKER,
    DEEP_CRIME,
    PPO_DETAILS,
    RECIPE,
    issue,
)
from bughunt_mutator.source import SourceFile

RANDOM = (
    "kaiming_normal_",
    "kaiming_uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "normal_",
    "uniform_",
    "trunc_normal_",
    "orthogonal_",
)


def random_init(f: SourceFile, node: cst.CSTNode) -> str:
    """The name of the `torch.nn.init` function that fills a tensor with random values."""
    home, _, name = (f.qname(node.func) or "").rpartition(".") if isinstance(node, cst.Call) else ("",) * 3
    return name if home == "torch.nn.init" and name in RANDOM else ""


def instead(f: SourceFile, node: cst.Call, name: str, *given: str) -> Iterator[Proposal]:
    """The same tensor, filled by another function of the same namespace."""
    if isinstance(node.func, cst.Attribute) and not orphans(f, *node.args[1:]):
        given = (f.text(node.args[0].value), *given)
        yield Proposal(edits=(f.replace(node, f"{f.text(node.func.value)}.{name}({', '.join(given)})"),))


@operator(
    "init-zeros",
    cst.Call,
    category="init",
    difficulty=1,
    symptom="The loss is flat from the first step, or only a small part of the model learns.",
    hints=(
        "LOOK: print the spread of every parameter of a fresh model.",
        "WHERE: what `{function}` writes into the weights.",
        "WHAT: what distinguishes one unit of a layer from the next?",
    ),
    repair="Draw the weights at random, with the spread that the layer needs.",
    mechanism=(
        "Units that start equal stay equal: they compute the same value and receive the same"
        " gradient. With zeros in two consecutive layers, both gradients are zero as well."
    ),
    evidence=(DEEP_CHECKER, "https://stackoverflow.com/questions/48027263"),
    examples=(
        Example(
            row="init-zeros",
            before="from torch import nn\nnn.init.kaiming_normal_(w, nonlinearity='relu')\n",
            after=("from torch import nn\nnn.init.zeros_(w)\n",),
        ),
        Example(
            before="import torch\nw = nn.Parameter(torch.randn(3, 4) * 0.02)\n",
            after=("import torch\nw = nn.Parameter(torch.zeros(3, 4) * 0.02)\n",),
        ),
    ),
    counterexamples=("from torch import nn\nnn.init.zeros_(b)\n", "import torch\ne = torch.randn(3)\n"),
)
def init_zeros(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if random_init(f, node):
        yield from instead(f, node, "zeros_")
    elif f.qname(node.func) == "torch.randn" and scaled_parameter(f, node):
        yield Proposal(edits=(f.replace(node.func, f.text(node.func)[:-5] + "zeros"),))


def scaled_parameter(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a random tensor becomes a parameter."""
    outer = enclosing(f, node, cst.Call)
    return outer is not None and last_name(outer.func) == "Parameter"


@operator(
    "init-constant",
    cst.Call,
    category="init",
    difficulty=2,
    symptom="The loss settles high, as if the model were only one unit wide.",
    hints=(
        "LOOK: after some steps, count how many units of a layer differ from each other.",
        "WHERE: what `{function}` writes into the weights.",
        "WHAT: can gradient descent tell two units apart that start the same?",
    ),
    repair="Draw the weights at random.",
    mechanism=(
        "A constant makes all units of the layer one: same output, same gradient, same update. The"
        " layer has the capacity of a single unit, however wide it is."
    ),
    evidence=(DEEP_CHECKER, DEEP_CRIME),
    examples=(
        Example(
            row="init-constant",
            before="from torch import nn\nnn.init.xavier_uniform_(w)\n",
            after=("from torch import nn\nnn.init.constant_(w, 0.1)\n",),
        ),
    ),
    counterexamples=("from torch import nn\nnn.init.ones_(g)\n",),
)
def init_constant(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if random_init(f, node):
        yield from instead(f, node, "constant_", "0.1")


@operator(
    "init-std-large",
    cst.Call,
    category="init",
    difficulty=1,
    symptom="The first loss is far higher than that of a model that knows nothing.",
    hints=(
        "LOOK: compare the loss of a fresh model with that of a uniform guess.",
        "WHERE: the numbers in `{function}`.",
        "WHAT: how large should the outputs of a fresh model be?",
    ),
    repair="Use the spread that keeps a fresh model undecided.",
    mechanism=(
        "Weights that are too wide make a fresh model confident and wrong. The first part of the"
        " run is spent on taking that back, and saturated units may never recover."
    ),
    evidence=(RECIPE, DEEP_CHECKER),
    examples=(
        Example(
            row="init-std-large",
            before="from torch import nn\nnn.init.normal_(w, std=0.02)\nnn.init.normal_(b, 0, s)\n",
            after=(
                "from torch import nn\nnn.init.normal_(w, std=1.0)\nnn.init.normal_(b, 0, s)\n",
                "from torch import nn\nnn.init.normal_(w, std=0.02)\nnn.init.normal_(b, 0, 1.0)\n",
            ),
        ),
    ),
    counterexamples=("from torch import nn\nnn.init.normal_(w)\n", "x.normal_(0, 0.1)\n"),
)
def init_std_large(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if random_init(f, node) in ("normal_", "trunc_normal_"):
        std = value(f, node, "std", 2)
        if std is not None and number(std) != 1 and not orphans(f, std):
            yield Proposal(edits=(f.replace(std, "1.0"),))


@operator(
    "init-std-tiny",
    cst.Call,
    category="init",
    difficulty=2,
    symptom="The loss is flat for a long time before anything happens.",
    hints=(
        "LOOK: print the spread of the activations, layer by layer, in a fresh model.",
        "WHERE: the scale that `{function}` gives to the weights.",
        "WHAT: what is left of a signal after it has passed all layers?",
    ),
    repair="Scale the weights by the number of inputs of the layer.",
    mechanism=(
        "Signals shrink in every layer, and so do gradients on the way back. Training starts only"
        " when the weights have slowly grown, and normalisation layers can hide it."
    ),
    evidence=(DEEP_CHECKER, DEEP_CRIME),
    examples=(
        Example(
            row="init-std-tiny",
            before="from torch import nn\nnn.init.kaiming_normal_(w, nonlinearity='relu')\n",
            after=("from torch import nn\nnn.init.normal_(w, std=1e-4)\n",),
        ),
    ),
    counterexamples=("from torch import nn\nnn.init.normal_(w, std=0.02)\n",),
)
def init_std_tiny(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    name = random_init(f, node)
    if name and name != "normal_" and name != "trunc_normal_":
        yield from instead(f, node, "normal_", "std=1e-4")


@operator(
    "init-gain-missing",
    cst.Call,
    category="init",
    difficulty=4,
    symptom="The start is slower than it should be, the more so the deeper the model.",
    hints=(
        "LOOK: print the spread of the activations after each layer of a fresh model.",
        "WHERE: the arguments of the initialiser in `{function}`.",
        "WHAT: which share of a signal does the nonlinearity let through?",
    ),
    repair="Tell the initialiser which nonlinearity follows.",
    mechanism=(
        "ReLU drops half of the signal's power, which He initialisation makes up for with a factor"
        " of two. Without it, the signal loses half of its power in every layer."
    ),
    evidence=(DEEP_CHECKER,),
    examples=(
        Example(
            row="init-gain-missing",
            before='from torch import nn\nnn.init.kaiming_normal_(w, nonlinearity="relu")\n',
            after=('from torch import nn\nnn.init.kaiming_normal_(w, nonlinearity="linear")\n',),
        ),
    ),
    counterexamples=("from torch import nn\nnn.init.kaiming_normal_(w)\n",),
)
def init_gain_missing(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if random_init(f, node).startswith("kaiming"):
        given = value(f, node, "nonlinearity", 3)
        if isinstance(given, cst.SimpleString) and given.evaluated_value == "relu":
            yield Proposal(edits=(f.replace(given, f.text(given).replace("relu", "linear")),))


@operator(
    "init-apply-missing",
    cst.SimpleStatementLine,
    cst.For,
    category="init",
    difficulty=2,
    symptom="The first loss is not where a fresh model of this kind should start.",
    hints=(
        "LOOK: print the spread of the weights of a fresh model, layer by layer.",
        "WHERE: what `{function}` does with a model before handing it over.",
        "WHAT: who decides how the weights start?",
    ),
    repair="Run the initialisation on the fresh model.",
    mechanism=(
        "The layers keep the library's default start, which is not the one that the learning rate"
        " and depth of this model were chosen for. Often the run recovers, at a price."
    ),
    evidence=(issue("stanford-crfm/mistral", 30),),
    examples=(
        Example(
            row="init-apply-missing",
            before="class N:\n    def __init__(self):\n        self.a = 1\n        self.apply(init)\n",
            after=("class N:\n    def __init__(self):\n        self.a = 1\n",),
        ),
        Example(
            before=(
                "from torch import nn\n\ndef start(net):\n    nn.init.ones_(net.w)\n\n"
                "net = make()\nstart(net)\n"
            ),
            after=("from torch import nn\n\ndef start(net):\n    nn.init.ones_(net.w)\n\nnet = make()\n",),
        ),
        Example(
            before=(
                "from torch import nn\n\nnet = make()\nfor p in net.parameters():\n"
                "    nn.init.normal_(p, std=0.1)\n"
            ),
            after=("from torch import nn\n\nnet = make()\n",),
        ),
    ),
    counterexamples=("table.apply(fn)\n", "for p in net.parameters():\n    p.grad = None\n"),
)
def init_apply_missing(f: SourceFile, node: cst.SimpleStatementLine | cst.For) -> Iterator[Proposal]:
    if isinstance(node, cst.For):
        home = f.function(node)
        over = last_name(node.iter.func) if isinstance(node.iter, cst.Call) else ""
        walks = over in ("parameters", "named_parameters", "modules", "named_modules")
        if ((walks or isinstance(node.iter, cst.Tuple)) and initialises(f, node)) and (
            home is None or home.name.value in ("build", "__init__")
        ):
            yield Proposal(edits=(f.delete_statement(node),))
        return
    call = called(node)
    if call is None or not call.args:
        return
    applied = isinstance(call.func, cst.Attribute) and call.func.attr.value == "apply"
    if (applied and mentions_init(f, call)) or calls_initialiser(f, call):
        yield Proposal(edits=(f.delete_statement(node),))


def initialises(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a node calls `torch.nn.init`."""
    return any((f.qname(call.func) or "").startswith("torch.nn.init.") for call in inside(node, cst.Call))


def mentions_init(f: SourceFile, call: cst.Call) -> bool:
    """Whether what is applied is called an initialiser."""
    return "init" in f.text(call.args[0].value).lower()


def calls_initialiser(f: SourceFile, call: cst.Call) -> bool:
    """Whether a call goes to a function of this file that only initialises."""
    return isinstance(call.func, cst.Name) and any(
        line.name.value == call.func.value and initialises(f, line)
        for line in f.module.body
        if isinstance(line, cst.FunctionDef)
    )


@operator(
    "init-residual-scale-missing",
    cst.Call,
    category="init",
    difficulty=5,
    symptom="The curve is almost right; the deeper the model, the worse it starts.",
    hints=(
        "LOOK: print the spread of what each block adds, in a fresh model.",
        "WHERE: which weights `{function}` treats alike.",
        "WHAT: how does the variance of a sum grow with the number of its terms?",
    ),
    repair="Divide the spread of what writes into the residual stream by the root of its writers.",
    mechanism=(
        "Every block adds to the residual stream. Unless each contribution starts smaller, the"
        " variance of the stream grows with depth, and the last layers start out saturated."
    ),
    evidence=(issue("stanford-crfm/mistral", 30), issue("huggingface/transformers", 2158)),
    examples=(
        Example(
            row="init-residual-scale-missing",
            before=(
                "import math\nfrom torch import nn\n\nprint(math.pi)\n"
                "nn.init.normal_(w, std=0.02 / math.sqrt(2 * n))\n"
            ),
            after=("import math\nfrom torch import nn\n\nprint(math.pi)\nnn.init.normal_(w, std=0.02)\n",),
        ),
    ),
    counterexamples=("from torch import nn\nnn.init.normal_(w, std=0.02)\n",),
)
def init_residual_scale(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    std = value(f, node, "std", 2) if random_init(f, node) == "normal_" else None
    sides = binary(std, cst.Divide)
    if std is None or sides is None or not isinstance(sides[1], cst.Call):
        return
    if not orphans(f, sides[1]):
        yield Proposal(edits=(f.replace(std, f.text(sides[0])),))


@operator(
    "init-residual-wrong-name",
    cst.Call,
    category="init",
    difficulty=5,
    symptom="Nothing shows in the curve but a slightly worse start.",
    hints=(
        "LOOK: print the spread of every parameter of a fresh model beside its name.",
        "WHERE: how `{function}` recognises the parameters that it treats specially.",
        "WHAT: which names are really caught?",
    ),
    repair="Select the parameters by the name that they have.",
    mechanism=(
        "A name that no parameter has is caught by nobody, without any complaint. The special case"
        " is dead code, and those parameters take the general path."
    ),
    evidence=(issue("karpathy/llama2.c", 579),),
    examples=(
        Example(
            row="init-residual-wrong-name",
            before=(
                'from torch import nn\n\nif name.endswith("out.weight"):\n    nn.init.normal_(p, std=s)\n'
            ),
            after=(
                'from torch import nn\n\nif name.endswith("proj.weight"):\n    nn.init.normal_(p, std=s)\n',
            ),
        ),
    ),
    counterexamples=('if name.endswith("out.weight"):\n    p.grad = None\n',),
)
def init_residual_wrong_name(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if last_name(node.func) != "endswith" or not node.args:
        return
    suffix, branch = node.args[0].value, f.parent.get(node)
    if (
        isinstance(branch, cst.If)
        and initialises(f, branch.body)
        and isinstance(suffix, cst.SimpleString)
        and str(suffix.evaluated_value).endswith(".weight")
    ):
        yield Proposal(edits=(f.replace(suffix, '"proj.weight"'),))


@operator(
    "policy-head-gain",
    cst.Call,
    category="init",
    difficulty=4,
    symptom="The fresh model already prefers some answers; early learning is slow.",
    hints=(
        "LOOK: print the entropy of the outputs of a fresh model.",
        "WHERE: how `{function}` treats the last layer.",
        "WHAT: how decided may a model be that has seen nothing?",
    ),
    repair="Start the last layer small.",
    mechanism=(
        "With a small last layer, a fresh policy is uniform and explores. At full gain it starts"
        " with opinions, explores less, and has to unlearn them first."
    ),
    evidence=(PPO_DETAILS,),
    examples=(
        Example(
            row="policy-head-gain",
            before="from torch import nn\nnn.init.orthogonal_(head.weight, gain=0.01)\n",
            after=("from torch import nn\nnn.init.orthogonal_(head.weight, gain=1.0)\n",),
        ),
        Example(
            before=(
                "from torch import nn\n\ndef layers(n, scale):\n"
                "    nn.init.orthogonal_(w(n), gain=scale)\n\na, b = layers(2, 0.01), layers(1, 1.0)\n"
            ),
            after=(
                "from torch import nn\n\ndef layers(n, scale):\n"
                "    nn.init.orthogonal_(w(n), gain=scale)\n\na, b = layers(2, 1.0), layers(1, 1.0)\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch import nn\nnn.init.orthogonal_(w)\n",
        "def layers(n, scale):\n    return scale * n\n\np = layers(2, 0.01)\n",
    ),
)
def policy_head_gain(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    gain = None
    if random_init(f, node) == "orthogonal_":
        gain = value(f, node, "gain", 1)
    elif isinstance(node.func, cst.Name):
        gain = gain_handed_on(f, node, node.func.value)
    if gain is not None and (number(gain) or 1) < 1:
        yield Proposal(edits=(f.replace(gain, "1.0"),))


def gain_handed_on(f: SourceFile, node: cst.Call, name: str) -> cst.BaseExpression | None:
    """The scale that a call hands to a function of the file which starts layers orthogonal."""
    for home in f.module.body:
        if not isinstance(home, cst.FunctionDef) or home.name.value != name:
            continue
        if not any(random_init(f, call) == "orthogonal_" for call in inside(home, cst.Call)):
            return None
        for place, param in enumerate(home.params.params):
            if param.name.value in ("gain", "scale"):
                return value(f, node, param.name.value, place)
    return None


@operator(
    "lstm-forget-bias-neg",
    cst.SubscriptElement,
    category="init",
    difficulty=5,
    symptom="Short sequences are learned as usual, long ones much later.",
    hints=(
        "LOOK: print the mean of each gate on the first batch.",
        "WHERE: which part of the bias `{function}` sets apart.",
        "WHAT: in which order do the gates stand, and which of them should start open?",
    ),
    repair="Give the positive bias to the forget gate.",
    mechanism=(
        "A forget gate that starts open lets memory and gradients pass through time. When another"
        " gate gets its bias, memory halves at every step until the gate has learned to stay open."
    ),
    evidence=("https://proceedings.mlr.press/v37/jozefowicz15.html",),
    examples=(
        Example(
            row="lstm-forget-bias-neg",
            before="bias.data[h : 2 * h] = 1\n",
            after=("bias.data[:h] = 1\n",),
        ),
        Example(
            before="from torch import nn\nnn.init.ones_(bias[self.h:2*self.h])\n",
            after=("from torch import nn\nnn.init.ones_(bias[:self.h])\n",),
        ),
    ),
    counterexamples=("x = seq[h : 2 * h]\n", "bias.data[h:] = 1\n"),
)
def lstm_forget_bias(f: SourceFile, node: cst.SubscriptElement) -> Iterator[Proposal]:
    part = node.slice
    line = enclosing(f, node, cst.SimpleStatementLine)
    if not isinstance(part, cst.Slice) or line is None or "bias" not in f.text(line):
        return
    factors = binary(part.upper, cst.Multiply)
    if factors is None or part.lower is None:
        return
    if sorted((f.text(factors[0]), f.text(factors[1]))) == sorted(("2", f.text(part.lower))):
        yield Proposal(edits=(f.replace(part, f":{f.text(part.lower)}"),))
