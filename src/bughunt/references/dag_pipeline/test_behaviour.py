"""What any right pipeline of steps does, whoever wrote it."""

import random
import statistics

import numpy as np
import pytest

from bughunt.errors import BughuntError


def _graph(seed, count=14):
    """Steps that need some of those before them, under names in no order."""
    rng = random.Random(seed)
    names = [f"s{number:02d}" for number in rng.sample(range(99), count)]
    needs = {
        name: rng.sample(names[:place], min(place, rng.randrange(4))) for place, name in enumerate(names)
    }
    return dict(sorted(needs.items()))


def _closure(links, starts):
    found, before = set(starts), set()
    while found != before:
        before = set(found)
        found |= {other for one in before for other in links[one]}
    return found


def _users(needs):
    return {step: {other for other, sources in needs.items() if step in sources} for step in needs}


def _events(seed, count=150):
    rng = random.Random(seed)
    rows = [("abcd"[rng.randrange(4)], rng.randrange(40), round(rng.gauss(5, 2), 3)) for _ in range(count)]
    return [*rows, ("a", 7, None), ("z", 3, None)]


def _clean(events):
    kept = {}
    for entity, time, value in events:
        if value is not None:
            kept[entity, time] = value
    return sorted(
        ((entity, time, value) for (entity, time), value in kept.items()), key=lambda r: (r[1], r[0])
    )


def _questions(seed):
    rng = random.Random(seed + 1)
    return [("abcdz"[rng.randrange(5)], rng.randrange(-2, 45)) for _ in range(80)]


def test_no_step_comes_before_what_it_needs(program, seed):
    for offset in range(5):
        needs = _graph(seed + offset)
        found = program.call("order", needs)
        assert sorted(found) == sorted(needs)
        left = set(needs)
        for step in found:
            ready = sorted(one for one in left if not set(needs[one]) & left)
            assert step == ready[0]
            left.remove(step)
    assert program.call("order", {}) == []
    assert program.call("order", {"a": ["b", "b"], "b": []}) == ["b", "a"]


def test_a_circle_is_an_error(program):
    for needs in ({"a": ["a"]}, {"a": ["b"], "b": ["c"], "c": ["a"], "d": []}):
        with pytest.raises(BughuntError, match="a"):
            program.call("order", needs)


def test_an_unknown_step_is_an_error(program):
    with pytest.raises(BughuntError, match="ghost"):
        program.call("order", {"a": ["ghost"], "b": []})


def test_what_is_wanted_decides_what_is_made(program, seed):
    needs = _graph(seed)
    for wanted in ([list(needs)[3]], list(needs)[5:8]):
        found = program.call("needed_for", needs, wanted)
        assert set(found) == _closure(needs, wanted)
        assert found == [step for step in program.call("order", needs) if step in found]


def test_a_change_touches_all_that_comes_after(program, seed):
    needs = _graph(seed)
    for changed in list(needs)[:6]:
        found = program.call("stale_after", needs, [changed])
        assert set(found) == _closure(_users(needs), [changed])
        assert found == [step for step in program.call("order", needs) if step in found]
    assert {step: set(users) for step, users in program.call("consumers", needs).items()} == _users(needs)


def test_steps_run_as_early_as_they_can(program, seed):
    needs = _graph(seed)
    found = program.call("levels", needs)
    height = {step: place for place, row in enumerate(found) for step in row}
    assert sorted(height) == sorted(needs)
    for step, sources in needs.items():
        assert height[step] == max((height[source] + 1 for source in sources), default=0)
    assert program.call("levels", {}) == []


def test_of_two_rows_of_a_day_the_later_counts(program, seed):
    events = [*_events(seed), ("a", 5, 1.0), ("a", 5, 9.0)]
    assert [tuple(row) for row in program.call("clean", events)] == _clean(events)


@pytest.mark.parametrize(("delay", "oldest"), [(0, 99), (2, 99), (0, 3), (3, 5)])
def test_no_value_is_used_before_it_is_known(program, seed, delay, oldest):
    events, questions = _events(seed), _questions(seed)
    expected = []
    for entity, now in questions:
        known = [
            (t, v) for e, t, v in _clean(events) if e == entity and t + delay <= now and now - t <= oldest
        ]
        expected.append(max(known)[1] if known else None)
    found = program.call("as_of", questions, events, delay, oldest)
    assert found == expected
    assert None in found


@pytest.mark.parametrize("days", [1, 4, 30])
def test_means_leave_the_day_itself_out(program, seed, days):
    events, questions = _events(seed), _questions(seed)
    found = program.call("rolling_mean", questions, events, days)
    for (entity, now), value in zip(questions, found, strict=True):
        some = [v for e, t, v in _clean(events) if e == entity and now - days <= t < now]
        assert value == (pytest.approx(statistics.fmean(some)) if some else None)


def test_gaps_are_filled_with_the_median_of_what_is_known(program):
    assert program.call("fill", [None, 2.0], [5.0, None, 1.0, 9.0]) == [5.0, 2.0]
    assert program.call("fill", [None, None], [4.0, 1.0, 2.0, 9.0, None]) == [3.0, 3.0]
    assert program.call("fill", [None, 7.0], [None]) == [0.0, 7.0]


def test_missing_days_are_found(program):
    assert [tuple(one) for one in program.call("missing_days", [3, 4, 8, 20], 1, 10)] == [
        (1, 2),
        (5, 7),
        (9, 10),
    ]
    assert program.call("missing_days", list(range(5)), 0, 4) == []
    assert [tuple(one) for one in program.call("missing_days", [], 4, 4)] == [(4, 4)]


def test_weights_are_those_of_ridge_regression(program, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(2, 1, size=(30, 2)), rng.normal(5, 1, size=30)
    found = np.asarray(program.call("fit", x.tolist(), y.tolist(), 0.7))
    error = np.column_stack([x, np.ones(30)]) @ found - y
    assert error.sum() == pytest.approx(0, abs=1e-9)
    assert np.allclose(x.T @ error + 0.7 * found[:2], 0, atol=1e-8)


SETTINGS = {"delay": 1, "oldest": 9, "days": 6, "cut": 28, "penalty": 0.5}


def _run(seed, **changes):
    events = _events(seed, 300)
    rng = random.Random(seed + 9)
    last = {(entity, time): value for entity, time, value in _clean(events)}
    labels = []
    for entity, time in sorted(last):
        if (entity, time - 1) in last:
            labels.append((entity, time, last[entity, time - 1] + rng.gauss(0, 0.3)))
    plain = {"events": events, "labels": labels, "settings": {**SETTINGS, **changes.pop("settings", {})}}
    return {**plain, **changes}


def _did(found, what):
    return {step for step, done in found["log"] if done == what}


ALL = {"events", "rows", "features", "model", "report"}


def test_a_second_run_does_nothing(program, seed):
    first, second = program.call("play", [_run(seed), _run(seed)])
    assert _did(first, "ran") == _did(second, "kept") == ALL
    assert _did(second, "ran") == set()
    assert first["results"] == second["results"]
    assert len(first["log"]) == len(second["log"]) == 5


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({"settings": {"penalty": 5.0}}, {"model", "report"}),
        ({"settings": {"delay": 3}}, {"features", "model", "report"}),
        ({"settings": {"oldest": 0}}, {"features", "model", "report"}),
        ({"settings": {"days": 2}}, {"features", "model", "report"}),
        ({"settings": {"cut": 20}}, {"rows", "features", "model", "report"}),
        ({"events": [("a", 3, 1.0), ("b", 5, 2.0)]}, {"events", "features", "model", "report"}),
    ],
    ids=["penalty", "delay", "oldest", "days", "cut", "events"],
)
def test_what_depends_on_a_change_is_made_anew(program, seed, changes, anew):
    first, changed, back = program.call("play", [_run(seed), _run(seed, **changes), _run(seed)])
    (alone,) = program.call("play", [_run(seed, **changes)])
    assert _did(changed, "ran") == anew
    assert _did(changed, "kept") == ALL - anew
    assert changed["results"] == alone["results"]
    assert changed["results"]["report"] != first["results"]["report"]
    assert _did(back, "ran") == set()
    assert back["results"] == first["results"]


def test_only_what_is_wanted_is_made(program, seed):
    (found,) = program.call("play", [_run(seed, wanted=["features"])])
    assert list(found["results"]) == ["features"]
    assert _did(found, "ran") == {"events", "rows", "features"}


def test_nothing_of_after_the_cut_is_learned_from(program, seed):
    plain = _run(seed)
    events = [(e, t, v if v is None or t < 28 else v + 50) for e, t, v in plain["events"]]
    labels = [(e, t, v if t < 28 else v - 70) for e, t, v in plain["labels"]]
    first, other = program.call("play", [plain, {**plain, "events": events, "labels": labels}])
    assert first["results"]["model"] == other["results"]["model"]
    assert first["results"]["features"]["before"] == other["results"]["features"]["before"]
    assert first["results"]["features"]["after"] != other["results"]["features"]["after"]


def test_the_report_is_of_rows_that_were_not_learned_from(program, seed):
    run = _run(seed)
    (found,) = program.call("play", [run])
    rows = {True: [], False: []}
    for row in run["labels"]:
        rows[row[1] >= 28].append(row)
    columns = {}
    for part, some in rows.items():
        asked = [(entity, time) for entity, time, _ in some]
        columns[part] = [
            program.call("as_of", asked, run["events"], 1, 9),
            program.call("rolling_mean", asked, run["events"], 6),
        ]
    middle = [statistics.median([v for v in column if v is not None]) for column in columns[False]]
    x = {
        part: np.array(
            [[m if v is None else v for v in column] for m, column in zip(middle, pair, strict=True)]
        ).T
        for part, pair in columns.items()
    }
    y = {part: np.array([value for _, _, value in some]) for part, some in rows.items()}
    weights = program.call("fit", x[False].tolist(), y[False].tolist(), 0.5)
    error = np.mean((x[True] @ weights[:2] + weights[2] - y[True]) ** 2)
    assert found["results"]["model"] == pytest.approx(weights)
    assert found["results"]["report"]["error"] == pytest.approx(error)
    baseline = np.mean((y[True] - y[False].mean()) ** 2)
    assert found["results"]["report"]["baseline"] == pytest.approx(baseline)


def test_fingerprints_tell_values_apart(program):
    def of(value):
        return program.call("fingerprint", value)

    assert of({"a": 1, "b": [2]}) == of({"b": [2], "a": 1})
    values = [1, 2, "1", [1], [1, 2], [2, 1], {"a": 1}, {"a": 2}, {"b": 1}, None, 1.5]
    assert len({of(value) for value in values}) == len(values)


def _builtins(program):
    return program.call("np.ma.core.builtins.__import__", "builtins", keep=True)


def _runner(program, texts, retries):
    """One step that reads the next of some texts as a number."""
    held = _builtins(program)
    reader = program.call_method(held, "__getattribute__", "float", keep=True)
    numbers = program.call("np.ma.core.builtins.map", reader, texts, keep=True)
    step = program.call_method(numbers, "__getattribute__", "__next__", keep=True)
    made = program.call("Step", step, (), {}, 1, retries, keep=True)
    return program.call("Runner", {"read": made}, keep=True)


@pytest.mark.parametrize(("fails", "retries"), [(0, 0), (1, 1), (2, 2), (2, 5)])
def test_a_step_is_tried_again_as_often_as_it_may(program, fails, retries):
    runner = _runner(program, ["x"] * fails + ["3"], retries)
    assert program.call_method(runner, "run") == {"read": 3.0}
    log = [tuple(one) for one in program.call_method(runner, "__getattribute__", "log")]
    assert log == [("read", "failed")] * fails + [("read", "ran")]
    assert program.call_method(runner, "run", "read") == {"read": 3.0}


@pytest.mark.parametrize("retries", [0, 2])
def test_a_failed_step_leaves_nothing_behind(program, retries):
    runner = _runner(program, ["x"] * (retries + 1) + ["4"], retries)
    with pytest.raises(BughuntError, match="read"):
        program.call_method(runner, "run")
    assert len(program.call_method(runner, "__getattribute__", "log")) == retries + 1
    assert program.call_method(runner, "__getattribute__", "kept") == {}
    assert program.call_method(runner, "run") == {"read": 4.0}


def test_new_code_is_a_new_result(program):
    keys = []
    for version, parameters, sources in ((1, {"a": 1}, ["k"]), (2, {"a": 1}, ["k"]), (1, {"a": 2}, ["k"])):
        step = program.call("Step", None, (), parameters, version, keep=True)
        keys.append(program.call("key_of", "make", step, sources))
    step = program.call("Step", None, (), {"a": 1}, 1, keep=True)
    keys += [program.call("key_of", "make", step, other) for other in (["k", "l"], ["l", "k"], [])]
    keys.append(program.call("key_of", "bake", step, ["k"]))
    assert len(set(keys)) == 7
    assert program.call("key_of", "make", step, ["k"]) == keys[0]


def test_those_who_take_a_result_are_listed_by_name(program):
    needs = {"c": ["a"], "b": ["a", "d"], "a": [], "d": ["a"]}
    assert program.call("consumers", needs) == {"a": ["b", "c", "d"], "b": [], "c": [], "d": ["b"]}


def test_steps_side_by_side_are_listed_by_name(program):
    needs = {"e": ["b"], "c": [], "b": [], "d": ["c"], "a": []}
    assert program.call("levels", needs) == [["a", "b", "c"], ["d", "e"]]
