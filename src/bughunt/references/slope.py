"""A loss's own word on its gradient, for behaviour tests: no derivative is taken."""

import math
from collections.abc import Callable, Mapping

from torch import Tensor

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
