"""A loss's own word on its gradient, for behaviour tests: no derivative is taken."""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Generator, Tensor

from bughunt.task import Model, Program, Value

Tensors = Mapping[str, Tensor]


def norm(gradient: Tensors) -> float:
    """The length of all of a gradient's tensors together."""
    return math.sqrt(sum(float(part.double().square().sum()) for part in gradient.values()))


def slope(
    loss_at: Callable[[dict[str, Tensor]], float], start: Tensors, gradient: Tensors, reach: float = 0.01
) -> float:
    """How fast a loss rises from `start` along a gradient, by central differences.

    That is the gradient's norm, if it is the gradient of this loss. `loss_at` gets the tensors that move,
    under their names; `reach` is how far they move, as a norm.
    """
    length = norm(gradient)
    ends = [
        loss_at({name: start[name] + way / length * part for name, part in gradient.items()})
        for way in (reach, -reach)
    ]
    return (ends[0] - ends[1]) / (2 * reach)


def slopes_across(
    loss_at: Callable[[dict[str, Tensor]], float],
    start: Tensors,
    gradient: Tensors,
    seed: int,
    reach: float = 0.01,
) -> Iterator[tuple[str, float, float]]:
    """Tensor by tensor, how fast a loss rises along a random direction, and what the gradient says of that.

    Every number of a tensor moves by `reach`, up or down; one without a gradient should make no difference.
    """
    rng = Generator().manual_seed(seed)
    for name, value in start.items():
        way = 2.0 * torch.randint(2, value.shape, generator=rng) - 1
        ends = [loss_at({**start, name: value + side * way}) for side in (reach, -reach)]
        said = float((gradient[name] * way).sum()) if name in gradient else 0.0
        yield name, (ends[0] - ends[1]) / (2 * reach), said


def slope_of_report(
    program: Program,
    model: Model,
    data: Value,
    seed: int,
    config: Mapping[str, Value],
    *,
    reach: float = 0.01,
    same_draws: bool = False,
) -> tuple[float, float]:
    """The slope of the first loss that a training reports, along its own gradient, and that one's norm.

    With `same_draws` the program's global random state is set before each.
    """
    start = program.state(model)
    program.watch_gradients(model, True)

    def loss_at(state: Tensors) -> float:
        program.load_state(model, state)
        run = program.train(model, data, seed, **config)
        if same_draws:
            program.seed(seed)
        return run.next()[0]

    loss_at(start)
    gradient = program.gradients(model)
    return slope(loss_at, start, gradient, reach), norm(gradient)
