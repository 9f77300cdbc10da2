"""The calls to the Linux kernel that Python has no words for."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
PR_GET_NAME, PR_SET_NAME = 16, 15

CLONE_VM, CLONE_THREAD = 0x100, 0x10000
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_NEW = CLONE_NEWNS | 0x7E000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2


def check(result: int, what: str) -> int:
    """The result, or the error that the kernel left."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    return check(libc.prctl(option, *words), f"prctl {option}")


def syscall(number: int, *arguments: int | bytes | None, what: str) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return check(libc.syscall(ctypes.c_long(number), *words), what)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    kind_ = kind.encode() if kind else None
    result = libc.mount(source.encode(), target.encode(), kind_, ctypes.c_ulong(flags), options.encode())
    check(result, f"mount {kind or source}")


def unmount(target: str) -> None:
    check(libc.umount2(target.encode(), MNT_DETACH), "umount2")


def unshare(flags: int) -> None:
    check(libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    check(libc.setns(descriptor, kind), "setns")


def sethostname(name: str) -> None:
    check(libc.sethostname(name.encode(), ctypes.c_size_t(len(name))), "sethostname")
