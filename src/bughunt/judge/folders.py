"""Removing what a program has left, however it has built it."""

import contextlib
import itertools
import os
import shutil
from pathlib import Path


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it; what is too deep to walk into is taken apart from the top."""
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    names = itertools.count()
    with contextlib.suppress(OSError):
        while inner := [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]:
            for entry in inner:
                lift(Path(entry.path), folder, names)
    shutil.rmtree(folder, ignore_errors=True)


def lift(inner: Path, folder: Path, names: "itertools.count[int]") -> None:
    """Remove a folder, its own folders moved up first."""
    for entry in os.scandir(inner):
        if entry.is_dir(follow_symlinks=False):
            os.rename(entry.path, folder / f".lifted{next(names)}")
        else:
            os.unlink(entry.path)
    inner.rmdir()
