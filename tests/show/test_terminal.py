"""What a stream can show is decided by what was asked, the environment and the stream, in that order."""

import io

import pytest

from bughunt.show.terminal import plain, terminal


class Stream(io.StringIO):
    """A text stream that says it is a terminal, or not, in some encoding."""

    def __init__(self, *, tty: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self._tty, self._encoding = tty, encoding

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return self._tty


@pytest.mark.parametrize(
    ("asked", "environment", "tty", "color"),
    [
        (None, {}, True, True),
        (None, {}, False, False),
        (None, {"TERM": "dumb"}, True, False),
        (None, {"NO_COLOR": "1"}, True, False),
        (None, {"NO_COLOR": ""}, True, True),
        (None, {"FORCE_COLOR": "1"}, False, True),
        (None, {"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
        (None, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        (None, {"FORCE_COLOR": "1", "BUGHUNT_NO_COLOR": "1"}, True, False),
        (True, {"NO_COLOR": "1", "BUGHUNT_NO_COLOR": "1"}, False, True),
        (False, {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colour(asked, environment, tty, color):
    assert terminal(Stream(tty=tty), environment, color=asked).color is color


@pytest.mark.parametrize(
    ("encoding", "only_ascii"),
    [("utf-8", False), ("cp1252", True), ("ascii", True), ("no-such-encoding", True)],
)
def test_glyphs_need_an_encoding_that_has_them(encoding, only_ascii):
    assert terminal(Stream(tty=True, encoding=encoding), {}).ascii is only_ascii


def test_what_a_program_prints_cannot_redraw_the_screen():
    assert plain("a\x1b[2J\x1b[31mb\x07\rc\n\td") == "abc\n\td"


def test_colour_is_put_around_glyphs_only():
    shown = terminal(Stream(tty=True), {}, color=True).dress("a ●● b")
    assert shown == "a \x1b[34;1m●●\x1b[0m b"
