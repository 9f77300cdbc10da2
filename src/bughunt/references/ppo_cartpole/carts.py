"""Carts side by side, each with a pole to be kept upright.

The physics are those of Barto, Sutton and Anderson (1983), one Euler step of 20 ms a tick.

Shapes: N carts. A state is position, speed, angle and spin.
"""

import math

import torch
from torch import Generator, Tensor

GRAVITY = 9.8
CART_MASS = 1.0
POLE_MASS = 0.1
HALF_LENGTH = 0.5
FORCE = 10.0
TICK = 0.02
TRACK = 2.4
LEAN = 12 * 2 * math.pi / 360
SPREAD = 0.05  # of fresh states, to either side


def physics(state: Tensor, actions: Tensor) -> Tensor:  # [N, 4], [N] -> [N, 4]
    """The state one tick later, after a push to the left (0) or to the right (1)."""
    _, speed, angle, spin = state.unbind(dim=-1)
    push = torch.where(actions == 1, FORCE, -FORCE)
    sine, cosine = angle.sin(), angle.cos()
    mass = CART_MASS + POLE_MASS
    thrust = (push + POLE_MASS * HALF_LENGTH * spin.square() * sine) / mass
    inertia = HALF_LENGTH * (4 / 3 - POLE_MASS * cosine.square() / mass)
    spin_rate = (GRAVITY * sine - cosine * thrust) / inertia
    speed_rate = thrust - POLE_MASS * HALF_LENGTH * spin_rate * cosine / mass
    rates = torch.stack([speed, speed_rate, spin, spin_rate], dim=-1)
    return state + TICK * rates


def fallen(state: Tensor) -> Tensor:  # [N, 4] -> [N]
    """True where the cart has left the track or the pole leans too far."""
    position, _, angle, _ = state.unbind(dim=-1)
    return (position.abs() > TRACK) | (angle.abs() > LEAN)


class Carts:
    """Carts whose episodes follow one another; each starts anew as soon as its episode is over."""

    def __init__(self, count: int, limit: int, rng: Generator, device: torch.device) -> None:
        self.limit = limit
        self.rng = rng
        self.device = device
        self.state = self.fresh(count)
        self.time = torch.zeros(count, dtype=torch.long, device=device)

    def fresh(self, count: int) -> Tensor:  # -> [N, 4]
        draws = torch.rand(count, 4, generator=self.rng, device=self.rng.device)
        return SPREAD * (2 * draws.to(self.device) - 1)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the tick led to [N, 4], its reward, and whether the episode fell or ran out of time [N].

        New episodes start afterwards; their states are in `state`.
        """
        reached = physics(self.state, actions)
        self.time = self.time + 1
        reward = torch.ones_like(reached[:, 0])
        terminated = fallen(reached)
        truncated = ~terminated & (self.time >= self.limit)
        over = terminated | truncated
        self.state = torch.where(over[:, None], self.fresh(len(over)), reached)
        self.time = torch.where(over, 0, self.time)
        return reached, reward, terminated, truncated
