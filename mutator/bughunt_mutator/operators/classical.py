"""Mistakes in clustering."""

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
    mentions,
    names_in,
    operation,
    orphans,
)
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.source import SourceFile

CLUSTERING = ("centroid", "center", "centre", "cluster", "chosen", "seed")


def clusters(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the function around a node speaks of clusters."""
    home = f.function(node)
    return home is not None and mentions(home, *CLUSTERING)


@operator(
    "kmeans-argmax",
    cst.Call,
    category="classical-ml",
    difficulty=1,
    symptom="The result gets worse from one iteration to the next, or never better.",
    hints=(
        "LOOK: print the objective after every iteration.",
        "WHERE: the choice in `{function}`.",
        "WHAT: which of the candidates is the best one?",
    ),
    repair="Choose the smallest.",
    mechanism="What is farthest, or worst, is chosen instead of what is nearest, or best.",
    evidence=("https://doi.org/10.1109/TIT.1982.1056489",),
    examples=(
        Example(
            row="kmeans-argmax",
            before="labels = distances.argmin(axis=1)\n",
            after=("labels = distances.argmax(axis=1)\n",),
        ),
        Example(
            before="import numpy as np\nbest = np.argmin(totals)\n",
            after=("import numpy as np\nbest = np.argmax(totals)\n",),
        ),
        Example(
            before="at = int(gain.argmax())\n",
            after=("at = int(gain.argmin())\n",),
        ),
        Example(
            before="def seeds(d, chosen):\n    gaps = d[:, chosen].min(axis=1)\n    return gaps\n",
            after=("def seeds(d, chosen):\n    gaps = d[:, chosen].max(axis=1)\n    return gaps\n",),
        ),
        Example(
            before="pair = min(pairs, key=lambda pair: order[pair])\n",
            after=("pair = max(pairs, key=lambda pair: order[pair])\n",),
        ),
    ),
    counterexamples=("labels = z.argmax(1)\n",),
)
def kmeans_argmax(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    chosen = node.func.value if isinstance(node.func, cst.Name) else ""
    if chosen in ("min", "max") and isinstance(node.func, cst.Name) and ranks_by_hand(node):
        yield Proposal(edits=(f.replace(node.func, "max" if chosen == "min" else "min"),))
        return
    op = operation(f, node, "argmin", "argmax", "min")
    if op is None or not isinstance(node.func, cst.Attribute):
        return
    if op.name == "argmin":
        yield Proposal(edits=(f.replace(node.func.attr, "argmax"),))
    elif op.name == "argmax" and mentions(op.subject, *MERITS):
        yield Proposal(edits=(f.replace(node.func.attr, "argmin"),))
    elif op.name == "min" and node.args[op.shift :] and nearest_so_far(f, node):
        yield Proposal(edits=(f.replace(node.func.attr, "max"),))


def ranks_by_hand(node: cst.Call) -> bool:
    """Whether a call takes the best of its first argument by a key that is written out."""
    key = keyword(node, "key")
    return key is not None and isinstance(key.value, cst.Lambda)


MERITS = ("gain", "fall", "improvement", "likelihood", "merit")


def nearest_so_far(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a smallest value is the distance to the nearest of the seeds chosen so far."""
    pair = assigned(f.statement(node))
    home = f.function(node)
    gaps = pair is not None and mentions(pair[0], "gap", "dist")
    return gaps and home is not None and mentions(home, "seed", "chosen")


@operator(
    "kmeanspp-not-squared",
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=5,
    symptom="Results are a little worse on average, and depend more on the seed.",
    hints=(
        "LOOK: count, over many seeds, how often each point is drawn first after the start.",
        "WHERE: the chances in `{function}`.",
        "WHAT: how does the chance of a point grow with its distance?",
    ),
    repair="Make the chance proportional to the squared distance.",
    mechanism=(
        "The guarantee of k-means++ rests on squared distances. With plain ones, points nearby are"
        " drawn too often, and far clusters are missed now and then."
    ),
    evidence=("https://theory.stanford.edu/~sergei/papers/kMeansPP-soda.pdf",),
    examples=(
        Example(
            row="kmeanspp-not-squared",
            before="def seeding(gaps):\n    return gaps / gaps.sum()\n",
            after=("def seeding(gaps):\n    return gaps**0.5 / (gaps**0.5).sum()\n",),
        ),
    ),
    counterexamples=("def share(w):\n    return w / w.sum()\n",),
)
def not_squared(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    home = f.function(node)
    op = operation(f, sides[1], "sum") if sides else None
    if sides is None or op is None or home is None or "seed" not in f.text(home):
        return
    x = f.text(sides[0])
    if isinstance(sides[0], cst.Name) and f.text(op.subject) == x:
        yield Proposal(edits=(f.replace(node, f"{x}**0.5 / ({x}**0.5).sum()"),))


@operator(
    "kmeans-empty-cluster",
    cst.IfExp,
    cst.Call,
    category="classical-ml",
    difficulty=3,
    symptom="On some seeds a part of the result is not a number, or fewer groups are left.",
    hints=(
        "LOOK: run it with more groups than there are distinct points.",
        "WHERE: the averages in `{function}`.",
        "WHAT: what is the mean of no points?",
    ),
    repair="Decide what becomes of a group without members.",
    mechanism="A group that has lost all its points has no mean; what is put there is lost for good.",
    evidence=(
        issue("subhadarship/kmeans_pytorch", 3),
        pull("EdoardoBotta/RQ-VAE-Recommender", 27),
        issue("mljs/kmeans", 9),
    ),
    examples=(
        Example(
            row="kmeans-empty-cluster",
            before=("def move(own, centroids, far):\n    return own.mean(axis=0) if len(own) > 0 else far\n"),
            after=("def move(own, centroids, far):\n    return own.sum(axis=0) / max(len(own), 1)\n",),
        ),
        Example(
            before="def move(sums, counts, centroids):\n    return sums / counts.clamp(min=1)\n",
            after=("def move(sums, counts, centroids):\n    return sums / counts\n",),
        ),
    ),
    counterexamples=("y = a if len(b) > 0 else c\n", "n = counts.clamp(min=1)\n"),
)
def empty_cluster(f: SourceFile, node: cst.IfExp | cst.Call) -> Iterator[Proposal]:
    if not clusters(f, node):
        return
    if isinstance(node, cst.Call):
        op = operation(f, node, "clamp")
        if op is not None and keyword(node, "min") and "count" in f.text(op.subject):
            yield Proposal(edits=(f.replace(node, f.text(op.subject)),))
        return
    op = operation(f, node.body, "mean")
    if op is None or op.shift or not f.text(node.test).startswith("len("):
        return
    own = f.text(op.subject)
    plain = f.replace(node, f"{own}.sum(axis=0) / max(len({own}), 1)")
    if not orphans(f, node.orelse):
        yield Proposal(edits=(plain,))
        return
    for line in inside(function_of(f, node), cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is not None and f.text(pair[0]) in names_in(node.orelse) and not orphans(f, pair[1]):
            yield Proposal(edits=(f.delete_statement(line), plain))
            return
