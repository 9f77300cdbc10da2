"""Mistakes in diffusion models: the schedule, the noise levels and the way back."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import binary, inside, last_name, number, operation, value
from bughunt_mutator.operators._look_diffusion import LEVELS, asked, is_level, is_signal
from bughunt_mutator.operators._look_meaning import (
    complement,
    everywhere,
    holder,
    later_reads,
    named,
    resolved,
    says,
    within,
)
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile


def cut(f: SourceFile, node: cst.CSTNode) -> cst.Subscript | None:
    """The `[:-1]` of a schedule."""
    if isinstance(node, cst.Subscript) and f.text(node).replace(" ", "").endswith("[:-1]"):
        return node if is_signal(f, node.value) else None
    return None


@operator(
    "ddpm-alpha-prev-pad",
    cst.Call,
    category="generative",
    difficulty=5,
    symptom="The training loss is exactly as good as before; the samples are not.",
    hints=(
        "LOOK: print the first three and the last three values of each list of the schedule.",
        "WHERE: how `{function}` makes one list from another.",
        "WHAT: which noise level does each entry of the shifted list belong to?",
    ),
    repair="Shift the schedule by one towards later levels, and put a one in front.",
    mechanism=(
        "The way back needs the share of signal one level further down. Shifted to the other side, the list"
        " holds the level above, so variances of the steps back come out negative or far too large. Training"
        " never reads this list, and its loss cannot show it."
    ),
    evidence=(issue("lucidrains/denoising-diffusion-pytorch", 18),),
    examples=(
        Example(
            row="ddpm-alpha-prev-pad",
            before=(
                "import torch.nn.functional as F\nac = alphas.cumprod(0)\n"
                "prev = F.pad(ac[:-1], (1, 0), value=1.0)\n"
            ),
            after=(
                (
                    "import torch.nn.functional as F\nac = alphas.cumprod(0)\n"
                    "prev = F.pad(ac[1:], (0, 1), value=1.0)\n"
                ),
            ),
        ),
        Example(
            before="import torch\nprev = torch.cat([torch.ones(1), alpha_bars[:-1]])\n",
            after=("import torch\nprev = torch.cat([alpha_bars[1:], torch.ones(1)])\n",),
        ),
        Example(
            before="import numpy as np\nprev = np.append(1.0, alphas_cumprod[:-1])\n",
            after=("import numpy as np\nprev = np.append(alphas_cumprod[1:], 1.0)\n",),
        ),
    ),
    counterexamples=(
        "import torch.nn.functional as F\ny = F.pad(x[:-1], (1, 0), value=1.0)\n",
        "import torch\ny = torch.cat([first, alpha_bars[1:]])\n",
    ),
)
def prev_pad(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    name = last_name(node.func)
    if name == "pad" and len(node.args) >= 2 and (old := cut(f, node.args[0].value)) is not None:
        sides = node.args[1].value
        if f.text(sides).replace(" ", "") in ("(1,0)", "[1,0]"):
            turned = "(0, 1)" if isinstance(sides, cst.Tuple) else "[0, 1]"
            yield Proposal(edits=(f.replace(old, f"{f.text(old.value)}[1:]"), f.replace(sides, turned)))
    elif name in ("cat", "concat", "concatenate", "hstack", "append"):
        pair = [each.value for each in node.args if each.keyword is None]
        if len(pair) >= 1 and isinstance(pair[0], cst.List | cst.Tuple):
            pair = [element.value for element in pair[0].elements]
        if len(pair) == 2 and (old := cut(f, pair[1])) is not None:
            tail = f"{f.text(old.value)}[1:]"
            yield Proposal(edits=(f.replace(pair[0], tail), f.replace(pair[1], f.text(pair[0]))))


@operator(
    "ddpm-cosine-linspace",
    cst.BinaryOperation,
    category="generative",
    difficulty=5,
    symptom="Nearly everything is as it should be; the noisiest level is not quite what it is said to be.",
    hints=(
        "LOOK: print the share of the signal at the first and at the last level.",
        "WHERE: the range that `{function}` runs through.",
        "WHAT: does the progress go from exactly zero to exactly one?",
    ),
    repair="Divide by the last value of the range, so that progress ends at one.",
    mechanism=(
        "A range of so many steps has one more point than steps. Mixing up the two numbers stretches or"
        " shortens the schedule a little: the last level keeps some signal, or passes the turning point of"
        " the cosine. Sampling starts from pure noise, which the network has then never seen."
    ),
    evidence=(issue("lucidrains/denoising-diffusion-pytorch", 19),),
    examples=(
        Example(
            row="ddpm-cosine-linspace",
            before=(
                "import torch\n\ndef schedule(T, s):\n    x = torch.linspace(0, T, T + 1)\n"
                "    return torch.cos((x / T + s) / (1 + s) * 1.57) ** 2\n"
            ),
            after=(
                "import torch\n\ndef schedule(T, s):\n    x = torch.linspace(0, T, T + 1)\n"
                "    return torch.cos((x / (T + 1) + s) / (1 + s) * 1.57) ** 2\n",
                "import torch\n\ndef schedule(T, s):\n    x = torch.linspace(0, T + 1, T + 1)\n"
                "    return torch.cos((x / T + s) / (1 + s) * 1.57) ** 2\n",
            ),
        ),
        Example(
            before="import torch\n\ndef f(T):\n    t = torch.arange(T + 1) / T\n    return t.cos() ** 2\n",
            after=(
                "import torch\n\ndef f(T):\n    t = torch.arange(T + 1) / (T + 1)\n    return t.cos() ** 2\n",
            ),
        ),
    ),
    counterexamples=("import torch\n\ndef f(T):\n    return torch.arange(T + 1) / T\n", "y = cos(x / T)\n"),
)
def cosine_linspace(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is None or not within(f, node, "cos"):
        return
    made = resolved(f, sides[0])
    op = operation(f, made, "linspace", "arange") or ranged(f, made)
    if op is None or not isinstance(made, cst.Call) or number(sides[1]) is not None:
        return
    steps = f.text(sides[1])
    if last_name(made.func) == "arange" and len(made.args) and f.text(made.args[0].value) == f"{steps} + 1":
        yield Proposal(edits=(f.replace(sides[1], f"({steps} + 1)"),))
        return
    first, last, count = value(f, made, "start", 0), value(f, made, "end", 1), value(f, made, "steps", 2)
    if first is None or last is None or count is None or number(first) != 0 or f.text(last) != steps:
        return
    longer = f.text(count) if isinstance(count, cst.Name) else f"{steps} + 1"
    if f.text(resolved(f, count)) == f"{steps} + 1":
        yield Proposal(edits=(f.replace(sides[1], longer if longer.isidentifier() else f"({longer})"),))
        yield Proposal(edits=(f.replace(last, longer),))


def ranged(f: SourceFile, node: cst.BaseExpression) -> cst.Call | None:
    """A call of `linspace` or `arange`, whose first argument may be a number."""
    known = ("torch.linspace", "torch.arange", "numpy.linspace", "numpy.arange")
    return node if isinstance(node, cst.Call) and f.qname(node.func) in known else None


@operator(
    "ddpm-posterior-var",
    cst.BinaryOperation,
    category="generative",
    difficulty=4,
    symptom="Training is untouched, and the samples are smoother and fewer in kind than the data.",
    hints=(
        "LOOK: draw a step back many times from one point, and compare the spread with the formula.",
        "WHERE: the variance in `{function}`.",
        "WHAT: by how much does knowing the noisy point narrow down the cleaner one?",
    ),
    repair="Divide by the share of the noise at the level itself.",
    mechanism=(
        "The variance of a step back is beta times the noise below over the noise here. Without the"
        " division it is too small wherever the noise here is not yet complete, so late steps hardly move"
        " points apart. Only sampling uses it."
    ),
    evidence=(pull("varun-ml/diffusion-models-tutorial", 1),),
    examples=(
        Example(
            row="ddpm-posterior-var",
            before="alpha_bar = a.cumprod(0)\nvar = betas * (1 - alpha_bar_prev) / (1 - alpha_bar)\n",
            after=("alpha_bar = a.cumprod(0)\nvar = betas * (1 - alpha_bar_prev)\n",),
        ),
        Example(
            before="v = (1 - abar[t - 1]) / (1 - abar[t]) * beta[t]\n",
            after=("v = (1 - abar[t - 1]) * beta[t]\n",),
        ),
    ),
    counterexamples=(
        "c = betas * alpha_bar_prev.sqrt() / (1 - alpha_bar)\n",
        "c = (1 - alpha_bar_prev) * alpha.sqrt() / (1 - alpha_bar)\n",
    ),
)
def posterior_var(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is None or not is_signal(f, complement(sides[1])):
        return
    factors = list(binary(sides[0], cst.Multiply) or (sides[0],))
    outer = f.parent.get(node)
    whole = binary(outer, cst.Multiply)
    if whole is not None:
        factors.append(whole[1] if whole[0] is node else whole[0])
    has_beta = any(says(factor, "beta", "betas") and not says(factor, "sqrt") for factor in factors)
    below = [rest for factor in factors if (rest := complement(factor)) is not None]
    if has_beta and any(f.text(rest) != f.text(complement(sides[1]) or node) for rest in below):
        yield Proposal(edits=(f.replace(node, f.text(sides[0])),))


@operator(
    "ddpm-t-off-by-one",
    cst.Call,
    category="generative",
    difficulty=4,
    symptom="Samples are a little worse than they could be, most of all in their finest details.",
    hints=(
        "LOOK: print the level that the noise was made for beside the level that the network is told.",
        "WHERE: what `{function}` hands to the network.",
        "WHAT: do noise and network count levels from the same number?",
    ),
    repair="Tell the network the very level at which the sample is noised.",
    mechanism=(
        "The network is asked about one level and shown another. In training it learns the shifted meaning"
        " and then disagrees with the sampler; in sampling it takes away the noise of a neighbouring level"
        " in every step, and the differences add up."
    ),
    evidence=(pull("Stability-AI/stablediffusion", 96), issue("huggingface/diffusers", 11347)),
    examples=(
        Example(
            row="ddpm-t-off-by-one",
            before=(
                "def loss(model, x, t, e):\n    a = alpha_bar[t]\n    return mse(model(a * x + e, t), e)\n"
            ),
            after=(
                (
                    "def loss(model, x, t, e):\n    a = alpha_bar[t]\n"
                    "    return mse(model(a * x + e, t + 1), e)\n"
                ),
            ),
        ),
        Example(
            before=(
                "def loss(self, x, t, e):\n    y = self.q_sample(x, t, e)\n"
                "    return mse(self.net(y, t / 9), e)\n"
            ),
            after=(
                (
                    "def loss(self, x, t, e):\n    y = self.q_sample(x, t, e)\n"
                    "    return mse(self.net(y, (t + 1) / 9), e)\n"
                ),
            ),
        ),
    ),
    counterexamples=("def f(model, x, t):\n    return model(x, t)\n", "y = alpha_bar[t]\nz = log(x, t)\n"),
)
def t_off_by_one(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    level = asked(node)
    if level is None or looked_up(f):
        return
    for name in inside(level.value, cst.Name):
        above = f.parent[name]
        if not (isinstance(above, cst.Attribute) and above.attr is name) and is_level(f, name):
            yield Proposal(edits=(f.replace(name, f"{name.value} + 1"),))
            return


def looked_up(f: SourceFile) -> bool:
    """Whether levels are rows of a table, which has none after the last."""
    return any(
        last_name(call.func) == "Embedding"
        and call.args
        and says(call.args[0], *LEVELS, "steps", "diffusion")
        for call in everywhere(f, cst.Call)
    )


@operator(
    "ddpm-no-sqrt",
    cst.Call,
    category="generative",
    difficulty=4,
    symptom="The loss is as low as ever, and the samples look washed out.",
    hints=(
        "LOOK: noise standardised data up to each level, and print its variance.",
        "WHERE: how `{function}` mixes signal and noise.",
        "WHAT: which of two numbers adds up to one, the shares or their squares?",
    ),
    repair="Scale the signal by the root of its share.",
    mechanism=(
        "Shares of variance add up to one, so amplitudes are their roots. With the share itself as the"
        " amplitude, noisy samples are too weak at every level in between. The network learns these weak"
        " samples happily, while the way back assumes the right ones."
    ),
    evidence=(),
    examples=(
        Example(
            row="ddpm-no-sqrt",
            before=(
                "def noised(x, t, e):\n    a = alpha_bar[t]\n    return a.sqrt() * x + (1 - a).sqrt() * e\n"
            ),
            after=("def noised(x, t, e):\n    a = alpha_bar[t]\n    return a * x + (1 - a).sqrt() * e\n",),
        ),
        Example(
            before="import torch\nroots = torch.sqrt(alphas_cumprod)\n",
            after=("import torch\nroots = alphas_cumprod\n",),
        ),
        Example(
            before="import torch\nself.register_buffer('roots', torch.sqrt(alphas_cumprod))\n",
            after=("import torch\nself.register_buffer('roots', alphas_cumprod)\n",),
        ),
    ),
    counterexamples=(
        "s = variance.sqrt() * e\n",
        "x = y / alpha_bar.sqrt()\n",
        "c = alpha_bar_prev.sqrt() * beta\n",
    ),
)
def no_sqrt(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "sqrt")
    if op is None or not is_signal(f, op.subject) or says(op.subject, "prev", "next", "before", "previous"):
        return
    above = f.parent.get(node)
    kept = f.parent.get(above) if isinstance(above, cst.Arg) else None
    buffered = isinstance(kept, cst.Call) and last_name(kept.func) == "register_buffer"
    if binary(above, cst.Multiply) or isinstance(above, cst.Assign) or buffered:
        yield Proposal(edits=(f.replace(node, f.text(op.subject)),))


@operator(
    "ddpm-shared-t",
    cst.Call,
    category="generative",
    difficulty=4,
    symptom="The loss jumps up and down from step to step, and learning takes longer.",
    hints=(
        "LOOK: print the noise levels of one batch.",
        "WHERE: how `{function}` draws them.",
        "WHAT: how many independent levels does one update see?",
    ),
    repair="Draw a level for each sample of the batch.",
    mechanism=(
        "All samples of a batch share one level, so an update improves a single level and the loss depends"
        " mainly on which one was drawn. The average over many steps is right; its variance is that of a"
        " batch of one."
    ),
    evidence=(),
    examples=(
        Example(
            row="ddpm-shared-t",
            before=(
                "import torch\nt = torch.randint(0, T, (len(x),), device=x.device)\n"
                "l = loss(net, x, t, noise)\n"
            ),
            after=(
                "import torch\nt = torch.randint(0, T, (1,), device=x.device).expand(len(x))\n"
                "l = loss(net, x, t, noise)\n",
            ),
        ),
        Example(
            before=(
                "import torch\ntimesteps = torch.randint(T, size=x.shape[:1]).long()\na = sigma[timesteps]\n"
            ),
            after=(
                "import torch\ntimesteps = torch.randint(T, size=(1,)).expand(x.shape[:1]).long()\n"
                "a = sigma[timesteps]\n",
            ),
        ),
        Example(
            before="import torch\ntime = torch.rand(n, 1)\nv = velocity(x, time)\n",
            after=("import torch\ntime = torch.rand(1, 1).expand(n, 1)\nv = velocity(x, time)\n",),
        ),
    ),
    counterexamples=(
        "import torch\nt = torch.randint(0, T, (n,))\ny = loss(x, t)\n",
        "import torch\nt = torch.randint(0, T, (1,))\ny = noise(x, t)\n",
    ),
)
def shared_t(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    drawn = f.qname(node.func)
    target = holder(f, node)
    if drawn not in ("torch.randint", "torch.rand") or target is None or not named(target, *LEVELS):
        return
    if not says(f.module, *DIFFUSION) or not isinstance(target, cst.Name) or not handed_on(f, node, target):
        return
    if drawn == "torch.rand":
        given = [each for each in node.args if each.keyword is None]
        if (
            0 < len(given) <= 2
            and number(given[0].value) is None
            and not isinstance(given[0].value, cst.Tuple)
        ):
            shape = ", ".join(f.text(each.value) for each in given)
            one = f.replace(given[0].value, "1")
            yield Proposal(edits=(one, after(f, node, f".expand({shape})")))
        return
    places = [each.value for each in node.args if each.keyword is None]
    named_size = f.arg(node, "size", None)
    size = named_size.value if named_size else places[-1] if places else None
    if size is None or (isinstance(size, cst.Tuple | cst.List) and fixed(size)):
        return
    inner = size.elements if isinstance(size, cst.Tuple | cst.List) else ()
    shape = ", ".join(f.text(element.value) for element in inner) or f.text(size)
    ones = "(1,)" if len(inner) < 2 else f"({', '.join('1' for _ in inner)})"
    yield Proposal(edits=(f.replace(size, ones), after(f, node, f".expand({shape})")))


DIFFUSION = (
    "noise",
    "noised",
    "diffusion",
    "denoise",
    "denoiser",
    "cumprod",
    "betas",
    "velocity",
    "flow",
    "sigma",
)


def handed_on(f: SourceFile, node: cst.Call, name: cst.Name) -> bool:
    """Whether what was drawn is given to a function along with something else, or picks from a schedule."""
    for read in later_reads(f, node, name.value):
        above = f.parent.get(read)
        call = f.parent.get(above) if isinstance(above, cst.Arg) else None
        if (isinstance(call, cst.Call) and len(call.args) > 1) or isinstance(above, cst.Index):
            return True
    return False


def after(f: SourceFile, node: cst.Call, more: str) -> Edit:
    """The edit that writes a method call behind a call."""
    end = f.span(node)[1]
    return f.edit(end, end, more)


def fixed(size: cst.Tuple | cst.List) -> bool:
    """Whether a shape holds one sample, or none that can be told."""
    return not size.elements or number(size.elements[0].value) is not None
