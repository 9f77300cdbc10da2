"""The slope of a loss, beside derivatives written by hand."""

import pytest
import torch
from torch import Tensor

from bughunt.references.slope import norm, slope, slopes_across

START = {"a": torch.tensor([3.0, -1.0]), "b": torch.tensor([[2.0]])}


def loss_at(state: dict[str, Tensor]) -> float:
    """The sum of cubes; its derivative is three times the squares."""
    return float(sum(part.double().pow(3).sum() for part in state.values()))


def test_along_its_gradient_a_loss_rises_by_the_norm() -> None:
    gradient = {name: 3 * part.square() for name, part in START.items()}
    assert norm(gradient) == pytest.approx((27**2 + 3**2 + 12**2) ** 0.5)
    assert slope(loss_at, START, gradient) == pytest.approx(norm(gradient), rel=1e-4)


def test_what_is_scaled_or_turned_is_no_gradient() -> None:
    scaled = {name: 30 * part.square() for name, part in START.items()}
    assert slope(loss_at, START, scaled) == pytest.approx(norm(scaled) / 10, rel=1e-4)
    turned = {name: -3 * part.square() for name, part in START.items()}
    assert slope(loss_at, START, turned) == pytest.approx(-norm(turned), rel=1e-4)


def test_only_what_has_a_gradient_moves() -> None:
    seen: list[list[str]] = []
    slope(lambda state: seen.append(list(state)) or 0.0, START, {"b": torch.tensor([[12.0]])})
    assert seen == [["b"], ["b"]]


def test_across_a_gradient_every_tensor_has_a_slope_of_its_own() -> None:
    gradient = {"a": 3 * START["a"].square()}
    (one, found, said), (other, missed, nothing) = slopes_across(loss_at, START, gradient, 5)
    assert (one, other) == ("a", "b")
    assert abs(said) in (24, 30)
    assert found == pytest.approx(said, rel=1e-4)
    assert nothing == 0
    assert abs(missed) == pytest.approx(12, rel=1e-4)
