"""A training and PyTorch's own optimiser side by side, on a program that is written here."""

import torch
from torch import nn

from bughunt.references.gradients import follow, silent_share


class Descent:
    """Plain descent on the squares of its weights, each gradient cut to a norm of one."""

    def __init__(self, rates: list[float], max_norm: float = 1.0) -> None:
        self.weights = {"a": torch.tensor([3.0, -4.0]), "b": torch.tensor([12.0])}
        self.seen: dict[str, torch.Tensor] = {}
        self.rates, self.max_norm = iter(rates), max_norm

    def next(self, count: int = 1) -> list[float]:
        self.seen = {name: 2 * value for name, value in self.weights.items()}
        length = torch.cat(list(self.seen.values())).norm()
        cut, rate = min(1.0, self.max_norm / float(length)), next(self.rates)
        self.weights = {name: value - rate * cut * self.seen[name] for name, value in self.weights.items()}
        return [0.0] * count

    def gradients(self, _model: object) -> dict[str, torch.Tensor]:
        return self.seen


def beside(program: Descent, rates: list[float], max_norm: float) -> bool:
    leaves = {name: nn.Parameter(value) for name, value in program.weights.items()}
    oracle = torch.optim.SGD(leaves.values(), lr=9.0)
    follow(program, None, program, oracle, leaves, rates, max_norm=max_norm)
    return all(torch.allclose(program.weights[name], leaf) for name, leaf in leaves.items())


def test_the_oracle_ends_where_a_right_training_does() -> None:
    assert beside(Descent([0.1, 0.2, 0.3]), [0.1, 0.2, 0.3], 1.0)
    assert beside(Descent([0.1, 0.2], max_norm=1e9), [0.1, 0.2], float("inf"))


def test_another_rate_or_clip_ends_elsewhere() -> None:
    assert not beside(Descent([0.1, 0.2, 0.3]), [0.1, 0.2, 0.2], 1.0)
    assert not beside(Descent([0.1, 0.2, 0.3], max_norm=2.0), [0.1, 0.2, 0.3], 1.0)


class Rows:
    """A matrix of four rows, of which another one each time gets a gradient."""

    def __init__(self) -> None:
        self.count = 0

    def next(self) -> None:
        self.count += 1

    def gradients(self, _model: object) -> dict[str, torch.Tensor]:
        return {"w": torch.eye(4)[:, [self.count % 4]] * torch.ones(4, 3), "other": torch.ones(1, 3)}


def test_rows_without_a_gradient_are_counted() -> None:
    program = Rows()
    assert silent_share(program, None, program, ["w"], 8) == 0.75
    assert silent_share(program, None, program, ["w", "other"], 8) == 0.6
