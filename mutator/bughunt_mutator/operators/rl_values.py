"""Mistakes in learned values: what a step is worth, and the copy of the network that says so."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import binary, inside, last_name, operation
from bughunt_mutator.operators._look_meaning import (
    DISCOUNT,
    complement,
    cuts_future,
    holder,
    is_alive,
    is_done,
    plain,
    reindented,
    resolved,
    says,
    tidy,
    undetached,
)
from bughunt_mutator.operators._sources import RL_MUTANTS, issue
from bughunt_mutator.source import SourceFile


@operator(
    "dqn-mask-plus",
    cst.BinaryOperation,
    cst.AugAssign,
    category="rl",
    difficulty=3,
    symptom="Values grow without bound, whatever the rewards are.",
    hints=(
        "LOOK: compute the target of one step inside an episode and of one at its end, by hand.",
        "WHERE: how `{function}` treats the end of an episode.",
        "WHAT: what is a mask of zeros and ones meant to do to a value?",
    ),
    repair="Multiply the value of what follows by the mask.",
    mechanism=(
        "Added instead of multiplied, the mask pays a reward of its own for each step that is not the last,"
        " and leaves the value after the end in place. Targets lie above every value, so that values chase"
        " them upwards for ever."
    ),
    evidence=(issue("ikostrikov/pytorch-ddpg-naf", 16),),
    examples=(
        Example(
            row="dqn-mask-plus",
            before="target = r + gamma * q * (1 - done)\n",
            after=("target = r + (gamma * q + (1 - done))\n",),
        ),
        Example(
            before="def f(reward, gamma, mask, v):\n    return reward + gamma * v * mask\n",
            after=("def f(reward, gamma, mask, v):\n    return reward + (gamma * v + mask)\n",),
        ),
        Example(before="next_q *= 1 - done.float()\n", after=("next_q += 1 - done.float()\n",)),
    ),
    counterexamples=("def f(reward, logp, mask):\n    return logp * reward * mask\n", "y = a * (1 - b)\n"),
)
def mask_plus(f: SourceFile, node: cst.BinaryOperation | cst.AugAssign) -> Iterator[Proposal]:
    if isinstance(node, cst.AugAssign):
        if isinstance(node.operator, cst.MultiplyAssign) and is_alive(f, node.value):
            yield Proposal(edits=(f.replace(node, f"{f.text(node.target)} += {f.text(node.value)}"),))
        return
    sides = binary(node, cst.Multiply)
    if sides is not None and any(is_alive(f, side) for side in sides):
        yield Proposal(edits=(f.replace(node, f"{f.text(sides[0])} + {f.text(sides[1])}"),))


@operator(
    "dqn-mask-inverted",
    cst.BinaryOperation,
    cst.UnaryOperation,
    cst.IfExp,
    cst.Call,
    category="rl",
    difficulty=2,
    symptom="The agent learns at most what pays at once, and nothing that takes more than a step.",
    hints=(
        "LOOK: compute the target of one step inside an episode and of one at its end, by hand.",
        "WHERE: how `{function}` treats the end of an episode.",
        "WHAT: when does the future count, before the end or after it?",
    ),
    repair="Count what follows while the episode goes on, and nothing after its end.",
    mechanism=(
        "The value of the next state is used only where there is none. Inside an episode each target is the"
        " reward alone, so that no reward ever travels back to the actions that led to it."
    ),
    evidence=(RL_MUTANTS,),
    examples=(
        Example(
            row="dqn-mask-inverted",
            before="target = r + gamma * q * (1 - done)\n",
            after=("target = r + gamma * q * done\n",),
        ),
        Example(
            before="target = r + gamma * q * (~batch.done).float()\n",
            after=("target = r + gamma * q * (batch.done).float()\n",),
        ),
        Example(
            before="def f(r, gamma, q, down):\n    return r + gamma * (1 - down.float()) * q\n",
            after=("def f(r, gamma, q, down):\n    return r + gamma * down.float() * q\n",),
        ),
        Example(
            before="import torch\ny = torch.where(done, r, r + gamma * v)\n",
            after=("import torch\ny = torch.where(~done, r, r + gamma * v)\n",),
        ),
        Example(
            before="y = r if done else r + gamma * v\n",
            after=("y = r if not done else r + gamma * v\n",),
        ),
    ),
    counterexamples=("while not done:\n    step()\n", "y = 1 - t\n", "s = reset() if done else s2\n"),
)
def mask_inverted(
    f: SourceFile, node: cst.BinaryOperation | cst.UnaryOperation | cst.IfExp | cst.Call
) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        ends = node.args[0].value if len(node.args) == 3 and last_name(node.func) == "where" else None
        if ends is not None and is_done(ends) and says(node, *DISCOUNT):
            yield Proposal(edits=(f.replace(ends, f"~{plain(f, ends)}"),))
        return
    if isinstance(node, cst.IfExp):
        if is_done(node.test) and says(node, *DISCOUNT):
            yield Proposal(edits=(f.replace(node.test, f"not {f.text(node.test)}"),))
        return
    ended: cst.BaseExpression | None = complement(node)
    if isinstance(node, cst.UnaryOperation):
        turned = isinstance(node.operator, cst.BitInvert)
        ended = node.expression if turned else None
    if ended is not None and (is_done(ended) or cuts_future(f, node, ended)):
        new = f.text(ended)
        yield Proposal(edits=(f.replace(node, f"({new})" if isinstance(node, cst.UnaryOperation) else new),))


def bootstraps(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a stretch of code asks the network that is trained what the future is worth."""
    if not says(node, *DISCOUNT) and not says(holder(f, node), "next", "bootstrap"):
        return False
    asked = [call for call in inside(node, cst.Call) if is_network(f, call)]
    return bool(asked) and not any(frozen(call.func) for call in asked)


def is_network(f: SourceFile, call: cst.Call) -> bool:
    """Whether a call evaluates something of the program's own on states."""
    known = ("q", "qf", "net", "network", "critic", "value", "values", "model", "policy", "online", "agent")
    home = f.qname(call.func)
    return home is None and bool(call.args) and says(call.func, *known, *FROZEN)


FROZEN = ("target", "tgt", "targ", "frozen", "old", "slow")


def frozen(node: cst.CSTNode) -> bool:
    """Whether a name is that of a copy which is not trained."""
    return says(node, *FROZEN)


@operator(
    "dqn-target-not-detached",
    cst.With,
    cst.Call,
    category="rl",
    difficulty=4,
    symptom="Learning is slower and less steady than it should be, and values come out too low.",
    hints=(
        "LOOK: print `requires_grad` of both sides of the loss.",
        "WHERE: how `{function}` makes what the values are compared with.",
        "WHAT: which of the two should move towards the other?",
    ),
    repair="Compute the target without gradient.",
    mechanism=(
        "The error shrinks in two ways, by moving the estimate to the target and by moving the target to"
        " the estimate. The second undoes the flow of reward from later states to earlier ones. This is"
        " descent on the squared residual, which learns slowly and is biased where the next state is random."
    ),
    evidence=(
        issue("philtabor/Deep-Q-Learning-Paper-To-Code", 16),
        issue("philtabor/Deep-Q-Learning-Paper-To-Code", 9),
        issue("openai/baselines", 105),
    ),
    examples=(
        Example(
            row="dqn-target-not-detached",
            before="with torch.no_grad():\n    y = r + gamma * net(s2).amax(1)\nloss = mse(net(s), y)\n",
            after=("y = r + gamma * net(s2).amax(1)\nloss = mse(net(s), y)\n",),
        ),
        Example(
            before="y = r + gamma * critic(s2).detach()\n",
            after=("y = r + gamma * critic(s2)\n",),
        ),
        Example(
            before="y = r + gamma * critic(s2)\nloss = mse(critic(s), y.detach())\n",
            after=("y = r + gamma * critic(s2)\nloss = mse(critic(s), y)\n",),
        ),
    ),
    counterexamples=(
        "with torch.no_grad():\n    y = r + gamma * target_net(s2).amax(1)\n",
        "with torch.no_grad():\n    y = net(x)\n",
        "with open(p) as h:\n    y = r + gamma * net(s2)\n",
    ),
)
def not_detached(f: SourceFile, node: cst.With | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.With):
        if opened(node) and isinstance(node.body, cst.IndentedBlock) and bootstraps(f, node.body):
            lines = [reindented(f, line, f.indent(line), f.indent(node)) for line in node.body.body]
            text = f.newline.join(line for line in lines if line is not None)
            if None not in lines:
                yield Proposal(edits=(f.replace(node, text.lstrip()),))
        return
    source = undetached(node)
    if source is None:
        return
    made = resolved(f, source)
    if bootstraps(f, made) or (made is source and discounted(f, node)):
        yield Proposal(edits=(f.replace(node, f.text(source)),))


def opened(node: cst.With) -> bool:
    """Whether a block switches recording off, and does nothing else."""
    names = [last_name(item.item.func) for item in node.items if isinstance(item.item, cst.Call)]
    return len(node.items) == 1 and names in (["no_grad"], ["inference_mode"])


def discounted(f: SourceFile, node: cst.Call) -> bool:
    """Whether a detached value is what a discount is multiplied with."""
    above = f.parent.get(node)
    while isinstance(above, cst.BinaryOperation):
        if isinstance(above.operator, cst.Multiply) and says(above, *DISCOUNT):
            return bootstraps(f, above)
        above = f.parent.get(above)
    return False


@operator(
    "n-step-illegal-actions",
    cst.Call,
    category="rl",
    difficulty=5,
    symptom="The agent's estimates are too high, by more in states where little is allowed.",
    hints=(
        "LOOK: print which action gives the largest value in the next state, and whether it may be taken.",
        "WHERE: how `{function}` looks one step ahead.",
        "WHAT: is the best action there among those that are allowed there?",
    ),
    repair="Hide the actions that the next state forbids before taking the largest value.",
    mechanism=(
        "Values of forbidden actions are never trained, so they are whatever the network happens to say. The"
        " largest of many arbitrary numbers is large, and it is passed on as the worth of the next state."
    ),
    evidence=(issue("thu-ml/tianshou", 309),),
    examples=(
        Example(
            row="n-step-illegal-actions",
            before="v = net(next_obs).masked_fill(~next_legal, -1e9).amax(1)\n",
            after=("v = net(next_obs).amax(1)\n",),
        ),
        Example(
            before='import torch\nq2 = torch.where(batch.next_mask, q_next, float("-inf"))\n',
            after=("import torch\nq2 = q_next\n",),
        ),
    ),
    counterexamples=(
        "v = net(obs).masked_fill(~legal, -1e9).argmax(1)\n",
        "a = scores.masked_fill(next_mask, 0.0)\n",
    ),
)
def illegal_actions(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    hidden = masked(f, node)
    if hidden is None:
        return
    values, mask = hidden
    allowed = says(
        mask, "legal", "mask", "masks", "valid", "allowed", "available", "avail", "illegal", "invalid"
    )
    if (
        allowed
        and (says(mask, *AHEAD) or says(values, *AHEAD))
        and not says(mask, "causal", "attention", "pad")
    ):
        lines = tidy(f, mask)
        if lines is not None:
            yield Proposal(edits=(*lines, f.replace(node, f.text(values))))


AHEAD = ("next", "ahead", "future", "2", "prime", "following", "bootstrap")


def masked(f: SourceFile, node: cst.Call) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Values and mask of a call that makes some values very small."""
    op = operation(f, node, "masked_fill", "where")
    given = [each.value for each in node.args]
    if op is None or not given:
        return None
    if op.name == "masked_fill" and len(given) == op.shift + 2 and is_low(f, given[-1]):
        return op.subject, given[op.shift]
    if op.name == "where" and op.shift and len(given) == 3 and is_low(f, given[2]):
        return given[1], given[0]
    return None


def is_low(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether a number is one that no value can reach downwards."""
    text = f.text(node).replace("_", "")
    return "finfo" in text or ("-" in text and any(part in text for part in ("inf", "1e", "100000")))
