"""Whether files can be read as Python; asked in a worker, since a text may be made to burden its reader."""

import warnings
from collections.abc import Mapping


class UnreadableError(Exception):
    """A file is not Python; the message says which, where and why."""


def syntax_error(files: Mapping[str, str]) -> str:
    """The first mistake that keeps a file from being read, or nothing."""
    for path, text in sorted(files.items()):
        if not path.endswith(".py"):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(text, path, "exec", dont_inherit=True)
        except SyntaxError as error:
            return f"{path} line {error.lineno or 1}: {type(error).__name__}: {error.msg}"
        except (ValueError, RecursionError, MemoryError) as error:
            return f"{path}: {type(error).__name__}: {error}"
    return ""
