"""What any right retrieval of passages does, whoever wrote it."""

import math

import numpy as np
import pytest


def _cloud(seed, count=600, size=12):
    """Vectors around a few directions, of unlike lengths."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng([seed, 7]).normal(size=(20, size))
    vectors = middles[rng.integers(20, size=count)] + 0.4 * rng.normal(size=(count, size))
    return vectors * rng.uniform(0.5, 3, size=(count, 1))


def _exact(vectors, query, count):
    """Rows by the cosine, all of them sorted."""
    vectors = np.asarray(vectors)
    cosines = vectors @ query / np.sqrt((vectors * vectors).sum(axis=1) * (query @ query))
    return np.argsort(-cosines.round(12), kind="stable")[:count].tolist()


def _rng(program, seed):
    return program.call("np.random.default_rng", seed, keep=True)


def _index(program, seed, vectors, **config):
    cfg = program.call("Config", keep=True, **config)
    index = program.call("build_index", vectors, cfg, _rng(program, seed), keep=True)
    return lambda name, *args: program.call_method(index, name, *args)


@pytest.mark.parametrize(
    ("count", "width", "overlap"),
    [(0, 5, 2), (1, 5, 2), (2, 5, 2), (3, 5, 2), (5, 5, 2), (8, 5, 2), (9, 5, 2), (40, 7, 0)],
)
def test_chunks_cover_the_text(program, count, width, overlap):
    words = [f"w{number}" for number in range(count)]
    found = [chunk.split() for chunk in program.call("chunks", " ".join(words), width, overlap)]
    covered = []
    for place, chunk in enumerate(found):
        assert len(chunk) == width or (place == len(found) - 1 and 0 < len(chunk) < width)
        fresh = chunk if place == 0 else chunk[overlap:]
        assert (
            chunk[: len(chunk) - len(fresh)] == covered[len(covered) - overlap :][: overlap if place else 0]
        )
        assert fresh
        covered += fresh
    assert covered == words


def test_words_are_told_apart_by_letters_and_digits(program):
    assert program.call("tokens", "Don't STOP, b2b -- x_y") == ["don", "t", "stop", "b2b", "x", "y"]


def test_rare_words_count_more(program):
    texts = ["a a b", "a c", "A d", "b a"]
    found = program.call("rarity", texts)
    assert found == {
        word: pytest.approx(1 + math.log(5 / (1 + count)))
        for word, count in {"a": 4, "b": 2, "c": 1, "d": 1}.items()
    }


def test_vectors_of_texts_have_unit_length(program):
    weights = {"red": 1.5, "blue": 1.0, "of": 0.2}
    vector = np.asarray(program.call("embed", "Red red blue of of of", weights, 64))
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert not np.asarray(program.call("embed", "?!", weights, 64)).any()
    alone = {word: np.asarray(program.call("embed", word, weights, 64)) for word in weights}
    amounts = {"red": 1.5 * (1 + math.log(2)), "blue": 1.0, "of": 0.2 * (1 + math.log(3))}
    expected = sum(amount * alone[word] for word, amount in amounts.items())
    assert np.allclose(vector, expected / np.linalg.norm(expected))
    assert all(np.abs(one).max() == pytest.approx(1) for one in alone.values())
    both = np.asarray(program.call("embed", "red unheard", weights, 64))
    places = [np.flatnonzero(program.call("embed", word, weights, 64)) for word in ("red", "unheard")]
    assert abs(both[places[0]]) == pytest.approx(abs(both[places[1]]))


def test_words_go_to_many_places_with_either_sign(program):
    vectors = [np.asarray(program.call("embed", f"word{number}", {}, 32)) for number in range(200)]
    assert len({int(np.flatnonzero(vector)[0]) for vector in vectors}) > 28
    assert 0.35 < np.mean([vector.sum() > 0 for vector in vectors]) < 0.65
    sums = np.array([[v[p] for v in vectors if v[p]] for p in range(32)], dtype=object)
    assert sum(len(set(np.round(one, 6))) == 2 for one in sums) > 20


def test_rows_have_unit_length(program, seed):
    vectors = _cloud(seed, 9)
    vectors[4] = 0
    found = np.asarray(program.call("normalise", vectors))
    lengths = np.sqrt((found**2).sum(axis=1))
    assert np.allclose(lengths, [1, 1, 1, 1, 0, 1, 1, 1, 1])
    assert np.allclose(found[0] * np.linalg.norm(vectors[0]), vectors[0])


def test_neighbours_equal_those_of_a_search_by_hand(program, seed):
    vectors, queries = _cloud(seed, 60), _cloud(seed + 1, 5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    unit[[7, 30]] = unit[3]
    queries[0] = 5 * unit[3]
    rows, cosines = program.call("nearest", unit, queries, 8)
    for query, near, scores in zip(queries, rows, cosines, strict=True):
        assert near.tolist() == _exact(unit, query, 8)
        assert np.allclose(scores, unit[near] @ query / np.linalg.norm(query))
    assert rows[0][:3].tolist() == [3, 7, 30]


def test_looking_everywhere_is_exact(program, seed):
    vectors, queries = _cloud(seed), _cloud(seed + 1, 15)
    call = _index(program, seed, vectors, cells=16)
    for query in queries:
        rows, cosines = call("search", query, 10, 16)
        assert rows == _exact(vectors, query, 10)
        assert cosines == sorted(cosines, reverse=True)
        near = vectors[rows[0]]
        assert cosines[0] == pytest.approx(near @ query / np.linalg.norm(near) / np.linalg.norm(query))


def test_few_cells_hold_nearly_all_neighbours(program, seed):
    vectors, queries = _cloud(seed, 1500), _cloud(seed + 1, 40)
    cfg = program.call("Config", keep=True, cells=30)
    index = program.call("build_index", vectors, cfg, _rng(program, seed), keep=True)
    truth, shares = [_exact(vectors, query, 10) for query in queries], []
    for probes in (1, 3, 6):
        found = [program.call_method(index, "search", query, 10, probes)[0] for query in queries]
        shares.append(sum(len(set(a) & set(b)) for a, b in zip(found, truth, strict=True)) / 400)
        assert program.call("recall", found, truth) == pytest.approx(shares[-1])
    assert shares == sorted(shares)
    assert shares[0] > 0.4
    assert shares[1] > 0.7


def test_most_distances_are_never_worked_out(program, seed):
    vectors = _cloud(seed, 1500)
    cfg = program.call("Config", keep=True, cells=30)
    index = program.call("build_index", vectors, cfg, _rng(program, seed), keep=True)
    for query in _cloud(seed + 1, 20):
        program.call_method(index, "search", query, 5, 3)
    scanned = program.call_method(index, "__getattribute__", "scanned")
    assert 100 <= scanned <= 0.3 * 20 * 1500


@pytest.mark.parametrize("cells", [4, 24])
def test_every_vector_is_in_the_cell_of_its_nearest_centre(program, seed, cells):
    vectors = _cloud(seed, 200)
    call = _index(program, seed, vectors, cells=cells)
    middles, held = np.asarray(call("__getattribute__", "centres")), call("__getattribute__", "cells")
    assert np.allclose(np.linalg.norm(middles, axis=1), 1)
    assert sorted(row for cell in held for row in cell) == list(range(200))
    for number, cell in enumerate(held):
        assert all((middles @ vectors[row]).argmax() == number for row in cell)
    assert min(len(cell) for cell in held) > 0


def test_centres_point_where_their_vectors_do(program, seed):
    rng = np.random.default_rng(seed)
    middles = np.eye(5)
    vectors = middles[np.arange(100) % 5] + 0.05 * rng.normal(size=(100, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for start in range(4):
        found = np.asarray(program.call("centres", vectors, 5, 12, _rng(program, seed + start)))
        assert np.allclose(np.linalg.norm(found, axis=1), 1)
        if (
            np.allclose((found @ middles.T).max(axis=1), 1, atol=0.01)
            and len(set((found @ middles.T).argmax(1))) == 5
        ):
            break
    else:
        pytest.fail("no start finds five directions that lie far apart")
    expected = [vectors[number::5].sum(axis=0) for number in range(5)]
    expected = np.stack([one / np.linalg.norm(one) for one in expected])
    assert np.allclose(found[(found @ middles.T).argmax(axis=0)], expected)


def test_every_centre_begins_as_another_row(program, seed):
    unit = np.asarray(program.call("normalise", _cloud(seed, 30)))
    found = np.asarray(program.call("centres", unit, 30, 0, _rng(program, seed)))
    assert sorted((found @ unit.T).argmax(axis=1).tolist()) == list(range(30))


def test_a_centre_that_nobody_is_near_to_goes_where_it_is_needed(program, seed):
    rows = np.eye(5)[[0] * 60 + [1, 2, 3]]
    for start in range(3):
        found = np.asarray(program.call("centres", rows, 4, 2, _rng(program, seed + start)))
        assert np.allclose(sorted(found.tolist()), sorted(np.eye(5)[:4].tolist()))


def test_more_cells_are_looked_into_where_too_few_are_found(program, seed):
    vectors = _cloud(seed, 50)
    call = _index(program, seed, vectors, cells=20)
    rows, _ = call("search", vectors[0], 45, 1)
    assert len(set(rows)) == 45
    assert len(call("search", vectors[0], 99, 1)[0]) == 50
    few = _index(program, seed, vectors[:3], cells=20)
    assert sorted(few("search", vectors[0], 9, 1)[0]) == [0, 1, 2]


@pytest.mark.parametrize("probes", [1, 3])
def test_no_cell_is_looked_into_without_need(program, seed, probes):
    vectors, query = _cloud(seed, 120), _cloud(seed + 1, 1)[0]
    call = _index(program, seed, vectors, cells=10)
    middles, held = np.asarray(call("__getattribute__", "centres")), call("__getattribute__", "cells")
    sizes = np.cumsum([len(held[cell]) for cell in np.argsort(-(middles @ query))])
    for count, looked in (
        (1, probes),
        (int(sizes[probes]), probes + 1),
        (int(sizes[probes]) + 1, probes + 2),
    ):
        before = call("__getattribute__", "scanned")
        assert len(call("search", query, count, probes)[0]) == count
        assert call("__getattribute__", "scanned") - before == sizes[looked - 1]


def test_identities_survive_deletion(program, seed):
    vectors, rng = _cloud(seed, 120), np.random.default_rng(seed)
    call = _index(program, seed, vectors, cells=10)
    gone = rng.choice(120, 50, replace=False).tolist()
    assert call("delete", [*gone, 999]) == 50
    assert call("delete", gone[:3]) == 0
    fresh = _cloud(seed + 3, 4)
    call("add", [500, 7_000, gone[0], 501], fresh)
    left = {row: vectors[row] for row in range(120) if row not in gone}
    left |= dict(zip([500, 7_000, gone[0], 501], fresh, strict=True))
    names = sorted(left)
    for query in [*_cloud(seed + 1, 8), fresh[1]]:
        expected = [names[place] for place in _exact([left[name] for name in names], query, 6)]
        assert call("search", query, 6, 10)[0] == expected
    call("delete", names)
    assert call("search", fresh[0], 3, 10) == ([], [])


def test_a_vector_added_again_takes_the_place_of_the_old(program, seed):
    vectors = _cloud(seed, 40)
    call = _index(program, seed, vectors, cells=6)
    call("add", [5], -vectors[5:6])
    assert call("search", -vectors[5], 1, 6)[0] == [5]
    rows, _ = call("search", vectors[5], 99, 6)
    assert sorted(rows) == list(range(40))
    assert rows[-1] == 5


def test_recall_is_a_share_of_what_is_true(program):
    assert program.call("recall", [[1, 2, 9], [4]], [[2, 1, 3], [5, 4]]) == pytest.approx(3 / 5)
    assert program.call("recall", [[]], [[]]) == 0


@pytest.mark.parametrize("balance", [1.0, 0.6, 0.0])
def test_chosen_passages_are_near_and_unlike(program, seed, balance):
    vectors, query = _cloud(seed, 25), _cloud(seed + 1, 1)[0]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ query / np.linalg.norm(query)
    order, chosen = _exact(vectors, query, 15), []
    while len(chosen) < 6:
        gains = {
            row: balance * near[row] - (1 - balance) * max([unit[row] @ unit[o] for o in chosen], default=0)
            for row in order
            if row not in chosen
        }
        chosen.append(max(gains, key=gains.get))
    assert list(program.call("spread", order, vectors, query, 6, balance)) == chosen
    assert sorted(program.call("spread", order, vectors, query, 99, balance)) == sorted(order)


def test_a_question_finds_the_text_that_answers_it(program, seed):
    rng = np.random.default_rng(seed)
    common = [f"common{number}" for number in range(30)]
    texts = []
    for number in range(25):
        words = rng.choice(common, size=70).tolist()
        for place in (10, 30, 55):
            words[place] = f"topic{number}"
        texts.append(" ".join(words))
    questions = [f"what is common3 topic{number} common9" for number in range(25)]
    cfg = program.call("Config", keep=True, size=4096, cells=8, probes=8)
    found = program.call("passages", texts, questions, 2, cfg, _rng(program, seed))
    right = 0
    for number, answers in enumerate(found):
        assert len(answers) == 2
        for text, passage in answers:
            assert passage in " ".join(texts[text].split())
        right += answers[0][0] == number
    assert right >= 22
