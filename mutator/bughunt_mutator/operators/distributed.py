"""Mistakes of several processes that train one model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    binary,
    called,
    function_of,
    inside,
    last_name,
    method_line,
    moved_before,
    neighbours,
)
from bughunt_mutator.operators._look_meaning import (
    alone,
    everywhere,
    holder,
    named,
    pieces,
    plain,
    says,
    tidy,
)
from bughunt_mutator.operators._sources import TRAIN_CHECK, issue, pull
from bughunt_mutator.source import SourceFile

CATEGORY = "distributed-serving-quantisation"
WORLD = ("world", "ranks", "workers", "replicas", "nprocs")
WRAPPERS = ("DistributedDataParallel", "DDP")


@operator(
    "ddp-set-epoch-missing",
    cst.SimpleStatementLine,
    category=CATEGORY,
    difficulty=3,
    symptom="Training looks as usual, and the result is a little worse than that of a single process.",
    hints=(
        "LOOK: print the first ten indices of each epoch on one rank.",
        "WHERE: the beginning of an epoch in `{function}`.",
        "WHAT: how does a sampler know that a new epoch has begun?",
    ),
    repair="Tell the sampler the number of the epoch before going through it.",
    mechanism=(
        "The sampler shuffles with its seed and the epoch, so that all ranks agree. If nobody tells it the"
        " epoch, every epoch comes in the same order, split among the ranks in the same way: the same rows"
        " always meet in one batch."
    ),
    evidence=(
        issue("pytorch/pytorch", 31771),
        pull("cszn/KAIR", 106),
        pull("facebookresearch/ClassyVision", 118),
        issue("kan-bayashi/ParallelWaveGAN", 177),
    ),
    examples=(
        Example(
            row="ddp-set-epoch-missing",
            before="for e in range(n):\n    sampler.set_epoch(e)\n    train(loader)\n",
            after=("for e in range(n):\n    train(loader)\n",),
        ),
        Example(
            before=(
                "for e in range(n):\n    if many:\n        loader.sampler.set_epoch(e)\n    train(loader)\n"
            ),
            after=("for e in range(n):\n    train(loader)\n",),
        ),
    ),
    counterexamples=("set_epoch(e)\n", "x = sampler.set_epoch\n"),
)
def set_epoch_missing(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    call = called(node)
    if call is None or method_line(f, node, "set_epoch") is None:
        return
    lines = tidy(f, call)
    if lines is not None:
        yield Proposal(edits=(*lines, f.delete_statement(alone(f, node))))


def is_wrapping(node: cst.CSTNode) -> bool:
    """Whether a call wraps a module for data-parallel training."""
    return isinstance(node, cst.Call) and last_name(node.func) in WRAPPERS and bool(node.args)


@lru_cache(maxsize=16)
def wrappings(f: SourceFile) -> tuple[tuple[str, cst.CSTNode], ...]:
    """The names that wrapped modules are given, and the functions that give them."""
    pairs = [(line, assigned(line)) for line in everywhere(f, cst.SimpleStatementLine)]
    return tuple(
        (f.text(pair[0]), function_of(f, line))
        for line, pair in pairs
        if pair is not None and any(is_wrapping(call) for call in inside(pair[1], cst.Call))
    )


def wrapped(f: SourceFile, node: cst.CSTNode) -> Iterator[str]:
    """The names of wrapped modules that the function around a node can use."""
    home = function_of(f, node)
    params = home.params.params if isinstance(home, cst.FunctionDef) else ()
    for name, owner in wrappings(f):
        handed = name in {param.name.value for param in params}
        if owner in (home, f.module) or name.startswith("self.") or handed:
            yield name


@operator(
    "ddp-bypass",
    cst.Call,
    category=CATEGORY,
    difficulty=4,
    symptom="Every rank trains, and each ends up with a model of its own.",
    hints=(
        "LOOK: compare a checksum of the parameters across ranks after ten steps.",
        "WHERE: what `{function}` calls to get its predictions.",
        "WHAT: who takes care that gradients are averaged, and how does it learn of a backward pass?",
    ),
    repair="Call the wrapper itself in training, not the module inside it.",
    mechanism=(
        "The wrapper prepares the averaging of gradients in its own forward pass. Called past it, the module"
        " works and learns, but each rank follows its own gradients only. Nothing fails: the ranks simply"
        " drift apart, and what is saved saw a fraction of the data."
    ),
    evidence=(TRAIN_CHECK,),
    examples=(
        Example(
            row="ddp-bypass",
            before=(
                "from torch.nn.parallel import DistributedDataParallel as DDP\n\nmodel = DDP(net)\n"
                "loss = f(model(x), y)\nloss.backward()\n"
            ),
            after=(
                "from torch.nn.parallel import DistributedDataParallel as DDP\n\nmodel = DDP(net)\n"
                "loss = f(model.module(x), y)\nloss.backward()\n",
            ),
        ),
    ),
    counterexamples=(
        "model = Net()\ny = model(x)\n",
        "model = DDP(net)\nwith torch.no_grad():\n    y = model(x)\n",
    ),
)
def ddp_bypass(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if not isinstance(node.func, cst.Name | cst.Attribute) or not node.args:
        return
    quiet = any(
        isinstance(above, cst.With) and says(above.items[0], "no", "mode") for above in ancestors(f, node)
    )
    known = f.text(node.func) in wrapped(f, node)
    if known and not quiet and says(function_of(f, node), "backward"):
        yield Proposal(edits=(f.replace(node.func, f"{f.text(node.func)}.module"),))


MOVES = ("to", "cuda", "double", "half", "bfloat16", "float")


def moved(node: cst.CSTNode) -> tuple[cst.BaseExpression, cst.Call] | None:
    """What a call moves to a device or a type, and the call."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value in MOVES:
        return node.func.value, node
    return None


@operator(
    "ddp-params-moved",
    cst.Call,
    category=CATEGORY,
    difficulty=5,
    symptom="Losses agree with those of a single process at first, and then drift apart from rank to rank.",
    hints=(
        "LOOK: compare a checksum of the parameters across ranks after ten steps.",
        "WHERE: the order in which `{function}` sets the model up.",
        "WHAT: when does the wrapper look at the parameters, and what happens to them afterwards?",
    ),
    repair="Move the model to its device and type first, and wrap it last.",
    mechanism=(
        "The wrapper hangs a hook on each parameter's gradient when it is made. Moving a parameter to another"
        " device or type afterwards gives it a new place to accumulate gradients, on which no hook hangs."
        " Gradients are computed, never averaged, and nobody is told."
    ),
    evidence=(TRAIN_CHECK, issue("pytorch/pytorch", 104336)),
    examples=(
        Example(
            row="ddp-params-moved",
            before="model = DDP(Net().to(device))\n",
            after=("model = DDP(Net()).to(device)\n",),
        ),
        Example(
            before="net = Net().double()\nmodel = DDP(net, device_ids=[rank])\n",
            after=("net = Net()\nmodel = DDP(net).double()\n",),
        ),
        Example(
            before="net = Net()\nnet.to(device)\nmodel = DDP(net)\n",
            after=("net = Net()\nmodel = DDP(net).to(device)\n",),
        ),
    ),
    counterexamples=("model = DDP(net)\n", "x = x.to(device)\nmodel = Net(x)\n"),
)
def params_moved(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if not is_wrapping(node) or f.text(f.parent[node]).startswith("."):
        return
    given = node.args[0].value
    devices = f.arg(node, "device_ids", None)
    rest = (f.delete_arg(node, devices),) if devices is not None else ()
    end = f.span(node)[1]
    here = moved(given)
    if here is not None:
        tail = f.source[f.span(here[0])[1] : f.span(given)[1]]
        yield Proposal(edits=(f.replace(given, f.text(here[0])), *rest, f.edit(end, end, tail)))
        return
    lines, place = neighbours(f, f.statement(node))
    for line in reversed(lines[:place]):
        pair = assigned(line)
        if pair is not None and f.text(pair[0]) == f.text(given) and (there := moved(pair[1])) is not None:
            tail = f.source[f.span(there[0])[1] : f.span(pair[1])[1]]
            kept = f.delete_statement(line) if f.text(there[0]) == f.text(given) else None
            edit = kept or f.replace(pair[1], f.text(there[0]))
            yield Proposal(edits=(edit, *rest, f.edit(end, end, tail)))
            return
        call = called(line)
        alone_there = moved(call) if call is not None else None
        if call is not None and alone_there is not None and f.text(alone_there[0]) == f.text(given):
            tail = f.source[f.span(alone_there[0])[1] : f.span(call)[1]]
            yield Proposal(edits=(f.delete_statement(line), *rest, f.edit(end, end, tail)))
            return


def is_reduction(call: cst.Call) -> bool:
    """Whether a call adds something up over all ranks."""
    name = pieces(last_name(call.func))
    return {"all", "reduce"} <= name or "allreduce" in name


def reduces(f: SourceFile, node: cst.CSTNode, depth: int = 1) -> bool:
    """Whether a statement adds something up over all ranks, itself or through a function of the file."""
    for call in inside(node, cst.Call):
        if is_reduction(call):
            return True
        for home in everywhere(f, cst.FunctionDef) if depth else ():
            if home.name.value == last_name(call.func) and reduces(f, home.body, depth - 1):
                return True
    return False


@operator(
    "clip-per-rank",
    cst.SimpleStatementLine,
    category=CATEGORY,
    difficulty=5,
    symptom="Runs on one process and on several differ although the whole batch is the same.",
    hints=(
        "LOOK: print the norm that is clipped on every rank, and the one of the averaged gradient.",
        "WHERE: the lines between the backward pass and the update in `{function}`.",
        "WHAT: whose norm is compared with the limit?",
    ),
    repair="Clip by the norm of the gradient of all ranks together.",
    mechanism=(
        "The norm is that of one rank's own gradient. Where the gradients are averaged afterwards, ranks with"
        " large gradients are silently given less weight; where parameters are replicated, ranks apply"
        " different factors to one model, and its copies part; where they are shared out, the norm of a part"
        " is taken for that of the whole."
    ),
    evidence=(TRAIN_CHECK, pull("microsoft/DeepSpeed", 1801)),
    examples=(
        Example(
            row="clip-per-rank",
            before=(
                "loss.backward()\nfor p in net.parameters():\n    dist.all_reduce(p.grad)\n"
                "clip_grad_norm_(net.parameters(), 1.0)\nopt.step()\n"
            ),
            after=(
                "loss.backward()\nclip_grad_norm_(net.parameters(), 1.0)\n"
                "for p in net.parameters():\n    dist.all_reduce(p.grad)\nopt.step()\n",
            ),
        ),
        Example(
            before=(
                "def clip(parts, limit):\n    norm_sq = total(parts)\n"
                "    dist.all_reduce(norm_sq)\n    scale(parts, norm_sq)\n"
            ),
            after=("def clip(parts, limit):\n    norm_sq = total(parts)\n    scale(parts, norm_sq)\n",),
        ),
        Example(
            before=(
                "def clip(parts, limit):\n    squares, _ = all_reduce([p**2 for p in parts])\n"
                "    return limit / squares[0].sqrt()\n"
            ),
            after=(
                "def clip(parts, limit):\n    squares = [p**2 for p in parts]\n"
                "    return limit / squares[0].sqrt()\n",
            ),
        ),
    ),
    counterexamples=(
        "loss.backward()\nclip_grad_norm_(net.parameters(), 1.0)\n",
        "dist.all_reduce(loss)\nlog(loss)\n",
    ),
)
def clip_per_rank(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    value = pair[1] if pair is not None else called(node)
    if not isinstance(value, cst.Call):
        return
    apart = kept_apart(f, node)
    if apart is not None:
        yield Proposal(edits=(apart,))
        return
    lines, place = neighbours(f, node)
    if pieces(last_name(value.func)) >= {"clip"}:
        for line in lines[:place]:
            if reduces(f, line) and says(line, "grad", "grads", "gradient", "gradients"):
                yield Proposal(edits=moved_before(f, node, line))
                return
    squared = value.args and says(value.args[0], "norm", "sq", "square", "squares", "squared")
    own = is_reduction(value) and squared and pair is None and len(lines) > 1
    if own and says(function_of(f, node), "clip", "norm"):
        yield Proposal(edits=(f.delete_statement(node),))


def kept_apart(f: SourceFile, node: cst.SimpleStatementLine) -> Edit | None:
    """The squares of each rank in the place of their sum over all of them."""
    target, value = assigned(node) or (None, None)
    home = f.function(node)
    if not isinstance(target, cst.Tuple) or not isinstance(value, cst.Call) or home is None:
        return None
    sums, *others = (element.value for element in target.elements)
    ignored = all(isinstance(each, cst.Name) and each.value.startswith("_") for each in others)
    if not (is_reduction(value) and ignored and len(value.args) == 1 and says(home.name, "clip", "norm")):
        return None
    if not named(sums, "squares", "squared", "norms", "norm", "sq"):
        return None
    return f.replace(node, f"{f.text(sums)} = {f.text(value.args[0].value)}")


def is_world(node: cst.CSTNode | None) -> bool:
    """Whether an expression is the number of ranks."""
    return says(node, *WORLD)


@operator(
    "allreduce-sum-no-divide",
    cst.Attribute,
    cst.SimpleStatementLine,
    cst.BinaryOperation,
    category=CATEGORY,
    difficulty=3,
    symptom="The more processes take part, the less stable is training.",
    hints=(
        "LOOK: compare the gradient after averaging with that of one process on the whole batch.",
        "WHERE: how `{function}` puts gradients together.",
        "WHAT: how does the size of a step depend on the number of ranks?",
    ),
    repair="Divide the sum of the gradients by the number of ranks.",
    mechanism=(
        "Every rank's loss is a mean over its own rows, so the gradient of the whole batch is the mean over"
        " ranks. The sum is larger by the number of ranks, which acts like a learning rate that grows with"
        " the machine."
    ),
    evidence=(),
    examples=(
        Example(
            row="allreduce-sum-no-divide",
            before="dist.all_reduce(p.grad, op=dist.ReduceOp.AVG)\n",
            after=("dist.all_reduce(p.grad, op=dist.ReduceOp.SUM)\n",),
        ),
        Example(
            before=(
                "def sync(net, world):\n    for p in net.parameters():\n"
                "        dist.all_reduce(p.grad)\n        p.grad /= world\n"
            ),
            after=(
                "def sync(net, world):\n    for p in net.parameters():\n        dist.all_reduce(p.grad)\n",
            ),
        ),
        Example(
            before="dist.all_reduce(g)\ng.div_(dist.get_world_size())\n",
            after=("dist.all_reduce(g)\n",),
        ),
        Example(
            before=(
                "class Bucket:\n    def send(self):\n        dist.all_reduce(self.flat)\n\n"
                "    def receive(self, world):\n        self.flat /= world\n        use(self.flat)\n"
            ),
            after=(
                "class Bucket:\n    def send(self):\n        dist.all_reduce(self.flat)\n\n"
                "    def receive(self, world):\n        use(self.flat)\n",
            ),
        ),
        Example(
            before="mean = ring_all_reduce(grads) / world_size\n",
            after=("mean = ring_all_reduce(grads)\n",),
        ),
    ),
    counterexamples=("x /= world\n", "y = total / world\n", "dist.all_reduce(x, op=dist.ReduceOp.MAX)\n"),
)
def no_divide(
    f: SourceFile, node: cst.Attribute | cst.SimpleStatementLine | cst.BinaryOperation
) -> Iterator[Proposal]:
    if isinstance(node, cst.Attribute):
        if node.attr.value == "AVG" and last_name(node.value) == "ReduceOp":
            yield Proposal(edits=(f.replace(node.attr, "SUM"),))
    elif isinstance(node, cst.BinaryOperation):
        sides = binary(node, cst.Divide)
        if sides is None or not is_world(sides[1]) or not isinstance(sides[0], cst.Call):
            return
        lines = tidy(f, sides[1])
        if is_reduction(sides[0]) and lines is not None:
            yield Proposal(edits=(*lines, f.replace(node, plain(f, sides[0]))))
    else:
        yield from division_dropped(f, node)


def division_dropped(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    """The lines without the one that divides what was just summed over ranks."""
    summed = divided(f, node)
    lines, place = neighbours(f, node)
    if summed is None:
        return
    family = f.class_(node) if isinstance(summed[0], cst.Attribute) else None
    for line in (*lines[:place], *([family] if family is not None and len(lines) > 1 else [])):
        for call in inside(line, cst.Call):
            if is_reduction(call) and call.args and f.text(call.args[0].value) == f.text(summed[0]):
                rest = tidy(f, summed[1])
                if rest is not None:
                    yield Proposal(edits=(*rest, f.delete_statement(node)))
                return


def divided(
    f: SourceFile, node: cst.SimpleStatementLine
) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """What a statement divides by the number of ranks in place, and that number."""
    only = node.body[0] if len(node.body) == 1 else None
    if (
        isinstance(only, cst.AugAssign)
        and isinstance(only.operator, cst.DivideAssign)
        and is_world(only.value)
    ):
        return only.target, only.value
    call = called(node)
    if call is not None and isinstance(call.func, cst.Attribute) and call.func.attr.value == "div_":
        return (call.func.value, call.args[0].value) if call.args and is_world(call.args[0].value) else None
    pair = assigned(node)
    sides = binary(pair[1], cst.Divide) if pair is not None else None
    if pair is not None and sides is not None and f.text(pair[0]) == f.text(sides[0]) and is_world(sides[1]):
        return pair[0], sides[1]
    return None


@operator(
    "rank-same-seed",
    cst.BinaryOperation,
    category=CATEGORY,
    difficulty=4,
    symptom="More processes bring less than they should: they seem to do the same work.",
    hints=(
        "LOOK: print the first random numbers, and the first rows, of every rank.",
        "WHERE: the seed in `{function}`.",
        "WHAT: in what should the ranks differ, and in what must they agree?",
    ),
    repair="Give each rank a seed of its own for data and noise.",
    mechanism=(
        "All ranks draw the same augmentation, the same dropout and, where rows are drawn at random, the same"
        " rows. Averaging several copies of one gradient gives that gradient: the batch is not larger than"
        " that of one rank."
    ),
    evidence=(),
    examples=(
        Example(
            row="rank-same-seed",
            before="import torch\n\ndef start(rank, seed):\n    torch.manual_seed(seed + rank)\n",
            after=("import torch\n\ndef start(rank, seed):\n    torch.manual_seed(seed)\n",),
        ),
        Example(
            before="rng = default_rng(1000 * local_rank + cfg.seed)\n",
            after=("rng = default_rng(cfg.seed)\n",),
        ),
    ),
    counterexamples=("port = base + rank\n", "seed = a + b\n"),
)
def same_seed(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    if sides is None:
        return
    for seed, share in (sides, sides[::-1]):
        if says(share, "rank") and not says(seed, "rank") and (says(seed, "seed") or seeds(f, node)):
            lines = tidy(f, share)
            if lines is not None:
                yield Proposal(edits=(*lines, f.replace(node, f.text(seed))))
            return


def seeds(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a value starts a random generator."""
    above = f.parent.get(node)
    call = f.parent.get(above) if isinstance(above, cst.Arg) else None
    starts = isinstance(call, cst.Call) and says(call.func, "seed", "rng", "generator")
    return starts or says(holder(f, node), "seed")
