"""Mistakes in normalisation, dropout and weight decay."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import keyword, last_name, number, operation, orphans
from bughunt_mutator.operators._sources import DEEP_CHECKER, DEEP_CRIME, issue, pull
from bughunt_mutator.source import SourceFile


@operator(
    "bn-momentum-off",
    cst.Call,
    cst.Param,
    rows=("bn-momentum-tf", "bn-momentum-zero"),
    category="norm-regularisation",
    difficulty=3,
    symptom="Training looks perfect; the same rows are answered worse in evaluation mode.",
    hints=(
        "LOOK: compare the running statistics with those of the whole data set.",
        "WHERE: how fast statistics are updated in `{function}`.",
        "WHAT: how much of the past should one batch replace?",
    ),
    repair="Let each batch replace a tenth of the running statistics.",
    mechanism=(
        "In evaluation, batch normalisation uses its running statistics. If they follow only the"
        " last batch, or never move from their start, the model meets values it was not trained on."
    ),
    evidence=(
        issue("pytorch/vision", 8250),
        issue("r9y9/tacotron_pytorch", 19),
        issue("Cadene/pretrained-models.pytorch", 5),
    ),
    examples=(
        Example(
            row="bn-momentum-tf",
            before="from torch import nn\nnorm = nn.BatchNorm2d(8)\n",
            after=(
                "from torch import nn\nnorm = nn.BatchNorm2d(8, momentum=0.99)\n",
                "from torch import nn\nnorm = nn.BatchNorm2d(8, momentum=0.0)\n",
            ),
        ),
        Example(
            row="bn-momentum-zero",
            before="class BatchNorm:\n    def __init__(self, n, momentum=0.1):\n        pass\n",
            after=(
                "class BatchNorm:\n    def __init__(self, n, momentum=0.99):\n        pass\n",
                "class BatchNorm:\n    def __init__(self, n, momentum=0.0):\n        pass\n",
            ),
        ),
    ),
    counterexamples=(
        "from torch import nn\nnorm = nn.LayerNorm(8)\n",
        "def sgd(momentum=0.9):\n    pass\n",
    ),
)
def bn_momentum(f: SourceFile, node: cst.Call | cst.Param) -> Iterator[Proposal]:
    rates = (("bn-momentum-tf", "0.99"), ("bn-momentum-zero", "0.0"))
    if isinstance(node, cst.Param):
        home = f.class_(node)
        norm = home is not None and "norm" in home.name.value.lower()
        if norm and node.name.value == "momentum" and number(node.default) is not None:
            assert node.default is not None
            for row, rate in rates:
                yield Proposal(edits=(f.replace(node.default, rate),), row=row)
    elif (f.qname(node.func) or "").startswith("torch.nn.BatchNorm"):
        given = keyword(node, "momentum")
        for row, rate in rates:
            edit = f.replace(given.value, rate) if given else f.insert_arg(node, f"momentum={rate}")
            yield Proposal(edits=(edit,), row=row)


@operator(
    "bn-no-running-update",
    cst.SimpleStatementLine,
    category="norm-regularisation",
    difficulty=3,
    symptom="Training looks perfect; evaluation is far off.",
    hints=(
        "LOOK: print the running statistics at the start and at the end.",
        "WHERE: what a training step leaves behind in `{function}`.",
        "WHAT: what will be used when there is no batch to measure?",
    ),
    repair="Update the running statistics in every training step.",
    mechanism="One of the running statistics keeps its first value, and evaluation relies on it.",
    evidence=(pull("paiml/aprender", 2166),),
    examples=(
        Example(
            row="bn-no-running-update",
            before="if on:\n    self.running_mean.lerp_(mean, 0.1)\n    self.n += 1\n",
            after=("if on:\n    self.n += 1\n",),
        ),
    ),
    counterexamples=("m = self.running_mean\n",),
)
def bn_no_update(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    text = f.text(node).strip()
    moves = any(word in text for word in ("lerp_(", "mul_(", "copy_(", "+=", ".add_("))
    if text.startswith(("self.running_mean", "self.running_var")) and moves and not orphans(f, node):
        yield Proposal(edits=(f.delete_statement(node),))


@operator(
    "ln-unbiased-std",
    cst.Call,
    category="norm-regularisation",
    difficulty=4,
    symptom="Results differ from a trusted layer's in the second digit.",
    hints=(
        "LOOK: normalise two numbers and print what comes out.",
        "WHERE: the spread in `{function}`.",
        "WHAT: is the sum of squares divided by N or by N - 1?",
    ),
    repair="Divide by N.",
    mechanism=(
        "Normalisation layers divide by N. The default of `var` and `std` divides by N - 1, which"
        " makes everything a little smaller, most where the row is short."
    ),
    evidence=(pull("harvardnlp/annotated-transformer", 119), issue("codertimo/BERT-pytorch", 30)),
    examples=(
        Example(
            row="ln-unbiased-std",
            before="v = x.var(-1, unbiased=False)\n",
            after=("v = x.var(-1)\n",),
        ),
        Example(
            before="import torch\nv = torch.var(x, dim=0, correction=0)\n",
            after=("import torch\nv = torch.var(x, dim=0)\n",),
        ),
    ),
    counterexamples=("v = x.var(-1, unbiased=True)\n",),
)
def unbiased(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    given = keyword(node, "unbiased", "correction")
    if (
        given is not None
        and operation(f, node, "var", "std", "var_mean")
        and f.text(given.value) in ("False", "0")
    ):
        yield Proposal(edits=(f.delete_arg(node, given),))


@operator(
    "dropout-keep-prob",
    cst.AnnAssign,
    cst.Call,
    category="norm-regularisation",
    difficulty=1,
    symptom="The training loss stays high, while held-out data do almost as well.",
    hints=(
        "LOOK: compare the loss of one batch in training and in evaluation mode.",
        "WHERE: the numbers in `{function}`.",
        "WHAT: is this the share that is kept or the share that is dropped?",
    ),
    repair="Give the share that is dropped.",
    mechanism="Nearly all units are dropped at each step, and what is left is mostly noise.",
    evidence=(DEEP_CRIME, "https://arxiv.org/abs/2110.10135"),
    examples=(
        Example(
            row="dropout-keep-prob",
            before="from torch import nn\nd = nn.Dropout(0.1)\n",
            after=("from torch import nn\nd = nn.Dropout(0.9)\n",),
        ),
        Example(
            before="class Config:\n    dropout: float = 0.02\n",
            after=("class Config:\n    dropout: float = 0.98\n",),
        ),
    ),
    counterexamples=("from torch import nn\nd = nn.Dropout(p)\n", "class C:\n    d: int = 1\n"),
)
def keep_prob(f: SourceFile, node: cst.AnnAssign | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.AnnAssign):
        rate = node.value if last_name(node.target) in ("dropout", "p_drop") else None
    else:
        layer = f.qname(node.func) == "torch.nn.Dropout" and node.args
        rate = node.args[0].value if layer else None
    if rate is not None and 0 < (number(rate) or 0) < 0.5:
        yield Proposal(edits=(f.replace(rate, f"{1 - (number(rate) or 0):g}"),))


@operator(
    "wd-missing",
    cst.Call,
    category="norm-regularisation",
    difficulty=3,
    symptom="Training is fine; the weights grow, and held-out results are a little worse.",
    hints=(
        "LOOK: plot the norm of the weights over time.",
        "WHERE: the settings of the optimiser in `{function}`.",
        "WHAT: what keeps weights small?",
    ),
    repair="Pass the weight decay to the optimiser.",
    mechanism="Without decay nothing keeps weights small, and the model fits noise in the long run.",
    evidence=(DEEP_CRIME, DEEP_CHECKER),
    examples=(
        Example(
            row="wd-missing",
            before="import torch\no = torch.optim.SGD(ps, lr=0.1, weight_decay=1e-3)\n",
            after=("import torch\no = torch.optim.SGD(ps, lr=0.1)\n",),
        ),
    ),
    counterexamples=("import torch\no = torch.optim.SGD(ps, lr=0.1)\n",),
)
def wd_missing(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    given = keyword(node, "weight_decay")
    if (given is not None and (f.qname(node.func) or "").startswith("torch.optim.")) and not orphans(
        f, given
    ):
        yield Proposal(edits=(f.delete_arg(node, given),))
