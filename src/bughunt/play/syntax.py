"""Whether a file can be compiled at all: asked before anything slow is imported."""

from collections.abc import Mapping

from bughunt.judge.reading import fault


def first_fault(files: Mapping[str, str]) -> str | None:
    """The first file that does not parse, with the line and the reason, or None."""
    return next((found for name, text in files.items() if (found := fault(name, text))), None)
