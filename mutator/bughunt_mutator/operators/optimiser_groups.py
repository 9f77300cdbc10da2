"""Mistakes in what an optimiser is given: its parameters, their groups, and its own numbers."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    binary,
    called,
    function_of,
    inside,
    keyword,
    last_name,
    neighbours,
    number,
    orphans,
)
from bughunt_mutator.operators._look_training import merged, retired, words
from bughunt_mutator.operators._sources import DEEP_CHECKER, DEEP_CRIME, PPO_DETAILS, RL_MUTANTS, issue, pull
from bughunt_mutator.operators.optimiser import power_of_decay
from bughunt_mutator.source import SourceFile

ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adamax")
SGD_TAKES = ("params", "lr", "weight_decay", "maximize", "foreach", "fused")


def decay_of(group: cst.BaseExpression) -> cst.BaseExpression | None:
    """The weight decay that a parameter group is given."""
    if isinstance(group, cst.Dict):
        for entry in group.elements:
            if isinstance(entry, cst.DictElement) and is_text(entry.key, "weight_decay"):
                return entry.value
    if isinstance(group, cst.Call) and last_name(group.func) == "dict":
        given = keyword(group, "weight_decay")
        return given.value if given is not None else None
    return None


def is_group(group: cst.BaseExpression) -> bool:
    """Whether an expression is a group of parameters with settings of its own."""
    if isinstance(group, cst.Dict):
        return any(
            isinstance(entry, cst.DictElement) and is_text(entry.key, "params") for entry in group.elements
        )
    return isinstance(group, cst.Call) and last_name(group.func) == "dict" and bool(keyword(group, "params"))


def is_text(node: cst.BaseExpression, text: str) -> bool:
    """Whether an expression is this string."""
    return isinstance(node, cst.SimpleString) and node.evaluated_value == text


@operator(
    "wd-on-bias-norm",
    cst.List,
    category="optimiser",
    difficulty=5,
    symptom="Training looks normal; gains and biases are smaller than in comparable runs.",
    hints=(
        "LOOK: print the settings of each group of the optimiser, with the shapes in it.",
        "WHERE: how `{function}` tells parameters apart.",
        "WHAT: what is a gain drawn towards, and what should it be drawn towards?",
    ),
    repair="Give biases and gains a weight decay of zero.",
    mechanism=(
        "All parameters are pulled towards zero alike. For a matrix zero is a modest choice, but a"
        " gain of zero switches its channel off, and a bias has no part in overfitting. The pull is"
        " small at every step and only shows in the values after many of them."
    ),
    evidence=(issue("ServiceNow/Fast-LLM", 542), issue("CyberZHG/keras-bert", 60)),
    examples=(
        Example(
            before='g = [{"params": a, "weight_decay": cfg.wd}, {"params": b, "weight_decay": 0.0}]\n',
            after=('g = [{"params": a, "weight_decay": cfg.wd}, {"params": b, "weight_decay": cfg.wd}]\n',),
        ),
        Example(
            before="g = [dict(params=b, weight_decay=0), dict(params=a, weight_decay=0.1)]\n",
            after=("g = [dict(params=b, weight_decay=0.1), dict(params=a, weight_decay=0.1)]\n",),
        ),
    ),
    counterexamples=(
        'g = [{"params": a, "weight_decay": 0.1}, {"params": b, "weight_decay": 0.2}]\n',
        'g = [{"params": a, "weight_decay": 0.0}]\n',
        "g = [a, b]\n",
    ),
)
def decay_everywhere(f: SourceFile, node: cst.List) -> Iterator[Proposal]:
    decays = [decay for each in node.elements if (decay := decay_of(each.value)) is not None]
    free = [decay for decay in decays if number(decay) == 0]
    pulled = [decay for decay in decays if number(decay) != 0]
    if len(free) == 1 and pulled:
        yield Proposal(edits=(f.replace(free[0], f.text(pulled[0])),))


@operator(
    "no-decay-exact-match",
    cst.Call,
    cst.Comparison,
    category="optimiser",
    difficulty=5,
    symptom="Training looks normal; one group of parameters is nearly empty.",
    hints=(
        "LOOK: print how many parameters each group of the optimiser holds, and their names.",
        "WHERE: how `{function}` recognises a parameter.",
        "WHAT: what is the full name of a bias in the third layer?",
    ),
    repair="Ask whether the name of the parameter contains the word or ends in it.",
    mechanism=(
        "Parameters have dotted names which begin with the modules they belong to. Compared as a"
        " whole, such a name equals none of the short words, so that hardly anything is exempt"
        " from the decay. Nothing fails, since an empty group is as good as a full one."
    ),
    evidence=(pull("namisan/mt-dnn", 37),),
    examples=(
        Example(
            before="a = [p for n, p in ps if not any(nd in n for nd in no_decay)]\n",
            after=("a = [p for n, p in ps if not n in no_decay]\n",),
        ),
        Example(
            before=(
                "decay = [p for n, p in ps if not any(w in n for w in words)]\n"
                "no_decay = [p for n, p in ps if any(w in n for w in words)]\n"
            ),
            after=(
                "decay = [p for n, p in ps if not n in words]\nno_decay = [p for n, p in ps if n in words]\n",
            ),
        ),
        Example(
            before='decay = 0.0 if name.endswith("bias") else 0.1\n',
            after=('decay = 0.0 if name == "bias" else 0.1\n',),
        ),
        Example(
            before='if "norm" in name:\n    group["weight_decay"] = 0.0\n',
            after=('if name == "norm":\n    group["weight_decay"] = 0.0\n',),
        ),
        Example(
            before='decay = [p for n, p in ps if n.endswith(("bias", "gain"))]\n',
            after=('decay = [p for n, p in ps if n in ("bias", "gain")]\n',),
        ),
    ),
    counterexamples=(
        'if name.endswith("bias"):\n    nn.init.zeros_(p)\n',
        "a = any(x in n for x in words)\n",
        "decay = [p for n, p in ps if n in no_decay]\n",
    ),
)
def exact_match(f: SourceFile, node: cst.Call | cst.Comparison) -> Iterator[Proposal]:
    if not as_a_whole(f, node):
        return
    home = function_of(f, node)
    alike = [each for each in inside(home, type(node)) if as_a_whole(f, each)]
    if alike[0] is node:
        yield Proposal(edits=tuple(f.replace(each, as_a_whole(f, each)) for each in alike))


def as_a_whole(f: SourceFile, node: cst.Call | cst.Comparison) -> str:
    """A question about a part of a parameter's name, asked of the whole name; empty for any other."""
    if isinstance(node, cst.Comparison):
        name, test = node.comparisons[0].comparator, node.comparisons[0].operator
        word = node.left if isinstance(test, cst.In) and isinstance(node.left, cst.SimpleString) else None
        asked = f"{f.text(name)} == {f.text(word)}" if word is not None else ""
    elif isinstance(node.func, cst.Attribute) and node.func.attr.value == "endswith" and node.args:
        ending = node.args[0].value
        sign = "in" if isinstance(ending, cst.Tuple) else "=="
        asked = f"{f.text(node.func.value)} {sign} {f.text(ending)}"
    else:
        asked = any_of(f, node)
    return asked if asked and "decay" in f.text(f.statement(node)) else ""


def any_of(f: SourceFile, node: cst.Call) -> str:
    """`name in words` for `any(word in name for word in words)`."""
    each = node.args[0].value if node.args else None
    if not isinstance(each, cst.GeneratorExp) or f.text(node.func) != "any":
        return ""
    test = each.elt
    if not isinstance(test, cst.Comparison) or not isinstance(test.comparisons[0].operator, cst.In):
        return ""
    same = f.text(test.left) == f.text(each.for_in.target)
    return f"{f.text(test.comparisons[0].comparator)} in {f.text(each.for_in.iter)}" if same else ""


@operator(
    "param-group-dropped",
    cst.List,
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=4,
    symptom="The run ends a little higher than it should, and some values never change.",
    hints=(
        "LOOK: list the parameters that are bitwise the same after a hundred updates.",
        "WHERE: what `{function}` hands to the optimiser.",
        "WHAT: does every parameter of the model belong to some group?",
    ),
    repair="Give the optimiser all groups of parameters.",
    mechanism=(
        "An optimiser moves what it was given and nothing else. Parameters of a group that is left"
        " out still receive gradients, but keep the values they were initialised with; the others"
        " make up for it in part, which is why the curve looks nearly normal."
    ),
    evidence=(),
    examples=(
        Example(
            before=(
                "def f(ps):\n    a = [p for p in ps if p.dim() > 1]\n    b = [p for p in ps if p.dim() < 2]\n"
                '    return [{"params": a, "weight_decay": 0.1}, {"params": b, "weight_decay": 0.0}]\n'
            ),
            after=(
                "def f(ps):\n    a = [p for p in ps if p.dim() > 1]\n"
                '    return [{"params": a, "weight_decay": 0.1}]\n',
            ),
        ),
        Example(
            before='opt = make([{"params": a, "lr": 1}, {"params": b, "lr": 2}])\n',
            after=('opt = make([{"params": a, "lr": 1}])\n',),
        ),
        Example(
            before='opt = make(a)\nopt.add_param_group({"params": b})\n',
            after=("opt = make(a)\n",),
        ),
    ),
    counterexamples=('g = [{"params": a, "lr": 1}]\n', "g = [a, b]\n"),
)
def group_dropped(f: SourceFile, node: cst.List | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        call = called(node)
        if call is None or last_name(call.func) != "add_param_group":
            return
        rest = retired(f, node)
        if rest is not None:
            yield Proposal(edits=merged(f.delete_statement(node), *rest))
        return
    values = [each.value for each in node.elements]
    if len(values) < 2 or not all(is_group(value) for value in values):
        return
    free = [i for i, value in enumerate(values) if number(decay_of(value)) == 0]
    place = free[0] if free else len(values) - 1
    rest = retired(f, values[place])
    if rest is not None:
        yield Proposal(edits=merged(without(f, node, place), *rest))


def without(f: SourceFile, node: cst.List, place: int) -> Edit:
    """The edit that takes an element out of a list with one comma."""
    elements = node.elements
    if place:
        return f.edit(f.span(elements[place - 1].value)[1], f.span(elements[place].value)[1], "")
    return f.edit(f.span(elements[0].value)[0], f.span(elements[1].value)[0], "")


@operator(
    "adam-bias-t-zero",
    cst.SimpleStatementLine,
    cst.For,
    category="optimiser",
    difficulty=2,
    symptom="After the first update the parameters are infinite, or not numbers at all.",
    hints=(
        "LOOK: print every intermediate value of the very first update.",
        "WHERE: the count of steps in `{function}`.",
        "WHAT: what is one minus anything to the power of zero?",
    ),
    repair="Count the step before its number is used.",
    mechanism=(
        "The correction for the start of the running averages divides by one minus the decay to the"
        " power of the step. With the first step numbered zero the divisor is zero, and one update"
        " is enough to ruin every parameter."
    ),
    evidence=(),
    examples=(
        Example(
            before="def step(self):\n    self.t += 1\n    m = self.m / (1 - b ** self.t)\n    self.w -= m\n",
            after=(
                "def step(self):\n    m = self.m / (1 - b ** self.t)\n    self.w -= m\n    self.t += 1\n",
            ),
        ),
        Example(
            before="s['n'] = s.get('n', 0) + 1\nc = 1 - b ** s['n']\nw -= m / c\n",
            after=("s['n'] = s.get('n', 0)\nc = 1 - b ** s['n']\nw -= m / c\ns['n'] += 1\n",),
        ),
        Example(
            before="for t in range(1, n + 1):\n    w -= m / (1 - b**t)\n",
            after=("for t in range(n):\n    w -= m / (1 - b**t)\n",),
        ),
        Example(
            before="for t, g in enumerate(gs, start=1):\n    w -= g / (1 - b**t)\n",
            after=("for t, g in enumerate(gs):\n    w -= g / (1 - b**t)\n",),
        ),
    ),
    counterexamples=(
        "self.t += 1\nm = self.m / (1 - b)\n",
        "m = m / (1 - b**t)\nt += 1\n",
        "for t in range(1, n + 1):\n    w -= m / t\n",
    ),
)
def step_zero(f: SourceFile, node: cst.SimpleStatementLine | cst.For) -> Iterator[Proposal]:
    if isinstance(node, cst.For):
        edit = from_zero(f, node)
        if edit is not None:
            yield Proposal(edits=(edit,))
        return
    only = node.body[0] if len(node.body) == 1 else None
    if not isinstance(only, cst.AugAssign | cst.Assign):
        return
    target = only.target if isinstance(only, cst.AugAssign) else only.targets[0].target
    lines, place = neighbours(f, node)
    if place + 1 == len(lines) or not any(corrects(f, line, f.text(target)) for line in lines[place + 1 :]):
        return
    last = lines[-2] if leaves(lines[-1]) else lines[-1]
    later = f.insert_after(last, f"{f.text(target)} += 1")
    if isinstance(only, cst.AugAssign):
        if isinstance(only.operator, cst.AddAssign) and number(only.value) == 1 and last is not node:
            yield Proposal(edits=(f.delete_statement(node), later))
    elif isinstance(only.value, cst.BinaryOperation) and number(only.value.right) == 1:
        before = only.value.left
        if isinstance(before, cst.Call) and last_name(before.func) == "get" and last is not node:
            yield Proposal(edits=(f.replace(only.value, f.text(before)), later))


def leaves(line: cst.CSTNode) -> bool:
    """Whether a statement ends the pass through its suite."""
    return isinstance(line, cst.SimpleStatementLine) and isinstance(
        line.body[0], cst.Return | cst.Continue | cst.Break | cst.Raise
    )


def from_zero(f: SourceFile, loop: cst.For) -> Edit | None:
    """The edit that makes a loop count from zero, if its count corrects running averages."""
    call = loop.iter
    if not isinstance(call, cst.Call):
        return None
    if f.text(call.func) == "enumerate" and isinstance(loop.target, cst.Tuple):
        start = f.arg(call, "start", 1)
        step = f.text(loop.target.elements[0].value)
        if start is not None and number(start.value) == 1 and corrects(f, loop.body, step):
            return f.delete_arg(call, start)
    elif f.text(call.func) == "range" and len(call.args) == 2 and number(call.args[0].value) == 1:
        end = call.args[1].value
        sides = binary(end, cst.Add)
        if sides is not None and number(sides[1]) == 1 and corrects(f, loop.body, f.text(loop.target)):
            return f.replace(call, f"range({f.text(sides[0])})")
    return None


def corrects(f: SourceFile, home: cst.CSTNode, step: str) -> bool:
    """Whether one minus a decay to the power of this count is taken somewhere."""
    for each in inside(home, cst.BinaryOperation):
        found = power_of_decay(each)
        if found is not None and isinstance(found[1], cst.BinaryOperation) and f.text(found[1].right) == step:
            return True
    return False


@operator(
    "adam-eps-bad",
    cst.Call,
    cst.Param,
    category="optimiser",
    difficulty=3,
    symptom="Updates have the wrong size: far too small, or not a number where a unit is dead.",
    hints=(
        "LOOK: print the largest update of each parameter beside the step size.",
        "WHERE: the denominator of the updates that `{function}` sets up.",
        "WHAT: which of its two parts should decide: the gradients or the constant?",
    ),
    repair="Use a constant that is small beside the gradients and not zero.",
    mechanism=(
        "Adam divides by the size of recent gradients, and the constant only keeps that from being a"
        " division by zero. A large one drowns the gradients, and what is left is plain gradient"
        " descent with small steps. Without one, a parameter that never had a gradient becomes 0/0."
    ),
    evidence=(DEEP_CHECKER, PPO_DETAILS),
    examples=(
        Example(
            before="import torch\nopt = torch.optim.Adam(ps, eps=1e-8)\n",
            after=(
                "import torch\nopt = torch.optim.Adam(ps, eps=0.1)\n",
                "import torch\nopt = torch.optim.Adam(ps, eps=0.0)\n",
            ),
        ),
        Example(
            before="from torch import optim\nopt = optim.AdamW(ps, lr=0.1)\n",
            after=(
                "from torch import optim\nopt = optim.AdamW(ps, lr=0.1, eps=0.1)\n",
                "from torch import optim\nopt = optim.AdamW(ps, lr=0.1, eps=0.0)\n",
            ),
        ),
        Example(
            before="class Adam:\n    def __init__(self, lr, eps=1e-8):\n        pass\n",
            after=(
                "class Adam:\n    def __init__(self, lr, eps=0.1):\n        pass\n",
                "class Adam:\n    def __init__(self, lr, eps=0.0):\n        pass\n",
            ),
        ),
    ),
    counterexamples=(
        "import torch\nopt = torch.optim.SGD(ps, lr=0.1)\n",
        "class LayerNorm:\n    def __init__(self, eps=1e-8):\n        pass\n",
        "import torch\nopt = torch.optim.Adam(*args)\n",
    ),
)
def bad_eps(f: SourceFile, node: cst.Call | cst.Param) -> Iterator[Proposal]:
    if isinstance(node, cst.Param):
        home = f.class_(node) or f.function(node)
        known = words(home.name) & {"adam", "adamw", "rmsprop", "rms", "prop"} if home is not None else ()
        if known and "eps" in node.name.value and 0 < (number(node.default) or 0) < 1e-3:
            assert node.default is not None
            for new in ("0.1", "0.0"):
                yield Proposal(edits=(f.replace(node.default, new),))
        return
    home_, _, name = (f.qname(node.func) or "").rpartition(".")
    if home_ != "torch.optim" or name not in ADAPTIVE or any(arg.star for arg in node.args):
        return
    given = f.arg(node, "eps", 3)
    for new in ("0.1", "0.0"):
        if given is None:
            yield Proposal(edits=(f.insert_arg(node, f"eps={new}"),))
        elif number(given.value) is not None:
            yield Proposal(edits=(f.replace(given.value, new),))


@operator(
    "optimizer-swap",
    cst.Call,
    category="optimiser",
    difficulty=1,
    symptom="The loss falls so slowly that the run ends near its beginning.",
    hints=(
        "LOOK: print the size of one update for parameters with small and with large gradients.",
        "WHERE: what `{function}` trains with.",
        "WHAT: does this step size suit an update that is proportional to the gradient?",
    ),
    repair="Train with the optimiser that the step size was chosen for.",
    mechanism=(
        "Adam moves each weight by about the step size, however small its gradient. Plain gradient"
        " descent moves it by the step size times the gradient, which is hundreds of times less, so"
        " the two need very different rates. The setting was kept, the method was not."
    ),
    evidence=(DEEP_CRIME, RL_MUTANTS),
    examples=(
        Example(
            before="import torch\nopt = torch.optim.AdamW(ps, lr=0.1, betas=(0.9, 0.99), weight_decay=0.1)\n",
            after=("import torch\nopt = torch.optim.SGD(ps, lr=0.1, weight_decay=0.1)\n",),
        ),
        Example(
            before="from torch import optim\nopt = optim.Adam(ps, 0.1)\n",
            after=("from torch import optim\nopt = optim.SGD(ps, 0.1)\n",),
        ),
    ),
    counterexamples=(
        "from torch.optim import Adam\nopt = Adam(ps)\n",
        "import torch\nopt = torch.optim.SGD(ps, lr=0.1)\n",
        "import torch\nopt = torch.optim.Adam(ps)\n",
    ),
)
def swapped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    home, _, name = (f.qname(node.func) or "").rpartition(".")
    if home != "torch.optim" or name not in ADAPTIVE or not isinstance(node.func, cst.Attribute):
        return
    kept = [arg for i, arg in enumerate(node.args) if (i < 2 and not arg.keyword) or passes(arg, SGD_TAKES)]
    dropped = [arg for arg in node.args if arg not in kept]
    if f.arg(node, "lr", 1) is None or any(arg.star for arg in node.args) or orphans(f, *dropped):
        return
    start, end = f.span(node.args[0])[0], f.span(node.args[-1])[1]
    joined = ", ".join(f.text(arg) for arg in kept)
    edits = [f.replace(node.func.attr, "SGD")]
    if dropped:
        edits.append(f.edit(start, end, joined))
    yield Proposal(edits=tuple(edits))


def passes(arg: cst.Arg, names: tuple[str, ...]) -> bool:
    """Whether an argument is passed by one of these names."""
    return arg.keyword is not None and arg.keyword.value in names
