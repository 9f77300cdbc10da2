"""A root of files that holds what a program may read, and one folder that it may write to."""

import ctypes
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from bughunt.judge.sandbox import kernel
from bughunt.judge.sandbox.kernel import MS_BIND, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC
from bughunt.judge.sandbox.readable import DEVICES, Readable

JOB = "/job"  # where a program is
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000  # the number is the same on every architecture
FILES = 4096  # that a program may make


def move_into(scratch: Path, readable: Readable, *, places: Sequence[str] = ()) -> None:
    """Make the new root on the scratch folder, empty for everybody else, and leave the old one.

    The places are empty folders besides, for others to mount on.
    """
    kernel.mount("none", "/", None, MS_REC | MS_PRIVATE)
    kernel.mount("tmpfs", str(scratch), "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=755")
    plan = _Plan(scratch)
    for path in readable.paths:
        plan.show(path)
    for path in readable.hidden:
        plan.hide(path)
    for device in map(Path, DEVICES):
        plan.make_place(device, folder=False)
    for folder in ("/proc", JOB, *places):
        plan.make_place(Path(folder), folder=True)
    _make_read_only(scratch)
    for name in DEVICES:
        kernel.mount(name, f"{scratch}{name}", None, MS_BIND)
    mount_proc(f"{scratch}/proc")  # refused once the old root, with a whole /proc, is gone
    _turn_to(scratch)


def mount_proc(target: str = "/proc", *, writable: bool = False, whole: bool = True) -> None:
    """A view of the own processes, with the rest that the kernel tells there or without."""
    flags = MS_NOSUID | MS_NODEV | (0 if writable else MS_RDONLY)
    kernel.mount("proc", target, "proc", flags, "" if whole else "subset=pid")


def mount_job(disk_bytes: int, uid: int, folder: str = JOB) -> None:
    """The folder of one worker, in memory and gone with it."""
    options = f"size={disk_bytes},nr_inodes={FILES},mode=700"
    kernel.mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, options)
    if os.geteuid() != uid:
        os.chown(folder, uid, uid)


def way_to(path: Path) -> Iterator[tuple[Path, Path | None]]:
    """The symbolic links on the way to a path, each with its target, and then where it leads, with none."""
    for depth in range(1, len(path.parts)):
        here = Path(*path.parts[: depth + 1])
        if here.is_symlink():
            target = here.readlink()
            yield here, target
            real = Path(os.path.normpath(here.parent / target))
            yield from way_to(real.joinpath(*path.parts[depth + 1 :]))
            return
    yield path, None


class _Plan:
    """The new root while it is laid out."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.shown: list[Path] = []

    def show(self, path: Path) -> None:
        """Bind what stands at a path to the same path in the new root, with the symbolic links on the way."""
        for here, target in way_to(path):
            if any(here.is_relative_to(one) for one in self.shown):
                return
            if target is not None:
                self.link(here, target)
                continue
            self.make_place(here, folder=here.is_dir())
            kernel.mount(str(here), str(self.at(here)), None, MS_BIND | MS_REC)
            self.shown.append(here)

    def hide(self, path: Path) -> None:
        if path.is_dir():
            kernel.mount("tmpfs", str(self.at(path)), "tmpfs", MS_NOSUID | MS_NODEV, "size=4k,mode=755")
        else:
            kernel.mount("/dev/null", str(self.at(path)), None, MS_BIND)

    def link(self, path: Path, target: Path) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        if not self.at(path).is_symlink():
            self.at(path).symlink_to(target)

    def make_place(self, path: Path, *, folder: bool) -> None:
        place = self.at(path)
        if folder:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()

    def at(self, path: Path) -> Path:
        return self.scratch / path.relative_to("/")


def _make_read_only(tree: Path) -> None:
    """Everything mounted so far below a path, the flags of the sources kept."""
    attributes = struct.pack("QQQQ", MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    given = ctypes.addressof(buffer), len(attributes)
    kernel.syscall(MOUNT_SETATTR, AT_FDCWD, os.fsencode(tree), AT_RECURSIVE, *given, what="mount_setattr")


def _turn_to(scratch: Path) -> None:
    """The new root becomes the root; the old one, put on top of it for a moment, is let go."""
    os.chdir(scratch)
    kernel.check(kernel.libc.pivot_root(b".", b"."), "pivot_root")
    kernel.unmount(".")
    os.chdir("/")
