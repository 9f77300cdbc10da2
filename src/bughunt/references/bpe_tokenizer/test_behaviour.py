"""What any correct byte-pair tokeniser does, whoever wrote it."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from bughunt.references.data import prose

BYTES = 256
MARKS = ["<|end|>", "<|pad|>"]
HARD = [
    "",
    " ",
    "a",
    "\n",
    "two  spaces   three\t tab \r\n end ",
    "naïve 日本 Ελλάδα мир 🙂🙂 e\u0301",
    "aaaaaaaaa aaaa aaa",
    "x_1 = don't(42, 4.2) // 007",
    "a <|end|>b<|end|><|end|> c<|pad|>",
    "<|en d|> <|end|",
    "\x00\x7f\u200b",
]


def _after(program, texts, steps=60, seed=0):
    model = program.build(seed=seed, steps=steps)
    losses = program.train(model, texts, seed, steps=steps).next(steps)
    return model, losses


def _pieces(program, model):
    return [bytes(piece) for piece in program.call("vocabulary", model)]


def _words(text):
    """Words of one kind of character with a space before them, found character by character."""

    def kind(c):
        return "s" if c.isspace() else "d" if c.isdecimal() else "w" if re.match(r"\w", c) else "p"

    words = []
    for c in text:
        last = words[-1] if words else ""
        opened = last == " " and kind(c) != "s"
        goes_on = last and kind(c) != "s" and kind(last[-1]) == kind(c)
        words[-1:] = [last + c] if opened or goes_on else [last, c]
    return [word for word in words if word]


def _counted(texts):
    """Words of all texts as lists of single bytes, with their counts."""
    counts = Counter()
    for text in texts:
        for part in re.split("|".join(re.escape(mark) for mark in MARKS), text):
            counts.update(_words(part))
    return {word: [bytes([b]) for b in word.encode()] for word in counts}, counts


def _glued(tokens, left, right):
    out = []
    for token in tokens:
        if out and out[-1] == left and token == right:
            out[-1:] = [left + right, None]
        else:
            out = [t for t in out if t is not None]
            out.append(token)
    return [t for t in out if t is not None]


def _learnt(texts, steps):
    """The joins by counting everything anew each time, as pairs of byte strings."""
    words, counts = _counted(texts)
    number = {bytes([b]): b for b in range(BYTES)}
    joins = []
    for step in range(steps):
        pairs = Counter()
        for word, tokens in words.items():
            for pair in pairwise(tokens):
                pairs[pair] += counts[word]
        if not pairs:
            break
        most = max(pairs.values())
        left, right = min((p for p in pairs if pairs[p] == most), key=lambda p: (number[p[0]], number[p[1]]))
        number.setdefault(left + right, BYTES + len(MARKS) + step)
        joins.append((left, right))
        words |= {word: _glued(tokens, left, right) for word, tokens in words.items() if left in tokens}
    return joins


def _encoded(text, joins):
    """Byte strings of a text without marks: join after join, over every word."""
    result = []
    for word in _words(text):
        tokens = [bytes([b]) for b in word.encode()]
        for left, right in joins:
            tokens = _glued(tokens, left, right)
        result += tokens
    return result


def test_the_same_seed_gives_the_same_curve(program, task, seed):
    texts = task.data(seed).train[:15]
    first, second = (_after(program, texts, 70)[1] for _ in range(2))
    assert first == second
    assert len(first) == 70


def test_predict_is_repeatable_and_leaves_nothing_changed(program, task, seed):
    given = task.data(seed)
    model, _ = _after(program, given.train)
    before = np.array(program.state(model)["merges"])
    first = program.predict(model, given.held_out)
    assert program.predict(model, given.held_out) == first
    assert np.array_equal(np.array(program.state(model)["merges"]), before)


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, task, seed):
    given = task.data(seed)
    model, _ = _after(program, given.train)
    texts = [*given.held_out[:5], *HARD]
    together = program.predict(model, texts)
    assert together == [program.predict(model, [text])[0] for text in texts]


@pytest.mark.parametrize("steps", [0, 3, 200])
def test_text_comes_back_as_it_was(program, task, seed, steps):
    given = task.data(seed)
    model = program.build(seed=seed, steps=steps)
    program.train(model, given.train, seed, steps=steps).next(steps + 1)
    texts = [*HARD, *given.held_out]
    for text, tokens in zip(texts, program.predict(model, texts), strict=True):
        assert program.call("decode", model, tokens) == text


def test_what_is_learnt_equals_counting_anew_every_time(program, task, seed):
    texts = task.data(seed).train[:15]
    model, _ = _after(program, texts, 70)
    expected = [left + right for left, right in _learnt(texts, 70)]
    assert _pieces(program, model)[BYTES + len(MARKS) :] == expected


@pytest.mark.parametrize(
    "texts",
    [
        ["aaaaaaa aaaa", "aaaaa aaa baaab"],
        ["abab baba abba", "ab ba"],
        ["zy zy xw xw", "xw zy"],
        ["ab12 12ab !!12 ab!!", "12 12 ab ab !! !!"],
    ],
    ids=["one letter", "two letters", "equal counts", "three kinds"],
)
def test_small_texts_are_learnt_as_by_hand(program, texts):
    model = program.build(seed=0, fewest=1)
    program.train(model, texts, 0, fewest=1, steps=8).next(8)
    expected = [left + right for left, right in _learnt(texts, 8)]
    assert _pieces(program, model)[BYTES + len(MARKS) :] == expected


def test_tokens_equal_those_of_joining_in_the_order_of_learning(program, task, seed):
    given = task.data(seed)
    model, _ = _after(program, given.train, 150)
    pieces = _pieces(program, model)
    joins = []
    merges = np.array(program.state(model)["merges"])
    for left, right in merges.tolist():
        joins.append((pieces[left], pieces[right]))
    for text in (*given.held_out[:6], *HARD):
        plain = text.replace(MARKS[0], " ").replace(MARKS[1], " ")
        tokens = program.predict(model, [plain])[0]
        assert [pieces[token] for token in tokens] == _encoded(plain, joins)


def test_the_reported_share_is_that_of_the_words(program, task, seed):
    texts = task.data(seed).train[:15]
    model, losses = _after(program, texts, 70)
    plain = [part for text in texts for part in re.split("|".join(map(re.escape, MARKS)), text)]
    tokens = sum(map(len, program.predict(model, plain)))
    assert losses[-1] == pytest.approx(tokens / sum(len(part.encode()) for part in plain), rel=1e-6)
    assert losses == sorted(losses, reverse=True)


def test_the_order_of_the_texts_makes_no_difference(program, task, seed):
    texts = task.data(seed).train[:15]
    one, _ = _after(program, texts, 70)
    other, _ = _after(program, texts[::-1], 70)
    assert _pieces(program, one) == _pieces(program, other)


def test_numbers_are_used_without_a_gap(program, task, seed):
    model, _ = _after(program, task.data(seed).train)
    pieces = _pieces(program, model)
    assert len(pieces) == BYTES + len(MARKS) + 60
    assert pieces[:BYTES] == [bytes([b]) for b in range(BYTES)]
    assert pieces[BYTES : BYTES + len(MARKS)] == [mark.encode() for mark in MARKS]


def test_a_mark_is_one_token_and_nothing_else_is(program, task, seed):
    model, _ = _after(program, task.data(seed).train, 250)
    end, pad = BYTES, BYTES + 1
    tokens = program.predict(model, ["ba <|end|>bra<|pad|>", "<|end|>", "<|en d|>", "<|end"])
    assert tokens[0].count(end) == tokens[0].count(pad) == 1
    assert tokens[1] == [end]
    assert not {end, pad} & {*tokens[2], *tokens[3]}
    assert not any(b"<|" in piece or b"|>" in piece for piece in _pieces(program, model)[BYTES + 2 :])


def test_no_token_reaches_over_the_edge_of_a_word(program, task, seed):
    model, _ = _after(program, task.data(seed).train, 250)
    for piece in _pieces(program, model)[BYTES + len(MARKS) :]:
        text = piece.decode(errors="ignore")
        assert len(_words(text)) <= 1, text


def test_learning_ends_when_nothing_repeats(program):
    model = program.build(seed=0)
    losses = program.train(model, ["abc abd", "xyz"], 0, steps=300, fewest=2).next(300)
    assert len(losses) == 1  # ab, and then nothing comes twice
    assert _pieces(program, model)[-1] == b"ab"
    assert program.train(program.build(seed=0), [], 0, steps=3).next(3) == []


def test_bytes_without_their_character_are_shown_as_missing(program, task, seed):
    model, _ = _after(program, task.data(seed).train)
    assert program.call("decode", model, [104, 105, 0xE6, 0x97]) == "hi\ufffd"
    assert program.call("decode", model, [0xFF, 33]) == "\ufffd!"


def test_a_batch_asks_for_the_next_token_up_to_the_end(program, task, seed):
    model, _ = _after(program, task.data(seed).train)
    texts = ["brai ba", "", "été", task.data(seed).held_out[0]]
    rows = [[*row, BYTES] for row in program.predict(model, texts)]
    inputs, targets, mask = (np.array(part) for part in program.call("collate", model, texts))
    assert inputs.shape == targets.shape == mask.shape
    assert inputs.shape[0] == len(texts)
    assert inputs.shape[1] - max(map(len, rows)) in (-1, 0)
    for row, given, wanted, counts in zip(rows, inputs, targets, mask, strict=True):
        length = len(row)
        assert given[:length].tolist() == row[: len(given)]
        assert set(given[length:].tolist()) <= {BYTES + 1}
        assert wanted[: length - 1].tolist() == row[1:]
        assert set(wanted[length - 1 :].tolist()) <= {BYTES + 1}
        assert counts.tolist() == [place < length - 1 for place in range(len(counts))]


def test_it_shortens_text_that_it_has_not_seen(program, task, seed):
    given = task.data(seed)
    model, _ = _after(program, given.train)
    seen = task.measure(program, model, given.held_out).metric
    assert 1.3 <= seen <= 3.0


def test_training_leaves_the_data_as_it_was(program, seed):
    texts = prose.texts(10, seed)
    kept = list(texts)
    _after(program, texts, 10)
    assert texts == kept
