"""A convolutional network that reads short reviews: were they for or against?

Texts become rows of word numbers, padded to the longest of their batch. Convolutions look at a few words in
a row, and the strongest answer of each over the whole text decides.

Shapes: B batch, T words of the longest text, E embedding, C channels, K classes.
"""

import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

PAD, UNKNOWN = 0, 1
FIRST = 2  # number of the most frequent word


@dataclass(frozen=True, kw_only=True)
class Config:
    words: int = 60  # those that have a number of their own
    embedding: int = 20
    channels: int = 24
    widths: tuple[int, ...] = (2, 3)
    classes: int = 2
    dropout: float = 0.3
    batch: int = 48
    steps: int = 240
    lr: float = 6e-3


def tokenise(text: str) -> list[str]:
    """Words in lower case, without the punctuation around them."""
    stripped = (word.strip(string.punctuation) for word in text.lower().split())
    return [word for word in stripped if word]


def vocabulary(texts: Sequence[str], limit: int) -> dict[str, int]:
    """Numbers for the most frequent words; of equally frequent ones the alphabet decides."""
    counts = Counter(word for text in texts for word in tokenise(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: FIRST + rank for rank, word in enumerate(ranked[:limit])}


def encode(text: str, numbers: dict[str, int]) -> list[int]:
    """One number a word; a text without words counts as one unknown word."""
    return [numbers.get(word, UNKNOWN) for word in tokenise(text)] or [UNKNOWN]


def collate(rows: Sequence[Sequence[int]]) -> Tensor:  # -> [B, T]
    """Rows of unlike lengths side by side."""
    longest = max(len(row) for row in rows)
    padded = torch.full((len(rows), longest), PAD)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = torch.tensor(row)
    return padded


class Reader(nn.Module):
    """Embeds, convolves, keeps the strongest answers, and decides; knows its words by number."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}
        self.embedding = nn.Embedding(FIRST + cfg.words, cfg.embedding, padding_idx=PAD)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(cfg.embedding, cfg.channels, width) for width in cfg.widths
        )
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.channels * len(cfg.widths), cfg.classes)

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, K]
        padding = (tokens == PAD).unsqueeze(1)  # [B, 1, T]
        x = self.embedding(tokens).transpose(1, 2)  # [B, E, T]
        strongest = []
        for convolution in self.convolutions:
            (width,) = convolution.kernel_size
            seen = convolution(F.pad(x, (0, width - 1))).relu()  # [B, C, T]
            strongest.append(seen.masked_fill(padding, -torch.inf).amax(dim=2))
        features = torch.cat(strongest, dim=1)
        return self.head(self.dropout(features))


def build(cfg: Config) -> Reader:
    return Reader(cfg)


def batches(
    rows: list[list[int]], labels: Tensor, cfg: Config, rng: Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch in a new order; the last batch of an epoch may be short."""
    while True:
        order = torch.randperm(len(rows), generator=rng, device=rng.device)
        for chosen in order.split(cfg.batch):
            tokens = collate([rows[index] for index in chosen.tolist()])
            yield tokens.to(labels.device), labels[chosen.to(labels.device)]


def train(model: Reader, data: dict[str, object], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    texts, labels = data["texts"], data["labels"]
    model.numbers = vocabulary(texts, cfg.words)
    rows = [encode(text, model.numbers) for text in texts]
    stream = batches(rows, labels, cfg, rng)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    for _ in range(cfg.steps):
        tokens, answers = next(stream)
        model.train()
        value = F.cross_entropy(model(tokens), answers)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        yield value.item()


@torch.no_grad()
def predict(model: Reader, inputs: list[str]) -> Tensor:  # B texts -> [B, K]
    """Log-probabilities of the classes."""
    model.eval()
    tokens = collate([encode(text, model.numbers) for text in inputs])
    return model(tokens.to(model.head.weight.device)).log_softmax(dim=1)
