"""Mistakes that do the same work again, or in pieces that are too small."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    axis,
    binary,
    called,
    definitions,
    function_of,
    inside,
    last_name,
    loads,
    loop_of,
    mentions,
    names_in,
    number,
    operation,
    orphans,
)
from bughunt_mutator.operators._look_parts import Cut, closed, cuts, fresh, is_number, later, names_of, says
from bughunt_mutator.source import SourceFile


@operator(
    "python-loop-for-vectorised",
    cst.Call,
    category="memory-performance",
    difficulty=2,
    symptom="The run is many times slower than it should be; the results are right.",
    hints=(
        "LOOK: count the operations of one step, for two sizes of a batch.",
        "WHERE: the work in `{function}`.",
        "WHAT: which of these steps could be made for all rows at once?",
    ),
    repair="Compute all rows in one operation.",
    mechanism=(
        "Each pass of the loop starts an operation of its own, which costs more than the few numbers"
        " that it computes. One operation over all rows pays that price once."
    ),
    evidence=(),
    examples=(
        Example(
            row="python-loop-for-vectorised",
            before="import torch\ny = torch.bmm(a, b)\n",
            after=("import torch\ny = torch.stack([u @ v for u, v in zip(a, b, strict=True)])\n",),
        ),
        Example(
            before="import torch\nd = torch.cdist(x, c)\n",
            after=("import torch\nd = torch.stack([(row - c).norm(dim=-1) for row in x])\n",),
        ),
        Example(
            before="import numpy as np\nd = ((x[:, None] - c[None]) ** 2).sum(-1)\n",
            after=("import numpy as np\nd = np.stack([((row - c) ** 2).sum(-1) for row in x])\n",),
        ),
    ),
    counterexamples=("y = bmm(a, b)\n", "import torch\nd = ((x - c) ** 2).sum(-1)\n"),
)
def python_loop(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    new = _one_by_one(f, node)
    if new is not None:
        yield Proposal(edits=(f.replace(node, new),))


def _one_by_one(f: SourceFile, node: cst.Call) -> str | None:
    torch = f.spelling("torch")
    name = f.qname(node.func) or ""
    given = [f.text(each.value) for each in node.args if each.keyword is None]
    if torch is not None and name == "torch.bmm" and len(given) == len(node.args) == 2:
        left, right = given
        return f"{torch}.stack([u @ v for u, v in zip({left}, {right}, strict=True)])"
    if torch is not None and name == "torch.cdist" and len(given) == len(node.args) == 2:
        return f"{torch}.stack([(row - {closed(given[1])}).norm(dim=-1) for row in {given[0]}])"
    library = torch or f.spelling("numpy")
    pair = _pairwise(f, node)
    if library is None or pair is None:
        return None
    rows, others = pair
    row = fresh(f, node, "row", "each")
    return f"{library}.stack([(({row} - {others}) ** 2).sum(-1) for {row} in {rows}])"


def _pairwise(f: SourceFile, node: cst.Call) -> tuple[str, str] | None:
    """Both lists of rows of `((a[:, None] - b[None]) ** 2).sum(-1)`."""
    op = operation(f, node, "sum")
    along = axis(f, op) if op is not None else None
    power = binary(op.subject, cst.Power) if op is not None else None
    gap = binary(power[0], cst.Subtract) if power is not None and is_number(power[1], 2) else None
    if op is None or gap is None or number(along) not in (-1, 2) or len(op.call.args) != op.shift + 1:
        return None
    left, right = gap
    whole = Cut("", "", "")
    if not isinstance(left, cst.Subscript) or cuts(f, left) not in ([whole, "None"], [whole, "None", whole]):
        return None
    if isinstance(right, cst.Subscript):
        if cuts(f, right) not in (["None"], ["None", whole], ["None", whole, whole]):
            return None
        right = right.value
    both = isinstance(left.value, cst.Name) and isinstance(right, cst.Name)
    return (f.text(left.value), f.text(right)) if both else None


@operator(
    "mask-rebuilt-each-forward",
    cst.SimpleStatementLine,
    category="memory-performance",
    difficulty=2,
    symptom="Steps are slower than they should be, more so with long inputs; the results are right.",
    hints=(
        "LOOK: count how often each constant tensor is made.",
        "WHERE: what `{function}` makes anew.",
        "WHAT: which of the tensors depend on the input, and which do not?",
    ),
    repair="Make constants once and keep them.",
    mechanism=(
        "The mask is the same in every step and in every layer. Making it anew each time costs a"
        " few operations and as much memory as the scores that it is laid on."
    ),
    evidence=(),
    examples=(
        Example(
            row="mask-rebuilt-each-forward",
            before=(
                "import torch\n\nclass A:\n    def __init__(self, n):\n"
                '        self.register_buffer("mask", torch.ones(n, n).tril())\n'
                "        self.n = n\n\n"
                "    def forward(self, x):\n        T = x.size(1)\n"
                "        return x.masked_fill(self.mask[:T, :T] == 0, -9.0)\n"
            ),
            after=(
                "import torch\n\nclass A:\n    def __init__(self, n):\n"
                "        self.n = n\n\n"
                "    def forward(self, x):\n        T = x.size(1)\n"
                "        return x.masked_fill(torch.ones(T, T).tril().to(x.device) == 0, -9.0)\n",
            ),
        ),
        Example(
            before=("import torch\nmask = torch.ones(T, T).tril()\nfor f in all:\n    x = f(x, mask)\n"),
            after=("import torch\nfor f in all:\n    mask = torch.ones(T, T).tril()\n    x = f(x, mask)\n",),
        ),
    ),
    counterexamples=(
        'class A:\n    def __init__(self):\n        self.register_buffer("scale", ones(3))\n',
        "import torch\nmask = torch.ones(T, T).tril()\nx = f(mask)\nfor f in all:\n    layer(mask)\n",
    ),
)
def mask_rebuilt(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    call = called(node)
    if call is not None and last_name(call.func) == "register_buffer":
        yield from _buffer_rebuilt(f, node, call)
        return
    target, made = assigned(node) or (None, None)
    if not isinstance(target, cst.Name) or made is None or not _is_mask(made) or loop_of(f, node):
        return
    loop = next((line for line in later(f, node) if isinstance(line, cst.For)), None)
    if loop is None or not isinstance(loop.body, cst.IndentedBlock):
        return
    reads = loads(function_of(f, node))[target.value]
    if reads and reads == loads(loop.body)[target.value] and not names_in(made) & names_of(loop.target):
        new = f.insert_before(loop.body.body[0], f.text(node).strip())
        yield Proposal(edits=(f.delete_statement(node), new))


def _is_mask(node: cst.BaseExpression) -> bool:
    return mentions(node, "tril", "triu", "causal_mask")


def _buffer_rebuilt(f: SourceFile, node: cst.SimpleStatementLine, call: cst.Call) -> Iterator[Proposal]:
    home = f.class_(node)
    name, made = f.arg(call, "name", 0), f.arg(call, "tensor", 1)
    if home is None or name is None or made is None or not _is_mask(made.value):
        return
    attribute = f"self.{f.text(name.value).strip(chr(34) + chr(39))}"
    uses = [each for each in inside(home, cst.Attribute) if f.text(each) == attribute]
    if len(uses) != 1:
        return
    use = f.parent.get(uses[0])
    axes = cuts(f, use)
    ends = {axis.upper for axis in axes if isinstance(axis, Cut)} - {""}
    around = f.function(uses[0])
    if (
        len(ends) != 1
        or not isinstance(use, cst.Subscript)
        or around is None
        or len(around.params.params) < 2
    ):
        return
    new = _resized(f, made.value, ends.pop())
    if new is not None:
        x = around.params.params[1].name.value
        yield Proposal(edits=(f.delete_statement(node), f.replace(use, f"{closed(new)}.to({x}.device)")))


def _resized(f: SourceFile, made: cst.BaseExpression, size: str) -> str | None:
    """The mask for another size; nothing if it knows anything but its size."""
    sizes: set[str] = set()
    for call in inside(made, cst.Call):
        if last_name(call.func) in ("ones", "full", "zeros"):
            plain = [each.value for each in call.args if each.keyword is None]
            shape = plain[0].elements if plain and isinstance(plain[0], cst.Tuple) else ()
            for each in [*(element.value for element in shape), *plain]:
                if number(each) is None and isinstance(each, cst.Name | cst.Attribute):
                    sizes.add(f.text(each))
    if len(sizes) != 1:
        return None
    (old,) = sizes
    start, text = f.span(made)[0], f.text(made)
    places = [f.span(each) for each in inside(made, cst.Name) if f.text(each) == old]
    places += [f.span(each) for each in inside(made, cst.Attribute) if f.text(each) == old]
    if orphans(f, *(each for each in inside(made, cst.Name) if f.text(each) == old)):
        return None
    for one, end in sorted(places, reverse=True):
        text = text[: one - start] + size + text[end - start :]
    local = names_in(made) - {old} - set(old.split("."))
    known = set(f.aliases.table) | {"tril", "triu", "ones", "full", "zeros", "view", "bool", "dtype", "float"}
    known |= {"True", "False", "logical_not", "int", "diagonal", "reshape", "unsqueeze", "masked_fill", "inf"}
    return text if local <= known else None


@operator(
    "quadratic-cat",
    cst.Call,
    category="memory-performance",
    difficulty=2,
    symptom="Each step takes longer than the one before; the results are right.",
    hints=(
        "LOOK: time the first and the last hundred steps of the loop.",
        "WHERE: how `{function}` collects its results.",
        "WHAT: how many numbers are copied when one more is added?",
    ),
    repair="Collect the pieces in a list, and join them once.",
    mechanism=(
        "Joining makes a new tensor and copies all that came before. Over n steps that is about"
        " n squared halves of copies, where one copy of each piece would do."
    ),
    evidence=(),
    examples=(
        Example(
            row="quadratic-cat",
            before=(
                "import torch\nouts = []\nfor x in z:\n    outs.append(f(x))\ny = torch.stack(outs, dim=1)\n"
            ),
            after=(
                "import torch\nouts = None\nfor x in z:\n    piece = f(x).unsqueeze(1)\n"
                "    outs = piece if outs is None else torch.cat([outs, piece], 1)\ny = outs\n",
            ),
        ),
        Example(
            before="import numpy as np\nrows = []\nfor x in z:\n    rows.append(x)\nnp.concatenate(rows)\n",
            after=(
                "import numpy as np\nrows = None\nfor x in z:\n    piece = x\n"
                "    rows = piece if rows is None else np.concatenate([rows, piece], 0)\nrows\n",
            ),
        ),
    ),
    counterexamples=(
        "import torch\nouts = []\nfor x in data:\n    outs.append(x)\ny = torch.stack(outs)\nn = len(outs)\n",
        "import torch\ny = torch.stack([a, b])\n",
    ),
)
def quadratic_cat(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    join = {
        "torch.stack": "cat",
        "torch.cat": "cat",
        "numpy.stack": "concatenate",
        "numpy.concatenate": "concatenate",
    }.get(f.qname(node.func) or "")
    given = node.args[0].value if node.args else None
    if join is None or not isinstance(given, cst.Name) or not isinstance(node.func, cst.Attribute):
        return
    library, name = f.text(node.func.value), given.value
    dim = f.arg(node, "dim", 1) or f.arg(node, "axis", 1)
    place = f.text(dim.value) if dim is not None else "0"
    added = _sole_append(f, node, name)
    empty = _empty_list(f, node, name)
    if added is None or empty is None or loop_of(f, node) is not None or number_of_reads(f, node, name) != 2:
        return
    piece = fresh(f, node, "piece", "part", "one_more")
    value = f.text(added.args[0].value)
    if last_name(node.func) == "stack":
        torch = library if f.qname(node.func) == "torch.stack" else None
        value = f"{closed(value)}.unsqueeze({place})" if torch else f"{library}.expand_dims({value}, {place})"
    line = f.statement(added)
    grown = f"{name} = {piece} if {name} is None else {library}.{join}([{name}, {piece}], {place})"
    edits: tuple[Edit, ...] = (
        f.replace(empty, "None"),
        f.replace(line, f"{piece} = {value}\n{f.indent(line)}{grown}"),
        f.replace(node, name),
    )
    yield Proposal(edits=edits)


def number_of_reads(f: SourceFile, node: cst.CSTNode, name: str) -> int:
    return loads(function_of(f, node))[name]


def _sole_append(f: SourceFile, node: cst.CSTNode, name: str) -> cst.Call | None:
    """The only statement that appends to a list, if it stands in a loop."""
    found = [
        call
        for call in inside(function_of(f, node), cst.Call)
        if f.text(call.func) == f"{name}.append" and len(call.args) == 1
    ]
    if len(found) != 1 or called(f.statement(found[0])) is not found[0]:
        return None
    return found[0] if loop_of(f, found[0]) is not None else None


def _empty_list(f: SourceFile, node: cst.CSTNode, name: str) -> cst.List | None:
    lines = list(definitions(f, node, name))
    pair = assigned(lines[0]) if len(lines) == 1 else None
    made = pair[1] if pair is not None else None
    return made if isinstance(made, cst.List) and not made.elements else None


JOINING = ("cat", "concat", "concatenate", "hstack")
CACHES = ("cache", "caches", "past", "kv", "past_key_values", "memory")


@operator(
    "kv-cache-disabled",
    cst.Arg,
    cst.Call,
    category="memory-performance",
    difficulty=2,
    symptom="Each token takes longer to generate than the one before; the text is right.",
    hints=(
        "LOOK: time the first and the last token of a long text.",
        "WHERE: what `{function}` gives the model in each step.",
        "WHAT: what has been computed before, and for which positions?",
    ),
    repair="Give the model the newest token and what it has kept of the others.",
    mechanism=(
        "Keys and values of earlier positions never change. Without keeping them, the whole text is"
        " read again for each token, and the work grows with the square of its length."
    ),
    evidence=(),
    examples=(
        Example(
            row="kv-cache-disabled",
            before="y = net.generate(x, use_cache=True)\n",
            after=("y = net.generate(x, use_cache=False)\n",),
        ),
        Example(
            before=(
                "for _ in range(n):\n    z, cache = net(ids[:, -1:], cache)\n    ids = f(z)\nend(cache)\n"
            ),
            after=("for _ in range(n):\n    z, cache = net(ids, None)\n    ids = f(z)\nend(cache)\n",),
        ),
        Example(
            before=(
                "cache = None\nfor _ in range(n):\n    ids = cat([ids, token], 1)\n"
                "    z, cache = net(token, cache=cache)\n    token = z.argmax(-1)\n"
            ),
            after=(
                "for _ in range(n):\n    ids = cat([ids, token], 1)\n"
                "    z, cache = net(ids, cache=None)\n    token = z.argmax(-1)\n",
            ),
        ),
    ),
    counterexamples=(
        "y = net(x, cache)\n",
        "for _ in range(n):\n    z, cache = net(token, cache)\n",
        "y = net.generate(x, use_cache=False)\n",
    ),
)
def no_cache(f: SourceFile, node: cst.Arg | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Arg):
        if node.keyword is not None and node.keyword.value == "use_cache" and f.text(node.value) == "True":
            yield Proposal(edits=(f.replace(node.value, "False"),))
        return
    loop = loop_of(f, node)
    kept = [each for each in node.args if isinstance(each.value, cst.Name) and says(each.value, *CACHES)]
    target, made = assigned(f.statement(node)) or (None, None)
    if (
        loop is None
        or len(kept) != 1
        or target is None
        or made is not node
        or f.text(kept[0].value) not in names_of(target)
    ):
        return
    for each in node.args:
        whole = _whole_text(f, node, each.value)
        if whole is not None:
            first = _first_cache(f, node, f.text(kept[0].value))
            edits = [f.replace(each.value, whole), f.replace(kept[0].value, "None")]
            yield Proposal(edits=tuple(edits + ([f.delete_statement(first)] if first is not None else [])))
            return


def _first_cache(f: SourceFile, node: cst.CSTNode, name: str) -> cst.CSTNode | None:
    """The line `cache = None`, if nobody else would read it."""
    lines = list(definitions(f, node, name))
    home = function_of(f, node)
    bound = sum(name in names_of(each.target) for each in inside(home, cst.AssignTarget)) - len(lines)
    return lines[0] if len(lines) == 1 and loads(home)[name] - bound == 1 else None


def _whole_text(f: SourceFile, node: cst.Call, given: cst.BaseExpression) -> str | None:
    """All tokens so far, where a call is given the newest."""
    if isinstance(given, cst.IfExp) and says(given.test, *CACHES):
        for branch in (given.body, given.orelse):
            if not isinstance(branch, cst.Subscript):
                return f.text(branch)
    if isinstance(given, cst.Subscript):
        axes = cuts(f, given)
        return f.text(given.value) if axes and axes[-1] == Cut("-1", "", "") else None
    if not isinstance(given, cst.Name):
        return None
    for line in f.siblings(f.statement(node)):
        if line is f.statement(node):
            return None
        target, made = assigned(line) or (None, None)
        joins = isinstance(made, cst.Call) and last_name(made.func) in JOINING
        grown = names_of(target) if joins and target is not None else frozenset()
        if made is not None and len(grown) == 1 and grown | {given.value} <= names_in(made):
            return next(iter(grown))
    return None
