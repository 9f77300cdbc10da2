"""Mistakes in networks on graphs: who is a neighbour, how sums are scaled, which way edges point."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    binary,
    called,
    function_of,
    last_name,
    mentions,
    number,
)
from bughunt_mutator.operators._look_models import put, released, sources, together, words
from bughunt_mutator.operators._sources import issue
from bughunt_mutator.source import SourceFile

GRAPHS = ("adj", "edge", "neigh", "graph", "gcn", "degree", "deg_")
ENDS = {
    ("src", "dst"),
    ("row", "col"),
    ("rows", "cols"),
    ("source", "target"),
    ("sources", "targets"),
    ("sender", "receiver"),
    ("senders", "receivers"),
    ("s", "t"),
    ("u", "v"),
}


def on_a_graph(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether the function around a node has to do with neighbours."""
    return mentions(function_of(f, node), *GRAPHS)


def is_identity(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression is the identity matrix."""
    if isinstance(node, cst.Call):
        return (f.qname(node.func) or "") in ("torch.eye", "numpy.eye", "numpy.identity")
    origins = sources(f, node) if isinstance(node, cst.Name) else []
    return bool(origins) and all(isinstance(each, cst.Call) and is_identity(f, each) for each in origins)


@operator(
    "gnn-no-self-loop",
    cst.BinaryOperation,
    cst.Call,
    cst.SimpleStatementLine,
    category="architecture",
    difficulty=4,
    symptom="Accuracy is a point or two lower; nodes with strange neighbours suffer most.",
    hints=(
        "LOOK: change the features of one node; does its own answer move after one layer?",
        "WHERE: who counts as a neighbour in `{function}`.",
        "WHAT: does a node hear itself?",
    ),
    repair="Add each node to its own neighbours before normalising.",
    mechanism=(
        "A layer replaces the features of a node by the mean of its neighbours. Unless a node is"
        " among its own neighbours, what it knew about itself is lost in every layer and comes back"
        " only in a roundabout way, over two steps."
    ),
    evidence=(issue("danielegrattarola/keras-gat", 11), issue("pyg-team/pytorch_geometric", 6251)),
    examples=(
        Example(
            row="gnn-no-self-loop",
            before="import torch\n\ndef norm(adj):\n    a = adj + torch.eye(len(adj))\n"
            "    return a / torch.sum(a, 1)\n",
            after=("import torch\n\ndef norm(adj):\n    a = adj\n    return a / torch.sum(a, 1)\n",),
        ),
        Example(
            before="import torch\n\ndef f(edges, n):\n    loops = torch.arange(n).expand(2, n)\n"
            "    both = torch.cat([edges, loops], dim=1)\n    return torch.unique(both)\n",
            after=("import torch\n\ndef f(edges, n):\n    both = edges\n    return torch.unique(both)\n",),
        ),
        Example(
            before="def f(adj):\n    adj.fill_diagonal_(1)\n    return adj\n",
            after=("def f(adj):\n    return adj\n",),
        ),
    ),
    counterexamples=(
        "import torch\ncov = x.T @ x + torch.eye(3)\n",
        "import torch\n\ndef f(adj, extra):\n    return torch.cat([adj, extra], dim=1)\n",
    ),
)
def no_self_loop(
    f: SourceFile, node: cst.BinaryOperation | cst.Call | cst.SimpleStatementLine
) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        call = called(node)
        filled = call is not None and last_name(call.func) == "fill_diagonal_" and len(call.args) == 1
        if filled and call is not None and number(call.args[0].value) == 1 and on_a_graph(f, node):
            yield Proposal(edits=(f.delete_statement(node),))
        return
    pair = None
    if isinstance(node, cst.BinaryOperation) and (sides := binary(node, cst.Add)) is not None:
        pair = next(((a, b) for a, b in (sides, sides[::-1]) if is_identity(f, b)), None)
    elif isinstance(node, cst.Call) and f.qname(node.func) in ("torch.cat", "numpy.concatenate"):
        pair = with_loops(f, node)
    if pair is None or not on_a_graph(f, node):
        return
    if (gone := released(f, pair[1])) is not None:
        yield Proposal(edits=together(*gone, put(f, node, f.text(pair[0]))))


def with_loops(f: SourceFile, node: cst.Call) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """The edges and the loops that a call puts together."""
    parts = node.args[0].value if node.args else None
    if not isinstance(parts, cst.List | cst.Tuple) or len(parts.elements) != 2:
        return None
    edges, loops = (element.value for element in parts.elements)
    looped = words(f.text(loops)) & {"loop", "loops", "self", "own"}
    return (edges, loops) if looped and mentions(edges, "edge", "adj", "src", "index") else None


@operator(
    "gnn-degree-wrong",
    cst.BinaryOperation,
    category="architecture",
    difficulty=4,
    symptom="Nodes with many neighbours get answers of another size than those with few.",
    hints=(
        "LOOK: compare the matrix that is applied with its transpose.",
        "WHERE: how sums over neighbours are scaled in `{function}`.",
        "WHAT: by whose number of neighbours is a message divided?",
    ),
    repair="Divide by the roots of both degrees, the sender's and the receiver's.",
    mechanism=(
        "With both roots, the matrix is symmetric and no eigenvalue exceeds one. With only one of"
        " them, a sum over d neighbours is still larger by the root of d, so busy nodes grow from"
        " layer to layer."
    ),
    evidence=(issue("Emory-Melody/GraphSlim", 4),),
    examples=(
        Example(
            row="gnn-degree-wrong",
            before="def norm(adj):\n    r = adj.sum(1) ** -0.5\n    return r[:, None] * adj * r[None, :]\n",
            after=("def norm(adj):\n    r = adj.sum(1) ** -0.5\n    return r[:, None] * adj\n",),
        ),
        Example(
            before="def f(edges, root, src, dst):\n    return root[src] * root[dst]\n",
            after=("def f(edges, root, src, dst):\n    return root[src]\n",),
        ),
        Example(before="a_hat = D @ adj @ D\n", after=("a_hat = D @ adj\n",)),
    ),
    counterexamples=("y = r[:, None] * x * r[None, :]\n", "def f(adj, x):\n    return adj @ x @ w\n"),
)
def degree_wrong(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Multiply, cst.MatrixMultiply)
    if sides is None:
        return
    first = sides[0]
    inner = binary(first, type(node.operator))
    while inner is not None:
        first, inner = inner[0], binary(inner[0], type(node.operator))
    if vector(f, first) and vector(f, first) == vector(f, sides[1]) and not mentions(first, "adj"):
        if not on_a_graph(f, node):
            return
        gone = released(f, sides[1])
        if gone is not None:
            yield Proposal(edits=(*gone, f.replace(node, f.text(sides[0]))))


def vector(f: SourceFile, node: cst.BaseExpression) -> str:
    """The name behind an index or a new axis."""
    if isinstance(node, cst.Subscript):
        return f.text(node.value)
    if isinstance(node, cst.Call) and last_name(node.func) in ("unsqueeze", "view", "reshape"):
        return f.text(node.func).rpartition(".")[0]
    factor = isinstance(node, cst.Name) and isinstance(f.parent.get(node), cst.BinaryOperation)
    return f.text(node) if factor else ""


@operator(
    "gnn-edge-direction",
    cst.Assign,
    category="architecture",
    difficulty=4,
    symptom="On a graph with one-way edges, nodes seem to learn from the wrong side.",
    hints=(
        "LOOK: on a graph of one edge from a to b, change a; whose answer moves?",
        "WHERE: how `{function}` takes the list of edges apart.",
        "WHAT: which row holds the senders?",
    ),
    repair="Take senders and receivers in the order in which the edges are stored.",
    mechanism=(
        "Messages run against the edges. Where each edge is stored in both directions that changes"
        " nothing, which is why it is easily missed; on a directed graph, every node hears those"
        " whom it should talk to."
    ),
    examples=(
        Example(
            row="gnn-edge-direction",
            before="src, dst = edge_index\n",
            after=("dst, src = edge_index\n",),
        ),
        Example(
            before="def f(x, edges):\n    row, col = edges[0], edges[1]\n    return x[row] - x[col]\n",
            after=("def f(x, edges):\n    col, row = edges[0], edges[1]\n    return x[row] - x[col]\n",),
        ),
    ),
    counterexamples=("src, dst = paths\n", "a, b = edge_index\n"),
)
def edge_direction(f: SourceFile, node: cst.Assign) -> Iterator[Proposal]:
    target = node.targets[0].target
    if not isinstance(target, cst.Tuple) or len(target.elements) != 2:
        return
    ends = [element.value for element in target.elements]
    named = tuple(f.text(each) for each in ends)
    if (named in ENDS or named[::-1] in ENDS) and mentions(node.value, "edge", "graph", "adj", "links"):
        yield Proposal(edits=f.swap(ends[0], ends[1]))
