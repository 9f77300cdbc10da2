"""Shapes: other ways to ask for a size, and to look at the same numbers in another shape."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import Change, rewrite
from bughunt_mutator.rewrites.look import (
    instead,
    integer,
    method,
    operand,
    overloads,
    plain,
    speaks,
    tensor_method,
    view,
)
from bughunt_mutator.source import SourceFile

T = "import torch\n"
INDEX: dict[int | None, str] = {0: "None", -1: "..., None", 1: ":, None"}


@rewrite(
    "view-reshape",
    cst.Call,
    examples=(Example(f"{T}y = x.view(2, -1)\n", (f"{T}y = x.reshape(2, -1)\n",)),),
    counterexamples=(
        f"{T}y = x.view(torch.int32)\n",
        "import numpy as np\ny = x.view(2, -1)\n",
        f"{T}y = x.reshape(2, -1)\n",
    ),
)
def view_reshape(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """`x.view(...)` as `x.reshape(...)`, which copies nothing where a view is possible."""
    subject = tensor_method(file, call, "view")
    if subject is None or not call.args or file.qname(call.args[0].value):
        return
    assert isinstance(call.func, cst.Attribute)
    yield Change((file.replace(call.func.attr, "reshape"),))


@rewrite(
    "transpose-form",
    cst.Call,
    examples=(
        Example(
            f"{T}y = x.transpose(-2, -1)\n",
            (f"{T}y = x.swapaxes(-2, -1)\n", f"{T}y = x.mT\n"),
        ),
        Example(f"{T}y = torch.transpose(x, 1, 2)\n", (f"{T}y = x.transpose(1, 2)\n",)),
    ),
    counterexamples=("import numpy as np\ny = x.transpose(1, 0)\n",),
)
def transpose_form(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """Two axes exchanged: `transpose`, `swapaxes`, and `mT` for the last two."""
    if file.qname(call.func) == "torch.transpose" and plain(call, 3, 3):
        first, *axes = (file.text(arg.value) for arg in call.args)
        new = f"{operand(file, call.args[0].value)}.transpose({', '.join(axes)})"
        yield from instead(file, call, new) if first else ()
    subject = tensor_method(file, call, "transpose")
    if subject is None or not plain(call, 2, 2):
        return
    assert isinstance(call.func, cst.Attribute)
    yield Change((file.replace(call.func.attr, "swapaxes"),))
    if {integer(arg.value) for arg in call.args} == {-1, -2}:
        yield from instead(file, call, f"{operand(file, subject)}.mT")


@rewrite(
    "matrix-transpose",
    cst.Attribute,
    examples=(
        Example(f"{T}y = x.mT\n", (f"{T}y = x.transpose(-2, -1)\n",)),
        Example(f"{T}y = x.T\n", (f"{T}y = x.t()\n",)),
    ),
    counterexamples=("import numpy as np\ny = x.T\n", f"{T}T = 3\ny = x.TT\n"),
)
def matrix_transpose(file: SourceFile, node: cst.Attribute) -> Iterator[Change]:
    """`x.mT` and `x.T` as calls."""
    name = node.attr.value
    if name not in ("mT", "T") or not speaks(file, "torch") or overloads(file, name, "t"):
        return
    if isinstance(node.value, cst.Name) and node.value.value in ("self", "cfg"):
        return
    call = "transpose(-2, -1)" if name == "mT" else "t()"
    yield from instead(file, node, f"{operand(file, node.value)}.{call}")


@rewrite(
    "size-shape",
    cst.Call,
    cst.Subscript,
    cst.Attribute,
    examples=(
        Example(f"{T}n = x.size(0)\n", (f"{T}n = x.shape[0]\n",)),
        Example(f"{T}n = x.shape[-1]\n", (f"{T}n = x.size(-1)\n",)),
        Example(f"{T}B, T = x.shape\n", (f"{T}B, T = x.size()\n",)),
        Example(
            f"{T}n = x.dim() + x.numel()\n",
            (f"{T}n = x.ndim + x.numel()\n", f"{T}n = x.dim() + x.nelement()\n"),
        ),
    ),
    counterexamples=(
        "import numpy as np\nn = x.shape[0]\n",
        f"{T}n = x.shape[1:]\n",
        f"{T}class A:\n    def size(self, i):\n        return self.shape[i]\n",
    ),
)
def size_shape(file: SourceFile, node: cst.CSTNode) -> Iterator[Change]:
    """A size by method or by attribute."""
    if isinstance(node, cst.Attribute) and node.attr.value != "shape":
        return
    if not speaks(file, "torch") or overloads(file, "size", "shape", "dim", "numel"):
        return
    match node:
        case cst.Call(args=[cst.Arg(keyword=None, star="", value=axis)]):
            if (subject := method(node, "size")) is not None and integer(axis) is not None:
                yield from instead(file, node, f"{operand(file, subject)}.shape[{file.text(axis)}]")
        case cst.Call(args=[], func=cst.Attribute(attr=attr)):
            if (subject := method(node, "dim")) is not None:
                yield from instead(file, node, f"{operand(file, subject)}.ndim")
            elif method(node, "numel") is not None:
                yield Change((file.replace(attr, "nelement"),))
            elif (subject := method(node, "size")) is not None:
                yield from instead(file, node, f"{operand(file, subject)}.shape")
        case cst.Subscript(
            value=cst.Attribute(attr=cst.Name("shape")) as shape,
            slice=[cst.SubscriptElement(slice=cst.Index(value=place))],
        ):
            if integer(place) is not None and not _is_own(shape.value):
                yield from instead(file, node, f"{operand(file, shape.value)}.size({file.text(place)})")
        case cst.Attribute(attr=cst.Name("shape")):
            if isinstance(file.parent[node], cst.Assign) and not _is_own(node.value):
                yield from instead(file, node, f"{operand(file, node.value)}.size()")


def _is_own(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name) and node.value == "self"


@rewrite(
    "new-axis",
    cst.Call,
    cst.Subscript,
    examples=(
        Example(f"{T}y = x.unsqueeze(0)\n", (f"{T}y = x[None]\n",)),
        Example(f"{T}y = x.unsqueeze(-1)\n", (f"{T}y = x[..., None]\n",)),
        Example(f"{T}y = x.unsqueeze(1)\n", (f"{T}y = x[:, None]\n",)),
        Example(f"{T}y = x[:, None]\n", (f"{T}y = x.unsqueeze(1)\n",)),
        Example(f"{T}y = x[..., None]\n", (f"{T}y = x.unsqueeze(-1)\n",)),
        Example(f"{T}y = x[None, :]\n", (f"{T}y = x.unsqueeze(0)\n",)),
        Example(
            "import numpy as np\ny = x[:, None]\n",
            ("import numpy as np\ny = x[:, np.newaxis]\n", "import numpy as np\ny = np.expand_dims(x, 1)\n"),
        ),
    ),
    counterexamples=(f"{T}y = x[None:, 2]\n", f"{T}y = x.unsqueeze(axis)\n", f"{T}x[:, None] = 3\n"),
)
def new_axis(file: SourceFile, node: cst.CSTNode) -> Iterator[Change]:
    """An axis of length one, by method or by index."""
    if isinstance(node, cst.Call):
        subject = tensor_method(file, node, "unsqueeze")
        if subject is None or not plain(node, 1, 1):
            return
        at = integer(node.args[0].value)
        if at in INDEX:
            yield from instead(file, node, f"{operand(file, subject)}[{INDEX[at]}]")
    elif isinstance(node, cst.Subscript) and not isinstance(
        file.parent[node], cst.AssignTarget | cst.AugAssign | cst.Del
    ):
        index = ", ".join(file.text(element.slice) for element in node.slice)
        axis = {":, None": 1, "..., None": -1, "None, :": 0, "None": 0}.get(index)
        if axis is None:
            return
        if speaks(file, "torch"):
            yield from instead(file, node, f"{operand(file, node.value)}.unsqueeze({axis})")
        elif speaks(file, "numpy") and (np := file.spelling("numpy")):
            yield from instead(
                file, node, f"{operand(file, node.value)}[{index.replace('None', f'{np}.newaxis')}]"
            )
            yield from instead(file, node, f"{np}.expand_dims({file.text(node.value)}, {axis})")


@rewrite(
    "flat-form",
    cst.Call,
    examples=(
        Example(f"{T}y = x.flatten()\n", (f"{T}y = x.reshape(-1)\n", f"{T}y = x.ravel()\n")),
        Example(f"{T}y = x.reshape(-1)\n", (f"{T}y = x.flatten()\n",)),
        Example("import numpy as np\ny = x.ravel()\n", ("import numpy as np\ny = x.reshape(-1)\n",)),
    ),
    counterexamples=(
        f"{T}y = x.flatten(1)\n",
        "import numpy as np\ny = x.flatten()\n",
        f"{T}y = x.reshape(-1, 2)\n",
    ),
)
def flat_form(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """All axes as one: `flatten()`, `ravel()` and `reshape(-1)`."""
    if (subject := tensor_method(file, call, "flatten", "ravel")) is not None and not call.args:
        yield from instead(file, call, f"{operand(file, subject)}.reshape(-1)")
        if method(call, "flatten") is not None:
            yield from instead(file, call, f"{operand(file, subject)}.ravel()")
    subject = tensor_method(file, call, "reshape", "view")
    if subject is not None and plain(call, 1, 1) and integer(call.args[0].value) == -1:
        yield from instead(file, call, f"{operand(file, subject)}.flatten()")
    if speaks(file, "numpy") and (subject := method(call, "ravel")) is not None and not call.args:
        yield from instead(file, call, f"{operand(file, subject)}.reshape(-1)")


@rewrite(
    "chunk-split",
    cst.Call,
    examples=(
        Example(
            f"{T}a, b = x.chunk(2, dim=-1)\n",
            (f"{T}a, b = x.split(x.size(-1) // 2, dim=-1)\n", f"{T}a, b = x.tensor_split(2, dim=-1)\n"),
        ),
    ),
    counterexamples=(f"{T}a, b = f(x).chunk(2)\n",),
)
def chunk_split(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """So many pieces, or pieces of such a size."""
    subject = tensor_method(file, call, "chunk")
    count, axis = file.arg(call, "chunks", 0), file.arg(call, "dim", 1)
    if not isinstance(subject, cst.Name) or count is None or axis is None or integer(axis.value) is None:
        return
    along = file.text(axis.value)
    pieces = file.text(count.value)
    yield from instead(
        file, call, f"{subject.value}.split({subject.value}.size({along}) // {pieces}, dim={along})"
    )
    yield from instead(file, call, f"{subject.value}.tensor_split({pieces}, dim={along})")


@rewrite(
    "full-slice",
    cst.Subscript,
    examples=(Example(f"{T}y = x[:, -1]\n", (f"{T}y = x.select(1, -1)\n",)),),
    counterexamples=(f"{T}x[:, -1] = 2\n", f"{T}y = x[:, 1:]\n", "import numpy as np\ny = x[:, -1]\n"),
    odds=0.4,
)
def full_slice(file: SourceFile, node: cst.Subscript) -> Iterator[Change]:
    """One column by index or by `select`; both are views."""
    if not speaks(file, "torch") or len(node.slice) != 2:
        return
    if isinstance(file.parent[node], cst.AssignTarget | cst.AugAssign | cst.Del | cst.Attribute):
        return
    first, second = (element.slice for element in node.slice)
    if file.text(first) == ":" and isinstance(second, cst.Index) and integer(second.value) is not None:
        yield from instead(file, node, f"{operand(file, node.value)}.select(1, {file.text(second.value)})")


@rewrite(
    "last-axes",
    cst.Call,
    examples=(
        Example(
            f"{T}y = x.flatten(1)\n", (f"{T}y = x.flatten(start_dim=1)\n", f"{T}y = torch.flatten(x, 1)\n")
        ),
    ),
    counterexamples=(f"{T}y = x.flatten()\n", "import numpy as np\ny = x.flatten(1)\n"),
)
def last_axes(file: SourceFile, call: cst.Call) -> Iterator[Change]:
    """Axes joined from one on, by keyword or as a function."""
    subject = tensor_method(file, call, "flatten")
    if subject is None or not plain(call, 1, 1):
        return
    first = file.text(call.args[0].value)
    yield from instead(file, call, f"{operand(file, subject)}.flatten(start_dim={first})")
    if "torch" in view(file).words and file.spelling("torch") == "torch":
        yield from instead(file, call, f"torch.flatten({file.text(subject)}, {first})")
