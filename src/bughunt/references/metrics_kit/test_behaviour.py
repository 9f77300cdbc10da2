"""What any correct set of metrics does, whoever wrote it. Expected values are loops over single rows."""

import functools
import itertools
import math
import statistics
from collections import Counter

import pytest
import torch


def _decisions(seed, count=120, classes=5, absent=None):
    """Labels, and predictions that are right more often than not; a class may never occur."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=rng)
    guess = torch.randint(0, classes, (count,), generator=rng)
    predicted = torch.where(torch.rand(count, generator=rng) < 0.6, labels, guess)
    if absent is not None:
        labels, predicted = (torch.where(x == absent, 0, x) for x in (labels, predicted))
    return predicted, labels


def _table(predicted, labels, classes):
    table = [[0] * classes for _ in range(classes)]
    for guess, label in zip(predicted.tolist(), labels.tolist(), strict=True):
        table[label][guess] += 1
    return table


def _scores(seed, levels, count=90):
    rng = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=rng) < 0.35).long()
    scores = torch.rand(count, generator=rng) + 0.3 * labels
    return (scores if levels is None else (scores * levels).floor() / levels), labels


def _logits(seed, count=70, classes=4):
    rng = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(count, classes, generator=rng), torch.randint(0, classes, (count,), generator=rng)


def _safe(above, below):
    return above / below if below else 0.0


def _surprise(row, label):
    return math.log(sum(math.exp(value) for value in row)) - row[label]


def _discounted(gains):
    return sum((2**gain - 1) / math.log2(place + 2) for place, gain in enumerate(gains))


WORDS = [
    ("the cat sat on the mat", "the cat is on the mat"),
    ("the the the the the the", "the cat is on the mat"),
    ("a dog runs", "a dog runs in the park today"),
    ("it is a truth that all know well", "it is a truth that most know"),
]


def _texts():
    return [a.split() for a, _ in WORDS], [b.split() for _, b in WORDS]


def _bleu(candidates, references, most):
    total = 0.0
    for n in range(1, most + 1):
        matched = possible = 0
        for one, other in zip(candidates, references, strict=True):
            grams = [Counter(tuple(x[i : i + n]) for i in range(len(x) - n + 1)) for x in (one, other)]
            matched += sum(min(count, grams[1][gram]) for gram, count in grams[0].items())
            possible += sum(grams[0].values())
        if not matched:
            return 0.0
        total += math.log(matched / possible)
    ours, theirs = sum(map(len, candidates)), sum(map(len, references))
    return math.exp(total / most) * (1.0 if ours >= theirs else math.exp(1 - theirs / ours))


@pytest.mark.parametrize("absent", [None, 3], ids=["all classes", "one that never occurs"])
def test_a_confusion_table_counts_every_row_once(program, seed, absent):
    predicted, labels = _decisions(seed, absent=absent)
    got = torch.as_tensor(program.call("confusion", predicted, labels, 5))
    assert got.tolist() == _table(predicted, labels, 5)


@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("absent", [None, 3], ids=["all classes", "one that never occurs"])
def test_decisions_are_judged_as_by_hand(program, seed, average, absent):
    table = _table(*_decisions(seed, absent=absent), 5)
    table[1][2] += 40  # predictions and labels are not equally frequent
    right = [table[c][c] for c in range(5)]
    predicted = [sum(table[label][c] for label in range(5)) for c in range(5)]
    actual = [sum(table[c]) for c in range(5)]
    if average == "micro":
        right, predicted, actual = [sum(right)], [sum(predicted)], [sum(actual)]
    rows = list(zip(right, predicted, actual, strict=True))
    expected = [
        statistics.fmean(_safe(r, p) for r, p, _ in rows),
        statistics.fmean(_safe(r, a) for r, _, a in rows),
        statistics.fmean(_safe(2 * r, p + a) for r, p, a in rows),
    ]
    got = program.call("precision_recall_f1", torch.tensor(table), average)
    assert list(got) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("absent", [None, 3], ids=["all classes", "one that never occurs"])
def test_overlaps_are_means_over_what_occurs(program, seed, absent):
    predicted, labels = _decisions(seed, absent=absent)
    pairs = list(zip(predicted.tolist(), labels.tolist(), strict=True))
    overlaps = []
    for c in range(5):
        both, either = sum(p == q == c for p, q in pairs), sum(c in pair for pair in pairs)
        overlaps += [both / either] if either else []
    table = torch.tensor(_table(predicted, labels, 5))
    assert program.call("intersection_over_union", table) == pytest.approx(
        statistics.fmean(overlaps), rel=1e-5
    )


@pytest.mark.parametrize("classes", [2, 5])
def test_correlation_agrees_with_that_of_indicators(program, seed, classes):
    predicted, labels = _decisions(seed, classes=classes)
    marks = [torch.nn.functional.one_hot(x, classes).double() for x in (predicted, labels)]
    centred = [x - x.mean(dim=0) for x in marks]
    expected = (centred[0] * centred[1]).sum() / (centred[0].norm() * centred[1].norm())
    table = torch.tensor(_table(predicted, labels, classes))
    assert program.call("matthews", table) == pytest.approx(float(expected), rel=1e-5)
    assert program.call("matthews", torch.tensor([[0, 5], [0, 9]])) == 0.0


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_best_few_may_hold_the_label(program, seed, k):
    logits, labels = _logits(seed)
    hits = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        hits += sum(value > row[label] for value in row) < k
    assert program.call("top_k_accuracy", logits, labels, k) == pytest.approx(hits / len(labels), rel=1e-5)


@pytest.mark.parametrize("levels", [None, 4, 1], ids=["no ties", "many ties", "hardly any levels"])
def test_the_area_is_the_share_of_pairs_in_order(program, seed, levels):
    scores, labels = _scores(seed, levels)
    pairs = itertools.product(scores[labels > 0].tolist(), scores[labels == 0].tolist())
    expected = statistics.fmean(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)
    assert program.call("roc_auc", scores, labels) == pytest.approx(expected, rel=1e-6)
    assert program.call("roc_auc", 7 * scores**3 - 2, labels) == pytest.approx(expected, rel=1e-6)
    assert program.call("roc_auc", -scores, labels) == pytest.approx(1 - expected, rel=1e-6)


@pytest.mark.parametrize("levels", [None, 4], ids=["no ties", "many ties"])
def test_the_curve_goes_through_every_threshold(program, seed, levels):
    scores, labels = _scores(seed, levels)
    false, hits = (torch.as_tensor(part).tolist() for part in program.call("roc_curve", scores, labels))
    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        above = scores >= threshold
        rates = [float((above & (labels == c)).sum() / (labels == c).sum()) for c in (0, 1)]
        points.append(tuple(rates))
    assert false == pytest.approx([x for x, _ in points], abs=1e-6)
    assert hits == pytest.approx([y for _, y in points], abs=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_alone_has_no_area(program, label):
    with pytest.raises(Exception, match="labels"):
        program.call("roc_auc", torch.rand(5), torch.full((5,), label))


@pytest.mark.parametrize("levels", [None, 4], ids=["no ties", "many ties"])
def test_precision_is_averaged_over_what_is_recalled(program, seed, levels):
    scores, labels = _scores(seed, levels)
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        above = scores >= threshold
        recall = float(labels[above].sum() / labels.sum())
        total += (recall - before) * float(labels[above].float().mean())
        before = recall
    assert program.call("average_precision", scores, labels) == pytest.approx(total, rel=1e-5)


def test_the_first_hit_counts(program, seed):
    relevant = (torch.rand(30, 7, generator=torch.Generator().manual_seed(seed)) < 0.25).long()
    relevant[0], relevant[1] = 0, 1
    expected = [1 / (1 + row.index(1)) if 1 in row else 0.0 for row in relevant.tolist()]
    assert torch.as_tensor(program.call("reciprocal_rank", relevant)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 3, 6, 10])
def test_gains_weigh_less_further_down(program, seed, k):
    gains = torch.randint(0, 4, (30, 6), generator=torch.Generator().manual_seed(seed))
    gains[0] = 0
    expected = []
    for row in gains.tolist():
        best = _discounted(sorted(row, reverse=True)[:k])
        expected.append(_discounted(row[:k]) / best if best else 0.0)
    got = torch.as_tensor(program.call("ndcg", gains, k)).tolist()
    assert got == pytest.approx(expected, rel=1e-4)


def test_surprise_agrees_with_its_formula(program, seed):
    logits, labels = _logits(seed)
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    expected = statistics.fmean(_surprise(row, label) for row, label in rows)
    assert program.call("log_loss", logits, labels) == pytest.approx(expected, rel=1e-5)
    assert program.call("log_loss", logits + 100, labels) == pytest.approx(expected, rel=1e-3)


def test_large_scores_stay_finite(program):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    assert program.call("log_loss", logits, torch.tensor([0, 0])) == pytest.approx(1e4, rel=1e-5)


def test_squared_distances_are_summed_over_classes(program, seed):
    logits, labels = _logits(seed)
    chances = logits.softmax(dim=1)
    rows = zip(chances.tolist(), labels.tolist(), strict=True)
    expected = statistics.fmean(
        sum((p - (c == label)) ** 2 for c, p in enumerate(row)) for row, label in rows
    )
    assert program.call("brier", chances, labels) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bins", [1, 4, 10])
def test_confidence_is_compared_with_accuracy_bin_by_bin(program, seed, bins):
    logits, labels = _logits(seed)
    chances = logits.softmax(dim=1)
    chances[0], chances[1] = torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0, 0.0])
    held = [[] for _ in range(bins)]
    for row, label in zip(chances.tolist(), labels.tolist(), strict=True):
        sure = max(row)
        place = next(b for b in range(bins) if sure <= (b + 1) / bins + 1e-9)
        held[place].append((sure, float(row.index(sure) == label)))
    apart = [abs(sum(s for s, _ in rows) - sum(r for _, r in rows)) for rows in held]
    expected = sum(apart) / len(labels)
    assert program.call("calibration_error", chances, labels, bins) == pytest.approx(expected, rel=1e-4)


def test_an_edge_belongs_to_the_bin_below(program):
    chances = torch.tensor([[0.5, 0.5], [0.4, 0.6]])
    # right with 0.5 in the first bin, wrong with 0.6 in the second
    got = program.call("calibration_error", chances, torch.tensor([0, 0]), 2)
    assert got == pytest.approx((0.5 + 0.6) / 2, rel=1e-4)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_texts_are_compared_as_a_corpus(program, most):
    candidates, references = _texts()
    expected = _bleu(candidates, references, most)
    assert program.call("bleu", candidates, references, most) == pytest.approx(expected, rel=1e-6)
    assert program.call("bleu", references, candidates, most) == pytest.approx(
        _bleu(references, candidates, most), rel=1e-6
    )
    assert program.call("bleu", references, references, most) == pytest.approx(1.0)
    assert program.call("bleu", [["x", "y"]], [["z", "a", "b"]], most) == 0.0


def test_edits_equal_those_of_a_search(program):
    @functools.cache
    def fewest(one, other):
        if not one or not other:
            return len(one) + len(other)
        same = fewest(one[1:], other[1:]) + (one[0] != other[0])
        return min(same, 1 + fewest(one[1:], other), 1 + fewest(one, other[1:]))

    for one, other in itertools.product(["", "a", "kitten", "sitting", "abcab", "bacba", "aaa"], repeat=2):
        assert program.call("edit_distance", list(one), list(other)) == fewest(one, other), (one, other)


def _text_batches(seed):
    rng = torch.Generator().manual_seed(seed)
    made = []
    for rows, length in ((4, 9), (2, 3), (5, 6)):
        targets = torch.randint(1, 7, (rows, length), generator=rng)
        ends = torch.randint(1, length + 1, (rows,), generator=rng)
        targets[torch.arange(length) >= ends[:, None]] = 0
        made.append((torch.randn(rows, length, 7, generator=rng), targets))
    return made


def test_perplexity_is_a_mean_over_tokens(program, seed):
    batches = _text_batches(seed)
    surprises = []
    for logits, targets in batches:
        rows = zip(logits.flatten(0, 1).tolist(), targets.flatten().tolist(), strict=True)
        surprises += [_surprise(row, target) for row, target in rows if target != 0]
    expected = math.exp(statistics.fmean(surprises))
    assert program.call("perplexity", batches, 0) == pytest.approx(expected, rel=1e-4)
    assert program.call("perplexity", batches[::-1], 0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("sizes", [(70,), (32, 32, 6), (1, 9, 60)], ids=["one", "a short last", "uneven"])
def test_batches_give_what_all_rows_at_once_give(program, seed, sizes):
    logits, labels = _logits(seed)
    batches = list(zip(logits.split(sizes), labels.split(sizes), strict=True))
    got = program.call("evaluate", batches, 6)
    rows = list(zip(logits.tolist(), labels.tolist(), strict=True))
    predicted = torch.tensor([row.index(max(row)) for row, _ in rows])
    assert got["loss"] == pytest.approx(statistics.fmean(_surprise(*row) for row in rows), rel=1e-4)
    assert got["accuracy"] == pytest.approx(float((predicted == labels).double().mean()), rel=1e-6)
    table = _table(predicted, labels, 6)
    f1 = [_safe(2 * table[c][c], sum(table[c]) + sum(row[c] for row in table)) for c in range(6)]
    assert got["f1"] == pytest.approx(statistics.fmean(f1), rel=1e-4)


@pytest.mark.parametrize("centre", [0.0, 1e6])
def test_a_stream_has_the_moments_of_all_its_values(program, seed, centre):
    rng = torch.Generator().manual_seed(seed)
    parts = [centre + torch.randn(size, generator=rng, dtype=torch.float64) for size in (5, 1, 0, 12, 3, 30)]
    values = torch.cat(parts).tolist()
    mean, variance = program.call("stream", parts)
    assert mean == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-9)
    assert variance == pytest.approx(statistics.variance(values), rel=1e-6)
    assert program.call("stream", [torch.tensor([3.0])]) == (3.0, 0.0)
    assert program.call("stream", []) == (0.0, 0.0)


def test_an_interval_holds_the_mean_as_often_as_it_says(program, seed):
    draws = torch.Generator().manual_seed(seed)
    values = torch.randn(60, generator=draws) ** 2
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    low, high = program.call("bootstrap", values, 0.6, 1500, rng)
    error = float(values.std(unbiased=False)) / math.sqrt(60)
    assert low == pytest.approx(float(values.mean()) - 0.842 * error, abs=0.25 * error)
    assert high == pytest.approx(float(values.mean()) + 0.842 * error, abs=0.25 * error)
    again = program.call("bootstrap", values, 0.6, 1500, rng)
    assert again != (low, high)


def test_operations_leave_their_inputs_as_they_were(program, seed):
    gains = torch.randint(0, 4, (5, 6), generator=torch.Generator().manual_seed(seed))
    kept = gains.clone()
    program.call("ndcg", gains, 3)
    assert torch.equal(gains, kept)
    candidates, references = _texts()
    program.call("bleu", candidates, references, 4)
    assert (candidates, references) == _texts()
