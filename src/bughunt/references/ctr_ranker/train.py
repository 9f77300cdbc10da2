"""Will a click follow? A ranker of impressions whose chances can be taken at their word.

Every feature has an embedding; a factorisation machine adds up the products of all pairs, a small network
sees the rest. Clicks are rare, so most impressions without one are left out of the training, and the
chances are put right afterwards.

Shapes: M impressions, B batch, D features, E embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

FEATURES = ("user", "item", "hour")
UNKNOWN = 0  # number of the values that are rare or were never seen

Impressions = dict[str, Tensor]  # the features [M], time [M], and click [M] where it is known


@dataclass(frozen=True, kw_only=True)
class Config:
    sizes: tuple[int, ...] = (101, 61, 25)  # values of each feature that have an embedding
    fewest: int = 8  # times a value has to come to have one of its own
    channels: int = 10
    hidden: int = 28
    init_std: float = 0.15
    negatives: float = 0.35  # share of the impressions without a click that is kept
    penalty: float = 4e-3  # on the embeddings
    batch: int = 200
    steps: int = 220
    warmup: int = 10
    lr: float = 1.2e-2


def vocabulary(values: Tensor, fewest: int, limit: int) -> dict[int, int]:
    """Numbers for the most frequent values; of equally frequent ones the smaller comes first."""
    found, counts = values.unique(return_counts=True)
    ranked = sorted(zip(found.tolist(), counts.tolist(), strict=True), key=lambda one: (-one[1], one[0]))
    known = [value for value, count in ranked if count >= fewest]
    return {value: UNKNOWN + 1 + rank for rank, value in enumerate(known[: limit - 1])}


def encode(values: Tensor, numbers: dict[int, int]) -> Tensor:  # [M] -> [M]
    codes = [numbers.get(value, UNKNOWN) for value in values.tolist()]
    return torch.tensor(codes, device=values.device)


def pair_products(vectors: Tensor) -> Tensor:  # [B, D, E] -> [B]
    """The products of all pairs of features: half of the square of the sum less the sum of squares."""
    square_of_sum = vectors.sum(dim=1).pow(2)  # [B, E]
    sum_of_squares = vectors.pow(2).sum(dim=1)
    return 0.5 * (square_of_sum - sum_of_squares).sum(dim=1)


class Ranker(nn.Module):
    """Logits of a click; knows its values by number."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        self.numbers: dict[str, dict[int, int]] = {name: {} for name in FEATURES}
        self.tables = nn.ModuleList(nn.Embedding(size, cfg.channels) for size in cfg.sizes)
        self.weights = nn.ModuleList(nn.Embedding(size, 1) for size in cfg.sizes)
        self.bias = nn.Parameter(torch.zeros(1))
        self.hidden = nn.Linear(len(cfg.sizes) * cfg.channels, cfg.hidden)
        self.out = nn.Linear(cfg.hidden, 1, bias=False)
        for table, weight in zip(self.tables, self.weights, strict=True):
            nn.init.normal_(table.weight, std=cfg.init_std)
            nn.init.zeros_(weight.weight)

    def embed(self, codes: Tensor) -> Tensor:  # [B, D] -> [B, D, E]
        return torch.stack([table(codes[:, d]) for d, table in enumerate(self.tables)], dim=1)

    def forward(self, codes: Tensor) -> Tensor:  # [B, D] -> [B]
        vectors = self.embed(codes)
        linear = sum(weight(codes[:, d])[:, 0] for d, weight in enumerate(self.weights))
        deep = self.out(self.hidden(vectors.flatten(1)).relu()).squeeze(-1)
        return self.bias + linear + pair_products(vectors) + deep


def build(cfg: Config) -> Ranker:
    return Ranker(cfg)


def codes_of(model: Ranker, rows: Impressions) -> Tensor:  # -> [M, D]
    return torch.stack([encode(rows[name], model.numbers[name]) for name in FEATURES], dim=1)


def thinned(click: Tensor, share: float, rng: Generator) -> Tensor:  # [M] -> row numbers
    """All clicks, and a share of what was not clicked."""
    luck = torch.rand(len(click), generator=rng, device=rng.device).to(click.device)
    return ((click > 0) | (luck < share)).nonzero()[:, 0]


def calibrated(logits: Tensor, share: float) -> Tensor:  # [B] -> [B]
    """The chance of a click among all impressions, when only a share of the others was trained on."""
    odds = logits.exp() * share
    return odds / (1 + odds)


def batches(click: Tensor, cfg: Config, rng: Generator) -> Iterator[Tensor]:
    """Row numbers, epoch after epoch, thinned anew and in a new order."""
    while True:
        rows = thinned(click, cfg.negatives, rng)
        order = torch.randperm(len(rows), generator=rng, device=rng.device)
        yield from rows[order.to(rows.device)].split(cfg.batch)


def loss(model: Ranker, codes: Tensor, click: Tensor) -> Tensor:  # [B, D], [B] -> []
    """Cross-entropy, and a penalty on the embeddings of the rows at hand."""
    value = F.binary_cross_entropy_with_logits(model(codes), click)
    size = model.embed(codes).pow(2).sum(dim=(1, 2)).mean()
    return value + model.cfg.penalty * size


def learning_rate(step: int, cfg: Config) -> float:
    """A short warm-up, then down on a line."""
    return cfg.lr * min((step + 1) / cfg.warmup, 1 - step / cfg.steps)


def train(model: Ranker, data: Impressions, cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    for name, size in zip(FEATURES, cfg.sizes, strict=True):
        model.numbers[name] = vocabulary(data[name], cfg.fewest, size)
    codes, click = codes_of(model, data), data["click"].float()
    optim = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    stream = batches(click, cfg, rng)
    for step in range(cfg.steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, cfg)
        rows = next(stream)
        model.train()
        optim.zero_grad()
        value = loss(model, codes[rows], click[rows])
        value.backward()
        optim.step()
        yield value.item()


def auc(scores: Tensor, click: Tensor) -> float:  # [M], [M]
    """How often an impression with a click scores higher than one without; a tie is half a win."""
    levels, level = scores.unique(return_inverse=True)
    wins = torch.bincount(level[click > 0], minlength=len(levels)).double()
    losses = torch.bincount(level[click == 0], minlength=len(levels)).double()
    below = losses.cumsum(dim=0) - losses  # at each level, those without a click that score less
    return float((wins * (below + 0.5 * losses)).sum() / (wins.sum() * losses.sum()))


def split_by_time(rows: Impressions, share: float) -> tuple[Impressions, Impressions]:
    """The earlier impressions, and the share of them that came last."""
    order = rows["time"].argsort()
    cut = len(order) - round(share * len(order))
    return (
        {name: values[order[:cut]] for name, values in rows.items()},
        {name: values[order[cut:]] for name, values in rows.items()},
    )


def evaluate(model: Ranker, rows: Impressions) -> dict[str, float]:
    """AUC, log-loss, and how many clicks were promised for each that came."""
    chance, click = predict(model, rows), rows["click"].float()
    return {
        "auc": auc(chance, click),
        "log_loss": float(F.binary_cross_entropy(chance, click)),
        "calibration": float(chance.mean() / click.mean()),
    }


@torch.no_grad()
def predict(model: Ranker, inputs: Impressions) -> Tensor:  # -> [M]
    """The chance of a click for each impression."""
    model.eval()
    return calibrated(model(codes_of(model, inputs)), model.cfg.negatives)
