"""What a stream can show: colour, glyphs and width, decided once for each stream."""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

MAX_WIDTH = 100
TWINS = str.maketrans("░×●┤└─✓✗·–—…▁▂▃▄▅▆▇█≥≤→“”’", ':xo|+-+-.--~.:-=+*#%><>""\'')
COLOURS = {"░": "36", "×": "31", "●": "34;1", "✓": "32", "✗": "31;1"}
_PAINTED = re.compile("|".join(f"{glyph}+" for glyph in COLOURS))
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Terminal:
    """One output stream as the player sees it."""

    color: bool
    ascii: bool
    width: int
    tty: bool

    def dress(self, text: str) -> str:
        """Colour repeats what a glyph says; where glyphs cannot be shown, twins of equal width."""
        if self.color:
            text = _PAINTED.sub(_paint, text)
        return text.translate(TWINS) if self.ascii else text


def terminal(
    stream: TextIO,
    environment: Mapping[str, str] = os.environ,
    *,
    color: bool | None = None,
    ascii_only: bool = False,
) -> Terminal:
    """Look at the stream, the environment and what was asked for."""
    tty = stream.isatty()
    return Terminal(
        color=_wants_color(tty, environment, color),
        ascii=ascii_only or not _can_encode(stream),
        width=min(MAX_WIDTH, shutil.get_terminal_size((80, 24)).columns),
        tty=tty,
    )


def plain(text: str) -> str:
    """Text from a program, without the control characters that could redraw the screen."""
    return _CONTROL.sub("", text)


def _wants_color(tty: bool, environment: Mapping[str, str], asked: bool | None) -> bool:
    if asked is not None:
        return asked
    if environment.get("BUGHUNT_NO_COLOR") or environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return tty and environment.get("TERM") != "dumb"


def _can_encode(stream: TextIO) -> bool:
    try:
        "░×●┤✓▁█".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _paint(match: re.Match[str]) -> str:
    return f"\x1b[{COLOURS[match[0][0]]}m{match[0]}\x1b[0m"
