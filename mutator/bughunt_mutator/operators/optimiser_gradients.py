"""Mistakes between the loss and the update: accumulation, clipping, and scaled gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    called,
    definitions,
    enclosing,
    function_of,
    inside,
    keyword,
    last_name,
    loop_of,
    method_line,
    neighbours,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_training import (
    atom,
    backward_line,
    merged,
    optimiser_step,
    retired,
    statements,
    words,
)
from bughunt_mutator.operators._sources import RECIPE, issue, pull
from bughunt_mutator.source import SourceFile


def clips(line: cst.CSTNode) -> cst.Call | None:
    """The call of a statement that limits gradients."""
    call = called(line)
    known = words(call.func) if call is not None else frozenset()
    return call if "clip" in known and known & {"grad", "grads", "gradients", "norm"} else None


@operator(
    "clip-the-loss",
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=3,
    symptom="Hard examples are never learnt, and the loss may not move at all.",
    hints=(
        "LOOK: print the gradient norm for an easy batch and for a hard one.",
        "WHERE: what `{function}` limits, and at which moment.",
        "WHAT: what is the slope of a value that has been cut off at a bound?",
    ),
    repair="Leave the loss alone, and limit the norm of the gradients after the backward pass.",
    mechanism=(
        "Above the bound a clamped loss is constant, so its gradient is exactly zero. The batches"
        " with the largest errors teach nothing, which is the reverse of what was wanted: limited"
        " gradients would still point in the right direction."
    ),
    evidence=(RECIPE,),
    examples=(
        Example(
            before="def f():\n    loss.backward()\n    clip_grad_norm_(ps, cfg.bound)\n    opt.step()\n",
            after=("def f():\n    loss = loss.clamp(max=cfg.bound)\n    loss.backward()\n    opt.step()\n",),
        ),
        Example(
            before="value.backward()\nclip(ps)\nnn.utils.clip_grad_norm_(ps, max_norm=1.0)\n",
            after=("value = value.clamp(max=1.0)\nvalue.backward()\nclip(ps)\n",),
        ),
    ),
    counterexamples=(
        "clip_grad_norm_(ps, 1.0)\n",
        "(a + b).backward()\nclip_grad_norm_(ps, 1.0)\n",
        "norm = clip_grad_norm_(ps, 1.0)\n",
    ),
)
def loss_clipped(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    call = clips(node)
    bound = f.arg(call, "max_norm", 1) if call is not None else None
    if call is None or bound is None or orphans(f, call.func, call.args[0]):
        return
    lines, place = neighbours(f, node)
    for line in lines[:place]:
        name = method_line(f, line, "backward")
        if name is not None and name.isidentifier():
            limited = f"{name} = {name}.clamp(max={f.text(bound.value)})"
            yield Proposal(edits=(f.insert_before(line, limited), f.delete_statement(node)))
            return


@operator(
    "clip-before-unscale",
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=3,
    symptom="With mixed precision the curve is almost flat; without it, all is well.",
    hints=(
        "LOOK: print the gradient norm at the moment when it is limited.",
        "WHERE: what `{function}` does between the backward pass and the update.",
        "WHAT: by which factor are the gradients larger than they seem at that moment?",
    ),
    repair="Take the scale out of the gradients before limiting them.",
    mechanism=(
        "The loss was multiplied by a large factor to keep small gradients representable. Limited"
        " while that factor is still in them, all gradients look huge and are cut down, and once the"
        " factor is divided out, next to nothing is left of them."
    ),
    evidence=(
        issue("Lightning-AI/pytorch-lightning", 9599),
        issue("pytorch/examples", 1196),
        issue("milesial/Pytorch-UNet", 468),
    ),
    examples=(
        Example(
            before="scaler.unscale_(opt)\nclip_grad_norm_(ps, 1.0)\nscaler.step(opt)\n",
            after=("clip_grad_norm_(ps, 1.0)\nscaler.step(opt)\n",),
        ),
    ),
    counterexamples=("scaler.unscale_(opt)\nscaler.step(opt)\n", "clip_grad_norm_(ps, 1.0)\n"),
)
def still_scaled(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    if method_line(f, node, "unscale_") is None and method_line(f, node, "unscale") is None:
        return
    lines, place = neighbours(f, node)
    later = [each for line in lines[place + 1 :] for each in statements(line)]
    if any(last_name(call.func).startswith("clip") for line in later for call in inside(line, cst.Call)):
        yield Proposal(edits=(f.delete_statement(node),))


@operator(
    "clip-value-for-norm",
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=5,
    symptom="The curve is nearly the same; large gradients now and then lead astray.",
    hints=(
        "LOOK: compare the direction of the gradient before and after it is limited.",
        "WHERE: how `{function}` limits gradients.",
        "WHAT: is each number limited by itself, or all of them together?",
    ),
    repair="Limit the norm of all gradients together.",
    mechanism=(
        "Cutting off each entry at the bound leaves small entries as they are, so the direction of"
        " the gradient turns. As a limit on the length it is far weaker: of a thousand entries each"
        " may still be as large as the whole vector was meant to be."
    ),
    evidence=(),
    examples=(
        Example(
            before="from torch import nn\nnn.utils.clip_grad_norm_(ps, 1.0)\n",
            after=("from torch import nn\nnn.utils.clip_grad_value_(ps, 1.0)\n",),
        ),
        Example(
            before="import torch\ntorch.nn.utils.clip_grad_norm_(ps, max_norm=c, norm_type=2)\n",
            after=("import torch\ntorch.nn.utils.clip_grad_value_(ps, clip_value=c)\n",),
        ),
    ),
    counterexamples=(
        "from torch import nn\nn = nn.utils.clip_grad_norm_(ps, 1.0)\n",
        "clip_grad_norm_(ps, 1.0)\n",
    ),
)
def value_for_norm(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    call = called(node)
    if call is None or f.qname(call.func) != "torch.nn.utils.clip_grad_norm_":
        return
    bound = f.arg(call, "max_norm", 1)
    if bound is None or not isinstance(call.func, cst.Attribute) or orphans(f, *call.args[2:]):
        return
    spelled = f"{f.text(call.func.value)}.clip_grad_value_"
    name = "clip_value=" if bound.keyword is not None else ""
    new = f"{spelled}({f.text(call.args[0])}, {name}{f.text(bound.value)})"
    yield Proposal(edits=(f.replace(call, new),))


@operator(
    "grad-accum-no-divide",
    cst.BinaryOperation,
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=3,
    symptom="Updates are several times too large, and the run is unstable.",
    hints=(
        "LOOK: compare the gradient of one large batch with that of its parts, added up.",
        "WHERE: what `{function}` sends backward for each part.",
        "WHAT: is the sum of several averages the average of them all?",
    ),
    repair="Divide the loss of each part by the number of parts.",
    mechanism=(
        "Gradients of several backward passes add up. Each is an average over its own part, so k of"
        " them together are k times the gradient of the whole batch, which acts like a step size k"
        " times as large, or makes clipping set in all the time."
    ),
    evidence=(issue("karpathy/nanoGPT", 206), issue("agokrani/distillKitPlus", 5)),
    examples=(
        Example(
            before=(
                'def piece(z, y, count):\n    return ce(z, y, reduction="sum") / count\n\n'
                "def accumulate(x):\n    pass\n"
            ),
            after=("def piece(z, y, count):\n    return ce(z, y)\n\ndef accumulate(x):\n    pass\n",),
        ),
        Example(
            before="(loss / accum_steps).backward()\n",
            after=("loss.backward()\n",),
        ),
        Example(
            before="for k in range(parts):\n    loss = f(k) / parts\n    loss.backward()\n",
            after=("for k in range(parts):\n    loss = f(k)\n    loss.backward()\n",),
        ),
        Example(
            before="loss /= grad_accum\nscaler.scale(loss).backward()\n",
            after=("scaler.scale(loss).backward()\n",),
        ),
        Example(
            before="def f(k, n):\n    (loss / n).backward()\n    if (k + 1) % n == 0:\n        opt.step()\n",
            after=("def f(k, n):\n    loss.backward()\n    if (k + 1) % n == 0:\n        opt.step()\n",),
        ),
    ),
    counterexamples=(
        "(loss / len(x)).backward()\n",
        "for k in range(parts):\n    mean = f(k) / parts\n",
        "total = loss / accum_steps\n",
    ),
)
def not_divided(f: SourceFile, node: cst.BinaryOperation | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        only = node.body[0] if len(node.body) == 1 else None
        if not isinstance(only, cst.AugAssign) or not isinstance(only.operator, cst.DivideAssign):
            return
        if is_parts(f, node, only.value) and goes_backward(f, node, only.target):
            yield Proposal(edits=(f.delete_statement(node),))
        return
    sides = binary(node, cst.Divide)
    if sides is not None and (reduction := summed_piece(f, node, sides)) is not None:
        call = sides[0]
        assert isinstance(call, cst.Call)
        end = f.edit(f.span(sides[0])[1], f.span(sides[1])[1], "")
        yield Proposal(edits=(f.delete_arg(call, reduction), end))
        return
    if sides is None or not is_parts(f, node, sides[1]) or orphans(f, sides[1]):
        return
    pair = assigned(f.statement(node))
    inline = "backward" in f.text(f.statement(node))
    if inline or (pair is not None and pair[1] is node and goes_backward(f, node, pair[0])):
        bare_call = isinstance(f.parent.get(node), cst.Attribute) and isinstance(sides[0], cst.Name)
        yield Proposal(edits=(f.replace(node, f.text(sides[0]) if bare_call else atom(f, sides[0])),))


def summed_piece(f: SourceFile, node: cst.BinaryOperation, sides: tuple[cst.CSTNode, ...]) -> cst.Arg | None:
    """The `reduction="sum"` of a piece's loss that a function divides by a count it is given."""
    call, count = sides
    home = f.function(node)
    reduction = keyword(call, "reduction") if isinstance(call, cst.Call) else None
    if home is None or reduction is None or f.text(reduction.value).strip("\"'") != "sum":
        return None
    params = {param.name.value for param in home.params.params}
    given = isinstance(count, cst.Name) and count.value in params
    returned = isinstance(f.parent.get(node), cst.Return)
    piecewise = "accumulate" in words(f.module) or "accumulation" in words(f.module)
    return reduction if given and returned and piecewise else None


def is_parts(f: SourceFile, node: cst.CSTNode, count: cst.BaseExpression) -> bool:
    """Whether an expression is the number of parts that a batch is computed in."""
    if words(count) & {"accum", "accumulate", "accumulation", "micro", "microbatches"}:
        return True
    text, home = f.text(count), function_of(f, node)
    if not isinstance(count, cst.Name | cst.Attribute):
        return False
    loop = loop_of(f, node)
    if isinstance(loop, cst.For) and f.text(loop.iter) == f"range({text})":
        return True
    cycles = (binary(each, cst.Modulo) for each in inside(home, cst.BinaryOperation))
    return any(cycle is not None and f.text(cycle[1]) == text for cycle in cycles)


def goes_backward(f: SourceFile, node: cst.CSTNode, name: cst.BaseExpression) -> bool:
    """Whether gradients of this name are taken, scaled or not."""
    text = f.text(name)
    calls = (line for line in statements(function_of(f, node)) if "backward(" in f.text(line))
    return backward_line(f, node, text) or any(f"({text})" in f.text(line) for line in calls)


@operator(
    "grad-accum-mean-of-means",
    cst.BinaryOperation,
    category="optimiser",
    difficulty=5,
    symptom="Short examples have more influence than long ones.",
    hints=(
        "LOOK: compare the gradient of the whole batch with the accumulated one, for ragged lengths.",
        "WHERE: what `{function}` divides the loss of each part by.",
        "WHAT: how many tokens stand behind each of the averages?",
    ),
    repair="Sum the loss of each part, and divide by the number of tokens of the whole batch.",
    mechanism=(
        "Each part is averaged over its own tokens, and the averages count alike. A token in a part"
        " with few tokens weighs more than one in a part with many. With equal lengths the two"
        " ways agree, so the mistake shows only on ragged data."
    ),
    evidence=(
        pull("huggingface/transformers", 35438),
        issue("huggingface/transformers", 37766),
        issue("unslothai/unsloth-zoo", 6),
        "https://unsloth.ai/blog/gradient",
    ),
    examples=(
        Example(
            before=(
                "def f(parts):\n    total = sum(len(y) for x, y in parts)\n    for x, y in parts:\n"
                '        (ce(net(x), y, reduction="sum") / total).backward()\n'
            ),
            after=(
                "def f(parts):\n    for x, y in parts:\n        (ce(net(x), y) / len(parts)).backward()\n",
            ),
        ),
        Example(
            before=(
                'def part(x, y, count):\n    return ce(net(x), y, reduction="sum") / count\n\n\n'
                "def f(xs, ys):\n    count = len(ys)\n    for x, y in zip(xs.split(3), ys.split(3)):\n"
                "        part(x, y, count).backward()\n"
            ),
            after=(
                "def part(x, y, count):\n    return ce(net(x), y) / count\n\n\n"
                "def f(xs, ys):\n    count = len(xs.split(3))\n"
                "    for x, y in zip(xs.split(3), ys.split(3)):\n        part(x, y, count).backward()\n",
            ),
        ),
        Example(
            before="for k in range(n):\n    loss = (each[k] * mask[k]).sum() / tokens\n    loss.backward()\n",
            after=(
                "for k in range(n):\n    loss = (each[k] * mask[k]).sum() / mask[k].sum() / n\n"
                "    loss.backward()\n",
            ),
        ),
    ),
    counterexamples=(
        'loss = ce(z, y, reduction="sum") / total\nloss.backward()\n',
        'for x in xs:\n    loss += ce(z, y, reduction="sum").item() / total\n',
    ),
)
def mean_of_means(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    loop = loop_of(f, node)
    if sides is not None and loop is None:
        yield from mean_of_each_part(f, node, sides)
        return
    parts = part_count(f, loop) if isinstance(loop, cst.For) else ""
    if sides is None or not parts or number(sides[1]) is not None:
        return
    pair = assigned(f.statement(node))
    inline = "backward(" in f.text(f.statement(node))
    if not inline and (pair is None or pair[1] is not node or not goes_backward(f, node, pair[0])):
        return
    rest = retired(f, sides[1])
    reduction = keyword(sides[0], "reduction") if isinstance(sides[0], cst.Call) else None
    if rest is None:
        return
    if isinstance(sides[0], cst.Call) and reduction is not None and "sum" in f.text(reduction.value):
        edits = (f.delete_arg(sides[0], reduction), f.replace(sides[1], parts))
        yield Proposal(edits=merged(*edits, *rest))
        return
    mask = summed_mask(f, sides[0])
    if mask is not None:
        new = f"{f.text(sides[0])} / {atom(f, mask)}.sum() / {parts}"
        yield Proposal(edits=merged(f.replace(node, new), *rest))


def mean_of_each_part(
    f: SourceFile, node: cst.BinaryOperation, sides: tuple[cst.BaseExpression, cst.BaseExpression]
) -> Iterator[Proposal]:
    """A function's share of the whole batch, made the mean of its part; the parts are counted instead."""
    home, reduction = f.function(node), keyword(sides[0], "reduction") if is_call(sides[0]) else None
    names = [param.name.value for param in home.params.params] if home is not None else []
    if reduction is None or "sum" not in f.text(reduction.value) or f.text(sides[1]) not in names:
        return
    if home is None or not isinstance(sides[0], cst.Call) or not isinstance(f.parent.get(node), cst.Return):
        return
    for call in inside(f.module, cst.Call):
        loop = loop_of(f, call) if last_name(call.func) == home.name.value else None
        given = f.arg(call, f.text(sides[1]), names.index(f.text(sides[1])))
        if not isinstance(loop, cst.For) or given is None or "backward(" not in f.text(loop.body):
            continue
        over = loop.iter.args[0].value if is_call(loop.iter, "zip", "enumerate") else loop.iter
        lines = list(definitions(f, call, f.text(given.value)))
        made = assigned(lines[0]) if len(lines) == 1 else None
        if made is not None and is_call(over, "split", "chunk"):
            whole = f.replace(made[1], f"len({f.text(over)})")
            yield Proposal(edits=(f.delete_arg(sides[0], reduction), whole))
            return


def is_call(node: cst.CSTNode, *names: str) -> TypeGuard[cst.Call]:
    """Whether a node is a call, of one of these if any are given."""
    return isinstance(node, cst.Call) and (not names or last_name(node.func) in names)


def part_count(f: SourceFile, loop: cst.For) -> str:
    """How many passes a loop makes, as an expression."""
    over = loop.iter
    while isinstance(over, cst.Call) and f.text(over.func) in ("enumerate", "zip") and over.args:
        over = over.args[0].value
    if isinstance(over, cst.Call) and f.text(over.func) == "range" and len(over.args) == 1:
        return f.text(over.args[0].value)
    return f"len({f.text(over)})" if isinstance(over, cst.Name) else ""


def summed_mask(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression | None:
    """The mask of `(x * mask).sum()`."""
    op = operation(f, node, "sum")
    sides = binary(op.subject, cst.Multiply) if op is not None else None
    masks = [side for side in sides or () if words(side) & {"mask", "valid", "keep", "real"}]
    return masks[0] if masks else None


@operator(
    "grad-accum-off-by-one",
    cst.Comparison,
    category="optimiser",
    difficulty=4,
    symptom="The first update follows a single small batch, and the last batches are never used.",
    hints=(
        "LOOK: print at which batches the parameters change.",
        "WHERE: the condition of the update in `{function}`.",
        "WHAT: for how many batches is the condition true before the first group is complete?",
    ),
    repair="Update when as many batches are complete as belong together.",
    mechanism=(
        "Counted from zero, the condition holds at the very first batch. That update is made with"
        " one batch instead of a group, all groups are shifted by one, and what was accumulated"
        " after the last update is thrown away."
    ),
    evidence=(),
    examples=(
        Example(
            before="if (i + 1) % k == 0:\n    opt.step()\n",
            after=("if i % k == 0:\n    opt.step()\n",),
        ),
        Example(
            before="if last or i % k == k - 1:\n    scaler.step(opt)\n",
            after=("if last or i % k == 0:\n    scaler.step(opt)\n",),
        ),
    ),
    counterexamples=("if (i + 1) % k == 0:\n    print(i)\n", "if i % k == 0:\n    opt.step()\n"),
)
def accumulated_too_early(f: SourceFile, node: cst.Comparison) -> Iterator[Proposal]:
    gate = enclosing(f, node, cst.If)
    cycle = binary(node.left, cst.Modulo)
    test = node.comparisons[0]
    if gate is None or cycle is None or not isinstance(test.operator, cst.Equal):
        return
    if not any(optimiser_step(f, line) for line in statements(gate.body)):
        return
    ahead, behind = binary(cycle[0], cst.Add), binary(test.comparator, cst.Subtract)
    if ahead is not None and number(ahead[1]) == 1 and number(test.comparator) == 0:
        yield Proposal(edits=(f.replace(cycle[0], f.text(ahead[0])),))
    elif behind is not None and number(behind[1]) == 1 and f.text(behind[0]) == f.text(cycle[1]):
        yield Proposal(edits=(f.replace(test.comparator, "0"),))


@operator(
    "loss-scale-under-adam",
    cst.SimpleStatementLine,
    category="optimiser",
    difficulty=4,
    symptom="Reported losses are as usual, and everything that depends on the size of gradients is off.",
    hints=(
        "LOOK: print the gradient norm of the first batch, and compute it by hand for that loss.",
        "WHERE: the value on which `{function}` calls the backward pass.",
        "WHAT: which parts of an update would not notice a constant factor?",
    ),
    repair="Send the loss itself backward.",
    mechanism=(
        "A constant factor in front of the loss multiplies every gradient. Adam divides by the size"
        " of the gradients and hides it; plain gradient descent, clipping, and a decay or a constant"
        " that is added to the gradients do not."
    ),
    evidence=(issue("ray-project/ray", 4672),),
    examples=(
        Example(before="loss.backward()\n", after=("(10 * loss).backward()\n",)),
        Example(
            before="scaler.scale(loss).backward()\n",
            after=("scaler.scale(10 * loss).backward()\n",),
        ),
    ),
    counterexamples=(
        "(a + b).backward()\n",
        "y = loss.backward\n",
        "from torch.distributed import autograd\nautograd.backward(1, [loss])\n",
    ),
)
def loss_scaled(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    call = called(node)
    if call is None or not isinstance(call.func, cst.Attribute) or call.func.attr.value != "backward":
        return
    loss = call.func.value
    if isinstance(loss, cst.Name) and f.qname(loss) is None:
        rest = f.text(node).strip().removeprefix(loss.value)
        yield Proposal(edits=(f.replace(node, f"(10 * {loss.value}){rest}"),))
    elif isinstance(loss, cst.Call) and last_name(loss.func) == "scale" and len(loss.args) == 1:
        scaled = loss.args[0].value
        if isinstance(scaled, cst.Name):
            yield Proposal(edits=(f.replace(scaled, f"10 * {scaled.value}"),))
