"""Mistakes in trees, forests and boosting."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    binary,
    inside,
    last_name,
    mentions,
    number,
    orphans,
)
from bughunt_mutator.operators._look_parts import closed, home_says, is_label, says
from bughunt_mutator.operators._sources import pull
from bughunt_mutator.source import SourceFile

BOOSTING = ("boost", "boosting", "boosted", "gbm", "gbdt", "stage", "stages", "rounds", "stump", "stumps")
RESIDUALS = ("residual", "residuals", "resid", "gradient", "gradients", "pseudo", "r", "errors")
LEARNERS = ("tree", "trees", "stump", "stumps", "learner", "learners", "estimator", "estimators")


def residual(
    f: SourceFile, node: cst.BinaryOperation
) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Targets and predictions of `y - p`, where boosting fits its next learner to the difference."""
    sides = binary(node, cst.Subtract)
    if sides is not None and is_label(sides[1]) and slope_of_loss(f, node):
        return sides
    if sides is None or not is_label(sides[0]) or not home_says(f, node, *BOOSTING, *LEARNERS):
        return None
    pair = assigned(f.statement(node))
    named = pair is not None and pair[1] is node and says(pair[0], *RESIDUALS)
    given = f.parent.get(node)
    call = f.parent.get(given) if isinstance(given, cst.Arg) else None
    fitted = isinstance(call, cst.Call) and says(call.func, "fit", "grow", *LEARNERS)
    return sides if named or fitted else None


def slope_of_loss(f: SourceFile, node: cst.BinaryOperation) -> bool:
    """Whether a difference is the slope to which a file of boosted trees fits the next of them."""
    home = f.function(node)
    named = home is not None and says(home.name, "slope", "slopes", "gradient", "gradients", "grad")
    return named and says(f.module, "boost", "boosting", "leaf") and says(f.module, *LEARNERS)


@operator(
    "gbm-residual-sign",
    cst.BinaryOperation,
    cst.UnaryOperation,
    category="classical-ml",
    difficulty=2,
    symptom="The training loss grows with every round.",
    hints=(
        "LOOK: print the training loss after each round.",
        "WHERE: what the next learner is fitted to in `{function}`.",
        "WHAT: in which direction would a prediction have to move to get nearer to its target?",
    ),
    repair="Fit the next learner to targets minus predictions.",
    mechanism=(
        "Each learner predicts the error with the wrong sign, and adding it doubles the error rather"
        " than removing it. What is left grows by the same factor in every round."
    ),
    evidence=(pull("scikit-learn/scikit-learn", 22050), pull("scikit-learn/scikit-learn", 9885)),
    examples=(
        Example(
            row="gbm-residual-sign",
            before="def boost(x, y, out):\n    residual = y - out\n",
            after=("def boost(x, y, out):\n    residual = out - y\n",),
        ),
        Example(
            before="def boost(x, y, out):\n    trees.append(grow_tree(x, y - out))\n",
            after=("def boost(x, y, out):\n    trees.append(grow_tree(x, out - y))\n",),
        ),
        Example(
            before="def leaf_value(slope, bend):\n    return -slope / bend\n",
            after=("def leaf_value(slope, bend):\n    return slope / bend\n",),
        ),
    ),
    counterexamples=("residual = y - out\n", "def boost(y, out):\n    return ((y - out) ** 2).mean()\n"),
)
def residual_sign(f: SourceFile, node: cst.BinaryOperation | cst.UnaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.UnaryOperation):
        home = f.function(node)
        leaf = home is not None and says(home.name, "leaf") and isinstance(node.operator, cst.Minus)
        if leaf and says(node.expression, "slope", "gradient", "grad", "g"):
            yield Proposal(edits=(f.replace(node, f.text(node.expression)),))
        return
    sides = residual(f, node)
    if sides is not None:
        yield Proposal(edits=(f.replace(node, f"{closed(f.text(sides[1]))} - {f.text(sides[0])}"),))


@operator(
    "gbm-sign-not-residual",
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=5,
    symptom="Decisions are good, but predicted values overshoot and are far too sure.",
    hints=(
        "LOOK: print the targets of the learners in a late round, where the fit is good.",
        "WHERE: what the next learner is fitted to in `{function}`.",
        "WHAT: how much should a row ask for that is nearly right?",
    ),
    repair="Fit the next learner to the size of the errors, not only to their direction.",
    mechanism=(
        "Each row asks for a full step, however small its error is. Near the solution the ensemble"
        " swings around the targets, and probabilities are driven to their limits."
    ),
    evidence=(pull("paiml/aprender", 2114),),
    examples=(
        Example(
            row="gbm-sign-not-residual",
            before="import numpy as np\n\ndef boost(x, y, out):\n    residual = y - out\n",
            after=("import numpy as np\n\ndef boost(x, y, out):\n    residual = np.sign(y - out)\n",),
        ),
        Example(
            before="import torch\n\ndef boost(x, y, out):\n    stump = fit_stump(x, y - out)\n",
            after=("import torch\n\ndef boost(x, y, out):\n    stump = fit_stump(x, torch.sign(y - out))\n",),
        ),
    ),
    counterexamples=(
        "def boost(x, y, out):\n    residual = y - out\n",
        "import numpy as np\nresidual = y - out\n",
    ),
)
def residual_direction(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    library = f.spelling("numpy") or f.spelling("torch")
    if library is not None and residual(f, node) is not None:
        text = f.text(node)[1:-1] if node.lpar else f.text(node)
        yield Proposal(edits=(f.replace(node, f"{library}.sign({text})"),))


STARTS = ("base", "init", "initial", "start", "prior", "bias", "f0", "intercept", "mean", "offset")


@operator(
    "gbm-init-missing-predict",
    cst.Call,
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=3,
    symptom="The training curve is fine, and predictions are all off by the same amount.",
    hints=(
        "LOOK: compare the mean of the predictions with the mean of the targets.",
        "WHERE: where `{function}` starts from.",
        "WHAT: what did the first learner correct?",
    ),
    repair="Start the prediction from the value that training started from.",
    mechanism=(
        "The learners correct an initial guess, the mean of the targets. Their sum alone is the"
        " correction without what it corrects, so everything is shifted by that guess."
    ),
    evidence=(pull("eriklindernoren/ML-From-Scratch", 92),),
    examples=(
        Example(
            row="gbm-init-missing-predict",
            before=(
                "import numpy as np\n\ndef predict(model, x):\n    out = np.full(len(x), model.base)\n"
                "    for tree in model.trees:\n        out = out + tree(x)\n    return out\n"
            ),
            after=(
                "import numpy as np\n\ndef predict(model, x):\n    out = np.full(len(x), 0.0)\n"
                "    for tree in model.trees:\n        out = out + tree(x)\n    return out\n",
            ),
        ),
        Example(
            before="def predict(model, x):\n    return model.init + sum(tree(x) for tree in model.trees)\n",
            after=("def predict(model, x):\n    return sum(tree(x) for tree in model.trees)\n",),
        ),
    ),
    counterexamples=(
        "import numpy as np\n\ndef predict(model, x):\n    return np.full(len(x), model.base)\n",
        "def fit(model, x):\n    return model.init + sum(tree(x) for tree in model.trees)\n",
    ),
)
def init_missing(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    home = f.function(node)
    if home is None or not says(home.name, "predict", "raw", "score", "scores", "decision", "answer"):
        return
    if not says(home, *LEARNERS):
        return
    if isinstance(node, cst.BinaryOperation):
        sides = binary(node, cst.Add)
        for start, rest in (sides, sides[::-1]) if sides is not None else ():
            if is_start(start) and says(rest, *LEARNERS) and not orphans(f, start):
                yield Proposal(edits=(f.replace(node, f.text(rest)),))
        return
    place = {"full": 1, "full_like": 1, "new_full": 1}.get(last_name(node.func))
    given = f.arg(node, "fill_value", place) if place is not None else None
    if given is not None and is_start(given.value) and not orphans(f, given.value):
        yield Proposal(edits=(f.replace(given.value, "0.0"),))


def is_start(node: cst.BaseExpression) -> bool:
    """Whether a value is what an ensemble starts from, by its name or its key."""
    if isinstance(node, cst.Subscript):
        return any(part.value.strip("\"'") in STARTS for part in inside(node, cst.SimpleString))
    return isinstance(node, cst.Name | cst.Attribute) and last_name(node).strip("_") in STARTS


@operator(
    "tree-gini-unweighted",
    cst.BinaryOperation,
    category="classical-ml",
    difficulty=4,
    symptom="Trees grow long on one side, and cut off a few rows at a time.",
    hints=(
        "LOOK: print how many rows go to each side of the first splits.",
        "WHERE: how `{function}` judges a split.",
        "WHAT: how much is a pure side worth that holds a single row?",
    ),
    repair="Weight the impurity of each side by its share of the rows.",
    mechanism=(
        "A side with one row is always pure. Without weights it counts as much as the other side"
        " with all the rest, so that splitting off single rows looks like a good deal."
    ),
    evidence=(),
    examples=(
        Example(
            row="tree-gini-unweighted",
            before="cost = len(left) / n * gini(left) + len(right) / n * gini(right)\n",
            after=("cost = gini(left) + gini(right)\n",),
        ),
        Example(
            before="cost = (nl * entropy(l) + nr * entropy(r)) / n\n",
            after=("cost = (entropy(l) + entropy(r)) / n\n",),
        ),
    ),
    counterexamples=("cost = gini(l) + gini(r)\n", "cost = a * f(l) + b * f(r)\n"),
)
def gini_unweighted(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Add)
    kept = [_impurity(side) for side in sides] if sides is not None else []
    if len(kept) == 2 and kept[0] is not None and kept[1] is not None:
        weights = [other for other, _ in (_split(side) for side in sides or ())]
        if not orphans(f, *(weight for weight in weights if weight is not None)):
            yield Proposal(edits=(f.replace(node, f"{f.text(kept[0])} + {f.text(kept[1])}"),))


IMPURITIES = ("gini", "impurity", "entropy", "variance")


def _split(node: cst.BaseExpression) -> tuple[cst.BaseExpression | None, cst.BaseExpression | None]:
    """Weight and impurity of a weighted impurity."""
    sides = binary(node, cst.Multiply)
    for weight, impurity in (sides, sides[::-1]) if sides is not None else ():
        if says(impurity, *IMPURITIES) and not says(weight, *IMPURITIES):
            return weight, impurity
    return None, None


def _impurity(node: cst.BaseExpression) -> cst.BaseExpression | None:
    return _split(node)[1]


@operator(
    "rf-no-bootstrap",
    cst.Call,
    category="classical-ml",
    difficulty=4,
    symptom="More trees do not help; all of them make the same mistakes.",
    hints=(
        "LOOK: print how often two trees disagree.",
        "WHERE: which rows a tree gets in `{function}`.",
        "WHAT: if all trees see the same, what can their vote add?",
    ),
    repair="Draw the rows of each tree with replacement.",
    mechanism=(
        "A forest is better than a tree because its trees err in different places. Grown on the same"
        " rows they are much alike, and no row is left out to test them on."
    ),
    evidence=(),
    examples=(
        Example(
            row="rf-no-bootstrap",
            before="import numpy as np\n\ndef forest(x, rng):\n    rows = rng.integers(0, len(x), len(x))\n",
            after=("import numpy as np\n\ndef forest(x, rng):\n    rows = np.arange(len(x))\n",),
        ),
        Example(
            before="import torch\n\ndef bootstrap(n):\n    return torch.randint(n, (n,))\n",
            after=("import torch\n\ndef bootstrap(n):\n    return torch.arange(n)\n",),
        ),
        Example(
            before="import numpy as np\n\ndef bag(n, rng):\n    rows = rng.choice(n, size=n, replace=True)\n",
            after=("import numpy as np\n\ndef bag(n, rng):\n    rows = np.arange(n)\n",),
        ),
    ),
    counterexamples=(
        "import torch\no = torch.randint(n, (n,))\n",
        "import numpy as np\n\ndef forest(n, k, rng):\n    return rng.integers(0, n, k)\n",
    ),
)
def no_bootstrap(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    home = f.function(node)
    if home is None or not mentions(home, "forest", "bootstrap", "bag", "tree"):
        return
    torch = f.qname(node.func) == "torch.randint"
    if not torch and last_name(node.func) not in ("integers", "randint", "choice"):
        return
    library = f.spelling("torch" if torch else "numpy")
    given = [each.value for each in node.args if each.keyword is None]
    low = bool(given) and number(given[0]) == 0
    named = f.arg(node, "size", 3 if not torch and low else None) or f.arg(node, "size", None)
    rest = given[1:] if low else given
    if not rest or library is None:
        return
    count = rest[0]
    size = named.value if named is not None else (rest[1] if len(rest) > 1 else None)
    if isinstance(size, cst.Tuple) and len(size.elements) == 1:
        size = size.elements[0].value
    once = f.arg(node, "replace", 2) if last_name(node.func) == "choice" else None
    same = size is not None and f.text(size) == f.text(count)
    if same and (once is None or last_name(once.value) != "False"):
        yield Proposal(edits=(f.replace(node, f"{library}.arange({f.text(count)})"),))
