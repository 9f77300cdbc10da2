"""What any right loader does with rows of unlike lengths, whoever wrote it."""

import random
from collections import Counter

import pytest
import torch

PAD = 2


def _lengths(seed, count=500):
    return [random.Random(seed + row).randint(2, 40) for row in range(count)]


def _rows(seed, count=61):
    """Row r holds r + 1 as often as it is long, and has the label 2 r."""
    sequences = [[row + 1] * length for row, length in enumerate(_lengths(seed, count))]
    return sequences, [2 * row for row in range(count)]


def _flat(batches):
    return [row for batch in batches for row in batch]


def _cfg(program, **config):
    return program.call("Config", keep=True, **config)


@pytest.mark.parametrize("count", [0, 1, 24, 61])
def test_a_pass_shows_every_row_once(program, seed, count):
    assert sorted(program.call("shuffled", count, seed, 0)) == list(range(count))
    batches = program.call("bucketed", _lengths(seed, count), _cfg(program, batch=12, pool=2), 0)
    assert sorted(_flat(batches)) == list(range(count))
    assert all(1 <= len(batch) <= 12 for batch in batches)


def test_every_pass_has_its_own_order(program, seed):
    lengths, cfg = _lengths(seed), _cfg(program, seed=seed)
    orders = [program.call("shuffled", 90, seed, epoch) for epoch in (0, 1, 0)]
    passes = [program.call("bucketed", lengths, cfg, epoch) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert orders[0] != list(range(90))
    assert passes[0] == passes[2] != passes[1]
    assert len({frozenset(batch) for batch in passes[0]} & {frozenset(batch) for batch in passes[1]}) <= 2
    assert program.call("shuffled", 90, seed + 1, 0) != orders[0]
    others = [program.call("shuffled", 90, other, 1) for other in range(seed + 1, seed + 4)]
    assert all(other not in orders for other in others)
    assert program.call("bucketed", lengths, _cfg(program, seed=seed + 5), 0) != passes[0]


def test_batches_are_cut_one_after_the_other(program):
    rows = [5, 3, 8, 1, 9, 2, 7]
    assert program.call("chunks", rows, 3) == [[5, 3, 8], [1, 9, 2], [7]]
    assert program.call("chunks", rows, 3, True) == [[5, 3, 8], [1, 9, 2]]
    assert program.call("chunks", rows[:6], 3, True) == [[5, 3, 8], [1, 9, 2]]
    assert program.call("chunks", [], 3, True) == []
    assert program.call("chunks", rows, 99) == [rows]


def test_short_batches_are_left_out_on_demand(program, seed):
    batches = program.call("bucketed", _lengths(seed, 100), _cfg(program, batch=7, pool=3, drop_last=True), 2)
    assert {len(batch) for batch in batches} == {7}
    rows = _flat(batches)
    assert len(rows) == len(set(rows)) == 98  # pools of 21, the last one of 16
    assert max(rows) < 100


def test_rows_of_a_batch_are_of_nearly_equal_length(program, seed):
    lengths = _lengths(seed)
    batches = program.call("bucketed", lengths, _cfg(program, batch=12, pool=6), 0)
    used = sum(lengths)
    made = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert 0.02 < 1 - used / made < 0.2
    one = program.call("bucketed", lengths, _cfg(program, batch=12, pool=1), 0)
    assert program.call("padding_share", one, lengths) > 0.3


def test_long_batches_come_at_any_time(program, seed):
    lengths = _lengths(seed, 864)
    batches = program.call("bucketed", lengths, _cfg(program, batch=12, pool=72), 0)
    longest = torch.tensor([float(max(lengths[row] for row in batch)) for batch in batches])
    place = torch.arange(len(batches)).double()
    assert torch.corrcoef(torch.stack([longest.double(), place]))[0, 1].abs() < 0.45
    assert (longest[1:] < longest[:-1]).sum() > 15
    again = program.call("bucketed", lengths, _cfg(program, batch=12, pool=72), 1)
    there = [max(lengths[row] for row in batch) for batch in again]
    assert there != longest.tolist()


@pytest.mark.parametrize("budget", [45, 80, 333])
def test_as_many_rows_as_fit_the_budget(program, seed, budget):
    lengths = _lengths(seed, 80)
    rows = random.Random(seed).sample(range(80), 70)
    expected, held = [], []
    for row in rows:
        longest = max(lengths[r] for r in [*held, row])
        if held and longest * (len(held) + 1) > budget:
            expected.append(held)
            held = []
        held = [*held, row]
    assert program.call("budgeted", rows, lengths, budget) == [*expected, held]


def test_a_row_beyond_the_budget_is_alone(program):
    assert program.call("budgeted", [0, 1, 2, 3], [3, 50, 3, 3], 6) == [[0], [1], [2, 3]]
    assert program.call("budgeted", [], [], 6) == []


def test_the_padding_is_counted(program):
    lengths = [4, 2, 1, 6]
    assert program.call("padding_share", [[0, 1], [2, 3]], lengths) == pytest.approx(7 / 20)
    assert program.call("padding_share", [[2], [3], [], [1]], lengths) == 0
    assert program.call("padding_share", [], lengths) == 0


def test_one_end_of_a_long_row_is_kept(program):
    row = [4, 5, 6, 7, 8]
    assert program.call("truncate", row, 3, True) == [6, 7, 8]
    assert program.call("truncate", row, 3, False) == [4, 5, 6]
    for keep_end in (True, False):
        assert program.call("truncate", row, 5, keep_end) == row
        assert program.call("truncate", row, 9, keep_end) == row


@pytest.mark.parametrize("left", [False, True], ids=["behind", "before"])
def test_the_mask_matches_the_lengths(program, left):
    sequences = [[7, 8], [], [9, 9, 9, 4], [3]]
    tokens, mask = program.call("pad", sequences, left)
    assert tokens.shape == mask.shape == (4, 4)
    assert tokens.dtype == torch.int64
    assert mask.dtype == torch.bool
    for sequence, found, real in zip(sequences, tokens, mask, strict=True):
        gap = [PAD] * (4 - len(sequence))
        assert found.tolist() == ([*gap, *sequence] if left else [*sequence, *gap])
        assert real.tolist() == [place != PAD for place in found.tolist()]
    tokens, mask = program.call("pad", [])
    assert tokens.shape == mask.shape == (0, 0)


def test_a_batch_keeps_rows_and_labels_together(program, seed):
    sequences, labels = _rows(seed)
    sequences[4] = [5, PAD, 5]  # a word may have the number of the padding
    batch = program.call("collate", sequences, labels, [9, 4, 30])
    assert batch["rows"].tolist() == [9, 4, 30]
    assert batch["labels"].tolist() == [18, 8, 60]
    assert batch["lengths"].tolist() == [len(sequences[row]) for row in (9, 4, 30)]
    assert batch["mask"].sum(dim=1).tolist() == batch["lengths"].tolist()
    assert batch["tokens"].shape == (3, max(batch["lengths"].tolist()))
    assert batch["tokens"][1, :3].tolist() == [5, PAD, 5]


def test_batches_cover_each_row_once_with_its_own_label(program, seed):
    sequences, labels = _rows(seed)
    batches = program.call("one_pass", sequences, labels, _cfg(program, batch=8, pool=3), 1)
    assert sorted(row for batch in batches for row in batch["rows"].tolist()) == list(range(61))
    for batch in batches:
        assert torch.equal(batch["labels"], 2 * batch["rows"])
        assert torch.equal(batch["tokens"][:, 0], batch["rows"] + 1)
        assert (batch["tokens"][~batch["mask"]] == PAD).all()
        assert batch["tokens"].size(1) == batch["lengths"].max()


def test_an_interrupted_pass_goes_on_where_it_stopped(program, seed):
    sequences, labels = _rows(seed)
    cfg = _cfg(program, batch=8, pool=3)
    whole = program.call("one_pass", sequences, labels, cfg, 3)
    rest = program.call("one_pass", sequences, labels, cfg, 3, 5)
    assert [batch["rows"].tolist() for batch in rest] == [batch["rows"].tolist() for batch in whole[5:]]
    assert len(whole) == 8


def test_rows_come_as_often_as_their_weights_say(program, seed):
    weights = torch.tensor([1.0, 0.0, 3.0, 6.0], dtype=torch.float64)
    drawn = program.call("weighted", weights, 4000, seed, 0)
    counts = Counter(drawn)
    assert len(drawn) == 4000
    assert counts[1] == 0
    assert [counts[row] / 4000 for row in (0, 2, 3)] == pytest.approx([0.1, 0.3, 0.6], abs=0.04)
    assert drawn == program.call("weighted", weights, 4000, seed, 0)
    assert drawn != program.call("weighted", weights, 4000, seed, 1)


def test_rare_labels_weigh_as_much_as_common_ones(program):
    weights = program.call("balanced_weights", [0, 2, 2, 0, 0, 3])
    totals = Counter()
    for label, weight in zip([0, 2, 2, 0, 0, 3], weights.tolist(), strict=True):
        totals[label] += weight
    assert list(totals.values()) == pytest.approx([totals[0]] * 3)
    assert all(weight > 0 for weight in weights.tolist())


def test_each_place_is_asked_for_the_next(program):
    tokens = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    read, following, real = program.call("shifted", tokens, mask)
    assert read.tolist() == [[4, 5, 6], [8, 9, 0]]
    assert following.tolist() == [[5, 6, 7], [9, 0, 0]]
    assert real.tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_padding_is_not_averaged(program, seed, shape):
    values = torch.randn(4, 6, *shape, generator=torch.Generator().manual_seed(seed))
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4, [False] * 6, [False] * 5 + [True]])
    values[1, 3] = float("nan")  # whatever a model says of padding
    found = program.call("masked_mean", values, mask)
    assert found.shape == (4, *shape)
    torch.testing.assert_close(found[0], sum(values[0]) / 6)
    torch.testing.assert_close(found[1], (values[1, 0] + values[1, 1]) / 2)
    torch.testing.assert_close(found[2], torch.zeros(shape))
    torch.testing.assert_close(found[3], values[3, 5])


def test_answers_come_back_in_the_order_of_the_rows(program, seed):
    lengths = _lengths(seed, 50)
    batches = program.call("bucketed", lengths, _cfg(program, batch=7), 0)
    answers = [torch.tensor([[row, lengths[row]] for row in batch]) for batch in batches]
    found = program.call("restore", answers, batches)
    assert found.tolist() == [[row, lengths[row]] for row in range(50)]


def test_packed_rows_hold_every_sequence_once(program, seed):
    sequences, _ = _rows(seed, 40)
    tokens, owners = program.call("pack", sequences, 41)
    found = []
    for row, owner in zip(tokens.tolist(), owners.tolist(), strict=True):
        last = max(owner)
        for number in range(1, last + 1):
            found.append([token for token, other in zip(row, owner, strict=True) if other == number])
        rest = [token for token, other in zip(row, owner, strict=True) if other == 0]
        assert rest == [PAD] * owner.count(0)
        assert owner == sorted(owner[: 41 - owner.count(0)]) + [0] * owner.count(0)
    assert sorted(found) == sorted(sequences)


def test_a_sequence_goes_into_the_first_row_with_room(program):
    tokens, owners = program.call("pack", [[1] * 4, [2] * 3, [3] * 2, [4] * 3, [5]], 6)
    assert tokens.tolist() == [[1, 1, 1, 1, 3, 3], [2, 2, 2, 4, 4, 4], [5, PAD, PAD, PAD, PAD, PAD]]
    assert owners.tolist() == [[1, 1, 1, 1, 2, 2], [1, 1, 1, 2, 2, 2], [1, 0, 0, 0, 0, 0]]
    assert program.call("pack", [], 6)[0].shape == (0, 6)


def test_packed_sequences_do_not_see_one_another(program):
    owners = torch.tensor([[1, 1, 2, 0], [1, 2, 2, 3]])
    found = program.call("same_owner", owners)
    for row in range(2):
        for one in range(3):
            for other in range(4):
                expected = owners[row, one] == owners[row, other] and owners[row, other] > 0
                assert found[row, one, other] == expected
    assert not found[0, :, 3].any()
