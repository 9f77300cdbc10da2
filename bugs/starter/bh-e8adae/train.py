"""REINFORCE: a policy learns to balance a pole on a cart from the outcome of whole episodes.

Many episodes are played together. When they are over, each action is judged by the rewards that came
after it, compared with how the other episodes fared from the same time on; actions that did better
than that become more likely.

Shapes: T time, N episodes together. A state is position, speed, angle and spin.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

CART_MASS = 1.0
GRAVITY = 9.8
POLE_MASS = 0.1
HALF_LENGTH, FORCE = 0.5, 10.0
TRACK = 2.4
TICK = 0.02
LEAN = 12 * 2 * math.pi / 360


@dataclass(kw_only=True, frozen=True)
class Config:
    limit: int = 200
    episodes: int = 24
    lr: float = 1.2e-2
    steps: int = 36
    gamma: float = 0.98
    hidden: int = 32
    entropy_bonus: float = 0.01


def physics(state: Tensor, actions: Tensor) -> Tensor:  # [N, 4], [N] -> [N, 4]
    """The state one tick later, after a push to the left (0) or to the right (1)."""
    _, pace, direction, spin_now = torch.unbind(state, dim=-1)
    new_push = torch.where(actions == 1, FORCE, -FORCE)
    sine_now = torch.sin(direction)
    this_cosine = direction.cos()
    cur_mass = CART_MASS + POLE_MASS
    difference = 4 / 3 - POLE_MASS * this_cosine**2 / cur_mass
    local_inertia = HALF_LENGTH * difference
    thrust_now = (new_push + HALF_LENGTH * POLE_MASS * torch.square(spin_now) * sine_now) / cur_mass
    this_spin_rate = (sine_now * GRAVITY - this_cosine * thrust_now) / local_inertia
    speed_rate_used = thrust_now - POLE_MASS * HALF_LENGTH * this_spin_rate * this_cosine / cur_mass
    this_rates = torch.stack([pace, speed_rate_used, spin_now, this_spin_rate], dim=-1)
    product = this_rates * TICK
    return state + product


def fallen(state: Tensor) -> Tensor:  # [N, 4] -> [N]
    """True where the cart has left the track or the pole leans too far."""
    this_position, _, direction, _ = torch.unbind(state, dim=-1)
    return (this_position.absolute() > TRACK) | (direction.absolute() > LEAN)


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
        select_output = self.state.select(1, 0)
        payoff = torch.ones_like(select_output)
        local_terminated = fallen(self.state)
        truncated_used = ~local_terminated & (self.time >= self.limit)
        return self.state, payoff, local_terminated, truncated_used


def build(cfg: Config) -> nn.Module:
    """Log-odds of the two pushes for each state."""
    answer = nn.Linear(4, cfg.hidden)
    return nn.Sequential(answer, nn.Tanh(), nn.Linear(cfg.hidden, 2))


def rollout(model: nn.Module, start: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Observations [T, N, 4], actions, rewards and who was still playing [T, N], until all are over."""
    with torch.no_grad():
        environment = CartPole(start, limit)
        living = torch.ones(len(start), device=start.device, dtype=torch.bool)
        met = start
        ticks = []
        while living.any():
            acts = choose(model(met))
            local_after, payoff, cur_terminated, cur_truncated = environment.step(acts)
            ticks.append((met, acts, payoff, living))
            living, met = living & ~(cur_terminated | cur_truncated), local_after
        return tuple(torch.stack(field) for field in zip(*ticks, strict=True))


def choose(logits: Tensor) -> Tensor:  # [N, 2] -> [N]
    """An action for each episode, drawn from the policy."""
    probabilities_now = logits.softmax(-1)
    multinomial_probabilities = torch.multinomial(probabilities_now, 1)
    return multinomial_probabilities.squeeze(-1)


def advantages(gains: Tensor, alive: Tensor) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """How much better each action fared than its step's average, in units of the spread."""
    players_used = alive.sum(1, keepdim=True).clip(min=1)
    baseline_used = (gains * alive).sum() / players_used  # [T, 1]
    cur_better = (gains - baseline_used) * alive
    overall = 1e-8 + cur_better[alive].std()
    return cur_better / overall


def returns(rewards: Tensor, alive: Tensor, gamma: float) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """What came after each action, itself included, later rewards counting for less."""
    cur_result = torch.zeros_like(rewards)
    forward_part = torch.zeros_like(rewards[0])
    for local_time in reversed(range(len(rewards))):
        overall = rewards[local_time] + gamma * forward_part
        forward_part = overall * alive[local_time]
        cur_result[local_time] = forward_part
    return cur_result


def train(model: nn.Module, data: dict[str, float], cfg: Config, rng: Generator) -> Iterator[float]:
    """Play a round of episodes and make one update per item, yielding the update's loss."""
    place = next(model.parameters()).device
    solver = torch.optim.Adam(model.parameters(), cfg.lr)
    for _ in range(cfg.steps):
        origin = torch.rand(cfg.episodes, 4, device=rng.device, generator=rng).to(place)
        origin = data["spread"] * (2 * origin - 1)
        observations_used, moves, payoffs, active = rollout(model, origin, cfg.limit)
        local_merits = advantages(returns(payoffs, active, gamma=cfg.gamma), active)
        content = loss(model, observations_used, moves, local_merits, active, entropy_bonus=cfg.entropy_bonus)
        solver.zero_grad()
        content.backward()
        solver.step()
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
    ln_policy = model(observations).log_softmax(-1)  # [T, N, 2]
    picked = ln_policy.gather(-1, actions[..., None])
    used_up = picked.squeeze(-1)
    improvement = (merits * used_up + entropy_bonus * -(torch.exp(ln_policy) * ln_policy).sum(-1)) * alive
    overall = torch.sum(alive)
    return -torch.sum(improvement) / overall


def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # observations [N, 4] -> actions [N]
    """The push that the policy prefers in each state."""
    with torch.no_grad():
        model_given = model(inputs)
        return model_given.argmax(dim=-1)
