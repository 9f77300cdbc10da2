"""Landlock: which files a process may open, whatever its user may."""

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from bughunt.judge.sandbox import kernel
from bughunt.judge.sandbox.readable import DEVICES, Readable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
REFER, TRUNCATE, IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
LEAST = 3  # before, a file that may only be read could still be emptied

Rule = tuple[Path, int]


def version() -> int:
    """What the kernel offers; 0 where it has no Landlock or has it switched off."""
    try:
        return kernel.syscall(CREATE_RULESET, None, 0, 1, what="landlock")
    except OSError:
        return 0


def rules(readable: Readable, writable: Iterable[Path]) -> Iterator[Rule]:
    """What may be done below which path."""
    for path in readable.paths:
        yield from _reading(path.resolve(), readable)
    for path in writable:
        yield path, WRITE
    for device in map(Path, DEVICES):
        yield device, READ_FILE | WRITE_FILE


def _reading(path: Path, readable: Readable) -> Iterator[Rule]:
    """One rule for a folder, or where a part of it is hidden one for each of the others."""
    if path in readable.hidden or path.is_symlink() or not path.exists():
        return
    if not readable.hides_below(path):
        yield path, READ
        return
    yield path, READ_DIR  # names alone, or nothing could be imported from it
    for entry in path.iterdir():
        yield from _reading(entry, readable)


def restrict(rules: Iterable[Rule], *, abi: int | None = None) -> None:
    """Hold this process to the rules for good; no TCP and no signal to others where the kernel can."""
    abi = min(abi or 99, version())
    if abi < LEAST:
        raise OSError(f"Landlock is at version {abi}, {LEAST} is needed")
    known = TRUNCATE * 2 - 1 | IOCTL_DEVICE * (abi >= 5)
    tcp, scopes = 3 * (abi >= 4), 3 * (abi >= 6)
    attributes = struct.pack("QQQ", known, tcp, scopes)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = kernel.syscall(CREATE_RULESET, attributes, len(attributes), 0, what="landlock")
    for path, allowed in rules:
        _allow(ruleset, path, allowed & known)
    kernel.syscall(RESTRICT_SELF, ruleset, 0, what="landlock")
    os.close(ruleset)


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not path.is_dir():
        allowed &= OF_A_FILE
    kernel.syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, beneath), 0, what=f"landlock {path}")
    os.close(beneath)
