"""Policy updates on a made-up batch: advantages, a clipped gain, and squeezed actions with two critics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal

T, N, A = 6, 4, 2


def advantages(rewards: Tensor, values: Tensor, dones: Tensor, gamma: float, lam: float) -> Tensor:
    """Of steps [T, N]; `dones[t]` says whether an episode ended with step t."""
    out, ahead = torch.zeros_like(rewards), torch.zeros(N)
    for t in reversed(range(T)):
        live = 1.0 - dones[t]
        delta = rewards[t] + gamma * values[t + 1] * live - values[t]
        ahead = delta + gamma * lam * live * ahead
        out[t] = ahead
    return out


def scaled(rewards: Tensor) -> Tensor:
    return rewards / (rewards.std() + 1e-8)


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(3, A)
        self.log_std = nn.Parameter(torch.zeros(A))

    def dist(self, s: Tensor) -> Normal:
        return Normal(self.mean(s), self.log_std.exp())

    def log_prob(self, s: Tensor, a: Tensor) -> Tensor:
        return self.dist(s).log_prob(a).sum(dim=-1, keepdim=True)

    def squeezed(self, s: Tensor) -> tuple[Tensor, Tensor]:
        dist = self.dist(s)
        u = dist.rsample()
        a = torch.tanh(u)
        log_prob = dist.log_prob(u)
        log_prob = log_prob - torch.log(1 - a.pow(2) + 1e-6)
        return a, log_prob.sum(dim=1)


def clipped(policy: Policy, s: Tensor, a: Tensor, adv: Tensor) -> list[float]:
    adam = torch.optim.Adam(policy.parameters(), lr=0.1)
    old_log_prob = policy.log_prob(s, a).detach()
    reported = []
    for _ in range(5):
        for rows in torch.randperm(len(s)).split(8):
            ratio = (policy.log_prob(s[rows], a[rows]) - old_log_prob[rows]).exp()
            gain = torch.min(ratio * adv[rows], ratio.clamp(0.8, 1.2) * adv[rows])
            adam.zero_grad()
            (-gain.mean()).backward()
            adam.step()
            reported.append(gain.mean().item())
    return reported


def soft(policy: Policy, s: Tensor) -> list[float]:
    critic_1, critic_2 = nn.Linear(3 + A, 1), nn.Linear(3 + A, 1)
    log_alpha = torch.zeros((), requires_grad=True)
    target_entropy = -float(A)
    adam = torch.optim.Adam([*policy.parameters(), log_alpha], lr=0.05)
    for _ in range(6):
        a, logp = policy.squeezed(s)
        both = torch.cat([s, a], dim=1)
        q1, q2 = critic_1(both).squeeze(1), critic_2(both).squeeze(1)
        q = torch.min(q1, q2)
        loss = (log_alpha.exp().detach() * logp - q).mean()
        loss = loss - (log_alpha * (logp.detach() + target_entropy)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return [log_alpha.item(), policy.mean.weight.sum().item(), policy.log_std.sum().item()]


def fingerprint() -> list[float]:
    torch.manual_seed(4)
    policy = Policy()
    s = torch.randn(T * N, 3)
    rewards = scaled(torch.randn(T, N) + 0.5)
    dones = (torch.rand(T, N) < 0.3).float()
    adv = advantages(rewards, torch.randn(T + 1, N), dones, 0.9, 0.8)
    a = policy.dist(s).sample()
    return [*clipped(policy, s, a, adv.reshape(-1, 1)), *soft(policy, s), *adv.flatten().tolist()]
