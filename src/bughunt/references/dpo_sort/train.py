"""Preference tuning: a model of digit strings learns to write sorted ones from pairs that a judge ranked.

First it imitates a corpus in which few strings are sorted. Then a frozen copy of it writes pairs of strings,
the better sorted one of a pair is preferred, and the model shifts its chances towards the preferred ones
without moving far from the copy.

Shapes: B batch, T time (start token and digits), H hidden, V vocabulary.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

DIGITS = 10
START = 10
VOCABULARY = 11


@dataclass(frozen=True, kw_only=True)
class Config:
    length: int = 7  # digits of a string
    hidden: int = 44
    imitation: int = 110  # updates before any preference
    batch: int = 64
    imitation_lr: float = 6e-3
    steps: int = 230  # updates in all
    pairs: int = 52
    lr: float = 2.5e-3
    beta: float = 0.2
    max_grad_norm: float = 2.0


class Writer(nn.Module):
    """Reads a string digit by digit and says what comes next."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, cfg.hidden)
        self.memory = nn.GRU(cfg.hidden, cfg.hidden, batch_first=True)
        self.head = nn.Linear(cfg.hidden, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        states, _ = self.memory(self.embed(tokens))
        return self.head(states)


class Tuned(nn.Module):
    """The model that learns, and the copy that stays as it was after the imitation."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.policy = Writer(cfg)
        self.reference = copy.deepcopy(self.policy)
        freeze(self.reference)


def freeze(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def build(cfg: Config) -> Tuned:
    return Tuned(cfg)


def with_start(strings: Tensor) -> Tensor:  # digits [B, L] -> tokens [B, L + 1]
    return F.pad(strings, (1, 0), value=START)


def log_chance(model: Writer, tokens: Tensor) -> Tensor:  # [B, T] -> [B]
    """How likely each string is: the sum over its digits, the start token given."""
    scores = model(tokens[:, :-1]).log_softmax(dim=-1)  # [B, T - 1, V]
    each = scores.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    return each.sum(dim=-1)


@torch.no_grad()
def write(model: Writer, draws: Tensor) -> Tensor:  # [B, L] between 0 and 1 -> tokens [B, L + 1]
    """Strings drawn from the model, each digit decided by one of the numbers given."""
    tokens = draws.new_full((len(draws), 1), START, dtype=torch.long)
    for luck in draws.unbind(dim=1):
        chances = model(tokens)[:, -1].softmax(dim=-1)  # [B, V]
        passed = (chances.cumsum(dim=-1) < luck[:, None]).sum(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, passed.clamp(max=VOCABULARY - 1)], dim=1)
    return tokens


def sortedness(tokens: Tensor) -> Tensor:  # [B, T] -> [B]
    """The share of neighbours that stand in order; a start token in the middle is never in order."""
    before, after = tokens[:, 1:-1], tokens[:, 2:]
    fine = (after >= before) & (before < DIGITS) & (after < DIGITS)
    return fine.float().mean(dim=1)


def imitation_loss(model: Writer, tokens: Tensor) -> Tensor:  # [B, T] -> []
    """Nats a digit."""
    return -log_chance(model, tokens).mean() / (tokens.size(1) - 1)


def preference_loss(better: Tensor, worse: Tensor, beta: float) -> Tensor:  # [B], [B] -> []
    """How surprising the preferences are, if they follow the shifts of the log-chances, times beta.

    Both are how much likelier a string is for the policy than for the reference, as logarithms.
    """
    return -F.logsigmoid(beta * (better - worse)).mean()


def shift(model: Tuned, tokens: Tensor) -> Tensor:  # [B, T] -> [B]
    """How much likelier a string has become."""
    with torch.no_grad():
        before = log_chance(model.reference, tokens)
    return log_chance(model.policy, tokens) - before


def ranked(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:  # [B, T] twice -> [M, T] twice
    """The better and the worse of each pair; pairs that are equally good are left out."""
    scores, rivals = sortedness(one), sortedness(other)
    first = (scores > rivals)[:, None]
    better, worse = torch.where(first, one, other), torch.where(first, other, one)
    told = scores != rivals
    return better[told], worse[told]


def update(optim: torch.optim.Optimizer, model: nn.Module, value: Tensor, cfg: Config) -> float:
    optim.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
    optim.step()
    return value.item()


def train(model: Tuned, data: Tensor, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss: imitation, then preference. `data` is digits [N, L]."""
    optim = torch.optim.Adam(model.policy.parameters(), lr=cfg.imitation_lr)
    for _ in range(cfg.imitation):
        rows = torch.randint(len(data), (cfg.batch,), generator=rng, device=rng.device).to(data.device)
        tokens = with_start(data[rows])
        yield update(optim, model.policy, imitation_loss(model.policy, tokens), cfg)
    model.reference.load_state_dict(model.policy.state_dict())
    optim = torch.optim.Adam(model.policy.parameters(), lr=cfg.lr)
    for _ in range(cfg.steps - cfg.imitation):
        draws = torch.rand(2 * cfg.pairs, cfg.length, generator=rng, device=rng.device).to(data.device)
        one, other = write(model.reference, draws).chunk(2)
        better, worse = ranked(one, other)
        value = preference_loss(shift(model, better), shift(model, worse), cfg.beta)
        yield update(optim, model.policy, value, cfg)


@torch.no_grad()
def predict(model: Tuned, inputs: Tensor) -> Tensor:  # prefixes of digits [B, L] -> [B, V]
    """Log-probabilities of the digit after each prefix, which may be empty."""
    return model.policy(with_start(inputs))[:, -1].log_softmax(dim=-1)
