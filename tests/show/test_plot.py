"""Curves in the terminal: three layers by glyph, whatever the numbers are."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bughunt.show.plot import Line, Picture, draw, legend, number, plot, span, sparklines
from bughunt.show.terminal import Terminal

STEPS = list(range(0, 101, 10))
FALLING = [2.0 * 0.8**n for n in range(11)]
FLAT = [2.0] * 11


def picture(yours=None, broken=FLAT):
    band = [Line(STEPS, FALLING), Line(STEPS, [value + 0.1 for value in FALLING])]
    return Picture(band, Line(STEPS, broken), Line(STEPS, yours) if yours else None)


def rows_with(text: str, glyph: str) -> list[int]:
    return [row for row, line in enumerate(text.splitlines()) if glyph in line]


def test_lower_values_are_drawn_lower():
    text = plot(picture(), 50)
    assert max(rows_with(text, "░")) > max(rows_with(text, "×"))


def test_yours_covers_the_others():
    text = plot(picture(yours=FLAT), 50)
    assert "●" in text
    assert "×" not in text


def test_a_run_that_ended_early_is_drawn_to_its_end_only():
    early = Picture(picture().band, None, Line([0, 10, 20], [2.0, 1.5, 1.2]))
    columns = [line.rfind("●") for line in plot(early, 50).splitlines() if "●" in line]
    assert max(columns) < 10 + 50 * 0.25


def test_a_value_between_probes_lies_on_the_straight_line():
    line = Line([0, 10, 30], [1.0, 3.0, -1.0])
    assert [line.at(s) for s in (0, 5, 10, 20, 30)] == [1.0, 2.0, 3.0, 1.0, -1.0]
    assert line.at(31) is None


def test_what_is_not_finite_is_drawn_on_the_top_line():
    text = plot(picture(yours=[2.0, 1.0] + [math.nan] * 9), 50)
    assert "●" in text.splitlines()[0]
    assert "top line" in text


def test_a_curve_far_above_does_not_flatten_the_rest():
    text = plot(picture(broken=[1e6] * 11), 50, height=10)
    assert len(rows_with(text, "░")) >= 3


def test_values_over_decades_are_drawn_by_ratio():
    line = Line([0, 10, 20], [100.0, 10.0, 1.0])
    text = plot(Picture([], line), 41, height=11)
    middle = next(row for row, found in enumerate(text.splitlines()) if found[10 + 20 : 31] == "×")
    assert middle == 5
    assert "100.00" in text.splitlines()[0]


def test_nothing_finite_is_said():
    nothing = Picture([Line([0, 1], [math.nan, math.inf])])
    assert "no finite value" in draw(nothing, 100)


@pytest.mark.parametrize(
    ("width", "form"),
    [(100, "└"), (70, "└"), (69, "▁"), (40, "▁"), (39, None)],
    ids=["wide", "just wide", "narrow", "just narrow", "numbers"],
)
def test_the_form_fits_the_width(width, form):
    text = draw(picture(yours=FALLING), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert form is None or form in text
    assert "reference" in text or form == "└"


def test_ascii_twins_have_the_same_width():
    text = draw(picture(yours=FALLING), 80) + legend(picture()) + sparklines(picture(), 30)
    plain = Terminal(color=False, ascii=True, width=80, tty=False).dress(text)
    assert plain.isascii()
    assert [len(line) for line in plain.splitlines()] == [len(line) for line in text.splitlines()]


floats = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(floats, min_size=1, max_size=30),
    st.lists(floats, min_size=1, max_size=30),
    st.integers(10, 120),
)
def test_any_numbers_can_be_drawn(broken, yours, width):
    def line(values):
        return Line([3 * n for n in range(len(values))], values)

    shown = draw(Picture([line([1.0, 0.5])], line(broken), line(yours)), width)
    assert shown


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.5, "0.50"), (12.34, "12.34"), (0.0123, "0.0123"), (1e-6, "1.00e-06"), (0.0, "0.00")],
)
def test_numbers_are_short(value, said):
    assert number(value) == said


@pytest.mark.parametrize(("value", "said"), [(math.nan, "NaN"), (math.inf, "inf"), (None, "NaN")])
def test_what_is_no_number_is_said(value, said):
    assert number(value) == said


def test_a_span_of_one_value_is_that_value():
    assert span([0.5, 0.5]) == "0.50"
    assert span([0.36, 0.34]) == "0.34–0.36"
