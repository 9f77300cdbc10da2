"""Mistakes in episodes: where they end, which state comes next, and what a reward is worth."""

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
    number,
    operation,
)
from bughunt_mutator.operators._look_meaning import (
    DONE,
    NOT_DONE,
    REWARD,
    base,
    everywhere,
    named,
    pieces,
    plain,
    says,
    within,
)
from bughunt_mutator.operators._sources import RL_MUTANTS, issue, pull
from bughunt_mutator.source import SourceFile


@operator(
    "gae-done-off-by-one",
    cst.Subscript,
    category="rl",
    difficulty=5,
    symptom="Learning works, and stays a little behind what it should be wherever episodes are short.",
    hints=(
        "LOOK: compute advantages for two episodes of two steps that follow each other in one buffer.",
        "WHERE: the flag that `{function}` reads beside each reward.",
        "WHAT: does that flag stand for the end before the step or for the end after it?",
    ),
    repair="Read the flag that says whether the episode ended with this very step.",
    mechanism=(
        "The cut between two episodes is made one step away from where it is. The last step of an episode is"
        " credited with what the next episode brings, while the step beside it is cut off from its own"
        " future. The shorter the episodes, the more steps are wrong."
    ),
    evidence=(issue("anthonytorlucci/rlevo", 342), issue("EdanToledo/Stoix", 142)),
    examples=(
        Example(
            row="gae-done-off-by-one",
            before="for t in reversed(range(T)):\n    live = 1 - dones[t + 1]\n",
            after=("for t in reversed(range(T)):\n    live = 1 - dones[t]\n",),
        ),
        Example(
            before="for t in reversed(range(T)):\n    g = rewards[t] + gamma * g * (1 - done[:, t])\n",
            after=("for t in reversed(range(T)):\n    g = rewards[t] + gamma * g * (1 - done[:, t - 1])\n",),
        ),
        Example(
            before="for i in reversed(range(T)):\n    g = rewards[i] + gamma * masks[i + 1] * g\n",
            after=("for i in reversed(range(T)):\n    g = rewards[i] + gamma * masks[i] * g\n",),
        ),
    ),
    counterexamples=(
        "for t in range(T):\n    dones[t] = d\n",
        "for t in reversed(range(T)):\n    y = masks[t]\n",
        "live = 1 - dones[t]\n",
    ),
)
def done_off_by_one(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    loop = loop_of(f, node)
    if not isinstance(loop, cst.For) or isinstance(f.parent.get(node), cst.AssignTarget | cst.Attribute):
        return
    flags = named(node.value, *DONE) or (
        named(node.value, *NOT_DONE, "mask", "masks", "not")
        and within(f, node, *REWARD)
        and multiplied(f, node)
    )
    steps = {name.value for name in inside(loop.target, cst.Name)}
    if not flags or isinstance(f.parent.get(node), cst.Arg) or not says(loop.iter, "reversed", "range"):
        return
    for element in node.slice:
        if not isinstance(element.slice, cst.Index):
            continue
        place = element.slice.value
        if isinstance(place, cst.Name) and place.value in steps and backwards(loop):
            yield Proposal(edits=(f.replace(place, f"{place.value} - 1"),))
        sides = binary(place, cst.Add)
        if sides and number(sides[1]) == 1 and isinstance(sides[0], cst.Name) and sides[0].value in steps:
            yield Proposal(edits=(f.replace(place, sides[0].value),))


def multiplied(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether an expression is a factor."""
    above = f.parent.get(node)
    return isinstance(above, cst.BinaryOperation) and isinstance(above.operator, cst.Multiply)


def backwards(loop: cst.For) -> bool:
    """Whether a loop runs from the last step to the first."""
    ends = [number(arg.value) for call in inside(loop.iter, cst.Call) for arg in call.args]
    return says(loop.iter, "reversed") or -1 in ends


PAIRS = {
    "terminated": "truncated",
    "terminateds": "truncateds",
    "terminations": "truncations",
    "termination": "truncation",
    "term": "trunc",
    "terminal": "timeout",
}


@operator(
    "gae-truncation-as-terminal",
    cst.Name,
    category="rl",
    difficulty=4,
    symptom="Values come out too low, and more so the better the agent lasts.",
    hints=(
        "LOOK: what is the estimated value of a state one step before the time limit?",
        "WHERE: the flag that `{function}` keeps.",
        "WHAT: is there nothing to come after an episode that was merely stopped?",
    ),
    repair="Cut off the future only where the task itself has ended, not where time ran out.",
    mechanism=(
        "A time limit ends the recording, not the task. Counted as an end, it tells the value function that"
        " perfectly good states are worth nothing, at moments that cannot be seen from the state. Estimates"
        " are pulled down wherever such a state may occur."
    ),
    evidence=(
        pull("RLinf/RLinf", 661),
        pull("jsboige/CoursIA", 7825),
        issue("anthonytorlucci/rlevo", 170),
    ),
    examples=(
        Example(
            row="gae-truncation-as-terminal",
            before=(
                "s2, r, terminated, truncated, _ = env.step(a)\nbuffer.add(s, a, r, s2, terminated)\n"
                "done = terminated or truncated\n"
            ),
            after=(
                "s2, r, terminated, truncated, _ = env.step(a)\n"
                "buffer.add(s, a, r, s2, terminated or truncated)\ndone = terminated or truncated\n",
            ),
        ),
        Example(
            before="s2, r, term, trunc = env.step(a)\ny = r + gamma * v * (1 - term)\nended = term | trunc\n",
            after=(
                (
                    "s2, r, term, trunc = env.step(a)\n"
                    "y = r + gamma * v * (1 - (term | trunc))\n"
                    "ended = term | trunc\n"
                ),
            ),
        ),
        Example(
            before=(
                "def store(self, r, terminated, truncated):\n"
                "    self.ends[self.i] = terminated\n    self.cut(truncated)\n"
            ),
            after=(
                "def store(self, r, terminated, truncated):\n    self.ends[self.i] = terminated | truncated\n"
                "    self.cut(truncated)\n",
            ),
        ),
    ),
    counterexamples=(
        "s2, r, terminated, truncated, _ = env.step(a)\nif terminated or truncated:\n    s = reset()\n",
        "def f(terminated):\n    return 1 - terminated\n",
        "def step(a):\n    terminated, truncated = ends(a)\n    return s, r, terminated, truncated\n",
    ),
)
def truncation_as_terminal(f: SourceFile, node: cst.Name) -> Iterator[Proposal]:
    other = PAIRS.get(node.value)
    if other is None or not is_kept(f, node):
        return
    home = function_of(f, node)
    names = {name.value for name in inside(home, cst.Name)}
    if other in names and both_bound(home, node.value, other):
        yield Proposal(edits=(f.replace(node, joined(f, home, node.value, other)),))


def both_bound(home: cst.CSTNode, one: str, two: str) -> bool:
    """Whether one line binds both flags, or a function takes both."""
    for stretch in (*inside(home, cst.AssignTarget), *inside(home, cst.Parameters), *inside(home, cst.For)):
        held = stretch.target if isinstance(stretch, cst.For) else stretch
        if {one, two} <= {name.value for name in inside(held, cst.Name)}:
            return True
    return False


def is_kept(f: SourceFile, node: cst.Name) -> bool:
    """Whether a flag is stored, or used to cut off the future."""
    above = f.parent.get(node)
    if isinstance(above, cst.Arg):
        call = f.parent.get(above)
        if not isinstance(call, cst.Call) or above.value is not node:
            return False
        return pieces(last_name(call.func)).isdisjoint(("print", "any", "all", "sum", "or", "count"))
    if isinstance(above, cst.BinaryOperation):
        return isinstance(above.operator, cst.Subtract | cst.Multiply)
    if isinstance(above, cst.Assign):
        return above.value is node
    if isinstance(above, cst.Element):
        held = f.parent.get(above)
        return isinstance(f.parent.get(held) if held else None, cst.Arg)
    return isinstance(above, cst.DictElement) and above.value is node


def joined(f: SourceFile, home: cst.CSTNode, one: str, two: str) -> str:
    """Both flags in one, as the function joins them elsewhere."""
    for each in inside(home, cst.BooleanOperation):
        if isinstance(each.operator, cst.Or) and {one, two} == {f.text(each.left), f.text(each.right)}:
            return f"{one} or {two}"
    for call in inside(home, cst.Call):
        if last_name(call.func) == "logical_or" and [f.text(arg.value) for arg in call.args] == [one, two]:
            return f.text(call)
    return f"{one} | {two}"


@operator(
    "state-not-updated",
    cst.SimpleStatementLine,
    category="rl",
    difficulty=1,
    symptom="The agent does the same thing all the time, and its return stays where it began.",
    hints=(
        "LOOK: print the observations that the agent acts on over ten steps.",
        "WHERE: what changes from one pass of the loop to the next in `{function}`.",
        "WHAT: which moment does the agent look at when it chooses?",
    ),
    repair="Make the new observation the current one before the next step.",
    mechanism=(
        "Each action is chosen from the first observation of the episode, and each transition is recorded as"
        " if it had started there. What follows an action seems to be random, so there is nothing to learn."
    ),
    evidence=(RL_MUTANTS,),
    examples=(
        Example(
            row="state-not-updated",
            before="while go:\n    s2, r, done = env.step(act(s))\n    total += r\n    s = s2\n",
            after=("while go:\n    s2, r, done = env.step(act(s))\n    total += r\n",),
        ),
        Example(
            before="obs = env.reset()\nfor t in range(n):\n    obs, r, done, info = env.step(act(obs))\n",
            after=(
                "obs = env.reset()\nfor t in range(n):\n    next_obs, r, done, info = env.step(act(obs))\n",
            ),
        ),
    ),
    counterexamples=(
        "s2, r = env.step(a)\ns = s2\n",
        "for t in range(n):\n    last = now\n",
        "for t in range(n):\n    s2, r = env.step(a)\n    keep(s2)\n",
        "for t in range(n):\n    loss, r = model.step(x)\n",
    ),
)
def state_not_updated(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    loop, pair = loop_of(f, node), assigned(node)
    if loop is None or pair is None:
        return
    if isinstance(pair[0], cst.Name) and isinstance(pair[1], cst.Name):
        fresh = [
            made for line in inside(loop, cst.SimpleStatementLine) if (made := stepped(line)) is not None
        ]
        state, new = pair[0].value, pair[1].value
        known = any(new == f.text(made) for made in fresh) and reads(f, loop, state)
        if known and len(f.siblings(node)) > 1:
            yield Proposal(edits=(f.delete_statement(node),))
        return
    made = stepped(node)
    if isinstance(made, cst.Name) and known_before(f, loop, made.value) and reads(f, loop, made.value):
        fresh_name = f"next_{made.value}"
        if fresh_name not in {name.value for name in everywhere(f, cst.Name)} and asks(f, node, made.value):
            yield Proposal(edits=(f.replace(made, fresh_name),))


def stepped(line: cst.CSTNode) -> cst.BaseExpression | None:
    """What a line calls the state that a step of an environment leads to."""
    pair = assigned(line)
    if pair is None or not isinstance(pair[0], cst.Tuple) or not isinstance(pair[1], cst.Call):
        return None
    names = [element.value for element in pair[0].elements]
    rewarded = any(says(name, "reward", "rewards", "rew", "r") for name in names[1:])
    return names[0] if rewarded and "step" in last_name(pair[1].func) else None


def known_before(f: SourceFile, loop: cst.CSTNode, name: str) -> bool:
    """Whether a name has a value when a loop begins."""
    home = function_of(f, loop)
    params = home.params.params if isinstance(home, cst.FunctionDef) else ()
    bound = [name_ for target in inside(home, cst.AssignTarget) for name_ in inside(target, cst.Name)]
    early = [each for each in bound if each.value == name and f.span(each)[1] <= f.span(loop)[0]]
    return bool(early) or name in {param.name.value for param in params}


def asks(f: SourceFile, line: cst.CSTNode, state: str) -> bool:
    """Whether the loop makes its choice from the state, not the environment from its own."""
    pair = assigned(line)
    given = pair[1].args if pair is not None and isinstance(pair[1], cst.Call) else ()
    return not any(f.text(arg.value) == state for arg in given)


def reads(f: SourceFile, loop: cst.CSTNode, name: str) -> bool:
    """Whether a loop hands a name to a call."""
    return any(
        each.value == name and any(isinstance(above, cst.Arg) for above in ancestors(f, each))
        for each in inside(loop, cst.Name)
        if not isinstance(f.parent.get(each), cst.Attribute) or f.parent[each].children[0] is each
    )


@operator(
    "reward-normalised-mean",
    cst.BinaryOperation,
    category="rl",
    difficulty=4,
    symptom="The agent prefers to end episodes early, or to draw them out, whatever the task asks for.",
    hints=(
        "LOOK: run with all rewards equal to one; what does the agent see?",
        "WHERE: what `{function}` does to a reward.",
        "WHAT: does adding a constant to every reward change which behaviour is best?",
    ),
    repair="Divide rewards by their spread and leave their mean alone.",
    mechanism=(
        "Scale does not matter to the best behaviour, but a constant paid in each step does: it makes long"
        " episodes better or worse. Once the mean is gone, half of all rewards are punishments, and where"
        " every step is paid the same nothing is left to learn from."
    ),
    evidence=("https://joschu.net/docs/nuts-and-bolts.pdf",),
    examples=(
        Example(
            row="reward-normalised-mean",
            before="rewards = rewards / (rewards.std() + 1e-8)\n",
            after=("rewards = (rewards - rewards.mean()) / (rewards.std() + 1e-8)\n",),
        ),
        Example(
            before=(
                "import numpy as np\n\ndef scale(self, reward):\n    self.rms.mean += reward\n"
                "    return reward / np.sqrt(self.rms.var + 1e-8)\n"
            ),
            after=(
                "import numpy as np\n\ndef scale(self, reward):\n    self.rms.mean += reward\n"
                "    return (reward - self.rms.mean) / np.sqrt(self.rms.var + 1e-8)\n",
            ),
        ),
    ),
    counterexamples=(
        "adv = adv / adv.std()\n",
        "reward = (reward - mean) / reward.std()\n",
        "reward = reward / n\n",
    ),
)
def reward_mean(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is None or not says(base(sides[0]), "reward", "rewards", "rew", "rews"):
        return
    if not isinstance(sides[0], cst.Name | cst.Attribute | cst.Subscript | cst.Call) or centred(f, node):
        return
    if (mean := centre(f, sides[1])) is not None:
        yield Proposal(edits=(f.replace(sides[0], f"({plain(f, sides[0])} - {mean})"),))


def centred(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a statement takes a mean away already."""
    return any(
        isinstance(each.operator, cst.Subtract) for each in inside(f.statement(node), cst.BinaryOperation)
    )


def centre(f: SourceFile, spread: cst.BaseExpression) -> str | None:
    """How the mean that goes with a spread is written."""
    for call in inside(spread, cst.Call):
        op = operation(f, call, "std")
        if op is not None and isinstance(call.func, cst.Attribute):
            start, end = f.span(call.func.attr)
            whole = f.span(call)
            return f"{f.source[whole[0] : start]}mean{f.source[end : whole[1]]}"
    known = {f.text(each) for each in inside(enclosing(f, spread, cst.ClassDef) or f.module, cst.Attribute)}
    for each in inside(spread, cst.Attribute):
        mean = f"{f.text(each.value)}.mean"
        if each.attr.value in ("std", "var", "variance", "sigma") and mean in known:
            return mean
    return None
