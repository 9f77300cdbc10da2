"""Whether a file can be compiled at all: asked before anything slow is imported."""

import warnings
from collections.abc import Mapping


def first_fault(files: Mapping[str, str]) -> str | None:
    """The first file that does not parse, with the line and the reason, or None."""
    for name, text in files.items():
        fault = _fault(name, text)
        if fault:
            return fault
    return None


def _fault(name: str, text: str) -> str | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        return f"{name} line {line}: this is not UTF-8 text"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"{name} line {error.lineno}: {type(error).__name__}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{name}: {type(error).__name__}: {error or 'nested too deeply'}"
    return None
