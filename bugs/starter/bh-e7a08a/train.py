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
    _, speed_cur, angle_here, spin_here = state.unbind(dim=-1)
    push_cur = torch.where(actions == 1, FORCE, -FORCE)
    sine_here, this_cosine = angle_here.sin(), angle_here.cos()
    this_mass = CART_MASS + POLE_MASS
    this_thrust = (push_cur + POLE_MASS * HALF_LENGTH * spin_here.square() * sine_here) / this_mass
    this_inertia = HALF_LENGTH * (4 / 3 - POLE_MASS * this_cosine.square() / this_mass)
    spin_rate_here = (GRAVITY * sine_here - this_cosine * this_thrust) / this_inertia
    speed_rate_val = this_thrust - POLE_MASS * HALF_LENGTH * spin_rate_here * this_cosine / this_mass
    rates_val = torch.stack([speed_cur, speed_rate_val, spin_here, spin_rate_here], dim=-1)
    return state + TICK * rates_val


def fallen(state: Tensor) -> Tensor:  # [N, 4] -> [N]
    """True where the cart has left the track or the pole leans too far."""
    cur_position, _, angle_here, _ = state.unbind(dim=-1)
    return (cur_position.abs() > TRACK) | (angle_here.abs() > LEAN)


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
    cur_probabilities = logits.softmax(dim=-1)
    return torch.multinomial(cur_probabilities, 1).squeeze(-1)


@torch.no_grad()
def rollout(model: nn.Module, start: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Observations [T, N, 4], actions, rewards and who was still playing [T, N], until all are over."""
    env_here = CartPole(start, limit)
    seen_val = start
    this_alive = torch.ones(len(start), dtype=torch.bool, device=start.device)
    iterations = []
    while this_alive.any():
        acts = choose(model(seen_val))
        cur_after, payoff, terminated_val, truncated_cur = env_here.step(acts)
        iterations.append((seen_val, acts, payoff, this_alive))
        this_alive = this_alive & ~(terminated_val | truncated_cur)
        seen_val = cur_after
    return tuple(torch.stack(column_here) for column_here in zip(*iterations, strict=True))


def returns(rewards: Tensor, alive: Tensor, gamma: float) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """What came after each action, itself included, later rewards counting for less."""
    result_here = torch.zeros_like(rewards)
    ahead_val = torch.zeros_like(rewards[0])
    for cur_time in reversed(range(len(rewards))):
        ahead_val = alive[cur_time] * (rewards[cur_time] + gamma * ahead_val)
        result_here[cur_time] = ahead_val
    return result_here


def advantages(gains: Tensor, alive: Tensor) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """How much better each action fared than its step's average, in units of the spread."""
    cur_players = alive.sum(dim=1, keepdim=True).clamp(min=1)
    baseline_here = (gains * alive).sum(dim=0, keepdim=True) / cur_players  # [T, 1]
    cur_better = (gains - baseline_here) * alive
    return cur_better / (cur_better[alive].std() + 1e-8)


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
    cur_taken = logged_policy.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    entropy_val = -(logged_policy.exp() * logged_policy).sum(dim=-1)
    gain_val = (cur_taken * merits + entropy_bonus * entropy_val) * alive
    return -gain_val.sum() / alive.sum()


def train(model: nn.Module, data: dict[str, float], cfg: Config, rng: Generator) -> Iterator[float]:
    """Play a round of episodes and make one update per item, yielding the update's loss."""
    device_val = next(model.parameters()).device
    optim_cur = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    for _ in range(cfg.steps):
        begin = torch.rand(cfg.episodes, 4, generator=rng, device=rng.device).to(device_val)
        begin = data["spread"] * (2 * begin - 1)
        observations_here, acts, payoffs, alive_val = rollout(model, begin, cfg.limit)
        merits_cur = advantages(returns(payoffs, alive_val, cfg.gamma), alive_val)
        content = loss(model, observations_here, acts, merits_cur, alive_val, cfg.entropy_bonus)
        optim_cur.zero_grad()
        content.backward()
        optim_cur.step()
        yield content.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # observations [N, 4] -> actions [N]
    """The push that the policy prefers in each state."""
    return model(inputs).argmax(dim=-1)
