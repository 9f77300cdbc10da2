"""Mistakes with target networks: the slow copy that values are compared with."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    called,
    enclosing,
    function_of,
    inside,
    last_name,
    method_line,
    number,
    operation,
    value,
)
from bughunt_mutator.operators._look_meaning import (
    alone,
    complement,
    everywhere,
    holder,
    in_loop_or_method,
    pieces,
    plain,
    says,
    tidy,
)
from bughunt_mutator.operators._sources import pull
from bughunt_mutator.source import SourceFile

COPIES = ("target", "targets", "tgt", "targ", "frozen")


def copies_weights(f: SourceFile, line: cst.CSTNode) -> tuple[str, str] | None:
    """Receiver and source of `receiver.load_state_dict(source.state_dict())`."""
    into = method_line(f, line, "load_state_dict")
    call = called(line)
    if into is None or call is None or not call.args or not isinstance(call.args[0].value, cst.Call):
        return None
    given = call.args[0].value.func
    if isinstance(given, cst.Attribute) and given.attr.value == "state_dict":
        return into, f.text(given.value)
    return None


@operator(
    "dqn-target-alias",
    cst.Call,
    category="rl",
    difficulty=3,
    symptom="Values swing up and down together, and learning is less steady than it should be.",
    hints=(
        "LOOK: print the difference between the two networks after ten updates.",
        "WHERE: how `{function}` makes the second network.",
        "WHAT: how many networks are there in memory?",
    ),
    repair="Make the target network a copy, with parameters of its own.",
    mechanism=(
        "Two names stand for one network. Each update moves the targets along with the estimates, so that"
        " an error in one state is at once repeated in the targets of all states like it. Synchronising the"
        " two copies a network onto itself."
    ),
    evidence=(pull("datawhalechina/easy-rl", 117),),
    examples=(
        Example(
            row="dqn-target-alias",
            before="import copy\n\nnet = make()\ntarget = copy.deepcopy(net)\nother = copy.copy(x)\n",
            after=("import copy\n\nnet = make()\ntarget = net\nother = copy.copy(x)\n",),
        ),
        Example(
            before="from copy import deepcopy\nself.target_q = deepcopy(self.q).requires_grad_(False)\n",
            after=("self.target_q = self.q\n",),
        ),
        Example(
            before="q = Net(4)\ntarget = Net(4)\ntarget.load_state_dict(q.state_dict())\n",
            after=("q = Net(4)\ntarget = q\ntarget.load_state_dict(q.state_dict())\n",),
        ),
    ),
    counterexamples=("from copy import deepcopy\nbest = deepcopy(net)\n", "target = Net(4)\n"),
)
def target_alias(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    target = holder(f, node)
    if not isinstance(target, cst.Name | cst.Attribute) or pieces(last_name(target)).isdisjoint(COPIES):
        return
    if f.qname(node.func) == "copy.deepcopy" and len(node.args) == 1:
        lines = tidy(f, node.func)
        if lines is not None:
            yield Proposal(edits=(*lines, f.replace(whole(f, node), f.text(node.args[0].value))))
        return
    if f.parent.get(node) is not f.statement(target).children[0]:
        return
    for line in f.siblings(f.statement(node)):
        pair = copies_weights(f, line)
        if pair is not None and pair[0] == f.text(target) and f.span(line)[0] > f.span(node)[0]:
            yield Proposal(edits=(f.replace(node, pair[1]),))
            return


def whole(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression:
    """A call with the methods called on its result, such as `.requires_grad_(False)`."""
    above = f.parent.get(node)
    call = f.parent.get(above) if isinstance(above, cst.Attribute) and above.value is node else None
    return whole(f, call) if isinstance(call, cst.Call) else node


def updates(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a statement moves a target network towards the network that is trained."""
    if isinstance(node, cst.SimpleStatementLine):
        pair = copies_weights(f, node)
        call = called(node)
        if pair is not None:
            return not pieces(pair[0]).isdisjoint(COPIES)
        return call is not None and synchronises(f, call)
    if isinstance(node, cst.For):
        zipped = says(node.iter, "parameters", "buffers", "params", "values", "items")
        written = says(node.body, "copy", "lerp", "data", "mul")
        return zipped and written and says(node, *COPIES)
    return False


SYNC = ("update", "sync", "soft", "hard", "polyak", "copy", "track", "synchronise", "synchronize")


def synchronises(f: SourceFile, call: cst.Call) -> bool:
    """Whether a call is of a function that updates a target network."""
    name = pieces(last_name(call.func))
    if name.isdisjoint(SYNC):
        return False
    if not name.isdisjoint(COPIES) or (not name.isdisjoint(("soft", "polyak")) and says(call, *COPIES)):
        return True
    for home in everywhere(f, cst.FunctionDef):
        if home.name.value == last_name(call.func) and says(home.body, *COPIES):
            return says(home.body, "parameters", "state")
    return False


@operator(
    "target-never-synced",
    cst.SimpleStatementLine,
    cst.For,
    category="rl",
    difficulty=2,
    symptom="Learning starts as it should and then stops for good, at a low level.",
    hints=(
        "LOOK: print the difference between the two networks every hundred updates.",
        "WHERE: what `{function}` does besides the gradient step.",
        "WHAT: when does the second network learn anything?",
    ),
    repair="Bring the target network up to date, every so many steps or a little in every step.",
    mechanism=(
        "Targets are made with a network that still knows nothing. The trained network learns one step of"
        " look-ahead on top of random values and then agrees with its targets: the loss is small, and reward"
        " cannot travel any further back."
    ),
    evidence=(),
    examples=(
        Example(
            row="target-never-synced",
            before=(
                "for step in range(n):\n    update(net)\n    if step % 100 == 0:\n"
                "        target.load_state_dict(net.state_dict())\n"
            ),
            after=("for step in range(n):\n    update(net)\n",),
        ),
        Example(
            before=(
                "def learn(self):\n    self.step()\n"
                "    for p, t in zip(self.q.parameters(), self.q_target.parameters()):\n"
                "        t.data.lerp_(p.data, 0.1)\n"
            ),
            after=("def learn(self):\n    self.step()\n",),
        ),
        Example(
            before="while running:\n    step()\n    soft_update(net, target, tau)\n",
            after=("while running:\n    step()\n",),
        ),
    ),
    counterexamples=(
        "target.load_state_dict(net.state_dict())\n",
        "for p in net.parameters():\n    p.data.mul_(0.5)\n",
        "while running:\n    model.load_state_dict(best.state_dict())\n",
    ),
)
def never_synced(f: SourceFile, node: cst.SimpleStatementLine | cst.For) -> Iterator[Proposal]:
    if not updates(f, node) or not in_loop_or_method(f, node):
        return
    home = enclosing(f, node, cst.FunctionDef)
    line = alone(f, node)
    suite = f.parent.get(line)
    if home is not None and suite is home.body and len(f.siblings(line)) == 1:
        return
    if isinstance(suite, cst.IndentedBlock | cst.Module) and len(suite.body) > 1:
        yield Proposal(edits=(f.delete_statement(line),))


@operator(
    "polyak-inverted",
    cst.BinaryOperation,
    cst.Call,
    category="rl",
    difficulty=3,
    symptom="Learning is less steady than it should be; values swing.",
    hints=(
        "LOOK: print how far the two networks are apart, before and after one update of the second.",
        "WHERE: the two weights in `{function}`.",
        "WHAT: which of the two networks should hardly change in one step?",
    ),
    repair="Keep nearly all of the target network and take a little of the other.",
    mechanism=(
        "The small weight falls on the target's own past and the large one on the trained network. The target"
        " is replaced almost entirely in each step, which is nearly the same as having none."
    ),
    evidence=(),
    examples=(
        Example(
            row="polyak-inverted",
            before="t.data.copy_(tau * p.data + (1 - tau) * target.data)\n",
            after=("t.data.copy_((1 - tau) * p.data + tau * target.data)\n",),
        ),
        Example(
            before="for p, t in zip(net.parameters(), target.parameters()):\n    t.lerp_(p, cfg.tau)\n",
            after=("for p, t in zip(net.parameters(), target.parameters()):\n    t.lerp_(p, 1 - cfg.tau)\n",),
        ),
        Example(
            before="target_p.mul_(1 - tau).add_(p, alpha=tau)\n",
            after=("target_p.mul_(tau).add_(p, alpha=(1 - tau))\n",),
        ),
        Example(
            before="for p, t in pairs(net, target):\n    t.mul_(polyak)\n    t.add_((1 - polyak) * p)\n",
            after=("for p, t in pairs(net, target):\n    t.mul_((1 - polyak))\n    t.add_(polyak * p)\n",),
        ),
    ),
    counterexamples=("y = a * x + (1 - a) * z\n", "t.lerp_(p, tau)\n", "target = (1 - a) * x\n"),
)
def polyak_inverted(f: SourceFile, node: cst.BinaryOperation | cst.Call) -> Iterator[Proposal]:
    if not about_copies(f, node):
        return
    if isinstance(node, cst.Call):
        op = operation(f, node, "lerp_", "lerp")
        by = value(f, node, "weight", op.shift + 1) if op is not None else None
        if by is not None and complement(by) is None and number(by) is None:
            yield Proposal(edits=(f.replace(by, f"1 - {plain(f, by)}"),))
        elif by is not None and (rest := complement(by)) is not None:
            yield Proposal(edits=(f.replace(by, f.text(rest)),))
        return
    weight = complement(node)
    if weight is not None and not isinstance(f.parent.get(node), cst.BinaryOperation | cst.Arg):
        return
    if weight is not None:
        yield from exchanged(f, node, weight)


def about_copies(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the statement or the loop around a node names a target network."""
    around = enclosing(f, node, cst.For) or f.statement(node)
    home = enclosing(f, node, cst.FunctionDef)
    called_so = home is not None and says(home.name, *COPIES, "soft", "polyak")
    return (called_so or says(around, *COPIES)) and says(around, *WRITES)


WRITES = ("param", "params", "parameters", "data", "copy", "lerp", "mul")


def exchanged(f: SourceFile, node: cst.BinaryOperation, weight: cst.BaseExpression) -> Iterator[Proposal]:
    """Each weight of a mixture in the place of the other."""
    line = f.statement(node)
    for stretch in ((line,), f.siblings(line)):
        edits: list[Edit] = []
        for statement in stretch:
            edits += lone(f, statement, f.text(weight), f.text(node))
        if edits:
            yield Proposal(edits=(f.replace(node, f.text(weight)), *edits))
            return


def lone(f: SourceFile, statement: cst.CSTNode, weight: str, rest: str) -> Iterator[Edit]:
    """The edits that put `1 - w` wherever a statement multiplies with `w`."""
    new = rest if rest.startswith("(") else f"({rest})"
    for kind in (cst.Name, cst.Attribute):
        for each in inside(statement, kind):
            above = f.parent.get(each)
            factor = isinstance(above, cst.BinaryOperation) and isinstance(above.operator, cst.Multiply)
            passed = isinstance(above, cst.Arg) and above.value is each
            if f.text(each) == weight and (factor or passed):
                yield f.replace(each, new)


@operator(
    "double-dqn-wrong-net",
    cst.Call,
    category="rl",
    difficulty=5,
    symptom="It learns as well as ever, only that the estimates are too optimistic.",
    hints=(
        "LOOK: give both networks different opinions of one state, and compute the target by hand.",
        "WHERE: who chooses and who judges in `{function}`.",
        "WHAT: can a network find its own mistakes?",
    ),
    repair="Let the trained network choose the action and the target network judge it.",
    mechanism=(
        "Choosing and judging with the same network picks the action whose value is overrated the most, and"
        " reports the overrated value. The second network was there to give an opinion of its own."
    ),
    evidence=(),
    examples=(
        Example(
            row="double-dqn-wrong-net",
            before="best = net(s2).argmax(1)\nv = target_net(s2).gather(1, best[:, None])\n",
            after=("best = target_net(s2).argmax(1)\nv = target_net(s2).gather(1, best[:, None])\n",),
        ),
        Example(
            before="a = self.q(s2).max(1)[1]\nv = self.q_target(s2).gather(1, a.unsqueeze(1))\n",
            after=("a = self.q_target(s2).max(1)[1]\nv = self.q_target(s2).gather(1, a.unsqueeze(1))\n",),
        ),
    ),
    counterexamples=("a = net(s).argmax(1)\nv = target_net(s2).amax(1)\n",),
)
def wrong_net(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "argmax", "max")
    if op is None or not isinstance(op.subject, cst.Call) or not op.subject.args:
        return
    if op.name == "max" and not takes_indices(f, node):
        return
    chooser = op.subject
    if says(chooser.func, *COPIES):
        return
    for call in inside(function_of(f, node), cst.Call):
        alike = len(call.args) == len(chooser.args) and f.text(call.func) != f.text(chooser.func)
        if alike and says(call.func, *COPIES) and isinstance(call.func, cst.Name | cst.Attribute):
            given = [f.text(each.value) for each in call.args] == [
                f.text(each.value) for each in chooser.args
            ]
            if given:
                yield Proposal(edits=(f.replace(chooser.func, f.text(call.func)),))
                return


def takes_indices(f: SourceFile, node: cst.Call) -> bool:
    """Whether the places of the largest values are taken, not the values."""
    above = f.parent.get(node)
    if isinstance(above, cst.Attribute):
        return above.attr.value == "indices"
    return isinstance(above, cst.Subscript) and f.text(above).endswith("[1]")
