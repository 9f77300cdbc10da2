"""Mistakes that keep what is no longer needed, or move and wait more often than need be."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    function_of,
    inside,
    last_name,
    loop_of,
    names_in,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_parts import body_text, later, names_of, says
from bughunt_mutator.operators._sources import TAXONOMY, issue, pull
from bughunt_mutator.source import SourceFile

EVALUATING = (
    "evaluate", "evaluation", "eval", "predict", "validate", "validation", "accuracy", "score", "test",
    "generate", "sample", "infer", "inference", "encode", "measure", "metrics",
)  # fmt: skip


def cut_off(f: SourceFile, node: cst.CSTNode | None) -> cst.BaseExpression | None:
    """The tensor in `x.item()`, `x.detach()` or `float(x)`."""
    op = operation(f, node, "item", "detach")
    if op is not None and not op.shift and not op.call.args:
        return op.subject
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "float":
        return node.args[0].value if len(node.args) == 1 else None
    return None


def differentiates(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the function around a node goes backwards through what it computes."""
    return not names_in(function_of(f, node)).isdisjoint(("backward", "autograd"))


@operator(
    "loss-graph-accumulated",
    cst.AugAssign,
    category="memory-performance",
    difficulty=1,
    symptom="Memory grows with every step, and steps get slower; the results are right.",
    hints=(
        "LOOK: print the memory in use every hundred steps.",
        "WHERE: what `{function}` keeps from one step to the next.",
        "WHAT: what does a loss remember beside its value?",
    ),
    repair="Add up numbers, not tensors that remember how they were computed.",
    mechanism=(
        "A loss knows the whole computation that led to it. A sum of losses knows all of them, so no"
        " activation of any step can be freed as long as the sum is alive."
    ),
    evidence=(
        issue("BatsResearch/labelmodels", 4),
        pull("ray-project/ray", 40940),
        pull("horovod/horovod", 641),
        pull("rballester/tntorch", 19),
    ),
    examples=(
        Example(
            row="loss-graph-accumulated",
            before="for x in data:\n    loss.backward()\n    total += loss.item()\n",
            after=("for x in data:\n    loss.backward()\n    total += loss\n",),
        ),
        Example(
            before="for x in data:\n    loss.backward()\n    total += loss.detach() * len(x)\n",
            after=("for x in data:\n    loss.backward()\n    total += loss * len(x)\n",),
        ),
    ),
    counterexamples=(
        "for x in data:\n    total += loss.item()\n",
        "for x in data:\n    loss.backward()\n    hits += (p == y).sum().item()\n",
    ),
)
def loss_accumulated(f: SourceFile, node: cst.AugAssign) -> Iterator[Proposal]:
    if loop_of(f, node) is None or not differentiates(f, node):
        return
    for call in inside(node.value, cst.Call):
        tensor = cut_off(f, call)
        if tensor is not None and says(tensor, "loss", "losses", "cost", "objective", "nll"):
            yield Proposal(edits=(f.replace(call, f.text(tensor)),))


@operator(
    "outputs-list-with-graph",
    cst.Call,
    category="memory-performance",
    difficulty=2,
    symptom="Memory grows with every step; the results are right.",
    hints=(
        "LOOK: print the memory in use every hundred steps.",
        "WHERE: what `{function}` collects.",
        "WHAT: what does an output remember beside its values?",
    ),
    repair="Detach what is kept for later.",
    mechanism=(
        "Each tensor in the list holds on to the graph that it came from, with all activations in"
        " it. The list itself is small; what hangs on it grows without end."
    ),
    evidence=(pull("TRI-ML/packnet-sfm", 51),),
    examples=(
        Example(
            row="outputs-list-with-graph",
            before="for x in data:\n    loss.backward()\n    outs.append(out.detach())\n",
            after=("for x in data:\n    loss.backward()\n    outs.append(out)\n",),
        ),
        Example(
            before="for x in data:\n    loss.backward()\n    history.append(loss.item())\n",
            after=("for x in data:\n    loss.backward()\n    history.append(loss)\n",),
        ),
    ),
    counterexamples=(
        "for x in data:\n    outs.append(out.detach())\n",
        "for x in data:\n    loss.backward()\n    outs.append(out)\n",
    ),
)
def list_with_graph(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if last_name(node.func) != "append" or len(node.args) != 1 or not differentiates(f, node):
        return
    tensor = cut_off(f, node.args[0].value)
    if tensor is not None and loop_of(f, node) is not None and not any(inside(tensor, cst.Comparison)):
        yield Proposal(edits=(f.replace(node.args[0].value, f.text(tensor)),))


GUARDS = ("torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad")


@operator(
    "no-grad-missing-eval",
    cst.With,
    cst.Decorator,
    category="memory-performance",
    difficulty=2,
    symptom="Evaluation takes more memory and time than it needs; the results are right.",
    hints=(
        "LOOK: ask what comes out of an evaluation whether it could be differentiated.",
        "WHERE: how `{function}` asks the model.",
        "WHAT: what is kept during a forward pass, and what for?",
    ),
    repair="Switch gradients off while evaluating.",
    mechanism=(
        "Every forward pass keeps its activations for a backward pass that never comes. The memory"
        " peak of a run is then in its evaluation, where batches tend to be largest."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="no-grad-missing-eval",
            before="import torch as t\n\ndef test(x):\n    with t.no_grad():\n        f(x)\n\nz = t\n",
            after=("import torch as t\n\ndef test(x):\n    f(x)\n\nz = t\n",),
        ),
        Example(
            before="import torch\n\n@torch.inference_mode()\ndef predict(x):\n    return f(x)\n\nz = torch\n",
            after=("import torch\n\ndef predict(x):\n    return f(x)\n\nz = torch\n",),
        ),
    ),
    counterexamples=(
        "import torch\n\ndef step(net, x):\n    with torch.no_grad():\n        net.w -= x\n\nz = torch\n",
        "import torch\n\n@torch.no_grad()\ndef predict(net, x):\n    return net(x).numpy()\n\nz = torch\n",
    ),
)
def gradients_on(f: SourceFile, node: cst.With | cst.Decorator) -> Iterator[Proposal]:
    home = f.parent.get(node) if isinstance(node, cst.Decorator) else f.function(node)
    if not isinstance(home, cst.FunctionDef) or not says(home.name, *EVALUATING):
        return
    if {"numpy", "tolist"} & names_in(home) or _writes_in_place(home):
        return
    if isinstance(node, cst.Decorator):
        plain = node.decorator.func if isinstance(node.decorator, cst.Call) else node.decorator
        if f.qname(plain) in GUARDS and not orphans(f, node.decorator):
            start = f.source.rfind("\n", 0, f.index.span(node)[0]) + 1
            end = f.source.find("\n", f.span(node.decorator)[1]) + 1
            yield Proposal(edits=(f.edit(start, end, ""),))
        return
    only = node.items[0].item if len(node.items) == 1 else None
    if isinstance(only, cst.Call) and f.qname(only.func) in GUARDS and not orphans(f, only):
        body = body_text(f, node)
        if body is not None:
            yield Proposal(edits=(f.replace(node, body),))


def _writes_in_place(home: cst.FunctionDef) -> bool:
    """Whether a function changes tensors where they are, which needs the guard."""
    changed = (last_name(call.func) for call in inside(home, cst.Call))
    return any(name.endswith("_") and not name.startswith("_") for name in changed)


LOGGING = (
    "print",
    "append",
    "item",
    "log",
    "write",
    "info",
    "debug",
    "add_scalar",
    "float",
    "round",
    "format",
)


@operator(
    "item-every-step",
    cst.If,
    cst.AugAssign,
    category="memory-performance",
    difficulty=3,
    symptom="The run is slower than it should be, above all on fast machines; the results are right.",
    hints=(
        "LOOK: count how often the program waits for a number from the device.",
        "WHERE: what `{function}` does in every step.",
        "WHAT: when does a step have to be finished before the next is begun?",
    ),
    repair="Read numbers from the device now and then, not in every step.",
    mechanism=(
        "Work is queued on the device and done in the background. Reading one number waits until all"
        " of it is done, so that the queue runs empty and the device is idle between steps."
    ),
    evidence=(issue("dmlc/dgl", 5302), pull("karpathy/nanoGPT", 207)),
    examples=(
        Example(
            row="item-every-step",
            before="for step in steps:\n    loss = f()\n    if step % 50 == 0:\n        print(loss.item())\n",
            after=("for step in steps:\n    loss = f()\n    print(loss.item())\n",),
        ),
        Example(
            before="for x in data:\n    total += loss(x).detach()\n",
            after=("for x in data:\n    total += loss(x).item()\n",),
        ),
    ),
    counterexamples=(
        "if step % 50 == 0:\n    print(loss.item())\n",
        "for step in range(n):\n    if step % 50 == 0:\n        evaluate(loss.item())\n",
        "for step in range(n):\n    if step == 0:\n        print(loss.item())\n",
    ),
)
def item_every_step(f: SourceFile, node: cst.If | cst.AugAssign) -> Iterator[Proposal]:
    if loop_of(f, node) is None:
        return
    if isinstance(node, cst.AugAssign):
        op = operation(f, node.value, "detach")
        if op is not None and not op.shift and isinstance(node.operator, cst.AddAssign):
            yield Proposal(edits=(f.replace(node.value, f"{f.text(op.subject)}.item()"),))
        return
    test = node.test.left if isinstance(node.test, cst.Comparison) else node.test
    if node.orelse is not None or isinstance(f.parent.get(node), cst.If) or not _is_now_and_then(test):
        return
    done = [last_name(call.func) for call in inside(node.body, cst.Call)]
    reads = {"item", "float", "print"} & set(done)
    body = body_text(f, node) if reads and set(done) <= set(LOGGING) else None
    if body is not None and not orphans(f, node.test):
        yield Proposal(edits=(f.replace(node, body),))


def _is_now_and_then(test: cst.BaseExpression) -> bool:
    """Whether a test is about the rest of a division."""
    if isinstance(test, cst.UnaryOperation):
        test = test.expression
    return binary(test, cst.Modulo) is not None


@operator(
    "to-device-in-inner-loop",
    cst.SimpleStatementLine,
    category="memory-performance",
    difficulty=2,
    symptom="The run is slower than it should be where there is a device; the results are right.",
    hints=(
        "LOOK: count the copies between memory and device during one pass over the data.",
        "WHERE: where `{function}` moves its data.",
        "WHAT: how often does one row have to make the journey?",
    ),
    repair="Move the data once, before the loop.",
    mechanism=(
        "The same rows are copied to the device again and again. Each copy is small, but each has"
        " to be waited for, and the device does nothing meanwhile."
    ),
    evidence=("https://stackoverflow.com/questions/48400225",),
    examples=(
        Example(
            row="to-device-in-inner-loop",
            before="x = x.to(device)\nfor rows in order:\n    fit(x[rows])\n",
            after=("for rows in order:\n    fit(x[rows].to(device))\n",),
        ),
        Example(
            before="x, y = x.to(dev), y.to(dev)\nfor _ in range(9):\n    fit(net, x, y, len(x))\n",
            after=("for _ in range(9):\n    fit(net, x.to(dev), y.to(dev), len(x))\n",),
        ),
    ),
    counterexamples=(
        "x = x.to(device)\nuse(x)\nfor rows in order:\n    fit(x[rows])\n",
        "net = net.to(device)\nfor x in data:\n    net(x).backward()\n",
        "for x in data:\n    x = x.to(device)\n    fit(x)\n",
    ),
)
def to_device_inside(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    target, made = assigned(node) or (None, None)
    if target is None or made is None or loop_of(f, node) is not None:
        return
    values = [each.value for each in made.elements] if isinstance(made, cst.Tuple) else [made]
    moves = {}
    for each in values:
        op = operation(f, each, "to", "cuda")
        if op is None or op.shift or not isinstance(op.subject, cst.Name):
            return
        moves[op.subject.value] = f.text(each)[len(op.subject.value) :]
    loop = next((line for line in later(f, node) if isinstance(line, cst.For)), None)
    if loop is None or names_of(target) != set(moves) or says(target, "net", "model", "network", "module"):
        return
    edits = _moved_reads(f, node, loop, moves)
    if edits:
        yield Proposal(edits=(f.delete_statement(node), *edits))


def _moved_reads(
    f: SourceFile, node: cst.SimpleStatementLine, loop: cst.For, moves: dict[str, str]
) -> list[Edit]:
    """The edits that move what is read in a loop; none if anything is read elsewhere."""
    own = set(inside(node, cst.Name))
    within = set(inside(loop.body, cst.Name))
    edits = []
    for name in inside(function_of(f, node), cst.Name):
        above = f.parent.get(name)
        if name.value not in moves or name in own or isinstance(above, cst.Param | cst.AssignTarget):
            continue
        if isinstance(above, cst.Attribute) or _is_length(f, name):
            continue
        if name not in within or isinstance(above, cst.AugAssign):
            return []
        read = above if isinstance(above, cst.Subscript) and above.value is name else name
        edits.append(f.replace(read, f.text(read) + moves[name.value]))
    return edits


def _is_length(f: SourceFile, name: cst.Name) -> bool:
    call = f.parent.get(f.parent[name])
    return isinstance(call, cst.Call) and last_name(call.func) == "len" and call.func is not name


@operator(
    "replay-unbounded",
    cst.Call,
    cst.If,
    category="memory-performance",
    difficulty=2,
    symptom="Memory grows with every step, and learning slows down late in the run.",
    hints=(
        "LOOK: print how much is stored, and how old it is on average.",
        "WHERE: what `{function}` stores, and what it ever throws away.",
        "WHAT: how long is something worth learning from?",
    ),
    repair="Limit how much is stored; the oldest goes first.",
    mechanism=(
        "Nothing is ever thrown away. Memory runs out in the end, and before that most of what is"
        " drawn was gathered long ago, by a policy that was worse."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="replay-unbounded",
            before="from collections import deque\n\nmemory = deque(maxlen=1000)\n",
            after=("from collections import deque\n\nmemory = deque()\n",),
        ),
        Example(
            before="buffer.append(x)\nif len(buffer) > capacity:\n    buffer.pop(0)\n",
            after=("buffer.append(x)\n",),
        ),
    ),
    counterexamples=(
        "from collections import deque\n\nqueue = deque()\n",
        "if len(buffer) > capacity:\n    learn(buffer)\n",
    ),
)
def replay_unbounded(f: SourceFile, node: cst.Call | cst.If) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        if f.qname(node.func) == "collections.deque":
            given = f.arg(node, "maxlen", 1)
            if given is not None and last_name(given.value) != "None" and not orphans(f, given.value):
                yield Proposal(edits=(f.delete_arg(node, given),))
        return
    if node.orelse is not None or isinstance(f.parent.get(node), cst.If):
        return
    store = node.test.left if isinstance(node.test, cst.Comparison) else None
    if not isinstance(store, cst.Call) or last_name(store.func) != "len" or len(store.args) != 1:
        return
    name = f.text(store.args[0].value)
    dropped = (f"{name}.pop(0)", f"{name}.popleft()", f"del {name}[0]")
    if f.text(node.body).strip() in dropped and not orphans(f, node.test):
        yield Proposal(edits=(f.delete_statement(node),))
