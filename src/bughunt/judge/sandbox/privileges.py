"""Giving up what a process may do."""

import os
import struct
from pathlib import Path

from bughunt.judge.sandbox import kernel

CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_SYS_ADMIN = 6, 7, 8, 21
FIRST_UID = 60001  # one for each worker that runs at the same time, so that they share nothing


def capabilities() -> int:
    """The effective set of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("CapEff:")[2].split()[0], 16)


def can_become_others() -> bool:
    """Whether this process may take a new identity and new namespaces without one of the user's own."""
    wanted = (1 << CAP_SETGID) | (1 << CAP_SETUID) | (1 << CAP_SYS_ADMIN)
    return capabilities() & wanted == wanted


def become(uid: int) -> None:
    """Be that user alone, in every one of the kernel's senses; whatever root could do is gone."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def give_up_the_rest() -> None:
    """Nothing that is started from here on can come by a capability that it does not have already."""
    if capabilities() & (1 << CAP_SETPCAP):
        for number in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
            kernel.prctl(kernel.PR_CAPBSET_DROP, number)


def drop_capabilities() -> None:
    """Keep the identity but none of its powers."""
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    version_3 = struct.pack("Ii", 0x20080522, 0)
    kernel.check(kernel.libc.capset(version_3, bytes(24)), "capset")
