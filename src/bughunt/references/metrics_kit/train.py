"""How good a model is, in numbers: for decisions, ranks, chances, lists and texts, at once or batch by batch.

Nothing is trained here. Every number has a definition that can be written as a loop; these are the quick
ones.

Shapes: M rows, B rows of a batch, C classes, L places of a list.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

# --- decisions ---


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:  # [M], [M] -> [C, C]
    """How often each label (down) was taken for each class (across)."""
    cells = labels * classes + predicted
    return torch.bincount(cells, minlength=classes**2).view(classes, classes)


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """A quotient that is zero where there is nothing to divide by."""
    return torch.where(below > 0, above / below.clamp(min=1), 0.0)


def precision_recall_f1(table: Tensor, average: str) -> tuple[float, float, float]:  # [C, C]
    """Of a confusion table: "macro" is the mean over classes, "micro" counts all rows alike."""
    right = table.diagonal()
    predicted, actual = table.sum(dim=0), table.sum(dim=1)
    if average == "micro":
        right, predicted, actual = right.sum(), predicted.sum(), actual.sum()
    precision, recall = ratio(right, predicted), ratio(right, actual)
    f1 = ratio(2 * right, predicted + actual)
    return float(precision.mean()), float(recall.mean()), float(f1.mean())


def intersection_over_union(table: Tensor) -> float:  # [C, C]
    """The mean over the classes that occur as a label or as a prediction."""
    right = table.diagonal()
    union = table.sum(dim=0) + table.sum(dim=1) - right
    return float(ratio(right, union)[union > 0].mean())


def matthews(table: Tensor) -> float:  # [C, C]
    """The correlation of predictions and labels; zero where one of them never changes."""
    table = table.double()
    predicted, actual = table.sum(dim=0), table.sum(dim=1)
    total, right = table.sum(), table.diagonal().sum()
    covariance = right * total - (predicted * actual).sum()
    spread = (total**2 - (predicted**2).sum()) * (total**2 - (actual**2).sum())
    return float(covariance / spread.sqrt()) if spread > 0 else 0.0


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:  # [M, C], [M]
    best = scores.topk(k, dim=1).indices  # [M, k]
    return float((best == labels[:, None]).any(dim=1).float().mean())


# --- ranks ---


def roc_curve(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:  # two [M] -> two [T + 1]
    """False and true positive rates, for thresholds at each score that occurs, from the highest down."""
    levels, level = scores.unique(return_inverse=True)
    positive = torch.bincount(level, weights=labels.double(), minlength=len(levels)).flip(0)
    total = torch.bincount(level, minlength=len(levels)).double().flip(0)
    hits, false = positive.cumsum(dim=0), (total - positive).cumsum(dim=0)
    nothing = torch.zeros(1, dtype=torch.float64, device=scores.device)
    return torch.cat([nothing, false / false[-1]]), torch.cat([nothing, hits / hits[-1]])


def roc_auc(scores: Tensor, labels: Tensor) -> float:  # two [M]
    """How often a positive row scores higher than a negative one, ties by half."""
    if labels.min() == labels.max():
        raise ValueError("the area needs rows of both labels")
    false, hits = roc_curve(scores, labels)
    return float(torch.trapezoid(hits, false))


def average_precision(scores: Tensor, labels: Tensor) -> float:  # two [M]
    """Precision at each score that occurs, weighted by the recall that is gained there."""
    levels, level = scores.unique(return_inverse=True)
    positive = torch.bincount(level, weights=labels.double(), minlength=len(levels)).flip(0)
    total = torch.bincount(level, minlength=len(levels)).flip(0)
    precision = positive.cumsum(dim=0) / total.cumsum(dim=0)
    return float((precision * positive).sum() / positive.sum())


def reciprocal_rank(relevant: Tensor) -> Tensor:  # [M, L] of zeros and ones, best first -> [M]
    """One divided by the place of the first hit, zero where there is none."""
    place = torch.arange(1, relevant.size(1) + 1, device=relevant.device)
    return (relevant / place).amax(dim=1)


def ndcg(gains: Tensor, k: int) -> Tensor:  # [M, L] in the order of the list -> [M]
    """Gains weigh less further down; a list in the best order has one, one without gains has zero."""
    place = torch.arange(k, device=gains.device)
    weight = 1 / torch.log2(place + 2.0)
    ideal = gains.sort(dim=1, descending=True).values
    reached, best = ((2.0 ** order[:, :k] - 1) @ weight[: order.size(1)] for order in (gains, ideal))
    return torch.where(best > 0, reached / best.clamp(min=1e-12), 0.0)


# --- chances ---


def log_loss(logits: Tensor, labels: Tensor) -> float:  # [M, C], [M]
    """Mean surprise at the labels, in nats."""
    surprise = torch.logsumexp(logits, dim=1) - logits.gather(1, labels[:, None])[:, 0]
    return float(surprise.mean())


def brier(chances: Tensor, labels: Tensor) -> float:  # [M, C], [M]
    """Mean squared distance of the chances from what came, summed over classes."""
    came = F.one_hot(labels, chances.size(1))
    return float((chances - came).pow(2).sum(dim=1).mean())


def calibration_error(chances: Tensor, labels: Tensor, bins: int) -> float:  # [M, C], [M]
    """How far confidence and accuracy are apart, in bins of confidence, weighted by rows.

    A bin holds what is above its lower end, up to its upper end.
    """
    confidence, predicted = chances.max(dim=1)
    right = (predicted == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    hits = torch.bincount(place, weights=right, minlength=bins)
    promised = torch.bincount(place, weights=confidence.double(), minlength=bins)
    return float((hits - promised).abs().sum() / len(labels))


# --- texts ---


def n_grams(words: Sequence[str], n: int) -> Counter:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def bleu(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[str]], most: int) -> float:
    """Of a corpus: clipped matches of 1 to `most` words, as a geometric mean, less for brevity."""
    logs = 0.0
    for n in range(1, most + 1):
        matched = possible = 0
        for candidate, reference in zip(candidates, references, strict=True):
            own, other = n_grams(candidate, n), n_grams(reference, n)
            matched += sum((own & other).values())
            possible += sum(own.values())
        if matched == 0:
            return 0.0
        logs += math.log(matched / possible) / most
    ours, theirs = sum(map(len, candidates)), sum(map(len, references))
    return math.exp(logs + min(0.0, 1 - theirs / ours))


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """The fewest insertions, deletions and replacements that turn one into the other."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        above, row = row, [i]
        for j, right in enumerate(other, start=1):
            replaced = above[j - 1] + (left != right)
            row.append(min(replaced, above[j] + 1, row[j - 1] + 1))
    return row[-1]


# --- batch by batch ---


def perplexity(batches: Iterable[tuple[Tensor, Tensor]], pad: int) -> float:  # [B, T, V], [B, T] each
    """The exponential of the mean surprise over all tokens but padding."""
    total, count = 0.0, 0
    for logits, targets in batches:
        mask = targets != pad
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        total += (losses * mask.flatten()).sum().item()
        count += int(mask.sum())
    return math.exp(total / count)


def evaluate(batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> dict[str, float]:
    """Loss, accuracy and macro F1 over batches of logits [B, C] and labels [B] of any size."""
    total, correct, count = 0.0, 0, 0
    table = torch.zeros(classes, classes, dtype=torch.long)
    for logits, labels in batches:
        total += log_loss(logits, labels) * len(labels)
        predicted = logits.argmax(dim=1)
        correct += int((predicted == labels).sum())
        count += len(labels)
        table += confusion(predicted, labels, classes).to(table.device)
    return {
        "loss": total / count,
        "accuracy": correct / count,
        "f1": precision_recall_f1(table, "macro")[2],
    }


class Moments:
    """Mean and variance of a stream, without keeping it, and of two streams put together."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0  # squares of distances from the mean

    def add(self, values: Tensor) -> None:  # [B]
        other = Moments()
        other.count = len(values)
        if other.count:
            other.mean = float(values.double().mean())
            other.squares = float((values.double() - other.mean).pow(2).sum())
            self.merge(other)

    def merge(self, other: "Moments") -> None:
        """By Chan's formula, which does not subtract large numbers."""
        count = self.count + other.count
        if count == 0:
            return
        apart = other.mean - self.mean
        self.squares += other.squares + apart**2 * self.count * other.count / count
        self.mean += apart * other.count / count
        self.count = count

    def variance(self) -> float:
        """Of the values that came, divided by one less than their number."""
        return self.squares / (self.count - 1) if self.count > 1 else 0.0


def stream(parts: Sequence[Tensor]) -> tuple[float, float]:
    """Mean and variance of parts: one after the other in two halves, and these put together."""
    halves = Moments(), Moments()
    for place, values in enumerate(parts):
        halves[place % 2].add(values)
    halves[0].merge(halves[1])
    return halves[0].mean, halves[0].variance()


# --- how sure ---


def bootstrap(values: Tensor, level: float, draws: int, rng: Generator) -> tuple[float, float]:  # [M]
    """An interval for the mean: the middle `level` of the means of rows drawn with putting back."""
    shape = (draws, len(values))
    rows = torch.randint(len(values), shape, generator=rng, device=rng.device).to(values.device)
    means = values.double()[rows].mean(dim=1)  # [draws]
    low, high = means.quantile((1 - level) / 2), means.quantile((1 + level) / 2)
    return float(low), float(high)
