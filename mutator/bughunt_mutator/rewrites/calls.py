"""Calls: arguments by keyword or by position, and keywords in another order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import BLOCKS, Change, rewrite
from bughunt_mutator.rewrites.look import grown, inside, is_pure, method, overloads, speaks, view, within
from bughunt_mutator.source import SourceFile

T = "import torch\n"
NN = "from torch import nn\n"
WIDE = 106

SIGNATURES: dict[str, str] = {
    "torch.arange": "",
    "torch.argmax": "input dim keepdim",
    "torch.cat": "tensors dim",
    "torch.concat": "tensors dim",
    "torch.log_softmax": "input dim",
    "torch.mean": "input dim keepdim",
    "torch.nn.AvgPool2d": "kernel_size stride padding",
    "torch.nn.BatchNorm2d": "num_features eps momentum",
    "torch.nn.Conv1d": "in_channels out_channels kernel_size stride padding",
    "torch.nn.Conv2d": "in_channels out_channels kernel_size stride padding",
    "torch.nn.Dropout": "p inplace",
    "torch.nn.Embedding": "num_embeddings embedding_dim padding_idx",
    "torch.nn.GRU": "input_size hidden_size num_layers",
    "torch.nn.LSTM": "input_size hidden_size num_layers",
    "torch.nn.LayerNorm": "normalized_shape eps",
    "torch.nn.Linear": "in_features out_features bias",
    "torch.nn.functional.binary_cross_entropy_with_logits": "input target weight",
    "torch.nn.functional.conv2d": "input weight bias stride padding",
    "torch.nn.functional.cross_entropy": "input target weight",
    "torch.nn.functional.dropout": "input p training",
    "torch.nn.functional.linear": "input weight bias",
    "torch.nn.functional.mse_loss": "input target",
    "torch.nn.functional.nll_loss": "input target weight",
    "torch.nn.functional.one_hot": "tensor num_classes",
    "torch.nn.functional.pad": "input pad mode value",
    "torch.nn.functional.softmax": "input dim",
    "torch.nn.init.normal_": "tensor mean std",
    "torch.nn.init.uniform_": "tensor a b",
    "torch.nn.utils.clip_grad_norm_": "parameters max_norm norm_type",
    "torch.optim.Adam": "params lr betas eps weight_decay",
    "torch.optim.AdamW": "params lr betas eps weight_decay",
    "torch.optim.SGD": "params lr momentum dampening weight_decay",
    "torch.softmax": "input dim",
    "torch.stack": "tensors dim",
    "torch.sum": "input dim keepdim",
    "torch.tril": "input diagonal",
    "torch.triu": "input diagonal",
    "numpy.argmax": "a axis",
    "numpy.argsort": "a axis",
    "numpy.concatenate": "_ axis",
    "numpy.full": "shape fill_value dtype",
    "numpy.max": "a axis",
    "numpy.mean": "a axis dtype",
    "numpy.min": "a axis",
    "numpy.ones": "shape dtype",
    "numpy.stack": "arrays axis",
    "numpy.sum": "a axis dtype",
    "numpy.zeros": "shape dtype",
}
METHODS: dict[str, dict[str, str]] = {
    "torch": {
        "argmax": "dim keepdim", "chunk": "chunks dim", "cumsum": "dim", "diagonal": "offset dim1 dim2",
        "expand_as": "", "log_softmax": "dim", "logsumexp": "dim keepdim", "masked_fill": "mask value",
        "mean": "dim keepdim", "softmax": "dim", "split": "split_size dim", "sum": "dim keepdim",
        "topk": "k dim", "tril": "diagonal", "triu": "diagonal", "unbind": "dim", "index_select": "dim index",
        "g"
        "ather": "dim index", "repeat_interleave": "repeats dim", "argsort": "dim descending",
        "sort": "dim descending",
    },
    "numpy": {
        "argmax": "axis", "argmin": "axis", "argsort": "axis", "astype": "dtype", "cumsum": "axis",
        "max": "axis", "mean": "axis dtype", "min": "axis", "prod": "axis", "std": "axis",
        "sum": "axis dtype", "var": "axis",
    },
}  # fmt: skip


@rewrite(
    "keyword-position",
    cst.Call,
    odds=0.6,
    examples=(
        Example(f"{T}y = torch.softmax(x, dim=1)\n", (f"{T}y = torch.softmax(x, 1)\n",)),
        Example(f"{T}y = x.sum(0)\n", (f"{T}y = x.sum(dim=0)\n",)),
        Example(f"{NN}y = nn.Linear(3, 4)\n", (f"{NN}y = nn.Linear(3, out_features=4)\n",)),
        Example("import numpy as np\ny = x.sum(axis=1)\n", ("import numpy as np\ny = x.sum(1)\n",)),
        Example(
            "def f(a, b):\n    return a - b\ny = f(1, 2)\n",
            ("def f(a, b):\n    return a - b\ny = f(1, b=2)\n",),
        ),
    ),
    counterexamples=(
        "y = x.sum(axis=1)\n",
        f"{T}y = torch.softmax(*x, dim=1)\n",
        f"{T}y = torch.cat([a, b])\n",
        "def f(a, /, b):\n    return b\ny = f(*a)\n",
    ),
)
def keyword_position(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """The last argument by position passed by its keyword, or the first keyword passed by position."""
    names = _parameters(file, call)
    if not names or any(arg.star for arg in call.args):
        return
    given = [arg for arg in call.args if arg.keyword is None]
    last = len(given) - 1
    named = 0 < last < len(names) or (last == 0 and _is_method(file, call))
    if named and names[last] not in ("", "_"):
        new = f"{names[last]}={file.text(given[last].value)}"
        if grown(file, given[last], new):
            yield Change((file.edit(*file.span(given[last].value), new),))
    if len(given) < len(call.args) and len(given) < len(names):
        arg = call.args[len(given)]
        if arg.keyword is not None and arg.keyword.value == names[len(given)]:
            start, end = file.span(arg.keyword)[0], file.span(arg.value)[0]
            yield Change((file.edit(start, end, ""),))


def _is_method(file: SourceFile, call: cst.Call) -> bool:
    return isinstance(call.func, cst.Attribute) and file.qname(call.func) is None


def _parameters(file: SourceFile, call: cst.Call) -> list[str]:
    """The names of what a call passes, where they are known."""
    full = file.qname(call.func)
    if full is not None:
        return SIGNATURES.get(full, "").split()
    if isinstance(call.func, cst.Name):
        return _own(file, call.func.value)
    for library, names in METHODS.items():
        subject = method(call, *names)
        if subject is not None and speaks(file, library) and not file.qname(subject):
            assert isinstance(call.func, cst.Attribute)
            name = call.func.attr.value
            if not overloads(file, name) and file.text(subject) not in ("self", "super()"):
                return names[name].split()
    return []


def _own(file: SourceFile, name: str) -> list[str]:
    """The parameters of the one function of the module that has this name."""
    known = view(file)
    found = known.functions.get(name, [])
    if len(found) != 1 or name in known.classes or file.parent[found[0]] is not file.module:
        return []
    params = found[0].params
    if params.posonly_params or isinstance(params.star_arg, cst.Param) or found[0].decorators:
        return []
    bound = "assigned" in known.names.root.ways[name]
    return [] if bound else [param.name.value for param in params.params]


@rewrite(
    "keyword-order",
    cst.Call,
    odds=0.6,
    turn=BLOCKS,
    examples=(Example("y = f(x, a=1, b=c.d)\n", ("y = f(x, b=c.d, a=1)\n",)),),
    counterexamples=("y = f(a=g(), b=h())\n", "y = f(a=1, **b)\n", "y = f(x, a=1)\n"),
)
def keyword_order(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """Two neighbouring keyword arguments exchanged."""
    if any(arg.star for arg in call.args):
        return
    named = [arg for arg in call.args if arg.keyword is not None]
    for one, two in pairwise(named):
        texts = [_argument(file, arg) for arg in (one, two)]
        if all(is_pure(file, arg.value) for arg in (one, two)) and not any("\n" in text for text in texts):
            spans = [
                (file.span(arg.keyword)[0], file.span(arg.value)[1]) for arg in (one, two) if arg.keyword
            ]
            yield Change((file.edit(*spans[0], texts[1]), file.edit(*spans[1], texts[0])))


def _argument(file: SourceFile, arg: cst.Arg) -> str:
    assert arg.keyword is not None
    return file.source[file.span(arg.keyword)[0] : file.span(arg.value)[1]]


@rewrite(
    "no-grad-block",
    cst.FunctionDef,
    turn=BLOCKS,
    odds=0.6,
    examples=(
        Example(
            f'{T}@torch.no_grad()\ndef f(x):\n    """Doc."""\n    y = g(x)\n    return y\n',
            (
                f'{T}def f(x):\n    """Doc."""\n    with torch.no_grad():\n        y = g(x)\n'
                "        return y\n",
            ),
        ),
    ),
    counterexamples=(
        f"{T}@torch.no_grad()\ndef f(x):\n    yield g(x)\n",
        f"{T}@other\n@torch.no_grad()\ndef f(x):\n    return g(x)\n",
        f'{T}@torch.no_grad()\ndef f(x):\n    return """a\nb"""\n',
    ),
)
def no_grad_block(file: SourceFile, node: cst.FunctionDef) -> Iterator[Change]:
    """Gradients switched off by a block instead of by a decorator."""
    if len(node.decorators) != 1 or file.text(node.decorators[0]).strip() != "@torch.no_grad()":
        return
    if not isinstance(node.body, cst.IndentedBlock) or list(inside(node.body, cst.Yield, cst.FunctionDef)):
        return
    lines = node.body.body
    described = (
        isinstance(lines[0], cst.SimpleStatementLine)
        and isinstance(lines[0].body[0], cst.Expr)
        and isinstance(lines[0].body[0].value, cst.SimpleString)
    )
    rest = lines[1:] if described else lines
    if not rest or any(
        "\n" in file.text(each)
        for line in rest
        for each in within(line)
        if isinstance(each, cst.SimpleString | cst.FormattedString)
    ):
        return
    start, end = file.outer[rest[0]][0], file.outer[rest[-1]][1]
    step, margin = file.module.default_indent, file.indent(rest[0])
    starts = [at for at in range(start, end) if at == start or file.source[at - 1] == "\n"]
    starts = [at for at in starts if file.source[at] not in "\r\n"]
    if any(len(file.source[at:].split("\n", 1)[0]) > WIDE for at in starts):
        return
    first = file.edit(start, start, f"{margin}with torch.no_grad():{file.newline}{step}")
    inner = [file.edit(at, at, step) for at in starts if at != start]
    above = file.edit(*file.outer[node.decorators[0]], "")
    yield Change((above, first, *inner))
