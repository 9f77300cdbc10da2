"""What a program may read: the libraries of the interpreter and the system, the packages beside torch."""

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/full", "/dev/random", "/dev/urandom")  # mapped, /dev/zero is memory uncounted
PACKAGES = ("site-packages", "dist-packages")
OURS = "bughunt*"  # the references are among our own files, so they stay outside


@dataclass(frozen=True)
class Readable:
    """Paths to read, and those below them that are left out."""

    paths: tuple[Path, ...]
    hidden: tuple[Path, ...]

    def hides_below(self, path: Path) -> bool:
        return any(one.is_relative_to(path) for one in self.hidden)


def of_a_program() -> Readable:
    """Everything that an honest program imports, but nothing of bughunt."""
    wanted = [Path(path) for path in (*SYSTEM, *_library(), *_packages())]
    paths = tuple(dict.fromkeys(path for path in wanted if path.exists()))
    return Readable(paths, tuple(_ours(paths)))


def of_the_judge(*programs: str) -> Readable:
    """What the judge's own processes need besides: programs to start, the interpreter's, and bughunt."""
    own = (sys.executable, f"{sys.prefix}/pyvenv.cfg", *programs)
    roots = (str(Path(__file__).parents[2]), *_packages())
    wanted = [Path(path) for path in (*SYSTEM, *_library(), *own, *roots)]
    return Readable(tuple(dict.fromkeys(path for path in wanted if path.exists())), ())


def _library() -> Iterator[str]:
    for name in ("stdlib", "platstdlib"):
        yield sysconfig.get_path(name)


def _packages() -> Iterator[str]:
    yield from (path for path in sys.path if os.path.basename(path) in PACKAGES)
    for name in ("torch", "numpy"):
        found = importlib.util.find_spec(name)
        if found and found.origin:
            yield str(Path(found.origin).parents[1])


def _ours(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        for pattern in (OURS, *(f"{way}{name}/{OURS}" for name in PACKAGES for way in ("", "python3*/"))):
            yield from path.resolve().glob(pattern)
