"""Cross-validation: how well a way of fitting does on rows that it has not seen.

Rows are cut into folds: at random, with every class in every fold, with groups kept whole, or by time.
Whatever is learned from rows, scaling too, is learned inside a fold. A choice among settings is part of the
fit, so it needs an inner cross-validation of its own.

Shapes: N rows, D features, F folds.
"""

import numpy as np
from numpy import ndarray

Fold = tuple[ndarray, ndarray]  # rows to fit on, rows to score on


def k_fold(count: int, folds: int, rng: np.random.Generator) -> list[Fold]:
    """Parts of nearly equal size in random order, each scored on once."""
    parts = np.array_split(rng.permutation(count), folds)
    return [complement(part, count) for part in parts]


def complement(part: ndarray, count: int) -> Fold:
    """A part to score on, and all other rows to fit on, both in rising order."""
    held = np.zeros(count, dtype=bool)
    held[part] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def stratified(labels: ndarray, folds: int, rng: np.random.Generator) -> list[Fold]:  # [N]
    """Folds in which every class is as frequent as in all rows, up to one row.

    The rows of the classes are dealt out one after the other, so that folds differ by one row in size too.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return [complement(order[fold::folds], len(labels)) for fold in range(folds)]


def grouped(groups: ndarray, folds: int, rng: np.random.Generator) -> list[Fold]:  # [N]
    """Folds that share no group; the largest group goes where there are fewest rows so far."""
    names, counts = np.unique(groups, return_counts=True)
    order = rng.permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    sizes = np.zeros(folds, dtype=int)
    place = np.zeros(len(names), dtype=int)
    for name in order:
        smallest = int(sizes.argmin())
        place[name] = smallest
        sizes[smallest] += counts[name]
    fold_of = place[np.searchsorted(names, groups)]
    return [complement(np.flatnonzero(fold_of == fold), len(groups)) for fold in range(folds)]


def by_time(times: ndarray, folds: int, gap: float = 0.0) -> list[Fold]:  # [N]
    """Each fold is scored on a stretch of time and fitted on what was over more than `gap` before it began.

    The first stretch is only fitted on. Rows of one moment stay together.
    """
    moments = np.unique(times)
    stretches = np.array_split(moments, folds + 1)
    found = []
    for stretch in stretches[1:]:
        held = (times >= stretch[0]) & (times <= stretch[-1])
        before = times < stretch[0] - gap
        found.append((np.flatnonzero(before), np.flatnonzero(held)))
    return found


def scaler(points: ndarray) -> tuple[ndarray, ndarray]:  # [N, D] -> [D], [D]
    """Mean and scale of each feature; the scale of a feature that never changes is one."""
    spread = points.std(axis=0)
    return points.mean(axis=0), np.where(spread > 0, spread, 1.0)


def screen(points: ndarray, labels: ndarray, keep: int) -> ndarray:  # [N, D], [N] -> [keep]
    """The features that go most with the labels, up or down."""
    centred = points - points.mean(axis=0)
    covariance = centred.T @ (labels - labels.mean())
    strength = np.abs(covariance) / np.maximum(np.sqrt((centred**2).sum(axis=0)), 1e-12)
    return np.sort(np.argsort(-strength, kind="stable")[:keep])


def fit(points: ndarray, labels: ndarray, penalty: float, keep: int) -> dict[str, ndarray]:
    """A linear score: features chosen and scaled, then ridge regression on labels of -1 and 1.

    The penalty is on the weights alone; the offset is free.
    """
    chosen = screen(points, labels, keep)
    mean, scale = scaler(points[:, chosen])
    x = (points[:, chosen] - mean) / scale
    target = 2.0 * labels - 1.0
    gram = x.T @ x + penalty * len(x) * np.eye(len(chosen))
    weights = np.linalg.solve(gram, x.T @ (target - target.mean()))
    return {"chosen": chosen, "mean": mean, "scale": scale, "weights": weights, "offset": target.mean()}


def score(model: dict[str, ndarray], points: ndarray) -> ndarray:  # [N, D] -> [N]
    """Above zero for the positive class."""
    x = (points[:, model["chosen"]] - model["mean"]) / model["scale"]
    return x @ model["weights"] + model["offset"]


def accuracy(model: dict[str, ndarray], points: ndarray, labels: ndarray) -> float:
    return float(((score(model, points) > 0) == (labels == 1)).mean())


def cross_validate(
    points: ndarray, labels: ndarray, folds: list[Fold], penalty: float, keep: int
) -> tuple[ndarray, ndarray]:  # -> [F], [N]
    """The accuracy on each fold, and for each row its score by a model that has not seen it (else NaN)."""
    accuracies = []
    scores = np.full(len(labels), np.nan)
    for known, held in folds:
        model = fit(points[known], labels[known], penalty, keep)
        accuracies.append(accuracy(model, points[held], labels[held]))
        scores[held] = score(model, points[held])
    return np.array(accuracies), scores


def summary(accuracies: ndarray, sizes: ndarray) -> tuple[float, float]:  # [F], [F]
    """The mean over all rows, and the standard error of the mean of the folds."""
    mean = float((accuracies * sizes).sum() / sizes.sum())
    return mean, float(accuracies.std(ddof=1) / np.sqrt(len(accuracies)))


def choose(
    points: ndarray,
    labels: ndarray,
    folds: list[Fold],
    settings: list[tuple[float, int]],
    simple: bool = False,
) -> tuple[float, int]:
    """The penalty and number of features with the best mean accuracy; the earlier of equal ones.

    With `simple` the strongest penalty, then the fewest features, of those within one standard error of
    the best.
    """
    sizes = np.array([len(held) for _, held in folds])
    results = [summary(cross_validate(points, labels, folds, *one)[0], sizes) for one in settings]
    best = int(np.argmax([mean for mean, _ in results]))
    if not simple:
        return settings[best]
    least = results[best][0] - results[best][1]
    able = [one for one, (mean, _) in zip(settings, results, strict=True) if mean >= least]
    return max(able, key=lambda one: (one[0], -one[1]))


def nested(
    points: ndarray,
    labels: ndarray,
    folds: list[Fold],
    settings: list[tuple[float, int]],
    inner: int,
    rng: np.random.Generator,
) -> tuple[ndarray, list[tuple[float, int]]]:  # -> [F]
    """The accuracy on each fold of settings that were chosen without it, and those settings."""
    accuracies, chosen = [], []
    for known, held in folds:
        inside = stratified(labels[known], inner, rng)
        best = choose(points[known], labels[known], inside, settings)
        model = fit(points[known], labels[known], *best)
        accuracies.append(accuracy(model, points[held], labels[held]))
        chosen.append(best)
    return np.array(accuracies), chosen


def permutation_test(
    points: ndarray, labels: ndarray, folds: list[Fold], rounds: int, rng: np.random.Generator
) -> tuple[float, float]:
    """The accuracy, and how often labels in a random order do as well; never less than 1 / (rounds + 1)."""
    sizes = np.array([len(held) for _, held in folds])

    def mean(answers: ndarray) -> float:
        return summary(cross_validate(points, answers, folds, 0.1, points.shape[1])[0], sizes)[0]

    found = mean(labels)
    others = [mean(rng.permutation(labels)) for _ in range(rounds)]
    return found, (1 + sum(other >= found for other in others)) / (rounds + 1)
