"""Mistakes in policy updates: log-probabilities, ratios, and the critics that judge actions."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    axis,
    binary,
    function_of,
    inside,
    last_name,
    number,
    operation,
)
from bughunt_mutator.operators._look_meaning import (
    complement,
    holder,
    named,
    plain,
    reindented,
    resolved,
    same_but_number,
    says,
    tidy,
    words,
)
from bughunt_mutator.operators._sources import PPO_DETAILS, issue, pull
from bughunt_mutator.source import SourceFile

OLD = (
    "old",
    "prev",
    "previous",
    "behaviour",
    "behavior",
    "stored",
    "batch",
    "b",
    "mb",
    "ref",
    "sample",
    "buffer",
)


def is_logp(node: cst.CSTNode | None) -> bool:
    """Whether an expression is called as log-probabilities are."""
    if node is None:
        return False
    said = words(node)
    whole = {"logp", "logps", "logpi", "logprob", "logprobs", "newlogprob", "oldlogprob"}
    return not said.isdisjoint(whole) or ("log" in said and not said.isdisjoint(("prob", "probs", "p", "pi")))


def ratio(f: SourceFile, node: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """New and old log-probability, if their difference is what a ratio is made from."""
    sides = binary(node, cst.Subtract)
    if sides is None or not (all(is_logp(side) for side in sides) or is_clipped(f, node)):
        return None
    if says(sides[0], "old", "prev", "ref", "behaviour") or not (
        says(sides[1], *OLD) or says(holder(f, node), "ratio", "ratios", "logratio")
    ):
        return None
    above: cst.CSTNode | None = f.parent.get(node)
    if isinstance(above, cst.Arg | cst.Attribute):
        return sides if operation(f, f.parent.get(above), "exp") else None
    target = holder(f, node)
    if isinstance(above, cst.Assign) and isinstance(target, cst.Name):
        for call in inside(function_of(f, node), cst.Call):
            op = operation(f, call, "exp")
            if op is not None and f.text(op.subject) == target.value:
                return sides
    return None


def is_clipped(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether what is made of an expression is called a ratio, and kept near one afterwards."""
    target = holder(f, node)
    if target is None or not named(target, "ratio", "ratios"):
        return False
    limits = [operation(f, call, "clamp", "clip") for call in inside(function_of(f, node), cst.Call)]
    return any(op is not None and f.text(op.subject) == f.text(target) for op in limits)


@operator(
    "ppo-ratio-constant",
    cst.BinaryOperation,
    category="rl",
    difficulty=4,
    symptom="The fraction of clipped samples is zero in every update, and learning is less steady.",
    hints=(
        "LOOK: print the smallest and the largest ratio in each pass over a batch.",
        "WHERE: what `{function}` compares the policy with.",
        "WHAT: how far has the policy moved since the samples were drawn?",
    ),
    repair="Compare with the log-probabilities that were kept when the actions were taken.",
    mechanism=(
        "The policy is compared with itself, so that the ratio is one whatever happens. Its gradient is that"
        " of the plain policy gradient, and the clip never acts: several passes over one batch move the"
        " policy as far as they like."
    ),
    evidence=(PPO_DETAILS,),
    examples=(
        Example(
            row="ppo-ratio-constant",
            before="def loss(logp, old_logp, adv):\n    return -((logp - old_logp).exp() * adv).mean()\n",
            after=(
                "def loss(logp, old_logp, adv):\n    return -((logp - logp.detach()).exp() * adv).mean()\n",
            ),
        ),
        Example(
            before="logratio = newlogprob - b_logprobs[i]\nratio = logratio.exp()\n",
            after=("logratio = newlogprob - newlogprob.detach()\nratio = logratio.exp()\n",),
        ),
        Example(
            before=(
                "def f(now, then, c):\n    ratio = (now - then).exp()\n    return ratio.clamp(1 - c, 1 + c)\n"
            ),
            after=(
                "def f(now, then, c):\n    ratio = (now - now.detach()).exp()\n"
                "    return ratio.clamp(1 - c, 1 + c)\n",
            ),
        ),
    ),
    counterexamples=(
        "kl = (old_logp - logp).mean()\n",
        "import torch\ny = torch.exp(a - b)\n",
        "import torch\nk = torch.exp(ref_logp - logp)\n",
        "def f(a, b):\n    ratio = (a - b).exp()\n    return ratio\n",
    ),
)
def ratio_constant(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = ratio(f, node)
    if sides is None:
        return
    lines = tidy(f, sides[1])
    if lines is not None:
        yield Proposal(edits=(*lines, f.replace(sides[1], f"{plain(f, sides[0])}.detach()")))


@operator(
    "ppo-clip-max",
    cst.Call,
    category="rl",
    difficulty=3,
    symptom="The policy makes a few large jumps and then gets worse.",
    hints=(
        "LOOK: compute the objective for a ratio of two with a good and with a bad advantage.",
        "WHERE: how `{function}` chooses between two versions of the gain.",
        "WHAT: should the clip be the more cautious or the more hopeful of the two?",
    ),
    repair="Take the smaller of the two gains, which is the larger of the two losses.",
    mechanism=(
        "The smaller of both gains is a bound from below: moving further is never rewarded, and undoing a bad"
        " move always is. The larger one rewards each move beyond the clip without limit, and removes the"
        " gradient exactly where it would lead back."
    ),
    evidence=(),
    examples=(
        Example(
            row="ppo-clip-max",
            before="import torch\ng = torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv)\n",
            after=("import torch\ng = torch.max(ratio * adv, ratio.clamp(0.8, 1.2) * adv)\n",),
        ),
        Example(
            before=(
                "import torch\na = -adv * ratio\nb = -adv * torch.clamp(ratio, 1 - c, 1 + c)\n"
                "loss = torch.maximum(a, b).mean()\n"
            ),
            after=(
                "import torch\na = -adv * ratio\nb = -adv * torch.clamp(ratio, 1 - c, 1 + c)\n"
                "loss = torch.minimum(a, b).mean()\n",
            ),
        ),
        Example(
            before=(
                "import torch\nratio = (new - old).exp()\nnear = ratio.clamp(0.8, 1.2)\n"
                "g = torch.minimum(ratio * adv, near * adv)\n"
            ),
            after=(
                "import torch\nratio = (new - old).exp()\nnear = ratio.clamp(0.8, 1.2)\n"
                "g = torch.maximum(ratio * adv, near * adv)\n",
            ),
        ),
    ),
    counterexamples=("import torch\nq = torch.min(q1, q2)\n", "import torch\nv = torch.max(v, v_clipped)\n"),
)
def clip_max(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, *OPPOSITE)
    if op is None or not isinstance(node.func, cst.Attribute) or len(node.args) != op.shift + 1:
        return
    made = [resolved(f, each) for each in (op.subject, node.args[op.shift].value)]
    clipped = [each for each in made if speaks(f, each, "clamp", "clip")]
    if len(clipped) == 1 and all(speaks(f, each, "ratio", "ratios", "exp", "is") for each in made):
        yield Proposal(edits=(f.replace(node.func.attr, OPPOSITE[op.name]),))


def speaks(f: SourceFile, node: cst.BaseExpression, *some: str) -> bool:
    """Whether an expression, or what one of its names was given, says one of these words."""
    return any(says(resolved(f, each), *some) for each in (node, *inside(node, cst.Name)))


OPPOSITE = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}


@operator(
    "ppo-oldlogp-not-stored",
    cst.SimpleStatementLine,
    cst.With,
    category="rl",
    difficulty=4,
    symptom="No sample is ever clipped, although every batch is used many times.",
    hints=(
        "LOOK: print the ratio in the last pass over a batch.",
        "WHERE: the order of the lines in `{function}`.",
        "WHAT: from which moment are the probabilities that the policy is compared with?",
    ),
    repair="Compute the old log-probabilities once, before the first update on the batch.",
    mechanism=(
        "Recomputed in each pass, the old policy is the policy of a moment ago. The ratio starts at one every"
        " time, nothing adds up, and the limit on how far one batch may move the policy is gone."
    ),
    evidence=(PPO_DETAILS,),
    examples=(
        Example(
            row="ppo-oldlogp-not-stored",
            before=(
                "old_logp = log_prob(net(s), a).detach()\nfor epoch in range(4):\n"
                "    ratio = (log_prob(net(s), a) - old_logp).exp()\n"
            ),
            after=(
                "for epoch in range(4):\n    old_logp = log_prob(net(s), a).detach()\n"
                "    ratio = (log_prob(net(s), a) - old_logp).exp()\n",
            ),
        ),
        Example(
            before=(
                "with no_grad():\n    old = net.log_prob(s, a)\nfor epoch in range(4):\n    for i in parts:\n"
                "        gain = surrogate(net, s[i], old[i])\n"
            ),
            after=(
                "for epoch in range(4):\n    for i in parts:\n        with no_grad():\n"
                "            old = net.log_prob(s, a)\n        gain = surrogate(net, s[i], old[i])\n",
            ),
        ),
    ),
    counterexamples=(
        "old_logp = batch.logp\nfor epoch in range(4):\n    use(old_logp)\n",
        "old_logp = log_prob(net(s), a)\nuse(old_logp)\n",
    ),
)
def oldlogp_not_stored(f: SourceFile, node: cst.SimpleStatementLine | cst.With) -> Iterator[Proposal]:
    line: cst.CSTNode = node
    if isinstance(node, cst.With):
        if len(node.body.body) != 1:
            return
        line = node.body.body[0]
    pair = assigned(line)
    if pair is None or not isinstance(pair[0], cst.Name) or not is_old(pair[0], pair[1]):
        return
    loop = first_use(f, node, pair[0].value)
    if loop is None or not isinstance(loop.body, cst.IndentedBlock):
        return
    first = loop.body.body[0]
    text = reindented(f, node, f.indent(node), f.indent(first))
    if text is not None:
        yield Proposal(edits=(f.delete_statement(node), f.insert_before(first, text.strip())))


def is_old(target: cst.Name, made: cst.BaseExpression) -> bool:
    """Whether a line computes the log-probabilities of the policy as it is before an update."""
    if not (is_logp(target) or is_logp(made)) or not says(target, *OLD, "before", "logp", "logprobs"):
        return False
    calls = [call for call in inside(made, cst.Call) if call.args]
    return any(is_logp(call.func) or says(call.func, "log_prob", "evaluate") for call in calls)


def first_use(f: SourceFile, node: cst.CSTNode, name: str) -> cst.For | cst.While | None:
    """The innermost loop, in a statement behind this one, that reads a name."""
    siblings = f.siblings(node)
    place = next((i for i, each in enumerate(siblings) if each is node), len(siblings))
    for each in siblings[place + 1 :]:
        if name in {read.value for read in inside(each, cst.Name)}:
            loops: list[cst.For | cst.While] = [*inside(each, cst.For), *inside(each, cst.While)]
            using = [loop for loop in loops if name in {read.value for read in inside(loop.body, cst.Name)}]
            return using[-1] if using and using[0] is each else None
    return None


def log_prob_sum(f: SourceFile, node: cst.Call) -> tuple[cst.BaseExpression, bool] | None:
    """The log-probabilities that are summed over the parts of an action, and whether an axis is kept."""
    op = operation(f, node, "sum")
    along = axis(f, op) if op is not None else None
    if op is None or along is None or number(along) not in (-1, 1):
        return None
    made = resolved(f, op.subject)
    scored = [call for call in inside(made, cst.Call) if last_name(call.func) == "log_prob"]
    if not (scored or is_logp(op.subject)) or says(
        made, "softmax", "gather", "exp", "prior", "base", "logits"
    ):
        return None
    kept = f.arg(node, "keepdim", op.shift + 1) or f.arg(node, "keepdims", None)
    return op.subject, kept is not None


@operator(
    "logp-not-summed",
    cst.Call,
    category="rl",
    difficulty=3,
    symptom="The loss has a plausible value, and the agent hardly learns.",
    hints=(
        "LOOK: print the shapes of both factors of the policy loss, and of their product.",
        "WHERE: the log-probability in `{function}`.",
        "WHAT: how many probabilities does one action have?",
    ),
    repair="Sum the log-probabilities of the parts of an action.",
    mechanism=(
        "An action of several parts has one probability, the product over its parts. Left apart, the parts"
        " meet the advantages by broadcasting, and each is judged for itself or with the advantages of other"
        " samples."
    ),
    evidence=(
        issue("thu-ml/tianshou", 40),
        issue("thu-ml/tianshou", 162),
        pull("AI4Finance-Foundation/ElegantRL", 273),
    ),
    examples=(
        Example(
            row="logp-not-summed",
            before="logp = dist.log_prob(a).sum(-1, keepdim=True)\n",
            after=("logp = dist.log_prob(a)\n",),
        ),
        Example(
            before="import torch\nx = torch.sum(pi.log_prob(a), dim=1, keepdim=True)\n",
            after=("import torch\nx = pi.log_prob(a)\n",),
        ),
    ),
    counterexamples=("y = x.sum(-1)\n", "logp = dist.log_prob(a).sum(-1)\n"),
)
def logp_not_summed(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    found = log_prob_sum(f, node)
    if found is not None and found[1]:
        yield Proposal(edits=(f.replace(node, f.text(found[0])),))


@operator(
    "logp-summed-over-batch",
    cst.Call,
    category="rl",
    difficulty=3,
    symptom="Whatever the advantages are, the policy moves as if all actions had been equally good.",
    hints=(
        "LOOK: print the shapes of both factors of the policy loss.",
        "WHERE: the log-probability in `{function}`.",
        "WHAT: how many numbers should a batch of actions give?",
    ),
    repair="Sum over the parts of an action only.",
    mechanism=(
        "One number for the whole batch is multiplied with every advantage. Normalised advantages add up to"
        " nothing, so the gradient vanishes; others push all actions of the batch the same way."
    ),
    evidence=(pull("PacktPublishing/Tensorflow-2-Reinforcement-Learning-Cookbook", 46),),
    examples=(
        Example(
            row="logp-summed-over-batch",
            before="logp = dist.log_prob(a).sum(-1)\n",
            after=("logp = dist.log_prob(a).sum()\n",),
        ),
        Example(
            before="import torch\nx = torch.sum(pi.log_prob(a), dim=1)\n",
            after=("import torch\nx = torch.sum(pi.log_prob(a))\n",),
        ),
    ),
    counterexamples=("y = x.sum(-1)\n", "logp = dist.log_prob(a).sum()\n"),
)
def logp_summed_over_batch(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if log_prob_sum(f, node) is None:
        return
    op = operation(f, node, "sum")
    subject = f.text(op.subject) if op is not None and op.shift else ""
    yield Proposal(edits=(f.replace(node, f"{f.text(node.func)}({subject})"),))


def is_correction(node: cst.BaseExpression) -> bool:
    """Whether an expression is the logarithm of how a hyperbolic tangent squeezes."""
    names = {last_name(call.func) for call in inside(node, cst.Call)}
    squeezed = any(
        (rest := complement(each)) is not None
        and (says(rest, "pow", "square", "tanh") or binary(rest, cst.Power, cst.Multiply) is not None)
        for each in inside(node, cst.BinaryOperation)
    )
    doubled = any(number(each) == 2 for kind in (cst.Integer, cst.Float) for each in inside(node, kind))
    return ("log" in names and squeezed) or ("softplus" in names and doubled) or "log1p" in names


@operator(
    "tanh-correction-missing",
    cst.BinaryOperation,
    cst.SimpleStatementLine,
    category="rl",
    difficulty=4,
    symptom="Actions are driven to their limits, and the temperature goes where it should not.",
    hints=(
        "LOOK: integrate the density of an action over all actions; is the total one?",
        "WHERE: the log-probability in `{function}`.",
        "WHAT: what does squeezing a line into an interval do to a density?",
    ),
    repair="Subtract the logarithm of the slope of the squeezing function.",
    mechanism=(
        "The density belongs to the number before it is squeezed. Near the limits, squeezing packs many of"
        " these into a small interval, so that the true density is much larger. Without the correction the"
        " entropy bonus pays for pushing actions against their limits."
    ),
    evidence=(issue("thu-ml/tianshou", 40),),
    examples=(
        Example(
            row="tanh-correction-missing",
            before="import torch\nlogp = dist.log_prob(u) - torch.log(1 - a.pow(2) + 1e-6)\n",
            after=("logp = dist.log_prob(u)\n",),
        ),
        Example(
            before="import torch\nlog_prob = d.log_prob(u)\nlog_prob -= torch.log(s * (1 - y**2) + e)\n",
            after=("log_prob = d.log_prob(u)\n",),
        ),
        Example(
            before=(
                "import torch.nn.functional as F\nlogp = d.log_prob(u).sum(-1)\n"
                "logp = logp - (2 * (0.69 - u - F.softplus(-2 * u))).sum(-1)\ny = F.relu(u)\n"
            ),
            after=("import torch.nn.functional as F\nlogp = d.log_prob(u).sum(-1)\ny = F.relu(u)\n",),
        ),
    ),
    counterexamples=("import torch\nx = y - torch.log(1 - p)\n", "logp -= old_logp\n"),
)
def tanh_missing(f: SourceFile, node: cst.BinaryOperation | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        sides = binary(node, cst.Subtract)
        if sides is None or not is_logp(sides[0]) or not is_correction(sides[1]):
            return
        target = holder(f, node)
        if target is not None and f.text(target) == f.text(sides[0]):
            return
        lines = tidy(f, sides[1])
        if lines is not None:
            yield Proposal(edits=(*lines, f.replace(node, f.text(sides[0]))))
        return
    term = taken_away(f, node)
    lines = tidy(f, term) if term is not None else None
    if lines is not None and len(f.siblings(node)) > 1:
        yield Proposal(edits=(*lines, f.delete_statement(node)))


def taken_away(f: SourceFile, line: cst.SimpleStatementLine) -> cst.BaseExpression | None:
    """The correction that a line takes away from a log-probability and from nothing else."""
    only = line.body[0] if len(line.body) == 1 else None
    if isinstance(only, cst.AugAssign) and isinstance(only.operator, cst.SubtractAssign):
        return only.value if is_logp(only.target) and is_correction(only.value) else None
    pair = assigned(line)
    sides = binary(pair[1], cst.Subtract) if pair is not None else None
    if pair is None or sides is None or f.text(pair[0]) != f.text(sides[0]) or not is_logp(pair[0]):
        return None
    return sides[1] if is_correction(sides[1]) else None


CRITICS = ("q", "qf", "critic", "qs", "value", "qa", "qb", "min_qf", "next")


@operator(
    "twin-critic-single",
    cst.Call,
    category="rl",
    difficulty=4,
    symptom="Estimated values run ahead of the returns that are really obtained.",
    hints=(
        "LOOK: plot the estimated value of the first state beside the return of the episode.",
        "WHERE: what `{function}` makes of several opinions.",
        "WHAT: which critic is believed where they disagree?",
    ),
    repair="Use the smaller of the two estimates.",
    mechanism=(
        "The policy looks for actions that a critic overrates, and finds them. Two critics overrate different"
        " actions, and the smaller estimate is the one that is not fooled. With one of them alone, errors"
        " feed themselves through the targets."
    ),
    evidence=(issue("BY571/Soft-Actor-Critic-and-Extensions", 2),),
    examples=(
        Example(
            row="twin-critic-single",
            before="import torch\nq = torch.min(q1(s, a), q2(s, a))\n",
            after=("import torch\nq = q1(s, a)\n",),
        ),
        Example(
            before=(
                "import torch\n\ndef f(s):\n    q_a = one(s)\n"
                "    q_b = two(s)\n    return torch.minimum(q_a, q_b)\n"
            ),
            after=("import torch\n\ndef f(s):\n    q_a = one(s)\n    return q_a\n",),
        ),
        Example(
            before="q = critic_values.min(dim=0).values\n",
            after=("q = critic_values[0]\n",),
        ),
    ),
    counterexamples=(
        "import torch\ny = torch.min(x1, x2)\n",
        "import torch\ng = torch.min(surr1, surr2)\n",
        "m = logits.min(dim=0).values\n",
    ),
)
def twin_single(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "min", "minimum", "amin")
    if op is None:
        return
    given = [each.value for each in node.args if each.keyword is None]
    if op.name != "amin" and len(given) == op.shift + 1 and len(node.args) == op.shift + 1:
        other = given[op.shift]
        twins = same_but_number(f.text(op.subject), f.text(other))
        if twins and says(op.subject, *CRITICS) and number(other) is None:
            lines = tidy(f, other)
            if lines is not None:
                yield Proposal(edits=(*lines, f.replace(node, f.text(op.subject))))
            return
    yield from first_of_stack(f, node, op.subject, axis(f, op))


def first_of_stack(
    f: SourceFile, node: cst.Call, stack: cst.BaseExpression, along: cst.BaseExpression | None
) -> Iterator[Proposal]:
    """The first of several estimates in the place of the smallest."""
    place = (
        {0: "[0]", 1: "[:, 0]", -1: "[..., 0]"}.get(int(number(along) or 0))
        if number(along) is not None
        else None
    )
    stacked = says(stack, "q", "qs", "critic", "critics", "qf")
    if place is None or not stacked:
        return
    if last_name(node.func) == "amin":
        yield Proposal(edits=(f.replace(node, f"{plain(f, stack)}{place}"),))
        return
    above = f.parent.get(node)
    values = isinstance(above, cst.Attribute) and above.attr.value == "values"
    first = isinstance(above, cst.Subscript) and f.text(above).endswith(")[0]")
    if isinstance(above, cst.BaseExpression) and (values or first):
        yield Proposal(edits=(f.replace(above, f"{plain(f, stack)}{place}"),))


@operator(
    "target-entropy-sign",
    cst.UnaryOperation,
    category="rl",
    difficulty=4,
    symptom="The temperature only ever goes one way, until nothing else counts.",
    hints=(
        "LOOK: plot the temperature and the entropy of the policy.",
        "WHERE: the entropy that `{function}` asks for.",
        "WHAT: can the policy have that entropy, given how wide its actions are?",
    ),
    repair="Ask for minus one unit of entropy for each dimension of the action.",
    mechanism=(
        "The entropy of a density on an interval from minus one to one is at most log 2 for each dimension."
        " A larger target can never be met, so the temperature is raised in every step and the policy is"
        " paid for noise alone."
    ),
    evidence=(pull("ikostrikov/jaxrl", 31), issue("DLR-RM/stable-baselines3", 2013)),
    examples=(
        Example(
            row="target-entropy-sign",
            before="target_entropy = -float(action_dim)\n",
            after=("target_entropy = float(action_dim)\n",),
        ),
        Example(
            before="import torch\nself.target_entropy = -torch.prod(shape).item()\n",
            after=("import torch\nself.target_entropy = torch.prod(shape).item()\n",),
        ),
        Example(
            before="goal = dict(target_entropy=-1.0 * A)\n", after=("goal = dict(target_entropy=1.0 * A)\n",)
        ),
    ),
    counterexamples=("entropy = -(p * p.log()).sum()\n", "target_entropy = 0.5\n", "target = -A\n"),
)
def target_entropy_sign(f: SourceFile, node: cst.UnaryOperation) -> Iterator[Proposal]:
    if not isinstance(node.operator, cst.Minus):
        return
    above = f.parent.get(node)
    while isinstance(above, cst.BinaryOperation | cst.Call) or (
        isinstance(above, cst.Arg) and not above.keyword
    ):
        above = f.parent.get(above)
    goal: cst.CSTNode | None = holder(f, node)
    if isinstance(above, cst.Arg):
        goal = above.keyword
    elif isinstance(above, cst.Param):
        goal = above.name
    if goal is not None and says(goal, "entropy") and named(goal, "target", "wanted", "goal", "desired"):
        yield Proposal(edits=(f.replace(node, f.text(node.expression)),))
