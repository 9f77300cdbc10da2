"""Mistakes in what is evaluated, and on what."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    called,
    function_of,
    inside,
    last_name,
    names_in,
    number,
    orphans,
)
from bughunt_mutator.operators._look_parts import calls, says
from bughunt_mutator.operators._sources import DEEP_CRIME, issue, pull
from bughunt_mutator.source import SourceFile

MEASURING = (
    "evaluate", "evaluation", "accuracy", "validate", "validation", "score", "error", "test", "metric",
    "metrics", "measure", "eval", "rmse", "mse", "auc", "perplexity",
)  # fmt: skip
HELD = re.compile("(?<![a-z])(validation|valid|val|held_out|held|heldout|test|dev)(?![a-z])")


def measures(node: cst.Call) -> bool:
    """Whether a call measures how good something is."""
    return says(node.func, *MEASURING)


@operator(
    "val-on-train",
    cst.Call,
    cst.SimpleStatementLine,
    category="eval-metrics",
    difficulty=1,
    symptom="Held-out results are as good as those in training, however much the model overfits.",
    hints=(
        "LOOK: count the rows that are evaluated; look one of them up in the training data.",
        "WHERE: which rows `{function}` asks about.",
        "WHAT: has the model seen the questions before?",
    ),
    repair="Evaluate on rows that were held out.",
    mechanism=(
        "The model is asked what it has been trained on. The answer tells how much it remembers, and"
        " nothing about new data; overfitting cannot be seen, and the wrong model is kept."
    ),
    evidence=(DEEP_CRIME,),
    examples=(
        Example(
            row="val-on-train",
            before="fit(net, x_train, y_train)\nloss = evaluate(net, x_val, y_val)\n",
            after=("fit(net, x_train, y_train)\nloss = evaluate(net, x_train, y_train)\n",),
        ),
        Example(
            before="training, validation = split(x)\nbest = score(net, *validation)\nfit(net, *training)\n",
            after=("training, validation = split(x)\nbest = score(net, *training)\nfit(net, *training)\n",),
        ),
        Example(
            before='a = accuracy(net, data["val"])\nfit(net, data["train"])\n',
            after=('a = accuracy(net, data["train"])\nfit(net, data["train"])\n',),
        ),
        Example(
            before="held_out = ones(n, dtype=bool)\nheld_out[drawn] = False\nfit(x[drawn])\ng(x[held_out])\n",
            after=("held_out = ones(n, dtype=bool)\nfit(x[drawn])\ng(x[held_out])\n",),
        ),
    ),
    counterexamples=(
        "loss = evaluate(net, x_val, y_val)\n",
        "fit(net, x_train)\nz = prepare(x_val)\n",
        "fit(net, x_train)\nz = score(net, value)\n",
    ),
)
def val_on_train(f: SourceFile, node: cst.Call | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        if leaves_out(node) and not orphans(f, node):
            yield Proposal(edits=(f.delete_statement(node),))
        return
    if not measures(node):
        return
    known = names_in(f.module) | {part.value for part in inside(f.module, cst.SimpleString)}
    edits, gone = [], []
    for given in node.args:
        for each in inside(given.value, cst.Name), inside(given.value, cst.SimpleString):
            for name in each:
                twin = _twin(name.value, known)
                if twin is not None:
                    edits.append(f.replace(name, twin))
                    gone.append(name)
    if edits and not orphans(f, *gone):
        yield Proposal(edits=tuple(edits))


def leaves_out(line: cst.SimpleStatementLine) -> bool:
    """Whether a line strikes the rows of training off the mask of those to be measured on."""
    target, made = assigned(line) or (None, None)
    if not isinstance(target, cst.Subscript) or last_name(made) != "False":
        return False
    mask, struck = target.value, target.slice[0].slice
    held = says(mask, "outside", "out", "held", "unseen", "val", "validation", "test", "oob", "left")
    return held and isinstance(struck, cst.Index) and isinstance(struck.value, cst.Name)


def _twin(name: str, known: frozenset[str] | set[str]) -> str | None:
    """The name of the training rows that goes with the name of held-out ones."""
    for word in ("train", "training", "tr", "fit"):
        twin = HELD.sub(word, name.lower() if name.islower() else name)
        if twin != name and twin in known:
            return twin
    return None


@operator(
    "patience-one",
    cst.Integer,
    category="eval-metrics",
    difficulty=1,
    symptom="The run ends early, while the model is still getting better.",
    hints=(
        "LOOK: print at which evaluation the run ends, and what it measured there.",
        "WHERE: how long `{function}` waits.",
        "WHAT: is one bad evaluation a reason to stop?",
    ),
    repair="Wait for more evaluations than noise needs to pass.",
    mechanism=(
        "A measure goes up and down by chance. With no patience the first step in the wrong"
        " direction ends the run, long before there is nothing left to learn."
    ),
    evidence=(DEEP_CRIME,),
    examples=(
        Example(row="patience-one", before="patience: int = 15\n", after=("patience: int = 1\n",)),
        Example(before="stop = EarlyStopping(patience=5)\n", after=("stop = EarlyStopping(patience=1)\n",)),
        Example(
            before="def fit(net, patience=3):\n    pass\n",
            after=("def fit(net, patience=1):\n    pass\n",),
        ),
        Example(before="PATIENCE = 8\n", after=("PATIENCE = 1\n",)),
    ),
    counterexamples=("patience = 1\n", "steps: int = 15\n", "x = f(patience, 5)\n"),
)
def patience_one(f: SourceFile, node: cst.Integer) -> Iterator[Proposal]:
    above = f.parent.get(node)
    name: cst.CSTNode | None = None
    if isinstance(above, cst.AnnAssign):
        name = above.target
    elif isinstance(above, cst.Assign) and len(above.targets) == 1:
        name = above.targets[0].target
    elif isinstance(above, cst.Arg):
        name = above.keyword
    elif isinstance(above, cst.Param):
        name = above.name
    if "patience" in last_name(name).lower() and (number(node) or 0) > 1:
        yield Proposal(edits=(f.replace(node, "1"),))


AVERAGED = ("ema", "average", "averaged", "shadow", "swa", "teacher", "slow")
RAW = ("model", "net", "network", "student", "raw", "online", "fast")
USING = (*MEASURING, "predict", "generate", "sample", "update", "check")


@operator(
    "eval-wrong-weights",
    cst.Call,
    cst.SimpleStatementLine,
    category="eval-metrics",
    difficulty=4,
    symptom="Results are a little off, more so early in the run or when steps are large.",
    hints=(
        "LOOK: evaluate both sets of weights and compare with what is reported.",
        "WHERE: which weights `{function}` asks.",
        "WHAT: are those that are measured those that are meant to be used?",
    ),
    repair="Evaluate the weights that will be used.",
    mechanism=(
        "There are two copies of the model: one that is trained, and one that follows it smoothly."
        " The measure is taken from one and the decision concerns the other."
    ),
    evidence=(issue("huggingface/pytorch-image-models", 245),),
    examples=(
        Example(
            row="eval-wrong-weights",
            before="def fit(model, ema, x):\n    step(model, x)\n    return evaluate(ema, x)\n",
            after=("def fit(model, ema, x):\n    step(model, x)\n    return evaluate(model, x)\n",),
        ),
        Example(
            before="def f(net, x):\n    ema = twin(net)\n    s.update(score(ema, x), ema)\n",
            after=(
                "def f(net, x):\n    ema = twin(net)\n    s.update(score(net, x), ema)\n",
                "def f(net, x):\n    ema = twin(net)\n    s.update(score(ema, x), net)\n",
            ),
        ),
        Example(
            before="def last(model, ema):\n    model.load_state_dict(ema.state_dict())\n    return model\n",
            after=("def last(model, ema):\n    return model\n",),
        ),
    ),
    counterexamples=(
        "def f(ema, x):\n    return evaluate(ema, x)\n",
        "def f(model, ema, decay):\n    ema_update(ema, model, decay)\n",
        "def f(a, b):\n    a.load_state_dict(b.state_dict())\n",
    ),
)
def wrong_weights(f: SourceFile, node: cst.Call | cst.SimpleStatementLine) -> Iterator[Proposal]:
    if isinstance(node, cst.SimpleStatementLine):
        call = called(node)
        copies = call is not None and last_name(call.func) in ("load_state_dict", "copy_to", "apply_shadow")
        paired = call is not None and says(call, *AVERAGED) and says(call, *RAW)
        if copies and paired and not orphans(f, node):
            yield Proposal(edits=(f.delete_statement(node),))
        return
    home = f.function(node)
    if home is None or not (says(node.func, *USING) and last_name(node.func)):
        return
    raw = next((name for name in RAW if name in names_in(home)), None)
    for given in node.args:
        averaged = isinstance(given.value, cst.Name) and says(given.value, *AVERAGED)
        alone = not any(isinstance(each.value, cst.Name) and each.value.value == raw for each in node.args)
        if averaged and raw is not None and alone and not orphans(f, given.value):
            yield Proposal(edits=(f.replace(given.value, raw),))


NOISY = ("reparameterize", "reparameterise", "reparametrize", "reparam", "sample", "rsample", "sample_latent")


@operator(
    "elbo-eval-deterministic",
    cst.Call,
    cst.BinaryOperation,
    category="eval-metrics",
    difficulty=5,
    symptom="The bound that is reported is a little better than theory allows.",
    hints=(
        "LOOK: compute the bound several times for one input; does it vary, and should it?",
        "WHERE: which code `{function}` decodes.",
        "WHAT: the bound is an expectation; over what?",
    ),
    repair="Sample the code in evaluation as well.",
    mechanism=(
        "The reconstruction term is an expectation over codes. Decoding the mean alone gives a"
        " number that is easier to get and that is no bound of anything."
    ),
    evidence=(pull("pytorch/examples", 419),),
    examples=(
        Example(
            row="elbo-eval-deterministic",
            before="def elbo(net, x):\n    z = net.reparameterize(mu, logvar)\n    return net.decode(z)\n",
            after=("def elbo(net, x):\n    z = mu\n    return net.decode(z)\n",),
        ),
        Example(
            before=(
                "import torch\nfrom torch import nn\n\nclass V(nn.Module):\n    def draw(self, mu, std):\n"
                "        return mu + std * torch.randn_like(std)\n"
            ),
            after=(
                "import torch\nfrom torch import nn\n\nclass V(nn.Module):\n    def draw(self, mu, std):\n"
                "        return mu + std * torch.randn_like(std) if self.training else mu\n",
            ),
        ),
    ),
    counterexamples=(
        "def train(net, x):\n    z = net.reparameterize(mu, logvar)\n",
        "def f(mu, std):\n    return mu + std\n",
    ),
)
def deterministic_elbo(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    home = f.function(node)
    if home is None:
        return
    if isinstance(node, cst.Call):
        bound = says(home.name, "elbo", "bound", *MEASURING)
        mean = node.args[0].value if node.args else None
        named = last_name(mean).lower() in ("mu", "mean", "loc", "means", "z_mean")
        sampled = bound and named and last_name(node.func) in NOISY
        if sampled and mean is not None and not orphans(f, *(each.value for each in node.args[1:])):
            yield Proposal(edits=(f.replace(node, f.text(mean)),))
        return
    sides = binary(node, cst.Add)
    above = f.class_(node)
    module = above is not None and any(last_name(base.value) == "Module" for base in above.bases)
    if sides is None or not module or not isinstance(f.parent.get(node), cst.Return):
        return
    for mean, noise in (sides, sides[::-1]):
        random = any(calls(noise, "randn_like", "randn")) or _named_noise(f, noise)
        if random and last_name(mean).lower() in ("mu", "mean", "loc"):
            new = f"{f.text(node)} if self.training else {f.text(mean)}"
            yield Proposal(edits=(f.replace(node, new),))
            return


def _named_noise(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether a name in an expression was drawn in the same function."""
    for line in inside(function_of(f, node), cst.SimpleStatementLine):
        target, made = assigned(line) or (None, None)
        used = isinstance(target, cst.Name) and target.value in names_in(node)
        if used and made is not None and any(calls(made, "randn_like", "randn")):
            return True
    return False
