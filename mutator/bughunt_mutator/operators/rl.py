"""Mistakes in returns, advantages and policy gradients."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    bare,
    binary,
    enclosing,
    inside,
    last_name,
    mentions,
    operation,
    orphans,
)
from bughunt_mutator.operators._sources import PPO_DETAILS, RL_MUTANTS, issue, pull
from bughunt_mutator.source import SourceFile

REINFORCE = "https://doi.org/10.1007/BF00992696"


@operator(
    "gae-not-reversed",
    cst.Call,
    category="rl",
    difficulty=2,
    symptom="The agent hardly learns, although rewards come in.",
    hints=(
        "LOOK: compute the returns of an episode of three steps by hand.",
        "WHERE: the direction of the loop in `{function}`.",
        "WHAT: does an action earn what came before it or what came after?",
    ),
    repair="Go through the episode from its end.",
    mechanism="Each action is credited with what happened before it, which it could not influence.",
    evidence=(RL_MUTANTS,),
    examples=(
        Example(
            row="gae-not-reversed",
            before="for t in reversed(range(T)):\n    g = r[t] + d * g\n",
            after=("for t in range(T):\n    g = r[t] + d * g\n",),
        ),
    ),
    counterexamples=("names = list(reversed(names))\n",),
)
def not_reversed(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    above = f.parent.get(node)
    if f.text(node.func) == "reversed" and isinstance(above, cst.For) and above.iter is node:
        yield Proposal(edits=(f.replace(node, f.text(node.args[0].value)),))


@operator(
    "no-discount",
    cst.BinaryOperation,
    category="rl",
    difficulty=3,
    symptom="Learning is noisier than it should be.",
    hints=(
        "LOOK: compute the returns of an episode of three steps by hand.",
        "WHERE: what is added up in `{function}`.",
        "WHAT: does a late reward count as much as an early one?",
    ),
    repair="Discount what is still to come.",
    mechanism=(
        "Without discount every action is credited with all that follows, however late. Most of"
        " that has nothing to do with it, and drowns what has."
    ),
    evidence=(RL_MUTANTS,),
    examples=(
        Example(
            row="no-discount",
            before="def f(r, ahead, gamma):\n    return r + gamma * ahead\n",
            after=("def f(r, ahead, gamma):\n    return r + ahead\n",),
        ),
    ),
    counterexamples=("def f(r, a):\n    gamma = 0.9\n    return r + gamma * a\n",),
)
def no_discount(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Multiply)
    if sides is None:
        return
    for factor, rest in (sides, sides[::-1]):
        if last_name(factor) in ("gamma", "discount") and not orphans(f, factor):
            yield Proposal(edits=(f.replace(node, bare(f, rest)),))


@operator(
    "dqn-done-mask-missing",
    cst.BinaryOperation,
    category="rl",
    difficulty=2,
    symptom="What is learned is spoiled by steps that never happened.",
    hints=(
        "LOOK: compute the values of an episode of two steps beside a longer one, by hand.",
        "WHERE: what `{function}` makes of steps after the end.",
        "WHAT: what is a step worth once the episode is over?",
    ),
    repair="Count nothing after the end of an episode.",
    mechanism=(
        "Episodes that are over go on in the arithmetic. Rewards and values that nobody earned"
        " flow back into the last real steps, or take part in averages."
    ),
    evidence=(issue("navneet-nmk/pytorch-rl", 2), pull("cyoon1729/deep-Q-networks", 5)),
    examples=(
        Example(
            row="dqn-done-mask-missing",
            before="target = r + g * q * (1 - done)\n",
            after=("target = r + g * q\n",),
        ),
        Example(
            before="g = alive[t] * (r[t] + d * g)\n",
            after=("g = r[t] + d * g\n",),
        ),
    ),
    counterexamples=("y = a * (1 - b)\n", "n = alive.sum()\n"),
)
def done_mask(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Multiply)
    if sides is None:
        return
    for mask, rest in (sides, sides[::-1]):
        named = f.text(mask).strip("()").removeprefix("1 - ").partition("[")[0]
        if named.rpartition(".")[2] in ("done", "dones", "alive", "terminated", "not_done"):
            if not orphans(f, mask):
                yield Proposal(edits=(f.replace(node, bare(f, rest)),))
            return


@operator(
    "adv-sign",
    cst.UnaryOperation,
    category="rl",
    difficulty=1,
    symptom="The agent gets worse and worse, and very sure of itself.",
    hints=(
        "LOOK: give one action a reward; does its probability grow?",
        "WHERE: the loss in `{function}`.",
        "WHAT: does the optimiser raise this quantity or lower it?",
    ),
    repair="Minimise the negative of the gain.",
    mechanism="Optimisers minimise. A gain that is not negated is made as small as possible.",
    evidence=(RL_MUTANTS, REINFORCE),
    examples=(
        Example(
            row="adv-sign",
            before="def loss(logp, adv):\n    return -(logp * adv).mean()\n",
            after=("def loss(logp, adv):\n    return (logp * adv).mean()\n",),
        ),
        Example(
            before="def loss(gain, n):\n    return -gain.sum() / n\n",
            after=("def loss(gain, n):\n    return gain.sum() / n\n",),
        ),
    ),
    counterexamples=("def entropy(logp):\n    return -(logp.exp() * logp).mean()\n",),
)
def adv_sign(f: SourceFile, node: cst.UnaryOperation) -> Iterator[Proposal]:
    if not isinstance(node.operator, cst.Minus) or enclosing(f, node, cst.Return) is None:
        return
    if mentions(node.expression, "adv", "gain", "merit"):
        yield Proposal(edits=(f.replace(node, f.text(node.expression)),))


@operator(
    "adv-norm-missing",
    cst.BinaryOperation,
    category="rl",
    difficulty=3,
    symptom="The size of the updates follows the size of the rewards.",
    hints=(
        "LOOK: multiply all rewards by ten; what changes?",
        "WHERE: the last step of `{function}`.",
        "WHAT: in which unit should the merit of an action be measured?",
    ),
    repair="Divide the advantages by their spread.",
    mechanism=(
        "Returns grow as the agent gets better, and updates with them. The step size that suits"
        " the start is too long later, and the policy collapses or swings."
    ),
    evidence=(PPO_DETAILS,),
    examples=(
        Example(
            row="adv-norm-missing",
            before="def advantages(b):\n    return b / (b.std() + 1e-8)\n",
            after=("def advantages(b):\n    return b\n",),
        ),
        Example(
            before="adv = (adv - adv.mean()) / (adv.std() + 1e-8)\n",
            after=("adv = adv - adv.mean()\n",),
        ),
    ),
    counterexamples=("x = x / x.std()\n",),
)
def adv_norm(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is None or not any(operation(f, c, "std") for c in inside(sides[1], cst.Call)):
        return
    home = f.function(node)
    if mentions(sides[0], "adv") or (home is not None and "adv" in home.name.value):
        yield Proposal(edits=(f.replace(node, bare(f, sides[0])),))


@operator(
    "entropy-sign",
    cst.BinaryOperation,
    category="rl",
    difficulty=2,
    symptom="The agent settles on one behaviour very early.",
    hints=(
        "LOOK: plot the entropy of the policy over time.",
        "WHERE: the bonus in `{function}`.",
        "WHAT: is variety rewarded or punished?",
    ),
    repair="Reward entropy: add it to what is maximised.",
    mechanism="Variety is punished, so that the policy stops exploring before it has found anything.",
    evidence=(issue("muupan/async-rl", 22),),
    examples=(
        Example(
            row="entropy-sign",
            before="loss = policy_loss - c * entropy\n",
            after=("loss = policy_loss + c * entropy\n",),
        ),
        Example(
            before="gain = logp * adv + bonus * entropy\n",
            after=("gain = logp * adv - bonus * entropy\n",),
        ),
    ),
    counterexamples=("loss = a - c * b\n",),
)
def entropy_sign(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add, cst.Subtract)
    factors = binary(sides[1], cst.Multiply) if sides else None
    if sides and factors and any(last_name(each) == "entropy" for each in factors):
        sign = "-" if isinstance(node.operator, cst.Add) else "+"
        new = f"{f.text(sides[0])} {sign} {f.text(sides[1])}"
        yield Proposal(edits=(f.replace(node, new),))
