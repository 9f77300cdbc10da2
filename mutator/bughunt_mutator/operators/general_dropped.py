"""Mistakes of omission that were made in public projects: an argument, a step or a wrapper left out."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.index import inside
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    called,
    function_of,
    last_name,
    loop_of,
    names_in,
    neighbours,
    orphans,
)
from bughunt_mutator.operators._look_meaning import pieces, says
from bughunt_mutator.operators._look_parts import draws, later
from bughunt_mutator.operators._sources import commit
from bughunt_mutator.source import SourceFile

PROCESSING = ("drop", "dropout", "norm", "detach", "exp", "sigmoid", "softmax", "scale", "clamp")
TOTALS = ("loss", "losses", "total", "count", "grad", "reward", "return", "correct", "tokens")


@operator(
    "real-forward-dropped",
    cst.Arg,
    category="optimiser",
    difficulty=4,
    symptom="A setting has no effect: whatever its value, the run is the same.",
    hints=(
        "LOOK: change every setting in turn, by a lot; which of them changes nothing?",
        "WHERE: the calls that `{function}` hands its arguments on to.",
        "WHAT: does each setting arrive where it is used?",
    ),
    repair="Hand the argument on.",
    mechanism=(
        "The function takes the argument and does not pass it on. What it calls has a default, so there"
        " is no error, and the default decides."
    ),
    evidence=(
        commit("huggingface/peft", "7e7b55880e2e0f3c80309d4e578ee36f6ff24793"),
        commit("facebookresearch/detectron2", "8b380971a38300ccfc10a0499dfd1306c6427e0e"),
        commit("lucidrains/denoising-diffusion-pytorch", "e3c80369a33e63f615c0b94e5f396cbbc3192d40"),
    ),
    examples=(
        Example(
            "def f(make, data, seed):\n    return make(data, seed=seed)\n",
            ("def f(make, data, seed):\n    return make(data)\n",),
        ),
        Example(
            "def f(net, x):\n    return net(x, p=0.0) - net(x, p=1.0)\n",
            (
                "def f(net, x):\n    return net(x) - net(x, p=1.0)\n",
                "def f(net, x):\n    return net(x, p=0.0) - net(x)\n",
            ),
        ),
    ),
    counterexamples=("def f(make, seed):\n    return make(seed=3)\n", "f(x, seed=seed)\n"),
)
def forward_dropped(f: SourceFile, node: cst.Arg) -> Iterator[Proposal]:
    call, home = f.parent[node], f.function(node)
    if node.keyword is None or home is None or not isinstance(call, cst.Call):
        return
    name = node.keyword.value
    params = [*home.params.params, *home.params.kwonly_params]
    forwarded = last_name(node.value) == name and any(param.name.value == name for param in params)
    if forwarded or _is_set_apart(f, node, call):
        yield Proposal((f.delete_arg(call, node),))


def _is_set_apart(f: SourceFile, node: cst.Arg, call: cst.Call) -> bool:
    """Whether another call of the same thing in the function passes another value."""

    if not isinstance(node.value, cst.Integer | cst.Float) or node.keyword is None:
        return False
    for other in inside(function_of(f, node), cst.Call):
        if other is not call and f.text(other.func) == f.text(call.func):
            for arg in other.args:
                if arg.keyword is not None and arg.keyword.value == node.keyword.value:
                    return f.text(arg.value) != f.text(node.value)
    return False


@operator(
    "real-step-skipped",
    cst.Call,
    category="architecture",
    difficulty=3,
    symptom="A layer is in the model, takes no part in it, and the results are a little off.",
    hints=(
        "LOOK: count the calls of every layer during one pass; is one of them never called?",
        "WHERE: the steps from input to output in `{function}`.",
        "WHAT: does every value go through all of its steps?",
    ),
    repair="Put the step back.",
    mechanism=(
        "The step keeps the shape, so the value without it goes on as if nothing were missing: no"
        " dropout, no detaching, a logarithm where the number itself is meant."
    ),
    evidence=(
        commit("huggingface/pytorch-openai-transformer-lm", "1ea4259cd571b78f70305e410fa7eaf7b83f2f4d"),
        commit("vwxyzjn/cleanrl", "7e24ae238eab6a8e7efbbf452cb4a8922bcda73f"),
        commit("ultralytics/yolov5", "841f312f9384d3ab8f2ff2ae287441ecfba03740"),
    ),
    examples=(
        Example(
            "class M:\n    def forward(self, x):\n        return self.drop(self.embed(x))\n",
            ("class M:\n    def forward(self, x):\n        return self.embed(x)\n",),
        ),
        Example(
            "def f(log_alpha, h):\n    return (log_alpha.exp() * h).mean()\n",
            ("def f(log_alpha, h):\n    return (log_alpha * h).mean()\n",),
        ),
        Example(
            "class E:\n    def update(self, d, v, k):\n        v += (1 - d) * k.detach()\n",
            ("class E:\n    def update(self, d, v, k):\n        v += (1 - d) * k\n",),
        ),
    ),
    counterexamples=("def f(x, y):\n    return x.exp() * y\n", "y = drop(rows)\n"),
)
def step_skipped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    func = node.func
    if not isinstance(func, cst.Attribute) or isinstance(f.parent[node], cst.Expr):
        return
    name = func.attr.value
    if last_name(func.value) == "self" and len(node.args) == 1:
        inner = node.args[0].value
        if pieces(name) & set(PROCESSING) and isinstance(inner, cst.Call) and f.function(node) is not None:
            yield Proposal((f.replace(node, f.text(inner)),))
    elif not node.args and (
        (name == "exp" and says(func.value, "log"))
        or (name == "detach" and isinstance(f.parent[node], cst.BinaryOperation))
    ):
        yield Proposal((f.replace(node, f.text(func.value)),))


@operator(
    "real-part-left-out",
    cst.BinaryOperation,
    cst.List,
    cst.For,
    category="optimiser",
    difficulty=3,
    symptom="A part of the model stays as it was made, or the data come in another range.",
    hints=(
        "LOOK: compare every parameter and every input before and after; what does not move?",
        "WHERE: what `{function}` puts together from several parts.",
        "WHAT: is every part there?",
    ),
    repair="Put the part in.",
    mechanism="The rest is a whole of its own, so nothing fails; what was left out is simply not done.",
    evidence=(
        commit("huggingface/pytorch-openai-transformer-lm", "39891aae3ce9a3775779f5093ce400450ff98c4d"),
        commit("lucidrains/denoising-diffusion-pytorch", "16c9ae7bb315db507a45fdd6aeb785b6066539c9"),
    ),
    examples=(
        Example(
            "def f(a, b):\n    return list(a.parameters()) + list(b.parameters())\n",
            ("def f(a, b):\n    return list(a.parameters())\n",),
        ),
        Example(
            "from torchvision.transforms import Compose\n\nsteps = Compose([load(), scale()])\n",
            ("from torchvision.transforms import Compose\n\nsteps = Compose([load()])\n",),
        ),
        Example(
            "from torch import nn\n\nfor part in (net.a, net.b):\n    nn.init.zeros_(part.bias)\n",
            ("from torch import nn\n\nfor part in (net.a,):\n    nn.init.zeros_(part.bias)\n",),
        ),
    ),
    counterexamples=(
        "def f(a, b):\n    return list(a) + list(b)\n",
        "x = [load(), scale()]\n",
        "for part in (net.a, net.b):\n    show(part)\n",
    ),
)
def part_left_out(f: SourceFile, node: cst.BinaryOperation | cst.List | cst.For) -> Iterator[Proposal]:
    if isinstance(node, cst.For):
        yield from last_unset(f, node)
        return
    if isinstance(node, cst.List):
        call = f.parent[f.parent[node]]
        if (
            isinstance(call, cst.Call)
            and last_name(call.func) == "Compose"
            and len(node.elements) > 1
            and not orphans(f, node.elements[-1])
        ):
            start, end = f.span(node.elements[-2].value)[1], f.span(node.elements[-1].value)[1]
            yield Proposal((f.edit(start, end, ""),))
        return
    sides = binary(node, cst.Add)
    if (
        sides is not None
        and all("parameters" in names_in(side) for side in sides)
        and not orphans(f, sides[1])
    ):
        yield Proposal((f.replace(node, f.text(sides[0])),))


@operator(
    "real-result-discarded",
    cst.SimpleStatementLine,
    category="numerics-precision",
    difficulty=3,
    symptom="A step is in the program, and has no effect.",
    hints=(
        "LOOK: print the value before and after every line of `{function}`.",
        "WHERE: the lines of `{function}` that work on a value.",
        "WHAT: does the operation change its input, or return a new value?",
    ),
    repair="Assign what the operation returns.",
    mechanism="The operation returns a new tensor, which nobody keeps; the old one goes on unchanged.",
    evidence=(commit("huggingface/peft", "cf9709c5a6d085f34b98727050109d267c342f0a"),),
    examples=(
        Example(
            "import torch\ndef f(x, d):\n    x = torch.div(x, d)\n    return x\n",
            ("import torch\ndef f(x, d):\n    torch.div(x, d)\n    return x\n",),
        ),
        Example(
            "def f(x, m):\n    x = x.masked_fill(m, 0.0)\n    return x\n",
            ("def f(x, m):\n    x.masked_fill(m, 0.0)\n    return x\n",),
        ),
    ),
    counterexamples=(
        "def f(x):\n    x = x.strip()\n    return x\n",
        "def f(x):\n    y = g(x)\n    return y\n",
        "import torch\nx = torch.div(x, 2)\n",
    ),
)
def result_discarded(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    if pair is None or f.function(node) is None:
        return
    target, value = pair
    if isinstance(target, cst.Name) and isinstance(value, cst.Call) and value.args:
        home, _, _ = (f.qname(value.func) or "").rpartition(".")
        own = isinstance(value.func, cst.Attribute) and value.func.attr.value in RETURNING
        subject = value.func.value if own and isinstance(value.func, cst.Attribute) else value.args[0].value
        if (own or home in ("torch", "torch.nn.functional")) and f.text(subject) == target.value:
            yield Proposal((f.replace(node, f.text(value)),))


RETURNING = ("masked_fill", "clamp", "scatter", "index_fill", "index_add", "softmax", "log_softmax")


@operator(
    "real-total-overwritten",
    cst.AugAssign,
    category="eval-metrics",
    difficulty=2,
    symptom="A reported number jumps about, although training is smooth.",
    hints=(
        "LOOK: compare the number that is reported with one that you sum up yourself.",
        "WHERE: the loop of `{function}`.",
        "WHAT: does the total hold all turns of the loop, or the last?",
    ),
    repair="Add to the total.",
    mechanism="Each turn of the loop replaces what was there, so the total is that of the last turn.",
    evidence=(commit("allenai/allennlp", "90f003799e9fd6f786f54027441600ac6e871d20"),),
    examples=(
        Example(
            "def f(xs):\n    loss = 0.0\n    for x in xs:\n        loss += x\n    return loss\n",
            ("def f(xs):\n    loss = 0.0\n    for x in xs:\n        loss = x\n    return loss\n",),
        ),
    ),
    counterexamples=("def f(xs):\n    for x in xs:\n        i += x\n", "loss += x\n"),
)
def total_overwritten(f: SourceFile, node: cst.AugAssign) -> Iterator[Proposal]:
    if loop_of(f, node) is None or not isinstance(node.operator, cst.AddAssign):
        return
    if isinstance(node.target, cst.Name) and not pieces(node.target.value).isdisjoint(TOTALS):
        yield Proposal((f.replace(node, f"{f.text(node.target)} = {f.text(node.value)}"),))


@operator(
    "real-recount-dropped",
    cst.SimpleStatementLine,
    category="data",
    difficulty=4,
    symptom="Some examples carry wrong labels, or miss them.",
    hints=(
        "LOOK: compare every count with the length of what it counts.",
        "WHERE: the sizes that `{function}` keeps.",
        "WHAT: is the size taken before or after the last change?",
    ),
    repair="Take the size again after the change.",
    mechanism="The size was right before the change, and is used as if nothing had happened.",
    evidence=(commit("ultralytics/yolov5", "1d65e8194d183f4e1537cf64a7292f8ab57d1d55"),),
    examples=(
        Example(
            "def f(a):\n    n = len(a)\n    a = g(a)\n    n = len(a)\n    return a, n\n",
            ("def f(a):\n    n = len(a)\n    a = g(a)\n    return a, n\n",),
        ),
    ),
    counterexamples=("def f(a):\n    a = g(a)\n    n = len(a)\n    return a, n\n",),
)
def recount_dropped(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    lines, place = neighbours(f, node)
    if assigned(node) is not None and any(
        isinstance(line, cst.SimpleStatementLine) and f.text(line) == f.text(node) for line in lines[:place]
    ):
        yield Proposal((f.delete_statement(node),))


@operator(
    "real-guard-dropped",
    cst.BooleanOperation,
    cst.If,
    category="architecture",
    difficulty=3,
    symptom="Results change from call to call when the model is used.",
    hints=(
        "LOOK: call the model twice on one input, in both modes.",
        "WHERE: the conditions in `{function}`.",
        "WHAT: should this happen in training only?",
    ),
    repair="Ask for training mode first.",
    mechanism="What is meant as noise for training is done whenever it is configured.",
    evidence=(commit("lucidrains/vit-pytorch", "96f66d275489ac11f25e585a99c4da1f0d781d35"),),
    examples=(
        Example(
            "class M:\n    def forward(self, x):\n        return self.training and self.p > 0\n",
            ("class M:\n    def forward(self, x):\n        return self.p > 0\n",),
        ),
        Example(
            "import torch\n\nclass M:\n    def forward(self, x):\n        if not self.training:\n"
            "            return x\n        return x * (torch.rand_like(x) < 0.5)\n",
            (
                "import torch\n\nclass M:\n    def forward(self, x):\n"
                "        return x * (torch.rand_like(x) < 0.5)\n",
            ),
        ),
    ),
    counterexamples=(
        "def f(a, b):\n    return a and b\n",
        "class M:\n    def forward(self, x):\n        if not self.training:\n            return x\n"
        "        return 2 * x\n",
    ),
)
def guard_dropped(f: SourceFile, node: cst.BooleanOperation | cst.If) -> Iterator[Proposal]:
    if isinstance(node, cst.If):
        asked = f.text(node.test) == "not self.training" and node.orelse is None
        leaves = any(True for _ in inside(node.body, cst.Return))
        if asked and leaves and any(draws(line) for line in later(f, node)):
            yield Proposal((f.delete_statement(node),))
        return
    if isinstance(node.operator, cst.And) and f.text(node.left) == "self.training":
        yield Proposal((f.replace(node, f.text(node.right)),))


def last_unset(f: SourceFile, node: cst.For) -> Iterator[Proposal]:
    """The last of several layers left out of the loop that initialises them."""
    parts = node.iter.elements if isinstance(node.iter, cst.Tuple | cst.List) else ()
    sets = [(f.qname(call.func) or "").startswith("torch.nn.init.") for call in inside(node.body, cst.Call)]
    if len(parts) < 2 or not any(sets) or not all(isinstance(each.value, cst.Attribute) for each in parts):
        return
    start, end = f.span(parts[-2].value)[1], f.span(parts[-1].value)[1]
    single = len(parts) == 2 and isinstance(node.iter, cst.Tuple)
    yield Proposal(
        (f.edit(start, end, "," if single and parts[-1].comma == cst.MaybeSentinel.DEFAULT else ""),)
    )


@operator(
    "real-loaded-first",
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=4,
    symptom="After a restart the learning rate is not what it was.",
    hints=(
        "LOOK: print the learning rate of the first step of a new run and of a resumed one.",
        "WHERE: the order of the lines in `{function}`.",
        "WHAT: does the schedule take its base rate before or after the state is loaded?",
    ),
    repair="Make the schedule before the state is loaded.",
    mechanism="The schedule takes the loaded, already reduced rate for the base rate.",
    evidence=(commit("ultralytics/yolov5", "956511dafd7451423be9c10f9c38f8e21631ba52"),),
    examples=(
        Example(
            "def f(o, s):\n    sched = LambdaLR(o, g)\n    o.load_state_dict(s)\n    return sched\n",
            ("def f(o, s):\n    o.load_state_dict(s)\n    sched = LambdaLR(o, g)\n    return sched\n",),
        ),
    ),
    counterexamples=("def f(o, s):\n    sched = LambdaLR(o, g)\n    o.step()\n    return sched\n",),
)
def loaded_first(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    lines, place = neighbours(f, node)
    after = called(lines[place + 1]) if place + 1 < len(lines) else None
    if pair is None or after is None or not isinstance(pair[1], cst.Call):
        return
    if last_name(pair[1].func).endswith(("LR", "Scheduler")) and last_name(after.func) == "load_state_dict":
        first, second = node, lines[place + 1]
        yield Proposal((f.replace(first, f.text(second)), f.replace(second, f.text(first))))
