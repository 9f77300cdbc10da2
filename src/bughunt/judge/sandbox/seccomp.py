"""seccomp: which system calls a process may make, as a filter program that the kernel runs before each.

An allow-list: a call that is not on it fails with EPERM, as if the privilege for it were missing. Threads
may be made, processes may not; signals may go to the process itself; limits may be read, not set; memory may
be mapped where it is counted.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Sequence

from bughunt.judge.sandbox import kernel, syscalls

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "arm64": 0xC00000B7}
SET_MODE_FILTER = 1
SECCOMP = {"x86_64": 317, "aarch64": 277, "arm64": 277}

KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD, EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06  # of the classic Berkeley packet filter
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in what the filter looks at

F_IOCTL = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # TCGETS, TIOCGWINSZ, FIONREAD, FIO{NBIO,NCLEX,CLEX}
NAME_OF_MEMORY = 0x53564D41  # PR_SET_VMA, with which malloc names its areas
F_PRCTL = (kernel.PR_GET_NAME, kernel.PR_SET_NAME, NAME_OF_MEMORY)
AF_UNIX = 1
MAP_SHARED, MAP_ANONYMOUS, MAP_GROWSDOWN = 0x1, 0x20, 0x100
THREAD = kernel.CLONE_VM | kernel.CLONE_THREAD

Code = list[tuple[int, int, int, int]]  # operation, jump if true, jump if false, constant


def low(argument: int) -> int:
    """Offset of the lower half of an argument, where the kernel looks for an int."""
    return ARGUMENTS + 8 * argument


def program(pid: int, machine: str | None = None) -> Code:
    """The filter of a process with that pid."""
    machine = machine or platform.machine()
    free = syscalls.numbers(
        syscalls.FILES,
        syscalls.WAITING,
        syscalls.MEMORY,
        syscalls.ITSELF,
        syscalls.FACTS,
        syscalls.CHANNEL,
        machine=machine,
    )
    code: Code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
    ]
    for number in free.values():
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    for number, conditions in _conditional(pid, machine):
        code += [(EQUAL, 0, len(conditions), number), *conditions]
    code.append((RETURN, 0, 0, ERRNO | errno.EPERM))
    return code


def _conditional(pid: int, machine: str) -> Iterator[tuple[int, Code]]:
    """Calls that may be made with some arguments; each condition ends in a return."""
    number = syscalls.numbers(syscalls.CONDITIONAL, machine=machine)
    yield number["clone"], _masked(low(0), THREAD | kernel.CLONE_NEW, THREAD)
    yield (
        number["clone3"],
        [(RETURN, 0, 0, ERRNO | errno.ENOSYS)],
    )  # its flags are in memory
    for name in ("kill", "tgkill"):
        yield number[name], _one_of(low(0), [pid])
    # RLIMIT_DATA counts neither memory that could be shared with others nor what calls itself a stack.
    yield number["mmap"], _none_of(low(3), MAP_GROWSDOWN, MAP_SHARED | MAP_ANONYMOUS)
    yield number["prctl"], _one_of(low(0), F_PRCTL)
    yield number["ioctl"], _one_of(low(1), F_IOCTL)
    yield number["socketpair"], _one_of(low(0), [AF_UNIX])
    yield number["prlimit64"], _zero(low(2), low(2) + 4)


def _one_of(offset: int, values: Sequence[int]) -> Code:
    tests: Code = [(EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [(LOAD, 0, 0, offset), *tests, (RETURN, 0, 0, ERRNO | errno.EPERM), (RETURN, 0, 0, ALLOW)]


def _masked(offset: int, mask: int, value: int) -> Code:
    return [(LOAD, 0, 0, offset), (AND, 0, 0, mask), *_one_of(offset, [value])[1:]]


def _none_of(offset: int, *masks: int) -> Code:
    """Refused where all bits of a mask are set."""
    code: Code = []
    for mask in masks:
        code += [(LOAD, 0, 0, offset), (AND, 0, 0, mask), (EQUAL, 0, 1, mask)]
        code += [(RETURN, 0, 0, ERRNO | errno.EPERM)]
    return [*code, (RETURN, 0, 0, ALLOW)]


def _zero(*offsets: int) -> Code:
    code: Code = []
    for offset in offsets:
        code += [(LOAD, 0, 0, offset), (EQUAL, 1, 0, 0), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    return [*code, (RETURN, 0, 0, ALLOW)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def apply(code: Code) -> None:
    """Hold this process and its threads to the filter for good."""
    packed = b"".join(struct.pack("=HBBI", *step) for step in code)
    given = _Program(len(code), packed)
    address = ctypes.addressof(given)
    kernel.syscall(SECCOMP[platform.machine()], SET_MODE_FILTER, 0, address, what="seccomp")


def own_program() -> Code:
    """The filter of this process."""
    return program(os.getpid())
