"""The two streams: results on stdout, everything else on stderr, and one object with --json."""

import json
import sys
from typing import Any

from bughunt.errors import BughuntError
from bughunt.show.terminal import terminal


def emit(schema: str, **fields: Any) -> None:
    """One JSON object on stdout; a number that JSON cannot say is null."""
    from bughunt.judge.plain import finite

    record = finite({"schema": f"bughunt.{schema}/1", **fields})
    write(json.dumps(record, ensure_ascii=True, allow_nan=False))


def write(text: str) -> None:
    """Text on stdout, as it is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_error(error: BughuntError, as_json: bool, code: str | None = None) -> None:
    """`error: what` and the remedy on stderr; with --json an object on stdout."""
    if as_json:
        record = {
            "code": code or error.code,
            "message": error.message,
            "remedy": error.remedy,
        }
        emit("error", error=record)
        return
    first = error.message if code == "interrupted" else f"error: {error.message}"
    lines = [first, *(f"  {line}" for line in error.remedy.splitlines())]
    note("\n".join(lines))


def note(text: str) -> None:
    """One remark on stderr, in what that stream can show."""
    shown = terminal(sys.stderr).dress(text)
    encoding = sys.stderr.encoding or "ascii"
    sys.stderr.write(shown.encode(encoding, errors="replace").decode(encoding) + "\n")
    sys.stderr.flush()
