"""Shapes are told as PyTorch and NumPy make them, and refused where they refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from bughunt_mutator import shapes
from bughunt_mutator.shapes import MisfitError, Shape
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPE = st.lists(st.integers(1, 4), max_size=4).map(tuple)
AXIS = st.integers(-5, 5)
EXAMPLES = settings(max_examples=150)


def outcome(work: Callable[[], object]) -> object:
    """A shape, or that there is none."""
    try:
        found = work()
    except (RuntimeError, IndexError, ValueError, TypeError, MisfitError):
        return "refused"
    return tuple(found.shape) if hasattr(found, "shape") else found


def zeros(shape: Shape) -> torch.Tensor:
    return torch.zeros(shape)


@EXAMPLES
@given(SHAPE, SHAPE)
def test_arrays_meet_as_in_torch(one: Shape, two: Shape) -> None:
    assert outcome(lambda: shapes.broadcast(one, two)) == outcome(lambda: zeros(one) + zeros(two))


@EXAMPLES
@given(SHAPE, SHAPE)
def test_matrices_are_multiplied_as_in_torch(one: Shape, two: Shape) -> None:
    assert outcome(lambda: shapes.matmul(one, two)) == outcome(lambda: zeros(one) @ zeros(two))


@EXAMPLES
@given(SHAPE, st.lists(AXIS, min_size=1, max_size=2), st.booleans())
def test_axes_are_reduced_as_in_torch(shape: Shape, along: list[int], keep: bool) -> None:
    ours = outcome(lambda: shapes.reduced(shape, along, keep=keep))
    theirs = outcome(lambda: zeros(shape).sum(along, keepdim=keep))
    if shape:  # torch lets a number be reduced along axis 0
        assert ours == theirs


@EXAMPLES
@given(SHAPE, AXIS, AXIS)
def test_axes_are_exchanged_as_in_torch(shape: Shape, one: int, two: int) -> None:
    if shape:
        assert outcome(lambda: shapes.exchanged(shape, one, two)) == outcome(
            lambda: zeros(shape).transpose(one, two)
        )


@EXAMPLES
@given(SHAPE, st.permutations(range(4)), st.integers(0, 4))
def test_axes_are_put_in_order_as_in_torch(shape: Shape, order: list[int], count: int) -> None:
    places = [place for place in order if place < count]
    assert outcome(lambda: shapes.permuted(shape, places)) == outcome(lambda: zeros(shape).permute(places))


@EXAMPLES
@given(SHAPE, st.lists(st.sampled_from([-1, 1, 2, 3, 4, 6, 8, 12]), min_size=1, max_size=3))
def test_values_are_reshaped_as_in_torch(shape: Shape, sizes: list[int]) -> None:
    assert outcome(lambda: shapes.reshaped(shape, sizes)) == outcome(lambda: zeros(shape).reshape(sizes))


@EXAMPLES
@given(SHAPE, st.integers(-4, 4), st.integers(-4, 4))
def test_axes_are_flattened_as_in_torch(shape: Shape, first: int, last: int) -> None:
    if shape:
        assert outcome(lambda: shapes.flattened(shape, first, last)) == outcome(
            lambda: zeros(shape).flatten(first, last)
        )


@EXAMPLES
@given(SHAPE, st.integers(-4, 4))
def test_axes_of_length_one_come_and_go_as_in_torch(shape: Shape, along: int) -> None:
    assert outcome(lambda: shapes.squeezed(shape)) == outcome(lambda: zeros(shape).squeeze())
    assert outcome(lambda: shapes.unsqueezed(shape, along)) == outcome(lambda: zeros(shape).unsqueeze(along))
    if shape:
        assert outcome(lambda: shapes.squeezed(shape, [along])) == outcome(
            lambda: zeros(shape).squeeze(along)
        )


@EXAMPLES
@given(SHAPE, st.lists(st.sampled_from([-1, 1, 2, 3, 4]), max_size=5))
def test_axes_are_stretched_as_in_torch(shape: Shape, sizes: list[int]) -> None:
    new = len(sizes) - len(shape)
    if -1 not in sizes[: max(new, 0)]:
        assert outcome(lambda: shapes.expanded(shape, sizes)) == outcome(lambda: zeros(shape).expand(sizes))


@EXAMPLES
@given(st.lists(SHAPE, min_size=2, max_size=3), st.integers(-3, 3))
def test_arrays_are_put_together_as_in_numpy(parts: list[Shape], along: int) -> None:
    arrays = [np.zeros(part) for part in parts]
    if all(parts):
        assert outcome(lambda: shapes.joined(parts, along)) == outcome(lambda: np.concatenate(arrays, along))
    assert outcome(lambda: shapes.stacked(parts, along)) == outcome(lambda: np.stack(arrays, along))


@EXAMPLES
@given(SHAPE, SHAPE, st.integers(-3, 3))
def test_an_index_gathers_as_in_torch(shape: Shape, index: Shape, along: int) -> None:
    if shape and index:
        indices = torch.zeros(index, dtype=torch.int64)
        assert outcome(lambda: shapes.gathered(shape, index, along)) == outcome(
            lambda: zeros(shape).gather(along, indices)
        )


@pytest.mark.parametrize(
    ("letters", "operands"),
    [
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("bhqd, bhkd -> bhkq", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("ij,jk->ik", [(2, 3), (4, 5)]),
        ("ij->ji", [(2, 3)]),
        ("ij->jl", [(2, 3)]),
        ("i,i->", [(3,), (3,)]),
    ],
)
def test_letters_name_axes_as_in_torch(letters: str, operands: list[Shape]) -> None:
    theirs = outcome(lambda: torch.einsum(letters, *(zeros(each) for each in operands)))
    assert outcome(lambda: shapes.contracted(letters, operands)) == theirs
