"""Shapes: what PyTorch and NumPy make of the shapes of arrays, and what they refuse.

`None` stands for a shape that cannot be told; `MisfitError` for one that there cannot be.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from math import prod
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]


class MisfitError(Exception):
    """Shapes that an operation refuses."""


def axis(shape: Shape, along: int, extra: int = 0) -> int:
    """An axis counted from the front; `extra` where an axis is about to be added."""
    rank = max(len(shape) + extra, 1)
    if not -rank <= along < rank:
        raise MisfitError(f"no axis {along} in {shape}")
    return along % rank


def broadcast(*shapes: Shape) -> Shape:
    """The shape in which all of them meet."""
    found = []
    for sizes in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        wide = set(sizes) - {1}
        if len(wide) > 1:
            raise MisfitError(f"{shapes} do not meet")
        found.append(wide.pop() if wide else 1)
    return tuple(reversed(found))


def matmul(one: Shape, two: Shape) -> Shape:
    """The shape of a product of matrices or vectors, of many at once."""
    if not one or not two:
        raise MisfitError("a number has no matrix product")
    left = one if len(one) > 1 else (1, *one)
    right = two if len(two) > 1 else (*two, 1)
    if left[-1] != right[-2]:
        raise MisfitError(f"{one} @ {two}")
    tail = left[-2:-1] if len(one) > 1 else ()
    tail += right[-1:] if len(two) > 1 else ()
    return broadcast(left[:-2], right[:-2]) + tail


def reduced(shape: Shape, along: Sequence[int] | None, *, keep: bool) -> Shape:
    """The shape after a reduction along some axes, or along all of them."""
    gone = set(range(len(shape))) if along is None else {axis(shape, each) for each in along}
    if along is not None and len(gone) < len(along):
        raise MisfitError(f"an axis twice in {along}")
    if keep:
        return tuple(1 if place in gone else size for place, size in enumerate(shape))
    return tuple(size for place, size in enumerate(shape) if place not in gone)


def exchanged(shape: Shape, one: int, two: int) -> Shape:
    """The shape with two of its axes exchanged."""
    order = list(range(len(shape)))
    if order:
        one, two = axis(shape, one), axis(shape, two)
        order[one], order[two] = order[two], order[one]
    return permuted(shape, order)


def permuted(shape: Shape, order: Sequence[int]) -> Shape:
    """The shape with its axes in another order."""
    places = [axis(shape, each) for each in order]
    if sorted(places) != list(range(len(shape))):
        raise MisfitError(f"{order} is no order of {shape}")
    return tuple(shape[place] for place in places)


def reshaped(shape: Shape, sizes: Sequence[int]) -> Shape:
    """The shape that the same values take, one size of which may be -1."""
    total, open_ = prod(shape), [place for place, size in enumerate(sizes) if size == -1]
    known = prod(size for size in sizes if size != -1)
    if len(open_) > 1 or any(size < -1 for size in sizes):
        raise MisfitError(f"{sizes} is no shape")
    if not open_:
        if known != total:
            raise MisfitError(f"{shape} does not fill {sizes}")
        return tuple(sizes)
    if known == 0 or total % known:
        raise MisfitError(f"{shape} does not fill {sizes}")
    return tuple(total // known if size == -1 else size for size in sizes)


def flattened(shape: Shape, first: int = 0, last: int = -1) -> Shape:
    """The shape with a run of axes made one."""
    if not shape:
        return (1,)
    first, last = axis(shape, first), axis(shape, last)
    if first > last:
        raise MisfitError(f"no axes from {first} to {last}")
    return (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])


def squeezed(shape: Shape, along: Sequence[int] | None = None) -> Shape:
    """The shape without axes of length one: of these, or of all."""
    gone = set(range(len(shape))) if along is None else {axis(shape, each) for each in along}
    return tuple(size for place, size in enumerate(shape) if size != 1 or place not in gone)


def unsqueezed(shape: Shape, along: int) -> Shape:
    """The shape with one more axis of length one."""
    place = axis(shape, along, 1)
    return (*shape[:place], 1, *shape[place:])


def expanded(shape: Shape, sizes: Sequence[int]) -> Shape:
    """The shape with axes of length one stretched; -1 leaves one as it is."""
    if len(sizes) < len(shape):
        raise MisfitError(f"{sizes} has fewer axes than {shape}")
    old = (1,) * (len(sizes) - len(shape)) + shape
    wanted = tuple(now if size == -1 else size for now, size in zip(old, sizes, strict=True))
    if broadcast(old, wanted) != wanted:
        raise MisfitError(f"{shape} does not stretch to {sizes}")
    return wanted


def joined(shapes: Sequence[Shape], along: int) -> Shape:
    """The shape of arrays laid one after the other along an axis."""
    first, place = shapes[0], axis(shapes[0], along)
    for each in shapes[1:]:
        if len(each) != len(first) or each[:place] + each[place + 1 :] != first[:place] + first[place + 1 :]:
            raise MisfitError(f"{shapes} do not fit along {along}")
    return (*first[:place], sum(each[place] for each in shapes), *first[place + 1 :])


def stacked(shapes: Sequence[Shape], along: int) -> Shape:
    """The shape of arrays laid side by side along a new axis."""
    if len(set(shapes)) > 1:
        raise MisfitError(f"{shapes} do not stack")
    place = axis(shapes[0], along, 1)
    return (*shapes[0][:place], len(shapes), *shapes[0][place:])


def gathered(shape: Shape, index: Shape, along: int) -> Shape:
    """The shape of what an index of the same rank picks along an axis."""
    place = axis(shape, along)
    if len(shape) != len(index):
        raise MisfitError(f"{index} does not index {shape}")
    for at, (size, wanted) in enumerate(zip(shape, index, strict=True)):
        if at != place and wanted > size:
            raise MisfitError(f"{index} does not index {shape}")
    return index


def contracted(letters: str, operands: Sequence[Shape]) -> Shape | None:
    """The shape of an Einstein sum with its result spelled out."""
    if "." in letters or "->" not in letters:
        return None
    given, result = letters.replace(" ", "").split("->")
    sizes: dict[str, int] = {}
    parts = given.split(",")
    if len(parts) != len(operands):
        raise MisfitError(f"{letters} has another number of operands")
    for part, shape in zip(parts, operands, strict=True):
        if len(part) != len(shape):
            raise MisfitError(f"{part} does not name the axes of {shape}")
        for letter, size in zip(part, shape, strict=True):
            if sizes.setdefault(letter, size) != size and 1 not in (size, sizes[letter]):
                raise MisfitError(f"{letter} has two lengths")
            sizes[letter] = max(size, sizes[letter])
    if not set(result) <= set(sizes):
        raise MisfitError(f"{result} names an axis that there is not")
    return tuple(sizes[letter] for letter in result)
