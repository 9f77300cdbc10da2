"""REINFORCE: a policy learns to balance a pole on a cart from the outcome of whole episodes.

Many episodes are played at once. When they are over, every action is judged by the rewards that came
after it, compared with how the other episodes fared from the same time on; actions that did better
than that become more likely.

Shapes: T time, N episodes at once. A state is position, speed, angle and spin.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

GRAVITY = 9.8
CART_MASS = 1.0
POLE_MASS = 0.1
HALF_LENGTH = 0.5
FORCE = 10.0
TICK = 0.02
TRACK = 2.4
LEAN = 12 * 2 * math.pi / 360


@dataclass(frozen=True, kw_only=True)
class Config:
    episodes: int = 24
    limit: int = 200
    hidden: int = 32
    steps: int = 36
    lr: float = 0.0006
    gamma: float = 0.98
    entropy_bonus: float = 0.01


def physics(state: Tensor, actions: Tensor) -> Tensor:  # [N, 4], [N] -> [N, 4]
    """The state one tick later, after a push to the left (0) or to the right (1)."""
    _, cur_speed, angle_cur, spin_val = state.unbind(dim=-1)
    cur_push = torch.where(actions == 1, FORCE, -FORCE)
    sine_cur, cosine_here = angle_cur.sin(), angle_cur.cos()
    mass_here = CART_MASS + POLE_MASS
    thrust_val = (cur_push + POLE_MASS * HALF_LENGTH * spin_val.square() * sine_cur) / mass_here
    inertia_cur = HALF_LENGTH * (4 / 3 - POLE_MASS * cosine_here.square() / mass_here)
    this_spin_rate = (GRAVITY * sine_cur - cosine_here * thrust_val) / inertia_cur
    speed_rate_here = thrust_val - POLE_MASS * HALF_LENGTH * this_spin_rate * cosine_here / mass_here
    this_rates = torch.stack([cur_speed, speed_rate_here, spin_val, this_spin_rate], dim=-1)
    return state + TICK * this_rates


def fallen(state: Tensor) -> Tensor:  # [N, 4] -> [N]
    """True where the cart has left the track or the pole leans too far."""
    position_cur, _, angle_val, _ = state.unbind(dim=-1)
    return (position_cur.abs() > TRACK) | (angle_val.abs() > LEAN)


class CartPole:
    """Carts side by side; nobody resets one that has fallen."""

    def __init__(self, start: Tensor, limit: int) -> None:
        self.state = start
        self.limit = limit
        self.time = 0

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The new state, the reward, and whether the episode fell or ran out of time: [N, ...]."""
        self.state = physics(self.state, actions)
        self.time += 1
        payoff = torch.ones_like(self.state[:, 0])
        cur_terminated = fallen(self.state)
        this_truncated = ~cur_terminated & (self.time >= self.limit)
        return self.state, payoff, cur_terminated, this_truncated


def build(cfg: Config) -> nn.Module:
    """Log-odds of the two pushes for each state."""
    return nn.Sequential(nn.Linear(4, cfg.hidden), nn.Tanh(), nn.Linear(cfg.hidden, 2))


def choose(logits: Tensor) -> Tensor:  # [N, 2] -> [N]
    """An action for each episode, drawn from the policy."""
    this_probabilities = logits.softmax(dim=-1)
    return torch.multinomial(this_probabilities, 1).squeeze(-1)


@torch.no_grad()
def rollout(model: nn.Module, start: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Observations [T, N, 4], actions, rewards and who was still playing [T, N], until all are over."""
    env_here = CartPole(start, limit)
    seen_val = start
    alive_here = torch.ones(len(start), dtype=torch.bool, device=start.device)
    iterations = []
    while alive_here.any():
        moves = choose(model(seen_val))
        this_after, payoff, terminated_val, truncated_val = env_here.step(moves)
        iterations.append((seen_val, moves, payoff, alive_here))
        alive_here = alive_here & ~(terminated_val | truncated_val)
        seen_val = this_after
    return tuple(torch.stack(column_cur) for column_cur in zip(*iterations, strict=True))


def returns(rewards: Tensor, alive: Tensor, gamma: float) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """What came after each action, itself included, later rewards counting for less."""
    result_here = torch.zeros_like(rewards)
    ahead_cur = torch.zeros_like(rewards[0])
    for time_here in reversed(range(len(rewards))):
        ahead_cur = alive[time_here] * (rewards[time_here] + gamma * ahead_cur)
        result_here[time_here] = ahead_cur
    return result_here


def advantages(gains: Tensor, alive: Tensor) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """How much better each action fared than its step's average, in units of the spread."""
    players_here = alive.sum(dim=1, keepdim=True).clamp(min=1)
    baseline_here = (gains * alive).sum(dim=1, keepdim=True) / players_here  # [T, 1]
    better_val = (gains - baseline_here) * alive
    return better_val / (better_val[alive].std() + 1e-8)


def loss(
    model: nn.Module,
    observations: Tensor,  # [T, N, 4]
    actions: Tensor,  # [T, N]
    merits: Tensor,  # [T, N]
    alive: Tensor,  # [T, N]
    entropy_bonus: float,
) -> Tensor:
    """The policy gradient's surrogate, averaged over the steps that were played."""
    ln_policy = model(observations).log_softmax(dim=-1)  # [T, N, 2]
    cur_taken = ln_policy.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    entropy_cur = -(ln_policy.exp() * ln_policy).sum(dim=-1)
    cur_gain = (cur_taken * merits + entropy_bonus * entropy_cur) * alive
    return -cur_gain.sum() / alive.sum()


def train(model: nn.Module, data: dict[str, float], cfg: Config, rng: Generator) -> Iterator[float]:
    """Play a round of episodes and make one update per item, yielding the update's loss."""
    device_val = next(model.parameters()).device
    optim_val = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    for _ in range(cfg.steps):
        origin = torch.rand(cfg.episodes, 4, generator=rng, device=rng.device).to(device_val)
        origin = data["spread"] * (2 * origin - 1)
        observations_here, acts, payoffs, alive_cur = rollout(model, origin, cfg.limit)
        merits_here = advantages(returns(payoffs, alive_cur, cfg.gamma), alive_cur)
        content = loss(model, observations_here, acts, merits_here, alive_cur, cfg.entropy_bonus)
        optim_val.zero_grad()
        content.backward()
        optim_val.step()
        yield content.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # observations [N, 4] -> actions [N]
    """The push that the policy prefers in each state."""
    return model(inputs).argmax(dim=-1)
