"""Giving up what a process may do."""

import itertools
import os
import struct
from pathlib import Path

from bughunt.judge.sandbox import kernel

CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_SYS_ADMIN = 6, 7, 8, 21
FIRST_UID = 60001  # one for each worker that runs at the same time, so that they share nothing
SLOTS = 1000  # of them at the most


def capabilities() -> int:
    """The effective set of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("CapEff:")[2].split()[0], 16)


def can_become_others() -> bool:
    """Whether this process may take a new identity and new namespaces without one of the user's own."""
    wanted = (1 << CAP_SETGID) | (1 << CAP_SETUID) | (1 << CAP_SYS_ADMIN)
    return capabilities() & wanted == wanted and has_users(FIRST_UID)


def has_users(first: int) -> bool:
    """Whether there are enough users from that one on in this namespace; a container may have only a few."""
    ranges = (map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines())
    return any(inside <= first and first + SLOTS <= inside + count for inside, _, count in ranges)


def become(uid: int) -> None:
    """Be that user alone, in every one of the kernel's senses; whatever root could do is gone."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def give_up_the_rest() -> None:
    """Nothing that is started from here on can come by a capability that it does not have already."""
    if capabilities() & (1 << CAP_SETPCAP):
        for number in itertools.takewhile(is_capability, itertools.count()):
            kernel.prctl(kernel.PR_CAPBSET_DROP, number)


def is_capability(number: int) -> bool:
    """Whether the kernel knows it; /proc/sys, which tells the last one too, may be masked."""
    try:
        return kernel.prctl(kernel.PR_CAPBSET_READ, number) >= 0
    except OSError:
        return False


def drop_capabilities() -> None:
    """Keep the identity but none of its powers."""
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    version_3 = struct.pack("Ii", 0x20080522, 0)
    kernel.check(kernel.libc.capset(version_3, bytes(24)), "capset")
