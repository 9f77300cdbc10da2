"""Mistakes in divergences between distributions, and in learning from a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    Operation,
    axis,
    binary,
    inside,
    keyword,
    last_name,
    mentions,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_training import atom, factors, is_temperature, made_by, resolved, words
from bughunt_mutator.operators._sources import issue
from bughunt_mutator.source import SourceFile


@dataclass(frozen=True)
class Divergence:
    """A call of `kl_div`: the log-probabilities, the probabilities, and how each was made."""

    call: cst.Call
    one: cst.BaseExpression
    two: cst.BaseExpression
    log_target: bool
    log_op: Operation | None
    op: Operation | None


def divergence(f: SourceFile, node: cst.Call) -> Divergence | None:
    """The divergence that a call computes, as a function or through an object."""
    name = f.qname(node.func)
    if name is None and isinstance(node.func, cst.Call):
        name = f.qname(node.func.func)
    name = name or made_by(f, node, f.text(node.func))
    if name not in ("torch.nn.functional.kl_div", "torch.nn.KLDivLoss"):
        return None
    first, second = f.arg(node, "input", 0), f.arg(node, "target", 1)
    if first is None or second is None:
        return None
    return Divergence(
        call=node,
        one=first.value,
        two=second.value,
        log_target=keyword(node, "log_target") is not None,
        log_op=operation(f, resolved(f, first.value), "log_softmax"),
        op=operation(f, resolved(f, second.value), "softmax", "log_softmax"),
    )


@operator(
    "kl-args-swapped",
    cst.Call,
    cst.BinaryOperation,
    category="loss",
    difficulty=5,
    symptom="It learns, but settles on one of several right answers.",
    hints=(
        "LOOK: compute the divergence of two small distributions by hand, both ways round.",
        "WHERE: the order of the two distributions in `{function}`.",
        "WHAT: where is it expensive to be wrong: where the truth has mass, or where the model has?",
    ),
    repair="Pass what the model says as log-probabilities, and what it should say as the target.",
    mechanism=(
        "The divergence is not symmetric. The usual one asks the model to put mass wherever the"
        " truth has some; the reverse only forbids mass where the truth has none, so a model that"
        " keeps to a single peak is satisfied. The value is zero for the same distributions."
    ),
    evidence=(),
    examples=(
        Example(
            before=(
                "from torch.nn import functional as F\n"
                "loss = F.kl_div(F.log_softmax(z, -1), F.softmax(t, -1))\n"
            ),
            after=(
                "from torch.nn import functional as F\n"
                "loss = F.kl_div(F.log_softmax(t, -1), F.softmax(z, -1))\n",
            ),
        ),
        Example(
            before="from torch.nn import functional as F\nloss = F.kl_div(log_q, p)\n",
            after=("from torch.nn import functional as F\nloss = F.kl_div(p.log(), log_q.exp())\n",),
        ),
        Example(
            before=(
                "from torch import nn\nkl = nn.KLDivLoss(log_target=True)\n"
                "loss = kl(log_q, log_p, log_target=True)\n"
            ),
            after=(
                "from torch import nn\nkl = nn.KLDivLoss(log_target=True)\n"
                "loss = kl(log_p, log_q, log_target=True)\n",
            ),
        ),
        Example(
            before="from torch.distributions import kl_divergence\nloss = kl_divergence(q, p).sum()\n",
            after=("from torch.distributions import kl_divergence\nloss = kl_divergence(p, q).sum()\n",),
        ),
        Example(
            before="kl = (log_p.exp() * (log_p - log_q)).sum(-1)\n",
            after=("kl = (log_q.exp() * (log_q - log_p)).sum(-1)\n",),
        ),
        Example(
            before="kl = p * (p.log() - q.log())\n",
            after=("kl = q * (q.log() - p.log())\n",),
        ),
    ),
    counterexamples=("loss = kl_div(log_q, p)\n", "d = p * (q.log() - r.log())\n"),
)
def arguments_swapped(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        yield from by_hand(f, node)
    elif f.qname(node.func) == "torch.distributions.kl_divergence" and len(node.args) == 2:
        yield Proposal(edits=f.swap(node.args[0].value, node.args[1].value))
    elif (kl := divergence(f, node)) is not None:
        if kl.log_target:
            yield Proposal(edits=f.swap(kl.one, kl.two))
        elif kl.log_op is not None and kl.op is not None and kl.op.name == "softmax":
            yield Proposal(edits=f.swap(kl.log_op.subject, kl.op.subject))
        else:
            log, exp = f"{atom(f, kl.two)}.log()", f"{atom(f, kl.one)}.exp()"
            yield Proposal(edits=(f.replace(kl.one, log), f.replace(kl.two, exp)))


def by_hand(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    """`p * (log p - log q)` turned round."""
    logs = written_out(f, node)
    if logs is None:
        return
    op = operation(f, logs[1], "log")
    weight = atom(f, op.subject) if op is not None else f"{atom(f, logs[1])}.exp()"
    yield Proposal(edits=(f.replace(node, f"{weight} * ({f.text(logs[1])} - {f.text(logs[0])})"),))


def written_out(f: SourceFile, node: cst.BaseExpression) -> tuple[cst.BaseExpression, ...] | None:
    """`log p` and `log q` of `p * (log p - log q)`, where the first is a logarithm or `p` its exponential."""
    sides = binary(node, cst.Multiply)
    logs = binary(sides[1], cst.Subtract) if sides is not None else None
    if sides is None or logs is None:
        return None
    raised, log = operation(f, sides[0], "exp"), operation(f, logs[0], "log")
    if raised is not None:
        return logs if f.text(raised.subject) == f.text(logs[0]) else None
    other = operation(f, logs[1], "log")
    same = log is not None and f.text(log.subject) == f.text(sides[0])
    return logs if same and other is not None else None


def compared(f: SourceFile, node: cst.BinaryOperation) -> Operation | None:
    """What makes the `q` of `p.exp() * (p - q)`, if that is a `log_softmax`."""
    sides = binary(node, cst.Multiply)
    for weight, difference in (sides, sides[::-1]) if sides is not None else ():
        exp, logs = operation(f, weight, "exp"), binary(difference, cst.Subtract)
        if exp is not None and logs is not None and f.text(exp.subject) == f.text(logs[0]):
            return operation(f, resolved(f, logs[1]), "log_softmax")
    return None


@operator(
    "kl-input-not-log",
    cst.Call,
    cst.BinaryOperation,
    category="loss",
    difficulty=3,
    symptom="The loss is negative, and the predictions hardly follow their targets.",
    hints=(
        "LOOK: compute the loss for a prediction that equals its target.",
        "WHERE: the first thing that `{function}` hands to the divergence.",
        "WHAT: on which scale are probabilities expected there?",
    ),
    repair="Pass log-probabilities.",
    mechanism=(
        "Only the target's logarithm is taken care of; the other side is expected to be on that scale"
        " already. Given probabilities, it multiplies target and prediction instead of"
        " comparing them, and what is minimised has its lowest point somewhere else."
    ),
    evidence=(issue("sebastian-hofstaetter/matchmaker", 18), issue("microsoft/ProDA", 20)),
    examples=(
        Example(
            before="from torch.nn import functional as F\nloss = F.kl_div(F.log_softmax(z, dim=-1), t)\n",
            after=("from torch.nn import functional as F\nloss = F.kl_div(F.softmax(z, dim=-1), t)\n",),
        ),
        Example(
            before=(
                "from torch.nn import functional as F\nlogp = z.log_softmax(1)\nloss = F.kl_div(logp, t)\n"
            ),
            after=("from torch.nn import functional as F\nlogp = z.softmax(1)\nloss = F.kl_div(logp, t)\n",),
        ),
        Example(
            before="from torch import nn\nkl = nn.KLDivLoss()\nloss = kl(q.log(), p)\n",
            after=("from torch import nn\nkl = nn.KLDivLoss()\nloss = kl(q, p)\n",),
        ),
        Example(
            before="q = z.log_softmax(1)\nkl = (p.exp() * (p - q)).sum(1).mean()\n",
            after=("q = z.softmax(1)\nkl = (p.exp() * (p - q)).sum(1).mean()\n",),
        ),
    ),
    counterexamples=(
        "from torch.nn import functional as F\nloss = F.kl_div(z, t)\n",
        "from torch.nn import functional as F\nloss = F.nll_loss(z.log_softmax(-1), t)\n",
    ),
)
def input_not_log(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        log_op = compared(f, node)
        if log_op is not None and isinstance(log_op.call.func, cst.Attribute):
            yield Proposal(edits=(f.replace(log_op.call.func.attr, "softmax"),))
        return
    kl = divergence(f, node)
    if kl is None:
        return
    if kl.log_op is not None and isinstance(kl.log_op.call.func, cst.Attribute):
        yield Proposal(edits=(f.replace(kl.log_op.call.func.attr, "softmax"),))
    elif (log := operation(f, kl.one, "log")) is not None and not orphans(f, log.call.func):
        yield Proposal(edits=(f.replace(kl.one, f.text(log.subject)),))


@operator(
    "kl-mean-not-batchmean",
    cst.Call,
    category="loss",
    difficulty=4,
    symptom="The divergence is several times too small and has little effect on the result.",
    hints=(
        "LOOK: compute the divergence of one pair of distributions by hand.",
        "WHERE: how `{function}` makes one number of many.",
        "WHAT: by how many numbers is the sum divided?",
    ),
    repair="Divide by the number of examples only.",
    mechanism=(
        "A divergence is a sum over classes. The plain mean divides by examples times classes, so"
        " the term is too small by a factor of the number of classes, and whatever it is added to"
        " decides alone."
    ),
    evidence=(issue("HikariTJU/LD", 74), issue("haitongli/knowledge-distillation-pytorch", 48)),
    examples=(
        Example(
            before="from torch.nn import functional as F\nloss = F.kl_div(q, p, reduction='batchmean')\n",
            after=("from torch.nn import functional as F\nloss = F.kl_div(q, p, reduction='mean')\n",),
        ),
        Example(
            before="kl = (p * (p.log() - q.log())).sum(dim=-1).mean()\n",
            after=("kl = (p * (p.log() - q.log())).mean(dim=-1).mean()\n",),
        ),
        Example(
            before='from torch import nn\nkl = nn.KLDivLoss(reduction="batchmean", log_target=True)\n',
            after=('from torch import nn\nkl = nn.KLDivLoss(reduction="mean", log_target=True)\n',),
        ),
    ),
    counterexamples=(
        'loss = kl(q, p, reduction="sum")\n',
        'loss = kl(q, p, mode="batchmean")\n',
        "kl = (p * (p - q)).sum(dim=-1).mean()\n",
    ),
)
def plain_mean(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    mean = operation(f, node, "mean")
    total = operation(f, mean.subject, "sum") if mean is not None and len(node.args) == mean.shift else None
    if total is not None and isinstance(total.call.func, cst.Attribute) and axis(f, total) is not None:
        if written_out(f, total.subject) is not None:
            yield Proposal(edits=(f.replace(total.call.func.attr, "mean"),))
        return
    given = keyword(node, "reduction")
    if given is not None and f.text(given.value).strip("\"'") == "batchmean":
        yield Proposal(edits=(f.replace(given.value, f.text(given.value).replace("batchmean", "mean")),))


@operator(
    "kd-no-t-squared",
    cst.BinaryOperation,
    category="loss",
    difficulty=4,
    symptom="The student hardly profits from its teacher, the less the higher the temperature.",
    hints=(
        "LOOK: compare the gradients of the two parts of the loss for several temperatures.",
        "WHERE: the factors in `{function}`.",
        "WHAT: by which power of the temperature do the gradients of the soft part shrink?",
    ),
    repair="Multiply the soft part by the square of the temperature.",
    mechanism=(
        "Dividing the logits by a temperature flattens both distributions, and the gradient of"
        " their divergence shrinks with the square of it. Without the factor that makes up for it,"
        " the hard labels outweigh the teacher."
    ),
    evidence=(issue("nlp-with-transformers/notebooks", 94),),
    examples=(
        Example(before="soft = T * T * kl(a, b)\n", after=("soft = kl(a, b)\n",)),
        Example(
            before="loss = alpha * kl(a, b) * temperature**2 + ce\n",
            after=("loss = alpha * kl(a, b) + ce\n",),
        ),
        Example(
            before="loss = (cfg.tau**2) * distill / n\n",
            after=("loss = distill / n\n",),
        ),
    ),
    counterexamples=("y = x * t**2\n", "y = T * kl(a, b)\n", "z = 0.5 * a * t**2\n"),
)
def not_rescaled(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    if binary(node, cst.Multiply) is None or binary(f.parent.get(node), cst.Multiply) is not None:
        return
    parts = factors(node)
    squares = [part for part in parts if is_square(part)]
    singles = [part for part in parts if is_temperature(part)]
    gone = squares[:1] or (singles if len(singles) == 2 and f.text(singles[0]) == f.text(singles[1]) else [])
    kept = [part for part in parts if part not in gone]
    soft = any(mentions(part, "kl", "distil", "soft", "divergence", "kd") for part in kept)
    if gone and soft and not orphans(f, *gone):
        yield Proposal(edits=(f.replace(node, " * ".join(f.text(part) for part in kept)),))


def is_square(node: cst.BaseExpression) -> bool:
    """Whether a factor is the square of a temperature."""
    sides = binary(node, cst.Power)
    return sides is not None and is_temperature(sides[0])


@operator(
    "kd-teacher-vs-teacher",
    cst.Call,
    category="loss",
    difficulty=5,
    symptom="The soft part of the loss stays the same, whatever the student does.",
    hints=(
        "LOOK: compute the gradient of the soft part alone, with respect to the student.",
        "WHERE: the two distributions that `{function}` compares.",
        "WHAT: whose answers are on either side?",
    ),
    repair="Compare the student's distribution with the teacher's.",
    mechanism=(
        "The teacher is compared with itself. The divergence is a constant without a gradient, the"
        " total looks plausible, and the student learns from the labels alone."
    ),
    evidence=(issue("labmlai/annotated_deep_learning_paper_implementations", 66),),
    examples=(
        Example(
            before=(
                "def kd(z, teacher, T):\n    a = (z / T).log_softmax(1)\n"
                "    b = (teacher / T).log_softmax(1)\n    return (b.exp() * (b - a)).sum(1).mean()\n"
            ),
            after=(
                "def kd(z, teacher, T):\n    a = (teacher / T).log_softmax(1)\n"
                "    b = (teacher / T).log_softmax(1)\n    return (b.exp() * (b - a)).sum(1).mean()\n",
            ),
        ),
        Example(
            before=(
                "from torch.nn import functional as F\n"
                "loss = F.kl_div(F.log_softmax(student / T, -1), F.softmax(teacher / T, -1))\n"
            ),
            after=(
                "from torch.nn import functional as F\n"
                "loss = F.kl_div(F.log_softmax(teacher / T, -1), F.softmax(teacher / T, -1))\n",
            ),
        ),
        Example(
            before=(
                "from torch.nn import functional as F\ndef f(z, teacher_logits):\n"
                "    a = (z / 2).log_softmax(-1)\n    b = (teacher_logits / 2).softmax(-1)\n"
                "    return F.kl_div(a, b)\n"
            ),
            after=(
                "from torch.nn import functional as F\ndef f(z, teacher_logits):\n"
                "    a = (teacher_logits / 2).log_softmax(-1)\n    b = (teacher_logits / 2).softmax(-1)\n"
                "    return F.kl_div(a, b)\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch.nn import functional as F\nloss = F.kl_div(F.log_softmax(a, -1), F.softmax(b, -1))\n",
        "def f(z, teacher):\n    return z.softmax(-1), teacher.softmax(-1)\n",
    ),
)
def teacher_twice(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    kl = divergence(f, node)
    if kl is None:
        student, teacher = operation(f, node, "log_softmax", "softmax"), teacher_of(f, node)
        if student is not None and teacher is not None and not orphans(f, student.subject):
            yield Proposal(edits=(f.replace(student.subject, f.text(teacher.subject)),))
        return
    if kl.log_op is None or kl.op is None or not words(kl.op.call) & {"teacher", "soft"}:
        return
    if "teacher" not in words(kl.log_op.call) and not orphans(f, kl.log_op.subject):
        yield Proposal(edits=(f.replace(kl.log_op.subject, f.text(kl.op.subject)),))


def teacher_of(f: SourceFile, node: cst.Call) -> Operation | None:
    """The softened answers of the teacher beside those of a student, where they are compared by hand."""
    own = operation(f, node, "log_softmax", "softmax")
    home = f.function(node)
    if (
        own is None
        or home is None
        or binary(own.subject, cst.Divide) is None
        or "teacher" in words(own.subject)
    ):
        return None
    if any(last_name(call.func) in ("kl_div", "KLDivLoss") for call in inside(home, cst.Call)):
        return None
    ops = [operation(f, call, "log_softmax", "softmax") for call in inside(home, cst.Call)]
    found = [op for op in ops if op is not None and "teacher" in words(op.subject)]
    return found[0] if len(found) == 1 else None


@operator(
    "kd-wrong-softmax-temp",
    cst.Call,
    category="loss",
    difficulty=4,
    symptom="The student becomes more sure of itself than its teacher is.",
    hints=(
        "LOOK: compare the entropies of the two distributions, for a student that copies its teacher.",
        "WHERE: how `{function}` softens answers.",
        "WHAT: are both sides softened alike?",
    ),
    repair="Divide the logits of both by the temperature.",
    mechanism=(
        "The student's softened distribution is asked to match the teacher's sharp one. To get"
        " there its logits must be as many times larger as the temperature says, so it is far too"
        " confident when it is used without one."
    ),
    evidence=(),
    examples=(
        Example(
            before=(
                "def kd(z, teacher, T):\n    a = (z / T).log_softmax(1)\n"
                "    b = (teacher / T).log_softmax(1)\n    return (b.exp() * (b - a)).sum(1).mean()\n"
            ),
            after=(
                "def kd(z, teacher, T):\n    a = (z / T).log_softmax(1)\n"
                "    b = teacher.log_softmax(1)\n    return (b.exp() * (b - a)).sum(1).mean()\n",
            ),
        ),
        Example(
            before=(
                "from torch.nn import functional as F\n"
                "loss = F.kl_div(F.log_softmax(student / T, -1), F.softmax(teacher / T, -1))\n"
            ),
            after=(
                "from torch.nn import functional as F\n"
                "loss = F.kl_div(F.log_softmax(student / T, -1), F.softmax(teacher, -1))\n",
            ),
        ),
        Example(
            before=(
                "from torch.nn import functional as F\ndef f(a, b, tau):\n"
                "    target = (b / tau).softmax(dim=1)\n"
                "    return F.kl_div((a / tau).log_softmax(dim=1), target)\n"
            ),
            after=(
                "from torch.nn import functional as F\ndef f(a, b, tau):\n"
                "    target = b.softmax(dim=1)\n"
                "    return F.kl_div((a / tau).log_softmax(dim=1), target)\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch.nn import functional as F\nloss = F.kl_div(F.log_softmax(a, -1), F.softmax(b / T, -1))\n",
        "from torch.nn import functional as F\nloss = F.kl_div(F.log_softmax(a / T, -1), F.softmax(b, -1))\n",
    ),
)
def one_temperature(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    kl = divergence(f, node)
    student = kl.log_op if kl is not None else operation(f, node, "log_softmax", "softmax")
    teacher = kl.op if kl is not None else teacher_of(f, node)
    if student is None or teacher is None:
        return
    one, two = binary(student.subject, cst.Divide), binary(teacher.subject, cst.Divide)
    if one is not None and two is not None and f.text(one[1]) == f.text(two[1]):
        yield Proposal(edits=(f.replace(teacher.subject, f.text(two[0])),))
