"""Mistakes in learning rate schedules: when they move, and how long they think the run is."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    binary,
    enclosing,
    function_of,
    inside,
    last_name,
    loop_of,
    moved_after,
    moved_before,
    names_in,
    neighbours,
    number,
    orphans,
)
from bughunt_mutator.operators._look_parts import fresh
from bughunt_mutator.operators._look_training import (
    optimiser_step,
    schedule_step,
    statements,
    words,
)
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile

EPOCHS = ("epochs", "num_epochs", "n_epochs", "max_epochs", "epoch_count")
PER_EPOCH = (
    "steps_per_epoch",
    "batches_per_epoch",
    "iters_per_epoch",
    "per_epoch",
    "epoch_steps",
    "epoch_length",
)


@operator(
    "sched-per-batch",
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=2,
    symptom="The curve falls as usual for a short while, and then it freezes.",
    hints=(
        "LOOK: plot the learning rate against the number of updates.",
        "WHERE: the loops in `{function}`, and what happens once in each of them.",
        "WHAT: how many times should the rate have changed by the end of the first epoch?",
    ),
    repair="Move the schedule on once an epoch, after the loop over the batches.",
    mechanism=(
        "A schedule counts the calls it gets, and knows nothing of epochs. One that was planned in"
        " epochs and is called at every batch runs through all its decays within the first epoch or"
        " two. From then on the rate is so small that the weights hardly move."
    ),
    evidence=(pull("ivadomed/ivadomed", 55),),
    examples=(
        Example(
            before=(
                "for epoch in range(9):\n    for x in data:\n        opt.step()\n        n += 1\n"
                "    sched.step()\n"
            ),
            after=(
                "for epoch in range(9):\n    for x in data:\n        opt.step()\n        sched.step()\n"
                "        n += 1\n",
            ),
        ),
        Example(
            before="for i in range(9):\n    opt.step()\n    if i % 3 == 2:\n        scheduler.step()\n",
            after=("for i in range(9):\n    opt.step()\n    scheduler.step()\n",),
        ),
    ),
    counterexamples=(
        "for x in data:\n    opt.step()\n    sched.step()\n",
        "for e in range(9):\n    for x in data:\n        opt.step()\n    sched.step(loss)\n",
        "if ready:\n    sched.step()\n",
    ),
)
def schedule_per_batch(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    if not schedule_step(f, node) or not f.text(node).strip().endswith("step()"):
        return
    lines, place = neighbours(f, node)
    gate = enclosing(f, node, cst.If)
    if gate is not None and len(lines) == 1 and gate.orelse is None:
        if any(binary(part, cst.Modulo) for part in inside(gate.test, cst.BinaryOperation)):
            yield Proposal(edits=(f.replace(gate, f.text(node).strip()),))
        return
    loops = [line for line in lines[:place] if isinstance(line, cst.For)]
    for update in statements(loops[-1]) if loops else ():
        if optimiser_step(f, update):
            yield Proposal(edits=moved_after(f, node, update))
            return


@operator(
    "sched-per-epoch-of-step-sched",
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=2,
    symptom="Learning is slow from the beginning, and does not pick up.",
    hints=(
        "LOOK: print the learning rate after each epoch, and what it was planned to be.",
        "WHERE: the loops in `{function}`, and what happens once in each of them.",
        "WHAT: in which unit was the length of the schedule given?",
    ),
    repair="Move the schedule on after every update.",
    mechanism=(
        "The schedule is as long as the run has updates, but it is called once an epoch. It never"
        " gets further than its first few entries, which for a schedule with a warm-up are the"
        " smallest rates of all."
    ),
    evidence=(issue("coqui-ai/TTS", 1611),),
    examples=(
        Example(
            before=(
                "for epoch in range(9):\n    for x in data:\n        opt.step()\n        sched.step()\n"
                "    print(epoch)\n"
            ),
            after=(
                "for epoch in range(9):\n    for x in data:\n        opt.step()\n    sched.step()\n"
                "    print(epoch)\n",
            ),
        ),
    ),
    counterexamples=(
        "for x in data:\n    opt.step()\n    sched.step()\n",
        "for e in range(9):\n    for x in data:\n        opt.step()\n    sched.step()\n",
    ),
)
def schedule_per_epoch(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    if not schedule_step(f, node):
        return
    inner = loop_of(f, node)
    outer = loop_of(f, inner) if inner is not None else None
    if inner is None or not isinstance(outer, cst.For):
        return
    own = names_in(inner.target) if isinstance(inner, cst.For) else frozenset()
    if not own & names_in(node) and any(optimiser_step(f, line) for line in statements(inner)):
        yield Proposal(edits=moved_after(f, node, inner))


@operator(
    "sched-before-opt",
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=3,
    symptom="The run is off by a little from its first update, most where the rate changes fast.",
    hints=(
        "LOOK: print the learning rate that each of the first ten updates uses.",
        "WHERE: the order of the lines after the backward pass in `{function}`.",
        "WHAT: which entry of the schedule does the very first update get?",
    ),
    repair="Update the parameters first, then move the schedule on.",
    mechanism=(
        "A new schedule has already set the rate of the first update. Moving it on before that"
        " update skips the first entry, and every later rate comes one update too early."
    ),
    evidence=(pull("ildoonet/pytorch-gradual-warmup-lr", 11),),
    examples=(
        Example(
            before="loss.backward()\nopt.step()\nsched.step()\n",
            after=("loss.backward()\nsched.step()\nopt.step()\n",),
        ),
        Example(
            before=(
                "from torch.optim.lr_scheduler import StepLR\nrate = StepLR(opt, 3)\n"
                "scaler.step(opt)\nscaler.update()\nrate.step()\n"
            ),
            after=(
                "from torch.optim.lr_scheduler import StepLR\nrate = StepLR(opt, 3)\n"
                "rate.step()\nscaler.step(opt)\nscaler.update()\n",
            ),
        ),
    ),
    counterexamples=("sched.step()\nopt.step()\n", "opt.step()\nenv.step(a)\n"),
)
def schedule_first(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    if not schedule_step(f, node):
        return
    lines, place = neighbours(f, node)
    for line in lines[:place]:
        if optimiser_step(f, line):
            yield Proposal(edits=moved_before(f, node, line))
            return


@operator(
    "cosine-tmax-wrong",
    cst.Call,
    category="optimiser",
    difficulty=3,
    symptom="The curve goes up and down in regular waves.",
    hints=(
        "LOOK: plot the learning rate over the whole run.",
        "WHERE: the length that the schedule is given in `{function}`.",
        "WHAT: when should the cosine reach its lowest point?",
    ),
    repair="Give the schedule its length in the unit in which it is moved on.",
    mechanism=(
        "The schedule is moved on at every update but its length is counted in epochs. The cosine"
        " reaches its end after a handful of updates, climbs again, and swings like this until the"
        " run is over, so that the rate at the last update is a matter of luck."
    ),
    evidence=(issue("microsoft/ClimaX", 25),),
    examples=(
        Example(
            before=(
                "from torch.optim.lr_scheduler import CosineAnnealingLR as Cosine\n"
                "s = Cosine(opt, T_max=cfg.epochs * len(loader))\n"
            ),
            after=(
                "from torch.optim.lr_scheduler import CosineAnnealingLR as Cosine\n"
                "s = Cosine(opt, T_max=cfg.epochs)\n",
            ),
        ),
        Example(
            before=(
                "import torch\ndef make(opt, steps, epochs):\n"
                "    return torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps, 1e-5)\n"
            ),
            after=(
                "import torch\ndef make(opt, steps, epochs):\n"
                "    return torch.optim.lr_scheduler.CosineAnnealingLR(opt, epochs, 1e-5)\n",
            ),
        ),
        Example(
            before="import math\nlr = peak * math.cos(math.pi * step / cfg.steps)\nn = cfg.epochs\n",
            after=("import math\nlr = peak * math.cos(math.pi * step / cfg.epochs)\nn = cfg.epochs\n",),
        ),
    ),
    counterexamples=(
        "import torch\ns = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=epochs)\n",
        "import torch\ns = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=steps)\n",
        "import math\nlr = math.cos(math.pi * angle / cfg.epochs)\n",
    ),
)
def cosine_length(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    length = cosine_period(f, node)
    if length is None or last_name(length) in EPOCHS:
        return
    shorter = in_epochs(f, length)
    if shorter is not None and not orphans(f, length):
        yield Proposal(edits=(f.replace(length, shorter),))


def cosine_period(f: SourceFile, node: cst.Call) -> cst.BaseExpression | None:
    """After how many steps a cosine schedule is at its lowest."""
    name = f.qname(node.func) or ""
    if name == "torch.optim.lr_scheduler.CosineAnnealingLR":
        given = f.arg(node, "T_max", 1)
        return given.value if given is not None else None
    if name in ("math.cos", "numpy.cos", "torch.cos") and node.args:
        sides = binary(node.args[0].value, cst.Divide)
        return sides[1] if sides is not None and "step" in words(sides[0]) else None
    return None


def in_epochs(f: SourceFile, length: cst.BaseExpression) -> str | None:
    """A length in updates as a length in epochs, with names that are known there."""
    sides = binary(length, cst.Multiply)
    for side in sides or ():
        if last_name(side) in EPOCHS:
            return f.text(side)
    if not words(length) & {"step", "steps", "iters", "iterations", "updates"}:
        return None
    if isinstance(length, cst.Attribute):
        known = {f.text(each) for each in inside(f.module, cst.Attribute)} | fields(f)
        owner = f.text(length.value)
        return next((f"{owner}.{name}" for name in EPOCHS if f"{owner}.{name}" in known), None)
    here = names_in(function_of(f, length))
    return next((name for name in EPOCHS if name in here), None)


def fields(f: SourceFile) -> set[str]:
    """The settings that classes of this file declare, as they are read from `cfg`."""
    return {f"cfg.{last_name(each.target)}" for each in inside(f.module, cst.AnnAssign)}


@operator(
    "warmup-resets-each-epoch",
    cst.Call,
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=3,
    symptom="The curve has a fresh start now and then, and gets less far than it should.",
    hints=(
        "LOOK: plot the learning rate over several epochs.",
        "WHERE: what `{function}` counts.",
        "WHAT: when is the count of updates allowed to start again at zero?",
    ),
    repair="Count updates from the beginning of the run.",
    mechanism=(
        "The rate is computed from the position within an epoch. It climbs and falls like the teeth"
        " of a saw: the warm-up comes back at the start of each epoch, and the phase that the"
        " schedule plans for the end of the run is never reached."
    ),
    evidence=(pull("Vision-CAIR/MiniGPT-4", 263),),
    examples=(
        Example(
            before=(
                "for epoch in range(9):\n    for i, x in enumerate(data):\n"
                "        step = epoch * len(data) + i\n        set_lr(opt, step)\n"
            ),
            after=(
                "for epoch in range(9):\n    for i, x in enumerate(data):\n"
                "        step = i\n        set_lr(opt, step)\n",
                "for epoch in range(9):\n    for i, x in enumerate(data):\n"
                "        step = epoch * len(data) + i\n        set_lr(opt, i)\n",
            ),
        ),
        Example(
            before=(
                "while step < n:\n    for x, y in data:\n        for group in groups:\n"
                '            group["lr"] = learning_rate(step)\n        step += 1\n'
            ),
            after=(
                "while step < n:\n    for i, (x, y) in enumerate(data):\n        for group in groups:\n"
                '            group["lr"] = learning_rate(i)\n        step += 1\n',
            ),
        ),
        Example(
            before="def f(n, per_epoch):\n    for step in range(n):\n        lr = rate(step)\n",
            after=("def f(n, per_epoch):\n    for step in range(n):\n        lr = rate(step % per_epoch)\n",),
        ),
    ),
    counterexamples=(
        "for step in range(9):\n    lr = rate(step)\n",
        "for i, x in enumerate(data):\n    y = e * n + i\n",
        "for i, x in enumerate(data):\n    lr = rate(i)\n",
    ),
)
def warmup_resets(f: SourceFile, node: cst.Call | cst.SimpleStatementLine) -> Iterator[Proposal]:
    loop = loop_of(f, node)
    if not isinstance(loop, cst.For):
        return
    index = counter(f, loop)
    if isinstance(node, cst.SimpleStatementLine):
        pair = assigned(node)
        sides = binary(pair[1], cst.Add) if pair is not None else None
        if pair is None or sides is None or not words(pair[0]) & {"step", "iteration", "it"}:
            return
        ends = [side for side in sides if f.text(side) == index]
        steers = words(function_of(f, node)) & {"lr", "rate", "warmup", "schedule", "scheduler"}
        if ends and steers and any(binary(side, cst.Multiply) for side in sides):
            yield Proposal(edits=(f.replace(pair[1], index),))
        return
    steered = words(node.func) & {"lr", "rate", "warmup", "schedule"}
    for given in node.args if steered else ():
        if "step" in words(given.value) and isinstance(given.value, cst.Name):
            yield from counted_anew(f, given.value)
            yield from restarted(f, given.value, index, isinstance(loop_of(f, loop), cst.For))
            return


def counted_anew(f: SourceFile, step: cst.Name) -> Iterator[Proposal]:
    """The place within an epoch instead of a count that goes on through all epochs."""
    loop = loop_of(f, step)
    while loop is not None and loop_of(f, loop) is not None:
        counts = any(f.text(line.target) == step.value for line in inside(loop.body, cst.AugAssign))
        if counts and isinstance(loop, cst.For) and not counter(f, loop):
            index = fresh(f, step, "i", "index")
            own = f.text(loop.target)
            target = f"({own})" if isinstance(loop.target, cst.Tuple) and not loop.target.lpar else own
            edits = (
                f.edit(*f.span(loop.target), f"{index}, {target}"),
                f.replace(loop.iter, f"enumerate({f.text(loop.iter)})"),
                f.replace(step, index),
            )
            yield Proposal(edits=edits)
            return
        loop = loop_of(f, loop)


def counter(f: SourceFile, loop: cst.For) -> str:
    """The index that a loop counts its passes with, if it has one."""
    counts = isinstance(loop.iter, cst.Call) and f.text(loop.iter.func) == "enumerate"
    if counts and isinstance(loop.target, cst.Tuple):
        return f.text(loop.target.elements[0].value)
    return ""


def restarted(f: SourceFile, step: cst.Name, index: str, nested: bool) -> Iterator[Proposal]:
    """A count of updates, made to begin again in each epoch."""
    if nested and index and index != step.value:
        if not orphans(f, step):
            yield Proposal(edits=(f.replace(step, index),))
        return
    here = [each for kind in (cst.Attribute, cst.Name) for each in inside(function_of(f, step), kind)]
    for each in here:
        if last_name(each) in PER_EPOCH and not isinstance(f.parent.get(each), cst.Attribute):
            yield Proposal(edits=(f.replace(step, f"{step.value} % {f.text(each)}"),))
            return


@operator(
    "total-steps-floor",
    cst.Call,
    cst.BinaryOperation,
    category="optimiser",
    difficulty=5,
    symptom="The loss looks as usual; the last updates of the run change nothing.",
    hints=(
        "LOOK: print the learning rate of the last twenty updates.",
        "WHERE: how `{function}` works out how many updates there will be.",
        "WHAT: how many batches does an epoch have when the last one is not full?",
    ),
    repair="Round the number of batches up.",
    mechanism=(
        "The last batch of an epoch, smaller than the others, is forgotten in the count, once for"
        " every epoch. The schedule believes that the run is over before it is, and the updates"
        " which are left use a rate of zero, or whatever lies beyond the end."
    ),
    evidence=(issue("deepset-ai/FARM", 46),),
    examples=(
        Example(
            before="import math\ntotal = math.ceil(n / cfg.batch) * cfg.epochs\ne = math.pi\n",
            after=("import math\ntotal = n // cfg.batch * cfg.epochs\ne = math.pi\n",),
        ),
        Example(
            before="steps = -(-n // batch)\n",
            after=("steps = n // batch\n",),
        ),
        Example(
            before="def total_steps(n, b):\n    return (n + b - 1) // b * 3\n",
            after=("def total_steps(n, b):\n    return n // b * 3\n",),
        ),
        Example(
            before="import math\nsteps = math.ceil(len(x) / b)\n",
            after=("import math\nsteps = math.floor(len(x) / b)\n",),
        ),
    ),
    counterexamples=(
        "import math\nheight = math.ceil(a / b)\n",
        "steps = (n + 1) // b\n",
        "def pages(n, b):\n    return (n + b - 1) // b\n",
    ),
)
def total_floor(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if not counts_steps(f, node):
        return
    if isinstance(node, cst.Call):
        sides = binary(node.args[0].value, cst.Divide) if node.args else None
        if f.qname(node.func) != "math.ceil" or sides is None:
            return
        if not orphans(f, node.func):
            yield Proposal(edits=(f.replace(node, f"{f.text(sides[0])} // {f.text(sides[1])}"),))
        elif isinstance(node.func, cst.Attribute):
            yield Proposal(edits=(f.replace(node.func.attr, "floor"),))
        return
    sides = binary(node, cst.FloorDivide)
    above = f.parent.get(node)
    if sides is None:
        return
    low, size = sides[0], f.text(sides[1])
    if isinstance(low, cst.UnaryOperation) and isinstance(above, cst.UnaryOperation):
        if isinstance(low.operator, cst.Minus) and isinstance(above.operator, cst.Minus):
            yield Proposal(edits=(f.replace(above, f"{f.text(low.expression)} // {size}"),))
        return
    less = binary(low, cst.Subtract)
    more = binary(less[0], cst.Add) if less is not None and number(less[1]) == 1 else None
    if more is not None and f.text(more[1]) == size:
        yield Proposal(edits=(f.replace(node, f"{f.text(more[0])} // {size}"),))


def counts_steps(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression becomes a number of updates or batches."""
    line = f.statement(node)
    pair = assigned(line)
    home = f.function(node)
    about: cst.CSTNode | None = pair[0] if pair is not None else None
    if pair is None and home is not None and any(isinstance(a, cst.Return) for a in ancestors(f, node)):
        about = home.name
    named = [arg.keyword for arg in ancestors(f, node) if isinstance(arg, cst.Arg) and arg.keyword]
    wanted = {"step", "steps", "iters", "iterations", "updates", "batches"}
    wanted |= {"total"} if words(line) & {"epoch", "epochs"} else set()
    return any(words(each) & wanted for each in (about, *named) if each is not None)
