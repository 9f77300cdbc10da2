"""Edits are spliced, taken back, and refused where they do not fit."""

from __future__ import annotations

import pytest
from bughunt_mutator import Edit, EditError, apply, reverse, revert
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(alphabet="ab é\t\r\n\ufeff#", max_size=40)


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, list[Edit]]:
    """A text and edits of it that do not overlap, in any order."""
    text = draw(TEXT)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    edits = [Edit(a, b, text[a:b], draw(TEXT)) for a, b in pairs]
    return text, draw(st.permutations(edits))


def spliced_from_the_right(text: str, edits: list[Edit]) -> str:
    """The same thing done the other way round: from the last edit to the first."""
    for edit in sorted(edits, key=lambda edit: -edit.start):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text


@given(edited())
def test_edits_give_what_splicing_from_the_right_gives(case: tuple[str, list[Edit]]) -> None:
    text, edits = case
    assert apply(text, edits) == spliced_from_the_right(text, edits)


@given(edited())
def test_reverting_gives_the_same_bytes(case: tuple[str, list[Edit]]) -> None:
    text, edits = case
    changed = apply(text, edits)
    assert revert(changed, edits).encode() == text.encode()
    assert apply(changed, reverse(edits)) == text


def test_an_edit_refuses_a_text_that_reads_otherwise() -> None:
    with pytest.raises(EditError, match="enumerate it again"):
        apply("x = 1\n", [Edit(0, 1, "y", "z")])


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param([Edit(0, 2, "ab", "x"), Edit(1, 3, "bc", "y")], id="overlapping"),
        pytest.param([Edit(0, 4, "abcd", "x"), Edit(1, 1, "", "y")], id="inside another"),
        pytest.param([Edit(2, 2, "", "x"), Edit(2, 2, "", "y")], id="two in one gap"),
    ],
)
def test_edits_that_touch_the_same_text_are_refused(edits: list[Edit]) -> None:
    with pytest.raises(EditError, match="overlap"):
        apply("abcd", edits)


def test_an_insertion_may_stand_right_before_a_replacement() -> None:
    assert apply("abcd", [Edit(1, 2, "b", "B"), Edit(1, 1, "", "-")]) == "a-Bcd"


def test_an_edit_is_written_with_four_fields() -> None:
    assert Edit(0, 1, "a", "b", "(b)").shown() == {"start": 0, "end": 1, "old": "a", "new": "b"}
