"""Double DQN: an agent learns to catch falling balls from a memory of what happened to it.

Boards are played side by side. What happened goes into a replay memory, from which batches are drawn; a
target network, copied from the online one now and then, says what the states reached are worth.

Shapes: N boards, B batch, M memory, Y rows, X columns, A actions.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

ACTIONS = 3  # to the left, stay, to the right


@dataclass(frozen=True, kw_only=True)
class Config:
    rows: int = 8
    columns: int = 7
    hidden: int = 64
    boards: int = 16
    memory: int = 6000
    first_look: int = 20  # ticks played before the first update
    batch: int = 72
    steps: int = 900
    lr: float = 3e-3
    gamma: float = 0.96
    sync_every: int = 45
    exploring: int = 500  # updates until exploration is down to its floor
    least_epsilon: float = 0.05


class Catch:
    """A ball falls one row a tick while the paddle in the bottom row moves; then the next ball falls."""

    def __init__(self, boards: int, rows: int, columns: int, device: torch.device) -> None:
        self.rows, self.columns = rows, columns
        self.height = torch.randint(rows - 1, (boards,), device=device)  # so that boards are out of step
        self.ball = torch.randint(columns, (boards,), device=device)
        self.paddle = torch.randint(columns, (boards,), device=device)

    def observe(self) -> Tensor:  # -> [N, Y, X]
        board = torch.zeros(len(self.ball), self.rows, self.columns, device=self.ball.device)
        each = torch.arange(len(self.ball), device=self.ball.device)
        board[each, self.height, self.ball] = 1
        board[each, self.rows - 1, self.paddle] = 1
        return board

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # [N] -> [N, Y, X], [N], [N]
        """What the tick led to, its reward, and whether the ball is down; new balls come afterwards."""
        self.paddle = (self.paddle + actions - 1).clamp(0, self.columns - 1)
        self.height = self.height + 1
        down = self.height == self.rows - 1
        caught = torch.where(self.paddle == self.ball, 1.0, -1.0)
        reward = torch.where(down, caught, 0.0)
        reached = self.observe()
        fresh = torch.randint_like(self.ball, self.columns)
        self.ball = torch.where(down, fresh, self.ball)
        self.height = torch.where(down, 0, self.height)
        return reached, reward, down


class Replay:
    """The last things that happened; the oldest make room for new ones."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.place = 0
        self.filled = 0
        self.columns: list[Tensor] = []

    def add(self, *rows: Tensor) -> None:
        """Observations, actions, rewards, what they led to and whether it ended there, [N, ...] each."""
        if not self.columns:
            self.columns = [row.new_zeros(self.capacity, *row.shape[1:]) for row in rows]
        count = len(rows[0])
        places = (self.place + torch.arange(count, device=rows[0].device)) % self.capacity
        for column, row in zip(self.columns, rows, strict=True):
            column[places] = row
        self.place = (self.place + count) % self.capacity
        self.filled = min(self.filled + count, self.capacity)

    def sample(self, count: int, rng: Generator) -> list[Tensor]:  # -> [B, ...] each
        chosen = torch.randint(self.filled, (count,), generator=rng, device=rng.device)
        return [column[chosen.to(column.device)] for column in self.columns]


class Agent(nn.Module):
    """The network that acts and learns, and the one that judges."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.online = nn.Sequential(
            nn.Flatten(),
            nn.Linear(cfg.rows * cfg.columns, cfg.hidden),
            nn.ReLU(),
            nn.Linear(cfg.hidden, ACTIONS),
        )
        self.target = copy.deepcopy(self.online)


def build(cfg: Config) -> Agent:
    return Agent(cfg)


def values(model: Agent, boards: Tensor) -> Tensor:  # [N, Y, X] -> [N, A]
    """What each action is worth, as the online network has it."""
    return model.online(boards)


def epsilon(step: int, cfg: Config) -> float:
    """The share of random actions: all at first, then fewer and fewer down to the floor."""
    gone = min(1.0, step / cfg.exploring)
    return 1.0 + gone * (cfg.least_epsilon - 1.0)


@torch.no_grad()
def explore(model: Agent, boards: Tensor, share: float) -> Tensor:  # [N, Y, X] -> [N]
    """Mostly the best action, now and then any."""
    best = values(model, boards).argmax(dim=1)
    anything = torch.randint_like(best, ACTIONS)
    at_random = torch.rand(len(best), device=best.device) < share
    return torch.where(at_random, anything, best)


@torch.no_grad()
def targets(model: Agent, reward: Tensor, reached: Tensor, down: Tensor, gamma: float) -> Tensor:  # -> [B]
    """The reward and what follows: the online network picks the action, the target network rates it."""
    picked = model.online(reached).argmax(dim=1, keepdim=True)  # [B, 1]
    ahead = model.target(reached).gather(1, picked).squeeze(1)  # [B]
    return reward + gamma * (1 - down.float()) * ahead


def loss(model: Agent, boards: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
    """How far the values of the actions taken are from their targets."""
    taken = values(model, boards).gather(1, actions[:, None]).squeeze(1)
    return F.smooth_l1_loss(taken, goal)


def sync(model: Agent) -> None:
    model.target.load_state_dict(model.online.state_dict())


def play(model: Agent, env: Catch, memory: Replay, share: float) -> None:
    """One tick on every board."""
    before = env.observe()
    actions = explore(model, before, share)
    reached, reward, down = env.step(actions)
    memory.add(before, actions, reward, reached, down)


def train(model: Agent, data: dict[str, int], cfg: Config, rng: Generator) -> Iterator[float]:
    """Play a tick and make one update per item, yielding its loss."""
    env = Catch(cfg.boards, data["rows"], data["columns"], next(model.parameters()).device)
    memory = Replay(cfg.memory)
    optimizer = torch.optim.Adam(model.online.parameters(), lr=cfg.lr)
    for _ in range(cfg.first_look):
        play(model, env, memory, 1.0)
    for step in range(cfg.steps):
        if step % cfg.sync_every == 0:
            sync(model)
        play(model, env, memory, epsilon(step, cfg))
        boards, actions, reward, reached, down = memory.sample(cfg.batch, rng)
        goal = targets(model, reward, reached, down, cfg.gamma)
        value = loss(model, boards, actions, goal)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        yield value.item()


@torch.no_grad()
def predict(model: Agent, inputs: Tensor) -> Tensor:  # boards [N, Y, X] -> actions [N]
    """The best action on each board."""
    return values(model, inputs).argmax(dim=1)
