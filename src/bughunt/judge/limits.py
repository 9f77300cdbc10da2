"""What a program may use up, and the worker's half of holding it to that.

Wall time and the amount of output are the judge's to watch; the kernel counts the rest.
"""

import contextlib
import resource
import signal
from dataclasses import dataclass

from bughunt.judge.sandbox import kernel

STACK_BYTES = 8 << 20  # of the first thread


@dataclass(frozen=True)
class Limits:
    """The bounds of one worker."""

    cpu_seconds: int = 300
    wall_seconds: float = 900.0  # that the judge waits for answers, in all
    reply_seconds: float = 60.0  # that it waits for one answer
    memory_bytes: int = 3 << 30  # of the process's own data, about 0.5 GiB of it torch's
    output_bytes: int = 1 << 20  # kept of what the program prints; the rest is counted and dropped
    file_bytes: int = 64 << 20  # of one file
    disk_bytes: int = 64 << 20  # of all files, where they are kept in memory
    processes: int = 4096  # of the same user, where that is not root
    threads: int = 256  # of the program, where its user is its own


def apply(limits: Limits, *, own_user: bool = False) -> None:
    """Hold this process, and all it starts, to the limits."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_DATA: limits.memory_bytes,  # address space that is only reserved is free
        resource.RLIMIT_STACK: STACK_BYTES,  # which are no data to the kernel
        resource.RLIMIT_NPROC: limits.threads if own_user else limits.processes,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, value in wanted.items():
        lower(kind, value, value)
    with contextlib.suppress(ValueError):  # gVisor has no such limit, and refuses to set one
        lower(resource.RLIMIT_MSGQUEUE, 0, 0)
    # SIGXCPU first, which says why; a program that ignores it is killed a second later.
    lower(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)


def lower(kind: int, soft: int, hard: int) -> None:
    """Set a limit, but never above the one already in force, which only root may raise."""
    _, ceiling = resource.getrlimit(kind)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


def die_with_parent() -> None:
    """The kernel kills this process when its parent ends."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process.

    Older gVisors cannot: there they live on until the sandbox around all of them ends.
    """
    with contextlib.suppress(OSError):
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
