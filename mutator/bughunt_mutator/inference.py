"""Inference: the shape of an expression that nobody has run, from what is known of its parts."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TypeAlias

from bughunt_mutator import shapes
from bughunt_mutator.facts import ARRAYS, Fact
from bughunt_mutator.operations import (
    ALONG,
    ARITHMETIC,
    LIBRARIES,
    PAIRING,
    POINTWISE,
    REDUCING,
    TURNED,
    WHOLE,
)
from bughunt_mutator.shapes import MisfitError, Shape

Known: TypeAlias = Callable[[ast.expr], Fact | None]
Parts: TypeAlias = tuple[str, ast.expr, list[ast.expr]]  # an operation, its operand, what else it is given


class Inference:
    """Shapes of expressions in one moment of a run.

    `known` is asked first, for every expression. `before` says what the `originals` were in the run, with
    which calls are compared that nothing is known about.
    """

    def __init__(
        self, known: Known, before: Known, aliases: Mapping[str, str], originals: Sequence[ast.expr] = ()
    ) -> None:
        self._known, self._before, self._aliases = known, before, aliases
        parts = (part for node in originals for part in ast.walk(node))
        self._originals = [part for part in parts if isinstance(part, ast.Call)]

    def of(self, node: ast.expr) -> Fact | None:
        """What an expression is, if that can be told; MisfitError where it is refused."""
        if (found := self._known(node)) is not None:
            return found
        match node:
            case ast.Constant(value=int() as value):
                return Fact("int", value=int(value))
            case ast.Constant(value=float()):
                return Fact("float")
            case ast.UnaryOp(operand=operand):
                return self._signed(node, self.of(operand))
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return self._several(parts)
            case ast.BinOp(left=left, right=right, op=op):
                return self._binary(self.of(left), self.of(right), op)
            case ast.Compare(left=left, comparators=[right]):
                return self._met(self.of(left), self.of(right))
            case ast.IfExp(body=body, orelse=orelse):
                one, other = self.of(body), self.of(orelse)
                return one if one == other else None
            case ast.Attribute(value=value, attr=name):
                return self._attribute(self.of(value), name)
            case ast.Subscript(value=value, slice=index):
                return self._subscript(self.of(value), index)
            case ast.Call():
                return self._call(node)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr) and not isinstance(node, ast.Lambda):
                self.of(child)
        return None

    def operation(self, node: ast.Call) -> Parts | None:
        """The array operation that a call is, as `op(x, ...)` or `x.op(...)`."""
        if any(isinstance(each, ast.Starred) for each in node.args):
            return None
        qualified = self._qname(node.func)
        if qualified is not None:
            home, _, name = qualified.rpartition(".")
            return (name, node.args[0], node.args[1:]) if home in LIBRARIES and node.args else None
        if isinstance(node.func, ast.Attribute):
            return node.func.attr, node.func.value, node.args
        return None

    def _qname(self, node: ast.expr) -> str | None:
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self._aliases:
            return None
        return ".".join([self._aliases[node.id], *reversed(parts)])

    # Parts of expressions

    def _signed(self, node: ast.UnaryOp, found: Fact | None) -> Fact | None:
        if found is not None and isinstance(node.op, ast.USub) and isinstance(found.value, int):
            return Fact("int", value=-found.value)
        return found if found is not None and found.is_array else None

    def _several(self, parts: Sequence[ast.expr]) -> Fact | None:
        values = [self._int(each) for each in parts]
        whole = [value for value in values if value is not None]
        return Fact("tuple", value=tuple(whole)) if len(whole) == len(parts) else None

    def _binary(self, one: Fact | None, two: Fact | None, op: ast.operator) -> Fact | None:
        if isinstance(op, ast.MatMult):
            if one and two and one.shape is not None and two.shape is not None:
                return _array(shapes.matmul(one.shape, two.shape), one)
            return None
        if one and two and isinstance(one.value, int) and isinstance(two.value, int):
            sums = ARITHMETIC.get(type(op))
            return Fact("int", value=sums(one.value, two.value)) if sums and two.value else Fact("float")
        if one and two and {one.kind, two.kind} <= {"int", "float"}:
            return Fact("float")
        return self._met(one, two)

    def _met(self, *found: Fact | None) -> Fact | None:
        """What comes of arrays and numbers that meet element by element."""
        arrays = [fact for fact in found if fact is not None and fact.kind in ARRAYS]
        if not arrays or any(fact is None for fact in found):
            return None
        if any(fact is not None and fact.kind not in (*ARRAYS, "int", "float", "bool") for fact in found):
            return None
        sizes = [fact.shape for fact in arrays if fact.shape is not None]
        return _array(shapes.broadcast(*sizes), arrays[0]) if len(sizes) == len(arrays) else None

    def _attribute(self, found: Fact | None, name: str) -> Fact | None:
        if found is None or found.shape is None:
            return None
        if name == "shape":
            return Fact("tuple", value=found.shape)
        if name in ("ndim", "size", "itemsize"):
            return Fact("int", value=len(found.shape) if name == "ndim" else prod(found.shape))
        if name in TURNED:
            return _array(_turned(found, name), found)
        return found if name in ("data", "grad", "real") else None

    def _subscript(self, found: Fact | None, index: ast.expr) -> Fact | None:
        parts = index.elts if isinstance(index, ast.Tuple) else [index]
        if found is not None and isinstance(found.value, tuple):
            return self._picked(found.value, parts)
        if found is None or found.shape is None:
            return None
        left, new = list(found.shape), list[int]()
        for place, part in enumerate(parts):
            if isinstance(part, ast.Constant) and part.value is None:
                new.append(1)
            elif isinstance(part, ast.Constant) and part.value is Ellipsis:
                rest = [each for each in parts[place + 1 :] if not _is_none(each)]
                keep = len(left) - len(rest)
                new, left = new + left[:keep], left[keep:]
            elif not left:
                raise MisfitError(f"too many indices for {found.shape}")
            elif isinstance(part, ast.Slice):
                size = self._sliced(part, left.pop(0))
                if size is None:
                    return None
                new.append(size)
            elif (at := self._int(part)) is not None:
                size = left.pop(0)
                if not -size <= at < size:
                    raise MisfitError(f"no entry {at} of {size}")
            else:
                return None
        return _array((*new, *left), found)

    def _picked(self, values: Shape, parts: Sequence[ast.expr]) -> Fact | None:
        at = self._int(parts[0]) if len(parts) == 1 else None
        if at is not None:
            if not -len(values) <= at < len(values):
                raise MisfitError(f"no entry {at} of {values}")
            return Fact("int", value=values[at])
        if len(parts) == 1 and isinstance(parts[0], ast.Slice):
            cut = self._cut(parts[0])
            return Fact("tuple", value=values[cut]) if cut is not None else None
        return None

    def _sliced(self, part: ast.Slice, size: int) -> int | None:
        cut = self._cut(part)
        return len(range(size)[cut]) if cut is not None else None

    def _cut(self, part: ast.Slice) -> slice | None:
        ends = [None if each is None else self._int(each) for each in (part.lower, part.upper, part.step)]
        given = [each is not None for each in (part.lower, part.upper, part.step)]
        if any(there and end is None for there, end in zip(given, ends, strict=True)):
            return None
        return slice(*ends)

    # Calls

    def _call(self, node: ast.Call) -> Fact | None:
        if isinstance(node.func, ast.Name) and node.func.id == "len" and len(node.args) == 1:
            return _length(self.of(node.args[0]))
        op = self.operation(node)
        if op is not None and (found := self._operated(node, *op)) is not None:
            return found
        return self._as_before(node)

    def _operated(self, node: ast.Call, name: str, operand: ast.expr, rest: list[ast.expr]) -> Fact | None:
        if name in ("cat", "concat", "concatenate", "stack"):
            return self._together(node, name, operand, rest)
        if name == "einsum":
            return self._einsum(operand, rest)
        found = self.of(operand)
        if found is None or found.kind not in ARRAYS or found.shape is None:
            return None
        shape = found.shape
        if name in WHOLE and prod(shape) != 1 and not node.args and not node.keywords:
            raise MisfitError(f"{name} of {shape}")
        if name in ("size", "numel", "dim", "tolist"):
            return self._measured(name, shape, rest)
        if name in POINTWISE:
            return self._pointwise(name, found, rest)
        new = self._axes(node, name, found, rest)
        return None if new is None else _array(new, found)

    def _pointwise(self, name: str, found: Fact, rest: list[ast.expr]) -> Fact | None:
        others = [self.of(each) for each in rest]
        arrays = [each.shape for each in others if each is not None and each.shape is not None]
        if found.shape is None or (name == "where" and len(arrays) < len(rest)):
            return None
        return _array(shapes.broadcast(found.shape, *arrays), found)

    def _measured(self, name: str, shape: Shape, rest: list[ast.expr]) -> Fact | None:
        if name == "dim":
            return Fact("int", value=len(shape))
        if name == "numel":
            return Fact("int", value=prod(shape))
        if name == "size" and not rest:
            return Fact("tuple", value=shape)
        at = self._int(rest[0]) if rest else None
        return None if at is None else Fact("int", value=shape[shapes.axis(shape, at)])

    def _axes(self, node: ast.Call, name: str, found: Fact, rest: list[ast.expr]) -> Shape | None:
        """The shape that an operation with axes or sizes makes of an array."""
        shape = found.shape or ()
        if name in ALONG:
            along = self._along(node, rest, 0)
            for each in along or ():
                shapes.axis(shape, each)
            return shape
        if name in REDUCING or name in PAIRING:
            return self._reduced(node, name, found, rest)
        if name in ("view", "reshape", "expand", "broadcast_to", "permute"):
            sizes = self._sizes(rest) or self._sizes([each.value for each in node.keywords])
            if sizes is None:
                return None
            change = {"permute": shapes.permuted, "view": shapes.reshaped, "reshape": shapes.reshaped}
            return change.get(name, shapes.expanded)(shape, sizes)
        if name == "transpose" and not node.args[len(node.args) - len(rest) :]:
            return tuple(reversed(shape))
        if name in ("transpose", "swapaxes", "movedim"):
            ends = self._sizes(rest)
            if ends is None or len(ends) < 2:
                return None
            if name == "movedim":
                return _moved(shape, ends[0], ends[1])
            return shapes.exchanged(shape, *ends) if len(ends) == 2 else shapes.permuted(shape, ends)
        if name == "t":
            return tuple(reversed(shape))
        return self._grown(node, name, found, rest)

    def _grown(self, node: ast.Call, name: str, found: Fact, rest: list[ast.expr]) -> Shape | None:
        shape = found.shape or ()
        if name in ("flatten", "ravel"):
            ends = [self._int(each) for each in rest]
            if node.keywords or any(end is None for end in ends):
                return None
            return shapes.flattened(shape, *(end for end in ends if end is not None))
        if name == "squeeze":
            along = self._along(node, rest, 0)
            return shapes.squeezed(shape, along) if along or not (rest or node.keywords) else None
        if name in ("unsqueeze", "expand_dims"):
            along = self._along(node, rest, 0)
            return shapes.unsqueezed(shape, along[0]) if along else None
        if name in ("gather", "take_along_axis"):
            along = self._along(node, rest, 0 if name == "gather" else 1)
            others = [self.of(each) for each in (*rest, *(each.value for each in node.keywords))]
            index = next((each.shape for each in others if each and each.shape is not None), None)
            return shapes.gathered(shape, index, along[0]) if along and index is not None else None
        if name in ("matmul", "mm", "bmm", "dot"):
            other = self.of(rest[0]) if rest else None
            return shapes.matmul(shape, other.shape) if other and other.shape is not None else None
        return None

    def _reduced(self, node: ast.Call, name: str, found: Fact, rest: list[ast.expr]) -> Shape | None:
        words = {each.arg: each.value for each in node.keywords}
        first = 1 if name in ("norm", "vector_norm") else 0
        along = self._along(node, rest, first)
        others = [self.of(each) for each in rest]
        if any(other is not None and other.kind in ARRAYS for other in others):
            return None
        if along is None and (len(rest) > first or "dim" in words or "axis" in words):
            return None
        if name in PAIRING and along is not None and found.kind == "tensor":
            shapes.reduced(found.shape or (), along, keep=False)
            return None
        kept = words.get("keepdim", words.get("keepdims"))
        kept = kept or (rest[first + 1] if len(rest) > first + 1 else None)
        keep = isinstance(kept, ast.Constant) and kept.value is True
        return shapes.reduced(found.shape or (), along, keep=keep)

    def _together(self, node: ast.Call, name: str, parts: ast.expr, rest: list[ast.expr]) -> Fact | None:
        elements = parts.elts if isinstance(parts, ast.Tuple | ast.List) else []
        found = [self.of(each) for each in elements]
        sizes = [each.shape for each in found if each is not None and each.shape is not None]
        along = self._along(node, rest, 0)
        if not sizes or len(sizes) < len(elements) or (along is None and (rest or node.keywords)):
            return None
        put = shapes.stacked if name == "stack" else shapes.joined
        return Fact("tensor", put(sizes, along[0] if along else 0))

    def _einsum(self, letters: ast.expr, rest: list[ast.expr]) -> Fact | None:
        found = [self.of(each) for each in rest]
        sizes = [each.shape for each in found if each is not None and each.shape is not None]
        if not isinstance(letters, ast.Constant) or len(sizes) < len(rest):
            return None
        shape = shapes.contracted(str(letters.value), sizes)
        return None if shape is None else Fact("tensor", shape)

    def _as_before(self, node: ast.Call) -> Fact | None:
        """What the same call gave in the run, if what it is given has the shapes of the run."""
        before = [call for call in self._originals if _signature(call) == _signature(node)]
        if len(before) != 1 or any(isinstance(each, ast.Starred) for each in node.args):
            return None
        pairs = list(zip(self._given(node), self._given(before[0]), strict=True))
        return self._before(before[0]) if all(self._alike(*pair) for pair in pairs) else None

    def _given(self, call: ast.Call) -> list[ast.expr]:
        """What a call is given, the object first whose method it is."""
        method = isinstance(call.func, ast.Attribute) and self._qname(call.func) is None
        own = [call.func.value] if method and isinstance(call.func, ast.Attribute) else []
        return [*own, *call.args, *(each.value for each in call.keywords)]

    def _alike(self, now: ast.expr, then: ast.expr) -> bool:
        """Whether two expressions are of one kind and shape."""
        found, old = self.of(now), self._before(then)
        if found is None or old is None:
            return found is None and isinstance(now, ast.Constant) and ast.dump(now) == ast.dump(then)
        if found.kind in ARRAYS:
            return found.shape is not None and (found.kind, found.shape) == (old.kind, old.shape)
        return found.kind == old.kind

    # Numbers

    def _int(self, node: ast.expr) -> int | None:
        found = self.of(node)
        return found.value if found is not None and isinstance(found.value, int) else None

    def _along(self, node: ast.Call, rest: list[ast.expr], position: int) -> tuple[int, ...] | None:
        """The axes that a call names, by keyword or position."""
        words = [each.value for each in node.keywords if each.arg in ("dim", "axis", "dim0")]
        given = words[0] if words else rest[position] if len(rest) > position else None
        found = self.of(given) if given is not None else None
        if found is None or found.value is None:
            return None
        return (found.value,) if isinstance(found.value, int) else found.value

    def _sizes(self, rest: Sequence[ast.expr]) -> tuple[int, ...] | None:
        """Sizes or axes passed one by one, or as one tuple."""
        found = [self.of(each) for each in rest]
        if len(found) == 1 and found[0] is not None and isinstance(found[0].value, tuple):
            return found[0].value
        values = [each.value for each in found if each is not None and isinstance(each.value, int)]
        return tuple(values) if rest and len(values) == len(rest) else None


def _array(shape: Shape, like: Fact) -> Fact:
    return Fact(like.kind, shape, like.dtype, like.grad)


def _turned(found: Fact, name: str) -> Shape:
    shape = found.shape or ()
    return shapes.exchanged(shape, -1, -2) if name == "mT" else tuple(reversed(shape))


def _moved(shape: Shape, source: int, goal: int) -> Shape:
    left = list(shape)
    size = left.pop(shapes.axis(shape, source))
    left.insert(shapes.axis(shape, goal), size)
    return tuple(left)


def _length(found: Fact | None) -> Fact | None:
    if found is None:
        return None
    if isinstance(found.value, tuple):
        return Fact("int", value=len(found.value))
    return Fact("int", value=found.shape[0]) if found.shape else None


def _signature(call: ast.Call) -> tuple[str, int, list[str | None]]:
    name = ast.unparse(call.func) if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    return name, len(call.args), [each.arg for each in call.keywords]


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
