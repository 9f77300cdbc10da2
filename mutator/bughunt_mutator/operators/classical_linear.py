"""Mistakes in methods of linear algebra: principal axes, penalties, neighbours, filters."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    function_of,
    inside,
    keyword,
    last_name,
    mentions,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_parts import Cut, cuts, defined, home_says, is_number, says
from bughunt_mutator.operators._sources import DEEP_CRIME, TAXONOMY
from bughunt_mutator.source import SourceFile

SPECTRAL = ("eigh", "eig", "svd", "pca", "eigvecs", "eigenvectors")


def is_spectral(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the function or class around a node looks for principal axes."""
    spread = isinstance(f.parent.get(node), cst.Assign) and home_says(
        f, node, "scatter", "covariance", "covariances"
    )
    return spread or home_says(f, node, *SPECTRAL)


@operator(
    "pca-no-center",
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=2,
    symptom="The first axis points to where the data are, not to where they vary.",
    hints=(
        "LOOK: add a constant to all data; which of the results should change?",
        "WHERE: what `{function}` decomposes.",
        "WHAT: around which point is the spread measured?",
    ),
    repair="Subtract the mean of each column first.",
    mechanism=(
        "Spread is measured around the origin instead of around the mean. If the data lie far from"
        " the origin, the first axis is the way there, and explains nearly everything."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="pca-no-center",
            before="def pca(X, k):\n    Z = X - X.mean(0)\n    return svd(Z)\n",
            after=("def pca(X, k):\n    Z = X\n    return svd(Z)\n",),
        ),
        Example(
            before="class PCA:\n    def project(self, X):\n        return (X - self.mean) @ self.axes\n",
            after=("class PCA:\n    def project(self, X):\n        return X @ self.axes\n",),
        ),
        Example(
            before="def scatter(x, means, k):\n    c = x - means[k]\n    return c.T @ c\n\nm = f(means)\n",
            after=("def scatter(x, means, k):\n    c = x\n    return c.T @ c\n\nm = f(means)\n",),
        ),
    ),
    counterexamples=(
        "def f(X):\n    return X - X.mean(0)\n",
        "def pca(X):\n    m = X.mean(0)\n    return svd(X - m)\n",
    ),
)
def pca_no_center(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Subtract)
    if sides is None or not is_spectral(f, node) or orphans(f, sides[1]):
        return
    centre = sides[1].value if isinstance(sides[1], cst.Subscript) else sides[1]
    op = operation(f, sides[1], "mean")
    own = op is not None and f.text(op.subject) == f.text(sides[0])
    if own or (
        isinstance(centre, cst.Name | cst.Attribute)
        and says(centre, "mean", "means", "mu", "center", "centre")
    ):
        yield Proposal(edits=(f.replace(node, f.text(sides[0])),))


@operator(
    "pca-ascending",
    cst.Subscript,
    cst.Call,
    category="classical-ml",
    difficulty=2,
    symptom="What is kept explains next to nothing, and the rest nearly everything.",
    hints=(
        "LOOK: print the variances in the order in which they are used.",
        "WHERE: which axes `{function}` keeps.",
        "WHAT: in which order does the library return eigenvalues?",
    ),
    repair="Keep the axes with the largest variance.",
    mechanism=(
        "Eigenvalues of symmetric matrices come in ascending order. The first axes are those along"
        " which the data hardly vary, and projecting on them throws away what there is to see."
    ),
    evidence=(),
    examples=(
        Example(
            row="pca-ascending",
            before="def pca(C, k):\n    values, axes = eigh(C)\n    return axes[:, -k:]\n",
            after=("def pca(C, k):\n    values, axes = eigh(C)\n    return axes[:, :k]\n",),
        ),
        Example(
            before="def pca(C, k):\n    v, a = eigh(C)\n    return a[:, ::-1][:, :k]\n",
            after=("def pca(C, k):\n    v, a = eigh(C)\n    return a[:, :k]\n",),
        ),
        Example(
            before="def pca(C):\n    v, a = eigh(C)\n    order = v.argsort()[::-1]\n    return a[:, order]\n",
            after=("def pca(C):\n    v, a = eigh(C)\n    order = v.argsort()\n    return a[:, order]\n",),
        ),
        Example(
            before="import torch\nv, a = torch.linalg.eigh(C)\na = a.flip(1)\n",
            after=("import torch\nv, a = torch.linalg.eigh(C)\na = a\n",),
        ),
        Example(
            before="import numpy as np\nv, a = np.linalg.eigh(C)\no = np.argsort(-v)\n",
            after=("import numpy as np\nv, a = np.linalg.eigh(C)\no = np.argsort(v)\n",),
        ),
    ),
    counterexamples=("def last(x, k):\n    return x[:, -k:]\n", "v, a = eigh(C)\nb = a[:, :k]\n"),
)
def pca_ascending(f: SourceFile, node: cst.Subscript | cst.Call) -> Iterator[Proposal]:
    if not mentions(function_of(f, node), "eigh", "eig"):
        return
    if isinstance(node, cst.Call):
        given = keyword(node, "descending")
        op = operation(f, node, "flip")
        if op is not None and "eig" not in f.text(node):
            yield Proposal(edits=(f.replace(node, f.text(op.subject)),))
        falling = f.qname(node.func) == "numpy.argsort" and isinstance(node.args[0].value, cst.UnaryOperation)
        if falling and isinstance(node.args[0].value, cst.UnaryOperation):
            order = node.args[0].value
            yield Proposal(edits=(f.replace(order, f.text(order.expression)),))
        if (
            given is not None
            and last_name(node.func) in ("argsort", "sort")
            and last_name(given.value) == "True"
        ):
            yield Proposal(edits=(f.delete_arg(node, given),))
        return
    axes = cuts(f, node)
    last = axes[-1] if axes else None
    part = node.slice[-1].slice
    if not isinstance(last, Cut):
        return
    if last.lower.startswith("-") and not last.upper and not last.step:
        yield Proposal(edits=(f.replace(part, f":{last.lower[1:].strip()}"),))
    elif last == Cut("", "", "-1"):
        yield Proposal(edits=(f.replace(node, f.text(node.value)),))


@operator(
    "ridge-penalises-bias",
    cst.SimpleStatementLine,
    cst.Subscript,
    category="classical-ml",
    difficulty=4,
    symptom="Predictions are drawn towards zero as a whole, more so with a larger penalty.",
    hints=(
        "LOOK: add a constant to all targets; do predictions move by the same amount?",
        "WHERE: what `{function}` penalises.",
        "WHAT: which of the parameters should be free?",
    ),
    repair="Leave the bias out of the penalty.",
    mechanism=(
        "A penalty on slopes prefers flat answers. On the bias it prefers answers near zero, which"
        " is a claim about the unit of the targets, and shifts all predictions."
    ),
    evidence=(DEEP_CRIME,),
    examples=(
        Example(
            row="ridge-penalises-bias",
            before="def ridge(A, b, lam):\n    P = lam * I\n    P[0, 0] = 0\n    return solve(A + P, b)\n",
            after=("def ridge(A, b, lam):\n    P = lam * I\n    return solve(A + P, b)\n",),
        ),
        Example(
            before="def loss(w, lam):\n    return e + lam * (w[1:] ** 2).sum()\n",
            after=("def loss(w, lam):\n    return e + lam * (w ** 2).sum()\n",),
        ),
    ),
    counterexamples=("P[0, 0] = 0\n", "def f(w, s):\n    return s * (w[1:] ** 2).sum()\n"),
)
def bias_penalised(f: SourceFile, node: cst.SimpleStatementLine | cst.Subscript) -> Iterator[Proposal]:
    if not says(function_of(f, node), *PENALTIES):
        return
    if isinstance(node, cst.Subscript):
        axes = cuts(f, node)
        square = binary(f.parent.get(node), cst.Power, cst.MatrixMultiply) is not None
        if axes in ([Cut("1", "", "")], [Cut("", "-1", "")]) and square:
            yield Proposal(edits=(f.replace(node, f.text(node.value)),))
        return
    target, made = assigned(node) or (None, None)
    corner = cuts(f, target) in (["0", "0"], ["-1", "-1"], ["0"], ["-1"])
    if corner and is_number(made, 0) and not orphans(f, node):
        yield Proposal(edits=(f.delete_statement(node),))


PENALTIES = ("lam", "lamda", "lambda", "lmbda", "reg", "ridge", "penalty", "alpha", "decay", "l2", "c")


@operator(
    "svm-hinge-regulariser-sign",
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=2,
    symptom="The weights grow without end.",
    hints=(
        "LOOK: print the length of the weights during training.",
        "WHERE: the penalty in `{function}`.",
        "WHAT: should large weights cost something, or be rewarded?",
    ),
    repair="Let the penalty pull the weights towards zero.",
    mechanism=(
        "The penalty enters with the wrong sign, so that long weights are rewarded. Once all margins"
        " are met nothing else acts on them, and each step makes them longer."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="svm-hinge-regulariser-sign",
            before="def hinge_step(w, x, y, lam):\n    return lam * w - x.T @ y\n",
            after=("def hinge_step(w, x, y, lam):\n    return -lam * w - x.T @ y\n",),
        ),
        Example(
            before="def svm(w, lam):\n    return hinge + lam / 2 * (w @ w)\n",
            after=("def svm(w, lam):\n    return hinge - lam / 2 * (w @ w)\n",),
        ),
        Example(
            before="def svm(w, lr, lam):\n    w = (1 - lr * lam) * w\n",
            after=("def svm(w, lr, lam):\n    w = (1 + lr * lam) * w\n",),
        ),
    ),
    counterexamples=("def fit(w, lam):\n    return lam * w - g\n", "def svm(w, lam):\n    return lam * w\n"),
)
def penalty_sign(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    if not home_says(f, node, "hinge", "svm", "margin", "margins"):
        return
    for sign in (cst.Add, cst.Subtract):
        sides = binary(node, sign)
        if sides is None:
            continue
        left, right = sides
        if is_number(left, 1) and sign is cst.Subtract and binary(right, cst.Multiply):
            if says(right, *PENALTIES) and not says(right, *WEIGHTS, "y", "x", "margin", "margins"):
                yield Proposal(edits=(f.replace(node, f"{f.text(left)} + {f.text(right)}"),))
        elif is_penalty(left):
            yield Proposal(edits=(f.replace(left, f"-{f.text(left)}"),))
        elif is_penalty(right):
            other = "-" if sign is cst.Add else "+"
            yield Proposal(edits=(f.replace(node, f"{f.text(left)} {other} {f.text(right)}"),))


WEIGHTS = ("w", "weight", "weights", "coef", "theta", "beta")


def is_penalty(node: cst.BaseExpression) -> bool:
    """Whether a product is a strength times weights, or their square."""
    sides = binary(node, cst.Multiply)
    return sides is not None and any(
        says(one, *PENALTIES) and not says(one, *WEIGHTS) and says(other, *WEIGHTS)
        for one, other in (sides, sides[::-1])
    )


@operator(
    "tsne-p-not-symmetric",
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=5,
    symptom="The layout is a little poorer; outliers drift.",
    hints=(
        "LOOK: compare the affinity of two points in both directions; add up all affinities.",
        "WHERE: what `{function}` returns.",
        "WHAT: does it matter which of two points is asked first?",
    ),
    repair="Take the mean of both directions.",
    mechanism=(
        "The chance that A picks B is not the chance that B picks A. Without their mean, points far"
        " from all others are picked by nobody, and nothing holds them in place."
    ),
    evidence=(),
    examples=(
        Example(
            row="tsne-p-not-symmetric",
            before="def affinities(P, n):\n    return (P + P.T) / (2 * n)\n",
            after=("def affinities(P, n):\n    return P / n\n",),
        ),
        Example(
            before="def affinity(p):\n    p = (p + p.T) / 2\n    return p\n",
            after=("def affinity(p):\n    p = p\n    return p\n",),
        ),
        Example(
            before="def tsne(P):\n    P = P + P.T\n    return P / P.sum()\n",
            after=("def tsne(P):\n    P = P\n    return P / P.sum()\n",),
        ),
    ),
    counterexamples=("def f(P, n):\n    return (P + P.T) / (2 * n)\n", "def tsne(P):\n    return P + Q.T\n"),
)
def not_symmetric(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    said = ("tsne", "affinity", "affinities", "perplexity", "neighbour", "neighbor", "sne")
    if sides is None or not mentions(function_of(f, node), *said):
        return
    plain, turned = f.text(sides[0]), f.text(sides[1])
    if turned not in (f"{plain}.T", f"{plain}.t()", f"{plain}.mT", f"{plain}.transpose()"):
        return
    quotient = f.parent.get(node)
    under = binary(quotient, cst.Divide)
    if quotient is None or under is None or under[0] is not node:
        yield Proposal(edits=(f.replace(node, plain),))
        return
    rest = binary(under[1], cst.Multiply)
    if is_number(under[1], 2):
        yield Proposal(edits=(f.replace(quotient, plain),))
    elif rest is not None and is_number(rest[0], 2):
        yield Proposal(edits=(f.replace(quotient, f"{plain} / {f.text(rest[1])}"),))
    elif rest is not None and is_number(rest[1], 2):
        yield Proposal(edits=(f.replace(quotient, f"{plain} / {f.text(rest[0])}"),))
    else:
        yield Proposal(edits=(f.replace(node, plain),))


@operator(
    "knn-self-included",
    cst.Subscript,
    cst.SimpleStatementLine,
    cst.CompFor,
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=2,
    symptom="On the rows at hand every answer is right.",
    hints=(
        "LOOK: print the distances to the neighbours of one row.",
        "WHERE: which neighbours `{function}` keeps.",
        "WHAT: who is the nearest neighbour of a row among all rows?",
    ),
    repair="Leave out the row itself.",
    mechanism=(
        "A row is its own nearest neighbour, at distance zero. If it may vote, it brings its own"
        " answer along, and the measure says nothing about rows that are new."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="knn-self-included",
            before="near = distances.argsort(1)[:, 1 : k + 1]\n",
            after=("near = distances.argsort(1)[:, :k]\n",),
        ),
        Example(
            before="near = d.topk(k + 1, largest=False).indices[:, 1:]\n",
            after=("near = d.topk(k, largest=False).indices\n",),
        ),
        Example(
            before="import numpy as np\n\ndef f(d):\n    np.fill_diagonal(d, np.inf)\n    np.argmin(d)\n",
            after=("import numpy as np\n\ndef f(d):\n    np.argmin(d)\n",),
        ),
        Example(
            before="others = [j for j in near if j != row]\n",
            after=("others = [j for j in near]\n",),
        ),
        Example(
            before="import numpy as np\no = np.argsort(d + np.diag(np.full(n, np.inf)), axis=1)\n",
            after=("import numpy as np\no = np.argsort(d, axis=1)\n",),
        ),
    ),
    counterexamples=(
        "near = tokens[:, 1 : k + 1]\n",
        "near = d.argsort(1)[:, :k]\n",
        "import numpy as np\nnp.fill_diagonal(d, 0)\nx = np.argsort(d)\n",
    ),
)
def self_included(
    f: SourceFile, node: cst.Subscript | cst.SimpleStatementLine | cst.CompFor | cst.BinaryOperation
) -> Iterator[Proposal]:
    if isinstance(node, cst.CompFor):
        if len(node.ifs) == 1 and leaves_itself_out(f, node.ifs[0].test):
            yield Proposal(edits=(f.edit(f.span(node.iter)[1], f.span(node.ifs[0].test)[1], ""),))
        return
    if isinstance(node, cst.BinaryOperation):
        sides = binary(node, cst.Add)
        far = sides is not None and isinstance(sides[1], cst.Call) and last_name(sides[1].func) == "diag"
        if far and sides is not None and "inf" in f.text(sides[1]) and not orphans(f, sides[1]):
            yield Proposal(edits=(f.replace(node, f.text(sides[0])),))
        return
    if isinstance(node, cst.SimpleStatementLine):
        text = f.text(node).strip()
        sorts = mentions(function_of(f, node), "argsort", "topk", "argpartition", "argmin", "nearest")
        if "fill_diagonal" in text and "inf" in text and sorts and not orphans(f, node):
            yield Proposal(edits=(f.delete_statement(node),))
        return
    axes = cuts(f, node)
    last = axes[-1] if axes else None
    if not isinstance(last, Cut) or last.lower != "1" or last.step:
        return
    ranked: cst.BaseExpression = node.value
    if isinstance(ranked, cst.Name):
        ranked = defined(f, node, ranked.value) or ranked
    if last.upper.replace(" ", "").endswith("+1") and mentions(
        ranked, "argsort", "topk", "argpartition", "sort"
    ):
        count = last.upper.rpartition("+")[0].strip()
        yield Proposal(edits=(f.replace(node.slice[-1].slice, f":{count}"),))
    elif not last.upper:
        yield from _one_less(f, node)


def leaves_itself_out(f: SourceFile, test: cst.BaseExpression) -> bool:
    """Whether a test is that a neighbour is not the row that asks."""
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return False
    other = test.comparisons[0]
    pair = (test.left, other.comparator)
    plain = all(isinstance(each, cst.Name) and says(each, "row", "other", "i", "j") for each in pair)
    near = home_says(f, test, "near", "neighbour", "neighbours", "neighbor", "neighbors", "nearest")
    return plain and near and isinstance(other.operator, cst.NotEqual)


def _one_less(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    """Ask for k neighbours instead of k + 1 without the first."""
    for call in inside(node.value, cst.Call):
        op = operation(f, call, "topk")
        given = f.arg(call, "k", op.shift) if op is not None else None
        sides = binary(given.value, cst.Add) if given is not None else None
        if given is not None and sides is not None and is_number(sides[1], 1):
            smaller = f.replace(given.value, f.text(sides[0]))
            after = f.span(node.value)[1]
            yield Proposal(edits=(smaller, f.edit(after, f.span(node)[1], "")))
            return


@operator(
    "kalman-gain-transposed",
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=4,
    symptom="It stops because shapes do not fit, or the estimate runs away from what is observed.",
    hints=(
        "LOOK: print the shape of each matrix; try a state of two numbers, of which both are observed.",
        "WHERE: the products in `{function}`.",
        "WHAT: from which space to which does the gain lead?",
    ),
    repair="Multiply in the order that leads from observations to states.",
    mechanism=(
        "The gain turns a surprise in what is observed into a correction of the state. Multiplied the"
        " other way round it is transposed, which in one dimension cannot be seen."
    ),
    evidence=(),
    examples=(
        Example(
            row="kalman-gain-transposed",
            before="import numpy as np\nK = P @ H.T @ np.linalg.inv(S)\n",
            after=("import numpy as np\nK = np.linalg.inv(S) @ H @ P\n",),
        ),
        Example(
            before="import torch\nK = P @ H.mT @ S.inverse()\n",
            after=("import torch\nK = S.inverse() @ H @ P\n",),
        ),
    ),
    counterexamples=("K = P @ H @ inv(S)\n", "K = P @ H.T @ S\n"),
)
def gain_transposed(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    outer = binary(node, cst.MatrixMultiply)
    inner = binary(outer[0], cst.MatrixMultiply) if outer is not None else None
    if outer is None or inner is None or not isinstance(outer[1], cst.Call):
        return
    turned = inner[1]
    if last_name(outer[1].func) not in ("inv", "pinv", "inverse"):
        return
    if isinstance(turned, cst.Attribute) and turned.attr.value in ("T", "mT"):
        new = f"{f.text(outer[1])} @ {f.text(turned.value)} @ {f.text(inner[0])}"
        yield Proposal(edits=(f.replace(node, new),))
