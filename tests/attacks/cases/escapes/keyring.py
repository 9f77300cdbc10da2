"""Tries what only the host should do: keyring."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(248, b"user", b"x", b"y", 1, -3) >= 0:
    print("GOT:keyring")
