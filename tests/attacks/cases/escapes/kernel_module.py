"""Tries what only the host should do: kernel module."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(175, b"", 0, b"") >= 0:
    print("GOT:kernel_module")
