"""Mistakes of reference made in public projects: a near name, a stale one, a literal for a setting."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.index import inside
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    definitions,
    function_of,
    last_name,
    names_in,
    orphans,
)
from bughunt_mutator.operators._look_meaning import pieces
from bughunt_mutator.operators._sources import commit
from bughunt_mutator.source import SourceFile

READS = (cst.Arg, cst.Return, cst.DictElement, cst.Assign, cst.BinaryOperation)
LOSSES = ("loss", "mse", "l1", "cross", "nll", "huber", "kl")


@operator(
    "real-similar-name",
    cst.Name,
    category="architecture",
    difficulty=4,
    symptom="Training improves, but one part of the program never learns or one input has no effect.",
    hints=(
        "LOOK: change each input by itself; which of them does the result not depend on?",
        "WHERE: the names that look alike in `{function}`.",
        "WHAT: of two values with nearly one name, which one is meant here?",
    ),
    repair="Use the value that is meant, and give the two names that cannot be confused.",
    mechanism=(
        "Both names hold values of one shape, so nothing complains. The value that was meant is computed"
        " and thrown away, with its gradient, and the other one is used twice."
    ),
    evidence=(
        commit("lucidrains/vit-pytorch", "918869571ccb6a1f6c9d9313786edfe16b6f22e0"),
        commit("vwxyzjn/cleanrl", "8fc7114720056c35df4f31e501cda1407b5fafdc"),
        commit("codertimo/BERT-pytorch", "ae094c8840af2fda010294c8f0e8b69f4875d2ea"),
    ),
    examples=(
        Example(
            "def f(loss, student_logits, teacher_logits, y):\n    return loss(student_logits, y)\n",
            ("def f(loss, student_logits, teacher_logits, y):\n    return loss(teacher_logits, y)\n",),
        ),
        Example(
            "def f(q_net, target_net, x):\n    return target_net.best(x)\n",
            ("def f(q_net, target_net, x):\n    return q_net.best(x)\n",),
        ),
    ),
    counterexamples=(
        "def f(loss, logits, y):\n    return loss(logits, y)\n",
        "def f(n_heads, n_layers):\n    return n_heads\n",
    ),
)
def similar_name(f: SourceFile, node: cst.Name) -> Iterator[Proposal]:
    above, home = f.parent[node], f.function(node)
    if home is None or not _is_read(f, node) or f.parent[node] is home:
        return
    if isinstance(above, cst.BinaryOperation) or node.value in ("self", "cls"):
        return
    near = [name for name in _bound_before(f, home, node) if _near(name, node.value)]
    beside = names_in(above) if isinstance(above, cst.Arg) else frozenset()
    for name in near[:2]:
        if name not in beside and not orphans(f, node) and not _is_counted_up(home, node.value):
            yield Proposal((f.replace(node, name),))


@operator(
    "real-similar-attribute",
    cst.Attribute,
    category="generative",
    difficulty=4,
    symptom="Nothing fails, and what comes out is a little off.",
    hints=(
        "LOOK: print the numbers that one step of `{function}` uses beside those of the formula.",
        "WHERE: the attributes with nearly one name that `{function}` reads.",
        "WHAT: is this the value of this step or of the one before?",
    ),
    repair="Read the attribute that the formula names.",
    mechanism=(
        "Two tables of one length are kept, and one of them is shifted or transformed. Reading"
        " the other one is off by one step: results stay plausible and are wrong everywhere."
    ),
    evidence=(commit("lucidrains/denoising-diffusion-pytorch", "42158d6248a2eca9e22880acc5d42a09f2a5b84d"),),
    examples=(
        Example(
            "class D:\n    def __init__(self, a):\n        self.alphas = a\n"
            "        self.alphas_prev = a[1:]\n\n"
            "    def at(self, t):\n        return self.alphas[t]\n",
            (
                "class D:\n    def __init__(self, a):\n        self.alphas = a\n"
                "        self.alphas_prev = a[1:]\n\n"
                "    def at(self, t):\n        return self.alphas_prev[t]\n",
            ),
        ),
        Example(
            "def f(seen, merits):\n    show(seen.next_values)\n    return merits + seen.values\n",
            ("def f(seen, merits):\n    show(seen.next_values)\n    return merits + seen.next_values\n",),
        ),
    ),
    counterexamples=(
        "class D:\n    def __init__(self, a):\n        self.alphas = a\n"
        "\n    def at(self, t):\n        return self.alphas[t]\n",
        "def f(cfg, x):\n    return x * cfg.lr + cfg.last_lr\n",
    ),
)
def similar_attribute(f: SourceFile, node: cst.Attribute) -> Iterator[Proposal]:
    other = neighbouring(f, node)
    if other is not None:
        yield Proposal((f.replace(node.attr, other),))
        return
    home, function = f.class_(node), f.function(node)
    if home is None or function is None or function.name.value == "__init__":
        return
    if not isinstance(node.value, cst.Name) or node.value.value != "self":
        return
    if not isinstance(f.parent[node], cst.Subscript | cst.Arg | cst.BinaryOperation):
        return
    kept = [target.attr.value for target in _kept(home)]
    name = node.attr.value
    near = [
        other for other in dict.fromkeys(kept) if other.startswith(f"{name}_") or name.startswith(f"{other}_")
    ]
    for other in near[:1] if name in kept else ():
        yield Proposal((f.replace(node, f"self.{other}"),))


def neighbouring(f: SourceFile, node: cst.Attribute) -> str | None:
    """The attribute of the step after or before, where a function reads both of one object."""
    home, above = f.function(node), f.parent[node]
    if home is None or not isinstance(node.value, cst.Name) or not isinstance(above, cst.BinaryOperation):
        return None
    same = [each for each in inside(home.body, cst.Attribute) if f.text(each.value) == node.value.value]
    near = {f"{word}_{node.attr.value}" for word in ("next", "previous", "prev", "last")}
    settings = node.value.value in ("self", "cls", "cfg", "config", "args")
    return next((each.attr.value for each in same if each.attr.value in near and not settings), None)


@operator(
    "real-stale-value",
    cst.Name,
    category="loss",
    difficulty=4,
    symptom="The program runs as if one of its steps or settings were not there.",
    hints=(
        "LOOK: take the steps of `{function}` away one by one; which of them changes nothing?",
        "WHERE: the last use of what `{function}` computes.",
        "WHAT: is the value used as it was before the step, or after it?",
    ),
    repair="Use the value after the step.",
    mechanism=(
        "The step makes a new value of one shape, and the old one is used in its place. Whatever"
        " the step was there for is lost: a chosen target, a correction, a mask."
    ),
    evidence=(
        commit("lucidrains/denoising-diffusion-pytorch", "b0323ce887d592019580571f2eda29c5baabf5c3"),
        commit("lucidrains/denoising-diffusion-pytorch", "57f57bb2fd1b4dce840d290ac33266ef25eec90f"),
    ),
    examples=(
        Example(
            "def f(mse_loss, out, noise, v, on):\n    target = noise if on else v\n"
            "    return mse_loss(out, target) + target.sum()\n",
            (
                "def f(mse_loss, out, noise, v, on):\n    target = noise if on else v\n"
                "    return mse_loss(out, noise) + target.sum()\n",
                "def f(mse_loss, out, noise, v, on):\n    target = noise if on else v\n"
                "    return mse_loss(out, v) + target.sum()\n",
            ),
        ),
        Example(
            "def f(loss, x, p, m, y):\n    z = (x - p).masked_fill(m, 0.0)\n    return loss(z, y)\n",
            ("def f(loss, x, p, m, y):\n    z = (x - p).masked_fill(m, 0.0)\n    return loss(x, y)\n",),
        ),
        Example(
            "def f(loss, x, y):\n    logits = x.detach()\n    return loss(logits, y)\n",
            ("def f(loss, x, y):\n    logits = x.detach()\n    return loss(x, y)\n",),
        ),
    ),
    counterexamples=(
        "def f(loss, x, y):\n    return loss(x, y)\n",
        "def f(show, x):\n    z = x.exp()\n    return show(z)\n",
    ),
)
def stale_value(f: SourceFile, node: cst.Name) -> Iterator[Proposal]:
    above = f.parent[node]
    if not isinstance(above, cst.Arg) or above.value is not node:
        return
    call = f.parent[above]
    if not isinstance(call, cst.Call):
        return
    if pieces(last_name(call.func)).isdisjoint(LOSSES):
        return
    for line in definitions(f, node, node.value):
        pair = assigned(line)
        value = pair[1] if pair is not None else None
        if isinstance(value, cst.IfExp):
            sources = [value.body, value.orelse]
        elif isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and not value.args:
            sources = [value.func.value]
        else:
            sources = corrected(value)
        for source in sources:
            if isinstance(source, cst.Name):
                yield Proposal((f.replace(node, source.value),))


def corrected(value: cst.BaseExpression | None) -> list[cst.BaseExpression]:
    """What a mask or a correction was applied to, entry by entry."""
    while isinstance(value, cst.Call) and last_name(value.func) in ("masked_fill", "clamp", "clip"):
        value = value.func.value if isinstance(value.func, cst.Attribute) else None
        if isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Add | cst.Subtract):
            return [value.left]
    return []


@operator(
    "real-used-twice",
    cst.Element,
    category="architecture",
    difficulty=4,
    symptom="One of the inputs of the model makes no difference.",
    hints=(
        "LOOK: replace each input by zeros; which of them does not matter?",
        "WHERE: where `{function}` puts its parts together.",
        "WHAT: is each part there once?",
    ),
    repair="Put every part in once.",
    mechanism="One part stands twice and pushes another out. Shapes are the same, so nothing complains.",
    evidence=(commit("lucidrains/DALLE2-pytorch", "3b2cf7b0bc152d826f74a90f5f6b922a8b9f7b21"),),
    examples=(
        Example(
            "import torch\ndef f(a, b, c):\n    return torch.cat((a, b, c), dim=1)\n",
            ("import torch\ndef f(a, b, c):\n    return torch.cat((a, b, b), dim=1)\n",),
        ),
    ),
    counterexamples=(
        "import torch\ndef f(a, b):\n    return torch.cat((a, b), dim=1)\n",
        "def f(a, b, c):\n    return (a, b, c)\n",
    ),
)
def used_twice(f: SourceFile, node: cst.Element) -> Iterator[Proposal]:
    row = f.parent[node]
    call = f.parent[f.parent[row]]
    if not isinstance(row, cst.Tuple | cst.List) or not isinstance(call, cst.Call) or len(row.elements) < 3:
        return
    if f.qname(call.func) not in (
        "torch.cat",
        "torch.concat",
        "torch.stack",
        "numpy.concatenate",
        "numpy.stack",
    ):
        return
    last, before = row.elements[-1].value, row.elements[-2].value
    if (
        node is row.elements[-1]
        and isinstance(last, cst.Name)
        and isinstance(before, cst.Name)
        and not orphans(f, last)
    ):
        yield Proposal((f.replace(last, before.value),))


@operator(
    "real-hard-coded",
    cst.Name,
    cst.Attribute,
    category="data",
    difficulty=3,
    symptom="Everything is right with the settings that ship, and a setting that is changed has no effect.",
    hints=(
        "LOOK: run with another value of each setting; which of them changes nothing?",
        "WHERE: the numbers and words that are written out in `{function}`.",
        "WHAT: does the program read the setting, or what the setting happens to be?",
    ),
    repair="Read the setting.",
    mechanism=(
        "The literal is the default, so tests with defaults pass. With any other value the two places"
        " that should agree do not: the range of steps, the size of the batch, the name of a table."
    ),
    evidence=(
        commit("lucidrains/denoising-diffusion-pytorch", "d59d8b05f6db1bddb0eb89aaf21614332f8ae97e"),
        commit("lucidrains/denoising-diffusion-pytorch", "a4c68d356952080d30380b006182f788ff529c0e"),
        commit("allenai/allennlp", "b89ff098372656b674ec71457dda071222fd05ae"),
    ),
    examples=(
        Example(
            "def f(model, make, batch_size=16):\n    return model(make(batch_size, 3))\n",
            ("def f(model, make, batch_size=16):\n    return model(make(16, 3))\n",),
        ),
        Example(
            "class D:\n    def __init__(self, steps=1000):\n        self.count = steps\n"
            "\n    def g(self, draw):\n        return draw(self.count)\n",
            (
                "class D:\n    def __init__(self, steps=1000):\n        self.count = steps\n"
                "\n    def g(self, draw):\n        return draw(1000)\n",
            ),
        ),
    ),
    counterexamples=(
        "def f(model, make, batch_size):\n    return model(make(batch_size, 3))\n",
        "def f(log, verbose=True):\n    log(verbose)\n",
    ),
)
def hard_coded(f: SourceFile, node: cst.Name | cst.Attribute) -> Iterator[Proposal]:
    above = f.parent[node]
    if not isinstance(above, cst.Arg) or above.value is not node or above.star:
        return
    default = _default(f, node)
    if isinstance(default, cst.Integer | cst.Float | cst.SimpleString):
        yield Proposal((f.replace(node, f.text(default)),))


def _default(f: SourceFile, node: cst.Name | cst.Attribute) -> cst.BaseExpression | None:
    """The default of the parameter that an argument or an attribute of the object is."""
    if isinstance(node, cst.Name):
        function, name = f.function(node), node.value
    else:
        home = f.class_(node)
        function = _method(home, "__init__") if home is not None else None
        if not isinstance(node.value, cst.Name) or node.value.value != "self" or f.function(node) is function:
            return None
        name = next((_given(function, node.attr.value)), "") if function is not None else ""
    if function is None or not name:
        return None
    for param in (*function.params.params, *function.params.kwonly_params):
        if param.name.value == name:
            return param.default
    return None


def _method(home: cst.ClassDef, name: str) -> cst.FunctionDef | None:
    return next((each for each in inside(home, cst.FunctionDef) if each.name.value == name), None)


def _given(function: cst.FunctionDef, attribute: str) -> Iterator[str]:
    for line in inside(function, cst.SimpleStatementLine):
        pair = assigned(line)
        if (
            pair is not None
            and isinstance(pair[0], cst.Attribute)
            and isinstance(pair[1], cst.Name)
            and pair[0].attr.value == attribute
        ):
            yield pair[1].value
    yield ""


def _kept(home: cst.ClassDef) -> Iterator[cst.Attribute]:
    for line in inside(home, cst.SimpleStatementLine):
        pair = assigned(line)
        if pair is not None and isinstance(pair[0], cst.Attribute) and last_name(pair[0].value) == "self":
            yield pair[0]


def _is_counted_up(home: cst.FunctionDef, name: str) -> bool:
    """Whether a name is assigned more than once, so that one reader less may leave none."""
    return (
        sum(each.value == name for line in inside(home, cst.AssignTarget) for each in inside(line, cst.Name))
        > 1
    )


def _is_read(f: SourceFile, node: cst.Name) -> bool:
    above = f.parent[node]
    if isinstance(above, cst.Attribute):
        return above.value is node and isinstance(f.parent[above], cst.Call)
    if isinstance(above, cst.Arg):
        return above.value is node
    return isinstance(above, READS)


def _bound_before(f: SourceFile, home: cst.FunctionDef, node: cst.Name) -> list[str]:
    """Parameters of a function and what it has assigned before a place, the nearest first."""
    found = [param.name.value for param in home.params.params]
    for line in inside(home, cst.AssignTarget):
        if f.span(line)[1] < f.span(f.statement(node))[0] and function_of(f, line) is home:
            targets = line.target.elements if isinstance(line.target, cst.Tuple) else (line,)
            for each in targets:
                target = each.target if isinstance(each, cst.AssignTarget) else each.value
                if isinstance(target, cst.Name):
                    found.append(target.value)
    return list(dict.fromkeys(reversed(found)))


def _near(one: str, other: str) -> bool:
    """Whether two names differ in one word and share another that says what they are."""
    if one == other:
        return False
    first, second = pieces(one), pieces(other)
    shared = {word for word in first & second if len(word) > 2}
    return bool(shared) and len(first ^ second) <= 2
