"""Mistakes in adversarial training: who learns from which loss, and how the critic is kept in check."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    axis,
    binary,
    descendants,
    function_of,
    inside,
    last_name,
    names_in,
    number,
    operation,
    value,
)
from bughunt_mutator.operators._look_meaning import (
    complement,
    everywhere,
    holder,
    later_reads,
    named,
    plain,
    resolved,
    says,
    tidy,
    undetached,
    within,
    words,
)
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile

JUDGES = ("d", "disc", "discriminator", "discriminators", "critic", "judge", "adversary")
MAKERS = ("g", "gen", "generator", "maker", "netg")
FAKES = ("fake", "fakes", "gen", "generated", "synthetic", "forged", "generator", "drawn", "imagined")
ONES, ZEROS = ("ones", "ones_like"), ("zeros", "zeros_like")


def is_judge(node: cst.CSTNode) -> bool:
    """Whether what is called tells real from made."""
    return isinstance(node, cst.Name | cst.Attribute) and (
        named(node, *JUDGES) or last_name(node).lower() in ("netd", "dnet")
    )


def is_made(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression is something that the generator made."""
    source = undetached(node) or node
    if says(source, *FAKES):
        return True
    made = resolved(f, source)
    made = undetached(made) or made
    return isinstance(made, cst.Call) and named(made.func, *MAKERS)


def judged(f: SourceFile, node: cst.CSTNode) -> cst.Arg | None:
    """What a discriminator is asked about, if the node asks one, itself or through a function of the file."""
    if not isinstance(node, cst.Call) or not node.args or node.args[0].keyword:
        return None
    if is_judge(node.func):
        return node.args[0]
    place = asking(f).get(last_name(node.func)) if isinstance(node.func, cst.Name) else None
    if place is None or place >= len(node.args):
        return None
    return None if node.args[place].keyword else node.args[place]


@lru_cache(maxsize=16)
def asking(f: SourceFile) -> dict[str, int]:
    """The functions that hand one of their parameters to a discriminator, and its place among them."""
    found = {}
    for home in everywhere(f, cst.FunctionDef):
        names = [param.name.value for param in home.params.params]
        for call in inside(home.body, cst.Call):
            if is_judge(call.func) and len(names) > 1 and len(list(inside(home.body, cst.Call))) < 4:
                shown = last_name(call.args[0].value) if call.args else ""
                if shown in names:
                    found[home.name.value] = names.index(shown)
    return found


@operator(
    "gan-d-no-detach",
    cst.Call,
    category="generative",
    difficulty=4,
    symptom=(
        "The generator gets worse just when its opponent gets better, or a step costs twice what it should."
    ),
    hints=(
        "LOOK: after the discriminator's backward pass alone, list every parameter that has a gradient.",
        "WHERE: what the discriminator is shown in `{function}`.",
        "WHAT: how far back does the gradient of its loss travel?",
    ),
    repair="Detach the generated samples when the discriminator is trained on them.",
    mechanism=(
        "The loss of the discriminator is differentiated through the samples into the generator. If those"
        " gradients are not cleared before the generator's own step, it is pushed to be found out; if they"
        " are, the work was for nothing. Code that uses the same samples twice may also find the graph gone."
    ),
    evidence=(issue("yunjey/pytorch-tutorial", 56), issue("eriklindernoren/PyTorch-GAN", 136)),
    examples=(
        Example(
            row="gan-d-no-detach",
            before="d_loss = bce(D(real), ones) + bce(D(fake.detach()), zeros)\n",
            after=("d_loss = bce(D(real), ones) + bce(D(fake), zeros)\n",),
        ),
        Example(
            before=(
                "def d_step(critic, gen, z):\n    made = gen(z).detach()\n    return critic(made).mean()\n"
            ),
            after=("def d_step(critic, gen, z):\n    made = gen(z)\n    return critic(made).mean()\n",),
        ),
    ),
    counterexamples=("v = critic(state.detach())\n", "y = net(fake.detach())\n"),
)
def d_no_detach(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    source = undetached(node)
    if source is None or not is_made(f, node):
        return
    above = f.parent.get(f.parent[node])
    if above is not None and judged(f, above) is not None:
        yield Proposal(edits=(f.replace(node, f.text(source)),))
        return
    target = holder(f, node)
    if isinstance(target, cst.Name) and f.parent[node] is f.parent[f.parent[target]]:
        uses = [f.parent.get(f.parent[name]) for name in later_reads(f, node, target.value)]
        if any(judged(f, use) is not None for use in uses if use is not None):
            yield Proposal(edits=(f.replace(node, f.text(source)),))


def trains_generator(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a judgement ends up in the loss of the generator."""
    home = f.function(node)
    if home is not None and not {"g", "gen", "generator"}.isdisjoint(words(home.name)):
        return True
    target = holder(f, node)
    if target is None:
        return False
    if says(target, *MAKERS):
        return True
    if isinstance(target, cst.Name):
        reads = list(later_reads(f, f.statement(node), target.value))
        return bool(reads) and says(holder(f, reads[0]), *MAKERS)
    return False


@operator(
    "gan-g-detached",
    cst.Call,
    category="generative",
    difficulty=3,
    symptom="The discriminator wins within a few steps, and the samples stay what they were at the start.",
    hints=(
        "LOOK: list the gradient norms of both networks just before the generator is updated.",
        "WHERE: the path from the generator's loss back to its weights in `{function}`.",
        "WHAT: does the judgement still know how the samples were made?",
    ),
    repair="Let the gradient of the generator's loss pass through the discriminator into the samples.",
    mechanism=(
        "The generator learns only from the slope of the judgement with respect to its samples. Cut off"
        " from the graph, samples are constants: its loss is computed and printed, no gradient reaches it,"
        " and the discriminator trains against an opponent that never moves."
    ),
    evidence=(issue("nikhilsinghmus/image2reverb", 37), pull("tamarott/SinGAN", 117)),
    examples=(
        Example(
            row="gan-g-detached",
            before="g_loss = bce(D(fake), ones)\n",
            after=("g_loss = bce(D(fake.detach()), ones)\n",),
        ),
        Example(
            before="def g_step(critic, gen, z):\n    return -critic(gen(z)).mean()\n",
            after=("def g_step(critic, gen, z):\n    return -critic(gen(z).detach()).mean()\n",),
        ),
        Example(
            before="out = netD(fake)\nerrG = bce(out, label)\n",
            after=("out = netD(fake.detach())\nerrG = bce(out, label)\n",),
        ),
    ),
    counterexamples=("d_loss = bce(D(fake), zeros)\n", "g_loss = bce(D(real), ones)\n"),
)
def g_detached(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    given = judged(f, node)
    if given is None or undetached(given.value) is not None or not is_made(f, given.value):
        return
    if undetached(resolved(f, given.value)) is None and trains_generator(f, node):
        yield Proposal(edits=(f.replace(given.value, f"{plain(f, given.value)}.detach()"),))


def side(f: SourceFile, node: cst.BaseExpression) -> str:
    """Whether a judgement is of real samples or of made ones; empty if that is not said."""
    for call in inside(resolved(f, node), cst.Call):
        given = judged(f, call)
        if given is not None:
            return "made" if is_made(f, given.value) else "real"
    if says(node, *FAKES):
        return "made"
    return "real" if says(node, "real", "true") else ""


def is_label(node: cst.BaseExpression) -> bool:
    """Whether an expression can be the answer that a judgement is compared with."""
    return isinstance(node, cst.Name | cst.Attribute | cst.Float | cst.Integer) or (
        isinstance(node, cst.Call) and last_name(node.func) in (*ONES, *ZEROS, "full", "full_like")
    )


def losses(f: SourceFile, node: cst.CSTNode) -> Iterator[tuple[str, cst.Call]]:
    """The calls that compare a judgement with an answer, and what is judged."""
    for call in inside(node, cst.Call):
        if len(call.args) < 2 or call.args[0].keyword or not is_label(call.args[1].value):
            continue
        if which := side(f, call.args[0].value):
            yield which, call


@operator(
    "gan-labels-swapped",
    cst.Call,
    category="generative",
    difficulty=2,
    symptom="The discriminator's loss looks healthy, and the samples drift away from the data.",
    hints=(
        "LOOK: print the discriminator's mean answer for real samples and for made ones.",
        "WHERE: which answers `{function}` asks for.",
        "WHAT: do both networks mean the same thing by a high score?",
    ),
    repair="Give real samples the answer that the generator is trained to obtain.",
    mechanism=(
        "The discriminator separates the two sets as well as before, with the meaning of its answer turned"
        " round. The generator still climbs towards the old answer, and so towards whatever looks made."
    ),
    evidence=(),
    examples=(
        Example(
            row="gan-labels-swapped",
            before=(
                "import torch\n"
                "d_loss = bce(D(real), torch.ones(n)) + bce(D(fake.detach()), torch.zeros(n))\n"
                "g_loss = bce(D(fake), torch.ones(n))\n"
            ),
            after=(
                "import torch\n"
                "d_loss = bce(D(real), torch.zeros(n)) + bce(D(fake.detach()), torch.ones(n))\n"
                "g_loss = bce(D(fake), torch.ones(n))\n",
            ),
        ),
        Example(
            before="a = loss(real_scores, valid)\nb = loss(fake_scores, invalid)\n",
            after=("a = loss(real_scores, invalid)\nb = loss(fake_scores, valid)\n",),
        ),
        Example(
            before=(
                "import torch.nn.functional as F\nd_loss = F.softplus(-D(x)) + F.softplus(D(fake.detach()))\n"
            ),
            after=(
                (
                    "import torch.nn.functional as F\n"
                    "d_loss = F.softplus(D(x)) + F.softplus(-D(fake.detach()))\n"
                ),
            ),
        ),
    ),
    counterexamples=(
        "g_loss = bce(D(fake), ones)\n",
        "a = loss(real_scores, ones)\nb = loss(real_scores, ones)\n",
    ),
)
def labels_swapped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    here = f.span(node)[0]
    own = [(which, call) for which, call in losses(f, node) if call is node]
    if own and own[0][0] == "real":
        for which, call in losses(f, function_of(f, node)):
            alike = f.text(call.func) == f.text(node.func) and f.span(call)[0] > here
            if which == "made" and alike and not trains_generator(f, call):
                yield from exchanged(f, node.args[1].value, call.args[1].value)
                return
    yield from softplus_swapped(f, node)


def exchanged(f: SourceFile, one: cst.BaseExpression, two: cst.BaseExpression) -> Iterator[Proposal]:
    """Both answers, each in the place of the other."""
    if isinstance(one, cst.Call) and isinstance(two, cst.Call):
        names = last_name(one.func), last_name(two.func)
        if set(names) in ({"ones", "zeros"}, {"ones_like", "zeros_like"}):
            yield Proposal(edits=f.swap(one.func, two.func))
    elif f.text(one) != f.text(two):
        yield Proposal(edits=f.swap(one, two))


def softplus_swapped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    """The logistic loss without labels, both of its signs turned round."""
    op = operation(f, node, "softplus")
    if op is None or not isinstance(op.subject, cst.UnaryOperation) or trains_generator(f, node):
        return
    real = op.subject.expression
    if not isinstance(op.subject.operator, cst.Minus) or side(f, real) != "real":
        return
    for call in inside(f.statement(node), cst.Call):
        other = operation(f, call, "softplus")
        if other is None or call is node or isinstance(other.subject, cst.UnaryOperation):
            continue
        if side(f, other.subject) == "made":
            turned = f.replace(other.subject, f"-{plain(f, other.subject)}")
            yield Proposal(edits=(f.replace(op.subject, f.text(real)), turned))
            return


def penalises_slope(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the function around a node differentiates by hand."""
    return any(
        last_name(call.func) == "grad" and f.arg(call, "create_graph", None) is not None
        for call in inside(function_of(f, node), cst.Call)
    )


def flattened(f: SourceFile, node: cst.BaseExpression) -> cst.BaseExpression | None:
    """What is laid out as one row a sample, if the node does that."""
    op = operation(f, node, "flatten", "view", "reshape")
    if op is None:
        return None
    given = node.args[op.shift :] if isinstance(node, cst.Call) else ()
    numbers = [number(each.value) for each in given]
    rows = numbers == [1] if op.name == "flatten" else len(numbers) == 2 and numbers[1] == -1
    return op.subject if rows else None


@operator(
    "gp-norm-wrong-axis",
    cst.Call,
    category="generative",
    difficulty=4,
    symptom=(
        "The penalty is orders of magnitude too large or too small, and the critic barely separates anything."
    ),
    hints=(
        "LOOK: print the shape of the norms, and the norm of one sample's gradient taken by hand.",
        "WHERE: how `{function}` measures a gradient.",
        "WHAT: how many norms should a batch have?",
    ),
    repair="Flatten the gradient of each sample before its norm is taken.",
    mechanism=(
        "A slope has one norm for each sample, over all of its values. Taken along another axis it is a"
        " set of norms that belong to no sample. Their size depends on how many values there are, or how"
        " many samples, and the true norm is held somewhere else than it is meant to be."
    ),
    evidence=(
        issue("caogang/wgan-gp", 27),
        issue("caogang/wgan-gp", 56),
        issue("Zeleni9/pytorch-wgan", 40),
    ),
    examples=(
        Example(
            row="gp-norm-wrong-axis",
            before=(
                "import torch\n\ndef penalty(s, x):\n"
                "    g = torch.autograd.grad(s, x, create_graph=True)[0]\n"
                "    return (g.view(len(x), -1).norm(2, dim=1) - 1).square().mean()\n"
            ),
            after=(
                "import torch\n\ndef penalty(s, x):\n"
                "    g = torch.autograd.grad(s, x, create_graph=True)[0]\n"
                "    return (g.norm(2, dim=1) - 1).square().mean()\n",
            ),
        ),
        Example(
            before=(
                "import torch\n\ndef penalty(s, x):\n"
                "    (g,) = torch.autograd.grad(s, x, create_graph=True)\n"
                "    return g.square().sum(dim=1).mean()\n"
            ),
            after=(
                "import torch\n\ndef penalty(s, x):\n"
                "    (g,) = torch.autograd.grad(s, x, create_graph=True)\n"
                "    return g.square().sum(dim=0).mean()\n",
            ),
        ),
        Example(
            before=(
                "from torch.autograd import grad\n\ndef penalty(s, x):\n"
                "    g = grad(s, x, create_graph=True)[0]\n    g = g.flatten(1)\n"
                "    return ((g.norm(dim=1) - 1) ** 2).mean()\n"
            ),
            after=(
                "from torch.autograd import grad\n\ndef penalty(s, x):\n"
                "    g = grad(s, x, create_graph=True)[0]\n"
                "    return ((g.norm(dim=1) - 1) ** 2).mean()\n",
            ),
        ),
    ),
    counterexamples=(
        "n = w.flatten(1).norm(dim=1)\n",
        "import torch\n\ndef penalty(s, x):\n    g = torch.autograd.grad(s, x, create_graph=True)[0]\n"
        "    return x.square().sum(dim=1).mean()\n",
    ),
)
def norm_wrong_axis(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    along = axis_of_slopes(f, node)
    if along is not None:
        yield Proposal(edits=(f.replace(along, "0"),))
        return
    op = operation(f, node, "norm", "vector_norm", "square", "pow")
    if op is None or not penalises_slope(f, node) or not measures_norm(f, node, op.name):
        return
    whole = flattened(f, op.subject)
    if whole is not None:
        yield Proposal(edits=(f.replace(op.subject, f.text(whole)),))
        return
    made = resolved(f, op.subject)
    whole = flattened(f, made)
    if whole is not None and f.text(whole) == f.text(op.subject) and made is not op.subject:
        yield Proposal(edits=(f.delete_statement(f.statement(made)),))


def axis_of_slopes(f: SourceFile, node: cst.Call) -> cst.BaseExpression | None:
    """The axis along which squared slopes, one row a sample as they come, are added up."""
    total = operation(f, node, "sum")
    squares = operation(f, total.subject, "square") if total is not None else None
    if total is None or squares is None or not isinstance(squares.subject, cst.Name):
        return None
    slopes = {
        name
        for line in inside(function_of(f, node), cst.Assign)
        if isinstance(line.value, cst.Call) and last_name(line.value.func) == "grad"
        for name in names_in(line.targets[0].target)
    }
    along = axis(f, total)
    across = number(along) in (1, -1) and penalises_slope(f, node)
    return along if across and squares.subject.value in slopes else None


def measures_norm(f: SourceFile, node: cst.Call, name: str) -> bool:
    """Whether a call makes a norm along one axis, at once or by a sum of squares."""
    if name in ("norm", "vector_norm"):
        return len(node.args) > 0
    above = f.parent.get(f.parent.get(node, node))
    return operation(f, above, "sum") is not None and len(getattr(above, "args", ())) > 0


@operator(
    "gp-alpha-per-pixel",
    cst.Call,
    category="generative",
    difficulty=4,
    symptom="The critic is held back less than it should be, and samples are noisier.",
    hints=(
        "LOOK: print the shape of the random weights, and look at one sample that they mix.",
        "WHERE: the points at which `{function}` measures the slope.",
        "WHAT: do they lie on the straight line between a real sample and a made one?",
    ),
    repair="Draw one weight for each sample and use it for all of its values.",
    mechanism=(
        "With a weight for every value, the mixtures fill the box between two samples, concentrated near"
        " its middle, instead of the line between them. The slope is held down where no sample ever comes,"
        " and is free to grow along the lines where the two sets meet."
    ),
    evidence=(
        issue("eriklindernoren/PyTorch-GAN", 5),
        issue("hwalsuklee/tensorflow-generative-model-collections", 33),
    ),
    examples=(
        Example(
            row="gp-alpha-per-pixel",
            before="import torch\na = torch.rand(n, 1, 1, 1)\nx = a * real + (1 - a) * fake\n",
            after=("import torch\na = torch.rand_like(real)\nx = a * real + (1 - a) * fake\n",),
        ),
        Example(
            before=(
                "import torch\n\ndef mix(x, y):\n    n = x.size(0)\n    u = torch.rand(n, 1)\n"
                "    return torch.lerp(x, y, u)\n"
            ),
            after=(
                (
                    "import torch\n\ndef mix(x, y):\n    u = torch.rand_like(x)\n"
                    "    return torch.lerp(x, y, u)\n"
                ),
            ),
        ),
    ),
    counterexamples=(
        "import torch\na = torch.rand(n, 1)\nx = a * real\n",
        "a = rand(n, 1)\nx = a * y + (1 - a) * z\n",
    ),
)
def alpha_per_pixel(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    target = holder(f, node)
    if f.qname(node.func) != "torch.rand" or not isinstance(target, cst.Name):
        return
    sizes = [each.value for each in node.args if each.keyword is None]
    if len(sizes) == 1 and isinstance(sizes[0], cst.Tuple | cst.List):
        sizes = [element.value for element in sizes[0].elements]
    if len(sizes) < 2 or any(number(size) != 1 for size in sizes[1:]) or number(sizes[0]) is not None:
        return
    like = mixed(f, node, target.value)
    rest = tidy(f, *node.args)
    if like is not None and rest is not None and isinstance(node.func, cst.Attribute):
        new = f"{f.text(node.func)}_like({f.text(like)})"
        yield Proposal(edits=(*rest, f.replace(node, new)))


def shown(f: SourceFile, node: cst.CSTNode | None) -> str:
    """The text of a node, empty if there is none."""
    return "" if node is None else f.text(node)


def mixed(f: SourceFile, node: cst.CSTNode, weight: str) -> cst.BaseExpression | None:
    """What a weight mixes with something else, if it is the weight of a mixture."""
    for each in descendants(function_of(f, node)):
        sides = binary(each, cst.Add)
        pairs = [binary(part, cst.Multiply) for part in sides] if sides else []
        if len(pairs) == 2 and pairs[0] and pairs[1]:
            factors = [*pairs[0], *pairs[1]]
            taken = [each for each in factors if shown(f, complement(each)) == weight]
            own = [factor for factor in factors if f.text(factor) == weight]
            others = [factor for factor in factors if factor not in taken and factor not in own]
            if len(taken) == len(own) == 1 and isinstance(others[0], cst.Name | cst.Attribute):
                return others[0]
        op = operation(f, each, "lerp")
        if op is not None and isinstance(each, cst.Call):
            by = value(f, each, "weight", op.shift + 1)
            if by is not None and f.text(by) == weight and isinstance(op.subject, cst.Name | cst.Attribute):
                return op.subject
    return None


@operator(
    "gp-no-create-graph",
    cst.Call,
    category="generative",
    difficulty=4,
    symptom="The penalty is printed with plausible values, and nothing ever makes it smaller.",
    hints=(
        "LOOK: backpropagate the penalty alone; which parameters receive a gradient?",
        "WHERE: how `{function}` obtains the slope.",
        "WHAT: can what was computed there be differentiated once more?",
    ),
    repair="Ask for a graph of the gradient, since the penalty is differentiated again.",
    mechanism=(
        "The penalty depends on the weights only through a gradient. Unless that gradient is itself"
        " recorded, it is a constant: the term is right in value and has no influence on any parameter."
    ),
    evidence=(),
    examples=(
        Example(
            row="gp-no-create-graph",
            before=(
                "import torch\n\ndef penalty(s, x):\n"
                "    g = torch.autograd.grad(s.sum(), x, create_graph=True)[0]\n    return g.norm()\n"
            ),
            after=(
                "import torch\n\ndef penalty(s, x):\n"
                "    g = torch.autograd.grad(s.sum(), x, create_graph=False)[0]\n    return g.norm()\n",
            ),
        ),
    ),
    counterexamples=("loss.backward(create_graph=True)\n", "g = grad(y, x, create_graph=keep)\n"),
)
def no_create_graph(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    graph = f.arg(node, "create_graph", None)
    if graph is None or f.text(graph.value) != "True" or last_name(node.func) != "grad":
        return
    if within(f, node, "penalty", "norm", "gp", "lipschitz", "square", "pow"):
        yield Proposal(edits=(f.replace(graph.value, "False"),))
