"""What any right server in batches does, whoever wrote it."""

import math

import numpy as np
import pytest

FOREVER = float("inf")


def _requests(program, rows):
    """Each row: arrival, key, length, urgent, patience; the later ones may be left out."""
    return [program.call("Request", number, *row, keep=True) for number, row in enumerate(rows)]


def _requests_of_one_token(program, arrivals, seed):
    rng = program.call("np.random.default_rng", seed, keep=True)
    return program.call("requests_at", arrivals, 50, 1, rng, keep=True)


def _policy(program, **fields):
    plain = {"largest": 3, "wait": 5.0, "fixed_cost": 4.0, "row_cost": 1.0, "token_cost": 0.0}
    return program.call("Policy", keep=True, **{**plain, **fields})


def _serve(program, rows, capacity=0, lifetime=0.0, **fields):
    """For each request its outcome, when it was answered, and the size of the batch."""
    answers = program.call("serve", _requests(program, rows), _policy(program, **fields), capacity, lifetime)
    assert [answer[0] for answer in answers] == list(range(len(rows)))
    return [(outcome, pytest.approx(finished), batch) for _, outcome, finished, batch, _ in answers]


def _arrivals(seed, rate, count):
    return np.cumsum(np.random.default_rng(seed).exponential(1000 / rate, count)).tolist()


def _plain(arrivals, largest, wait, cost):
    """First come, first served, written from the arrivals alone."""
    first, free, found = 0, 0.0, []
    while first < len(arrivals):
        full = arrivals[first + largest - 1] if first + largest <= len(arrivals) else FOREVER
        start = max(free, min(arrivals[first] + wait, full))
        last = first
        while last < len(arrivals) and arrivals[last] <= start and last - first < largest:
            last += 1
        free = start + cost(last - first)
        found += [(free, last - first)] * (last - first)
        first = last
    return found


def test_one_request_waits_for_company(program):
    assert _serve(program, [(10.0, 1)]) == [("served", 20.0, 1)]
    assert _serve(program, [(10.0, 1)], wait=0.0) == [("served", 15.0, 1)]
    assert _serve(program, []) == []


def test_a_full_batch_begins_at_once(program):
    rows = [(10.0, 1), (11.0, 2), (12.0, 3)]
    assert _serve(program, rows) == [("served", 19.0, 3)] * 3


def test_requests_gather_while_the_worker_is_busy(program):
    rows = [(0.0, 1), (6.0, 2), (7.0, 3), (8.0, 4), (9.5, 5)]
    expected = [("served", 10.0, 1), *[("served", 17.0, 3)] * 3, ("served", 22.0, 1)]
    assert _serve(program, rows) == expected


@pytest.mark.parametrize("rate", [60, 300, 900])
@pytest.mark.parametrize("largest", [1, 8])
def test_answers_come_when_a_plainer_simulation_says(program, seed, rate, largest):
    arrivals = _arrivals(seed, rate, 120)
    requests = _requests_of_one_token(program, arrivals, seed)
    answers = program.call("serve", requests, _policy(program, largest=largest, wait=7.0), 0, 0.0)
    expected = _plain(arrivals, largest, 7.0, lambda size: 4.0 + size)
    assert [answer[:2] for answer in answers] == [(row, "served") for row in range(120)]
    assert [size for _, _, _, size, _ in answers] == [size for _, size in expected]
    assert [answer[2] for answer in answers] == pytest.approx([finished for finished, _ in expected])


def test_padding_is_paid_for(program):
    batch = _requests(program, [(0.0, 1, 3), (0.0, 2, 10), (0.0, 3, 1)])
    policy = _policy(program, fixed_cost=7.0, row_cost=0.5, token_cost=0.1)
    assert program.call("cost", batch, policy) == pytest.approx(7 + 1.5 + 3.0)
    assert program.call("cost", batch[:1], policy) == pytest.approx(7 + 0.5 + 0.3)


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ([4, 4, 4, 4], [3, 3, 3, 1]),
        ([2, 9, 2, 2], [2, 2, 2, 2]),
        ([20, 1, 1, 1], [1, 3, 3, 3]),
        ([6, 6, 6, 6], [3, 3, 3, 1]),
        ([7, 7, 7, 7], [2, 2, 2, 2]),
    ],
)
def test_a_batch_stays_within_its_limits(program, lengths, sizes):
    rows = [(0.1 * row, row, length) for row, length in enumerate(lengths)]
    found = _serve(program, rows, tokens=18, wait=3.0)
    assert [size for _, _, size in found] == sizes


def test_urgent_requests_go_first(program):
    rows = [(0.0, 1), (1.0, 2), (2.0, 3), (3.0, 4, 1, True), (4.0, 5), (5.0, 6, 1, True)]
    found = _serve(program, rows, largest=2, row_cost=0.0, fixed_cost=10.0)
    # 1 and 2 begin at 1; then the urgent 4 and 6, then 3 and 5
    assert [outcome for outcome, _, _ in found] == ["served"] * 6
    assert [finished for _, finished, _ in found] == [11.0, 11.0, 31.0, 21.0, 31.0, 21.0]


def test_who_has_given_up_is_not_served(program):
    rows = [(0.0, 1), (1.0, 2), (1.5, 3, 1, False, 8.0), (2.0, 4, 1, False, 3.0), (2.5, 5, 1, False, 7.5)]
    found = _serve(program, rows, largest=2, row_cost=0.0, fixed_cost=9.0)
    assert found[3] == ("expired", 5.0, 0)
    assert found[4][0] == "served"  # exactly at the end of its patience
    assert found[2] == ("expired", 9.5, 0)


def test_a_full_queue_turns_away(program):
    rows = [(0.0, 1), *[(6.0 + 0.1 * row, row) for row in range(2, 7)]]
    found = _serve(program, rows, queue=2, fixed_cost=50.0, row_cost=0.0)
    assert [outcome for outcome, _, _ in found] == ["served"] * 3 + ["refused"] * 3
    assert [finished for _, finished, _ in found[3:]] == [6.4, 6.5, 6.6]


def test_known_answers_come_at_once(program):
    rows = [(0.0, 7), (9.0, 7), (11.0, 7), (12.0, 8), (109.9, 7), (110.0, 7)]
    found = _serve(program, rows, capacity=4, lifetime=100.0)
    assert found[0] == ("served", 10.0, 1)
    assert found[1][0] == "served"  # its answer was not there yet
    assert found[2] == ("cached", 11.0, 0)
    assert found[3][0] == "served"
    assert found[4] == ("cached", 109.9, 0)


def _cache(program, capacity, lifetime=100.0):
    cache = program.call("Cache", capacity, lifetime, keep=True)
    return lambda name, *args: program.call_method(cache, name, *args)


def test_the_least_recently_used_goes_first(program):
    call = _cache(program, 3)
    for key in (1, 2, 3):
        call("put", key, key / 10, 0.0)
    assert call("get", 1, 1.0) == 0.1
    call("put", 4, 0.4, 2.0)
    assert call("keys") == [3, 1, 4]
    call("put", 3, 0.33, 3.0)
    call("put", 5, 0.5, 3.0)
    assert call("keys") == [4, 3, 5]
    assert call("get", 3, 4.0) == 0.33
    assert call("get", 1, 4.0) is None
    single = _cache(program, 1)
    single("put", 6, 0.6, 0.0)
    single("put", 7, 0.7, 0.0)
    assert single("keys") == [7]
    empty = _cache(program, 0)
    empty("put", 1, 0.1, 0.0)
    assert empty("get", 1, 0.0) is None


def test_no_answer_outlives_its_time(program):
    call = _cache(program, 5, 10.0)
    call("put", 1, 0.1, 3.0)
    assert call("get", 1, 12.9) == 0.1
    assert call("get", 1, 13.0) is None
    assert call("keys") == []
    call("put", 1, 0.2, 20.0)
    call("put", 1, 0.3, 25.0)
    assert call("get", 1, 34.0) == 0.3
    assert call("hit_rate") == pytest.approx(2 / 3)
    assert _cache(program, 2)("hit_rate") == 0


def test_an_answer_does_not_depend_on_its_batch(program, seed):
    arrivals = _arrivals(seed, 700, 90)
    keys = np.random.default_rng(seed).integers(20, size=90).tolist()
    requests = _requests(program, list(zip(arrivals, keys, strict=True)))
    alone = {key: program.call("respond", [key])[0] for key in set(keys)}
    for capacity in (0, 10):
        answers = program.call("serve", requests, _policy(program, largest=8), capacity, 50.0)
        assert [answer[4] for answer in answers] == [alone[key] for key in keys]
        assert ("cached" in {answer[1] for answer in answers}) == (capacity > 0)


def test_answers_made_by_night_are_those_of_the_day(program):
    keys = [5, 3, 5, 9, 3, 11]
    table = program.call("nightly", keys, 2)
    assert sorted(table) == [3, 5, 9, 11]
    assert all(table[key] == program.call("respond", [key])[0] for key in table)
    requests = _requests(program, [(0.0, 5), (1.0, 77), (2.0, 11)])
    answers = program.call("look_up", table, requests, _policy(program))
    assert [answer[1] for answer in answers] == ["cached", "served", "cached"]
    assert [answer[2] for answer in answers] == [0.0, 11.0, 2.0]
    assert answers[1][4] == program.call("respond", [77])[0]
    assert answers[2][4] == table[11]


def test_a_share_of_all_values_is_at_most_the_percentile(program, seed):
    values = np.random.default_rng(seed).normal(size=37).tolist()
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        found = program.call("percentile", values, share)
        assert found == np.quantile(values, share, method="inverted_cdf")
    assert math.isnan(program.call("percentile", [], 0.5))
    assert program.call("percentile", [3.0], 0.0) == 3.0
    assert program.call("percentile", [3.0, 1.0, 2.0], 0.0) == 1.0


def test_the_summary_adds_up(program):
    rows = [(10.0, 1), (11.0, 2), (12.0, 3), (30.0, 1), (31.0, 9)]
    requests, policy = _requests(program, rows), _policy(program)
    answers = program.call("serve", requests, policy, 9, 100.0, keep=True)
    found = program.call("summary", requests, answers)
    # three together at 19, one from the cache at 30, one alone at 41
    times = sorted([9.0, 8.0, 7.0, 0.0, 10.0])
    assert found["p50"] == pytest.approx(times[2])
    assert found["p99"] == pytest.approx(times[4])
    assert found["per_second"] == pytest.approx(5000 / 31)
    assert found["batch"] == pytest.approx(2)
    assert (found["cached"], found["expired"], found["refused"]) == (0.2, 0, 0)
    nothing = program.call("summary", [], [])
    assert nothing["per_second"] == nothing["batch"] == nothing["cached"] == 0


def test_shares_of_outcomes_are_counted(program):
    rows = [(0.0, 1), (6.0, 2), (6.1, 3, 1, False, 1.0), (6.2, 4)]
    requests = _requests(program, rows)
    answers = program.call("serve", requests, _policy(program, queue=2, fixed_cost=50.0), 0, 0.0, keep=True)
    found = program.call("summary", requests, answers)
    assert (found["cached"], found["expired"], found["refused"]) == (0, 0.25, 0.25)


def test_the_error_budget_is_a_share_of_a_share(program):
    times = [1.0, 5.0, 9.0, 5.1]
    assert program.call("burnt", times, 5.0, 0.25) == pytest.approx(2.0)
    assert program.call("burnt", [], 5.0, 0.1) == 0


def test_requests_come_at_the_rate_asked_for(program, seed):
    rng = program.call("np.random.default_rng", seed, keep=True)
    times = program.call("poisson", 250.0, 8000.0, rng)
    gaps = np.diff([0.0, *times])
    assert (gaps > 0).all()
    assert times[-1] < 8000
    assert len(times) == pytest.approx(2000, abs=200)
    assert gaps.std() == pytest.approx(4.0, rel=0.12)


def test_streams_are_merged_by_their_arrivals(program):
    streams = [[(1.0, 3), (5.0, 4), (9.0, 5)], [(0.5, 6), (5.0, 7)]]
    made = [[program.call("Request", 0, time, 0, size, keep=True) for time, size in rows] for rows in streams]
    merged = program.call("merged", made, keep=True)
    policy = _policy(program, token_cost=1.0)
    costs = [
        program.call("cost", [program.call_method(merged, "__next__", keep=True)], policy) for _ in range(5)
    ]
    assert [cost - 5 for cost in costs] == [6, 3, 4, 7, 5]  # told apart by their lengths


def test_few_things_are_asked_for_often(program, seed):
    rng = program.call("np.random.default_rng", seed, keep=True)
    policy = _policy(program, largest=8)
    arrivals = _arrivals(seed, 300, 800)
    requests = program.call("requests_at", arrivals, 50, 6, rng, keep=True)
    answers = program.call("serve", requests, policy, 50, FOREVER, keep=True)
    found = program.call("summary", requests, answers)
    assert found["cached"] > 0.6
    for_tokens = _policy(program, largest=1, wait=0.0, fixed_cost=0.0, row_cost=0.0, token_cost=0.1)
    ends = [answer[2] for answer in program.call("serve", requests, for_tokens, 0, 0.0)]
    starts = np.maximum(arrivals, [0.0, *ends[:-1]])
    assert set(np.round((ends - starts) / 0.1, 6)) == {1, 2, 3, 4, 5, 6}  # lengths


@pytest.mark.parametrize("largest", [3, 8])
def test_the_shortest_wait_that_will_do_is_chosen(program, seed, largest):
    arrivals = _arrivals(seed, 250, 150)
    requests = _requests_of_one_token(program, arrivals, seed)

    def tail(wait):
        answers = _plain(arrivals, largest, wait, lambda size: 4.0 + 0.6 * size + 0.01 * size)
        times = [finished - time for (finished, _), time in zip(answers, arrivals, strict=True)]
        return np.quantile(times, 0.99, method="inverted_cdf")

    waits = [20.0, 0.0, 2.0, 40.0]
    tails = {wait: tail(wait) for wait in waits}
    for target in (*(tails[wait] + more for wait in waits for more in (-0.01, 0.01)), 1.0):
        expected = min((wait for wait in waits if tails[wait] <= target), default=None)
        assert program.call("smallest_wait", requests, waits, largest, target) == expected


def test_batches_hold_a_load_that_single_requests_cannot(program, seed):
    found = {}
    for largest, config in {1: {"duration": 2000.0}, 16: {}}.items():
        policy = program.call("Policy", keep=True, largest=largest, queue=100_000)
        cfg = program.call("Config", keep=True, policy=policy, capacity=0, **config)
        rng = program.call("np.random.default_rng", seed, keep=True)
        found[largest] = program.call("simulate", cfg, rng)
    assert found[16]["p99"] < 40
    assert found[1]["p99"] > 1000
    assert found[16]["per_second"] > 370
    assert found[16]["batch"] > 2


def test_an_answer_is_there_for_who_comes_when_it_is_finished(program):
    rows = [(10.0, 1), (20.0, 1), (20.5, 2)]
    found = _serve(program, rows, capacity=4, lifetime=100.0)
    assert found[:2] == [("served", 20.0, 1), ("cached", 20.0, 0)]


def test_what_was_not_there_is_a_miss(program):
    cache = program.call("Cache", 4, 10.0, keep=True)
    program.call_method(cache, "put", 1, 0.5, 0.0)
    answers = [program.call_method(cache, "get", key, now) for key, now in ((1, 5.0), (2, 5.0), (3, 6.0))]
    assert answers == [0.5, None, None]
    assert program.call_method(cache, "hit_rate") == pytest.approx(1 / 3)
    assert program.call_method(cache, "get", 1, 10.0) is None  # it has outlived its time
    assert program.call_method(cache, "hit_rate") == pytest.approx(1 / 4)


def test_a_tail_that_is_just_the_target_will_do(program):
    requests = _requests(program, [(0.0, 1)])
    policy = program.call("Policy", keep=True, largest=8, wait=0.0)
    ((_, _, finished, _, _),) = program.call("serve", requests, policy, 0, 0.0)
    assert program.call("smallest_wait", requests, [0.0], 8, finished) == 0.0
    assert program.call("smallest_wait", requests, [0.0], 8, 0.999 * finished) is None
