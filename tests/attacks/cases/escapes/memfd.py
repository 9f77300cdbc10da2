"""Tries what only the host should do: memfd."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(319, b"x", 0) >= 0:
    print("GOT:memfd")
