"""Whether files can be read as Python; of others' files a worker asks, for a text may burden its reader."""

import warnings
from collections.abc import Mapping


class UnreadableError(Exception):
    """A file is not Python; the message says which, where and why."""


def syntax_error(files: Mapping[str, str]) -> str:
    """The first mistake that keeps a file from being read, or nothing."""
    modules = [(path, text) for path, text in sorted(files.items()) if path.endswith(".py")]
    return next((found for path, text in modules if (found := fault(path, text))), "")


def fault(path: str, text: str) -> str | None:
    """What keeps one text from being compiled, with its line, or None."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        return f"{path} line {line}: this is not UTF-8 text"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"{path} line {error.lineno or 1}: {type(error).__name__}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{path}: {type(error).__name__}: {error or 'nested too deeply'}"
    return None
