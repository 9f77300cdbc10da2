"""Writing files so that a full disk or a crash leaves the old one or the new one, never half of one."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace `path` in one step, line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_tree(folder: Path, files: Mapping[str, str]) -> None:
    """Write a program: path -> text."""
    for name, text in files.items():
        write_text(folder / name, text)
