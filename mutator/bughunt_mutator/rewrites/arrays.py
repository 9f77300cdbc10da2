"""Arrays: the same kernel reached as a function, as a method or under another of its names."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import Change, rewrite
from bughunt_mutator.rewrites.look import (
    binary,
    instead,
    integer,
    is_number,
    method,
    operand,
    overloads,
    plain,
    renamed_function,
    speaks,
    tensor_method,
)
from bughunt_mutator.source import SourceFile

T = "import torch\n"
F = "from torch.nn import functional as F\n"

# Functions of torch that are methods too, with the same arguments behind the tensor.
BOTH = frozenset(
    [
        "abs",
        "amax",
        "amin",
        "argmax",
        "argmin",
        "argsort",
        "bincount",
        "clamp",
        "cos",
        "cumsum",
        "diagonal",
        "exp",
        "expm1",
        "flip",
        "gather",
        "index_add",
        "index_select",
        "isfinite",
        "isnan",
        "log",
        "log1p",
        "log_softmax",
        "logsumexp",
        "masked_select",
        "max",
        "mean",
        "min",
        "mul",
        "norm",
        "outer",
        "permute",
        "prod",
        "reciprocal",
        "relu",
        "repeat_interleave",
        "rsqrt",
        "scatter_reduce",
        "sigmoid",
        "sign",
        "sin",
        "softmax",
        "sort",
        "sqrt",
        "square",
        "squeeze",
        "std",
        "sum",
        "tanh",
        "topk",
        "transpose",
        "tril",
        "triu",
        "unbind",
        "var",
    ]
)
TENSORS_ONLY = frozenset(
    [
        "amax",
        "argmax",
        "clamp",
        "cos",
        "cumsum",
        "exp",
        "expm1",
        "gather",
        "index_add",
        "index_select",
        "log",
        "log1p",
        "log_softmax",
        "logsumexp",
        "masked_select",
        "mean",
        "norm",
        "relu",
        "repeat_interleave",
        "rsqrt",
        "scatter_reduce",
        "sigmoid",
        "sin",
        "softmax",
        "sqrt",
        "square",
        "std",
        "sum",
        "tanh",
        "topk",
        "tril",
        "triu",
        "unbind",
        "var",
    ]
)
NAMES = {
    "torch.cat": "concat",
    "torch.concat": "cat",
    "torch.abs": "absolute",
    "torch.clamp": "clip",
    "torch.mul": "multiply",
    "torch.div": "divide",
    "torch.sub": "subtract",
    "numpy.abs": "absolute",
    "numpy.absolute": "abs",
    "numpy.max": "amax",
    "numpy.min": "amin",
}
METHODS = {"clamp": "clip", "abs": "absolute", "ge": "greater_equal", "lt": "less", "mul": "multiply"}


@rewrite(
    "matmul-form",
    cst.BinaryOperation,
    examples=(
        Example(f"{T}y = a @ b\n", (f"{T}y = torch.matmul(a, b)\n", f"{T}y = a.matmul(b)\n")),
        Example("import numpy as np\ny = a @ b.T\n", ("import numpy as np\ny = np.matmul(a, b.T)\n",)),
    ),
    counterexamples=(
        "import numpy as np\nimport torch\ny = a @ b\n",
        f"{T}class A:\n    def __matmul__(self, other):\n        return self @ other\n",
    ),
)
def matmul_form(file: SourceFile, node: cst.BinaryOperation) -> Iterator[Change]:
    """A matrix product as an operator or as a call."""
    if not isinstance(node.operator, cst.MatrixMultiply) or overloads(file, "__matmul__", "matmul"):
        return
    for library in ("torch", "numpy"):
        spelled = file.spelling(f"{library}.matmul")
        if speaks(file, library) and spelled:
            yield from instead(file, node, f"{spelled}({_bare(file, node.left)}, {_bare(file, node.right)})")
    if speaks(file, "torch"):
        yield from instead(file, node, f"{operand(file, node.left)}.matmul({_bare(file, node.right)})")


def _bare(file: SourceFile, node: cst.BaseExpression) -> str:
    return file.text(node)[1:-1] if node.lpar and not isinstance(node, cst.Tuple) else file.text(node)


@rewrite(
    "matmul-operator",
    cst.Call,
    examples=(Example(f"{T}y = torch.matmul(a + c, b)\n", (f"{T}y = (a + c) @ b\n",)),),
    counterexamples=(f"{T}y = torch.matmul(a, b, out=c)\n",),
)
def matmul_operator(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """`matmul(a, b)` as `a @ b`."""
    if file.qname(call.func) in ("torch.matmul", "numpy.matmul") and plain(call, 2, 2):
        left, right = (operand(file, arg.value) for arg in call.args)
        yield from instead(file, call, f"{left} @ {right}")


@rewrite(
    "function-method",
    cst.Call,
    examples=(
        Example(f"{T}y = torch.softmax(a + b, dim=1)\n", (f"{T}y = (a + b).softmax(dim=1)\n",)),
        Example(f"{F}y = F.log_softmax(x, dim=-1)\n", (f"{F}y = x.log_softmax(dim=-1)\n",)),
        Example(f"{T}y = torch.sqrt(x)\n", (f"{T}y = x.sqrt()\n",)),
    ),
    counterexamples=(
        f"{T}y = torch.exp(2.0)\n",
        f"{T}y = torch.softmax(*args)\n",
        f"{T}class A:\n    def exp(self):\n        return torch.exp(self)\n",
    ),
)
def function_method(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """A function of torch as the method of its first argument."""
    home, _, name = (file.qname(call.func) or "").rpartition(".")
    functional = home == "torch.nn.functional" and name in (
        "softmax",
        "log_softmax",
        "relu",
        "sigmoid",
        "tanh",
    )
    if not (functional or (home == "torch" and name in BOTH)) or overloads(file, name):
        return
    if not call.args or call.args[0].keyword or call.args[0].star or is_number(call.args[0].value):
        return
    rest = ", ".join(file.text(arg) for arg in call.args[1:]).rstrip(", ")
    yield from instead(file, call, f"{operand(file, call.args[0].value)}.{name}({rest})")


@rewrite(
    "method-function",
    cst.Call,
    examples=(
        Example(f"{T}y = x.softmax(dim=1)\n", (f"{T}y = torch.softmax(x, dim=1)\n",)),
        Example(f"{T}y = (a - b).sum(0)\n", (f"{T}y = torch.sum(a - b, 0)\n",)),
    ),
    counterexamples=(
        "import numpy as np\ny = x.sum(0)\n",
        "import torch\ndef mean(x):\n    return x.mean()\n",
        f"{T}y = math.exp(x)\n",
    ),
    odds=0.6,
)
def method_function(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """A method of a tensor as the function of that name."""
    subject = tensor_method(file, call, *TENSORS_ONLY)
    if subject is None or file.spelling("torch") != "torch" or any(arg.star for arg in call.args):
        return
    if isinstance(subject, cst.Name) and subject.value in ("math", "log", "logger", "np"):
        return
    assert isinstance(call.func, cst.Attribute)
    rest = "".join(f", {file.text(arg).rstrip(', ')}" for arg in call.args)
    yield from instead(file, call, f"torch.{call.func.attr.value}({_bare(file, subject)}{rest})")


@rewrite(
    "other-name",
    cst.Call,
    examples=(
        Example(f"{T}y = torch.cat([a, b])\n", (f"{T}y = torch.concat([a, b])\n",)),
        Example("import numpy as np\ny = np.abs(a)\n", ("import numpy as np\ny = np.absolute(a)\n",)),
        Example(f"{T}y = x.clamp(min=0)\n", (f"{T}y = x.clip(min=0)\n",)),
    ),
    counterexamples=(f"{T}y = torch.stack([a, b])\n", "y = cat([a, b])\n"),
)
def other_name(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """A function or method under the other name that the library gives it."""
    full = file.qname(call.func)
    if full in NAMES and isinstance(call.func, cst.Attribute):
        yield Change((file.replace(call.func.attr, NAMES[full]),))
    elif tensor_method(file, call, *METHODS) is not None:
        assert isinstance(call.func, cst.Attribute)
        yield Change((file.replace(call.func.attr, METHODS[call.func.attr.value]),))


@rewrite(
    "masked-fill-where",
    cst.Call,
    examples=(
        Example(f"{T}y = x.masked_fill(m, 0.0)\n", (f"{T}y = torch.where(m, 0.0, x)\n",)),
        Example(f"{T}y = x.masked_fill(~m, -torch.inf)\n", (f"{T}y = torch.where(m, x, -torch.inf)\n",)),
    ),
    counterexamples=(f"{T}x.masked_fill_(m, 0.0)\n", f"{T}y = x.masked_fill(m, value)\n"),
)
def masked_fill_where(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """A constant where a mask is true, by `masked_fill` or by `where`."""
    subject = tensor_method(file, call, "masked_fill")
    if subject is None or not plain(call, 2, 2) or file.spelling("torch") != "torch":
        return
    mask, filler = (arg.value for arg in call.args)
    if not (is_number(filler) or "inf" in file.text(filler)):
        return
    value = file.text(filler)
    if isinstance(mask, cst.UnaryOperation) and isinstance(mask.operator, cst.BitInvert):
        new = f"torch.where({_bare(file, mask.expression)}, {_bare(file, subject)}, {value})"
    else:
        new = f"torch.where({file.text(mask)}, {value}, {_bare(file, subject)})"
    yield from instead(file, call, new)


@rewrite(
    "square-form",
    cst.Call,
    cst.BinaryOperation,
    examples=(
        Example(f"{T}y = x.pow(2)\n", (f"{T}y = x**2\n", f"{T}y = x.square()\n")),
        Example(f"{T}y = torch.square(a - b)\n", (f"{T}y = (a - b) ** 2\n",)),
        Example(
            f"{T}y = ((a - b) ** 2).mean()\n",
            (f"{T}y = (a - b).square().mean()\n", f"{T}y = (a - b).pow(2).mean()\n"),
        ),
        Example("import numpy as np\ny = (d**2).sum()\n", ("import numpy as np\ny = np.square(d).sum()\n",)),
    ),
    counterexamples=(f"{T}y = n**2\n", f"{T}y = x.pow(3)\n", "y = (a**2).sum()\n"),
)
def square_form(file: SourceFile, node: cst.CSTNode) -> Iterator[Change]:
    """A square as a power, a method or a function."""
    if overloads(file, "__pow__", "pow", "square"):
        return
    if isinstance(node, cst.Call):
        yield from _square_call(file, node)
    elif binary(node, cst.Power) and integer(node.right) == 2:  # type: ignore[attr-defined]
        yield from _square_power(file, node)  # type: ignore[arg-type]


def _square_call(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    if file.qname(call.func) in ("torch.square", "numpy.square") and plain(call, 1, 1):
        yield from instead(file, call, _power(file, call.args[0].value))
    subject = tensor_method(file, call, "pow", "square")
    if subject is None or [integer(arg.value) for arg in call.args] not in ([2], []):
        return
    yield from instead(file, call, _power(file, subject))
    if call.args:
        yield from instead(file, call, f"{operand(file, subject)}.square()")


def _power(file: SourceFile, node: cst.BaseExpression) -> str:
    text = operand(file, node)
    return f"{text}**2" if isinstance(node, cst.Name | cst.Attribute) else f"{text} ** 2"


def _square_power(file: SourceFile, node: cst.BinaryOperation) -> Iterator[Change]:
    above = file.parent[node]
    if not (isinstance(above, cst.Attribute) and above.attr.value in ("mean", "sum", "sqrt")):
        return
    left = node.left
    if speaks(file, "torch"):
        yield from instead(file, node, f"{operand(file, left)}.square()")
        yield from instead(file, node, f"{operand(file, left)}.pow(2)")
    elif speaks(file, "numpy") and (spelled := file.spelling("numpy.square")):
        yield from instead(file, node, f"{spelled}({_bare(file, left)})")


@rewrite(
    "infinity-form",
    cst.Attribute,
    cst.Call,
    examples=(
        Example(f"{T}y = torch.ones(2) * -torch.inf\n", (f'{T}y = torch.ones(2) * -float("inf")\n',)),
        Example(f'{T}y = float("-inf")\n', (f"{T}y = -torch.inf\n",)),
        Example('import math\ny = float("inf")\n', ("import math\ny = math.inf\n",)),
    ),
    counterexamples=("y = float(inf)\n", f'{T}y = float("nan")\n'),
)
def infinity_form(file: SourceFile, node: cst.CSTNode) -> Iterator[Change]:
    """Infinity as a constant of a library or spelled out."""
    if isinstance(node, cst.Attribute) and file.qname(node) in ("torch.inf", "math.inf", "numpy.inf"):
        home = file.text(node.value)
        if file.source.count(f"{home}.") > 1:
            yield from instead(file, node, 'float("inf")')
    elif isinstance(node, cst.Call) and file.text(node) in ('float("inf")', 'float("-inf")'):
        known = next((h for h in ("torch", "math", "numpy") if file.spelling(h)), None)
        if known:
            sign = "-" if "-" in file.text(node) else ""
            yield from instead(file, node, f"{sign}{file.spelling(known)}.inf")


@rewrite(
    "extremum-field",
    cst.Subscript,
    cst.Attribute,
    examples=(
        Example(f"{T}y = x.max(dim=1)[0]\n", (f"{T}y = x.max(dim=1).values\n",)),
        Example(f"{T}y = x.topk(3).indices\n", (f"{T}y = x.topk(3)[1]\n",)),
        Example(f"{T}y = x.max(dim=1).values\n", (f"{T}y = x.max(dim=1)[0]\n",)),
    ),
    counterexamples=(f"{T}y = x.max()[0]\n", f"{T}y = x.topk(3)[2]\n", f"{T}y = d.values\n"),
)
def extremum_field(file: SourceFile, node: cst.CSTNode) -> Iterator[Change]:
    """Values and places of the largest, by field or by index."""
    if not isinstance(node, cst.Subscript | cst.Attribute):
        return
    subject = node.value
    if method(subject, "max", "min", "sort", "topk", "median") is None or not subject.args:  # type: ignore[attr-defined]
        return
    if isinstance(node, cst.Attribute):
        place = {"values": 0, "indices": 1}.get(node.attr.value)
        if place is not None and not isinstance(file.parent[node], cst.Call):
            yield from instead(file, node, f"{file.text(subject)}[{place}]")
    elif len(node.slice) == 1 and isinstance(node.slice[0].slice, cst.Index):
        field = {0: "values", 1: "indices"}.get(integer(node.slice[0].slice.value) or 0)
        if integer(node.slice[0].slice.value) in (0, 1):
            yield from instead(file, node, f"{file.text(subject)}.{field}")


@rewrite(
    "zero-grad-default",
    cst.Call,
    examples=(
        Example("opt.zero_grad()\n", ("opt.zero_grad(set_to_none=True)\n",)),
        Example("opt.zero_grad(set_to_none=True)\n", ("opt.zero_grad()\n",)),
    ),
    counterexamples=("opt.zero_grad(set_to_none=False)\n", "def zero_grad():\n    opt.zero_grad()\n"),
)
def zero_grad_default(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """What `zero_grad` does by default, said or left unsaid."""
    if method(call, "zero_grad") is None or overloads(file, "zero_grad"):
        return
    if not call.args:
        yield Change((file.insert_arg(call, "set_to_none=True"),))
    elif file.text(call.args[0]) == "set_to_none=True" and len(call.args) == 1:
        yield Change((file.delete_arg(call, call.args[0]),))


@rewrite(
    "functional-name",
    cst.Call,
    examples=(
        Example(
            f"{T}{F}y = F.softmax(x, dim=1) + F.relu(z)\n",
            (
                f"{T}{F}y = torch.softmax(x, dim=1) + F.relu(z)\n",
                f"{T}{F}y = F.softmax(x, dim=1) + torch.relu(z)\n",
            ),
        ),
    ),
    counterexamples=(f"{F}y = F.softmax(x, dim=1)\n", f"{T}{F}y = F.gelu(x)\n"),
)
def functional_name(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """A function that both `torch` and `torch.nn.functional` have, from `torch`."""
    home, _, name = (file.qname(call.func) or "").rpartition(".")
    if home != "torch.nn.functional" or name not in ("softmax", "log_softmax", "relu"):
        return
    module = file.text(call.func).rpartition(".")[0]
    if file.spelling("torch") == "torch" and file.source.count(f"{module}.") > 1:
        yield Change((renamed_function(file, call, f"torch.{name}"),))
