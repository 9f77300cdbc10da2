"""REINFORCE: a policy learns to balance a pole on a cart from the outcome of whole episodes.

Many episodes are played together. When they are over, each action is judged by the rewards that came
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
FORCE = 10.0
HALF_LENGTH = 0.5
TICK, TRACK = 0.02, 2.4
LEAN = 2 * 12 * math.pi / 360


@dataclass(frozen=True, kw_only=True)
class Config:
    episodes: int = 24
    hidden: int = 32
    lr: float = 1.2e-2
    limit: int = 200
    gamma: float = 0.98
    entropy_bonus: float = 0.01
    steps: int = 36


def fallen(state: Tensor) -> Tensor:  # [N, 4] -> [N]
    """True where the cart has left the track or the pole leans too far."""
    new_position, _, phase, _ = state.unbind(-1)
    return (new_position.absolute() > TRACK) | (phase.abs() > LEAN)


def physics(state: Tensor, actions: Tensor) -> Tensor:  # [N, 4], [N] -> [N, 4]
    """The state one tick later, after a push to the left (0) or to the right (1)."""
    _, velocity, direction, local_spin = torch.unbind(state, dim=-1)
    push_used = torch.where(actions == 1, FORCE, -FORCE)
    sine_used = torch.sin(direction)
    cosine_now = direction.cos()
    this_mass = CART_MASS + POLE_MASS
    overall = push_used + POLE_MASS * HALF_LENGTH * local_spin.square() * sine_used
    thrust_now = overall / this_mass
    difference = 4 / 3 - cosine_now.square() * POLE_MASS / this_mass
    inertia_used = HALF_LENGTH * difference
    difference = GRAVITY * sine_used - thrust_now * cosine_now
    spin_rate_used = difference / inertia_used
    cur_speed_rate = thrust_now - POLE_MASS * HALF_LENGTH * spin_rate_used * cosine_now / this_mass
    rates_used = torch.stack([velocity, cur_speed_rate, local_spin, spin_rate_used], -1)
    product = TICK * rates_used
    return state + product


class CartPole:
    """Carts side by side; nobody resets one that has fallen."""

    def __init__(self, start: Tensor, limit: int) -> None:
        self.state = start
        self.time = 0
        self.limit = limit

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The new state, the reward, and whether the episode fell or ran out of time: [N, ...]."""
        self.state = physics(self.state, actions=actions)
        self.time += 1
        gain = torch.ones_like(self.state[:, 0])
        terminated_now = fallen(self.state)
        this_truncated = ~terminated_now & (self.time >= self.limit)
        return self.state, gain, terminated_now, this_truncated


def choose(logits: Tensor) -> Tensor:  # [N, 2] -> [N]
    """An action for each episode, drawn from the policy."""
    new_probabilities = torch.softmax(logits, dim=-1)
    multinomial_probabilities = torch.multinomial(new_probabilities, 1)
    return multinomial_probabilities.squeeze(-1)


@torch.no_grad()
def rollout(model: nn.Module, start: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Observations [T, N, 4], actions, rewards and who was still playing [T, N], until all are over."""
    world = CartPole(start, limit)
    active = torch.ones(len(start), device=start.device, dtype=torch.bool)
    visited = start
    ticks = []
    while active.any():
        model_seen = model(visited)
        moves = choose(model_seen)
        after_used, gain, new_terminated, new_truncated = world.step(moves)
        ticks.append((visited, moves, gain, active))
        active, visited = active & ~(new_terminated | new_truncated), after_used
    return tuple(torch.stack(field) for field in zip(*ticks, strict=True))


def build(cfg: Config) -> nn.Module:
    """Log-odds of the two pushes for each state."""
    answer = nn.Linear(4, cfg.hidden)
    return nn.Sequential(answer, nn.Tanh(), nn.Linear(cfg.hidden, 2))


def returns(rewards: Tensor, alive: Tensor, gamma: float) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """What came after each action, itself included, later rewards counting for less."""
    forward_part = torch.zeros_like(rewards[0])
    new_result = torch.zeros_like(rewards)
    for cur_time in reversed(range(len(rewards))):
        forward_part = alive[cur_time] * (rewards[cur_time] + forward_part * gamma)
        new_result[cur_time] = forward_part
    return new_result


def advantages(gains: Tensor, alive: Tensor) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """How much better each action fared than its step's average, in units of the spread."""
    overall = alive.sum(1, keepdim=True)
    local_players = overall.clip(min=1)
    overall = (gains * alive).sum(1, keepdim=True)
    cur_baseline = overall / local_players  # [T, 1]
    difference = gains - cur_baseline
    better_used = alive * difference
    return better_used / (torch.std(better_used[alive]) + 1e-8)


def train(model: nn.Module, data: dict[str, float], cfg: Config, rng: Generator) -> Iterator[float]:
    """Play a round of episodes and make one update per item, yielding the update's loss."""
    dev = next(model.parameters()).device
    updater = torch.optim.Adam(model.parameters(), cfg.lr)
    for _ in range(cfg.steps):
        rand_rng = torch.rand(cfg.episodes, 4, generator=rng, device=rng.device)
        origin = rand_rng.to(dev)
        difference = 2 * origin - 1
        origin = data["spread"] * difference
        new_observations, acts, payoffs, active = rollout(model, origin, cfg.limit)
        local_merits = advantages(returns(payoffs, active, cfg.gamma), alive=active)
        content = loss(model, new_observations, acts, local_merits, active, entropy_bonus=cfg.entropy_bonus)
        content.backward()
        updater.step()
        yield content.item()


def loss(
    model: nn.Module,
    observations: Tensor,  # [T, N, 4]
    actions: Tensor,  # [T, N]
    merits: Tensor,  # [T, N]
    alive: Tensor,  # [T, N]
    entropy_bonus: float,
) -> Tensor:
    """The policy gradient's surrogate, averaged over the steps that were played."""
    model_observations = model(observations)
    ln_policy = torch.log_softmax(model_observations, dim=-1)  # [T, N, 2]
    removed = ln_policy.gather(-1, actions[..., None]).squeeze(-1)
    entropy_now = -(ln_policy.exp() * ln_policy).sum(dim=-1)
    return -torch.sum((removed * merits + entropy_bonus * entropy_now) * alive) / torch.sum(alive)


def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # observations [N, 4] -> actions [N]
    """The push that the policy prefers in each state."""
    with torch.no_grad():
        return model(inputs).argmax(-1)
