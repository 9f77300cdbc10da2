"""Mistakes with many small probabilities, and with paths through hidden states."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    bare,
    binary,
    enclosing,
    function_of,
    inside,
    last_name,
    loop_of,
    mentions,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_meaning import base, resolved, tidy
from bughunt_mutator.operators._look_parts import closed, home_says, says
from bughunt_mutator.operators._sources import TAXONOMY
from bughunt_mutator.source import SourceFile


@operator(
    "nb-prob-underflow",
    cst.Call,
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=2,
    symptom="With few features all is well; with many, answers are not numbers, or always the same class.",
    hints=(
        "LOOK: print the smallest number on the way to the answer, for inputs with many features.",
        "WHERE: how `{function}` combines the features.",
        "WHAT: what is a product of a thousand numbers below one half, to a computer?",
    ),
    repair="Add logarithms; never multiply the probabilities.",
    mechanism=(
        "Products of many probabilities fall below the smallest number that can be stored and"
        " become zero for every class. The logarithm of that is minus infinity, and nothing decides."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="nb-prob-underflow",
            before="import numpy as np\n\ndef naive_bayes(p):\n    return np.log(p).sum(axis=1)\n",
            after=("import numpy as np\n\ndef naive_bayes(p):\n    return np.log(p.prod(axis=1))\n",),
        ),
        Example(
            before="def bayes(p):\n    return p.log().sum(1)\n",
            after=("def bayes(p):\n    return p.prod(1).log()\n",),
        ),
        Example(
            before="import numpy as np\n\ndef bayes(p):\n    return np.sum(np.log(p), axis=-1)\n",
            after=("import numpy as np\n\ndef bayes(p):\n    return np.log(np.prod(p, axis=-1))\n",),
        ),
        Example(
            before="import numpy as np\n\ndef bayes(x, prior, p):\n    return x @ np.log(p).T\n",
            after=(
                "import numpy as np\n\ndef bayes(x, prior, p):\n"
                "    return np.log((p ** x[:, None]).prod(-1))\n",
            ),
        ),
        Example(
            before="import numpy as np\n\ndef bayes(log_lik):\n    return log_lik.sum(-1)\n",
            after=(
                "import numpy as np\n\ndef bayes(log_lik):\n    return np.log(np.exp(log_lik).prod(-1))\n",
            ),
        ),
    ),
    counterexamples=(
        "import numpy as np\n\ndef loss(p):\n    return np.log(p).sum(axis=1)\n",
        "def bayes(p):\n    return p.sum(1)\n",
    ),
)
def product_of_many(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if not home_says(f, node, "bayes", "naive", "nb", "prior", "priors", "likelihoods"):
        return
    new = _power_of(f, node) if isinstance(node, cst.BinaryOperation) else _product_of(f, node)
    if new is not None:
        yield Proposal(edits=(f.replace(node, new),))


def _power_of(f: SourceFile, node: cst.BinaryOperation) -> str | None:
    """The product over features of `p ** count`, for `counts @ log(p).T`."""
    sides = binary(node, cst.MatrixMultiply)
    if sides is None or not isinstance(sides[1], cst.Attribute) or sides[1].attr.value not in ("T", "mT"):
        return None
    log = operation(f, sides[1].value, "log")
    if log is None:
        return None
    product = f"({closed(f.text(log.subject))} ** {closed(f.text(sides[0]))}[:, None]).prod(-1)"
    return f"{f.text(log.call.func)}({product})" if log.shift else f"{product}.log()"


def _product_of(f: SourceFile, node: cst.Call) -> str | None:
    """The logarithm of a product, for a sum of logarithms."""
    op = operation(f, node, "sum")
    if op is None or not node.args[op.shift :]:
        return None
    rest = ", ".join(f.text(each).rstrip(", ") for each in node.args[op.shift :])
    log = operation(f, op.subject, "log")
    if log is None:
        return _product_of_exp(f, op.subject, rest) if not op.shift else None
    inner = f.text(log.subject)
    if op.shift and log.shift:
        multiply = f.text(node.func)[: -len("sum")] + "prod"
        return f"{f.text(log.call.func)}({multiply}({inner}, {rest}))"
    product = f"{closed(inner)}.prod({rest})"
    return f"{f.text(log.call.func)}({product})" if log.shift else f"{product}.log()"


def _product_of_exp(f: SourceFile, logs: cst.BaseExpression, rest: str) -> str | None:
    if not says(logs, "log", "logs") or isinstance(logs, cst.BinaryOperation):
        return None
    numpy = f.spelling("numpy")
    if numpy is not None:
        return f"{numpy}.log({numpy}.exp({bare(f, logs)}).prod({rest}))"
    return f"{closed(f.text(logs))}.exp().prod({rest}).log()" if f.spelling("torch") else None


MIXTURE = ("em", "gmm", "mixture", "responsibilities", "responsibility", "resp", "components")
CHAIN = ("hmm", "alpha", "emission", "emissions", "transition", "transitions", "emit", "trans")


@operator(
    "em-no-logsumexp",
    cst.Call,
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=3,
    symptom="Short or low-dimensional data work; beyond some size, results are not numbers.",
    hints=(
        "LOOK: print the largest logarithm that is exponentiated.",
        "WHERE: the way from logarithms to their sum in `{function}`.",
        "WHAT: what is exp(-800), and what is its logarithm?",
    ),
    repair="Take out the largest term before the exponential, and put it back after the logarithm.",
    mechanism=(
        "Densities of many dimensions, or chances of long sequences, are smaller than any number that"
        " can be stored. Their exponentials are all zero, and the logarithm of zero is lost for good."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="em-no-logsumexp",
            before="def em_step(x):\n    total = x.logsumexp(1, keepdim=True)\n",
            after=("def em_step(x):\n    total = x.exp().sum(1, keepdim=True).log()\n",),
        ),
        Example(
            before="import torch\n\ndef mixture(x):\n    return torch.logsumexp(x, dim=1)\n",
            after=("import torch\n\ndef mixture(x):\n    return torch.exp(x).sum(dim=1).log()\n",),
        ),
        Example(
            before=(
                "import numpy as np\n\ndef mixture(x):\n    m = x.max(1)\n"
                "    return m + np.log(np.exp(x - m[:, None]).sum(1))\n"
            ),
            after=("import numpy as np\n\ndef mixture(x):\n    return np.log(np.exp(x).sum(1))\n",),
        ),
    ),
    counterexamples=(
        "import torch\n\ndef loss(x):\n    return torch.logsumexp(x, dim=1)\n",
        "from scipy.special import logsumexp\n\ndef gmm(x):\n    return logsumexp(x, 1)\n",
    ),
)
def no_logsumexp(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        yield from _unshifted(f, node)
        return
    new = _naive(f, node) if home_says(f, node, *MIXTURE) else None
    if new is not None:
        yield Proposal(edits=(f.replace(node, new),))


def _unshifted(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    """`m + log(sum(exp(x - m)))` without the largest term m, in a file on mixtures."""
    sides = binary(node, cst.Add)
    log = operation(f, sides[1], "log") if sides is not None else None
    if sides is None or log is None or not says(f.module, *MIXTURE):
        return
    for exp in inside(log.subject, cst.Call):
        op = operation(f, exp, "exp")
        shift = binary(op.subject, cst.Subtract) if op is not None else None
        largest = operation(f, resolved(f, sides[0]), "max", "amax")
        if op is None or shift is None or largest is None:
            continue
        if f.text(shift[0]) == f.text(largest.subject) and f.text(base(shift[1])) == f.text(sides[0]):
            start, whole = f.span(log.call)[0], f.text(log.call)
            begin, end = (place - start for place in f.span(op.subject))
            plainly = f.replace(node, whole[:begin] + f.text(shift[0]) + whole[end:])
            lines = tidy(f, sides[0], shift[1])
            yield Proposal(edits=(*(lines or ()), plainly))
            return


def _naive(f: SourceFile, node: cst.Call) -> str | None:
    """The logarithm of a sum of exponentials as it is defined."""
    op = operation(f, node, "logsumexp")
    numpy = f.spelling("numpy")
    if op is not None and not op.shift:
        rest = ", ".join(f.text(each).rstrip(", ") for each in node.args)
        return f"{f.text(op.subject)}.exp().sum({rest}).log()"
    name = f.qname(node.func) or ""
    if not node.args or node.args[0].keyword is not None:
        return None
    inner = f.text(node.args[0].value)
    rest = ", ".join(f.text(each).rstrip(", ") for each in node.args[1:])
    if name in ("torch.logsumexp", "torch.special.logsumexp") and f.spelling("torch") is not None:
        return f"{f.spelling('torch')}.exp({inner}).sum({rest}).log()"
    known = name in ("scipy.special.logsumexp", "numpy.logaddexp.reduce")
    own = isinstance(node.func, cst.Name) and node.func.value in ("logsumexp", "log_sum_exp")
    if (
        (known or (own and rest))
        and numpy is not None
        and (name.startswith("numpy") or not orphans(f, node.func))
    ):
        return f"{numpy}.log({numpy}.exp({inner}).sum({rest}))"
    return None


@operator(
    "hmm-unscaled",
    cst.AugAssign,
    cst.Call,
    category="classical-ml",
    difficulty=3,
    symptom="Short sequences are scored well, long ones get minus infinity.",
    hints=(
        "LOOK: print the smallest message for a sequence of a thousand steps.",
        "WHERE: what `{function}` passes from one step to the next.",
        "WHAT: how does the chance of a sequence change with its length?",
    ),
    repair="Bring the message to a sum of one in each step, and add up the logarithms of its sums.",
    mechanism=(
        "Each step multiplies by chances below one. After some hundred steps the message is smaller"
        " than any number that can be stored: all states have chance zero, and nothing is left."
    ),
    evidence=(),
    examples=(
        Example(
            row="hmm-unscaled",
            before=(
                "import numpy as np\n\ndef forward(alpha, A):\n    total = 0.0\n    for e in E:\n"
                "        alpha = alpha @ A * e\n        c = alpha.sum()\n        alpha = alpha / c\n"
                "        total += np.log(c)\n    return total\n"
            ),
            after=(
                "import numpy as np\n\ndef forward(alpha, A):\n    total = 0.0\n    for e in E:\n"
                "        alpha = alpha @ A * e\n        c = alpha.sum()\n"
                "        total = np.log(c)\n    return total\n",
            ),
        ),
        Example(
            before=(
                "import numpy as np\n\ndef forward(alpha, c):\n    for t in range(T):\n"
                "        c[t] = alpha[t].sum()\n        alpha[t] /= c[t]\n    return np.log(c).sum()\n"
            ),
            after=(
                "import numpy as np\n\ndef forward(alpha, c):\n    for t in range(T):\n"
                "        c[t] = alpha[t].sum()\n    return np.log(c[-1])\n",
            ),
        ),
        Example(
            before=(
                "import numpy as np\n\ndef forward(a, emission):\n"
                "    return logsumexp(a[:, None] + A, axis=0) + emission\n"
            ),
            after=(
                "import numpy as np\n\ndef forward(a, emission):\n"
                "    return np.log(np.exp(a[:, None] + A).sum(axis=0)) + emission\n",
            ),
        ),
    ),
    counterexamples=(
        "import numpy as np\n\ndef f(alpha):\n    total += np.log(c)\n",
        "import numpy as np\n\ndef forward(alpha, c):\n    return np.log(c).sum()\n",
    ),
)
def scaling_dropped(f: SourceFile, node: cst.AugAssign | cst.Call) -> Iterator[Proposal]:
    if not says(function_of(f, node), *CHAIN):
        return
    if isinstance(node, cst.AugAssign):
        log = operation(f, node.value, "log")
        if log is None or loop_of(f, node) is None or not isinstance(node.operator, cst.AddAssign):
            return
        scaled = _scalings(f, node, f.text(log.subject))
        new = f.replace(node, f"{f.text(node.target)} = {f.text(node.value)}")
    else:
        yield from _log_space_left(f, node)
        total = operation(f, node, "sum")
        log = operation(f, total.subject, "log") if total is not None else None
        if total is None or log is None or node.args[total.shift :]:
            return
        scaled = _scalings(f, node, f.text(log.subject))
        last = f"{f.text(log.subject)}[-1]"
        new = f.replace(node, f"{f.text(log.call.func)}({last})" if log.shift else f"{last}.log()")
    if scaled:
        yield Proposal(edits=(*scaled, new))


def _log_space_left(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    new = None if home_says(f, node, *MIXTURE) else _naive(f, node)
    if new is not None:
        yield Proposal(edits=(f.replace(node, new),))


def _scalings(f: SourceFile, node: cst.CSTNode, scale: str) -> list[Edit]:
    """The edits that delete the lines which divide a message by its scale."""
    found = []
    for line in inside(function_of(f, node), cst.SimpleStatementLine):
        only = line.body[0]
        target, made = assigned(line) or (None, None)
        sides = binary(made, cst.Divide)
        under: cst.BaseExpression | None = None
        if isinstance(only, cst.AugAssign) and isinstance(only.operator, cst.DivideAssign):
            under = only.value
        elif target is not None and sides is not None and f.text(sides[0]) == f.text(target):
            under = sides[1]
        if under is not None and (f.text(under) == scale or f.text(under).startswith(f"{scale}[")):
            found.append(f.delete_statement(line))
    return found


@operator(
    "viterbi-backpointer",
    cst.Subscript,
    cst.For,
    category="classical-ml",
    difficulty=4,
    symptom="The score of the best path is right, and the path is not the one with that score.",
    hints=(
        "LOOK: score the path that is returned by hand, and compare with the score beside it.",
        "WHERE: the way back in `{function}`.",
        "WHAT: which step wrote down how its states were reached?",
    ),
    repair="Go back with the pointers of the step that is being left.",
    mechanism=(
        "The pointers of a step say where its states came from. Read from another step, they lead to"
        " states that are likely there, along transitions that nobody chose."
    ),
    evidence=(),
    examples=(
        Example(
            row="viterbi-backpointer",
            before="for t in reversed(range(T - 1)):\n    path[t] = back[t + 1][path[t + 1]]\n",
            after=("for t in reversed(range(T - 1)):\n    path[t] = back[t][path[t + 1]]\n",),
        ),
        Example(
            before="for t in range(T - 1, 0, -1):\n    state = pointers[t, state]\n",
            after=("for t in range(T - 1, 0, -1):\n    state = pointers[t - 1, state]\n",),
        ),
        Example(
            before="for step in reversed(backpointers):\n    path.append(step[path[-1]])\n",
            after=("for step in backpointers:\n    path.append(step[path[-1]])\n",),
        ),
    ),
    counterexamples=(
        "for t in range(T):\n    back[t] = scores.argmax(0)\n",
        "for t in range(T):\n    a = alpha[t + 1]\n",
    ),
)
def wrong_pointer(f: SourceFile, node: cst.Subscript | cst.For) -> Iterator[Proposal]:
    if isinstance(node, cst.For):
        source = node.iter
        back = isinstance(source, cst.Call) and last_name(source.func) == "reversed" and len(source.args) == 1
        if back and isinstance(source, cst.Call) and is_pointers(source.args[0].value):
            yield Proposal(edits=(f.replace(source, f.text(source.args[0].value)),))
        return
    loop = loop_of(f, node)
    if loop is None or not is_pointers(node.value) or enclosing(f, node, cst.AssignTarget) is not None:
        return
    part = node.slice[0].slice
    if not isinstance(part, cst.Index) or not isinstance(loop, cst.For):
        return
    step = f.text(loop.target)
    sides = binary(part.value, cst.Add)
    if sides is not None and f.text(sides[0]) == step:
        yield Proposal(edits=(f.replace(part.value, step),))
    elif f.text(part.value) == step and isinstance(loop.target, cst.Name):
        yield Proposal(edits=(f.replace(part.value, f"{step} - 1"),))


def is_pointers(node: cst.BaseExpression) -> bool:
    """Whether a name is that of back pointers."""
    name = last_name(node).lower()
    return name in ("back", "bp", "bps", "psi", "ptr", "ptrs", "parents", "prev") or mentions(
        node, "pointer", "backp", "backtrace", "backtrack"
    )
