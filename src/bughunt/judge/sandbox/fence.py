"""The recipe: which layers a zygote and its workers put on, in which order.

The order matters. Namespaces come before torch, which may start threads; the new root comes after it, or
the judge's own files would have to be in it; the identity goes before the filters, which do not let it
change.
"""

import os
import signal
import sys
from enum import IntEnum
from pathlib import Path
from typing import NoReturn

from bughunt.judge import folders
from bughunt.judge import limits as bounds
from bughunt.judge.sandbox import kernel, landlock, namespaces, newroot, privileges, readable, seccomp


class Tier(IntEnum):
    """How strong the fence is; each has all that the one before it has."""

    S0 = 0  # a process with limits
    S1 = 1  # Landlock, seccomp, no capabilities
    S2 = 2  # namespaces, a root of its own, with root a user of its own


class Fence:
    """One tier's layers; every layer fails loudly, so that nothing runs in half a fence."""

    def __init__(self, tier: Tier, folder: Path) -> None:
        self.tier, self.folder = tier, folder
        self.real_uids = tier >= Tier.S2 and privileges.can_become_others()

    def enclose(self) -> None:
        """Lead the zygote into its own world; it goes on in a child, for which this process waits."""
        if self.tier < Tier.S2:
            return
        if os.geteuid() == 0 and not self.real_uids:
            raise PermissionError(
                "root may not change its user or make namespaces here, or has no users to change to"
            )
        inside = namespaces.enter(own_user=not self.real_uids)
        if inside:
            stand_by(inside, self.folder)
        bounds.die_with_parent()

    def furnish(self) -> None:
        """Leave the zygote what programs may read, once it has imported what it needs itself."""
        self.readable = readable.of_a_program()
        if self.tier >= Tier.S2:
            newroot.move_into(self.folder, self.readable)
            self.cradle = namespaces.Cradle()
        if self.tier >= Tier.S1:
            privileges.give_up_the_rest()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # else a process of the same user reads its memory

    def fork(self) -> int:
        return self.cradle.fork() if self.tier >= Tier.S2 else os.fork()

    def shut(self, slot: int, number: int, limits: bounds.Limits) -> Path:
        """Close everything around a worker and say which folder it has; slots tell running workers apart."""
        folder = self.folder_of(number)
        if self.tier >= Tier.S2:
            self.separate(slot, limits)
        else:
            folder.mkdir(mode=0o700)
        bounds.apply(limits, own_user=self.tier >= Tier.S2)
        if self.real_uids:
            privileges.become(privileges.FIRST_UID + slot)
        elif self.tier >= Tier.S1:
            privileges.drop_capabilities()
        bounds.die_with_parent()  # cleared by a change of user
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # its own /proc/self is its own again
        if self.tier >= Tier.S1:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            landlock.restrict(self.rules(folder))
            seccomp.apply(seccomp.own_program())
        return folder

    def folder_of(self, number: int) -> Path:
        return Path(newroot.JOB) if self.tier >= Tier.S2 else self.folder / str(number)

    def tidy_up(self, number: int) -> None:
        """Remove what a worker has left; a folder in its own memory is gone already."""
        if self.tier < Tier.S2:
            folders.remove(self.folder_of(number))

    def separate(self, slot: int, limits: bounds.Limits) -> None:
        namespaces.leave_the_zygotes()
        newroot.mount_proc(whole=False)
        uid = privileges.FIRST_UID + slot if self.real_uids else os.geteuid()
        newroot.mount_job(limits.disk_bytes, uid)

    def rules(self, folder: Path) -> list[landlock.Rule]:
        if self.tier >= Tier.S2:  # what is hidden lies below other mounts
            seen, proc = readable.Readable(self.readable.paths, ()), Path("/proc")
        else:
            seen, proc = self.readable, Path(f"/proc/{os.getpid()}")
        return [*landlock.rules(seen, [folder]), (proc, landlock.READ)]


def stand_by(inside: int, folder: Path) -> NoReturn:
    """Wait for the zygote in its world, and end as it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.close()
    os.closerange(3, 1 << 16)
    _, status = os.waitpid(inside, 0)
    folders.remove(folder)
    os._exit(os.waitstatus_to_exitcode(status) & 255)
