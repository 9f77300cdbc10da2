"""Mistakes in optimisers and in what they are set to."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    binary,
    called,
    function_of,
    inside,
    keyword,
    last_name,
    mentions,
    method_line,
    moved_after,
    moved_before,
    names_in,
    neighbours,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_training import averaging
from bughunt_mutator.operators._sources import (
    DEEP_CHECKER,
    DEEP_CRIME,
    TAXONOMY,
    issue,
    pull,
)
from bughunt_mutator.source import SourceFile

ADAM = "https://arxiv.org/abs/1412.6980"


@operator(
    "learning-rate-off",
    cst.AnnAssign,
    rows=("lr-too-high", "lr-too-low"),
    category="optimiser",
    difficulty=1,
    symptom="The pace of the curve is wrong from the first steps on.",
    hints=(
        "LOOK: print the size of each update relative to the size of the parameter.",
        "WHERE: the numbers that `{function}` begins with.",
        "WHAT: how far may one update move a weight?",
    ),
    repair="Use a step size that moves weights by about a thousandth of their size per update.",
    mechanism=(
        "Steps that are too long jump over the valley and may diverge; steps that are too short"
        " make the run end on the slope. Both look like a worse model."
    ),
    evidence=(TAXONOMY, DEEP_CRIME, DEEP_CHECKER),
    examples=(
        Example(
            row="lr-too-low",
            before="class Config:\n    lr: float = 1e-3\n",
            after=(
                "class Config:\n    lr: float = 0.02\n",
                "class Config:\n    lr: float = 5e-05\n",
            ),
        ),
        Example(
            row="lr-too-high",
            before="class Config:\n    peak_lr: float = 0.2\n    steps: int = 3\n",
            after=(
                "class Config:\n    peak_lr: float = 4.0\n    steps: int = 3\n",
                "class Config:\n    peak_lr: float = 0.01\n    steps: int = 3\n",
            ),
        ),
    ),
    counterexamples=("class Config:\n    steps: int = 100\n", "lr: float\n"),
)
def learning_rate_off(f: SourceFile, node: cst.AnnAssign) -> Iterator[Proposal]:
    rate, name = number(node.value), last_name(node.target)
    if rate and (name in ("lr", "learning_rate") or name.endswith("_lr")):
        assert node.value is not None
        for row, new in (("lr-too-high", rate * 20), ("lr-too-low", rate / 20)):
            yield Proposal(edits=(f.replace(node.value, repr(round(new, 9))),), row=row)


@operator(
    "betas-swapped",
    cst.Tuple,
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=3,
    symptom="The start is sluggish, and later the curve swings.",
    hints=(
        "LOOK: print the running averages of the optimiser beside the gradients they follow.",
        "WHERE: the decay rates in `{function}`.",
        "WHAT: which of the two averages should have the longer memory?",
    ),
    repair="Give the short memory to the mean and the long one to the square.",
    mechanism=(
        "The direction is averaged over a thousand steps, its scale over ten. Updates follow where"
        " the loss was falling long ago, while their size jumps with the last few batches."
    ),
    evidence=(issue("mila-iqia/blocks", 1175), ADAM),
    examples=(
        Example(
            row="betas-swapped",
            before="opt = Adam(p, betas=(0.9, 0.999))\nsize = (0.5, 0.9)\n",
            after=("opt = Adam(p, betas=(0.999, 0.9))\nsize = (0.5, 0.9)\n",),
        ),
        Example(
            before='beta1, beta2 = group["betas"]\n',
            after=('beta2, beta1 = group["betas"]\n',),
        ),
    ),
    counterexamples=("opt = Adam(p, betas=pair)\n", "size = (0.9, 0.5)\n"),
)
def betas_swapped(f: SourceFile, node: cst.CSTNode) -> Iterator[Proposal]:
    if not isinstance(node, cst.Tuple) or len(node.elements) != 2:
        return
    one, two = (element.value for element in node.elements)
    both = number(one) or 0, number(two) or 0
    above = f.parent.get(node)
    if 0.5 <= both[0] < both[1] < 1:
        if isinstance(above, cst.Arg | cst.AnnAssign | cst.Param):
            yield Proposal(edits=f.swap(one, two))
    elif isinstance(above, cst.AssignTarget) and "betas" in f.text(f.statement(node)):
        yield Proposal(edits=f.swap(one, two))


def power_of_decay(node: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """`b` and the whole `b ** t` of `1 - b ** t`."""
    sides = binary(node, cst.Subtract)
    if sides is None or number(sides[0]) != 1:
        return None
    raised = binary(sides[1], cst.Power)
    return (raised[0], sides[1]) if raised is not None and number(raised[1]) is None else None


@operator(
    "adam-no-bias-correction",
    cst.BinaryOperation,
    category="optimiser",
    difficulty=3,
    symptom="The first steps behave unlike the rest; later the curve is normal.",
    hints=(
        "LOOK: print the size of the first ten updates.",
        "WHERE: how `{function}` gets from its running averages to an update.",
        "WHAT: what does an average that started at zero say after one step?",
    ),
    repair="Divide each running average by one minus its decay to the power of the step.",
    mechanism=(
        "Running averages start at zero and are too small at first, the slower one much more so."
        " Uncorrected, their quotient is off by a factor that fades over the first steps."
    ),
    evidence=(issue("BVLC/caffe", 4224), issue("oxiglade/mlx-rs", 301), ADAM),
    examples=(
        Example(
            row="adam-no-bias-correction",
            before="def f(m, v, t):\n    return m / (1 - b1**t) / v\n",
            after=("def f(m, v, t):\n    return m / v\n",),
        ),
    ),
    counterexamples=(
        "y = m / (1 - b)\n",
        "y = m / (1 - b**2)\n",
        "class Ema:\n    def read(self):\n        return self.m / (1 - self.b**self.t)\n",
    ),
)
def no_bias_correction(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if averaging(f, node):
        return
    if sides is not None and power_of_decay(sides[1]) and not orphans(f, sides[1]):
        yield Proposal(edits=(f.replace(node, f.text(sides[0])),))


@operator(
    "adam-bias-no-power",
    cst.BinaryOperation,
    category="optimiser",
    difficulty=4,
    symptom="Updates are larger than the step size says, for the whole run.",
    hints=(
        "LOOK: compare the size of update number 1, 10 and 100 with a trusted optimiser's.",
        "WHERE: the corrections in `{function}`.",
        "WHAT: how should a correction for the start behave when the start is long over?",
    ),
    repair="Raise the decay to the power of the step.",
    mechanism=(
        "The correction is right at the first step and should fade to one. Without the power it"
        " stays, and scales every later update by a constant factor."
    ),
    evidence=(issue("eriklindernoren/ML-From-Scratch", 35), pull("karpathy/convnetjs", 107), ADAM),
    examples=(
        Example(
            row="adam-bias-no-power",
            before="correction = 1 - beta1 ** step\n",
            after=("correction = 1 - beta1\n",),
        ),
    ),
    counterexamples=("c = 1 - x**2\n", "c = 2 - b**t\n"),
)
def bias_no_power(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    found = power_of_decay(node)
    raised = binary(found[1], cst.Power) if found is not None else None
    if found is not None and raised is not None and not orphans(f, raised[1]):
        yield Proposal(edits=(f.replace(found[1], f.text(found[0])),))


@operator(
    "adam-eps-scaled",
    cst.BinaryOperation,
    category="optimiser",
    difficulty=5,
    symptom="Everything learns, but parameters with small gradients hardly move.",
    hints=(
        "LOOK: compare single updates with a trusted optimiser's, for gradients of 1e-4.",
        "WHERE: the denominator in `{function}`.",
        "WHAT: is the small constant added to a gradient or to its square?",
    ),
    repair="Add the constant after the root.",
    mechanism=(
        "Inside the root, a constant of 1e-8 acts like 1e-4 outside. Where squared gradients are"
        " of that size, updates shrink instead of being normalised."
    ),
    evidence=(
        pull("pytorch/pytorch", 22628),
        issue("tensorflow/tensorflow", 35102),
        issue("goodfire-ai/spd", 602),
    ),
    examples=(
        Example(
            row="adam-eps-scaled",
            before="d = v.sqrt() + eps\n",
            after=("d = (v + eps).sqrt()\n",),
        ),
        Example(
            before="import torch\nd = torch.sqrt(v / c) + 1e-8\n",
            after=("import torch\nd = torch.sqrt(v / c + 1e-8)\n",),
        ),
    ),
    counterexamples=("d = v.sqrt() + bias\n", "d = (v + eps).sqrt()\n"),
)
def eps_scaled(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    op = operation(f, sides[0], "sqrt") if sides else None
    if op is None or sides is None:
        return
    small = "eps" in f.text(sides[1]) or 0 < (number(sides[1]) or 1) < 1e-3
    if small:
        total = f"{f.text(op.subject)} + {f.text(sides[1])}"
        new = f"{f.text(op.call.func)}({total})" if op.shift else f"({total}).sqrt()"
        yield Proposal(edits=(f.replace(node, new),))


@operator(
    "adamw-to-l2",
    cst.SimpleStatementLine,
    cst.Call,
    category="optimiser",
    difficulty=5,
    symptom="The training loss is as expected; weights shrink less evenly than they should.",
    hints=(
        "LOOK: with gradients of very different size, print how much each weight decays.",
        "WHERE: where `{function}` makes weights smaller.",
        "WHAT: should the decay of a weight depend on the size of its gradients?",
    ),
    repair="Shrink the weight directly, apart from the gradient.",
    mechanism=(
        "Put into the gradient, the decay passes through the normalisation by the root of the mean"
        " square. Weights with large gradients are then hardly decayed at all."
    ),
    evidence=(issue("joennlae/tensorli", 1), "https://arxiv.org/abs/1711.05101"),
    examples=(
        Example(
            row="adamw-to-l2",
            before="g = p.grad\np.mul_(1 - lr * wd)\nm.lerp_(g, 1 - b)\n",
            after=("g = p.grad\ng = g + wd * p\nm.lerp_(g, 1 - b)\n",),
        ),
        Example(
            before="def decay(p, lr, wd):\n    p.mul_(1 - lr * wd)\n    return p.grad\n",
            after=("def decay(p, lr, wd):\n    return p.grad + wd * p\n",),
        ),
        Example(
            before="import torch\nopt = torch.optim.AdamW(ps, lr=0.1, weight_decay=0.1)\n",
            after=("import torch\nopt = torch.optim.Adam(ps, lr=0.1, weight_decay=0.1)\n",),
        ),
    ),
    counterexamples=(
        "p.mul_(1 - lr * wd)\n",
        "g = p.grad\nm.mul_(beta)\n",
        "import torch\nopt = torch.optim.AdamW(ps, lr=0.1)\n",
    ),
)
def adamw_to_l2(f: SourceFile, node: cst.SimpleStatementLine | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        decays = keyword(node, "weight_decay") is not None or groups_decay(f, node)
        if f.qname(node.func) == "torch.optim.AdamW" and isinstance(node.func, cst.Attribute) and decays:
            yield Proposal(edits=(f.replace(node.func.attr, "Adam"),))
        return
    call = called(node)
    if call is None or not isinstance(call.func, cst.Attribute) or call.func.attr.value != "mul_":
        return
    sides = binary(call.args[0].value, cst.Subtract) if call.args else None
    factors = binary(sides[1], cst.Multiply) if sides and number(sides[0]) == 1 else None
    weight = f.text(call.func.value).removesuffix(".data")
    for line in inside(function_of(f, node), cst.Assign):
        target = line.targets[0].target
        if f.text(line.value) == f"{weight}.grad" and isinstance(target, cst.Name) and factors:
            new = f"{target.value} = {target.value} + {f.text(factors[1])} * {weight}"
            yield Proposal(edits=(f.replace(node, new),))
            return
    for leave in inside(function_of(f, node), cst.Return):
        if factors and leave.value is not None and f.text(leave.value) == f"{weight}.grad":
            gradient = f.replace(leave.value, f"{weight}.grad + {f.text(factors[1])} * {weight}")
            if not orphans(f, factors[0]):
                yield Proposal(edits=(f.delete_statement(node), gradient))
            return


def groups_decay(f: SourceFile, node: cst.Call) -> bool:
    """Whether an optimiser is given groups, and the file says how much each of them decays."""
    given = node.args[0].value if node.args else None
    whole = isinstance(given, cst.Call) and last_name(given.func) == "parameters"
    return given is not None and not whole and '"weight_decay":' in f.source


@operator(
    "momentum-buffer-reset",
    cst.If,
    cst.For,
    category="optimiser",
    difficulty=3,
    symptom="Learning is slower than with the same settings elsewhere.",
    hints=(
        "LOOK: feed a constant gradient and print the size of each update.",
        "WHERE: what `{function}` keeps from one call to the next.",
        "WHAT: what does it remember of the previous step?",
    ),
    repair="Create the state once, and keep it.",
    mechanism=(
        "A state that is made anew at each step remembers nothing. Momentum has no effect, and"
        " averages are always those of a first step."
    ),
    evidence=(TAXONOMY, "https://proceedings.mlr.press/v28/sutskever13.html"),
    examples=(
        Example(
            row="momentum-buffer-reset",
            before=(
                "for p in ps:\n    if 'v' not in state:\n        state['v'] = zeros(p)\n"
                "    state['v'].add_(p.grad)\n"
            ),
            after=("for p in ps:\n    state['v'] = zeros(p)\n    state['v'].add_(p.grad)\n",),
        ),
        Example(
            before="if not state:\n    state['t'] = 0\n    state['v'] = zeros(p)\n",
            after=("state['t'] = 0\nstate['v'] = zeros(p)\n",),
        ),
        Example(
            before="speed = zeros_like(x)\nfor g in gs:\n    speed = mu * speed - g\n    x += speed\n",
            after=("for g in gs:\n    speed = zeros_like(x)\n    speed = mu * speed - g\n    x += speed\n",),
        ),
    ),
    counterexamples=("if 'v' not in state:\n    raise KeyError\n", "if a:\n    b['c'] = 1\n"),
)
def buffer_reset(f: SourceFile, node: cst.If | cst.For) -> Iterator[Proposal]:
    if isinstance(node, cst.For):
        yield from _made_in_loop(f, node)
        return
    test = node.test
    absent = isinstance(test, cst.Comparison) and (
        isinstance(test.comparisons[0].operator, cst.NotIn) or f.text(test).replace(" ", "").endswith(")==0")
    )
    empty = isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not)
    if not (absent or empty) or node.orelse is not None or "state" not in f.text(test):
        return
    lines = [f.text(line).strip() for line in node.body.body]
    if all(line.startswith(("state[", "self.state[", "state.")) for line in lines):
        joined = f"{f.newline}{f.indent(node)}".join(lines)
        yield Proposal(edits=(f.replace(node, joined),))


def _made_in_loop(f: SourceFile, loop: cst.For) -> Iterator[Proposal]:
    """The velocity made before a loop of updates, made at the start of each update instead."""
    lines, place = neighbours(f, loop)
    for line in lines[:place]:
        target, made = assigned(line) or (None, None)
        if not isinstance(target, cst.Name) or not mentions(target, "speed", "veloc", "moment", "buf"):
            continue
        zeros = isinstance(made, cst.Call) and last_name(made.func) in ("zeros_like", "zeros")
        first = loop.body.body[0] if isinstance(loop.body, cst.IndentedBlock) else None
        if zeros and isinstance(first, cst.BaseStatement) and target.value in names_in(loop.body):
            yield Proposal(edits=moved_before(f, line, first))


@operator(
    "nesterov-sign",
    cst.Call,
    cst.BinaryOperation,
    category="optimiser",
    difficulty=4,
    symptom="The curve swings, and converges later than with plain momentum.",
    hints=(
        "LOOK: compare a few updates on a parabola with a trusted optimiser's.",
        "WHERE: the look-ahead in `{function}`.",
        "WHAT: in which direction lies the place where the momentum will lead?",
    ),
    repair="Add the momentum to the gradient.",
    mechanism=(
        "Looking back instead of ahead, the correction works against the velocity: it takes away"
        " what momentum had gained, and overshoots on the way back."
    ),
    evidence=("https://proceedings.mlr.press/v28/sutskever13.html",),
    examples=(
        Example(
            row="nesterov-sign",
            before="if nesterov:\n    g = g.add(buf, alpha=mu)\n",
            after=("if nesterov:\n    g = g.add(buf, alpha=-mu)\n",),
        ),
        Example(
            before="d = g + mu * v if nesterov else v\n",
            after=("d = g - mu * v if nesterov else v\n",),
        ),
    ),
    counterexamples=("g = g.add(buf, alpha=mu)\n", "d = g + mu * v\n"),
)
def nesterov_sign(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if not any(
        isinstance(above, cst.If | cst.IfExp) and "nesterov" in f.text(above.test)
        for above in ancestors(f, node)
    ):
        return
    if isinstance(node, cst.BinaryOperation):
        sides = binary(node, cst.Add)
        if sides is not None and binary(sides[1], cst.Multiply):
            new = f"{f.text(sides[0])} - {f.text(sides[1])}"
            yield Proposal(edits=(f.replace(node, new),))
    elif (
        (alpha := keyword(node, "alpha"))
        and last_name(node.func) in ("add", "add_")
        and not isinstance(alpha.value, cst.UnaryOperation)
    ):
        yield Proposal(edits=(f.replace(alpha.value, f"-{f.text(alpha.value)}"),))


@operator(
    "warmup-never-ends",
    cst.Comparison,
    category="optimiser",
    difficulty=4,
    symptom="The run starts well, and the longer it goes on, the more restless it gets.",
    hints=(
        "LOOK: plot the learning rate over the whole run.",
        "WHERE: the phases of the schedule in `{function}`.",
        "WHAT: when does the first phase end?",
    ),
    repair="End the warm-up after its own number of steps.",
    mechanism=(
        "The climb goes on to the end of the run, far beyond the peak that was asked for, and the"
        " decay that should settle the weights never comes."
    ),
    evidence=(pull("facebookresearch/ParlAI", 4384),),
    examples=(
        Example(
            row="warmup-never-ends",
            before="def rate(step, cfg):\n    return 1 if step < cfg.warmup else 0\n\nn = cfg.steps\n",
            after=("def rate(step, cfg):\n    return 1 if step < cfg.steps else 0\n\nn = cfg.steps\n",),
        ),
    ),
    counterexamples=("a = step < cfg.warmup\n", "b = step < cfg.steps\n"),
)
def warmup_never_ends(f: SourceFile, node: cst.Comparison) -> Iterator[Proposal]:
    bound = node.comparisons[0].comparator
    if isinstance(bound, cst.Attribute) and "warmup" in bound.attr.value:
        longer = f"{f.text(bound.value)}.steps"
        if f"{longer}" in f.source and isinstance(node.comparisons[0].operator, cst.LessThan):
            yield Proposal(edits=(f.replace(bound, longer),))


@operator(
    "wd-groups-inverted",
    cst.List,
    category="optimiser",
    difficulty=4,
    symptom="Training looks normal; the norms of some parameters drift.",
    hints=(
        "LOOK: print, for each group of the optimiser, its settings and the shapes in it.",
        "WHERE: how `{function}` sorts parameters.",
        "WHAT: which parameters should be kept small, and which must be free?",
    ),
    repair="Decay the matrices, and leave biases and gains alone.",
    mechanism=(
        "The decay pulls gains and biases towards zero, where they do harm, and leaves the"
        " matrices free to grow, where it would have helped."
    ),
    evidence=(issue("facebookresearch/BalancingGroups", 6),),
    examples=(
        Example(
            row="wd-groups-inverted",
            before=('g = [{"params": a, "weight_decay": cfg.wd}, {"params": b, "weight_decay": 0.0}]\n'),
            after=('g = [{"params": a, "weight_decay": 0.0}, {"params": b, "weight_decay": cfg.wd}]\n',),
        ),
    ),
    counterexamples=('g = [{"params": a, "weight_decay": 0.1}]\n', "g = [a, b]\n"),
)
def wd_groups_inverted(f: SourceFile, node: cst.List) -> Iterator[Proposal]:
    decays = [
        entry.value
        for group in node.elements
        if isinstance(group.value, cst.Dict)
        for entry in group.value.elements
        if isinstance(entry, cst.DictElement) and "weight_decay" in f.text(entry.key)
    ]
    if len(decays) == 2 and f.text(decays[0]) != f.text(decays[1]):
        yield Proposal(edits=f.swap(*decays))


@operator(
    "clip-after-step",
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=4,
    symptom="Now and then the loss jumps up and needs many steps to come back.",
    hints=(
        "LOOK: plot the gradient norm as it is when the parameters move.",
        "WHERE: the order of the lines around the update in `{function}`.",
        "WHAT: is the update made with the gradients before or after they were limited?",
    ),
    repair="Limit the gradients between the backward pass and the update.",
    mechanism=(
        "Limiting a gradient that has already been used changes nothing. The safeguard is there"
        " and has no effect, so the rare large gradient goes through."
    ),
    evidence=("https://arxiv.org/abs/1211.5063",),
    examples=(
        Example(
            row="clip-after-step",
            before="loss.backward()\nclip_grad_norm_(ps, 1.0)\nopt.step()\n",
            after=("loss.backward()\nopt.step()\nclip_grad_norm_(ps, 1.0)\n",),
        ),
    ),
    counterexamples=("clip_grad_norm_(ps, 1.0)\n", "opt.step()\nclip_grad_norm_(ps, 1.0)\n"),
)
def clip_after_step(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    call = called(node)
    if call is None or last_name(call.func) not in ("clip_grad_norm_", "clip_grad_value_"):
        return
    lines, place = neighbours(f, node)
    for line in lines[place + 1 :]:
        if method_line(f, line, "step") is not None:
            yield Proposal(edits=moved_after(f, node, line))
            return
