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

GRAVITY, CART_MASS = 9.8, 1.0
POLE_MASS = 0.1
HALF_LENGTH = 0.5
FORCE = 10.0
TRACK = 2.4
TICK = 0.02
LEAN = 12 * 2 * math.pi / 360


@dataclass(frozen=True, kw_only=True)
class Config:
    episodes: int = 24
    steps: int = 36
    limit: int = 200
    lr: float = 1.2e-2
    gamma: float = 0.98
    hidden: int = 32
    entropy_bonus: float = 0.01


def physics(state: Tensor, actions: Tensor) -> Tensor:  # [N, 4], [N] -> [N, 4]
    """The state one tick later, after a push to the left (0) or to the right (1)."""
    _, pace, phase, cur_spin = state.unbind(-1)
    push_used = torch.where(actions == 1, FORCE, -FORCE)
    cur_sine = phase.sin()
    cur_cosine = phase.cos()
    this_mass = CART_MASS + POLE_MASS
    inertia_used = HALF_LENGTH * (4 / 3 - POLE_MASS * cur_cosine**2 / this_mass)
    thrust_now = (push_used + POLE_MASS * HALF_LENGTH * torch.square(cur_spin) * cur_sine) / this_mass
    local_spin_rate = (cur_sine * GRAVITY - cur_cosine * thrust_now) / inertia_used
    cur_speed_rate = thrust_now - POLE_MASS * HALF_LENGTH * local_spin_rate * cur_cosine / this_mass
    return state + torch.stack([pace, cur_speed_rate, cur_spin, local_spin_rate], -1) * TICK


def fallen(state: Tensor) -> Tensor:  # [N, 4] -> [N]
    """True where the cart has left the track or the pole leans too far."""
    new_position, _, phase, _ = torch.unbind(state, dim=-1)
    return (new_position.absolute() > TRACK) | (phase.absolute() > LEAN)


class CartPole:
    """Carts side by side; nobody resets one that has fallen."""

    def __init__(self, start: Tensor, limit: int) -> None:
        self.state = start
        self.limit, self.time = limit, 0

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The new state, the reward, and whether the episode fell or ran out of time: [N, ...]."""
        self.state = physics(self.state, actions=actions)
        self.time += 1
        select_output = self.state.select(1, 0)
        payoff = torch.ones_like(select_output)
        terminated_now = fallen(self.state)
        return self.state, payoff, terminated_now, ~terminated_now & (self.time >= self.limit)


def build(cfg: Config) -> nn.Module:
    """Log-odds of the two pushes for each state."""
    return nn.Sequential(nn.Linear(4, cfg.hidden), nn.Tanh(), nn.Linear(cfg.hidden, out_features=2))


def choose(logits: Tensor) -> Tensor:  # [N, 2] -> [N]
    """An action for each episode, drawn from the policy."""
    probabilities_used = torch.softmax(logits, dim=-1)
    multinomial_probabilities = torch.multinomial(probabilities_used, 1)
    return multinomial_probabilities.squeeze(-1)


def advantages(gains: Tensor, alive: Tensor) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """How much better each action fared than its step's average, in units of the spread."""
    overall = torch.sum(alive, keepdim=True, dim=1)
    players_used = overall.clamp(min=1)
    overall = (alive * gains).sum(1, keepdim=True)
    baseline_used = overall / players_used  # [T, 1]
    difference = gains - baseline_used
    better_now = alive * difference
    overall = 1e-8 + better_now[alive].std()
    return better_now / overall


def returns(rewards: Tensor, alive: Tensor, gamma: float) -> Tensor:  # [T, N], [T, N] -> [T, N]
    """What came after each action, itself included, later rewards counting for less."""
    result_now = torch.zeros_like(rewards)
    forward_part = torch.zeros_like(rewards[0])
    for cur_time in reversed(range(len(rewards))):
        overall = rewards[cur_time] + forward_part * gamma
        forward_part = alive[cur_time] * overall
        result_now[cur_time] = forward_part
    return result_now


def loss(
    model: nn.Module,
    observations: Tensor,  # [T, N, 4]
    actions: Tensor,  # [T, N]
    merits: Tensor,  # [T, N]
    alive: Tensor,  # [T, N]
    entropy_bonus: float,
) -> Tensor:
    """The policy gradient's surrogate, averaged over the steps that were played."""
    logged_policy = torch.log_softmax(model(observations), dim=-1)  # [T, N, 2]
    removed = logged_policy.gather(-2, actions[..., None]).squeeze(-1)
    cur_entropy = -(torch.exp(logged_policy) * logged_policy).sum(-1)
    overall = merits * removed + entropy_bonus * cur_entropy
    benefit = overall * alive
    return -torch.sum(benefit) / alive.sum()


@torch.no_grad()
def rollout(model: nn.Module, start: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Observations [T, N, 4], actions, rewards and who was still playing [T, N], until all are over."""
    environment = CartPole(start, limit)
    active = torch.ones(len(start), dtype=torch.bool, device=start.device)
    met = start
    iterations = []
    while active.any():
        model_seen = model(met)
        acts = choose(model_seen)
        new_after, payoff, new_terminated, this_truncated = environment.step(acts)
        iterations.append((met, acts, payoff, active))
        active = active & ~(new_terminated | this_truncated)
        met = new_after
    return tuple(torch.stack(field) for field in zip(*iterations, strict=True))


def train(model: nn.Module, data: dict[str, float], cfg: Config, rng: Generator) -> Iterator[float]:
    """Play a round of episodes and make one update per item, yielding the update's loss."""
    dev = next(model.parameters()).device
    coefs = model.parameters()
    solver = torch.optim.Adam(coefs, cfg.lr)
    for _ in range(cfg.steps):
        rand_rng = torch.rand(cfg.episodes, 4, device=rng.device, generator=rng)
        begin = rand_rng.to(dev)
        difference = 2 * begin - 1
        begin = difference * data["spread"]
        observations_now, moves, payoffs, living = rollout(model, begin, cfg.limit)
        merits_used = advantages(returns(payoffs, living, cfg.gamma), alive=living)
        val = loss(model, observations_now, moves, merits_used, living, cfg.entropy_bonus)
        solver.zero_grad(set_to_none=True)
        val.backward()
        solver.step()
        yield val.item()


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # observations [N, 4] -> actions [N]
    """The push that the policy prefers in each state."""
    model_sources = model(inputs)
    return torch.argmax(model_sources, dim=-1)
