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
        reward = torch.ones_like(self.state[:, 0])
        terminated = fallen(self.state)
        truncated = ~terminated & (self.time >= self.limit)
        return self.state, reward, terminated, truncated


def build(cfg: Config) -> nn.Module:
    """Log-odds of the two pushes for each state."""
    return nn.Sequential(nn.Linear(4, cfg.hidden), nn.Tanh(), nn.Linear(cfg.hidden, 2))


def choose(logits: Tensor) -> Tensor:  # [N, 2] -> [N]
    """An action for each episode, drawn from the policy."""
    probabilities = logits.softmax(dim=-1)
    return torch.multinomial(probabilities, 1).squeeze(-1)


@torch.no_grad()
def rollout(model: nn.Module, start: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Observations [T, N, 4], actions, rewards and who was still playing [T, N], until all are over."""
    env = CartPole(start, limit)
    seen = start
    alive = torch.ones(len(start), dtype=torch.bool, device=start.device)
    steps = []
    while alive.any():
        actions = choose(model(seen))
        after, reward, terminated, truncated = env.step(actions)
        steps.append((seen, actions, reward, alive))
        alive = alive & ~(terminated | truncated)
        seen = after
    return tuple(torch.stack(column) for column in zip(*steps, strict=True))


def returns(rewards: Tensor, alive: Tensor, gamma: float) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """What came after each action, itself included, later rewards counting for less."""
    result = torch.zeros_like(rewards)
    ahead = torch.zeros_like(rewards[0])
    for time in reversed(range(len(rewards))):
        ahead = alive[time] * (rewards[time] + gamma * ahead)
        result[time] = ahead
    return result


def advantages(gains: Tensor, alive: Tensor) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """How much better each action fared than its step's average, in units of the spread."""
    players = alive.sum(dim=1, keepdim=True).clamp(min=1)
    baseline = (gains * alive).sum(dim=1, keepdim=True) / players  # [T, 1]
    better = (gains - baseline) * alive
    return better / (better[alive].std() + 1e-8)


def loss(
    model: nn.Module,
    observations: Tensor,  # [T, N, 4]
    actions: Tensor,  # [T, N]
    merits: Tensor,  # [T, N]
    alive: Tensor,  # [T, N]
    entropy_bonus: float,
) -> Tensor:
    """The policy gradient's surrogate, averaged over the steps that were played."""
    log_policy = model(observations).log_softmax(dim=-1)  # [T, N, 2]
    taken = log_policy.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    entropy = -(log_policy.exp() * log_policy).sum(dim=-1)
    gain = (taken * merits + entropy_bonus * entropy) * alive
    return -gain.sum() / alive.sum()


def train(model: nn.Module, data: dict[str, float], cfg: Config, rng: Generator) -> Iterator[float]:
    """Play a round of episodes and make one update per item, yielding the update's loss."""
    device = next(model.parameters()).device
    optim = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    for _ in range(cfg.steps):
        start = torch.rand(cfg.episodes, 4, generator=rng, device=rng.device).to(device)
        start = data["spread"] * (2 * start - 1)
        observations, actions, rewards, alive = rollout(model, start, cfg.limit)
        merits = advantages(returns(rewards, alive, cfg.gamma), alive)
        value = loss(model, observations, actions, merits, alive, cfg.entropy_bonus)
        optim.zero_grad()
        value.backward()
        optim.step()
        yield value.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # observations [N, 4] -> actions [N]
    """The push that the policy prefers in each state."""
    return model(inputs).argmax(dim=-1)
