"""Word vectors by skip-gram with negative sampling.

Each word of a text is asked which words stand near it. The answer is trained as a series of yes-or-no
questions: yes for a word that was seen there, no for a few drawn at random. Words that are everywhere say
little, so most of their occurrences are left out.

Shapes: M words of the text, V vocabulary, P pairs, B batch, K negatives, E embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    vocab: int = 192
    channels: int = 14
    window: int = 3  # words to each side
    negatives: int = 5
    power: float = 0.75  # between drawing negatives uniformly and as often as they come
    threshold: float = 4e-3  # of a word in the text; what comes more often is thinned out
    batch: int = 640
    steps: int = 360
    lr: float = 2.5e-2


def shares(tokens: Tensor, vocab: int) -> Tensor:  # [M] -> [V]
    """The part of the text that each word makes up."""
    counts = torch.bincount(tokens, minlength=vocab)
    return counts / counts.sum()


def keep_chance(share: Tensor, threshold: float) -> Tensor:  # [V] -> [V]
    """How likely an occurrence of each word is kept."""
    return (threshold / share).sqrt().clamp(max=1.0)


def noise_law(share: Tensor, power: float) -> Tensor:  # [V] -> [V]
    """How likely each word is drawn as a negative."""
    weights = share.pow(power)
    return weights / weights.sum()


def thinned(data: dict[str, Tensor], chance: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """The words that are kept this time, with the numbers of their sentences."""
    tokens = data["tokens"]
    luck = torch.rand(len(tokens), generator=rng, device=rng.device).to(tokens.device)
    kept = luck < chance[tokens]
    return tokens[kept], data["sentence"][kept]


def pairs(tokens: Tensor, sentence: Tensor, window: int) -> Tensor:  # [M], [M] -> [P, 2]
    """Centre and context: all words of a sentence that are at most a window apart, both ways."""
    found = []
    for distance in range(1, window + 1):
        left, right = tokens[:-distance], tokens[distance:]
        together = sentence[:-distance] == sentence[distance:]
        near = torch.stack([left[together], right[together]], dim=1)
        found += [near, near.flip(1)]
    return torch.cat(found)


class SkipGram(nn.Module):
    """Two vectors a word: one as a centre, which is kept, and one as a context."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.center = nn.Embedding(cfg.vocab, cfg.channels)
        self.context = nn.Embedding(cfg.vocab, cfg.channels)
        nn.init.uniform_(self.center.weight, -0.5 / cfg.channels, 0.5 / cfg.channels)
        nn.init.zeros_(self.context.weight)

    def forward(self, center: Tensor, others: Tensor) -> Tensor:  # [B], [B, K] -> [B, K]
        """A score for each of the others as a neighbour of the centre."""
        vectors = self.center(center)  # [B, E]
        return torch.einsum("be,bke->bk", vectors, self.context(others))


def build(cfg: Config) -> SkipGram:
    return SkipGram(cfg)


def loss(model: SkipGram, center: Tensor, context: Tensor, negatives: Tensor) -> Tensor:
    """[B], [B], [B, K] -> []: the mean over pairs, summed over the questions of each."""
    yes = model(center, context[:, None])[:, 0]  # [B]
    no = model(center, negatives)  # [B, K]
    asked = negatives != context[:, None]  # a negative that is the answer is no question
    refused = (F.logsigmoid(-no) * asked).sum(dim=1)
    return -(F.logsigmoid(yes) + refused).mean()


def batches(data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Epoch after epoch of centres, contexts and negatives; each epoch thins the text anew."""
    share = shares(data["tokens"], cfg.vocab)
    chance = keep_chance(share, cfg.threshold)
    law = noise_law(share, cfg.power).to(rng.device)
    while True:
        tokens, sentence = thinned(data, chance, rng)
        near = pairs(tokens, sentence, cfg.window)
        order = torch.randperm(len(near), generator=rng, device=rng.device)
        for rows in order.split(cfg.batch):
            center, context = near[rows.to(near.device)].unbind(dim=1)
            drawn = torch.multinomial(law, len(rows) * cfg.negatives, replacement=True, generator=rng)
            yield center, context, drawn.view(-1, cfg.negatives).to(near.device)


def learning_rate(step: int, cfg: Config) -> float:
    """Falls on a line to a tenth."""
    return cfg.lr * (1 - 0.9 * step / cfg.steps)


def train(model: SkipGram, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    optim = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    stream = batches(data, cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        center, context, negatives = next(stream)
        model.train()
        optim.zero_grad()
        value = loss(model, center, context, negatives)
        value.backward()
        optim.step()
        yield value.item()


@torch.no_grad()
def neighbours(model: SkipGram, words: Tensor, count: int) -> Tensor:  # [B] -> [B, count]
    """The other words that are most alike, the nearest first."""
    vectors = F.normalize(model.center.weight, dim=1)  # [V, E]
    alike = vectors[words] @ vectors.T  # [B, V]
    alike.scatter_(1, words[:, None], -torch.inf)
    return alike.topk(count, dim=1).indices


@torch.no_grad()
def predict(model: SkipGram, inputs: Tensor) -> Tensor:  # [B] -> [B, E]
    """Vectors of words, of length one."""
    model.eval()
    return F.normalize(model.center(inputs), dim=1)
