"""Namespaces: a world of its own for the zygote, and within it one for each worker.

The zygote's world is made once. It has its own processes, network, mounts and host name, so that whatever
runs in it ends when the zygote does; without root it is a user namespace, which lends the right to make the
others.
"""

import os
from pathlib import Path

from bughunt.judge.sandbox import kernel
from bughunt.judge.sandbox.kernel import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)

HOST = "bughunt"


def enter(*, own_user: bool) -> int:
    """Start the zygote's world and return in its first process 0, outside of it that process's pid."""
    flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
    unshare_as_user(flags) if own_user else kernel.unshare(flags)
    kernel.sethostname(HOST)
    pid = os.fork()  # a namespace of processes begins with the next child
    if pid == 0:
        kernel.unshare(CLONE_NEWNS)  # here, so that the one outside keeps its root
    return pid


def unshare_as_user(flags: int) -> None:
    """Namespaces in one of users in which this one is all alone, and has the right to make the others."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(flags | CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


class Cradle:
    """Forks processes that are the first of their own namespace of processes."""

    def __init__(self) -> None:
        self.home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def fork(self) -> int:
        kernel.unshare(CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                kernel.setns(self.home, CLONE_NEWPID)
        return pid


def leave_the_zygotes() -> None:
    """A worker's own network, mounts and shared memory."""
    kernel.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC)
