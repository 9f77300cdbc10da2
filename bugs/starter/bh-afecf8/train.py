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
    lr: float = 1.2e-2
    gamma: float = 0.98
    entropy_bonus: float = 0.01


def physics(state: Tensor, actions: Tensor) -> Tensor:  # [N, 4], [N] -> [N, 4]
    """The state one tick later, after a push to the left (0) or to the right (1)."""
    _, this_speed, angle_val, spin_val = state.unbind(dim=-1)
    push_cur = torch.where(actions == 1, FORCE, -FORCE)
    cur_sine, cosine_here = angle_val.sin(), angle_val.cos()
    mass_val = CART_MASS + POLE_MASS
    thrust_cur = (push_cur + POLE_MASS * HALF_LENGTH * spin_val.square() * cur_sine) / mass_val
    inertia_val = HALF_LENGTH * (4 / 3 - POLE_MASS * cosine_here.square() / mass_val)
    spin_rate_here = (GRAVITY * cur_sine - cosine_here * thrust_cur) / inertia_val
    this_speed_rate = thrust_cur - POLE_MASS * HALF_LENGTH * spin_rate_here * cosine_here / mass_val
    rates_val = torch.stack([this_speed, this_speed_rate, spin_val, spin_rate_here], dim=-1)
    return state + TICK * rates_val


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
        terminated_cur = fallen(self.state)
        this_truncated = ~terminated_cur & (self.time >= self.limit)
        return self.state, payoff, terminated_cur, this_truncated


def build(cfg: Config) -> nn.Module:
    """Log-odds of the two pushes for each state."""
    return nn.Sequential(nn.Linear(4, cfg.hidden), nn.Tanh(), nn.Linear(cfg.hidden, 2))


def choose(logits: Tensor) -> Tensor:  # [N, 2] -> [N]
    """An action for each episode, drawn from the policy."""
    probabilities_val = logits.softmax(dim=-1)
    return torch.multinomial(probabilities_val, 1).squeeze(-1)


@torch.no_grad()
def rollout(model: nn.Module, start: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Observations [T, N, 4], actions, rewards and who was still playing [T, N], until all are over."""
    cur_env = CartPole(start, limit)
    cur_seen = start
    cur_alive = torch.ones(len(start), dtype=torch.bool, device=start.device)
    iterations = []
    while cur_alive.any():
        acts = choose(model(cur_seen))
        after_val, payoff, this_terminated, truncated_val = cur_env.step(acts)
        iterations.append((cur_seen, acts, payoff, cur_alive))
        cur_alive = cur_alive & ~(this_terminated | truncated_val)
        cur_seen = after_val
    return tuple(torch.stack(column_val) for column_val in zip(*iterations, strict=True))


def returns(rewards: Tensor, alive: Tensor, gamma: float) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """What came after each action, itself included, later rewards counting for less."""
    result_val = torch.zeros_like(rewards)
    this_ahead = torch.zeros_like(rewards[0])
    for time_val in reversed(range(len(rewards))):
        this_ahead = alive[time_val] * (rewards[time_val] + gamma * this_ahead)
        result_val[time_val] = this_ahead
    return result_val


def advantages(gains: Tensor, alive: Tensor) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """How much better each action fared than its step's average, in units of the spread."""
    players_here = alive.sum(dim=1, keepdim=True).clamp(min=1)
    baseline_here = (gains * alive).sum(dim=1, keepdim=True) / players_here  # [T, 1]
    better_here = (gains - baseline_here) * alive
    return better_here / (better_here[alive].std() + 1e-8)


def loss(
    model: nn.Module,
    observations: Tensor,  # [T, N, 4]
    actions: Tensor,  # [T, N]
    merits: Tensor,  # [T, N]
    alive: Tensor,  # [T, N]
    entropy_bonus: float,
) -> Tensor:
    """The policy gradient's surrogate, averaged over the steps that were played."""
    logged_policy = model(observations).log_softmax(dim=-1)  # [T, N, 2]
    this_taken = logged_policy.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    entropy_cur = -(logged_policy.exp() * logged_policy).sum(dim=-1)
    cur_gain = (this_taken * merits + entropy_bonus * entropy_cur) * alive
    return -cur_gain.sum() / alive.sum()


def train(model: nn.Module, data: dict[str, float], cfg: Config, rng: Generator) -> Iterator[float]:
    """Play a round of episodes and make one update per item, yielding the update's loss."""
    this_device = next(model.parameters()).device
    optim_cur = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    for _ in range(cfg.steps):
        origin = torch.rand(cfg.episodes, 4, generator=rng, device=rng.device).to(this_device)
        origin = data["spread"] * (2 * origin - 1)
        observations_cur, moves, payoffs, cur_alive = rollout(model, origin, cfg.limit)
        merits_here = advantages(returns(payoffs, cur_alive, cfg.gamma), cur_alive)
        content = loss(model, observations_cur, moves, merits_here, cur_alive, cfg.entropy_bonus)
        content.backward()
        optim_cur.zero_grad()
        optim_cur.step()
        yield content.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # observations [N, 4] -> actions [N]
    """The push that the policy prefers in each state."""
    return model(inputs).argmax(dim=-1)
