"""What the operations of the toolbox do, held against loops over single numbers."""

import itertools
import math

import pytest
import torch


def _draw(seed, *shapes):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng) for shape in shapes]


def _whole(seed, high, *shape):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def _places(*sizes):
    return itertools.product(*(range(size) for size in sizes))


def _same(found, expected, atol=1e-5):
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-4, check_dtype=False)


def test_distances_equal_a_loop_over_pairs(program, seed):
    x, y = _draw(seed, (5, 3), (4, 3))
    expected = torch.empty(5, 4)
    for i, j in _places(5, 4):
        expected[i, j] = math.dist(x[i].tolist(), y[j].tolist())
    _same(program.call("pairwise_distances", x, y), expected)
    batch = program.call("pairwise_distances", torch.stack([x, 2 * x]), torch.stack([y, 2 * y]))
    _same(batch, torch.stack([expected, 2 * expected]))


def test_distances_far_from_the_origin_are_numbers(program, seed):
    (x,) = _draw(seed, (30, 3))
    found = program.call("pairwise_distances", x + 300, x + 300)
    assert found.isfinite().all()
    assert found.diagonal().max() < 1.0


def test_rows_are_taken_by_the_index_of_their_own_entry(program, seed):
    (table,) = _draw(seed, (3, 6, 2))
    index = _whole(seed, 6, 3, 4)
    expected = torch.stack([torch.stack([table[b, i] for i in index[b]]) for b in range(3)])
    _same(program.call("take_rows", table, index), expected)
    assert program.call("take_rows", table, index[:, :0]).shape == (3, 0, 2)


def test_rows_are_put_as_often_as_they_are_named(program, seed):
    table, rows = _draw(seed, (5, 2), (4, 2))
    index = torch.tensor([3, 0, 3, 3])
    expected = table.clone()
    for row, place in zip(rows, index.tolist(), strict=True):
        expected[place] += row
    _same(program.call("put_rows", table, index, rows), expected)


def test_groups_are_summed_and_averaged_each_by_itself(program, seed):
    (values,) = _draw(seed, (7, 3))
    segments = torch.tensor([2, 0, 2, 4, 0, 2, 4])
    sums, means = torch.zeros(5, 3), torch.zeros(5, 3)
    for group in (0, 2, 4):
        rows = [value for value, segment in zip(values, segments.tolist(), strict=True) if segment == group]
        sums[group] = sum(rows)
        means[group] = sum(rows) / len(rows)
    _same(program.call("segment_sum", values, segments, 5), sums)
    _same(program.call("segment_mean", values, segments, 5), means)


def test_the_largest_of_a_group_is_one_of_its_own(program, seed):
    values = _draw(seed, (6,))[0] - 5
    segments = torch.tensor([1, 1, 3, 0, 3, 1])
    expected = torch.full((5,), -math.inf)
    for value, segment in zip(values, segments.tolist(), strict=True):
        expected[segment] = max(expected[segment], value)
    _same(program.call("segment_max", values, segments, 5), expected)


def test_groups_of_nothing_are_empty(program):
    nothing, nowhere = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    assert torch.equal(program.call("segment_sum", nothing, nowhere, 2), torch.zeros(2, 3))
    assert torch.equal(program.call("segment_mean", nothing, nowhere, 2), torch.zeros(2, 3))


@pytest.mark.parametrize("shape", [(5,), (2, 3), (0,)], ids=str)
def test_labels_become_rows_with_one_one(program, seed, shape):
    labels = _whole(seed, 4, *shape)
    found = program.call("one_hot", labels, 4)
    assert found.shape == (*shape, 4)
    assert torch.equal(found, (labels[..., None] == torch.arange(4)).float())


def test_smoothing_spreads_its_share_over_all_classes(program):
    found = program.call("one_hot", torch.tensor([1, 2]), 4, 0.2)
    _same(found, torch.tensor([[0.05, 0.85, 0.05, 0.05], [0.05, 0.05, 0.85, 0.05]]))


@pytest.mark.parametrize(("size", "step"), [(3, 1), (3, 2), (2, 3), (7, 1), (8, 1), (9, 1)])
def test_windows_lie_within_the_sequence(program, seed, size, step):
    (x,) = _draw(seed, (2, 7, 3))
    starts = range(0, 7 - size + 1, step)
    pieces = [x[:, start : start + size] for start in starts]
    expected = torch.stack(pieces, dim=1) if pieces else torch.zeros(2, 0, size, 3)
    _same(program.call("sliding_windows", x, size, step), expected)


def test_channels_go_last_and_come_back(program, seed):
    (images,) = _draw(seed, (2, 3, 4, 5))
    last = program.call("to_channels_last", images)
    assert last.shape == (2, 4, 5, 3)
    assert all(last[b, h, w, c] == images[b, c, h, w] for b, c, h, w in _places(2, 3, 4, 5))
    assert torch.equal(program.call("to_channels_first", last), images)


def test_an_image_is_cut_into_squares_in_reading_order(program, seed):
    (images,) = _draw(seed, (2, 3, 4, 6))
    found = program.call("image_to_patches", images, 2)
    corners = [(row, column) for row in (0, 2) for column in (0, 2, 4)]
    expected = [images[:, :, r : r + 2, c : c + 2].reshape(2, 12) for r, c in corners]
    _same(found, torch.stack(expected, dim=1))
    assert torch.equal(program.call("patches_to_image", found, 2, 6), images)


def test_heads_are_split_and_merged(program, seed):
    (x,) = _draw(seed, (2, 5, 12))
    split = program.call("split_heads", x, 3)
    assert split.shape == (2, 3, 5, 4)
    assert all(split[b, h, t, k] == x[b, t, 4 * h + k] for b, h, t, k in _places(2, 3, 5, 4))
    assert torch.equal(program.call("merge_heads", split), x)


def test_copies_of_a_head_follow_it(program, seed):
    (x,) = _draw(seed, (2, 3, 4, 2))
    found = program.call("repeat_groups", x, 2)
    assert found.shape == (2, 6, 4, 2)
    assert all(torch.equal(found[:, h], x[:, h // 2]) for h in range(6))


def test_the_mask_is_true_for_tokens(program):
    found = program.call("length_mask", torch.tensor([0, 3, 1, 4]), 4)
    rows = [[t < length for t in range(4)] for length in (0, 3, 1, 4)]
    assert torch.equal(found, torch.tensor(rows))


def test_weight_lies_only_where_the_mask_is_true(program, seed):
    (scores,) = _draw(seed, (3, 2, 4))
    scores = 5 * scores
    mask = _whole(seed + 1, 2, 3, 2, 4).bool()
    mask[0, 0], mask[1, 1] = False, True
    found = program.call("masked_softmax", scores, mask)
    for b, n in _places(3, 2):
        powers = [math.exp(s) if m else 0.0 for s, m in zip(scores[b, n], mask[b, n], strict=True)]
        total = sum(powers) or 1.0
        _same(found[b, n], torch.tensor([power / total for power in powers]))


def test_scores_without_weight_do_not_matter(program):
    scores = torch.tensor([[1e4, 2.0, 3.0], [-1e4, -2e4, 0.0]])
    mask = torch.tensor([[False, True, True], [True, True, False]])
    found = program.call("masked_softmax", scores, mask)
    half = 1 / (1 + math.e)
    _same(found, torch.tensor([[0.0, half, 1 - half], [1.0, 0.0, 0.0]]))


def test_the_mean_is_of_what_counts(program, seed):
    (x,) = _draw(seed, (3, 4, 2))
    mask = torch.tensor([[True, False, True, True], [False] * 4, [True] * 4])
    x[0, 1] = math.nan  # padding may hold anything
    expected = torch.stack([(x[0, 0] + x[0, 2] + x[0, 3]) / 3, torch.zeros(2), sum(x[2]) / 4])
    _same(program.call("masked_mean", x, mask), expected)


def test_every_sequence_ends_at_its_own_length(program, seed):
    (x,) = _draw(seed, (3, 5, 2))
    found = program.call("last_token", x, torch.tensor([5, 1, 3]))
    assert torch.equal(found, torch.stack([x[0, 4], x[1, 0], x[2, 2]]))


def test_products_equal_a_loop_over_entries(program, seed):
    x, y, weight = _draw(seed, (3, 4), (3, 5), (2, 4, 5))
    outer, form = torch.zeros(3, 4, 5), torch.zeros(3, 2)
    for b, n, m in _places(3, 4, 5):
        outer[b, n, m] = x[b, n] * y[b, m]
        form[b] += x[b, n] * weight[:, n, m] * y[b, m]
    _same(program.call("outer_products", x, y), outer)
    _same(program.call("bilinear", x, weight, y), form)


def test_columns_get_mean_zero_and_deviation_one(program, seed):
    (x,) = _draw(seed, (6, 6))
    found = program.call("standardise", x * torch.arange(1.0, 7.0) + 3)
    _same(found.mean(dim=0), torch.zeros(6))
    _same(found.pow(2).mean(dim=0), torch.ones(6))
    assert program.call("standardise", torch.ones(4, 2)).abs().max() < 1e-3


def test_columns_are_scaled_as_by_batch_normalisation(program, seed):
    (x,) = _draw(seed, (6, 3))
    expected = torch.nn.functional.batch_norm(x, None, None, training=True, eps=0.5)
    _same(program.call("standardise", x, 0.5), expected)


def test_columns_of_small_numbers_get_deviation_one(program, seed):
    (x,) = _draw(seed, (6, 3))
    small = 0.01 * (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    found = program.call("standardise", small)
    _same(found.std(dim=0, correction=0), torch.ones(3), atol=0.01)


def test_rows_get_length_one(program, seed):
    (x,) = _draw(seed, (4, 4))
    x[2] = 0.0
    lengths = [math.hypot(*row.tolist()) or 1.0 for row in x]
    _same(program.call("normalise_rows", x), x / torch.tensor(lengths)[:, None])
    deep = _draw(seed, (2, 3, 3))[0]
    _same(program.call("normalise_rows", deep).norm(dim=-1), torch.ones(2, 3))


def test_short_rows_are_divided_by_the_least_length(program, seed):
    (x,) = _draw(seed, (6, 2))
    expected = torch.nn.functional.normalize(x, dim=-1, eps=1.0)
    _same(program.call("normalise_rows", x, 1.0), expected)


def test_exactly_k_of_the_largest_are_marked(program, seed):
    (scores,) = _draw(seed, (4, 6))
    scores[0] = 1.0
    found = program.call("top_k_mask", scores, 2)
    assert found.dtype == torch.bool
    assert found.sum(dim=1).tolist() == [2, 2, 2, 2]
    for row, marks in zip(scores[1:], found[1:], strict=True):
        assert set(row[marks].tolist()) == set(sorted(row.tolist())[-2:])


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_sums_of_exponentials_do_not_overflow(program, seed, dim):
    (x,) = _draw(seed, (4, 4))
    logs = x.exp().sum(dim=dim).log()
    _same(program.call("log_sum_exp", x, dim), logs)
    _same(program.call("log_sum_exp", x + 500, dim), logs + 500, atol=1e-3)
    _same(program.call("log_sum_exp", x - 500, dim), logs - 500, atol=1e-3)


def test_sums_of_exponentials_are_exact_side_by_side(program, seed):
    (x,) = _draw(seed, (3, 4))
    far = torch.tensor([[-500.0], [0.0], [500.0]])
    logs = x.exp().sum(dim=1).log()
    _same(program.call("log_sum_exp", x + far, 1), logs + far[:, 0], atol=1e-3)
    assert program.call("log_sum_exp", x[:1], 1).shape == (1,)


def test_a_sum_of_nothing_has_no_logarithm(program):
    x = torch.tensor([[-math.inf, -math.inf], [0.0, -math.inf]])
    assert program.call("log_sum_exp", x, 1).tolist() == [-math.inf, 0.0]


def test_a_running_mean_looks_back_only(program, seed):
    (x,) = _draw(seed, (2, 5))
    expected = torch.tensor([[sum(row[: t + 1]) / (t + 1) for t in range(5)] for row in x.tolist()])
    _same(program.call("running_mean", x), expected)


def _calls(seed):
    """Every operation on arguments of its own, floating ones not contiguous."""
    x, y = (part.transpose(-1, -2) for part in _draw(seed, (6, 4, 5), (6, 4, 5)))
    image = _draw(seed, (4, 6, 2, 3))[0].permute(3, 2, 1, 0)
    mask = _whole(seed, 2, 5, 6, 4).bool().permute(1, 0, 2)
    flat, labels = _draw(seed, (4, 6))[0].T, _whole(seed, 4, 6)
    return {
        "pairwise_distances": (x, y),
        "take_rows": (x, _whole(seed, 5, 3, 6).T),
        "put_rows": (flat, _whole(seed, 6, 6), flat * 2),
        "segment_sum": (flat, labels, 4),
        "segment_mean": (flat, labels, 4),
        "segment_max": (flat[:, 1], labels, 4),
        "one_hot": (_whole(seed, 4, 2, 6).T, 4),
        "sliding_windows": (x, 2, 2),
        "to_channels_last": (image,),
        "to_channels_first": (image,),
        "image_to_patches": (image, 2),
        "patches_to_image": (_draw(seed, (8, 6, 3))[0].permute(2, 1, 0), 2, 4),
        "split_heads": (x, 2),
        "merge_heads": (image,),
        "repeat_groups": (image, 2),
        "length_mask": (labels, 4),
        "masked_softmax": (x, mask),
        "masked_mean": (x, mask[..., 0]),
        "last_token": (x, 1 + labels),
        "outer_products": (flat, flat),
        "bilinear": (flat, _draw(seed, (4, 4, 3))[0].permute(2, 1, 0), flat),
        "standardise": (flat,),
        "normalise_rows": (x,),
        "top_k_mask": (x, 2),
        "log_sum_exp": (x, 1),
        "running_mean": (flat,),
    }


def test_operations_leave_their_inputs_as_they_were(program, task, seed):
    calls = _calls(seed)
    assert set(calls) == set(task.exports)
    for name, arguments in calls.items():
        held = [
            program.call("torch.clone", a, keep=True) if isinstance(a, torch.Tensor) else a for a in arguments
        ]
        program.call(name, *held)
        for handle, before in zip(held, arguments, strict=True):
            if isinstance(before, torch.Tensor):
                assert torch.equal(program.call("torch.clone", handle), before), name


def test_the_layout_in_memory_does_not_matter(program, seed):
    for name, arguments in _calls(seed).items():
        packed = [a.contiguous() if isinstance(a, torch.Tensor) else a for a in arguments]
        loose = [_loosened(program, a) if isinstance(a, torch.Tensor) else a for a in arguments]
        one, other = program.call(name, *loose), program.call(name, *packed)
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5, msg=name)


def _loosened(program, value):
    """The same values in the worker, in another order in memory."""
    turned = program.call("torch.clone", value.transpose(0, -1).contiguous(), keep=True)
    return program.call("torch.transpose", turned, 0, -1, keep=True)


def test_double_precision_stays(program, seed):
    (x,) = _draw(seed, (4, 3))
    for name in ("standardise", "normalise_rows", "running_mean"):
        assert program.call(name, x.double()).dtype == torch.float64, name
    assert program.call("segment_mean", x.double(), torch.tensor([0, 1, 1, 0]), 2).dtype == torch.float64
