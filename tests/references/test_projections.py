"""The matrices of attention are found whether they are one or three."""

import torch

from bughunt.references.projections import projection_names, projections

W = 4


def _drawn(*names: str, rows: int = W) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(rows)
    return {name: torch.randn(rows, W, generator=draws) for name in names}


def test_a_fused_matrix_stands_beside_the_outer_one() -> None:
    state = {"token": torch.zeros(9, W), **_drawn("a.qkv", rows=3 * W), **_drawn("a.out")}
    assert projection_names(state, W) == [(["a.qkv"], "a.out")]
    ((inner, outer),) = projections(state, W)
    assert torch.equal(inner, state["a.qkv"])
    assert torch.equal(outer, state["a.out"])


def test_three_matrices_are_put_under_one_another() -> None:
    state = _drawn("a.q", "a.k", "a.v", "a.out", "b.q", "b.k", "b.v", "b.out") | {"head": torch.zeros(9, W)}
    assert [outer for _, outer in projection_names(state, W)] == ["a.out", "b.out"]
    (first, _), (second, outer) = projections(state, W)
    assert torch.equal(first[W : 2 * W], state["a.k"])
    assert torch.equal(second[2 * W :], state["b.v"])
    assert torch.equal(outer, state["b.out"])
