"""Learned values in a corridor: with a target network, and without one."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOMS, LIMIT = 5, 7


class Corridor:
    """Step left, right or wait; the last room pays and ends the episode."""

    def reset(self) -> Tensor:
        self.room, self.clock = 0, 0
        return F.one_hot(torch.tensor(self.room), ROOMS).float()

    def step(self, action: int) -> tuple[Tensor, float, bool, bool]:
        self.room = min(max(self.room + action - 1, 0), ROOMS - 1)
        self.clock += 1
        seen = F.one_hot(torch.tensor(self.room), ROOMS).float()
        won = self.room == ROOMS - 1
        return seen, 1.0 if won else -0.1, won, self.clock >= LIMIT


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(ROOMS, 12), nn.Tanh(), nn.Linear(12, 3))


def allowed(state: Tensor) -> Tensor:
    """No step to the left from the first room."""
    legal = torch.ones(len(state), 3, dtype=torch.bool)
    legal[:, 0] = state[:, 0] == 0
    return legal


def play(q: nn.Module, memory: list[tuple[Tensor, int, float, Tensor, bool]], ticks: int) -> None:
    env = Corridor()
    state = env.reset()
    for _ in range(ticks):
        with torch.no_grad():
            action = int(torch.distributions.Categorical(logits=q(state)).sample())
        next_state, reward, terminated, truncated = env.step(action)
        memory.append((state, action, reward, next_state, terminated))
        state = next_state
        if terminated or truncated:
            state = env.reset()


def double_targets(q: nn.Module, target: nn.Module, reward: Tensor, state: Tensor, done: Tensor) -> Tensor:
    gamma = 0.9
    best = q(state).argmax(dim=1, keepdim=True)
    return reward + gamma * target(state).gather(1, best).squeeze(1) * (1 - done)


def plain_targets(q: nn.Module, reward: Tensor, next_state: Tensor, done: Tensor) -> Tensor:
    gamma = 0.9
    next_legal = allowed(next_state)
    ahead = q(next_state).masked_fill(~next_legal, -1e9).amax(dim=1)
    return reward + gamma * (1 - done) * ahead


def batch(memory: list[tuple[Tensor, int, float, Tensor, bool]]) -> tuple[Tensor, ...]:
    rows = [memory[int(i)] for i in torch.randint(0, len(memory), (16,))]
    states, actions, rewards, following, ends = zip(*rows, strict=True)
    flags = torch.tensor(ends).float()
    return torch.stack(states), torch.tensor(actions), torch.tensor(rewards), torch.stack(following), flags


def with_target_network(memory: list[tuple[Tensor, int, float, Tensor, bool]]) -> list[float]:
    q = network()
    target = copy.deepcopy(q)
    slow_target = copy.deepcopy(q)
    adam = torch.optim.Adam(q.parameters(), lr=0.03)
    for step in range(24):
        play(q, memory, 2)
        s, a, r, s2, done = batch(memory)
        with torch.no_grad():
            goal = double_targets(q, target, r, s2, done)
        adam.zero_grad()
        F.mse_loss(q(s).gather(1, a[:, None]).squeeze(1), goal).backward()
        adam.step()
        if step % 5 == 4:
            target.load_state_dict(q.state_dict())
        with torch.no_grad():
            for new, old in zip(q.parameters(), slow_target.parameters(), strict=True):
                old.lerp_(new, 0.1 + 0.0 * step)
    return [net(torch.eye(ROOMS)).sum().item() for net in (q, target, slow_target)]


def polyak(net: nn.Module, target: nn.Module, tau: float) -> None:
    for p, t in zip(net.parameters(), target.parameters(), strict=True):
        t.data.copy_(tau * p.data + (1 - tau) * t.data)


def without_target_network(memory: list[tuple[Tensor, int, float, Tensor, bool]]) -> list[float]:
    net, gamma = network(), 0.8
    average = network()
    adam = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(24):
        s, a, r, s2, done = batch(memory)
        with torch.no_grad():
            goal = r + gamma * net(s2).amax(dim=1) * (1 - done) + 0.1 * plain_targets(net, r, s2, done)
        adam.zero_grad()
        F.mse_loss(net(s).gather(1, a[:, None]).squeeze(1), goal).backward()
        adam.step()
        polyak(net, average, 0.05)
    return [net(torch.eye(ROOMS)).sum().item(), average(torch.eye(ROOMS)).sum().item()]


def fingerprint() -> list[float]:
    torch.manual_seed(2)
    memory: list[tuple[Tensor, int, float, Tensor, bool]] = []
    play(network(), memory, 60)
    ends = float(sum(row[4] for row in memory))
    return [*with_target_network(memory), *without_target_network(memory), ends]
